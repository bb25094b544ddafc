"""Make a target no longer hold what a ticket gave, and see that it is gone (I14, I15, I17, I21).

One pass over a batch of tickets on one target, in two steps that may run in different threads, so that recording
what is over does not delay what is due next:

1. `end_access`: lease the accounts, and ask the target to remove what only these tickets gave, and to end the
   sessions. A grant's expiry was ordered when it was given: its end is on record since before it began, and needs
   no further word. Removing twice is harmless, so a crash, or no answer, is followed by asking again. What nobody
   could read back so far is read first, since the target may have given more than was approved. An extension that
   was given a moment ahead is ended together with what it extends, if that ended early.
2. `record_end`: read back, and record. Only what the target no longer shows is gone; a target that cannot be read
   has proved nothing. A crash before the record leaves the ticket due.

A store that can be read and not written gives no leases, and does not hold up an end (I28): what is over goes, if
nobody else is at work on the account and no ticket gives the same. It is recorded when the store can write again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from muniment.core import commands as c
from muniment.core.errors import Conflict, LeaseLost, MunimentError, TargetUnavailable
from muniment.core.events import Kept
from muniment.core.extending import falls_with
from muniment.core.scope import Privilege, Scope, excess, scope
from muniment.core.ticket import Ticket
from muniment.ports import Append, Lease, Observation, Order, Outcome, Stream, Target
from muniment.service import fulfilment as f
from muniment.service.desk import Desk

#: looks at a clock that does not get to an end that was near
LOOKS = 100
#: how long before an end the leases are looked at for the last time: as long as that takes
CONFIRM_SECONDS = 0.001


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What was found ahead of a ticket's end, under a lease that is still ours."""

    lease: Lease
    kept: tuple[Kept, ...]
    stream: Stream  # the ticket as it was read under the lease
    ticket: Ticket


class Ended(msgspec.Struct, kw_only=True):
    """What a target was asked to take back, and what it answered; not yet read back."""

    target: str
    progress: f.Progress
    works: list[f.Work] = []
    #: each by ticket: what stays, what the target answered, and what was in the way
    kept: dict[str, tuple[Kept, ...]] = {}
    outcomes: dict[str, Outcome] = {}
    trouble: dict[str, MunimentError] = {}


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
    sharing = f.sharing(desk, desk.target(target_id), {w.account for w in mine})
    f.let_go(desk, [w for w in works if w not in mine])
    return {
        # each as of its own end: another ticket that ends a little later keeps until then what both give (I21)
        w.ticket.id: Ready(
            lease=w.lease,
            kept=_kept(w.ticket, f.others_on(sharing, w.ticket), _end(w.ticket, when)),
            stream=w.stream,
            ticket=w.ticket,
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
    *,
    ahead: timedelta = timedelta(),
    asked: Callable[[], None] = lambda: None,
) -> Ended:
    """Step 1. The leases, those that were taken ahead among them, stay with what is returned.

    Args:
        desk: the adapters.
        target_id: the target of all of them.
        tickets: which.
        holder: of the leases that are still to be taken.
        ready: what `prepare_end` found.
        ahead: tickets that end so soon go along: by then they have the target's attention, and nothing is changed
            before all of them are over.
        asked: called when all is ready on the target, and only the end is waited for.
    """
    ready = ready or {}
    progress = f.Progress(moved=[], again={})
    target = desk.target(target_id)
    ended = Ended(target=target_id, progress=progress)
    works = _at_hand(desk, tickets, target_id, ready)
    try:
        now = desk.clock.now()
        due = [w for w in works if _is_over(w.ticket, now + ahead)]
        unready = [w for w in due if w.lease is None]
        fresh: list[f.Work] = []
        try:
            fresh = f.claim_all(desk, unready, holder, progress, unleased=True) if unready else []
        except (
            MunimentError
        ) as error:  # not even a look at the leases: those that are ours go on all the same
            progress.again |= {w.ticket.id: error for w in unready}
        ended.works = [w for w in due if w not in unready] + fresh
        f.let_go(desk, [w for w in works if w not in ended.works])
        # what was found ahead is as of its time: one that was ended earlier is looked at again
        anew = [w for w in ended.works if w.ticket.id not in ready or w.ticket.status == "revoking"]
        sharing = f.sharing(desk, target, {w.account for w in anew})
        for work in ended.works:
            found = ready.get(work.ticket.id) if work not in anew else None
            others = f.others_on(sharing, work.ticket)
            at = max(now, _end(work.ticket, now + ahead))
            ended.kept[work.ticket.id] = found.kept if found else _kept(work.ticket, others, at)
        _end_extensions(desk, ended)
        _look(desk, target, ended)
        _ask(desk, target, ended, asked)
        _await_end(desk, ended.works)  # of those, too, that had nothing to lose
    except MunimentError as error:
        ended.trouble |= {w.ticket.id: error for w in ended.works}
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
        now = desk.clock.now()
        failed: dict[str, MunimentError] = {}
        seen_now: list[f.Work] = []
        appends: list[Append] = []
        for ended in batch:
            for work in ended.works:
                trouble = ended.trouble.get(work.ticket.id) or unread
                if not _is_over(work.ticket, now):  # something went wrong while its end was awaited
                    trouble = LeaseLost(f"{work.ticket.id} is not over yet")
                if isinstance(
                    trouble, LeaseLost
                ):  # nothing was done, and what is seen is another's to record
                    failed[work.ticket.id] = trouble
                    continue
                seen = _seen(work, ended, observation, trouble)
                if isinstance(seen, c.FailRevocation):
                    failed[work.ticket.id] = trouble or MunimentError(seen.message, code=seen.code)
                ending = () if work.ticket.status == "revoking" else (c.End(cause="expired"),)
                seen_now.append(work)
                appends.append(f.record(desk, work, *(work.unsaid or ending), seen))
        f.settle(desk, seen_now, appends, progress)
        progress.again |= failed
    finally:
        f.let_go(desk, works)
    return progress


def _end_extensions(desk: Desk, ended: Ended) -> None:
    """Order the end of what carries tickets on that ended early. Their own passes take back what they gave.

    Until that is on record these tickets' end is not seen, so a crash leaves them due, and it is looked at again.
    """
    early = [w.ticket for w in ended.works if w.ticket.revocation and w.ticket.revocation.cause != "expired"]
    sharing = desk.store.sharing({(t.terms.target, t.terms.account) for t in early}) if early else {}
    for ticket in early:
        for other in f.others_on(sharing, ticket):
            if not falls_with(other, ticket):
                continue
            try:
                stream, now_is = desk.store.read(other.id)
                cause = now_is and falls_with(now_is, ticket)
                if now_is is None or not cause:
                    continue
                append = desk.appending(now_is, (c.End(cause=cause),), desk.facts(now_is, None), stream)
                desk.store.append(append)
            except MunimentError as error:
                ended.trouble[ticket.id] = error
            else:
                desk.tell(append.ticket or now_is, append.events)


def _look(desk: Desk, target: Target, ended: Ended) -> None:
    """Read grants that nobody has read back yet, or that are on record in part, so that all that was given goes (I16).

    More than was approved is put on record first: once it is gone, nobody sees it again.
    """
    unread = [w for w in ended.works if not w.ticket.read_back]
    if not unread:
        return
    try:
        seen = target.connector.observe({w.account for w in unread})
        if not seen.complete:
            raise TargetUnavailable(f"{target.id} could not be read completely", remedy="It is tried again.")
    except (
        MunimentError
    ) as error:  # what is known of goes all the same; what else there is, when it can be seen
        ended.trouble |= {w.ticket.id: error for w in unread}
        return
    sharing = f.sharing(desk, target, {w.account for w in unread})
    for work in unread:
        others = scope(p for o in f.others_on(sharing, work.ticket) for p in _given(o))
        granted = f.ours(work.ticket, seen.of(work.account, work.ticket.id), others)
        work.more = excess(work.ticket.approved, granted)
        if work.more and work.ticket.granted is None:
            work.unsaid = (c.RecordGrant(granted=granted),)
    news = [w for w in unread if w.unsaid]
    appends = [msgspec.structs.replace(f.record(desk, w, *w.unsaid), release=False) for w in news]
    for work in f.settle(desk, news, appends, ended.progress):
        work.unsaid = ()
    lost = [w for w in news if isinstance(ended.progress.again.get(w.ticket.id), Conflict | LeaseLost)]
    ended.works = [w for w in ended.works if w not in lost]
    f.let_go(desk, lost)


def _at_hand(
    desk: Desk, tickets: Collection[str], target_id: str, ready: Mapping[str, Ready]
) -> list[f.Work]:
    """The tickets; what was found ahead need not be read again.

    Under our lease nobody gives or takes on that account, and no end is ever put off. What else was said of a ticket
    since makes recording a `Conflict`, and it is read then; what was said here is known now.
    """
    ahead = []
    for ticket, found in ready.items():
        known = desk.store.recall(ticket)
        if ticket in tickets and (known is None or known[0] == found.stream):
            ahead.append(f.Work(stream=found.stream, ticket=found.ticket, lease=found.lease))
    read = {w.ticket.id for w in ahead}
    others = f.load(desk, [t for t in tickets if t not in read], target_id)
    for work in others:
        work.lease = ready[work.ticket.id].lease if work.ticket.id in ready else None
    return ahead + others


def _ask(desk: Desk, target: Target, ended: Ended, asked: Callable[[], None]) -> None:
    """Ask the target, once for what is leased and once for what is not."""
    orders = _orders(ended.works, ended.kept, separate=target.connector.capabilities.separate)
    leased = [w for w in ended.works if w.lease]
    unleased = [w for w in ended.works if not w.lease]
    for works, confirm in (
        (leased, f.confirmation(desk, leased)),
        (unleased, _undisputed(desk, target, unleased, ended.kept)),
    ):
        wanted = [o for o in orders if o.ticket in {w.ticket.id for w in works}]
        at_the_end = _at_the_end(desk, works, confirm, asked)
        try:
            answers = target.connector.revoke(wanted, at_the_end) if wanted else []
        except MunimentError as error:
            ended.trouble |= {w.ticket.id: error for w in works}
        else:
            ended.outcomes |= {o.ticket: o for o in answers}


def _at_the_end(
    desk: Desk, works: Sequence[f.Work], confirm: Callable[[], None], asked: Callable[[], None]
) -> Callable[[], None]:
    """`confirm`, and not before all of these are over: nobody loses a moment of what was approved."""

    def confirmed() -> None:
        asked()
        _await_end(desk, works, before=CONFIRM_SECONDS)
        confirm()  # whatever holds us up from here on, the target's fence is there for
        _await_end(desk, works)

    return confirmed


def _await_end(desk: Desk, works: Sequence[f.Work], *, before: float = 0) -> None:
    """Wait until all of these, which end within a moment, are over, or so many seconds before that.

    Raises `LeaseLost`: the clock does not get there.
    """
    now = desk.clock.now()
    ends = [w.ticket.expiry for w in works if w.ticket.expiry and not _is_over(w.ticket, now)]
    if not ends:
        return
    last = max(ends) - timedelta(seconds=before)
    for _ in range(LOOKS):
        time.sleep(max(0.0, (last - now).total_seconds()))
        now = desk.clock.now()
        if now >= last:
            return
    raise LeaseLost("these were to end by now, and the clock says that they have not")


def _undisputed(
    desk: Desk, target: Target, works: Sequence[f.Work], kept: Mapping[str, tuple[Kept, ...]]
) -> Callable[[], None]:
    """`fulfilment.confirmation` without leases: nobody is at work on these accounts, and nothing else must stay.

    Whoever begins after this look finds the target as we leave it: targets take changes of an account in turn.
    """

    def confirm() -> None:
        busy = desk.store.leased([f.lease_key(w.ticket) for w in works])
        sharing = f.sharing(desk, target, {w.account for w in works})
        now = desk.clock.now()
        for work in works:
            needed = _kept(work.ticket, f.others_on(sharing, work.ticket), now)
            new = {k.privilege for k in needed} - {k.privilege for k in kept[work.ticket.id]}
            if new or f.lease_key(work.ticket) in busy:
                raise LeaseLost(f"another worker holds {f.lease_key(work.ticket)}")

    return confirm


def _is_over(ticket: Ticket, now: datetime) -> bool:
    """Whether its end is ordered, or its time has run out."""
    return ticket.status == "revoking" or (
        ticket.status in {"provisioning", "active"} and f.over(ticket, now)
    )


def _end(ticket: Ticket, latest: datetime) -> datetime:
    return min(latest, ticket.expiry or latest)


def _kept(ticket: Ticket, others: Sequence[Ticket], now: datetime) -> tuple[Kept, ...]:
    """Privileges that stay, because another ticket gives them to the same account and is not over itself."""
    keeping = [o for o in others if not _is_over(o, now) and not falls_with(o, ticket)]
    return tuple(
        Kept(privilege=privilege, ticket=other.id)
        for privilege in _given(ticket)
        if (other := next((o for o in keeping if privilege in o.approved), None))
    )


def _given(ticket: Ticket) -> Scope:
    """Everything this ticket gave, as far as it is on record: what was approved, and more that was seen to be given."""
    return scope((*ticket.approved, *excess(ticket.held, ticket.granted or ())))


def _all_given(work: f.Work) -> Scope:
    return scope((*_given(work.ticket), *work.more))


def _orders(works: list[f.Work], kept: dict[str, tuple[Kept, ...]], *, separate: bool) -> list[Order]:
    """One order a ticket; a privilege that two tickets lose at once is in the first one's order only, if it is one."""
    taken: set[tuple[str, str]] = set()
    orders = []
    for work in works:
        staying = {k.privilege for k in kept[work.ticket.id]}
        losing = [p for p in _all_given(work) if p not in staying and (work.account, str(p)) not in taken]
        if not separate:
            taken |= {(work.account, str(p)) for p in losing}
        if losing:
            orders.append(f.order_for(work.ticket, scope(losing)))
    return orders


def _seen(
    work: f.Work, ended: Ended, observation: Observation | None, trouble: MunimentError | None
) -> c.RecordRevocation | c.FailRevocation:
    if trouble is not None or observation is None:
        error = trouble or MunimentError("the target could not be read", code="target.unavailable")
        return c.FailRevocation(code=error.code, message=error.message)
    ticket = work.ticket
    outcome, kept = ended.outcomes.get(ticket.id), ended.kept[ticket.id]
    if outcome is not None and outcome.result != "done":
        return c.FailRevocation(code=outcome.code or "target.rejected", message=outcome.message)
    staying, held = {k.privilege for k in kept}, set(observation.of(work.account, ticket.id))
    still = [p for p in _all_given(work) if p not in staying and p in held]
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
        if h.account == account
        and h.what in still
        and h.ticket in {None, ticket.id}
        and h.grantor is not None
    }
    by = f", given by {', '.join(sorted(givers))}" if givers else ""
    return f"{account} still holds {', '.join(map(str, still))}{by}"
