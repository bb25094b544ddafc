"""Tasks of a verification, done in this process or in several, and what each found."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, Self

from muniment.core.errors import Unavailable
from muniment.evidence.progress import Progress

_BEAT = 0.2  # seconds between looks at how far the processes are


class Task(NamedTuple):
    """A part of a verification, to be done by any process."""

    name: str  # of the part, in the file of `Progress`
    look: Callable[..., Any]
    arguments: tuple[Any, ...]
    finds: type
    entries: int  # how many it reads, for the progress


class Workers:
    """Runs tasks in this process or in others, and gives back what they found, in order."""

    def __init__(self, processes: int, progress: Progress) -> None:
        self.processes, self._progress = max(1, processes), progress
        self._pool: ProcessPoolExecutor | None = None
        self._before = 0  # entries that need not be read: what was found of them is known

    def __enter__(self) -> Self:
        global _counter  # noqa: PLW0603  one a process: the pool hands it to each
        if self.processes > 1:
            context = multiprocessing.get_context("spawn")
            self._counter = context.Value("Q", 0)
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=context, initializer=_share, initargs=(self._counter,)
            )
        else:
            _counter = self._progress.advance
        return self

    def __exit__(self, *_: object) -> None:
        global _counter  # noqa: PLW0603
        _counter = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, tasks: Sequence[Task]) -> Iterator[Any]:
        """What each finds. What was found before is not looked for again."""
        if self._pool is None:
            for task in tasks:
                found: Any = self._progress.known(task.name, task.finds)
                if found is None:
                    found = self._progress.keep(task.name, task.look(*task.arguments))
                else:
                    self._progress.advance(task.entries)
                yield found
            return
        known: dict[str, Any] = {task.name: self._progress.known(task.name, task.finds) for task in tasks}
        self._before += sum(task.entries for task in tasks if known[task.name] is not None)
        names: dict[Future[Any], str] = {
            self._pool.submit(task.look, *task.arguments): task.name
            for task in tasks
            if known[task.name] is None
        }
        open_ = set(names)
        for task in tasks:
            while known[task.name] is None:
                done, open_ = wait(open_, timeout=_BEAT, return_when=FIRST_COMPLETED)
                self._progress.at(self._before + self._counter.value)
                for future in done:
                    known[names[future]] = self._progress.keep(names[future], _result(future))
            yield known.pop(task.name)


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise Unavailable(
            "a process of the verification was killed, or ran out of memory",
            remedy="Use fewer --processes. With --resume FILE it goes on where it was.",
            code="verification.interrupted",
        ) from error


_counter: Callable[[int], None] | None = None


def _share(counter: Any) -> None:
    """In a process of the pool: count together with the others, and end silently where somebody interrupts all."""
    global _counter  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def add(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    _counter = add


def advance(count: int) -> None:
    """In whichever process a task is done: so many entries more were read."""
    if _counter is not None:
        _counter(count)
