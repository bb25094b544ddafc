"""V5, time bounds: the claimed time of each entry against times that others gave.

`at` is what the writer's clock said, and the writer could say anything. An anchor is a checkpoint with a time by
somebody else's clock: a witness's cosignature, or an RFC 3161 stamp. It bounds from two sides:

- what it covers existed by then: an entry's time is not later than any anchor that covers it;
- what it does not cover came after it: an entry's time is not earlier than an anchor that does not cover it. That
  holds for what was anchored as the newest checkpoint. A stamp made late, over an old checkpoint, says nothing here,
  and is told from others by this: something that covers the entry has an earlier time.

So an entry can be dated falsely by as much as lies between two anchors, and no more. Within a ticket time does not run
backwards. Both with an allowance for clocks that differ.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from muniment.ledger.entry import Entry
from muniment.ledger.verify import Level

#: seconds that two sound clocks may differ
SKEW = 300
#: what a report says when there is nothing to compare with
UNCHECKED = "not checked: no independent time"

_ENDS = frozenset({"request-closed/1", "request-denied/1", "request-withdrawn/1", "request-lapsed/1"})
_LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint of the log, and when somebody else saw it."""

    size: int  # leaves it covers
    time: int  # POSIX seconds, by the other's clock
    source: str  # who says so, for the report: "cosigned by w.example", "stamped by tsa.example"


class _Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the entries between two anchors. As wire instants: they compare as texts."""

    earliest: str | None
    latest: str | None
    before: Anchor | None  # where ``earliest`` comes from
    after: Anchor | None  # where ``latest`` comes from


class TimeBounds:
    """V5 over the streams it is fed. Every stream whole; a pass may be split as for `rules.TicketRules`."""

    def __init__(self, anchors: Iterable[Anchor] = (), *, skew: int = SKEW) -> None:
        """Prepare.

        Args:
            anchors: in any order. Whoever brings them has verified that they are of this log and by somebody trusted.
            skew: seconds allowed between two clocks.
        """
        ordered = sorted(anchors, key=lambda anchor: (anchor.size, anchor.time))
        self.anchored = bool(ordered)
        self._skew = skew
        self._sizes = sorted({anchor.size for anchor in ordered})
        self._bounds = _all_bounds(ordered, self._sizes, skew)
        self._last: dict[str, str] = {}  # per ticket that has not ended: the latest time so far
        self._checked = 0
        self._fault: tuple[int, str] | None = None

    def feed(self, index: int, raw: bytes, entry: Entry) -> None:
        """Compare one entry. After the first fault nothing more is looked at.

        Args:
            index: place in the log.
            raw: the stored bytes.
            entry: as `ledger.entry.decode_entry` reads them.
        """
        del raw
        if self._fault is not None or not self.anchored:
            return
        self._checked += 1
        wrong = self._outside(index, entry.at) or self._backwards(entry)
        if wrong is not None:
            where = f"leaf {index}, ticket {entry.ticket!r:.80}, seq {entry.seq}: "
            self._fault = (index, where + wrong)

    def found(self) -> tuple[int, tuple[int, str] | None]:
        """Entries compared, and index and sentence of the first fault; plain data, for `combine_times`."""
        return self._checked, self._fault

    def result(self) -> Level:
        """The level, if everything was fed to this one. Without anchors nothing was checked: see `UNCHECKED`."""
        return combine_times([self.found()])

    def _outside(self, index: int, at: str) -> str | None:
        bounds = self._bounds[bisect_right(self._sizes, index)]
        if bounds.latest is not None and at > bounds.latest:
            return f"it says {at}, and was there already {_said(bounds.after)}"
        if bounds.earliest is not None and at < bounds.earliest:
            return f"it says {at}, and was not there yet {_said(bounds.before)}"
        return None

    def _backwards(self, entry: Entry) -> str | None:
        before = self._last.get(entry.ticket, entry.at)
        if entry.type in _ENDS:
            self._last.pop(entry.ticket, None)
        else:
            self._last[entry.ticket] = max(before, entry.at)
        if entry.at < before and entry.at < _shifted(_seconds(before), -self._skew):
            return f"it says {entry.at}, and the entry before it in the ticket {before}"
        return None


def combine_times(parts: Iterable[tuple[int, tuple[int, str] | None]]) -> Level:
    """The level, from what was found in each part of the log."""
    parts = list(parts)
    first = min((fault for _, fault in parts if fault is not None), default=None)
    return Level(
        ok=first is None,
        checked=sum(checked for checked, _ in parts),
        first_fault=first[1] if first else None,
    )


def _all_bounds(anchors: list[Anchor], sizes: list[int], skew: int) -> list[_Bounds]:
    """Bounds of the entries below the first size, between each two, and from the last one on."""
    latest: list[Anchor | None] = [None]
    for size in reversed(sizes):
        here = min((a for a in anchors if a.size == size), key=lambda anchor: anchor.time)
        last = latest[-1]
        latest.append(here if last is None or here.time <= last.time else last)
    latest.reverse()
    found: list[_Bounds] = []
    seen: list[tuple[int, int]] = []  # (time, place in `anchors`) of those that do not cover the entries
    waiting = iter(enumerate(anchors))
    upcoming = next(waiting, None)
    for upto, after in zip([0, *sizes], latest, strict=True):
        while upcoming is not None and upcoming[1].size <= upto:
            insort(seen, (upcoming[1].time, upcoming[0]))
            upcoming = next(waiting, None)
        # what came after something that covers the entry was late, and says nothing about when the entry came
        known = len(seen) if after is None else bisect_right(seen, (after.time, len(anchors)))
        before = anchors[seen[known - 1][1]] if known else None
        found.append(
            _Bounds(
                earliest=None if before is None else _shifted(before.time, -skew),
                latest=None if after is None else _shifted(after.time, skew),
                before=before,
                after=after,
            )
        )
    return found


def _said(anchor: Anchor | None) -> str:
    if anchor is None:
        raise AssertionError("unreachable: a bound has its anchor")
    return (
        f"in the checkpoint of {anchor.size} entries that was {anchor.source} at {_shifted(anchor.time, 0)}"
    )


def _shifted(seconds: int, by: int) -> str:
    """A wire instant; what lies beyond the calendar is at its end."""
    instant = datetime.fromtimestamp(min(max(seconds + by, 0), _LAST), UTC)
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _seconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp())
