"""The store's clock decides, and it never runs backwards (I13).

Between readings it advances with the monotonic clock, so that a step back of the system's time neither extends a
grant nor stops time. Over a restart the persisted mark takes that part. A step forward may only shorten.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from muniment.core.errors import MunimentError

#: how long an offset to the database's clock is trusted
RESYNC_SECONDS = 5.0


def system_time() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


class StoreClock:
    """`ports.Clock` over a source of time, a monotonic clock and a persisted high-water mark."""

    def __init__(
        self,
        source: Callable[[], datetime],
        *,
        resync: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``source`` is asked every ``resync`` seconds (0: each time)."""
        self._source, self._resync, self._monotonic = source, resync, monotonic
        self._lock = threading.Lock()
        self._last = datetime.min.replace(tzinfo=UTC)
        self._last_tick = monotonic()
        self._asked = float("-inf")

    def advance_to(self, mark: datetime) -> None:
        """Never answer less than ``mark`` from now on."""
        with self._lock:
            if mark > self._last:
                self._last, self._last_tick = mark, self._monotonic()

    def now(self) -> datetime:
        """See `ports.Clock`."""
        with self._lock:
            tick, said = self._monotonic(), None
            if tick - self._asked >= self._resync:
                self._asked = tick
                with suppress(MunimentError):  # the database is away: go on by the monotonic clock
                    said = self._source()
                # an answer is as old as it took to arrive: counted from before, it would be ahead of time for ever
                tick = self._monotonic()
            lower = self._last + timedelta(seconds=tick - self._last_tick)
            self._last, self._last_tick = max(lower, said or lower), tick
            return self._last
