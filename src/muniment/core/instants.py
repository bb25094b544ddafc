"""Instants and durations, as documents write them and as people type them.

Instants are UTC and half-open: at ``expires_at`` the grant is over. Wire form is RFC 3339 with ``Z`` and
microseconds, made once and never read back from a database's own time type. Durations are whole seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from muniment.core.errors import Invalid

#: no ticket lasts longer than this, whatever a policy says (I12)
LONGEST = timedelta(days=366)

_TYPED = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
_ISO = re.compile(r"P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def wire(instant: datetime) -> str:
    """RFC 3339 in UTC with microseconds: the one form that is hashed."""
    # not strftime: its %Y has fewer than four digits before the year 1000, and databases compare instants as texts
    return instant.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def shortened(instant: str | None) -> str | None:
    """As documents write it: whole seconds without a fraction, else with one."""
    return instant.replace(".000000Z", "Z") if instant else None


def parse_instant(text: str, what: str = "the time") -> datetime:
    """Read an RFC 3339 instant that names its offset. A time without one is refused: whose clock?"""
    if not _INSTANT.fullmatch(text):
        raise Invalid(
            f"{what} {text!r:.60} is not a time",
            remedy="Write it like 2026-11-23T10:00:00Z, with Z or an offset.",
        )
    try:
        return datetime.fromisoformat(text.upper().replace(" ", "T")).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{what} {text!r:.60} does not exist", remedy="Check day, month and offset.") from error


def parse_duration(text: str, what: str = "the duration") -> timedelta:
    """Read ``90m``, ``1h30m``, ``2d`` or ISO 8601 ``PT1H30M``. Weeks, months and years are refused: they vary.

    Raises:
        Invalid: not a duration, zero, or longer than a ticket may ever last.
    """
    match = _ISO.fullmatch(text) or _TYPED.fullmatch(text)
    if not match or not any(match.groups()):
        raise Invalid(
            f"{what} {text!r:.60} is not a duration", remedy="Write it like 90m, 2h, 1d or PT1H30M."
        )
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total <= 0:
        raise Invalid(f"{what} is zero", remedy="Ask for at least one second.")
    if total > LONGEST.total_seconds():
        raise Invalid(
            f"{what} is longer than {LONGEST.days} days",
            remedy="Access without an end is not given by ticket.",
        )
    return timedelta(seconds=total)


def iso_duration(duration: timedelta) -> str:
    """ISO 8601, as documents show it: ``PT2H``, ``P1DT12H``, ``PT0S``."""
    seconds = int(duration.total_seconds())
    days, seconds = divmod(seconds, 86400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    clock = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
    date = f"{days}D" if days else ""
    if not date and not clock:
        return "PT0S"
    return f"P{date}" + (f"T{clock}" if clock else "")


def spoken(duration: timedelta) -> str:
    """For people: ``1 h 30 min``, ``45 s``, ``2 days``."""
    seconds = max(0, int(duration.total_seconds()))
    days, seconds = divmod(seconds, 86400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    parts = [(days, "day" if days == 1 else "days"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"
