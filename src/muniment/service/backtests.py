"""Backtests that run beside whoever wants them: one at a time in a process, in processes of their own, and looked at meanwhile.

They record nothing, and what came of the last few is kept until the process ends.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

import msgspec
import structlog

from muniment.core.errors import Busy, MunimentError, NotFound
from muniment.core.identity import IdentityId
from muniment.policy.cedar import CedarPolicy
from muniment.service import auditing, backtesting
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.service.ids import new_id

#: that are remembered
KEPT = 10
#: that one uses, beside the process that serves
PROCESSES = 2

log = structlog.get_logger("muniment.backtests")


class Backtest(msgspec.Struct, kw_only=True):
    """One of them, as far as it came."""

    id: str
    what: str  # which policies
    by: IdentityId
    since: datetime
    began_at: datetime
    done: int = 0
    total: int = 0
    result: Document | None = None
    trouble: str | None = None  # why there is none

    @property
    def running(self) -> bool:
        """Whether it is not over."""
        return self.result is None and self.trouble is None


class _Over(Exception):
    """The process ends."""


class Backtests:
    """Those of this process. Safe for several threads."""

    def __init__(self, desk: Desk) -> None:
        """None yet."""
        self._desk = desk
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Backtest] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, caller: Caller, files: Mapping[str, str], what: str, since: datetime) -> Backtest:
        """Begin one.

        Raises:
            Refused: the caller may not read everybody's tickets.
            Misconfigured: the policies cannot be used.
            Busy: another one runs.
        """
        auditing.require_auditor(caller)
        CedarPolicy(files)  # refuses what cannot be used before anything starts
        now = self._desk.clock.now()
        run = Backtest(
            id=new_id("bkt", now, self._desk.random.bytes(10)), what=what, by=caller.identity.id, since=since, began_at=now
        )  # fmt: skip
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise Busy("another backtest runs", remedy="Wait until it is done.")
            self._known[run.id] = run
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            self._thread = threading.Thread(
                target=self._run, args=(run, caller, dict(files)), name="muniment-backtest", daemon=True
            )
            self._thread.start()
        return run

    def all(self, caller: Caller) -> list[Backtest]:
        """Newest first."""
        auditing.require_auditor(caller)
        return list(self._known.values())[::-1]

    def get(self, caller: Caller, name: str) -> Backtest:
        """One of them. Raises `NotFound`."""
        auditing.require_auditor(caller)
        found = self._known.get(name)
        if found is None:
            raise NotFound(
                "there is no such backtest here",
                remedy="They are kept until the server ends: start it again.",
            )
        return found

    def stop(self) -> None:
        """End what runs."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self, run: Backtest, caller: Caller, files: Mapping[str, str]) -> None:
        def progress(done: int, total: int) -> None:
            run.done, run.total = done, total
            if self._stop.is_set():
                raise _Over

        try:
            run.result = backtesting.backtest(
                self._desk, caller, files, since=run.since, processes=PROCESSES, progress=progress
            )
        except _Over:
            run.trouble = "the server ended"
        except MunimentError as error:
            run.trouble = error.message
        except Exception as error:
            log.exception("a backtest failed unexpectedly", exc_info=error)
            run.trouble = "something went wrong that should not; the server's log says what"
