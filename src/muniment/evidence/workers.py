"""Tasks of a verification, done by this process and by others, and what each found.

Whoever is free takes the next task, this process too: while another starts, which takes a third of a second, work goes
on. A process sends what it found of a task, and how far it is; nothing else passes between them, since each reads the
log for itself.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from muniment.core.errors import Unavailable
from muniment.evidence.progress import Progress


class Task(NamedTuple):
    """A part of a verification, to be done by any process."""

    name: str  # of the part, in the file of `Progress`
    look: Callable[..., Any]
    arguments: tuple[Any, ...]
    finds: type
    entries: int  # how many it reads, for the progress


class Workers:
    """Runs tasks, and gives back what they found, in order."""

    def __init__(self, processes: int, progress: Progress) -> None:
        """``processes``: how many to use, this one included."""
        self.processes, self._progress = max(1, processes), progress

    def run(self, tasks: Sequence[Task]) -> Generator[Any, None, None]:
        """What each finds. What was found before is not looked for again.

        Whoever stops asking ends the other processes by closing the iterator.

        Raises:
            Unavailable: one of the other processes was killed.
        """
        known = {task.name: self._progress.known(task.name, task.finds) for task in tasks}
        left = [task for task in tasks if known[task.name] is None]
        self._progress.advance(sum(task.entries for task in tasks if known[task.name] is not None))
        others = _Others(min(self.processes, len(left)) - 1, left, self._progress.advance)

        def keep(found: list[tuple[int, Any]]) -> None:
            for place, each in found:
                known[left[place].name] = self._progress.keep(left[place].name, each)

        try:
            for task in tasks:
                while known[task.name] is None:
                    place = others.next()
                    if place is None:
                        keep(others.found(wait_for_it=True))
                    else:
                        keep([(place, _look(left[place], others.advance)), *others.found()])
                yield known.pop(task.name)
        finally:
            others.end()


class _Others:
    """The other processes, and the list of tasks that is shared with them."""

    def __init__(self, count: int, tasks: list[Task], told: Callable[[int], None]) -> None:
        self._told, self._count = told, len(tasks)
        self._mine = 0  # tasks taken, while nobody else takes any
        self._taken: Any = None
        self._open: dict[Connection, BaseProcess] = {}
        self._found: list[tuple[int, Any]] = []
        if count < 1:
            return
        spawn = multiprocessing.get_context("spawn")  # not fork: a store may be open here, and threads run
        self._taken = spawn.Value("Q", 0)
        for _ in range(count):
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_work, args=(tasks, self._taken, theirs), daemon=True)
            process.start()
            theirs.close()
            self._open[ours] = process

    def next(self) -> int | None:
        """Take a task; None if all are taken."""
        if self._taken is not None:
            return _take(self._taken, self._count)
        self._mine += 1
        return self._mine - 1 if self._mine <= self._count else None

    def advance(self, count: int) -> None:
        """This process read so many entries; a moment to hear how far the others are."""
        self._told(count)
        self._hear(0)

    def found(self, *, wait_for_it: bool = False) -> list[tuple[int, Any]]:
        """What the others found since the last time."""
        self._hear(None if wait_for_it and not self._found else 0)
        found, self._found = self._found, []
        return found

    def end(self) -> None:
        """End those that still run."""
        for pipe, process in self._open.items():
            process.terminate()
            process.join()
            pipe.close()
        self._open.clear()

    def _hear(self, timeout: float | None) -> None:
        for ready in wait(list(self._open), timeout) if self._open else ():
            assert isinstance(ready, Connection)  # noqa: S101  for the type checker
            try:
                said = ready.recv()
            except EOFError:
                self._gone(ready)
                continue
            if isinstance(said, int):
                self._told(said)
            else:
                self._found.append(said)

    def _gone(self, pipe: Connection) -> None:
        process = self._open.pop(pipe)
        pipe.close()
        process.join()
        if process.exitcode != 0:
            raise Unavailable(
                "a process of the verification was killed, or ran out of memory",
                remedy="Use fewer --processes. With --resume FILE it goes on where it was.",
                code="verification.interrupted",
            )


def _work(tasks: list[Task], taken: Any, pipe: Connection) -> None:
    """In another process: do what is left, and end silently where somebody interrupts all."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(BrokenPipeError):  # nobody listens any more
        while (place := _take(taken, len(tasks))) is not None:
            pipe.send((place, _look(tasks[place], pipe.send)))


def _take(taken: Any, count: int) -> int | None:
    with taken.get_lock():
        place = int(taken.value)
        if place >= count:
            return None
        taken.value = place + 1
    return place


def _look(task: Task, told: Callable[[int], None]) -> Any:
    global _told  # noqa: PLW0603  one a process: tasks are plain functions
    _told = told
    try:
        return task.look(*task.arguments)
    finally:
        _told = None


_told: Callable[[int], None] | None = None


def advance(count: int) -> None:
    """In whichever process a task is done: so many entries more were read."""
    if _told is not None:
        _told(count)
