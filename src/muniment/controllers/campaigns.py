"""What campaigns do by themselves: reminders, items without an answer, removal, and their end.

A thread that asks the record which are due. Several nodes may: leases keep them apart. While something is left that only
people can take away, its target is asked again now and then, and not all the time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from muniment.controllers.loops import Loops
from muniment.core.errors import MunimentError
from muniment.service.concluding import advance
from muniment.service.desk import Desk
from muniment.store.campaigns import SqlCampaigns

#: seconds between looks at what is due
BEAT = 5.0
#: pauses between passes over a campaign in which something is left double up to this
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=30)

log = structlog.get_logger("muniment.controllers")


class CampaignLoop(Loops):
    """Moves campaigns on, on time."""

    def __init__(self, desk: Desk, node: str) -> None:
        """Not yet looking; ``node`` names this process in leases."""
        self._desk, self._node = desk, node
        self._after: dict[
            str, tuple[datetime, timedelta]
        ] = {}  # when one is looked at again, and the pause before
        super().__init__({"campaigns": self._run})

    def due(self) -> list[str]:
        """Campaigns whose time it is."""
        now = self._desk.clock.now()
        due = SqlCampaigns(self._desk.store.engine).due(now)
        self._after = {name: after for name, after in self._after.items() if name in due}
        return [name for name in due if name not in self._after or self._after[name][0] <= now]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                for name in self.due():
                    if self._stopping.is_set():
                        return
                    self.look(name)
            except MunimentError as error:
                log.error("campaigns cannot be looked at", error=error.message, code=error.code)  # noqa: TRY400  ours: the sentence says it all
            except Exception:
                log.exception("looking at campaigns failed unexpectedly")
            self._stopping.wait(BEAT)

    def look(self, name: str) -> None:
        """One pass over one campaign, unless another node is at it."""
        _, pause = self._after.get(name, (None, FIRST_PAUSE / 2))
        pause = min(LONGEST_PAUSE, pause * 2)
        self._after[name] = (self._desk.clock.now() + pause, pause)
        made = advance(self._desk, name, self._node)
        if made is None:
            return
        for what, error in made.trouble.items():
            log.warning("not taken away yet", campaign=name, what=what, error=error.message, code=error.code)
        log.info(
            "a campaign was looked at", campaign=name, status=made.campaign.status,
            unsettled=len(made.campaign.unsettled()),
        )  # fmt: skip
