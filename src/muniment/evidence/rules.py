"""V4, the rules of the domain, over any part of a ledger that holds whole streams.

Fed with entries in the order of the log. Each ticket is folded as the program folds it, and each event is judged
first (`judging`). Policy sets are put together from their recorded parts, and a decision may only rest on one that
was adopted before it.

A pass over the log may be split: every stream whole, to any one of several `TicketRules`; `combine` puts together what
they found. Memory holds the tickets that have not ended. The first fault, by place in the log, is reported.

Left to other levels: that entries are canonical and their chain is whole (V3), and that `at` is true (V5).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise

import msgspec

from muniment.core.delegation import Delegation
from muniment.core.errors import MunimentError
from muniment.core.events import (
    KINDS,
    LEDGER_EVENTS,
    REGISTRY_EVENTS,
    TICKET_EVENTS,
    ApprovalRecorded,
    CounterOffered,
    DelegationEnded,
    DelegationGiven,
    Event,
    IdentityDeactivated,
    IdentityRecorded,
    ProvisioningStarted,
    RequestApproved,
    decode_data,
)
from muniment.core.instants import parse_instant
from muniment.core.statement import NAMESPACE, approval_statement
from muniment.core.ticket import Recorded, Ticket, evolve
from muniment.evidence.answers import outside
from muniment.evidence.judging import judge
from muniment.evidence.policy_sets import PolicySets
from muniment.ledger.entry import Entry
from muniment.ledger.errors import LedgerFault
from muniment.ledger.sshsig import fingerprint, parse
from muniment.ledger.verify import Level

#: how the streams begin that hold tickets
TICKET = "req_"
#: the stream of policy sets
POLICY = "policy"
#: the stream of the ledger's own keys
KEYS = "keys"
#: which account of the identity provider is whose
LOGINS = "logins"
#: how the streams begin that say what was erased of a ticket, whose id follows
ERASURE = "erasure:"

#: how long after a key was withdrawn a node may still take it: as long as a leaver's access may last (I22)
HEARD_AFTER = timedelta(seconds=60)

_TICKET_KINDS = frozenset(event.kind for event in TICKET_EVENTS)
_REGISTRY = {
    "identity-": "identity:",
    "target-": "target:",
    "delegation-": "delegation:",
    "policy-": POLICY,
    "change-": POLICY,
    "settings-": POLICY,
    "text-": ERASURE,
    "key-": KEYS,
    "login-": LOGINS,
}
_REGISTRY_KINDS = {
    event.kind: home
    for event in (*REGISTRY_EVENTS, *LEDGER_EVENTS)
    for start, home in _REGISTRY.items()
    if event.kind.startswith(start)
}


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


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one `TicketRules` found; plain data, to be sent from one process to another."""

    checked: int  # entries judged, the faulty one included
    fault: Place | None
    adopted: dict[str, int]  # policy sets: digest, and the index of the entry that put it in force first
    cited: dict[str, Place]  # policy sets that decisions rest on: digest, and the first such decision
    open: int  # tickets that have not ended
    keys: dict[str, tuple[Keys, ...]] = {}  # of everybody who ever had one
    signed: tuple[Signed, ...] = ()
    aliases: dict[str, tuple[str, ...]] = {}  # of everybody who ever had one
    handed: dict[str, tuple[Handed, ...]] = {}  # delegations, by their id
    borrowed: tuple[Borrowed, ...] = ()
    unnamed: tuple[Unnamed, ...] = ()


class TicketRules:
    """V4 over the streams it is fed. A plain class: make one in each process."""

    def __init__(self, *, witnessed: Iterable[int] | None = None) -> None:
        """Begin with nothing on file.

        Args:
            witnessed: sizes of the checkpoints that a quorum of witnesses is known to have cosigned, for tickets whose
                policy demands that they have seen the approvals first. None: this is not judged.
        """
        self._witnessed = None if witnessed is None else sorted(witnessed)
        self._authorised: dict[str, int] = {}  # tickets that must be witnessed: where their approval stands
        self._tickets: dict[str, Ticket] = {}
        self._policy = PolicySets()
        self._cited: dict[str, Place] = {}
        self._keys: dict[str, list[Keys]] = {}
        self._signed: list[Signed] = []
        self._aliases: dict[str, set[str]] = {}
        self._handed: dict[str, list[Handed]] = {}
        self._borrowed: list[Borrowed] = []
        self._unnamed: list[Unnamed] = []
        self._checked = 0
        self._fault: Place | None = None

    def feed(self, index: int, raw: bytes, entry: Entry) -> None:
        """Judge one entry. After the first fault nothing more is looked at.

        Args:
            index: place in the log.
            raw: the stored bytes; ``entry.data`` refers into them.
            entry: as `ledger.entry.decode_entry` reads them.
        """
        del raw
        if self._fault is not None:
            return
        self._checked += 1
        place = Place(index=index, ticket=entry.ticket, seq=entry.seq, kind=entry.type)
        try:
            fault = self._judge(place, entry)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            fault = f"its data are not such an event: {error}"
        except (MunimentError, ValueError, OverflowError) as error:  # an instant that does not exist
            fault = f"it cannot be judged: {error}"
        except (
            LookupError,
            TypeError,
            AttributeError,
        ) as error:  # entities are recorded as the engine saw them
            fault = f"what policy was asked has not the shape that it must have: {error}"
        if fault is not None:
            self._fault = msgspec.structs.replace(place, fault=fault)

    def found(self) -> Found:
        """What was found so far."""
        return Found(
            checked=self._checked, fault=self._fault, adopted=self._policy.adopted, cited=self._cited,
            open=len(self._tickets), keys={who: tuple(keys) for who, keys in self._keys.items()},
            signed=tuple(self._signed), aliases={who: tuple(sorted(names)) for who, names in self._aliases.items()},
            handed={each: tuple(events) for each, events in self._handed.items()},
            borrowed=tuple(self._borrowed), unnamed=tuple(self._unnamed),
        )  # fmt: skip

    def result(self) -> Level:
        """The level, if everything was fed to this one."""
        return combine([self.found()])

    def ticket(self, ticket: str) -> Ticket | None:
        """The fold of a ticket that has not ended; None if it has, or was never begun."""
        return self._tickets.get(ticket)

    def _judge(self, place: Place, entry: Entry) -> str | None:
        if misplaced := _misplaced(entry):
            return misplaced
        if entry.type not in _TICKET_KINDS:  # kinds not known are no ticket's
            if entry.type not in KINDS:
                return None
            event = decode_data(entry.type, entry.data)
            self._take_keys(event, place.index, entry.at)
            self._take_delegation(event, place.index, entry)
            return self._policy.take(event, place.index, entry.actor.id)
        return self._judge_ticket(place, entry, decode_data(entry.type, entry.data))

    def _judge_ticket(self, place: Place, entry: Entry, event: Event) -> str | None:
        before = self._tickets.get(entry.ticket)
        recorded = Recorded(
            seq=entry.seq, at=entry.at, actor=entry.actor.id, via=entry.actor.via, event=event
        )
        if before is not None and entry.seq != before.version:
            return f"seq {before.version} was to come"
        if fault := judge(before, recorded, entry.ticket):
            return fault
        if self._witnessed is not None and (
            fault := self._unwitnessed(before, event, place, self._witnessed)
        ):
            return fault
        if before is not None and (fault := self._signature(before, event, entry, place)):
            return fault
        if before is not None and isinstance(event, ApprovalRecorded | CounterOffered):
            self._take_decision(before, event, entry, place)
        if policies := getattr(event, "policies", None):
            self._cited.setdefault(policies, place)
        after = evolve(before, recorded, entry.ticket)
        if after.ended:
            self._tickets.pop(entry.ticket, None)
            self._authorised.pop(entry.ticket, None)
        else:
            self._tickets[entry.ticket] = after
        return None

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

    def _take_decision(
        self, t: Ticket, event: ApprovalRecorded | CounterOffered, entry: Entry, place: Place
    ) -> None:
        """What a decision rests on that other streams hold; it is looked at in `combine`."""
        holder = event.approver
        if event.on_behalf:
            holder = event.on_behalf.by
            self._borrowed.append(Borrowed(place=place, at=entry.at, delegation=event.on_behalf))
        approvers = next(s.approvers for s in t.stages if s.name == event.stage)
        if outside(approvers, event, holder):
            self._unnamed.append(Unnamed(place=place, who=holder, approvers=approvers))

    def _signature(self, t: Ticket, event: Event, entry: Entry, place: Place) -> str | None:
        """The approver's own, over exactly this approval in this log; the key is looked at in `combine`."""
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

    def _unwitnessed(
        self, before: Ticket | None, event: Event, place: Place, witnessed: list[int]
    ) -> str | None:
        """Where policy demands it, a witnessed checkpoint lies between approval and provisioning.

        By places in the log alone, whatever any clock says: it covers the approval, and not yet what followed.
        """
        if before is None or before.obligations is None or before.obligations.witnessed is not True:
            return None
        if isinstance(event, RequestApproved):
            self._authorised[before.id] = place.index
        elif isinstance(event, ProvisioningStarted):
            known = bisect_right(witnessed, place.index)
            if not known or witnessed[known - 1] <= self._authorised.get(before.id, place.index):
                return "it begins before witnesses are known to have seen the approvals, as policy demands"
        return None


def combine(parts: Iterable[Found]) -> Level:
    """The level, from what was found in each part of the log."""
    parts = list(parts)
    adopted: dict[str, int] = {}
    cited: dict[str, Place] = {}
    for part in parts:
        for digest, index in part.adopted.items():
            adopted[digest] = min(index, adopted.get(digest, index))
        for digest, place in part.cited.items():
            known = cited.get(digest)
            cited[digest] = place if known is None or place.index < known.index else known
    faults = [part.fault for part in parts if part.fault is not None]
    for digest, place in cited.items():
        if digest not in adopted or adopted[digest] > place.index:
            fault = f"it rests on the policy set {digest:.80}, which was not adopted before"
            faults.append(msgspec.structs.replace(place, fault=fault))
    keys: dict[str, list[Keys]] = {}
    for part in parts:
        for who, recorded in part.keys.items():
            keys.setdefault(who, []).extend(recorded)
    for each in (signed for part in parts for signed in part.signed):
        if not _had(each, sorted(keys.get(each.who, []), key=lambda known: known.index)):
            fault = f"it is signed with {fingerprint(each.key)}, which was no key of {each.who} on record"
            faults.append(msgspec.structs.replace(each.place, fault=fault))
    faults += _unauthorised(parts)
    first = min(faults, key=lambda place: place.index, default=None)
    return Level(
        ok=first is None,
        checked=sum(part.checked for part in parts),
        first_fault=first.sentence() if first else None,
    )


def _unauthorised(parts: list[Found]) -> list[Place]:
    """Decisions under delegations that were not in force, and by people whom their stage does not name."""
    handed: dict[str, list[Handed]] = {}
    aliases: dict[str, set[str]] = {}
    for part in parts:
        for name, events in part.handed.items():
            handed.setdefault(name, []).extend(events)
        for who, names in part.aliases.items():
            aliases.setdefault(who, set()).update(names)
    found = [
        (each.place, _lent(each, handed.get(each.delegation.id, [])))
        for part in parts
        for each in part.borrowed
    ]
    found += [
        (each.place, f"{each.who} is none of those whom the stage asks, under no name on record")
        for part in parts
        for each in part.unnamed
        if aliases.get(each.who, set()).isdisjoint(each.approvers)
    ]
    return [msgspec.structs.replace(place, fault=fault) for place, fault in found if fault]


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


def _had(signed: Signed, known: list[Keys]) -> bool:
    """Whether the key was on record as the approver's, before the approval and not withdrawn by then."""
    before = [each for each in known if each.index < signed.place.index]
    for each, following in pairwise((*before, None)):
        if each is None or signed.key not in each.keys:
            continue
        if following is None:
            return True
        # another node may not have heard of the change yet
        if parse_instant(signed.at) <= parse_instant(following.at) + HEARD_AFTER:
            return True
    return False


def _misplaced(entry: Entry) -> str | None:
    """A ticket's events are in tickets, and each registry's in its own streams."""
    home = _REGISTRY_KINDS.get(entry.type)
    mine = entry.ticket.startswith(TICKET)
    if home is not None and not (entry.ticket == home or (home[-1] == ":" and entry.ticket.startswith(home))):
        return f"it belongs to a stream {home}, not here"
    if entry.type in _TICKET_KINDS and not mine:
        return f"it is a ticket's event, and this is no ticket: its id does not begin with {TICKET}"
    if mine and entry.type not in _TICKET_KINDS:
        return "this program does not know such an event of a ticket: a newer one must judge it"
    return None
