"""How it goes over time: how long deciding and taking away took, what stands without a ticket, how often glass was broken.

Months, by when tickets were filed. What is over does not change often, and what changes is looked at once a minute: many
tickets are one walk through one index.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median_low, quantiles
from typing import TYPE_CHECKING

import msgspec

from muniment.core.events import ReconciliationMade, decode_data
from muniment.service.ids import new_id
from muniment.store.searching import Sought, search

if TYPE_CHECKING:
    from muniment.service.desk import Desk

#: months that are shown
MONTHS = 12
#: seconds for which an answer is kept
KEPT = 60.0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Of durations, in seconds."""

    count: int
    median: int
    slow: int  # 95 of 100 took no longer


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    begins: datetime
    tickets: int
    glass: int  # of those, how many broke the glass
    decided: Spread | None  # from the asking to the answer; None: nothing was answered
    gone: Spread | None  # from when access was to end until it was seen gone
    temporary: (
        int | None
    )  # entitlements that a ticket explains, by the last look at each target; None: nobody looked
    standing: int | None  # and that none does


class Trends:
    """The last months. Safe for several threads."""

    def __init__(self, desk: Desk) -> None:
        """Nothing is read before it is asked for."""
        self._desk = desk
        self._lock = threading.Lock()
        self._known: tuple[float, list[Month]] | None = None
        self._looks: dict[tuple[str, datetime], tuple[int, int] | None] = {}  # of months that are over

    def months(self) -> list[Month]:
        """Oldest first, as of now or at most a minute ago."""
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > KEPT:
                self._known = time.monotonic(), self._read(self._desk.clock.now())
            return self._known[1]

    def _read(self, now: datetime) -> list[Month]:
        begins = _months(now)
        ends = [*begins[1:], now]
        found = []
        for begin, end in zip(begins, ends, strict=True):
            last = None if end == now else new_id("req", end, bytes(10))
            rows = self._desk.views.times(new_id("req", begin, bytes(10)), last)
            standing = self._standing(end, over=end != now)
            found.append(
                Month(
                    begins=begin, tickets=len(rows), glass=sum(kind == "break_glass" for kind, _, _ in rows),
                    decided=spread([decided for _, decided, _ in rows if decided is not None]),
                    gone=spread([gone for _, _, gone in rows if gone is not None]),
                    temporary=standing[0] if standing else None, standing=standing[1] if standing else None,
                )
            )  # fmt: skip
        return found

    def _standing(self, end: datetime, *, over: bool) -> tuple[int, int] | None:
        looks = []
        for target in self._desk.targets:
            key = (target, end)
            if key not in self._looks:
                look = self._look(target, end)
                if not over:
                    looks.append(look)
                    continue
                self._looks[key] = look
            looks.append(self._looks[key])
        seen = [each for each in looks if each]
        return (sum(ticketed for ticketed, _ in seen), sum(other for _, other in seen)) if seen else None

    def _look(self, target: str, end: datetime) -> tuple[int, int] | None:
        """The last time that a target was compared with tickets before then."""
        kinds = (ReconciliationMade.kind,)
        found = search(self._desk.store.engine, Sought(kinds=kinds, target=target, before=end, limit=1))
        if not found:
            return None
        made = decode_data(found[0].entry.type, bytes(found[0].entry.data))
        if not isinstance(made, ReconciliationMade):
            return None
        return made.ticketed, made.excepted + made.baseline + made.unexplained


def spread(seconds: Sequence[int]) -> Spread | None:
    """Of some durations; None of none."""
    if not seconds:
        return None
    slow = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return Spread(count=len(seconds), median=median_low(seconds), slow=int(slow))


def _months(now: datetime) -> list[datetime]:
    """When each begins, oldest first, the month of ``now`` last."""
    last = now.year * 12 + now.month - 1
    return [datetime(m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in range(last - MONTHS + 1, last + 1)]
