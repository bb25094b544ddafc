"""Logs of targets are read as they are written, as often as configured.

A thread. Several nodes may read: a lease keeps them apart, and each line counts once. A log that cannot be read holds up no
other, and is said once until it can be.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from muniment.controllers.loops import Loops
from muniment.core.errors import Conflict, MunimentError
from muniment.service import usage
from muniment.service.desk import Desk
from muniment.service.ingesting import settings_for

#: seconds between looks at what is due
BEAT = 1.0
#: how soon a log that could not be read is tried again, at the latest
AGAIN = timedelta(minutes=5)

log = structlog.get_logger("muniment.controllers")


class Using(Loops):
    """Reads logs on time."""

    def __init__(self, desk: Desk) -> None:
        """Not yet reading."""
        self._desk = desk
        self._due: dict[str, datetime] = {}
        self._said: dict[str, str] = {}
        super().__init__({"usage": self._run})

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except MunimentError as error:
                log.error("logs cannot be read", error=error.message, code=error.code)  # noqa: TRY400  ours: the sentence says it all
            except Exception:
                log.exception("reading logs failed unexpectedly")
            self._stopping.wait(BEAT)

    def look(self) -> None:
        """Read the logs of every target whose time it is."""
        for name, target in self._desk.targets.items():
            now = self._desk.clock.now()
            if not target.usage or self._due.get(name, now) > now or self._stopping.is_set():
                continue
            self._due[name] = now + AGAIN
            settings = settings_for(target)
            if not settings.logs:
                continue
            self._due[name] = now + settings.pause
            try:
                made, found = usage.look(self._desk, target)
            except Conflict:  # another node reads it
                continue
            except MunimentError as error:
                if self._said.get(name) != error.message:
                    log.warning("a log is not read", target=name, error=error.message, code=error.code)
                self._said[name] = error.message
                continue
            self._said.pop(name, None)
            if made or found.verdicts:
                say = log.warning if found.raised else log.info
                say(
                    "use read", target=name, lines=sum(each.lines for each in made), raised=len(found.raised),
                    unparsable=sum(each.unparsable for each in made), verdicts=found.verdicts,
                )  # fmt: skip
