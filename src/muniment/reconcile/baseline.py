"""The baseline: access that stands without a ticket, declared in a file, and exceptions, declared there for a time.

It is read as it was adopted: what lies on disk is a wish until two people have agreed to it, as with targets.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Literal

import msgspec

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import IdentityId, parse_identity
from muniment.core.inventory import Item

#: no exception is for longer, and nothing stands for longer without somebody looking at it again
LONGEST = timedelta(days=366)


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One entitlement that somebody answers for."""

    kind: Literal["standing", "exception"]
    target: str
    account: str  # of ``nested``: the privilege that brings the other
    privilege: str
    resource: str | None
    nested: bool
    owner: IdentityId
    until: datetime  # when it must be looked at again, or is over
    reason: str

    @property
    def reference(self) -> str:
        """What findings call it."""
        where = "" if self.resource is None else f" ({self.resource})"
        return f"{self.kind}: {self.account} has {self.privilege}{where}"

    @property
    def key(self) -> tuple[str, str, str | None, bool]:
        """Which entitlement, on its target."""
        return (self.account, self.privilege, self.resource, self.nested)

    @property
    def digest(self) -> str:
        """Of all that the line says: said in another way, by whoever agreed to that, it is another line."""
        return f"sha256:{hashlib.sha256(_encode(self)).hexdigest()}"


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    target: str
    account: str
    privilege: str
    owner: str
    reason: str
    resource: str | None = None
    nested: bool = False


class _Standing(_Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    recertify_by: Any  # a date or an instant: `_instant`


class _Exception(_Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    until: Any  # as above


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    standing: tuple[_Standing, ...] = ()
    exceptions: tuple[_Exception, ...] = ()


_encode = msgspec.json.Encoder(order="sorted").encode


@lru_cache(maxsize=4)
def parse(text: str) -> tuple[Declared, ...]:
    """Read a file.

    Raises:
        Misconfigured: it is not TOML, says something that cannot be meant, or declares one entitlement twice.
    """
    try:
        raw = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"not TOML: {error}", "Mend the line it names.") from error
    except msgspec.ValidationError as error:
        raise _wrong(str(error), "Compare with docs/how-to/reconcile.md.") from error
    found: dict[tuple[Any, ...], Declared] = {}
    for declared in _declared(raw):
        key = (
            declared.kind,
            declared.target,
            declared.account,
            declared.privilege,
            declared.resource,
            declared.nested,
        )
        if key in found:
            raise _wrong(f"{declared.reference}, on {declared.target}, is there twice", "Remove one.")
        found[key] = declared
    return tuple(found.values())


def drafted(items: Iterable[Item], target: str, *, owner: str, until: str, reason: str) -> str:
    """The lines that would declare these, for people to read, cut down and have adopted."""
    return "\n".join(
        "\n".join(
            (
                "[[standing]]",
                f"target = {_quoted(target)}",
                f"account = {_quoted(item.account)}",
                f"privilege = {_quoted(item.privilege)}",
                *((f"resource = {_quoted(item.resource)}",) if item.resource is not None else ()),
                *(("nested = true",) if item.nested else ()),
                f"owner = {_quoted(owner)}",
                f"recertify_by = {until}",
                f"reason = {_quoted(reason)}",
                "",
            )
        )
        for item in items
    )


def _quoted(text: str) -> str:
    """A basic string of TOML. JSON's escapes are its own, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _declared(file: _File) -> Iterator[Declared]:
    standing: Iterator[tuple[Literal["standing", "exception"], _Entry, Any]] = (
        ("standing", each, each.recertify_by) for each in file.standing
    )
    exceptions: Iterator[tuple[Literal["standing", "exception"], _Entry, Any]] = (
        ("exception", each, each.until) for each in file.exceptions
    )
    for kind, entry, until in (*standing, *exceptions):
        if not entry.reason.strip():
            raise _wrong(f"nobody says why {entry.account} has {entry.privilege}", "Give a reason.")
        try:
            owner = parse_identity(entry.owner)
        except Invalid as error:
            raise _wrong(f"owner: {error.message}", error.remedy) from error
        yield Declared(
            kind=kind, target=entry.target, account=entry.account, privilege=entry.privilege, resource=entry.resource,
            nested=entry.nested, owner=owner, until=_instant(until), reason=entry.reason,
        )  # fmt: skip


def _instant(until: Any) -> datetime:
    """A day without a time begins at midnight, UTC; a time without an offset is refused."""
    if isinstance(until, datetime):
        if until.tzinfo is not None:
            return until.astimezone(UTC)
    elif isinstance(until, date):
        return datetime.combine(until, time(), UTC)
    raise _wrong(
        f"{str(until)!r:.60} is no day, and no time with an offset",
        "Write it like 2026-12-24T00:00:00Z, or the day alone: 2026-12-24, without quotes.",
    )


def _wrong(message: str, remedy: str) -> Misconfigured:
    return Misconfigured(f"the baseline cannot be used: {message}", remedy=remedy, code="config.baseline")
