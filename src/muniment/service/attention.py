"""What this process knows of its witnesses beside the store: who answered it, and when to try again who did not."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import msgspec

from muniment.core.errors import MunimentError

#: pauses before an absent witness is asked again double up to this
LONGEST_PAUSE = timedelta(minutes=1)
FIRST_PAUSE = timedelta(seconds=1)


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """A witness that gave no answer that counts, as far as this process has seen."""

    error: MunimentError
    tries: int
    again: datetime  # not before


class Attention:
    """Safe for use by several threads. Lost with the process, which costs a question."""

    def __init__(self) -> None:
        """Nobody was asked yet."""
        self._lock = threading.Lock()
        self._absent: dict[str, Absence] = {}
        self._heard: set[str] = set()
        self._shown: dict[str, tuple[int, datetime]] = {}

    def ready(self, name: str, now: datetime) -> bool:
        """Whether it may be asked: it answered last time, or the pause after its absence is over."""
        with self._lock:
            absence = self._absent.get(name)
            return absence is None or absence.again <= now

    def heard(self, name: str) -> bool:
        """Whether this process knows what the witness had seen before this process signed anything."""
        with self._lock:
            return name in self._heard

    def answered(self, name: str, now: datetime, size: int | None = None) -> None:
        """It answered; with ``size``, it cosigned a checkpoint over so many entries."""
        with self._lock:
            self._absent.pop(name, None)
            self._heard.add(name)
            if size is not None:
                self._shown[name] = (size, now)

    def absent(self, name: str, error: MunimentError, now: datetime) -> bool:
        """It gave no answer that counts; return whether that is news."""
        with self._lock:
            before = self._absent.get(name)
            tries = before.tries + 1 if before else 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(tries - 1, 10)))
            self._absent[name] = Absence(error=error, tries=tries, again=now + pause)
            return before is None or before.error.code != error.code

    def absences(self) -> dict[str, MunimentError]:
        """Those whose last answer did not count, and why."""
        with self._lock:
            return {name: each.error for name, each in self._absent.items()}

    def shown_since(self, name: str, size: int, instant: datetime) -> bool:
        """Whether it cosigned this very checkpoint for us at or after ``instant``, by our own clock."""
        with self._lock:
            shown = self._shown.get(name)
            return shown is not None and shown[0] == size and shown[1] >= instant
