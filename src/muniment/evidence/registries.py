"""What events rest on that other streams hold: keys of approvers, their other names, delegations; who may make tokens.

A pass over the log may be split by streams, so one who sees a decision may not see the registries. Each keeps what it
saw of both, and `faults` holds them against each other when all is together. Places in the log decide what was known
when, not times; only what ended is believed a little longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import TypeVar

import msgspec

from muniment.core.delegation import Delegation
from muniment.core.events import (
    ApprovalRecorded,
    CounterOffered,
    DelegationEnded,
    DelegationGiven,
    Event,
    IdentityDeactivated,
    IdentityRecorded,
    TokenMade,
)
from muniment.core.identity import SYSTEM
from muniment.core.instants import parse_instant
from muniment.core.statement import NAMESPACE, approval_statement
from muniment.core.ticket import Ticket
from muniment.evidence.answers import outside
from muniment.ledger.entry import Entry
from muniment.ledger.errors import LedgerFault
from muniment.ledger.sshsig import fingerprint, parse

T = TypeVar("T")

#: how long after a key was withdrawn a node may still take it: as long as a leaver's access may last (I22)
HEARD_AFTER = timedelta(seconds=60)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an entry stands, and what is wrong with it, if anything is."""

    index: int
    ticket: str
    seq: int
    kind: str
    fault: str = ""

    def sentence(self) -> str:
        """As reports show it."""
        return f"leaf {self.index}, ticket {self.ticket!r:.80}, seq {self.seq}, {self.kind}: {self.fault}"


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Whose keys were which from some place in the log on."""

    index: int
    at: str
    keys: tuple[str, ...]


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """An approval whose signature is genuine; whether the key was the approver's, another part of the log may know."""

    place: Place
    at: str
    who: str
    key: str


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """A delegation was given, or ended (None), by whom and at which place in the log."""

    index: int
    at: str
    actor: str
    given: Delegation | None


class Borrowed(msgspec.Struct, frozen=True, kw_only=True):
    """A decision under a delegation; whether that was in force, another part of the log may know."""

    place: Place
    at: str
    delegation: Delegation


class Unnamed(msgspec.Struct, frozen=True, kw_only=True):
    """A decision by somebody whom the stage does not name, unless by an alias that another part of the log knows."""

    place: Place
    who: str
    approvers: tuple[str, ...]


class Say(msgspec.Struct, frozen=True, kw_only=True):
    """From some place in the log on, who is an operator, and who answers for whom."""

    index: int
    at: str
    operator: bool
    owners: tuple[str, ...]


R = TypeVar("R", bound="Keys | Say")


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody made a token for somebody else; whether they had a say over it, another part of the log may know."""

    place: Place
    at: str
    maker: str
    identity: str


class Rests(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one part of the log; plain data, to be sent from one process to another."""

    keys: dict[str, tuple[Keys, ...]] = {}  # of everybody who ever had one
    aliases: dict[str, tuple[str, ...]] = {}  # of everybody who ever had one
    handed: dict[str, tuple[Handed, ...]] = {}  # delegations, by their id
    says: dict[str, tuple[Say, ...]] = {}  # of operators, and of those whom somebody answers for
    made: tuple[Made, ...] = ()
    signed: tuple[Signed, ...] = ()
    borrowed: tuple[Borrowed, ...] = ()
    unnamed: tuple[Unnamed, ...] = ()


class Registries:
    """Keeps what is seen of registries, and of decisions that rest on them."""

    def __init__(self) -> None:
        """Nothing was seen."""
        self._keys: dict[str, list[Keys]] = {}
        self._aliases: dict[str, set[str]] = {}
        self._handed: dict[str, list[Handed]] = {}
        self._says: dict[str, list[Say]] = {}
        self._made: list[Made] = []
        self._signed: list[Signed] = []
        self._borrowed: list[Borrowed] = []
        self._unnamed: list[Unnamed] = []

    def seen(self) -> Rests:
        """What was seen so far."""
        return Rests(
            keys={who: tuple(keys) for who, keys in self._keys.items()},
            aliases={who: tuple(sorted(names)) for who, names in self._aliases.items()},
            handed={each: tuple(events) for each, events in self._handed.items()},
            says={who: tuple(says) for who, says in self._says.items()}, made=tuple(self._made),
            signed=tuple(self._signed), borrowed=tuple(self._borrowed), unnamed=tuple(self._unnamed),
        )  # fmt: skip

    def take(self, event: Event, place: Place, entry: Entry) -> None:
        """An event of a registry."""
        self._take_keys(event, place.index, entry.at)
        self._take_say(event, place.index, entry.at)
        self._take_delegation(event, place.index, entry)
        if isinstance(event, TokenMade) and entry.actor.id not in {event.identity, SYSTEM}:
            made = Made(place=place, at=entry.at, maker=entry.actor.id, identity=event.identity)
            self._made.append(made)

    def _take_say(self, event: Event, index: int, at: str) -> None:
        if isinstance(event, IdentityRecorded):
            found = event.identity
            who, operator, owners = found.id, found.active and "operator" in found.roles, found.owners
        elif isinstance(event, IdentityDeactivated):
            who, operator, owners = event.identity, False, ()
        else:
            return
        if operator or owners or who in self._says:
            say = Say(index=index, at=at, operator=operator, owners=owners)
            self._says.setdefault(who, []).append(say)

    def _take_keys(self, event: Event, index: int, at: str) -> None:
        if isinstance(event, IdentityRecorded):
            who, keys = event.identity.id, event.identity.signing_keys
            if event.identity.aliases:
                self._aliases.setdefault(who, set()).update(event.identity.aliases)
        elif isinstance(event, IdentityDeactivated):
            who, keys = event.identity, ()
        else:
            return
        if keys or who in self._keys:
            self._keys.setdefault(who, []).append(Keys(index=index, at=at, keys=keys))

    def _take_delegation(self, event: Event, index: int, entry: Entry) -> None:
        if isinstance(event, DelegationGiven):
            name, given = event.delegation.id, event.delegation
        elif isinstance(event, DelegationEnded):
            name, given = event.delegation, None
        else:
            return
        handed = Handed(index=index, at=entry.at, actor=entry.actor.id, given=given)
        self._handed.setdefault(name, []).append(handed)

    def take_decision(
        self, t: Ticket, event: ApprovalRecorded | CounterOffered, entry: Entry, place: Place
    ) -> None:
        """What a decision rests on that other streams hold; it is looked at in `faults`."""
        holder = event.approver
        if event.on_behalf:
            holder = event.on_behalf.by
            self._borrowed.append(Borrowed(place=place, at=entry.at, delegation=event.on_behalf))
        approvers = next(s.approvers for s in t.stages if s.name == event.stage)
        if outside(approvers, event, holder):
            self._unnamed.append(Unnamed(place=place, who=holder, approvers=approvers))

    def take_signature(self, t: Ticket, event: Event, entry: Entry, place: Place) -> str | None:
        """The approver's own, over exactly this approval in this log; the key is looked at in `faults`."""
        if not isinstance(event, ApprovalRecorded) or event.signature is None:
            return None
        try:
            found = parse(event.signature)
            if found.namespace != NAMESPACE:
                return f"the signature of {event.approver} is for {found.namespace!r:.60}, not for approvals"
            found.verify(approval_statement(entry.log, t, event.approver, event.digest))
        except LedgerFault as fault:
            return f"the signature of {event.approver} does not verify: {fault.message}"
        self._signed.append(Signed(place=place, at=entry.at, who=event.approver, key=found.key_line))
        return None


def faults(parts: Iterable[Rests]) -> Iterator[Place]:
    """Decisions that rest on what no registry holds: keys, delegations, names; and tokens that nobody might make."""
    parts = list(parts)
    keys = together(part.keys for part in parts)
    handed = together(part.handed for part in parts)
    aliases = together(part.aliases for part in parts)
    says = together(part.says for part in parts)
    for part in parts:
        for made in part.made:
            names = {made.maker, *aliases.get(made.maker, ())}
            if made.identity not in names and not _had_say(made, names, says):
                yield _at(made.place, f"{made.maker} made it, and had no say over tokens of {made.identity}")
        for each in part.signed:
            had = believed(each.place.index, each.at, keys.get(each.who, []))
            if not any(each.key in known.keys for known in had):
                fault = f"it is signed with {fingerprint(each.key)}, which was no key of {each.who} on record"
                yield _at(each.place, fault)
        for lent in part.borrowed:
            if unlent := _lent(lent, handed.get(lent.delegation.id, [])):
                yield _at(lent.place, unlent)
        for decided in part.unnamed:
            if set(decided.approvers).isdisjoint(aliases.get(decided.who, ())):
                fault = f"{decided.who} is none of those whom the stage asks, under no name on record"
                yield _at(decided.place, fault)


def together(parts: Iterable[dict[str, tuple[T, ...]]]) -> dict[str, list[T]]:
    """What each part has under a name."""
    found: dict[str, list[T]] = {}
    for part in parts:
        for name, each in part.items():
            found.setdefault(name, []).extend(each)
    return found


def _at(place: Place, fault: str) -> Place:
    return msgspec.structs.replace(place, fault=fault)


def _lent(borrowed: Borrowed, known: list[Handed]) -> str | None:
    """Whether just this delegation was given by whose authority it is, before the decision, and not ended by then."""
    wanted = borrowed.delegation
    before = [each for each in known if each.index < borrowed.place.index]
    if not any(each.given == wanted and each.actor == wanted.by for each in before):
        return f"it rests on the delegation {wanted.id:.60}, which {wanted.by} did not give before"
    ends = [parse_instant(each.at) for each in before if each.given is None]
    if ends and parse_instant(borrowed.at) > min(ends) + HEARD_AFTER:
        return f"it rests on the delegation {wanted.id:.60}, which was ended by then"
    return None


def _had_say(made: Made, names: set[str], says: dict[str, list[Say]]) -> bool:
    """Whether the maker was an operator on record, or answered for whose token it is, and did not cease to by then."""
    return any(
        each.operator for each in believed(made.place.index, made.at, says.get(made.maker, []))
    ) or any(
        not names.isdisjoint(each.owners)
        for each in believed(made.place.index, made.at, says.get(made.identity, []))
    )


def believed(index: int, at: str, known: Iterable[R]) -> Iterator[R]:
    """What was on record at a place in the log: the last, and what another node may not have heard the end of yet."""
    before: list[R] = sorted((each for each in known if each.index < index), key=lambda each: each.index)
    for each, following in pairwise((*before, None)):
        heard = following is None or parse_instant(at) <= parse_instant(following.at) + HEARD_AFTER
        if each is not None and heard:
            yield each
