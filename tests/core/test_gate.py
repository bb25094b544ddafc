"""What the gate refuses, one rule a row: each fails when its rule is taken out of `core.filing` or `core.approving`.

`tools/mutate.py` takes them out, one by one. What other tables hold already (who, in which status, in which order of
stages) is not repeated here.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from core.lives import BENEFICIARY, LEAD, LEAD2, REQUESTER, WORDS, Life, authority, in_status, terms, verdict
from core.test_stages import CONSENT, GUS, for_another, given_to, staged
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.approving import decider
from muniment.core.errors import MunimentError
from muniment.core.filing import named_references, unmet
from muniment.core.identity import Identity
from muniment.core.separation import require_independent
from muniment.core.verdict import Obligations, Stage

INCIDENT = {"kind": "break_glass", "incident": "INC-1", "requester": REQUESTER, "duration": 3600}


def refusal(do, *words, **more) -> MunimentError:
    with pytest.raises(MunimentError) as caught:
        do(*words, **more)
    return caught.value


def broken(**changes) -> Life:
    """A glass that was broken by Ann for herself: access is there, and two approvals are owed afterwards."""
    life = Life(**(INCIDENT | {"beneficiary": REQUESTER, "account": "ann"} | changes))
    life.owners = ()
    life.submit(verdict(needed=2))
    life.do(c.StartProvisioning(held=(), ticketed=()), life.system(verdict=verdict(needed=2)))
    return life


def approving(life: Life, who: str = LEAD, **facts):
    return life.do(c.Approve(digest=life.ticket.digest), replace(life.lead(who), **facts))


def test_the_code_says_what_was_not_to_be_done_alone() -> None:
    ticket = in_status("active").ticket
    for act, code in (("approve", "refused.self-approval"), ("review", "refused.self-review")):
        assert refusal(require_independent, ticket, Identity(id=REQUESTER), (), act).code == code


# ── who approves, when ──


@pytest.mark.parametrize("status", ["provisioning", "active", "revoking", "revoked"])
def test_an_ordinary_request_is_not_approved_once_it_was_given(status: str) -> None:
    """Later than pending, approvals are for a broken glass alone: also those of somebody who has not voted."""
    life = in_status(status)
    assert refusal(approving, life, LEAD2).code == "refused.status"


def test_approvals_of_a_broken_glass_are_recorded_and_give_nothing_again() -> None:
    life = broken()
    for who in (LEAD, LEAD2):
        assert [type(event) for event in approving(life, who)] == [e.ApprovalRecorded]
    assert life.ticket.status == "provisioning"


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"on_incident": (LEAD,)}, "refused.involved"),
        ({"superiors": (REQUESTER,)}, "refused.subordinate"),
        ({"stale": "the file cannot be read"}, "refused.stale-directory"),
        (
            {"actor": Identity(id="ai_agent:bot"), "authority": authority("ai_agent:bot")},
            "refused.not-a-person",
        ),
        ({"actor": Identity(id=LEAD, active=False)}, "refused.inactive"),
        ({"authority": None}, "refused.not-an-approver"),
        ({"authority": authority(LEAD2)}, "refused.not-an-approver"),
    ],
    ids=str,
)
def test_who_cannot_approve_a_broken_glass(facts, code: str) -> None:
    life = broken()
    assert refusal(approving, life, **facts).code == code
    assert life.ticket.decisions == ()


def test_a_responder_has_no_say_and_nobody_has_it_for_them() -> None:
    life = broken(responders=(LEAD,))
    assert refusal(approving, life, LEAD).code == "refused.involved"
    assert refusal(for_another, life, GUS, given_to(GUS)).code == "refused.involved"
    told = {"above": {LEAD: (REQUESTER,)}}
    assert refusal(for_another, broken(), GUS, given_to(GUS), **told).code == "refused.subordinate"


@pytest.mark.parametrize("act", [c.Approve(digest=""), c.Deny(comment=WORDS)], ids=["approve", "deny"])
def test_no_machine_decides_whatever_policy_says(act) -> None:
    life = in_status("pending")
    act = replace(act, digest=life.ticket.digest) if isinstance(act, c.Approve) else act
    told = life.by("workload:api", authority=authority("workload:api"))
    assert refusal(life.do, act, told).code == "refused.not-a-person"


def test_a_directory_that_may_be_old_lets_nobody_approve_and_everybody_deny() -> None:
    life = in_status("pending")
    assert refusal(approving, life, stale="the file cannot be read").code == "refused.stale-directory"
    life.do(c.Deny(comment=WORDS), replace(life.lead(), stale="the file cannot be read"))
    assert life.ticket.status == "denied"


def test_nobody_at_all_is_no_approver() -> None:
    assert refusal(decider, c.Facts(), "approve").code == "refused.not-a-person"


# ── in whose right ──


def test_an_approver_in_two_stages_agrees_to_the_first_and_not_as_an_owner() -> None:
    """Whoever is in a stage of consent without being an owner decides in their other stages, too."""
    consent = replace(CONSENT, approvers=(LEAD, "group:owners"))
    ordinary = Stage(name="dba-leads", needed=1, approvers=("group:dba-leads",))
    life = staged(ordinary, consent)
    told = life.by(LEAD, authority=authority(LEAD, stages=("dba-leads", "consent")))
    life.do(c.Approve(digest=life.ticket.digest), told)
    assert [d.stage for d in life.ticket.decisions] == ["dba-leads"]


def test_a_delegate_may_deny_for_somebody_who_approved_before() -> None:
    """A vote counts once; a no ends the ticket, whoever said yes."""
    life = Life().submit(verdict(needed=2)).approve(LEAD)
    theirs = replace(authority(LEAD), delegation=given_to(GUS))
    assert refusal(for_another, life, GUS, given_to(GUS)).code == "refused.already-decided"
    life.do(c.Deny(comment=WORDS), life.by(GUS, delegated=(theirs,)))
    assert life.ticket.status == "denied"


def test_in_a_stage_that_has_its_approvals_nobody_approves_and_anybody_denies() -> None:
    first = Stage(name="dba", needed=1, approvers=("group:dba",))
    second = Stage(name="security", needed=1, approvers=("group:security",), after=("dba",))
    life = staged(first, second)
    told = {who: life.by(who, authority=authority(who, stages=("dba",))) for who in (LEAD, LEAD2)}
    early = life.by(GUS, authority=authority(GUS, stages=("security",)))
    assert refusal(life.do, c.Approve(digest=life.ticket.digest), early).code == "refused.stage-not-open"
    life.do(c.Approve(digest=life.ticket.digest), told[LEAD])
    assert (
        refusal(life.do, c.Approve(digest=life.ticket.digest), told[LEAD2]).code == "refused.stage-satisfied"
    )
    life.do(c.Deny(comment=WORDS), told[LEAD2])
    assert [d.decision for d in life.ticket.decisions] == ["approve", "deny"]
    assert life.ticket.status == "denied"


# ── what is filed ──


def test_a_machine_that_has_used_up_its_budget_files_nothing() -> None:
    life = Life()
    told = life.by(life.terms.requester, verdict=verdict())
    spent = replace(told.spent[0], held=told.spent[0].budget.concurrent_grants)
    submit = c.Submit(ticket="req_1", terms=life.terms)
    assert refusal(life.do, submit, replace(told, spent=(spent,))).code == "refused.budget-grants"
    assert refusal(life.do, submit, replace(told, spent=())).code == "refused.budget"
    assert life.do(submit, told)


def test_the_incident_of_a_broken_glass_is_a_reference_and_nothing_else_adds_one() -> None:
    assert named_references(terms(references={"change": "CHG-7"})) == {"change": "CHG-7"}
    assert named_references(terms(references={"change": "CHG-7"}, incident="INC-1")) == {
        "change": "CHG-7",
        "incident": "INC-1",
    }


@pytest.mark.parametrize(
    ("named", "kind", "message", "remedy"),
    [
        ({}, "change", "policy demands an open change here", "--reference change=ID"),
        ({"references": {"change": "CHG-7"}}, "change", "policy demands an open change here, and CHG-7 is not known to be one", "--reference change=ID"),
        ({}, "incident", "policy demands an open incident here", "--incident ID"),
        ({"incident": "INC-1"}, "incident", "policy demands an open incident here, and INC-1 is not known to be one", "--incident ID"),
    ],
    ids=str,
)  # fmt: skip
def test_a_reference_that_must_be_open_is_named_in_the_refusal(named, kind, message, remedy) -> None:
    said = unmet(terms(**named), Obligations(longest=3600, references_open=(kind,)), c.Facts())
    assert said is not None
    assert (said.code, said.message) == ("refused.reference-not-open", message)
    assert remedy in said.remedy
    other = Obligations(longest=3600, references_open=("case", kind))
    first = unmet(terms(**named), other, c.Facts(open_references=(kind,)))
    assert first is not None
    assert first.message == "policy demands an open case here"


@pytest.mark.parametrize("who", [REQUESTER, BENEFICIARY])
def test_what_is_seen_to_be_ones_own_is_never_decided(who: str) -> None:
    life = in_status("pending")
    assert refusal(approving, life, actor=Identity(id=LEAD, aliases=(who,))).code == "refused.self-approval"
