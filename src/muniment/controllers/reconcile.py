"""Targets are asked for everything that they hold, and that is compared with what they should, as often as configured.

A thread that asks the record which are due. Several nodes may: leases keep them apart. A target that does not answer
holds up no other for longer than its own time-out, and is asked again after a while.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import structlog

from muniment.controllers.loops import Loops
from muniment.core.errors import MunimentError
from muniment.core.instants import parse_instant
from muniment.ports import Claim
from muniment.service import inventories, removing
from muniment.service.desk import CONTROLLER, Desk
from muniment.service.reconciling import reconcile

#: seconds between looks at what is due
BEAT = 5.0
#: how soon a target that did not answer is asked again
AGAIN = timedelta(minutes=5)
LEASE_SECONDS = 3600

log = structlog.get_logger("muniment.controllers")


class Reconciling(Loops):
    """Reconciles targets on time."""

    def __init__(self, desk: Desk, every: timedelta, node: str) -> None:
        """Not yet looking; ``node`` names this process in leases."""
        self._desk, self._every, self._node = desk, every, node
        self._not_before: dict[str, datetime] = {}
        self._changed: dict[
            str, datetime
        ] = {}  # targets that are said to have changed, and when that was noticed
        self._look_now = threading.Event()
        super().__init__({"reconcile": self._run})

    def stop(self, timeout: float = 30.0) -> bool:
        """Begin no other target; return whether the one under way was done in time. Nothing is lost by it."""
        self._stopping.set()
        self._look_now.set()
        return super().stop(timeout)

    def due(self) -> list[str]:
        """Targets whose time it is."""
        now, known = self._desk.clock.now(), inventories.newest(self._desk)
        return [
            target
            for target in sorted(self._desk.targets)
            if self._not_before.get(target, now) <= now
            and self._desk.targets[target].ours
            and not self._desk.targets[target].gate.refuses
            and (target not in known or self._is_old(target, parse_instant(known[target].began_at), now))
        ]

    def wake(self, target: str, noticed: datetime) -> None:
        """Something changed there: it is due, unless it was asked since. Other nodes that noticed it find that out, too."""
        self._changed[target] = noticed
        self._look_now.set()

    def _is_old(self, target: str, began: datetime, now: datetime) -> bool:
        return began + self._every <= now or began <= self._changed.get(target, began - self._every)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                for target in self.due():
                    if self._stopping.is_set():
                        return
                    self.look(target)
            except MunimentError as error:
                log.error("targets cannot be reconciled", error=error.message, code=error.code)  # noqa: TRY400  ours: the sentence says it all
            except Exception:
                log.exception("reconciling failed unexpectedly")
            self._look_now.wait(BEAT)
            self._look_now.clear()

    def look(self, target: str) -> None:
        """Reconcile one target, unless another node is at it."""
        key = f"reconcile {target}"
        claim = Claim(key=key, holder=self._node, seconds=LEASE_SECONDS)
        lease = self._desk.store.claim([claim]).get(key)
        if lease is None:
            return
        try:
            if target in self.due():  # another node may have been at it a moment ago
                self._take(target)
        finally:
            self._desk.store.release([lease])

    def _take(self, target: str) -> None:
        try:
            for name, error in removing.again(self._desk, self._desk.targets[target]).items():
                log.warning("not taken away yet", finding=name, error=error.message, code=error.code)
            run = reconcile(self._desk, CONTROLLER, self._desk.targets[target])
        except Exception as error:
            self._not_before[target] = self._desk.clock.now() + min(AGAIN, self._every)
            if not isinstance(error, MunimentError):
                raise
            log.warning("a target is not reconciled", target=target, error=error.message, code=error.code)
            return
        made = run.made
        say = log.warning if run.raised else log.info
        say(
            "reconciled", target=target, complete=made.complete, unexplained=made.unexplained, raised=made.raised,
            resolved=made.resolved, open=made.open,
        )  # fmt: skip
