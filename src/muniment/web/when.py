"""Instants and durations as people read them. Pure: ``now`` is an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec

from muniment.core.instants import parse_duration, parse_instant, spoken

_JUST_NOW = timedelta(seconds=45)
#: units that are said otherwise than `parse_duration` reads them
_WORDS = re.compile(r"(?<=\d)(days?|min)")
#: the two largest units say enough
_UNITS = ((86400, "day", "days"), (3600, "h", "h"), (60, "min", "min"), (1, "s", "s"))


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One instant: for machines, exactly for people, and seen from now."""

    iso: str
    exact: str
    relative: str


def moment(instant: str | datetime | None, now: datetime) -> Moment | None:
    """An instant from a document, or None where there is none."""
    if instant is None:
        return None
    at = parse_instant(instant) if isinstance(instant, str) else instant
    iso = at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Moment(iso=iso, exact=exact(at), relative=relative(at, now))


def exact(at: datetime) -> str:
    """``26 Nov 2026, 14:52 UTC``."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b} {at.year:04}, {at:%H:%M} UTC"


def relative(at: datetime, now: datetime) -> str:
    """``in 2 h 5 min``, ``3 days ago``, ``just now``."""
    away = at - now
    if abs(away) < _JUST_NOW:
        return "just now" if away <= timedelta() else "in a moment"
    said = short(abs(away))
    return f"in {said}" if away > timedelta() else f"{said} ago"


def short(length: timedelta) -> str:
    """The two largest units that say something: ``2 h 5 min``, ``3 days 4 h``, ``40 s``."""
    seconds = max(0, int(length.total_seconds()))
    for place, (size, one, many) in enumerate(_UNITS):
        count, rest = divmod(seconds, size)
        if not count:
            continue
        said = f"{count} {one if count == 1 else many}"
        if place + 1 < len(_UNITS) - (1 if size > 1 else 0):
            below, name, names = _UNITS[place + 1]
            if more := rest // below:
                said += f" {more} {name if more == 1 else names}"
        elif size == 60 and seconds < 600 and rest:
            said += f" {rest} s"
        return said
    return "0 s"


def length(duration: str | timedelta | None) -> str:
    """A duration to the second: ``1 h 30 min``. From a document, or of a ticket."""
    if isinstance(duration, timedelta):
        return spoken(duration)
    if duration in {None, "PT0S"}:
        return "0 s"
    return spoken(parse_duration(duration or ""))


def typed(text: str) -> timedelta:
    """A duration as somebody typed it, or as `core.instants.spoken` says it. Raises `Invalid`."""
    return parse_duration(_WORDS.sub(lambda word: word[0][0], text.replace(" ", "")))
