"""Tickets in every status, made by deciding real commands: what the table and the properties start from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from muniment.core import commands as c
from muniment.core.budget import Spent, budget_of
from muniment.core.events import Event
from muniment.core.identity import Identity
from muniment.core.instants import wire
from muniment.core.lifecycle import decide
from muniment.core.login import Login
from muniment.core.scope import Privilege
from muniment.core.terms import Terms
from muniment.core.text import commit
from muniment.core.ticket import Recorded, Ticket, evolve
from muniment.core.verdict import Authority, Obligations, Stage, Verdict

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
WORDS = commit("because", b"\x01" * 32)
RW = Privilege(privilege="orders_rw")
SUPER = Privilege(privilege="SUPERUSER", resource="role attribute")

REQUESTER = "human:ann@example.com"
BENEFICIARY = "service_account:billing-ci"
OWNER = "human:oda@example.com"
LEAD = "human:cyd@example.com"
LEAD2 = "human:dee@example.com"


def terms(**changes) -> Terms:
    base = Terms(
        kind="standard", requester=REQUESTER, beneficiary=BENEFICIARY, target="pg-prod", account="billing", scope=(RW,),
        justification=WORDS, references={}, incident=None, starts_at=None, duration=7200, public_key=None,
    )  # fmt: skip
    return replace(base, **changes)


def person(identity: str, **changes) -> Identity:
    return replace(
        Identity(id=identity, groups=("dba-leads",) if identity in {LEAD, LEAD2} else ()), **changes
    )


def verdict(*, needed: int = 1, permitted: bool = True, **obliged) -> Verdict:
    stages = (Stage(name="dba-leads", needed=needed, approvers=("group:dba-leads",)),) if needed else ()
    obligations = Obligations(stages=stages, longest=14400, **obliged) if permitted else None
    return Verdict(
        permitted=permitted, policies="sha256:aa", determining=("p1",), reasons=() if permitted else ("no",), evaluations=(),
        entities=(), obligations=obligations,
    )  # fmt: skip


def authority(
    identity: str, *, permitted: bool = True, stages: tuple[str, ...] = ("dba-leads",)
) -> Authority:
    said = Verdict(
        permitted=permitted,
        policies="sha256:aa",
        determining=("p2",),
        reasons=(),
        evaluations=(),
        entities=(),
    )
    return Authority(approver=identity, stages=stages, verdict=said)


def unspent(identity: str) -> Spent:
    """A machine that has asked for nothing yet."""
    return Spent(identity=identity, budget=budget_of(Identity(id=identity)), filed=(), held=0, ends=())


class Life:
    """A ticket and its events; commands are decided and applied as the store would."""

    def __init__(self, **changes) -> None:
        self.ticket: Ticket | None = None
        self.events: list[Recorded] = []
        self.now = NOW
        self.terms = terms(**changes)
        self.owners: tuple[str, ...] = (OWNER,)

    def do(self, command: c.Command, facts: c.Facts) -> tuple[Event, ...]:
        events = decide(self.ticket, command, facts, self.now)
        actor = facts.actor.id if facts.actor else "system:muniment"
        for event in events:
            recorded = Recorded(seq=len(self.events), at=wire(self.now), actor=actor, via="test", event=event)
            self.ticket = evolve(self.ticket, recorded, "req_1")
            self.events.append(recorded)
        return events

    def system(self, **changes) -> c.Facts:
        return replace(c.Facts(accountable=self.owners), **changes)

    def by(self, identity: str, **changes) -> c.Facts:
        facts = c.Facts(
            actor=person(identity), accountable=self.owners, spent=(unspent(self.terms.beneficiary),)
        )
        return replace(facts, **changes)

    def lead(self, identity: str = LEAD) -> c.Facts:
        return self.by(identity, authority=authority(identity))

    def submit(self, said: Verdict | None = None) -> Life:
        self.do(
            c.Submit(ticket="req_1", terms=self.terms),
            self.by(self.terms.requester, verdict=said or verdict()),
        )
        return self

    def approve(self, identity: str = LEAD, login: Login | None = None) -> Life:
        assert self.ticket
        facts = c.msgspec.structs.replace(self.lead(identity), login=login)
        self.do(c.Approve(digest=self.ticket.digest), facts)
        return self

    def start(self, held=(), ticketed=()) -> Life:
        assert self.ticket
        standing = tuple(d.approver for d in self.ticket.decisions)
        facts = self.system(verdict=verdict(), standing_approvers=standing)
        self.do(c.StartProvisioning(held=held, ticketed=ticketed), facts)
        return self

    def grant(self, *granted: Privilege) -> Life:
        self.do(c.RecordGrant(granted=granted or (RW,)), self.system())
        return self

    def expire(self) -> Life:
        assert self.ticket
        assert self.ticket.expiry
        self.now = self.ticket.expiry
        self.do(c.End(cause="expired"), self.system())
        return self

    def gone(self) -> Life:
        self.do(c.RecordRevocation(sessions_ended=1), self.system())
        return self


def in_status(status: str) -> Life:
    """A life that has come to this status in the ordinary way."""
    life = Life()
    match status:
        case "pending":
            return life.submit()
        case "approved":
            return life.submit().approve()
        case "provisioning":
            return life.submit().approve().start()
        case "active":
            return life.submit().approve().start().grant()
        case "revoking":
            return life.submit().approve().start().grant().expire()
        case "revoked":
            return life.submit(verdict(review_within=3600)).approve().start().grant().expire().gone()
        case "closed":
            return life.submit().approve().start().grant().expire().gone()
        case "denied":
            life.submit()
            life.do(c.Deny(comment=WORDS), life.lead())
            return life
        case "withdrawn":
            life.submit()
            life.do(c.Withdraw(), life.by(REQUESTER))
            return life
        case "lapsed":
            life.submit()
            life.now += timedelta(days=1)
            life.do(c.Lapse(), life.system())
            return life
        case "failed":
            life.submit().approve().start()
            life.do(c.FailProvisioning(code="target.rejected", message="no such role"), life.system())
            return life.gone()
    raise AssertionError(status)
