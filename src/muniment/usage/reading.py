"""What every reader of a format has in common.

A reader is a pure function from one record (a line, mostly) to what it tells. It never guesses: a line that is not what
the format says is `Unparsable`, and counted as such.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from muniment.core.use import Said

#: bytes of a record; longer ones are not read
LONGEST_LINE = 1 << 20

_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)?", re.ASCII)


class Unparsable(Exception):
    """A record that is not of the format. Its message is ours, and has nothing of the record in it."""


class Other(NamedTuple):
    """A sound record that tells of no use: that the log was written at that time is all that it says."""

    at: datetime | None


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """What a record may not say itself."""

    now: datetime  # for logs that write no year
    zone: timezone = UTC  # for logs that write no offset


Read: TypeAlias = Callable[[bytes, Hints], Said | Other]


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One format that logs come in."""

    name: str
    summary: str
    read: Any  # a Read
    framing: Literal["lines", "csv"] = "lines"


def instant(text: object, hints: Hints) -> datetime:
    """An instant as logs write them: ISO 8601 or nearly so, with an offset, or in the log's own zone."""
    match = _STAMP.fullmatch(text) if isinstance(text, str) and len(text) < 60 else None
    if match is None:
        raise Unparsable("it has no time")
    day, time, fraction, zone = match.groups()
    try:
        found = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=_zone(zone, hints))
        return (found + timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unparsable("its time does not exist") from error


def _zone(text: str | None, hints: Hints) -> timezone:
    if text is None:
        return hints.zone
    match = _ZONE.fullmatch(text)
    if match is None:
        return UTC
    length = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    return timezone(length if match[1] == "+" else -length)


def document(raw: bytes) -> dict[str, Any]:
    """A JSON object on a line."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unparsable("it is not JSON") from error
    if not isinstance(found, dict):
        raise Unparsable("it is not a JSON object")
    return found


def inside(found: Any, *path: str) -> Any:
    """What lies at a path; None if nothing does."""
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def text(found: Any, *path: str) -> str:
    """A text at a path; empty if there is none."""
    value = inside(found, *path)
    return value if isinstance(value, str) else ""


def named(found: Any, *path: str) -> str:
    """A text that must be there."""
    value = text(found, *path)
    if not value:
        raise Unparsable(f"it has no {'.'.join(path)}")
    return value


def decoded(raw: bytes) -> str:
    """A line as text. Logs hold what users sent: what is no UTF-8 stays to be seen."""
    return raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
