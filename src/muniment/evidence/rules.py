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

import msgspec

from muniment.core.errors import MunimentError
from muniment.core.events import (
    KINDS,
    LEDGER_EVENTS,
    REGISTRY_EVENTS,
    TICKET_EVENTS,
    ApprovalRecorded,
    CounterOffered,
    Event,
    ProvisioningStarted,
    RequestApproved,
    decode_data,
)
from muniment.core.ticket import Recorded, Ticket, evolve
from muniment.evidence.campaigns import Campaigns
from muniment.evidence.judging import judge
from muniment.evidence.lifting import LIFT, Lifted, Lifts
from muniment.evidence.lifting import faults as unlifted
from muniment.evidence.policy_sets import PolicySets
from muniment.evidence.reconciling import Reconciliations
from muniment.evidence.registries import Place, Registries, Rests, together
from muniment.evidence.registries import faults as unfounded
from muniment.evidence.tokens import TOKEN, Tokens
from muniment.ledger.entry import Entry
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

_TICKET_KINDS = frozenset(event.kind for event in TICKET_EVENTS)
_REGISTRY = {
    "identity-": "identity:",
    "target-": "target:",
    "inventory-": "inventory:",
    "reconciliation-": "reconciliation:",
    "drift-": "drift:",
    "campaign-": "campaign:",
    "usage-": "usage:",
    "late-use-": "use:",
    "signal-": "signal:",
    "delegation-": "delegation:",
    "policy-": POLICY,
    "change-": POLICY,
    "settings-": POLICY,
    "text-": ERASURE,
    "key-": KEYS,
    "login-": LOGINS,
    "token-": TOKEN,
    "lift-": LIFT,
}
_REGISTRY_KINDS = {
    event.kind: home
    for event in (*REGISTRY_EVENTS, *LEDGER_EVENTS)
    for start, home in _REGISTRY.items()
    if event.kind.startswith(start)
}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one `TicketRules` found; plain data, to be sent from one process to another."""

    checked: int  # entries judged, the faulty one included
    fault: Place | None
    adopted: dict[str, int]  # policy sets: digest, and the index of the entry that put it in force first
    cited: dict[str, Place]  # policy sets that decisions rest on: digest, and the first such decision
    open: int  # tickets that have not ended
    rests: Rests = Rests()  # on what other streams hold
    lifted: Lifted = Lifted()  # disablements that people lifted


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
        self._registries = Registries()
        self._reconciliations = Reconciliations()
        self._campaigns = Campaigns()
        self._tokens = Tokens()
        self._lifts = Lifts()
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
            open=len(self._tickets), rests=self._registries.seen(), lifted=self._lifts.seen(),
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
            kept = (self._tokens, self._reconciliations, self._campaigns)
            fault = next(filter(None, (each.take(event, entry) for each in kept)), None)
            if fault := fault or self._lifts.take(event, place, entry):
                return fault
            self._registries.take(event, place, entry)
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
        if before is not None and (fault := self._registries.take_signature(before, event, entry, place)):
            return fault
        if before is not None and isinstance(event, ApprovalRecorded | CounterOffered):
            self._registries.take_decision(before, event, entry, place)
        if policies := getattr(event, "policies", None):
            self._cited.setdefault(policies, place)
        after = evolve(before, recorded, entry.ticket)
        if after.ended:
            self._tickets.pop(entry.ticket, None)
            self._authorised.pop(entry.ticket, None)
        else:
            self._tickets[entry.ticket] = after
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
    faults += unfounded(part.rests for part in parts)
    faults += unlifted([part.lifted for part in parts], together(part.rests.says for part in parts))
    first = min(faults, key=lambda place: place.index, default=None)
    return Level(
        ok=first is None,
        checked=sum(part.checked for part in parts),
        first_fault=first.sentence() if first else None,
    )


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
