"""Each closure check made false by itself: a ticket then stays open, and some checks nobody waives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from core.lives import (
    BENEFICIARY,
    LEAD,
    LEAD2,
    NOW,
    REQUESTER,
    RW,
    SUPER,
    WORDS,
    Life,
    in_status,
    person,
    verdict,
)
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.closure import CHECKS, NEVER_WAIVED, closable, never_waived, run_checks
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity
from muniment.core.instants import wire
from muniment.core.ticket import Failure, Finding, Review, Ticket, Waiver

OPERATOR = "human:opa@example.com"
LATER = wire(NOW + timedelta(days=1))


def whole() -> Ticket:
    """A ticket for which every check holds, as it stood just before it closed."""
    life = in_status("revoked")
    life.do(c.Review(outcome="appropriate", comment=WORDS), life.by(LEAD, auditor=True))
    assert life.ticket
    return replace(life.ticket, status="revoked", checks=(), ended_at=None)


def decision(t: Ticket, **changes):
    return (replace(t.decisions[0], **changes),)


#: (check, what breaks it): nothing else may notice
BREAKS = [
    ("approved_before_provisioned", lambda t: replace(t, approved_at=None)),
    ("approved_before_provisioned", lambda t: replace(t, approved_at=LATER)),
    ("approved_before_provisioned", lambda t: replace(t, decisions=())),
    ("approved_before_provisioned", lambda t: replace(t, decisions=decision(t, decision="deny"))),
    ("approved_before_provisioned", lambda t: replace(t, decisions=decision(t, stage="another"))),
    ("nobody_alone", lambda t: replace(t, decisions=decision(t, approver=REQUESTER))),
    ("nobody_alone", lambda t: replace(t, decisions=decision(t, approver=BENEFICIARY))),
    ("nobody_alone", lambda t: replace(t, accountable=(LEAD,))),
    ("nobody_alone", lambda t: replace(t, decisions=(*t.decisions, *t.decisions))),
    ("nobody_alone", lambda t: replace(t, decisions=(*t.decisions, *decision(t, stage="another")))),
    ("approvals_bind_terms", lambda t: replace(t, decisions=decision(t, digest="sha256:00"))),
    ("approvals_bind_terms", lambda t: replace(t, digest="sha256:00")),
    ("approvals_bind_terms", lambda t: replace(t, decisions=(*t.decisions, *decision(t, approver=LEAD2, digest="")))),
    ("scope_not_exceeded", lambda t: replace(t, granted=(RW, SUPER))),
    ("scope_not_exceeded", lambda t: replace(t, granted=(replace(RW, resource="x"),))),
    ("scope_not_exceeded", lambda t: replace(t, approved=())),
    ("time_bound", lambda t: replace(t, expires_at=None)),
    ("time_bound", lambda t: replace(t, expires_at=LATER)),
    ("time_bound", lambda t: replace(t, obligations=replace(t.obligations, longest=7199))),
    ("gone", lambda t: replace(t, revocation=None)),
    ("gone", lambda t: replace(t, revocation=replace(t.revocation, observed_gone_at=None))),
    ("gone", lambda t: replace(t, revocation=replace(t.revocation, observed_gone_at=None, attested_by=OPERATOR))),
    ("reviewed", lambda t: replace(t, review=Review(due_at=LATER))),
    ("reviewed", lambda t: replace(t, review=None)),
    ("findings_resolved", lambda t: replace(t, findings=(open_finding(),))),
    ("findings_resolved", lambda t: replace(t, findings=(replace(open_finding(), resolved_at=LATER), open_finding()))),
]  # fmt: skip


def open_finding() -> Finding:
    return Finding(id="1", type="excess", severity="high", message="m", scope=(), raised_at=LATER)


def test_the_whole_ticket_closes() -> None:
    checks = run_checks(whole())
    assert [x.check for x in checks] == list(CHECKS)
    assert all(x.holds and x.waived is None for x in checks)
    assert closable(checks)


@pytest.mark.parametrize(("name", "broken"), BREAKS)
def test_each_check_fails_by_itself(name: str, broken) -> None:
    checks = run_checks(broken(whole()))
    assert [x.check for x in checks if not x.holds] == [name]
    assert not closable(checks)


def test_every_check_is_broken_above() -> None:
    assert {name for name, _ in BREAKS} == set(CHECKS)


@pytest.mark.parametrize(("name", "broken"), BREAKS)
def test_a_waiver_counts_for_its_check_only(name: str, broken) -> None:
    ticket = broken(whole())
    for waived in CHECKS:
        with_waiver = replace(ticket, waivers=(Waiver(check=waived, by=OPERATOR, reason=WORDS),))
        assert closable(run_checks(with_waiver)) == (waived == name)


@pytest.mark.parametrize(("name", "broken"), BREAKS)
def test_who_waives_what(name: str, broken) -> None:
    """Through `decide`: never what points at a fault, and never by somebody with a stake."""
    life = in_status("revoked")
    life.ticket = broken(whole())
    command = c.Waive(check=name, reason=WORDS)
    for who in (REQUESTER, BENEFICIARY, "human:oda@example.com", "human:eve@example.com"):
        actor = Identity(id=who)
        steward = who != "human:eve@example.com"
        with pytest.raises(Refused):
            life.do(command, replace(life.system(), actor=actor, steward=steward))
    by_operator = life.by(OPERATOR, steward=True)
    if name in NEVER_WAIVED:
        with pytest.raises(Refused, match="never waived"):
            life.do(command, by_operator)
        return
    events = life.do(command, by_operator)
    assert isinstance(events[-1], e.RequestClosed)
    result = {x.check: x for x in events[-1].checks}[name]
    assert (result.holds, result.waived) == (False, OPERATOR)
    assert life.ticket.ended


FAULTS = {"approved_before_provisioned", "nobody_alone", "approvals_bind_terms"}


def test_never_waived_are_the_three_that_point_at_a_fault() -> None:
    assert never_waived(whole()) == NEVER_WAIVED == FAULTS


def test_nor_is_the_review_of_a_broken_glass() -> None:
    """It stands in for the approvals beforehand (I10)."""
    glass = replace(whole(), terms=replace(whole().terms, kind="break_glass", incident="INC-1"))
    assert never_waived(glass) == FAULTS | {"reviewed", "findings_resolved"}
    life = in_status("revoked")
    life.ticket = glass
    for name in sorted(never_waived(glass)):
        with pytest.raises(Refused, match="never waived"):
            life.do(c.Waive(check=name, reason=WORDS), life.by(OPERATOR, steward=True))


def test_as_long_as_policy_allows_is_not_too_long() -> None:
    ticket = whole()
    exact = replace(ticket, obligations=replace(ticket.obligations, longest=ticket.terms.duration))
    assert CHECKS["time_bound"](exact)
    short = replace(exact, obligations=replace(exact.obligations, longest=ticket.terms.duration - 1))
    assert not CHECKS["time_bound"](short)


@pytest.mark.parametrize("name", CHECKS)
def test_what_holds_needs_no_waiver(name: str) -> None:
    life = in_status("revoked")
    if name == "reviewed":
        return  # it does not hold there
    with pytest.raises(Refused):
        life.do(c.Waive(check=name, reason=WORDS), life.by(OPERATOR, steward=True))


@pytest.mark.parametrize("name", ["", "Gone", "gone ", "nothing", "x" * 5000])
def test_a_check_that_does_not_exist(name: str) -> None:
    life = in_status("revoked")
    with pytest.raises(Invalid):
        life.do(c.Waive(check=name, reason=WORDS), life.by(OPERATOR, steward=True))


@pytest.mark.parametrize("name", [n for n in CHECKS if n != "gone"])
def test_while_revoking_only_gone_may_be_waived(name: str) -> None:
    life = in_status("revoking")
    with pytest.raises(Refused):
        life.do(c.Waive(check=name, reason=WORDS), life.by(OPERATOR, steward=True))


def test_attesting_that_it_is_gone_does_not_spare_the_review() -> None:
    """I10: the target is down, an operator gives their word; the review that was owed is still owed."""
    life = Life().submit(verdict(review_within=3600)).approve().start().grant().expire()
    life.do(c.Waive(check="gone", reason=WORDS), life.by(OPERATOR, steward=True))
    assert life.ticket
    assert life.ticket.status == "revoked"
    assert life.ticket.review
    assert life.ticket.review.outcome is None
    assert life.ticket.revocation
    assert life.ticket.revocation.attested_by == OPERATOR
    assert life.ticket.revocation.observed_gone_at is None
    life.do(c.Review(outcome="appropriate", comment=WORDS), life.lead())
    assert life.ticket.status == "closed"
    assert {x.check: x.waived for x in life.ticket.checks}["gone"] == OPERATOR


def test_attesting_closes_where_no_review_is_owed() -> None:
    life = in_status("revoking")
    life.do(c.Waive(check="gone", reason=WORDS), life.by(OPERATOR, steward=True))
    assert life.ticket
    assert life.ticket.status == "closed"


def test_break_glass_owes_a_review_even_where_policy_forgot() -> None:
    life = Life(kind="break_glass", incident="INC-1").submit(verdict(needed=0))
    life.do(c.StartProvisioning(held=(), ticketed=()), life.system(verdict=verdict(needed=0)))
    life.grant().expire().gone()
    assert life.ticket
    assert life.ticket.status == "revoked"
    assert life.ticket.review
    with pytest.raises(Refused):
        life.do(c.Review(outcome="appropriate", comment=WORDS), life.by(REQUESTER, steward=True))
    life.do(c.Review(outcome="appropriate", comment=WORDS), life.by(OPERATOR, steward=True))
    assert life.ticket.status == "closed"


def test_an_inappropriate_review_keeps_it_open_until_it_is_dealt_with() -> None:
    life = in_status("revoked")
    life.do(c.Review(outcome="inappropriate", comment=WORDS), life.lead())
    assert life.ticket
    assert life.ticket.status == "revoked"
    life.do(c.Resolve(finding="1", reason=WORDS), life.by(OPERATOR, steward=True))
    assert life.ticket.status == "closed"


@pytest.mark.parametrize("gave", ["more", "nothing"])
def test_a_failed_grant_owes_a_review_unless_nothing_was_given(gave: str) -> None:
    life = Life().submit(verdict(review_within=3600)).approve().start()
    if gave == "nothing":
        life.do(c.FailProvisioning(code="target.rejected", message="no such role"), life.system())
    else:
        life.grant(RW, SUPER)
    life.gone()
    if gave == "more":
        assert life.ticket
        assert life.ticket.review
        life.do(c.Review(outcome="appropriate", comment=WORDS), life.by(LEAD, auditor=True))
        life.do(c.Resolve(finding="1", reason=WORDS), life.by(OPERATOR, steward=True))
    assert life.ticket
    assert life.ticket.status == "failed"


def test_a_failed_grant_ends_as_failed() -> None:
    life = Life().submit(verdict()).approve().start().grant(RW, SUPER).gone()
    assert life.ticket
    assert life.ticket.status == "revoked"  # the finding is open
    life.do(c.Resolve(finding="1", reason=WORDS), life.by(OPERATOR, steward=True))
    assert life.ticket.status == "failed"
    assert life.ticket.failure == Failure(code="target.excess", message=life.ticket.failure.message)
    assert {x.check: x.holds for x in life.ticket.checks} == dict.fromkeys(CHECKS, True)


def test_people_of_the_lives_are_who_they_seem() -> None:
    assert person(LEAD).groups == ("dba-leads",)
