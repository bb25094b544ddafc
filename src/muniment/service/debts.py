"""Revocation debt: access that is over and that nobody has seen gone yet, and when it is paid at the pace it goes."""

from __future__ import annotations

import math
import time
from datetime import datetime

import msgspec

from muniment.service.desk import Desk

#: how long `debts` looks at the pace
LOOK_SECONDS = 2.0


class Debt(msgspec.Struct, frozen=True, kw_only=True):
    """What one target still holds though it is over."""

    tickets: int
    oldest_seconds: float  # how long the oldest of them is over
    paid_in_seconds: float  # at the pace of the last look; infinite if it does not get less


def debts(desk: Desk) -> dict[str, Debt]:
    """By target; those without debt are left out. Where there is any, it looks twice."""
    began, before = _look(desk)
    if not before:
        return {}
    time.sleep(LOOK_SECONDS)
    ended, after = _look(desk)
    seconds = (ended - began).total_seconds()
    return {
        target: Debt(
            tickets=count, oldest_seconds=oldest,
            paid_in_seconds=forecast(before.get(target, (0, 0.0))[0], count, seconds),
        )
        for target, (count, oldest) in after.items()
    }  # fmt: skip


def forecast(before: int, now: int, seconds: float) -> float:
    """Seconds until a debt is paid that went from ``before`` to ``now`` in so many seconds: what newly comes due counts."""
    if not now:
        return 0.0
    paid = before - now
    return now * seconds / paid if paid > 0 and seconds > 0 else math.inf


def _look(desk: Desk) -> tuple[datetime, dict[str, tuple[int, float]]]:
    now = desk.clock.now()
    return now, desk.views.figures(now).debts
