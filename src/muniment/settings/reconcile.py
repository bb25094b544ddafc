"""``[reconcile]``: how often targets are asked for everything that they hold, and what they may hold without a ticket."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from muniment.core.drift import SLA
from muniment.core.errors import Invalid, Misconfigured
from muniment.core.events import Severity
from muniment.core.instants import parse_duration
from muniment.settings.section import Section


class ReconcileSettings(Section, frozen=True, kw_only=True):
    """``[reconcile]``."""

    every: str | None = None
    watch: str = "15s"
    baseline: str | None = None
    sla: dict[Literal["critical", "high", "medium", "low"], str] = {}  # noqa: RUF012  msgspec copies it

    @property
    def pause(self) -> timedelta | None:
        """Between two inventories of a target; None: only people ask."""
        return None if self.every is None else parse_duration(self.every)

    @property
    def watched(self) -> timedelta:
        """Between two questions to a target that says what changed."""
        return parse_duration(self.watch)

    @property
    def within(self) -> dict[Severity, timedelta]:
        """How soon somebody must have seen to a finding."""
        return {**SLA, **{severity: parse_duration(time) for severity, time in self.sla.items()}}


def check_reconcile(settings: ReconcileSettings | None) -> None:
    """Raise `Misconfigured` for what cannot be meant."""
    if settings is None:
        return
    try:
        pause = settings.pause
    except Invalid as error:
        raise Misconfigured(f"[reconcile] every: {error.message}", remedy=error.remedy) from error
    try:
        watched = settings.watched
    except Invalid as error:
        raise Misconfigured(f"[reconcile] watch: {error.message}", remedy=error.remedy) from error
    if watched < timedelta(seconds=1):
        raise Misconfigured("[reconcile] watch is shorter than a second", remedy="15s is often.")
    try:
        settings.within  # noqa: B018  it is parsed
    except Invalid as error:
        raise Misconfigured(f"[reconcile.sla]: {error.message}", remedy=error.remedy) from error
    if pause is not None and pause < timedelta(minutes=1):
        raise Misconfigured(
            "[reconcile] every is shorter than a minute",
            remedy="Targets are asked for everything; 1h is often.",
        )
