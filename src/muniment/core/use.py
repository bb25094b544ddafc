"""Use: what lines of a target's own log tell of access, and how it is judged against what tickets gave.

A line is paired with a ticket exactly where it names one: in a certificate's key id, a temporary login, a binding. Else
by account, privilege and time. Each line is then in one of five:

- ``in-window``: a ticket gave it at that time
- ``standing``: the baseline or an exception declares it
- ``outside``: a ticket gives, or gave, just this, and not at that time
- ``ungranted``: no ticket ever gave it
- ``ordinary``: it names nothing that is governed here, and no ticket was live for the account

A log proves only what it covers: that something was never used is said where it covers the whole window, and not else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, get_args
from urllib.parse import unquote

import msgspec

from muniment.core.instants import parse_instant, spoken, wire
from muniment.core.scope import Privilege, Scope, scope
from muniment.core.text import visible
from muniment.core.ticket import ID, Ticket

Verdict: TypeAlias = Literal["in-window", "standing", "outside", "ungranted", "ordinary", "refused"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
#: characters of a name in a line; more is cut, and the name then matches nothing
LONGEST_NAME = 512
#: what would have served is said in lengths that people ask for
LENGTHS = tuple(timedelta(minutes=m) for m in (5, 15, 30, 60, 120, 240, 480, 720, 1440))

_KEY_ID = re.compile(rf"muniment:({ID}):(.+)", re.ASCII | re.DOTALL)
_USER = re.compile(rf"muniment\.({ID})\.(.+)", re.ASCII | re.DOTALL)
_LOGIN = re.compile(r"muniment_req_([0-9a-hjkmnp-tv-z]{26})", re.ASCII)
_BINDING = re.compile(r"muniment-req-([0-9a-hjkmnp-tv-z]{26})-[0-9a-f]+", re.ASCII)
_TICKET = re.compile(ID, re.ASCII)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader makes of one line that tells of use."""

    at: datetime  # UTC, by the target's clock
    account: str
    privileges: tuple[str, ...] = ()  # any of which let it be done; none: the line does not say
    resource: str | None = None
    ticket: str | None = None
    person: str | None = None  # what says that a person was at it, whoever the account is
    by: str | None = None  # the account that did it under the name of ``account``
    becomes: str | None = None  # the account under whose name ``account`` did it
    action: str = (
        ""  # all of it, for rules; it is not kept, as people write secrets into statements and commands
    )
    shown: str = ""  # of that, what may be kept
    object: str = ""  # what it was done to
    own: str = ""  # the log's own name for the line, unique on the target
    refused: bool = False  # the line that ``own`` names told of something that did not come to be


class Use(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One use, as it is kept."""

    line: str  # 32 hex digits: the same for the same line, in whichever file and however often it is read
    at: str
    account: str
    privilege: str | None = None
    resource: str | None = None
    ticket: str | None = None  # that the line names
    person: str | None = None
    by: str | None = None
    becomes: str | None = None
    action: str = ""
    place: str = ""  # where the line was read: the log, and the byte it begins at
    refused: bool = False

    @property
    def what(self) -> Privilege | None:
        """The privilege that was used, where the line says."""
        return None if self.privilege is None else Privilege(privilege=self.privilege, resource=self.resource)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that tell of an action or an object tell of the use of a privilege. ``*`` stands for anything."""

    privilege: str
    resource: str | None = None
    action: str = "*"
    object: str = "*"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What a line is read against."""

    target: str
    format: str
    catalogue: Collection[Privilege]
    rules: Sequence[Rule] = ()
    accounts: Mapping[str, str] = {}  # as the log has them, and as the target's connector does


def line_id(target: str, format: str, own: str, raw: bytes) -> str:  # noqa: A002
    """The stable name of a line: by the log's own name for it where it has one, else by its bytes."""
    said = hashlib.sha256(f"{target}\0{format}\0".encode())
    said.update(b"own\0" + own.encode("utf-8", "backslashreplace") if own else b"raw\0" + raw)
    return said.hexdigest()[:32]


def use_of(said: Said, raw: bytes, world: World, place: str = "") -> Use:
    """The use that a line tells of, in the target's own words: what is governed there, by which account, for which ticket."""
    named, account = ticket_in(said.account)
    account = world.accounts.get(account, account)
    what = _governed(said, world)
    return Use(
        line=line_id(world.target, world.format, said.own, raw), at=wire(said.at), account=_cut(account),
        privilege=what.privilege if what else None, resource=what.resource if what else None,
        ticket=said.ticket or named, person=_shown(said.person, 200) if said.person else None,
        by=_cut(world.accounts.get(said.by, said.by)) if said.by else None, becomes=_cut(said.becomes) if said.becomes else None,
        action=_shown(said.shown, 120), place=_shown(place, 300), refused=said.refused,
    )  # fmt: skip


def ticket_in(name: str) -> tuple[str | None, str]:
    """The ticket that a name was made for, if it is one of ours, and the account."""
    if match := _KEY_ID.fullmatch(name):
        return match[1], match[2]
    if match := _USER.fullmatch(name):
        return match[1], unquote(match[2])
    if match := _LOGIN.fullmatch(name):
        return f"req_{match[1].upper()}", name
    return None, name


def ticket_of_binding(text: str) -> str | None:
    """The ticket of a binding of Kubernetes that a text names."""
    match = _BINDING.search(text)
    return f"req_{match[1].upper()}" if match else None


def ticket_named(text: object) -> str | None:
    """A ticket's id, if a text is one."""
    return text if isinstance(text, str) and _TICKET.fullmatch(text) else None


def matches(pattern: str, text: str) -> bool:
    """Whether a text fits, regardless of case. Linear: a pattern and a line may be anybody's."""
    first, *rest = pattern.casefold().split("*")
    text = text.casefold()
    if not rest:
        return text == first
    if not text.startswith(first):
        return False
    at = len(first)
    *middle, last = rest
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(last) and text.endswith(last)


def _governed(said: Said, world: World) -> Privilege | None:
    """Of the privileges that a line tells of, the one that is asked for by ticket here."""
    for rule in world.rules:
        if matches(rule.action, said.action) and matches(rule.object, said.object):
            return Privilege(privilege=rule.privilege, resource=rule.resource)
    for name in said.privileges:
        for found in (
            Privilege(privilege=name, resource=said.resource),
            Privilege(privilege=name),
        ):
            if found in world.catalogue:
                return found
    return None


def _cut(name: str) -> str:
    return _shown(name, LONGEST_NAME)


def _shown(text: str, length: int) -> str:
    """Foreign words as they are kept: nothing in them acts on a reader (I37)."""
    return visible(text[:length].encode("utf-8", "replace").decode().replace("\n", " "))[:length]


# ── what a log covers ──


class Interval(msgspec.Struct, frozen=True, order=True):
    """A period that a log was read for without a gap."""

    begins: str
    ends: str


def together(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Intervals in order, those that touch as one."""
    found: list[Interval] = []
    for each in sorted(intervals):
        if found and each.begins <= found[-1].ends:
            found[-1] = Interval(found[-1].begins, max(found[-1].ends, each.ends))
        else:
            found.append(each)
    return tuple(found)


def covers_all(sources: Iterable[Sequence[Interval]], begins: str, ends: str) -> bool:
    """Whether every log of a target was read for a whole period, and there is one."""
    logs = list(sources)
    return bool(logs) and all(any(i.begins <= begins and ends <= i.ends for i in each) for each in logs)


# ── tickets ──


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """How the access of a ticket was used, as far as logs tell."""

    ticket: str
    beneficiary: str
    account: str
    granted: Scope
    starts_at: str
    ends_at: str
    covered: bool  # every log of the target was read for the whole window
    events: int
    first_at: str | None
    last_at: str | None
    used: Scope
    unnamed: int  # uses of which the line does not say which privilege

    @property
    def judgement(self) -> Literal["used", "narrower", "never-used", "not-covered"]:
        """``narrower`` and ``never-used`` are only said where nothing can be missing."""
        if not self.covered:
            return "used" if self.events else "not-covered"
        if not self.events:
            return "never-used"
        return "narrower" if self.unused else "used"

    @property
    def unused(self) -> Scope:
        """What was given and, as every line shows, not used."""
        if not self.covered or self.unnamed or not self.events:
            return ()
        return scope(set(self.granted) - set(self.used))

    @property
    def needed(self) -> timedelta | None:
        """From the beginning of access to its last use."""
        if self.last_at is None:
            return None
        return max(timedelta(), parse_instant(self.last_at) - parse_instant(self.starts_at))


def window_of(ticket: Ticket) -> tuple[datetime, datetime] | None:
    """When a ticket gave access: until it expired, or was ordered to end; None if it never began."""
    if (
        ticket.starts_at is None
        or ticket.expires_at is None
        or not (ticket.granted or ticket.status == "active")
    ):
        return None
    begins, ends = parse_instant(ticket.starts_at), parse_instant(ticket.expires_at)
    if ticket.revocation is not None:
        ends = min(ends, parse_instant(ticket.revocation.ordered_at))
    return begins, max(begins, ends)


class RightSize(msgspec.Struct, frozen=True, kw_only=True):
    """What would have served, by what was used."""

    tickets: int  # that it rests on
    scope: Scope
    duration: int  # seconds
    narrower: Scope  # what of the granted was never used
    shorter: bool

    @property
    def sentence(self) -> str:
        """For the requester."""
        what = ", ".join(map(str, self.scope))
        times = "The last ticket" if self.tickets == 1 else f"The last {self.tickets} tickets"
        return f"{times} of this kind used {what}, and {spoken(timedelta(seconds=self.duration))} would have served."


def right_size(past: Sequence[Judged], wanted: Scope, duration: timedelta | None = None) -> RightSize | None:
    """The smallest scope and window that would have served all of these; None if that is no less than what is wanted.

    Args:
        past: earlier tickets of the same account on the same target, newest first. Those that the logs do not cover, or
            that were not used, say nothing.
        wanted: what is asked for now.
        duration: for how long; None: for as long as the longest of these was.
    """
    telling = [each for each in past if each.covered and each.events and set(each.granted) & set(wanted)]
    if not telling:
        return None
    asked = duration or max(parse_instant(t.ends_at) - parse_instant(t.starts_at) for t in telling)
    longest = max((each.needed or timedelta()) for each in telling)
    served = next((length for length in LENGTHS if length >= longest), asked)
    never = (
        set(wanted) - {p for each in telling for p in each.used}
        if not any(t.unnamed for t in telling)
        else set()
    )
    # a privilege that none of them had was never tried
    never &= {p for each in telling for p in each.granted}
    kept = scope(set(wanted) - never)
    if not kept or (not never and served >= asked):
        return None
    return RightSize(
        tickets=len(telling), scope=kept, duration=int(min(served, asked).total_seconds()), narrower=scope(never),
        shorter=served < asked,
    )  # fmt: skip
