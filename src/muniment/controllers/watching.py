"""Targets that keep a record of changes are asked often whether anything changed; if so, they are reconciled soon.

Asking costs one small question. What is done about it is what `reconcile` does anyway, at most once a minute for each
target, since some records do not tell what Muniment changed itself. Cookies are kept in memory: after a start it is not known
what changed meanwhile, and the target is asked for everything.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from muniment.controllers.loops import Loops
from muniment.controllers.reconcile import Reconciling
from muniment.core.errors import MunimentError
from muniment.ports import Watching
from muniment.service.desk import Desk

#: between two inventories of a target that changes all the time
LEAST = timedelta(minutes=1)

log = structlog.get_logger("muniment.controllers")


class Watcher(Loops):
    """Asks each target that can tell what changed, and has `Reconciling` look at those where something did."""

    def __init__(self, desk: Desk, every: timedelta, reconciling: Reconciling) -> None:
        """Not yet asking; ``every`` lies between two questions to a target."""
        self._desk, self._every, self._reconciling = desk, every, reconciling
        self._cookies: dict[str, str] = {}
        self._silent: set[str] = set()  # targets that did not answer, which is said once
        self._changed: dict[str, datetime] = {}  # and when that was noticed
        self._last: dict[str, datetime] = {}  # when a target was last handed on
        super().__init__({"watch": self._run})

    def step(self) -> None:
        """Ask each of them once."""
        for name in sorted(self._desk.targets):
            connector = self._desk.targets[name].connector
            if self._stopping.is_set():
                return
            if connector.capabilities.change_feed and isinstance(connector, Watching):
                self._ask(name, connector)
        now = self._desk.clock.now()
        for name, noticed in list(self._changed.items()):
            if now - self._last.get(name, datetime.min.replace(tzinfo=now.tzinfo)) >= LEAST:
                del self._changed[name]
                self._last[name] = now
                self._reconciling.wake(name, noticed)

    def _ask(self, name: str, connector: Watching) -> None:
        try:
            found = connector.changes(self._cookies.get(name))
        except MunimentError as error:
            if name not in self._silent:
                log.warning(
                    "a target does not say what changed", target=name, error=error.message, code=error.code
                )
            self._silent.add(name)
            return
        self._silent.discard(name)
        self._cookies[name] = found.cookie
        if found.changed:
            self._changed[name] = self._desk.clock.now()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:
                log.exception("watching targets failed unexpectedly")
            self._stopping.wait(self._every.total_seconds())
