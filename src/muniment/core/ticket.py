"""The state of a ticket, and `evolve`: what each event makes of it.

``pending → approved → provisioning → active → revoking → revoked → closed``, and the ends ``denied``,
``withdrawn``, ``lapsed`` and ``failed``. State is the fold of the ticket's events and nothing else (I24).
`evolve` is total: an event on file is never refused, for it has happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec.structs import replace

from muniment.core import events as e
from muniment.core.delegation import Delegation
from muniment.core.identity import IdentityId
from muniment.core.instants import parse_instant
from muniment.core.login import Login
from muniment.core.scope import Comparison, Scope, scope
from muniment.core.terms import Terms
from muniment.core.verdict import Obligations, Stage

Status: TypeAlias = Literal[
    "pending", "approved", "provisioning", "active", "revoking", "revoked",
    "closed", "denied", "withdrawn", "lapsed", "failed",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)
#: the form of a ticket's id, as a regular expression
ID = "req_[0-9A-HJKMNP-TV-Z]{26}"
ENDS: frozenset[Status] = frozenset({"closed", "denied", "withdrawn", "lapsed", "failed"})
#: how long before its start an extension may be given, while what it extends holds the same
HAND_OVER = timedelta(seconds=60)
#: of a failure: access was to end before anybody could see whether the target gave it
UNREAD = "target.too-late"
#: the target may hold something for a ticket in one of these
LIVE: frozenset[Status] = frozenset({"provisioning", "active", "revoking"})


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its envelope: what was recorded, by whom, when."""

    seq: int
    at: str
    actor: str
    via: str
    event: e.Event


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An approver's decision that stands. A voided one is gone from the state and still in the ledger."""

    approver: IdentityId
    decision: Literal["approve", "deny"]
    stage: str
    at: str
    authority: tuple[str, ...]
    digest: str
    signature: str | None
    comment: str | None
    on_behalf: Delegation | msgspec.UnsetType = msgspec.UNSET
    login: Login | msgspec.UnsetType = msgspec.UNSET

    @property
    def voters(self) -> tuple[IdentityId, ...]:
        """Whose vote it is: the approver's, and of whoever they decided for."""
        return (self.approver, self.on_behalf.by) if self.on_behalf else (self.approver,)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Terms that an approver would agree to. They count once the requester accepts them."""

    by: IdentityId
    stage: str
    digest: str
    terms: Terms
    comment: str
    at: str


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """Why and when the access was to end, and when the target was seen without it."""

    cause: e.Cause
    reason: str | None
    by: str
    ordered_at: str
    failure: str | None = None  # the last attempt's trouble, while it is not yet gone
    observed_gone_at: str | None = None
    sessions_ended: int = 0
    kept: tuple[e.Kept, ...] = ()
    attested_by: IdentityId | None = None  # "gone" was waived: a person's word instead of a look


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A review that is owed, and its outcome once it is done."""

    due_at: str
    reviewer: IdentityId | None = None
    outcome: Literal["appropriate", "inappropriate"] | None = None
    comment: str | None = None
    at: str | None = None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """All use observed so far."""

    events: int
    first_at: str
    last_at: str
    privileges: Scope


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person must look at, and whether they have."""

    id: str
    type: str
    severity: e.Severity
    message: str
    scope: Scope
    raised_at: str
    resolved_at: str | None = None
    resolved_by: str | None = None


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes it upon themselves that a check need not hold."""

    check: str
    by: IdentityId
    reason: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why access could not be given."""

    code: str
    message: str


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One request through its whole life."""

    id: str
    status: Status
    version: int  # events so far
    filed_at: str
    updated_at: str
    terms: Terms
    digest: str
    accountable: tuple[IdentityId, ...]
    permitted: bool = False
    policies: str | None = None
    determining: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    obligations: Obligations | None = None
    decisions: tuple[Decision, ...] = ()
    # unset, and so absent from rows, while there is nothing to say: rows of the first release have no such fields
    offer: Offer | msgspec.UnsetType = msgspec.UNSET
    reopened_at: str | msgspec.UnsetType = (
        msgspec.UNSET
    )  # when other terms, or voided approvals, began the waiting anew
    reminded_at: str | msgspec.UnsetType = msgspec.UNSET
    escalated_at: str | msgspec.UnsetType = msgspec.UNSET
    missing: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET  # stages that nobody can satisfy
    approved: Scope = ()
    approved_at: str | None = None
    starts_at: str | None = None  # fixed when provisioning starts
    expires_at: str | None = None
    held: Scope = ()  # by the account, before we gave it anything
    granted: Scope | None = None  # null until the target was read
    #: what ``granted`` is part of, where the target gave more than an entry can list
    whole: e.Whole | msgspec.UnsetType = msgspec.UNSET
    comparison: Comparison | None = None
    native_expiry: str | None = None
    handle: dict[str, str] = {}
    failure: Failure | None = None
    use: Use | None = None
    revocation: Revocation | None = None
    review: Review | None = None
    findings: tuple[Finding, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    checks: tuple[e.CheckResult, ...] = ()
    ended_at: str | None = None

    @property
    def ended(self) -> bool:
        """Nothing can happen to it any more."""
        return self.status in ENDS

    @property
    def start(self) -> datetime | None:
        """When access begins: fixed once provisioning starts, until then as asked, or None for at once."""
        return parse_instant(self.starts_at) if self.starts_at else self.terms.start

    @property
    def expiry(self) -> datetime | None:
        """The instant at which the access is over, once it is known."""
        if self.expires_at:
            return parse_instant(self.expires_at)
        return self.terms.start + self.terms.length if self.terms.start else None

    @property
    def lapses_at(self) -> datetime:
        """When a request that nobody decided ends by itself; never later than its own window."""
        after = timedelta(seconds=self.obligations.lapse_after if self.obligations else 0)
        undecided = parse_instant(self.filed_at) + after
        return min(undecided, self.expiry) if self.expiry else undecided

    @property
    def ready(self) -> datetime | None:
        """When controllers may begin: at its start; an extension a moment before, so that there is no gap."""
        start = self.start
        return start - HAND_OVER if start and self.terms.extends else start

    @property
    def waiting_since(self) -> datetime:
        """Since when nobody has decided anything."""
        return parse_instant(max(self.filed_at, self.reopened_at or "", *(d.at for d in self.decisions)))

    @property
    def remind_at(self) -> datetime | None:
        """When approvers are reminded next; None if never, or if they were since the last decision."""
        after = self.obligations.remind_after if self.obligations else None
        since = self.waiting_since
        if not after or (self.reminded_at and parse_instant(self.reminded_at) >= since):
            return None
        return since + timedelta(seconds=after)

    @property
    def escalate_at(self) -> datetime | None:
        """When others may decide as well; None if never, or if they may already."""
        after = self.obligations.escalate_after if self.obligations else None
        return None if not after or self.escalated_at else self.waiting_since + timedelta(seconds=after)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The approvals that policy demands; once it is escalated, from others as well."""
        owed = self.obligations
        if owed is None:
            return ()
        if not self.escalated_at or not owed.escalate_to:
            return owed.stages
        more = owed.escalate_to
        return tuple(
            s if s.consent is True else replace(s, approvers=tuple(dict.fromkeys((*s.approvers, *more))))
            for s in owed.stages
        )

    @property
    def read_back(self) -> bool:
        """Whether everything that the target gave for it is on record."""
        return self.granted is not None and self.whole is msgspec.UNSET

    @property
    def review_excused(self) -> bool:
        """Whether access failed so that nobody can have used it: nothing was touched, or the target gave nothing.

        Breaking the glass is looked at from the moment on in which access may have existed (I10).
        """
        if self.failure is None or self.starts_at is None:
            return self.failure is not None
        unread = self.failure.code == UNREAD and self.granted is None
        return self.terms.kind != "break_glass" and not unread and not self.granted

    def approvals_in(self, stage: str) -> int:
        """How many approvals of one stage stand."""
        return sum(1 for d in self.decisions if d.stage == stage and d.decision == "approve")

    def wanted_in(self, stage: Stage) -> int:
        """How many people a stage needs. Who files a request for a machine of their own agrees to it by that."""
        agreed = stage.consent is True and self.terms.requester in stage.approvers
        return stage.needed - agreed

    def short_of(self, stage: Stage) -> int:
        """How many more people a stage needs."""
        return max(0, self.wanted_in(stage) - self.approvals_in(stage.name))

    def reached_stages(self) -> tuple[Stage, ...]:
        """Stages that may be decided: the ones before them are satisfied."""
        if not any(s.after for s in self.stages):
            return self.stages
        satisfied = {s.name for s in self.stages if not self.short_of(s)}
        return tuple(s for s in self.stages if satisfied.issuperset(s.after or ()))

    def open_stages(self) -> tuple[Stage, ...]:
        """Of these, the stages that still need somebody."""
        return tuple(s for s in self.reached_stages() if self.short_of(s))

    def waived(self, check: str) -> IdentityId | None:
        """Who waived a closure check, if anybody did."""
        return next((w.by for w in self.waivers if w.check == check), None)


def evolve(ticket: Ticket | None, recorded: Recorded, stream: str) -> Ticket:
    """Apply one recorded event. The first event of a ticket's stream is RequestSubmitted."""
    event, at = recorded.event, recorded.at
    if ticket is None:
        if not isinstance(event, e.RequestSubmitted):
            raise ValueError(f"{stream} begins with {event.kind}, not with its request")
        return Ticket(
            id=stream, status="pending", version=1, filed_at=at, updated_at=at,
            terms=event.terms, digest=event.digest, accountable=event.accountable,
        )  # fmt: skip
    return replace(_apply(ticket, event, recorded), version=recorded.seq + 1, updated_at=at)


def _apply(t: Ticket, event: e.Event, recorded: Recorded) -> Ticket:  # noqa: C901, PLR0911, PLR0912  one case an event: the table of the state machine
    at = recorded.at
    match event:
        case e.PolicyDecided():
            return replace(
                t, permitted=event.permitted, policies=event.policies, determining=event.determining,
                reasons=event.reasons, obligations=event.obligations,
            )  # fmt: skip
        case e.ApprovalRecorded():
            decision = Decision(
                approver=event.approver, decision=event.decision, stage=event.stage, at=at, authority=event.authority,
                digest=event.digest, signature=event.signature, comment=event.comment, on_behalf=event.on_behalf,
                login=event.login,
            )  # fmt: skip
            return replace(t, decisions=(*t.decisions, decision))
        case e.CounterOffered():
            offer = Offer(
                by=event.approver, stage=event.stage, digest=event.offer, terms=event.terms, comment=event.comment, at=at
            )  # fmt: skip
            return replace(t, offer=offer)
        case e.CounterAccepted():
            return replace(
                t, terms=event.terms, digest=event.digest, decisions=(), offer=msgspec.UNSET, reopened_at=at,
                reminded_at=msgspec.UNSET, escalated_at=msgspec.UNSET, missing=msgspec.UNSET,
                permitted=False, policies=None, determining=(), reasons=(), obligations=None,  # judged again, next
            )  # fmt: skip
        case e.ApproversReminded():
            return replace(t, reminded_at=at)
        case e.RequestEscalated():
            return replace(t, escalated_at=at)
        case e.ApproversMissing():
            return replace(t, missing=event.stages or msgspec.UNSET)
        case e.RequestApproved():
            return replace(
                t, status="approved", approved=event.scope, approved_at=at, offer=msgspec.UNSET, missing=msgspec.UNSET
            )  # fmt: skip
        case e.ApprovalsVoided():
            kept = tuple(d for d in t.decisions if d.approver not in event.approvers)
            return replace(t, status="pending", decisions=kept, approved=(), approved_at=None, reopened_at=at)
        case e.RequestDenied():
            return replace(t, status="denied", ended_at=at, reasons=event.reasons or t.reasons)
        case e.RequestWithdrawn():
            return replace(t, status="withdrawn", ended_at=at)
        case e.RequestLapsed():
            return replace(t, status="lapsed", ended_at=at, reasons=(event.reason,))
        case e.AccountRead():
            return replace(t, held=(*t.held, *event.held))
        case e.ProvisioningStarted():
            return replace(
                t,
                status="provisioning",
                starts_at=event.starts_at,
                expires_at=event.expires_at,
                held=(*t.held, *event.held),
            )
        case e.GrantObserved():
            exact = event.comparison.exact and event.whole is msgspec.UNSET
            return replace(
                t, status="active" if exact and t.status == "provisioning" else t.status, granted=event.granted, whole=event.whole,
                comparison=event.comparison, native_expiry=event.native_expiry, handle=event.handle,
            )  # fmt: skip
        case e.ProvisioningFailed():
            return replace(t, failure=Failure(code=event.code, message=event.message))
        case e.UseObserved():
            return replace(t, use=_more_use(t.use, event))
        case e.RevocationOrdered():
            ordered = Revocation(cause=event.cause, reason=event.reason, by=recorded.actor, ordered_at=at)
            return replace(t, status="revoking", revocation=ordered)
        case e.RevocationFailed():
            failure = f"{event.message} ({event.code})"
            return replace(t, revocation=t.revocation and replace(t.revocation, failure=failure))
        case e.RevocationObserved():
            gone = t.revocation and replace(
                t.revocation,
                failure=None,
                observed_gone_at=at,
                sessions_ended=event.sessions_ended,
                kept=event.kept,
            )
            return replace(t, status="revoked", revocation=gone)
        case e.ReviewOpened():
            return replace(t, review=Review(due_at=event.due_at))
        case e.ReviewRecorded():
            due = t.review.due_at if t.review else at
            done = Review(
                due_at=due, reviewer=event.reviewer, outcome=event.outcome, comment=event.comment, at=at
            )
            return replace(t, review=done)
        case e.FindingRaised():
            finding = Finding(
                id=event.finding, type=event.type, severity=event.severity, message=event.message,
                scope=event.scope, raised_at=at,
            )  # fmt: skip
            return replace(t, findings=(*t.findings, finding))
        case e.FindingResolved():
            findings = tuple(
                replace(f, resolved_at=at, resolved_by=recorded.actor) if f.id == event.finding else f
                for f in t.findings
            )
            return replace(t, findings=findings)
        case e.CheckWaived():
            waiver = Waiver(check=event.check, by=recorded.actor, reason=event.reason)
            t = replace(t, waivers=(*t.waivers, waiver))
            if event.check == "gone" and t.status == "revoking" and t.revocation:
                return replace(
                    t, status="revoked", revocation=replace(t.revocation, attested_by=recorded.actor)
                )
            return t
        case e.RequestClosed():
            return replace(t, status=event.outcome, checks=event.checks, ended_at=at)
        case _:
            return t  # a kind from a later version: known to the ledger, without effect here


def _more_use(use: Use | None, event: e.UseObserved) -> Use:
    if use is None:
        return Use(
            events=event.events, first_at=event.first_at, last_at=event.last_at, privileges=event.privileges
        )
    return Use(
        events=use.events + event.events,
        first_at=min(use.first_at, event.first_at),
        last_at=max(use.last_at, event.last_at),
        privileges=scope((*use.privileges, *event.privileges)),
    )


def replay(stream: str, recorded: Iterable[Recorded], ticket: Ticket | None = None) -> Ticket | None:
    """Fold events onto a ticket."""
    return reduce(lambda state, record: evolve(state, record, stream), recorded, ticket)
