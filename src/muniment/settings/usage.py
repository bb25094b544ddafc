"""``[targets.ID.usage]``: which logs tell of the use of a target, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta, timezone
from typing import Any

import msgspec

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.instants import parse_duration
from muniment.settings.section import Section

#: as long as is no finding yet (`core.fulfilling.OVERDUE_AFTER`): the program that verifies the ledger allows no more
LONGEST_SKEW = timedelta(seconds=60)


class LogSettings(Section, frozen=True, kw_only=True):
    """``[[targets.ID.usage.logs]]``."""

    format: str
    path: str
    name: str | None = None  # how the log is called here; else as its format
    timezone: str = "+00:00"  # of a log that writes no offset
    mapping: dict[str, Any] | None = None  # of the generic format

    @property
    def source(self) -> str:
        """How the log is called."""
        return self.name or self.format


class RuleSettings(Section, frozen=True, kw_only=True):
    """``[[targets.ID.usage.privileges]]``: what a line must tell of to be use of a privilege."""

    privilege: str
    resource: str | None = None
    action: str = "*"
    object: str = "*"


class UsageSettings(Section, frozen=True, kw_only=True):
    """``[targets.ID.usage]``."""

    every: str = "1m"
    skew: str = "5s"
    #: whatever an account does there takes a ticket; else only what a line shows to be use of a privilege of the catalogue
    every_line: bool = False
    accounts: dict[str, str] = {}  # noqa: RUF012  msgspec copies it
    logs: tuple[LogSettings, ...] = ()
    privileges: tuple[RuleSettings, ...] = ()

    @property
    def pause(self) -> timedelta:
        """Between two looks at a log."""
        return parse_duration(self.every)

    @property
    def tolerance(self) -> timedelta:
        """How far the target's clock may be from ours."""
        return timedelta() if self.skew == "0s" else parse_duration(self.skew)


def usage_settings(written: Mapping[str, Any], where: str = "") -> UsageSettings:
    """Read the table. Raises `Misconfigured` for what cannot be meant."""
    try:
        found = msgspec.convert(written, UsageSettings)
        _, skew = found.pause, found.tolerance
        for log in found.logs:
            zone(log.timezone)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"{where}: {error}", remedy="Compare with docs/how-to/read-usage.md.") from error
    except Invalid as error:
        raise Misconfigured(f"{where}: {error.message}", remedy=error.remedy) from error
    if skew > LONGEST_SKEW:
        raise Misconfigured(
            f"{where}: skew is longer than a minute, and then nothing is said of the ends of access",
            remedy="Keep clocks together; leave it out for 5s.",
        )
    if relative := next((log.path for log in found.logs if not log.path.startswith("/")), None):
        raise Misconfigured(
            f"{where}: {relative!r:.80} is no whole path",
            remedy="Two people agree to it: write it from the root on.",
        )
    names = [log.source for log in found.logs]
    if len(set(names)) < len(names):
        raise Misconfigured(f"{where}: two logs have one name", remedy="Give each a name.")
    return found


def zone(text: str) -> timezone:
    """An offset like ``+02:00``. Raises `Invalid`."""
    sign, hours, colon, minutes = text[:1], text[1:3], text[3:4], text[4:]
    if (
        sign not in {"+", "-"}
        or colon != ":"
        or not (hours + minutes).isdecimal()
        or len(minutes) != 2
        or int(hours) > 14
    ):
        raise Invalid(f"{text!r:.20} is no offset", remedy="Write it like +02:00.")
    length = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(length if sign == "+" else -length)
