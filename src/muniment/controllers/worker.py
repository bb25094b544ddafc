"""A worker: a thread that takes everything that is ready, in one batch, and runs a pass over it.

While a pass runs, what becomes ready gathers for the next one. One target has its own workers, so that a slow or
hostile target delays no other (I20), and giving does not delay taking back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import structlog

from muniment.core.errors import IntegrityError, MunimentError
from muniment.service.fulfilment import Progress

#: tickets in one pass: bounded, so that a pass ends well within its leases
BATCH = 200

log = structlog.get_logger("muniment.controllers")


class Worker:
    """Runs ``run`` over batches of ticket ids; tells ``again`` which to bring back later.

    A pass that returns None goes on elsewhere: whoever ends it calls `end`.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[str]], Progress | None],
        again: Callable[[str, MunimentError], None],
        done: Callable[[str], None],
        *,
        threads: int = 1,
    ) -> None:
        """``again`` and ``done`` are called for every ticket of a pass: one or the other."""
        self.name, self._run, self._again, self._done = name, run, again, done
        self._ready: dict[str, None] = {}  # ordered set
        self._busy = 0
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

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not self._ready and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return
                batch = list(self._ready)[:BATCH]
                for ticket in batch:
                    del self._ready[ticket]
                self._busy += 1
            try:
                self._pass(batch)
            finally:
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
