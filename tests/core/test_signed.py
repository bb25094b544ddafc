"""What policy demands of an approver's own signature, at the gate and again before anything is given."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from core.lives import LEAD, RW, Life, verdict
from muniment.core import commands as c
from muniment.core.errors import Refused
from muniment.core.events import RequestDenied
from muniment.core.login import Login
from muniment.core.statement import approval_statement


def test_a_signature_is_demanded_where_policy_says_so() -> None:
    life = Life().submit(verdict(signed=True))
    assert life.ticket
    with pytest.raises(Refused) as refused:
        life.approve()
    assert refused.value.code == "refused.signature-required"
    facts = life.lead()
    signed = c.Approve(digest=life.ticket.digest, signature="sig")
    with pytest.raises(Refused) as refused:
        life.do(signed, facts)
    assert refused.value.code == "refused.signature"
    life.do(signed, c.msgspec.structs.replace(facts, signed_by="ssh-ed25519 AAAA"))
    assert life.ticket.status == "approved"
    assert life.ticket.decisions[0].signature == "sig"


def test_an_unsigned_approval_does_not_stand_once_policy_demands_a_signature() -> None:
    life = Life().submit().approve()
    facts = life.system(verdict=verdict(signed=True), standing_approvers=(LEAD,))
    (denied,) = life.do(c.StartProvisioning(held=(), ticketed=()), facts)
    assert isinstance(denied, RequestDenied)
    assert denied.reasons == (
        "what policy demands changed since the approval: approvers must sign their approvals",
    )


def test_the_statement_names_all_that_it_means_and_where_it_counts() -> None:
    ticket = Life().submit().ticket
    assert ticket
    assert approval_statement("log.example/x", ticket, LEAD, "sha256:00") == (
        b'{"approver":"human:cyd@example.com","decision":"approve","digest":"sha256:00","kind":"muniment-approval/1",'
        b'"log":"log.example/x","since":"2026-11-23T10:00:00.000000Z","ticket":"req_1"}'
    )
    other = Life(scope=(RW,), duration=60).submit().ticket
    assert other
    assert other.digest != ticket.digest


LOGIN = Login(
    method="oidc",
    issuer="https://idp.example",
    subject="1",
    at="2026-11-23T10:00:00.000000Z",
    level=2,
    acr="mfa",
)
#: the login → why it does not do where assurance 2 is demanded; None: it does
LOGINS = [
    (None, "nobody signed in"),
    (replace(LOGIN, level=1), "has assurance 1"),
    (LOGIN, None),
    (replace(LOGIN, level=3), None),
    (replace(LOGIN, at="2026-11-23T09:45:00.000000Z"), None),
    (replace(LOGIN, at="2026-11-23T09:44:59.999999Z"), "older than 15 minutes"),
]


@pytest.mark.parametrize(("login", "why"), LOGINS)
def test_where_assurance_is_demanded_approvers_signed_in_just_now_and_well_enough(
    login: Login | None, why: str | None
) -> None:
    life = Life().submit(verdict(assurance=2))
    if why is None:
        assert login is not None
        assert life.approve(login=login).ticket.decisions[0].login == login
        return
    with pytest.raises(Refused, match=why) as refused:
        life.approve(login=login)
    assert refused.value.code == "refused.assurance-required"
    assert "level=2" in refused.value.remedy


def test_approvals_given_before_policy_demanded_assurance_do_not_count_where_it_does() -> None:
    for login, begins in ((None, False), (replace(LOGIN, level=1), False), (LOGIN, True)):
        life = Life().submit().approve(login=login)
        facts = life.system(verdict=verdict(assurance=2), standing_approvers=(LEAD,))
        events = life.do(c.StartProvisioning(held=(), ticketed=()), facts)
        assert isinstance(events[0], RequestDenied) is not begins


def test_an_approval_by_those_whom_policy_asked_before_counts_no_longer() -> None:
    """The stage has the name it had: its target has other owners."""
    life = Life().submit().approve()
    now = verdict()
    assert now.obligations
    [stage] = now.obligations.stages
    for approvers, begins in ((("group:others",), False), (("group:dba-leads", "group:others"), True)):
        stages = (c.msgspec.structs.replace(stage, approvers=approvers),)
        said = c.msgspec.structs.replace(
            now, obligations=c.msgspec.structs.replace(now.obligations, stages=stages)
        )
        before = life.ticket
        events = life.do(
            c.StartProvisioning(held=(), ticketed=()),
            life.system(verdict=said, standing_approvers=(LEAD,)),
        )
        assert isinstance(events[0], RequestDenied) is not begins
        life.ticket = before
