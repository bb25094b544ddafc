"""Changes of the directory, taken up by every process that decides; and the end of what rests on people who are gone.

Every process that decides also hears every witness once (I26), those that did not answer at the start as well.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from muniment.controllers.loops import Loops
from muniment.core.errors import MunimentError
from muniment.service.attending import note_missing
from muniment.service.desk import CONTROLLER, Desk
from muniment.service.offboarding import offboard
from muniment.service.registry import record_registry
from muniment.service.witnessing import consult

#: how soon a change of the directory counts
DIRECTORY_SECONDS = 2.0
#: how often open tickets are compared with the directory though nothing changed here
LEAVERS_EVERY = timedelta(seconds=20)
#: how often requests are looked through for those that nobody can decide, though nothing changed here
MISSING_EVERY = timedelta(minutes=5)

log = structlog.get_logger("muniment.controllers")


class People(Loops):
    """Takes up changes of the directory, puts them on record, and ends what rests on people who are gone (I22)."""

    def __init__(self, desk: Desk) -> None:
        """Not yet looking; `start` begins."""
        self._desk = desk
        super().__init__({"people": self._run})

    def _run(self) -> None:
        look_at = missing_at = self._desk.clock.now()
        while not self._stopping.wait(DIRECTORY_SECONDS):
            changed = False
            try:
                consult(self._desk)
            except MunimentError as error:
                log.critical(
                    "this store is not the one that witnesses saw", error=error.message, code=error.code
                )
            try:
                changed = self._desk.directory.reload_if_changed()
                if changed:
                    log.info("the directory changed", facts=record_registry(self._desk, CONTROLLER))
            except MunimentError as error:
                log.error("the directory cannot be read", error=error.message, code=error.code)  # noqa: TRY400  ours: the sentence says it all
            try:
                now = self._desk.clock.now()
                if changed or now >= look_at:
                    look_at = now + LEAVERS_EVERY
                    for ticket in offboard(self._desk):
                        log.warning("ended for somebody who is gone", ticket=ticket.id, status=ticket.status)
                if changed or now >= missing_at:
                    missing_at = now + MISSING_EVERY
                    for ticket in note_missing(self._desk):
                        log.warning(
                            "who can decide has changed", ticket=ticket.id, missing=ticket.missing or ()
                        )
            except MunimentError as error:
                log.error("leavers cannot be looked for", error=error.message, code=error.code)  # noqa: TRY400  as above
