"""What giving and taking back have in common: one pass of one worker over tickets on one target."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec

from muniment.core import commands as c
from muniment.core.errors import LeaseLost, MunimentError, StoreUnavailable
from muniment.core.scope import Scope, excess, scope
from muniment.core.ticket import Ticket
from muniment.ports import Append, Appended, Claim, Credential, Lease, Order, Stream, Target
from muniment.service.desk import Desk

#: a pass that takes longer has lost its leases; every call to a target is bounded well below
LEASE_SECONDS = 60


class Work(msgspec.Struct, kw_only=True):
    """One ticket in the hands of a pass."""

    stream: Stream
    ticket: Ticket
    lease: Lease | None = None
    more: Scope = ()  # seen to be held because of it, beyond what was approved, and not on record, or not in full
    unsaid: tuple[c.Command, ...] = ()  # what was seen and could not be recorded yet

    @property
    def account(self) -> str:
        """The account it is about."""
        return self.ticket.terms.account


class Progress(msgspec.Struct, kw_only=True):
    """What a pass did: tickets it moved on, and those to try again, with the reason."""

    moved: list[Ticket]
    again: dict[str, MunimentError]


def load(desk: Desk, tickets: Collection[str], target: str) -> list[Work]:
    """Read tickets of one target, from their entries."""
    return [
        Work(stream=stream, ticket=ticket)
        for stream, ticket in desk.store.read_many(tickets).values()
        if ticket.terms.target == target
    ]


def account_key(target: str, account: str) -> str:
    """Work on one account of one target is done by one worker at a time, whatever it is for (I19, I21)."""
    return f"{target}/{account}"


def lease_key(ticket: Ticket) -> str:
    """`account_key` of a ticket's account."""
    return account_key(ticket.terms.target, ticket.terms.account)


def claim_for(ticket: Ticket, holder: str) -> Claim:
    """The wish for that account."""
    return Claim(key=lease_key(ticket), holder=holder, seconds=LEASE_SECONDS)


def claim_all(
    desk: Desk, works: Sequence[Work], holder: str, progress: Progress, *, unleased: bool = False
) -> list[Work]:
    """Lease the accounts of tickets whose intent is on file; return the works that are ours, read again.

    Reading again matters: between the first look and the lease, another worker may have brought a ticket to its end,
    and giving or taking on its behalf would act without authority. Accounts in other hands are tried again later.

    With ``unleased``, a store that can be read and not written is no hindrance: accounts that nobody has leased are
    returned without a lease, and `undisputed` says the last word before the target changes (I28).
    """
    claims = {lease_key(w.ticket): claim_for(w.ticket, holder) for w in works}
    leases: dict[str, Lease] = {}
    try:
        leases = desk.store.claim(list(claims.values()))
        others = claims.keys() - leases.keys()
    except StoreUnavailable:
        if not unleased:
            raise
        others = desk.store.leased(claims.keys())
    current = desk.store.read_many([w.ticket.id for w in works])
    mine = []
    for work in works:
        work.lease = leases.get(lease_key(work.ticket))
        if lease_key(work.ticket) in others:
            progress.again[work.ticket.id] = LeaseLost(f"another worker holds {lease_key(work.ticket)}")
            continue
        status = work.ticket.status
        work.stream, work.ticket = current[work.ticket.id]
        if work.ticket.status == status:
            mine.append(work)
    return mine


def settle(desk: Desk, works: Sequence[Work], appends: Sequence[Append], progress: Progress) -> list[Work]:
    """Append for each work; keep those that were recorded, up to date. Others were changed by somebody else."""
    recorded = []
    results = desk.store.append_many(appends)
    for work, append, result in zip(works, appends, results, strict=True):
        if not isinstance(result, Appended):
            progress.again[work.ticket.id] = result
            continue
        work.stream, work.ticket = result.stream, append.ticket or work.ticket
        work.lease = None if append.release else result.lease or work.lease
        progress.again.pop(work.ticket.id, None)
        recorded.append(work)
        if append.events:
            progress.moved.append(work.ticket)
            desk.tell(work.ticket, append.events)
    return recorded


def let_go(desk: Desk, works: Iterable[Work]) -> None:
    """Release what is still leased. A store that cannot write keeps a lease until it runs out, and no longer."""
    leased = [w for w in works if w.lease]
    with suppress(StoreUnavailable):
        desk.store.release([w.lease for w in leased if w.lease])
    for work in leased:
        work.lease = None


def confirmation(desk: Desk, works: Sequence[Work]) -> Callable[[], None]:
    """What a connector calls right before it changes the target: ask the store whether our leases still hold (I19)."""
    leases = [w.lease for w in works if w.lease]

    def confirm() -> None:
        if not desk.store.confirm(leases):
            raise LeaseLost("another worker took this work over", remedy="Nothing to do: it carries on.")

    return confirm


def order_for(ticket: Ticket, wanted: Scope) -> Order:
    """A connector's order for part of a ticket's scope."""
    if ticket.expiry is None:
        raise ValueError(f"{ticket.id} has no end, and nothing is given without one")  # I12: never reached
    return Order(
        ticket=ticket.id, account=ticket.terms.account, scope=wanted, expires_at=ticket.expiry,
        public_key=ticket.terms.public_key, handle=ticket.handle,
    )  # fmt: skip


def sharing(desk: Desk, target: Target, accounts: Collection[str]) -> Mapping[tuple[str, str], list[Ticket]]:
    """Live tickets that may give the same thing as others on these accounts; none where each ticket gives its own (I21)."""
    if target.connector.capabilities.separate:
        return {}
    return desk.store.sharing({(target.id, account) for account in accounts})


def others_on(sharing: Mapping[tuple[str, str], list[Ticket]], ticket: Ticket) -> list[Ticket]:
    """Other tickets that hold, or may hold, something on the same account."""
    return [
        other
        for other in sharing.get((ticket.terms.target, ticket.terms.account), [])
        if other.id != ticket.id
    ]


def ours(ticket: Ticket, held: Scope, others: Scope) -> Scope:
    """What the account holds because of this ticket: neither from before nor by another ticket."""
    before = excess(ticket.approved, ticket.held)
    return scope(p for p in held if p in ticket.approved or (p not in before and p not in others))


def over(ticket: Ticket, now: datetime) -> bool:
    """Whether its time has run out: at the instant of expiry it has."""
    return ticket.expiry is not None and now >= ticket.expiry


def record(desk: Desk, work: Work, *commands: c.Command, credential: Credential | None = None) -> Append:
    """Controllers' commands on a work's ticket, fenced by its lease, which is then given back."""
    facts = desk.facts(work.ticket, None)
    return desk.appending(work.ticket, commands, facts, work.stream, fence=work.lease, credential=credential)
