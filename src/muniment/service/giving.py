"""Make a target hold what was approved, and compare (I1, I16, I18).

One pass over a batch of tickets on one target:

0. see that the approvals are under a published checkpoint (`sealed`).
1. read what the accounts hold now; judge each ticket's authority again; record the intent and take the lease, in one
   commit. A crash before it leaves the ticket approved, after it provisioning: both are due again.
2. ask the target, all at once. A crash, or no answer, leaves it unknown whether it happened: the next pass asks
   again, which is harmless, and reads back.
3. read back; record what is held. Only exactly what was approved is active. Anything more or less is taken back.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from muniment.core import commands as c
from muniment.core.errors import MunimentError, TargetUnavailable
from muniment.core.extending import falls_with
from muniment.core.identity import IdentityId
from muniment.core.instants import wire
from muniment.core.scope import Scope, excess, scope
from muniment.core.ticket import Ticket
from muniment.ports import Append, Credential, Outcome, Target
from muniment.service import fulfilment as f
from muniment.service.authority import entitled, names_of, stands
from muniment.service.desk import Desk
from muniment.service.filing import with_target
from muniment.service.sealed import under_checkpoint
from muniment.service.signing import still_theirs
from muniment.service.taking import take_back


def give(desk: Desk, target_id: str, tickets: Collection[str], holder: str) -> f.Progress:
    """One pass. Tickets that could not be moved on for want of an answer are in ``again``.

    Args:
        desk: the adapters.
        target_id: every ticket is on this target.
        tickets: ids; those that are not to be provisioned (any more) are left alone.
        holder: unique to this pass.
    """
    progress = f.Progress(moved=[], again={})
    target = desk.target(target_id)
    works = f.load(desk, tickets, target_id)
    if not target.connector.capabilities.separate:
        works = _one_per_privilege(works, progress)
    now = desk.clock.now()
    started = [w for w in works if w.ticket.status == "provisioning" and not f.over(w.ticket, now)]
    fresh = [w for w in works if w.ticket.status == "approved" and (w.ticket.ready or now) <= now]
    over = [w.ticket.id for w in works if w.ticket.status == "provisioning" and f.over(w.ticket, now)]
    try:
        fresh = under_checkpoint(desk, fresh, progress)
        ready = f.claim_all(desk, started, holder, progress) if started else []
        ready += _intend(desk, target, fresh, holder, progress) if fresh else []
        ready = _still_carried(desk, ready, progress)
        if ready:
            _provision(desk, target, ready, progress)
    finally:
        f.let_go(desk, works)
    undo = over + [t.id for t in progress.moved if t.status == "revoking"]
    if undo:
        taken = take_back(desk, target_id, undo, holder)
        progress.moved += taken.moved
        progress.again |= taken.again
    return progress


def _intend(
    desk: Desk, target: Target, works: list[f.Work], holder: str, progress: f.Progress
) -> list[f.Work]:
    """Record the intent for tickets that may begin; return those that did."""
    accounts = {w.account for w in works}
    # looked up on both sides of the reading: what it shows may be the grant of a ticket that begins or ends meanwhile
    earlier = f.sharing(desk, target, accounts)
    try:
        before = target.connector.observe(accounts)
        if not before.complete:
            raise TargetUnavailable(f"{target.id} could not be read completely", remedy="It is tried again.")
    except MunimentError as error:
        progress.again |= {w.ticket.id: error for w in works}
        return []
    later = f.sharing(desk, target, accounts)
    beginning: list[f.Work] = []
    appends: list[Append] = []
    for work in works:
        others = (*f.others_on(earlier, work.ticket), *f.others_on(later, work.ticket))
        ticketed = scope(p for o in others for p in o.approved)
        command = c.StartProvisioning(held=before.of(work.account, work.ticket.id), ticketed=ticketed)
        try:
            facts = rejudged(desk, work.ticket, target)
            append = desk.appending(
                work.ticket, (command,), facts, work.stream, claim=f.claim_for(work.ticket, holder)
            )
        except MunimentError as error:  # one ticket's trouble holds up no other
            progress.again[work.ticket.id] = error
            continue
        beginning.append(work)
        appends.append(append)
    return [w for w in f.settle(desk, beginning, appends, progress) if w.ticket.status == "provisioning"]


def _still_carried(desk: Desk, works: list[f.Work], progress: f.Progress) -> list[f.Work]:
    """Without extensions whose first ticket was ended early: their end is ordered instead.

    Looked up under the lease: whoever ends that ticket later waits for us, and then finds the extension.
    """
    carried: list[f.Work] = []
    for work in works:
        before = desk.store.read(work.ticket.terms.extends)[1] if work.ticket.terms.extends else None
        cause = falls_with(work.ticket, before)
        if cause is None:
            carried.append(work)
        else:
            f.settle(desk, [work], [f.record(desk, work, c.End(cause=cause))], progress)
    return carried


def rejudged(desk: Desk, ticket: Ticket, target: Target) -> c.Facts:
    """Policy's verdict on the request now, and whose approvals still stand (I4, I9)."""
    requester, beneficiary = desk.subject(ticket.terms.requester), desk.subject(ticket.terms.beneficiary)
    verdict = desk.policy.judge_request(ticket.terms, requester, beneficiary, target)
    owed = verdict.obligations
    others = replace(ticket, obligations=owed).stages != ticket.stages  # are asked than when it was filed
    standing: list[IdentityId] = []
    stages: dict[IdentityId, tuple[str, ...]] = {}
    counted: set[IdentityId] = set()
    for decision in ticket.decisions:
        names = names_of(desk, decision)
        if (
            counted.isdisjoint(names)  # people who are found to be the same one count once
            and stands(desk, ticket, decision, requester, beneficiary, target)
            and still_theirs(decision.signature, desk.subject(decision.approver).identity)
        ):
            standing.append(decision.approver)
            counted |= names
            if others:
                stages[decision.approver] = entitled(
                    desk, ticket, decision, requester, beneficiary, target, owed
                )
    extended = desk.store.read(ticket.terms.extends)[1] if ticket.terms.extends else None
    facts = replace(
        desk.facts(ticket, None), verdict=verdict, standing_approvers=tuple(standing), entitled=stages, extended=extended,
        open_references=desk.open_references(ticket.terms, verdict),
    )  # fmt: skip
    return with_target(facts, target, ticket.terms.scope)


def _provision(desk: Desk, target: Target, works: list[f.Work], progress: f.Progress) -> None:
    orders = [f.order_for(w.ticket, w.ticket.approved) for w in works]
    try:
        outcomes = target.connector.provision(orders, f.confirmation(desk, works))
    except MunimentError as error:
        # it may have happened all the same: nothing is said to have failed before the target was read
        outcomes = [
            Outcome(ticket=o.ticket, result="unknown", code=error.code, message=error.message) for o in orders
        ]
    try:
        after = target.connector.observe({w.account for w in works})
        if not after.complete:
            raise TargetUnavailable(f"{target.id} could not be read completely", remedy="It is tried again.")
    except MunimentError as error:
        progress.again |= {w.ticket.id: error for w in works}
        return
    sharing = f.sharing(desk, target, {w.account for w in works})
    seen: list[f.Work] = []
    appends: list[Append] = []
    for work, outcome in zip(works, outcomes, strict=True):
        others = scope(p for o in f.others_on(sharing, work.ticket) for p in o.approved)
        granted = f.ours(work.ticket, after.of(work.account, work.ticket.id), others)
        command = _seen(
            work.ticket, outcome, granted, must_collect=target.connector.capabilities.issues_credential
        )
        if command is None:
            progress.again[work.ticket.id] = TargetUnavailable(outcome.message, code=outcome.code or None)
            continue
        exact = isinstance(command, c.RecordGrant) and granted == work.ticket.approved
        until = work.ticket.expiry
        credential = (
            Credential(body=outcome.credential, until=until)
            if exact and outcome.credential and until
            else None
        )
        seen.append(work)
        appends.append(f.record(desk, work, command, credential=credential))
    f.settle(desk, seen, appends, progress)


def _seen(ticket: Ticket, outcome: Outcome, granted: Scope, *, must_collect: bool) -> c.Command | None:
    """What to record, or None if the target must be asked again: also when only the credential is still missing."""
    usable = granted == ticket.approved and (outcome.credential is not None or not must_collect)
    more = excess(ticket.approved, granted)  # recorded whatever the target answered, so that it is taken back
    if outcome.result == "rejected" and not usable and not more:
        return c.FailProvisioning(code=outcome.code or "target.rejected", message=outcome.message)
    if outcome.result == "unknown" and not usable and not more:
        return None
    native = wire(outcome.native_expiry) if outcome.native_expiry else None
    return c.RecordGrant(granted=granted, native_expiry=native, handle=outcome.handle)


def _one_per_privilege(works: list[f.Work], progress: f.Progress) -> list[f.Work]:
    """Of tickets for the same privilege of the same account, the first; the others' turn comes in the next pass."""
    taken: set[tuple[str, str]] = set()
    first = []
    for work in works:
        wanted = {(work.account, str(p)) for p in work.ticket.terms.scope}
        if wanted & taken:
            progress.again[work.ticket.id] = TargetUnavailable(
                "another ticket for the same account is served first"
            )
        else:
            taken |= wanted
            first.append(work)
    return first
