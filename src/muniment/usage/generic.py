"""Anything else, by a mapping: which field is the account, the privilege, the time.

kind = "json"                  # or "regex", with the pattern's named groups as fields
[fields]
time = "ts"                    # dots lead into objects
account = "user.name"
privilege = "role"             # the rest may be left out
resource = "database"
ticket = "labels.ticket"
action = "verb"
object = "what"
id = "event_id"                # the log's own name of the line
[only]                         # lines that tell of use; others are counted, and tell of none
outcome = "success"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from muniment.core.errors import Misconfigured
from muniment.core.use import Said, ticket_named
from muniment.usage.reading import Format, Hints, Other, Read, Unparsable, decoded, document, inside, instant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which field is what."""

    time: str
    account: str
    privilege: str | None = None
    resource: str | None = None
    ticket: str | None = None
    action: str | None = None
    object: str | None = None
    id: str | None = None


class Mapped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping."""

    fields: Fields
    kind: Literal["json", "regex"] = "json"
    pattern: str | None = None
    only: dict[str, str] = {}


def parse_mapping(text: str) -> Mapped:
    """Read a mapping. Raises `Misconfigured`."""
    try:
        return mapped(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"not TOML: {error}") from error


def mapped(written: Mapping[str, Any]) -> Mapped:
    """A mapping from its tables. Raises `Misconfigured`."""
    try:
        found = msgspec.convert(written, Mapped)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from error
    if (found.kind == "regex") != (found.pattern is not None):
        raise _wrong("kind regex goes with a pattern")
    if found.pattern is not None:
        try:
            groups = re.compile(found.pattern).groupindex
        except (re.error, RecursionError, OverflowError) as error:
            raise _wrong(f"the pattern is none: {error}") from error
        used = {v for v in msgspec.to_builtins(found.fields).values() if v} | set(found.only)
        if missing := used - set(groups):
            raise _wrong(f"the pattern has no group {min(missing)}")
    return found


def generic(mapping: Mapped) -> Format:
    """The format that a mapping describes."""
    return Format(name="generic", summary="anything else, by a mapping", read=_reader(mapping))


def _reader(mapping: Mapped) -> Read:
    pattern = re.compile(mapping.pattern) if mapping.pattern is not None else None
    fields = mapping.fields

    def read(raw: bytes, hints: Hints) -> Said | Other:
        if pattern is None:
            found: dict[str, Any] = document(raw)
        else:
            match = pattern.fullmatch(decoded(raw))
            if match is None:
                raise Unparsable("it does not fit the pattern")
            found = match.groupdict()

        def at(path: str | None) -> str:
            value = (
                None if path is None else inside(found, *(path.split(".") if pattern is None else (path,)))
            )
            if isinstance(value, bool):
                return "true" if value else "false"
            return str(value) if isinstance(value, str | int) else ""

        when = _time(at(fields.time), hints)
        account = at(fields.account)
        if not account or any(at(path) != wanted for path, wanted in mapping.only.items()):
            return Other(when)
        privilege, action = at(fields.privilege), at(fields.action)
        return Said(
            at=when, account=account, privileges=(privilege,) if privilege else (), resource=at(fields.resource) or None,
            ticket=ticket_named(at(fields.ticket)), action=action, shown=action, object=at(fields.object), own=at(fields.id),
        )  # fmt: skip

    return read


def _time(text: str, hints: Hints) -> datetime:
    if text.isascii() and text.isdecimal() and 9 <= len(text) <= 14:  # seconds or milliseconds since 1970
        return _EPOCH + timedelta(milliseconds=int(text) * (1 if len(text) > 11 else 1000))
    return instant(text, hints)


def _wrong(message: str) -> Misconfigured:
    return Misconfigured(
        f"the mapping of a log cannot be used: {message}",
        remedy="Compare with docs/how-to/read-usage.md.",
        code="config.mapping",
    )


#: what `POST /v1/usage` takes as events, and files hold of them: our own names
EVENTS = Format(
    name="events",
    summary="events of `POST /v1/usage`, JSON, one a line",
    read=_reader(
        Mapped(
            fields=Fields(
                time="at", account="account", privilege="privilege", resource="resource", ticket="ticket",
                action="action", object="object", id="id",
            )
        )
    ),
)  # fmt: skip
