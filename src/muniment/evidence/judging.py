# ruff: noqa: PLR0911  each return is one rule
"""One rule for each event of a ticket: may it follow what is on file? A sentence says why not.

The rules are written down a second time on purpose. `core.lifecycle` decides what is recorded; here the record is
judged, from the ledger's bytes alone, as an auditor would. So an entry that a changed program, or somebody with the
database and the key, put there past the rules does not pass.

What only the world at that time could say is not judged: who answered for whom by then, what the target held. The
slices and answers that decisions rested on are in the entries, and `policy.replay` asks them again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import msgspec

from muniment.core import events as e
from muniment.core.closure import CHECKS, closable, never_waived, run_checks
from muniment.core.filing import PAST_TOLERANCE
from muniment.core.fulfilling import OVERDUE_AFTER
from muniment.core.glass import LONGEST_BREAK_GLASS, answered_by_review
from muniment.core.identity import SYSTEM, is_human
from muniment.core.instants import LONGEST, parse_instant
from muniment.core.scope import compare, covers, scope
from muniment.core.terms import terms_digest
from muniment.core.ticket import HAND_OVER, Recorded, Status, Ticket
from muniment.evidence import decisions
from muniment.evidence.answers import misasked, missing_approval, stake

_LIVE: frozenset[Status] = frozenset({"provisioning", "active", "revoking", "revoked"})

#: the statuses in which each event may be recorded
WHEN: dict[type[e.Event], frozenset[Status]] = {
    e.PolicyDecided: frozenset({"pending"}),
    e.ApprovalRecorded: frozenset({"pending", *_LIVE}),
    e.CounterOffered: frozenset({"pending"}),
    e.CounterAccepted: frozenset({"pending"}),
    e.ApproversReminded: frozenset({"pending"}),
    e.RequestEscalated: frozenset({"pending"}),
    e.ApproversMissing: frozenset({"pending"}),
    e.RequestApproved: frozenset({"pending"}),
    e.ApprovalsVoided: frozenset({"pending", "approved"}),
    e.RequestDenied: frozenset({"pending", "approved"}),
    e.RequestWithdrawn: frozenset({"pending", "approved"}),
    e.RequestLapsed: frozenset({"pending", "approved"}),
    e.AccountRead: frozenset({"approved"}),
    e.ProvisioningStarted: frozenset({"approved"}),
    e.GrantObserved: frozenset({"provisioning", "revoking"}),
    e.ProvisioningFailed: frozenset({"approved", "provisioning", "revoking"}),
    e.UseObserved: frozenset({"active", "revoking", "revoked"}),
    e.RevocationOrdered: frozenset({"provisioning", "active"}),
    e.RevocationFailed: frozenset({"revoking"}),
    e.RevocationObserved: frozenset({"revoking"}),
    e.ReviewOpened: frozenset({"revoked"}),
    e.ReviewRecorded: _LIVE,
    e.FindingRaised: _LIVE,
    e.FindingResolved: _LIVE,
    e.CheckWaived: frozenset({"revoking", "revoked"}),
    e.RequestClosed: frozenset({"approved", "revoked"}),
}

#: a target that knows whole seconds alone ends access at the end of the second in which the ticket does
_ROUNDING = timedelta(seconds=1)
#: recorded by controllers, which look at targets; nobody says of himself that his access is gone
_CONTROLLERS = (
    e.ApproversReminded, e.RequestEscalated, e.ApproversMissing, e.ApprovalsVoided, e.RequestLapsed, e.AccountRead, e.ProvisioningStarted, e.GrantObserved, e.ProvisioningFailed, e.UseObserved,
    e.RevocationFailed, e.RevocationObserved,
)  # fmt: skip


def judge(ticket: Ticket | None, recorded: Recorded, stream: str) -> str | None:
    """Say which rule an event breaks; None if it breaks none.

    Args:
        ticket: the fold of what is on file before it; None at the beginning.
        recorded: the event, with its envelope.
        stream: the ticket's id, as the envelope says.
    """
    event = recorded.event
    if ticket is None:
        if isinstance(event, e.RequestSubmitted):
            return _submitted(event, recorded, stream)
        return "a ticket begins with its request: the beginning is missing, or it goes on after its end"
    if ticket.ended:
        return f"the ticket is {ticket.status}, and nothing follows the end"
    if isinstance(event, e.RequestSubmitted):
        return "the ticket was filed already"
    if ticket.status not in WHEN.get(type(event), frozenset()):
        return f"the ticket is {ticket.status}, where this cannot happen"
    if any(d.decision == "deny" for d in ticket.decisions) and not isinstance(event, e.RequestDenied):
        return "somebody has said no, and that is the end of it"
    if isinstance(event, _CONTROLLERS) and recorded.actor != SYSTEM:
        return f"it is recorded by {recorded.actor}, and only {SYSTEM} records this"
    rule = _RULES.get(type(event))
    return rule(ticket, event, recorded) if rule is not None else None


# ── from a request to a decision ──


def _submitted(event: e.RequestSubmitted, recorded: Recorded, stream: str) -> str | None:
    terms, at = event.terms, parse_instant(recorded.at)
    if event.digest != terms_digest(stream, terms):
        return "its digest is not that of its terms"
    if recorded.actor != terms.requester:
        return f"{recorded.actor} filed it, and {terms.requester} is its requester"
    if not terms.scope or terms.scope != scope(terms.scope):
        return "its scope is empty, or not sorted and each privilege once"
    if not 0 < terms.duration <= LONGEST.total_seconds():
        return f"its duration of {terms.duration} s is out of range"
    if terms.start and not at - PAST_TOLERANCE <= terms.start <= at + LONGEST:
        return "its start lies in the past or too far ahead"
    if terms.kind == "break_glass" and (not terms.incident or terms.starts_at is not None):
        return "it is break-glass without an incident, or for later"
    if terms.kind == "break_glass" and terms.duration > LONGEST_BREAK_GLASS.total_seconds():
        return f"it is break-glass for {terms.duration} s, which is too long for that"
    if not all(map(is_human, (terms.requester, terms.beneficiary))) and not event.accountable:
        return "nobody answers for a requester or beneficiary who is not a person"
    if terms.bundle and stream not in terms.bundle:
        return "it is not in the bundle that it names"
    return None


def _policy_decided(t: Ticket, event: e.PolicyDecided, _: Recorded) -> str | None:
    if t.policies is not None:
        return "policy judged the request already"
    if not event.permitted:
        return None
    owed = event.obligations
    if owed is None:
        return "policy permits it and does not say what that obliges to"
    if t.terms.duration > owed.longest:
        return f"it asks for {t.terms.duration} s where policy allows {owed.longest} s"
    if absent := [kind for kind in owed.references if kind not in t.terms.references]:
        return f"policy demands a reference {absent[0]}, which it has not"
    if t.terms.kind == "break_glass" and owed.review_within is None:
        return "it is break-glass and no review is owed"
    if any(stage.needed < 1 for stage in owed.stages):
        return "a stage needs nobody"
    return misasked(t, event)


def _request_approved(t: Ticket, event: e.RequestApproved, _: Recorded) -> str | None:
    if not t.permitted:
        return "policy did not permit it"
    if fault := missing_approval(t):
        return fault
    if event.approvers != tuple(d.approver for d in t.decisions):
        return "it names other approvers than those on file"
    if event.scope != t.terms.scope or event.duration != t.terms.duration:
        return "it approves something else than was asked"
    return None


def _voided(t: Ticket, event: e.ApprovalsVoided, _: Recorded) -> str | None:
    known = {d.approver for d in t.decisions}
    on_file = event.approvers and known.issuperset(event.approvers)
    return None if on_file else "it takes back approvals that are not on file"


def _denied(t: Ticket, event: e.RequestDenied, recorded: Recorded) -> str | None:
    if event.by == "policy":
        # a controller may: when the beneficiary, or whoever answers for it, is gone
        taken_back = t.permitted and t.status == "pending" and recorded.actor != SYSTEM
        return "policy denies what it permitted" if taken_back else None
    said = t.decisions[-1] if t.decisions else None
    if event.by != recorded.actor or said is None or (said.approver, said.decision) != (event.by, "deny"):
        return f"{event.by} denies it, and no such decision is on file"
    return None


def _withdrawn(_: Ticket, __: e.RequestWithdrawn, recorded: Recorded) -> str | None:
    return "nobody withdrew it" if recorded.actor == SYSTEM else None


def _lapsed(t: Ticket, _: e.RequestLapsed, recorded: Recorded) -> str | None:
    at = parse_instant(recorded.at)
    over = (t.expiry is not None and at >= t.expiry) or (t.status == "pending" and at >= t.lapses_at)
    # how what it extends ended is on record there
    over = over or (t.status == "approved" and bool(t.terms.extends))
    return None if over else "it lapsed before its time"


# ── from an approval to access and back ──


def _started(t: Ticket, event: e.ProvisioningStarted, recorded: Recorded) -> str | None:
    begins, ends = parse_instant(event.starts_at), parse_instant(event.expires_at)
    if fault := missing_approval(t):
        return fault
    if t.approved_at is None or begins < parse_instant(t.approved_at):
        return "access begins before it was approved"
    early = begins - parse_instant(recorded.at)
    if early > (HAND_OVER if t.terms.extends else timedelta()):
        return "access is given before it begins"
    if t.terms.start and begins < t.terms.start:
        return "access begins before it was asked for"
    if ends > (t.terms.start or begins) + t.terms.length:
        return f"access ends at {event.expires_at}, later than was asked and approved"
    if ends <= begins:
        return "access ends before it begins"
    if t.obligations and t.terms.duration > t.obligations.longest:
        return f"access lasts longer than the {t.obligations.longest} s that policy allows"
    if event.approvers != tuple(d.approver for d in t.decisions):
        return "it rests on other approvals than those on file"
    return misasked(t, event)


def _granted(t: Ticket, event: e.GrantObserved, _: Recorded) -> str | None:
    ending = t.status == "revoking"
    if t.granted is not None or (t.failure is not None and not ending):
        return "what was given was looked at already"
    if event.comparison != compare(t.approved, event.granted):
        return "it does not compare what was granted with what was approved as it is"
    if event.whole is not msgspec.UNSET:
        listed = len(event.granted)
        return None if event.whole.count > listed else "it lists all, and says that it lists a part"
    if ending and not event.comparison.excess:
        return "access is ending, and nothing more than was approved was seen"
    if not event.comparison.exact or t.obligations is None or t.expiry is None:
        return None
    native = parse_instant(event.native_expiry) if event.native_expiry else None
    if t.obligations.native_expiry and native is None:
        return "the target itself was to end the access, and does not"
    if native is not None and native >= t.expiry + _ROUNDING:
        return f"the target ends the access at {event.native_expiry}, later than the ticket allows"
    return None


def _failed(t: Ticket, _: e.ProvisioningFailed, __: Recorded) -> str | None:
    if t.status != "revoking":
        return None
    more = t.granted is not None and (not covers(t.approved, t.granted) or not t.read_back)
    return (
        None
        if more and t.failure is None
        else "access is ending, and nothing more than was approved was seen"
    )


def _used(t: Ticket, event: e.UseObserved, _: Recorded) -> str | None:
    first, last = parse_instant(event.first_at), parse_instant(event.last_at)
    if t.start is None or t.expiry is None or last < first:
        return "the use has no place in time"
    # instants are of the target's own clock, and taking away takes its time: as long as is no finding yet
    if first < t.start - OVERDUE_AFTER:
        return f"it was used at {event.first_at}, before access began"
    if last >= t.expiry + OVERDUE_AFTER:
        return f"it was used at {event.last_at}, after access had expired"
    gone = t.revocation.observed_gone_at if t.revocation else None
    if gone and last >= parse_instant(gone) + OVERDUE_AFTER:
        return f"it was used at {event.last_at}, after access was seen to be gone"
    return None


def _ordered(t: Ticket, event: e.RevocationOrdered, recorded: Recorded) -> str | None:
    if event.cause == "expired" and (t.expiry is None or parse_instant(recorded.at) < t.expiry):
        return "it is ended as expired before its time"
    if t.status == "provisioning" and t.failure is None and event.cause in {"failed", "excess"}:
        return f"it is ended as {event.cause}, and nothing failed"
    return None


def _gone(t: Ticket, event: e.RevocationObserved, _: Recorded) -> str | None:
    kept = [k.privilege for k in event.kept]
    if any(k.ticket == t.id for k in event.kept):
        return "it keeps something for itself"
    if not covers((*event.gone, *kept), t.granted or t.approved):
        return "something that was given is neither gone nor kept by another ticket"
    return None


# ── looking back ──


def _review_opened(t: Ticket, event: e.ReviewOpened, recorded: Recorded) -> str | None:
    within = t.obligations.review_within if t.obligations else None
    if within is None or t.review is not None:
        return "no review is owed"
    late = parse_instant(event.due_at) > parse_instant(recorded.at) + timedelta(seconds=within)
    return "the review is due later than policy demands" if late else None


def _reviewed(t: Ticket, event: e.ReviewRecorded, recorded: Recorded) -> str | None:
    if t.review is None or t.review.outcome is not None:
        return "no review is owed"
    if recorded.actor != event.reviewer:
        return f"it is recorded by {recorded.actor} in the name of {event.reviewer}"
    return stake(t, event.reviewer, "reviews it")


def _finding(t: Ticket, event: e.FindingRaised, _: Recorded) -> str | None:
    taken = any(f.id == event.finding for f in t.findings)
    return f"there is a finding {event.finding} already" if taken else None


def _resolved(t: Ticket, event: e.FindingResolved, recorded: Recorded) -> str | None:
    found = next((f for f in t.findings if f.id == event.finding and not f.resolved_at), None)
    if found is None:
        return f"there is no open finding {event.finding!r:.40}"
    if recorded.actor != SYSTEM and (fault := stake(t, recorded.actor, "resolves it")):
        return fault
    if answered_by_review(t, found) and (t.review is None or t.review.reviewer != recorded.actor):
        return f"{recorded.actor} resolves what only the review of a broken glass answers"
    by_controller = recorded.actor == SYSTEM and event.reason is not None
    return "a controller gives a person's reason" if by_controller else None


def _waived(t: Ticket, event: e.CheckWaived, recorded: Recorded) -> str | None:
    if event.check not in CHECKS or event.check in never_waived(t):
        return f"the check {event.check!r:.60} is never waived"
    if t.status == "revoking" and event.check != "gone":
        return f"{event.check} is waived while access is still there"
    return stake(t, recorded.actor, "waives a check of it")


def _closed(t: Ticket, event: e.RequestClosed, _: Recorded) -> str | None:
    if event.outcome != ("failed" if t.failure else "closed"):
        return f"it ends as {event.outcome}, which is not how it went"
    if t.status == "approved":  # given up before the target was touched
        return None if t.failure and not event.checks else "it is closed, and access was never given"
    checks = run_checks(t)
    if event.checks != checks:
        wrong = next((c.check for c in checks if c not in event.checks), "one of them")
        return f"its closure checks are not what its entries say: {wrong}"
    if not closable(checks):
        failing = next(c.check for c in checks if not (c.holds or c.waived))
        return f"it is closed although {failing} does not hold, and nobody waived it"
    return None


_Rule: TypeAlias = Callable[[Ticket, Any, Recorded], str | None]
_RULES: dict[type[e.Event], _Rule] = {
    e.PolicyDecided: _policy_decided,
    e.ApprovalRecorded: decisions.approval_recorded,
    e.CounterOffered: decisions.counter_offered,
    e.CounterAccepted: decisions.counter_accepted,
    e.ApproversReminded: decisions.reminded,
    e.RequestEscalated: decisions.escalated,
    e.RequestApproved: _request_approved,
    e.ApprovalsVoided: _voided,
    e.RequestDenied: _denied,
    e.RequestWithdrawn: _withdrawn,
    e.RequestLapsed: _lapsed,
    e.ProvisioningStarted: _started,
    e.GrantObserved: _granted,
    e.ProvisioningFailed: _failed,
    e.UseObserved: _used,
    e.RevocationOrdered: _ordered,
    e.RevocationObserved: _gone,
    e.ReviewOpened: _review_opened,
    e.ReviewRecorded: _reviewed,
    e.FindingRaised: _finding,
    e.FindingResolved: _resolved,
    e.CheckWaived: _waived,
    e.RequestClosed: _closed,
}
