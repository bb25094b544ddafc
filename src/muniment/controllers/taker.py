"""Taking access away on one target, at the instant it ends.

Three kinds of threads, so that nothing that can be done before or after stands in the way of what is due now:

- one prepares: shortly before a grant ends, it leases the account and sees what must stay;
- several ask the target to take away what is due; they get ready there in turn, so that what comes due while one does
  goes out with the next;
- one reads back and records. While there is something to take away it holds back a little, and records more at once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog

from muniment.controllers.worker import Worker
from muniment.core.errors import MunimentError
from muniment.limits import Gate
from muniment.ports import Warming
from muniment.service.desk import Desk
from muniment.service.fulfilment import Progress
from muniment.service.taking import Ended, Ready, end_access, prepare_end, record_end

#: how long before its end a ticket is prepared
PREPARE_SECONDS = 3.0
#: how long before its end a ticket goes on its way to the target, which changes nothing before all that go together
#: are over
AHEAD_SECONDS = 0.004
#: passes at once, if the target's limits allow as many: one gets ready on the target, others wait for their ends or see sessions end
PASSES = 8
#: how long recording waits, at most, while there is more to take away
HOLD_BACK_SECONDS = 1.0

log = structlog.get_logger("muniment.controllers")


class Taker(Worker):
    """The worker that takes access away on one target."""

    def __init__(
        self,
        desk: Desk,
        target: str,
        holder: Callable[[], str],
        again: Callable[[str, MunimentError], None],
        done: Callable[[str], None],
        *,
        gate: Gate,
    ) -> None:
        """``holder`` names each pass; ``gate`` is the target's."""
        self._desk, self._target, self._holder = desk, target, holder
        self._asked: queue.SimpleQueue[tuple[list[str], Ended] | None] = queue.SimpleQueue()
        self._ready_made: dict[str, Ready] = {}
        self._recorder = threading.Thread(target=self._record, name=f"muniment-record {target}", daemon=True)
        self._recorder.start()
        self._preparer = Worker(
            f"prepare {target}", self._prepare, lambda _ticket, _error: None, lambda _ticket: None
        )
        self._passes = min(PASSES, gate.passes)
        super().__init__(
            f"take {target}", self._ask, again, done, threads=self._passes, batch=gate.batch,
            pause=partial(gate.pause, urgent=True) if gate.limits.per_second else None,
        )  # fmt: skip

    def prepare(self, ticket: str) -> None:
        """Get ready for a ticket that ends within `PREPARE_SECONDS`."""
        self._preparer.put(ticket)

    def stop(self, timeout: float) -> bool:
        """Let the current passes end, and what they asked for be recorded; give back what was taken ahead."""
        ended = self._preparer.stop(timeout)
        ended = super().stop(timeout) and ended
        self._asked.put(None)
        self._recorder.join(timeout)
        with suppress(MunimentError):
            self._desk.store.release([ready.lease for ready in self._ready_made.values()])
        return ended and not self._recorder.is_alive()

    def _prepare(self, batch: list[str]) -> Progress:
        connector = self._desk.target(self._target).connector
        if isinstance(connector, Warming):
            with suppress(MunimentError):  # then the passes find out
                connector.warm(self._passes)
        when = self._desk.clock.now() + timedelta(seconds=PREPARE_SECONDS)
        self._ready_made |= prepare_end(self._desk, self._target, batch, self._holder(), when)
        return Progress(moved=[], again={})

    def _ask(self, batch: list[str]) -> None:
        ready = {ticket: self._ready_made.pop(ticket) for ticket in batch if ticket in self._ready_made}
        try:
            ended = end_access(
                self._desk, self._target, batch, self._holder(), ready,
                ahead=timedelta(seconds=AHEAD_SECONDS), asked=self.pass_on,
            )  # fmt: skip
        except (
            MunimentError
        ):  # the tickets could not even be read: their leases are ours still, for the next attempt
            self._ready_made |= ready
            raise
        self._asked.put((batch, ended))

    def _record(self) -> None:
        while True:
            waiting = [self._asked.get()]
            self._hold_back()
            while not self._asked.empty():
                waiting.append(self._asked.get())
            passes = [each for each in waiting if each is not None]
            if passes:
                self._record_all(passes)
            if None in waiting:
                return

    def _hold_back(self) -> None:
        until = time.monotonic() + HOLD_BACK_SECONDS
        while not self.idle and not self._stopping and time.monotonic() < until:
            time.sleep(0.01)

    def _record_all(self, passes: list[tuple[list[str], Ended]]) -> None:
        batch = [ticket for tickets, _ in passes for ticket in tickets]
        try:
            again = record_end(self._desk, [ended for _, ended in passes]).again
        except MunimentError as error:
            again = dict.fromkeys(batch, error)
        except Exception as error:
            log.exception("a pass could not be recorded", worker=self.name)
            again = dict.fromkeys(
                batch, MunimentError(f"unexpected: {type(error).__name__}", code="internal")
            )
        self.end(batch, again)
