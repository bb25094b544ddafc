"""Make a target no longer hold what a ticket gave, and see that it is gone (I14, I15, I17, I21).

One pass over a batch of tickets on one target, in two steps that may run in different threads, so that recording
what is over does not delay what is due next:

1. `end_access`: lease the accounts, and ask the target to remove what only these tickets gave, and to end the
   sessions. A grant's expiry was ordered when it was given: its end is on record since before it began, and needs
   no further word. Removing twice is harmless, so a crash, or no answer, is followed by asking again.
2. `record_end`: read back, and record. Only what the target no longer shows is gone; a target that cannot be read
   has proved nothing. A crash before the record leaves the ticket due.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from muniment.core import commands as c
from muniment.core.errors import LeaseLost, MunimentError
from muniment.core.events import Kept
from muniment.core.scope import Privilege, Scope, excess, scope
from muniment.core.ticket import Ticket
from muniment.ports import Append, Lease, Observation, Order, Outcome
from muniment.service import fulfilment as f
from muniment.service.desk import Desk


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What was found ahead of a ticket's end, under a lease that is still ours."""

    lease: Lease
    kept: tuple[Kept, ...]


class Ended(msgspec.Struct, kw_only=True):
    """What a target was asked to take back, and what it answered; not yet read back."""

    target: str
    works: list[f.Work]
    kept: dict[str, tuple[Kept, ...]]
    outcomes: dict[str, Outcome]
    trouble: MunimentError | None
    progress: f.Progress


def take_back(desk: Desk, target_id: str, tickets: Collection[str], holder: str) -> f.Progress:
    """One whole pass. Tickets that are not seen gone are in ``again``; nothing ever gives up on them."""
    return record_end(desk, [end_access(desk, target_id, tickets, holder)])


def prepare_end(
    desk: Desk, target_id: str, tickets: Collection[str], holder: str, when: datetime
) -> dict[str, Ready]:
    """Do ahead of time what need not wait for the end: lease the accounts, and see what must stay.

    While the lease is held nothing new is given to these accounts, so what is found now still holds ``when`` the
    tickets end, a moment later. Tickets whose account is in other hands are left out.
    """
    works = [w for w in f.load(desk, tickets, target_id) if _is_over(w.ticket, when)]
    if not works:
        return {}
    mine = f.claim_all(desk, works, holder, f.Progress(moved=[], again={}))
    sharing = desk.store.sharing({(target_id, w.account) for w in mine})
    f.let_go(desk, [w for w in works if w not in mine])
    return {
        # each as of its own end: another ticket that ends a little later keeps until then what both give (I21)
        w.ticket.id: Ready(
            lease=w.lease, kept=_kept(w.ticket, f.others_on(sharing, w.ticket), _end(w.ticket, when))
        )
        for w in mine
        if w.lease
    }


def end_access(
    desk: Desk,
    target_id: str,
    tickets: Collection[str],
    holder: str,
    ready: Mapping[str, Ready] | None = None,
) -> Ended:
    """Step 1. The leases, those that were taken ahead among them, stay with what is returned."""
    ready = ready or {}
    progress = f.Progress(moved=[], again={})
    target = desk.target(target_id)
    ended = Ended(target=target_id, works=[], kept={}, outcomes={}, trouble=None, progress=progress)
    works = f.load(desk, tickets, target_id)
    try:
        for work in works:
            work.lease = ready[work.ticket.id].lease if work.ticket.id in ready else None
        now = desk.clock.now()
        due = [w for w in works if _is_over(w.ticket, now)]
        unready = [w for w in due if w.lease is None]
        fresh: list[f.Work] = []
        try:
            fresh = f.claim_all(desk, unready, holder, progress) if unready else []
        except MunimentError as error:  # no leases to be had: those that were leased ahead go on all the same
            progress.again |= {w.ticket.id: error for w in unready}
        ended.works = [w for w in due if w not in unready] + fresh
        f.let_go(desk, [w for w in works if w not in ended.works])
        sharing = desk.store.sharing({(target_id, w.account) for w in fresh})
        for work in ended.works:
            ahead = ready.get(work.ticket.id)
            others = f.others_on(sharing, work.ticket)
            ended.kept[work.ticket.id] = ahead.kept if ahead else _kept(work.ticket, others, now)
        if orders := _orders(ended.works, ended.kept):
            answers = target.connector.revoke(orders, f.confirmation(desk, ended.works))
            ended.outcomes = {o.ticket: o for o in answers}
    except MunimentError as error:
        ended.trouble = error
    except BaseException:
        f.let_go(desk, works)
        raise
    return ended


def record_end(desk: Desk, batch: Sequence[Ended]) -> f.Progress:
    """Step 2, for several first steps on one target."""
    progress = f.Progress(moved=[], again={t: e for ended in batch for t, e in ended.progress.again.items()})
    works = [w for ended in batch for w in ended.works]
    if not works:
        return progress
    try:
        observation, unread = None, None
        try:
            observation = desk.target(batch[0].target).connector.observe({w.account for w in works})
        except MunimentError as error:
            unread = error
        failed: dict[str, MunimentError] = {}
        seen_now: list[f.Work] = []
        appends: list[Append] = []
        for ended in batch:
            if isinstance(
                ended.trouble, LeaseLost
            ):  # nothing was done, and what is seen is another's to record
                failed |= {w.ticket.id: ended.trouble for w in ended.works}
                continue
            for work in ended.works:
                seen = _seen(work.ticket, ended, observation, ended.trouble or unread)
                if isinstance(seen, c.FailRevocation):
                    failed[work.ticket.id] = (
                        ended.trouble or unread or MunimentError(seen.message, code=seen.code)
                    )
                before = () if work.ticket.status == "revoking" else (c.End(cause="expired"),)
                seen_now.append(work)
                appends.append(f.record(desk, work, *before, seen))
        f.settle(desk, seen_now, appends, progress)
        progress.again |= failed
    finally:
        f.let_go(desk, works)
    return progress


def _is_over(ticket: Ticket, now: datetime) -> bool:
    """Whether its end is ordered, or its time has run out."""
    return ticket.status == "revoking" or (
        ticket.status in {"provisioning", "active"} and f.over(ticket, now)
    )


def _end(ticket: Ticket, latest: datetime) -> datetime:
    return min(latest, ticket.expiry or latest)


def _kept(ticket: Ticket, others: Sequence[Ticket], now: datetime) -> tuple[Kept, ...]:
    """Privileges that stay, because another ticket gives them to the same account and is not over itself."""
    keeping = [o for o in others if not _is_over(o, now)]
    return tuple(
        Kept(privilege=privilege, ticket=other.id)
        for privilege in _given(ticket)
        if (other := next((o for o in keeping if privilege in o.approved), None))
    )


def _given(ticket: Ticket) -> Scope:
    """Everything this ticket gave: what was approved, and whatever more the target was seen to give."""
    return scope((*ticket.approved, *excess(ticket.held, ticket.granted or ())))


def _orders(works: list[f.Work], kept: dict[str, tuple[Kept, ...]]) -> list[Order]:
    """One order a ticket; a privilege that two tickets lose at once is in the first one's order only."""
    taken: set[tuple[str, str]] = set()
    orders = []
    for work in works:
        staying = {k.privilege for k in kept[work.ticket.id]}
        losing = [p for p in _given(work.ticket) if p not in staying and (work.account, str(p)) not in taken]
        taken |= {(work.account, str(p)) for p in losing}
        if losing:
            orders.append(f.order_for(work.ticket, scope(losing)))
    return orders


def _seen(
    ticket: Ticket, ended: Ended, observation: Observation | None, trouble: MunimentError | None
) -> c.RecordRevocation | c.FailRevocation:
    if trouble is not None or observation is None:
        error = trouble or MunimentError("the target could not be read", code="target.unavailable")
        return c.FailRevocation(code=error.code, message=error.message)
    outcome, kept = ended.outcomes.get(ticket.id), ended.kept[ticket.id]
    if outcome is not None and outcome.result != "done":
        return c.FailRevocation(code=outcome.code or "target.rejected", message=outcome.message)
    staying = {k.privilege for k in kept}
    still = [p for p in _given(ticket) if p not in staying and p in observation.of(ticket.terms.account)]
    if still:
        return c.FailRevocation(code="target.still-held", message=_still(ticket, still, observation))
    if not observation.complete:
        return c.FailRevocation(code="target.unreadable", message="the target could not be read completely")
    return c.RecordRevocation(kept=kept, sessions_ended=outcome.sessions_ended if outcome else 0)


def _still(ticket: Ticket, still: list[Privilege], observation: Observation) -> str:
    account = ticket.terms.account
    givers = {
        h.grantor
        for h in observation.holdings
        if h.account == account and h.what in still and h.grantor is not None
    }
    by = f", given by {', '.join(sorted(givers))}" if givers else ""
    return f"{account} still holds {', '.join(map(str, still))}{by}"
