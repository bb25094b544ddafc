"""A worker: a thread that takes everything that is ready, in one batch, and runs a pass over it.

While a pass runs, what becomes ready gathers for the next one. One target has its own workers, so that a slow or
hostile target delays no other (I20), and giving does not delay taking back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from muniment.core.errors import IntegrityError, MunimentError
from muniment.service.fulfilment import Progress

#: tickets in one pass: bounded, so that a pass ends well within its leases
BATCH = 200
#: how long passes wait for one that is on its way to a target; then they go beside it
TURN_SECONDS = 0.05

log = structlog.get_logger("muniment.controllers")


class Worker:
    """Runs ``run`` over batches of ticket ids; tells ``again`` which to bring back later.

    A pass that returns None goes on elsewhere: whoever ends it calls `end`. Of several threads one is on its way at a
    time, until it calls `pass_on`: what becomes ready meanwhile goes in one batch.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[str]], Progress | None],
        again: Callable[[str, MunimentError], None],
        done: Callable[[str], None],
        *,
        threads: int = 1,
        batch: int = BATCH,
        pause: Callable[[], float] | None = None,
    ) -> None:
        """``again`` and ``done`` are called for every ticket of a pass: one or the other.

        A pass has ``batch`` tickets at most, and begins once ``pause`` (seconds) is 0.
        """
        self._batch, self._pause = batch, pause
        self.name, self._run, self._again, self._done = name, run, again, done
        self._ready: dict[str, None] = {}  # ordered set
        self._busy = 0
        self._turn: tuple[int, float] | None = None  # whose pass is on its way, and since when
        self._wake = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"muniment-{name}-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, ticket: str) -> None:
        """Hand over a ticket. One that is in the current pass is taken again after it."""
        with self._wake:
            self._ready[ticket] = None
            self._wake.notify()

    def stop(self, timeout: float) -> bool:
        """Let the current pass end; return whether it did in time."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def idle(self) -> bool:
        """Whether nothing is ready or under way."""
        with self._wake:
            return not self._ready and not self._busy

    @property
    def _free(self) -> bool:
        return self._turn is None or time.monotonic() - self._turn[1] > TURN_SECONDS

    def pass_on(self) -> None:
        """Let the next batch go: what is left of this thread's pass is waiting for somebody else."""
        with self._wake:
            if self._turn and self._turn[0] == threading.get_ident():
                self._turn = None
                self._wake.notify()

    def _wait(self) -> float | None:
        """Seconds until the next pass; 0: now; None: until there is something to do."""
        if not self._ready:
            return None
        if not self._free:
            return TURN_SECONDS
        return self._pause() if self._pause else 0

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not self._stopping and (wait := self._wait()) != 0:
                    self._wake.wait(wait)
                if self._stopping:
                    return
                self._turn = (threading.get_ident(), time.monotonic())
                batch = list(self._ready)[: self._batch]
                for ticket in batch:
                    del self._ready[ticket]
                self._busy += 1
            try:
                self._pass(batch)
            finally:
                self.pass_on()
                with self._wake:
                    self._busy -= 1

    def _pass(self, batch: list[str]) -> None:
        try:
            progress = self._run(batch)
            if progress is None:
                return
            again = progress.again
        except IntegrityError as error:
            if len(batch) > 1:  # find the one that cannot be trusted, and serve the others
                for ticket in batch:
                    self._pass([ticket])
                return
            log.critical("entry cannot be trusted", ticket=batch[0], error=error.message, code=error.code)
            again = {batch[0]: error}
        except MunimentError as error:
            again = dict.fromkeys(batch, error)
        except Exception as error:
            log.exception("a pass failed", worker=self.name)
            unknown = MunimentError(f"unexpected: {type(error).__name__}", code="internal")
            again = dict.fromkeys(batch, unknown)
        self.end(batch, again)

    def end(self, batch: Iterable[str], again: Mapping[str, MunimentError]) -> None:
        """Say how a pass ended for each of its tickets."""
        for ticket in batch:
            if ticket in again:
                self._again(ticket, again[ticket])
            else:
                self._done(ticket)
