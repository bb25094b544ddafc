"""``[reconcile]``: how often targets are asked for everything that they hold."""

from __future__ import annotations

from datetime import timedelta

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.instants import parse_duration
from muniment.settings.section import Section


class ReconcileSettings(Section, frozen=True, kw_only=True):
    """``[reconcile]``."""

    every: str = "1h"

    @property
    def pause(self) -> timedelta:
        """Between two inventories of a target."""
        return parse_duration(self.every)


def check_reconcile(settings: ReconcileSettings | None) -> None:
    """Raise `Misconfigured` for what cannot be meant."""
    if settings is None:
        return
    try:
        pause = settings.pause
    except Invalid as error:
        raise Misconfigured(f"[reconcile] every: {error.message}", remedy=error.remedy) from error
    if pause < timedelta(minutes=1):
        raise Misconfigured(
            "[reconcile] every is shorter than a minute",
            remedy="Targets are asked for everything; 1h is often.",
        )
