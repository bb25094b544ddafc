"""Stages in order, one vote a person, consent of owners, and deciding on behalf of others (I2, I4)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core.lives import (
    BENEFICIARY,
    LEAD,
    LEAD2,
    NOW,
    OWNER,
    REQUESTER,
    WORDS,
    Life,
    authority,
    person,
    verdict,
)
from core.test_deciding import steady
from muniment.core import commands as c
from muniment.core.closure import CHECKS
from muniment.core.delegation import LONGEST_DELEGATION, Delegation, delegate
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity
from muniment.core.instants import wire
from muniment.core.verdict import Stage

EVE, FAY, GUS = (f"human:{name}@example.com" for name in ("eve", "fay", "gus"))
FIRST = Stage(name="dba", needed=1, approvers=("group:dba",))
SECOND = Stage(name="security", needed=1, approvers=("group:security",), after=("dba",))
THIRD = Stage(name="board", needed=1, approvers=("group:board",), after=("dba", "security"))
CONSENT = Stage(name="consent", needed=1, approvers=(OWNER,), consent=True)


def staged(*stages: Stage, **changes) -> Life:
    said = verdict()
    return Life(**changes).submit(replace(said, obligations=replace(said.obligations, stages=stages)))


def approve(life: Life, who: str, *stages: str, **facts) -> Life:
    told = life.by(who, authority=authority(who, stages=stages), **facts)
    life.do(c.Approve(digest=life.ticket.digest), told)
    return life


def code(do, *words, **more) -> str:
    with pytest.raises(Refused) as caught:
        do(*words, **more)
    return caught.value.code


# ── order ──


def test_a_later_stage_waits_for_the_earlier() -> None:
    life = staged(FIRST, SECOND, THIRD)
    for who, stage in ((EVE, "security"), (FAY, "board")):
        assert code(approve, life, who, stage) == "refused.stage-not-open"
        deny = (c.Deny(comment=WORDS), life.by(who, authority=authority(who, stages=(stage,))))
        assert code(life.do, *deny) == "refused.stage-not-open"
    assert [s.name for s in life.ticket.open_stages()] == ["dba"]
    approve(life, LEAD, "dba")
    assert code(approve, life, FAY, "board") == "refused.stage-not-open"
    approve(life, EVE, "security")
    assert life.ticket.status == "pending"
    approve(life, FAY, "board")
    assert life.ticket.status == "approved"


def test_of_two_stages_one_is_in_the_open_one_counts() -> None:
    life = approve(staged(FIRST, SECOND), LEAD, "security", "dba")
    assert life.ticket.decisions[0].stage == "dba"


def test_one_person_does_not_fill_two_stages() -> None:
    life = approve(staged(FIRST, SECOND), LEAD, "dba", "security")
    assert code(approve, life, LEAD, "security") == "refused.already-decided"
    told = life.by(
        "human:cyd.other@example.com",
        authority=authority("human:cyd.other@example.com", stages=("security",)),
        actor=Identity(id="human:cyd.other@example.com", aliases=(LEAD,)),
    )
    assert code(life.do, c.Approve(digest=life.ticket.digest), told) == "refused.already-decided"


STAGES = (FIRST, replace(FIRST, name="ops", needed=2), SECOND, THIRD)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([LEAD, LEAD2, EVE, FAY, GUS, REQUESTER, OWNER]),
            st.sets(st.sampled_from([s.name for s in STAGES]), min_size=1),
        ),
        max_size=12,
    )
)
@steady
def test_any_votes_leave_order_and_distinct_people(votes) -> None:
    life = staged(*STAGES)
    for who, stages in votes:
        if life.ticket.status != "pending":
            break
        try:
            approve(life, who, *(s.name for s in STAGES if s.name in stages))
        except Refused:
            continue
    decided = life.ticket.decisions
    people = [d.approver for d in decided]
    assert len(set(people)) == len(people)
    assert not {REQUESTER, OWNER} & set(people)
    needed = {s.name: s.needed for s in STAGES}
    for at, decision in enumerate(decided):
        stage = next(s for s in STAGES if s.name == decision.stage)
        before = [d.stage for d in decided[:at]]
        assert all(before.count(earlier) >= needed[earlier] for earlier in stage.after or ())
        assert before.count(stage.name) < stage.needed
    full = all([d.stage for d in decided].count(s) >= n for s, n in needed.items())
    assert (life.ticket.status == "approved") == full


# ── consent ──


def test_an_owner_agrees_and_that_is_not_enough() -> None:
    life = approve(staged(FIRST, CONSENT), OWNER, "consent")
    assert life.ticket.status == "pending"
    assert code(approve, life, OWNER, "dba") == "refused.already-decided"
    approve(life, LEAD, "dba")
    assert life.ticket.status == "approved"
    assert CHECKS["nobody_alone"](life.ticket)


def test_an_owner_decides_in_no_other_stage_by_that() -> None:
    life = staged(replace(FIRST, needed=2), CONSENT)
    approve(life, OWNER, "dba", "consent")
    assert life.ticket.decisions[0].stage == "consent"
    assert not CHECKS["nobody_alone"](
        replace(life.ticket, decisions=(replace(life.ticket.decisions[0], stage="dba"),))
    )
    assert code(approve, staged(FIRST, CONSENT), OWNER, "dba") == "refused.self-approval"


def test_who_asks_for_their_own_machine_agreed_by_asking_and_decides_nothing() -> None:
    own = replace(CONSENT, approvers=(REQUESTER, OWNER))
    life = staged(FIRST, own)
    assert [s.name for s in life.ticket.open_stages()] == ["dba"]
    assert code(approve, life, REQUESTER, "consent") == "refused.self-approval"
    assert approve(life, LEAD, "dba").ticket.status == "approved"


def test_the_beneficiary_and_machines_never_agree() -> None:
    assert code(approve, staged(FIRST, CONSENT), BENEFICIARY, "consent") == "refused.not-a-person"
    life = staged(FIRST, CONSENT, beneficiary=OWNER)
    assert code(approve, life, OWNER, "consent") == "refused.self-approval"
    machine = staged(FIRST, replace(CONSENT, approvers=("service_account:deploy",)))
    assert code(approve, machine, "service_account:deploy", "consent") == "refused.not-a-person"
    gone = person(OWNER, active=False)
    assert code(approve, staged(FIRST, CONSENT), OWNER, "consent", actor=gone) == "refused.inactive"


# ── delegation ──


def given_to(to: str, by: str = LEAD, hours: float = 24, start: float = 0) -> Delegation:
    starts = NOW + timedelta(hours=start)
    return Delegation(
        id="dlg_1", by=by, to=to, starts_at=wire(starts), ends_at=wire(starts + timedelta(hours=hours))
    )


def for_another(life: Life, who: str, delegation: Delegation, *, holder: str | None = None, **facts) -> Life:
    theirs = replace(authority(holder or delegation.by), delegation=delegation)
    life.do(c.Approve(digest=life.ticket.digest), life.by(who, delegated=(theirs,), **facts))
    return life


def test_a_delegate_decides_and_it_says_for_whom() -> None:
    life = for_another(Life().submit(), GUS, given_to(GUS))
    assert life.ticket.status == "approved"
    assert life.ticket.decisions[0].voters == (GUS, LEAD)
    assert CHECKS["nobody_alone"](life.ticket)


#: what makes a delegation worth nothing on this ticket
WORTHLESS = {
    "it is over": lambda life: for_another(life, GUS, given_to(GUS, hours=0.5, start=-1)),
    "it is over at its end": lambda life: for_another(life, GUS, given_to(GUS, hours=1, start=-1)),
    "it has not begun": lambda life: for_another(life, GUS, given_to(GUS, start=1)),
    "it is another's": lambda life: for_another(life, GUS, given_to(FAY)),
    "another's authority under it": lambda life: for_another(life, GUS, given_to(GUS), holder=LEAD2),
    "to the requester": lambda life: for_another(life, REQUESTER, given_to(REQUESTER)),
    "to the owner": lambda life: for_another(life, OWNER, given_to(OWNER)),
    "to the beneficiary": lambda life: for_another(life, BENEFICIARY, given_to(BENEFICIARY)),
    "to an alias of the owner": lambda life: for_another(
        life, GUS, given_to(GUS), actor=Identity(id=GUS, aliases=(OWNER,))
    ),
    "to a report of the requester": lambda life: for_another(life, GUS, given_to(GUS), superiors=(FAY, REQUESTER)),
    "to a report of the owner": lambda life: for_another(life, GUS, given_to(GUS), superiors=(OWNER,)),
    "by the requester": lambda life: for_another(life, GUS, given_to(GUS, by=REQUESTER)),
    "by the owner": lambda life: for_another(life, GUS, given_to(GUS, by=OWNER)),
    "to an agent": lambda life: for_another(life, "ai_agent:bot", given_to("ai_agent:bot")),
    "to somebody deactivated": lambda life: for_another(
        life, GUS, given_to(GUS), actor=Identity(id=GUS, active=False)
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", WORTHLESS)
def test_worth_nothing(why: str) -> None:
    life = Life().submit(verdict(needed=2))
    with pytest.raises(Refused) as caught:
        WORTHLESS[why](life)
    assert caught.value.code.startswith("refused.")
    assert life.ticket.decisions == ()


def test_a_vote_for_somebody_is_theirs_too() -> None:
    life = for_another(Life().submit(verdict(needed=3)), GUS, given_to(GUS))
    assert code(life.approve, LEAD) == "refused.already-decided"
    assert code(for_another, life, FAY, given_to(FAY)) == "refused.already-decided"
    assert code(for_another, life, GUS, given_to(GUS, by=LEAD2)) == "refused.already-decided"
    life.approve(LEAD2)
    assert life.ticket.approvals_in("dba-leads") == 2


def test_whom_they_report_to_is_named_the_first_of_several() -> None:
    above = ("human:zoe@example.com", OWNER, REQUESTER)
    life = staged(FIRST)
    life.owners = (OWNER,)
    with pytest.raises(Refused, match=f"reports to {REQUESTER} and cannot decide on behalf") as caught:
        for_another(life, GUS, given_to(GUS), superiors=above)
    assert caught.value.code == "refused.not-delegated"


def test_ones_own_authority_comes_first() -> None:
    life = Life().submit(verdict(needed=2))
    theirs = replace(authority(LEAD), delegation=given_to(LEAD2))
    life.do(c.Approve(digest=life.ticket.digest), replace(life.lead(LEAD2), delegated=(theirs,)))
    assert not life.ticket.decisions[0].on_behalf


def test_by_nobody_and_by_whoever_left() -> None:
    life = Life().submit()
    for told in (life.system(), replace(life.lead(), actor=person(LEAD, active=False))):
        assert code(life.do, c.Approve(digest=life.ticket.digest), told) in {
            "refused.actor",
            "refused.inactive",
        }
    theirs = replace(authority(LEAD), delegation=given_to(GUS))
    told = life.by(GUS, authority=authority(GUS, permitted=False), delegated=(theirs,))
    life.do(c.Approve(digest=life.ticket.digest), told)  # another's authority where one's own is none
    assert life.ticket.decisions[0].voters == (GUS, LEAD)


def test_the_reason_given_is_that_of_ones_own_authority() -> None:
    life = Life().submit()
    theirs = replace(authority(LEAD), delegation=given_to(GUS, hours=0.5, start=-1))
    told = life.by(GUS, authority=authority(GUS, permitted=False), delegated=(theirs,))
    assert code(life.do, c.Approve(digest=life.ticket.digest), told) == "refused.by-policy"
    told = life.by(GUS, delegated=(theirs,))
    assert code(life.do, c.Approve(digest=life.ticket.digest), told) == "refused.not-delegated"


def test_what_policy_keeps_the_holder_from_it_keeps_the_delegate_from() -> None:
    life = Life().submit()
    theirs = replace(authority(LEAD, permitted=False), delegation=given_to(GUS))
    told = life.by(GUS, delegated=(theirs,))
    assert code(life.do, c.Approve(digest=life.ticket.digest), told) == "refused.by-policy"


def test_a_delegation_agrees_for_no_owner() -> None:
    life = staged(FIRST, CONSENT)
    theirs = replace(authority(EVE, stages=("consent",)), delegation=given_to(GUS, by=EVE))
    told = life.by(GUS, delegated=(theirs,))
    assert code(life.do, c.Approve(digest=life.ticket.digest), told).startswith("refused.")


PEOPLE = {"lead": person(LEAD), "gus": person(GUS), "left": person(FAY, active=False),
          "bot": Identity(id="ai_agent:bot"), "alias": Identity(id=GUS, aliases=(LEAD,))}  # fmt: skip


@pytest.mark.parametrize(
    ("by", "to", "starts", "ends", "wrong"),
    [
        ("lead", "gus", 0, 24, None),
        ("lead", "gus", 48, 72, None),
        ("lead", "gus", -48, 1, None),  # the past is past: it begins now
        ("left", "gus", 0, 24, Refused),
        ("bot", "gus", 0, 24, Refused),
        ("lead", "left", 0, 24, Refused),
        ("lead", "bot", 0, 24, Refused),
        ("lead", None, 0, 24, Refused),
        ("lead", "lead", 0, 24, Invalid),
        ("lead", "alias", 0, 24, Invalid),
        ("alias", "lead", 0, 24, Invalid),
        ("lead", "gus", 24, 24, Invalid),
        ("lead", "gus", -2, 0, Invalid),
        ("lead", "gus", 0, 90 * 24, None),
        ("lead", "gus", -48, 90 * 24, None),
        ("lead", "gus", 0, 90 * 24 + 1, Invalid),
    ],
)
def test_handing_it_on(by, to, starts, ends, wrong) -> None:
    at = [NOW + timedelta(hours=hours) for hours in (starts, ends)]
    words = ("dlg_1", PEOPLE[by], PEOPLE.get(to), *at, NOW)
    if wrong:
        with pytest.raises(wrong):
            delegate(*words)
        return
    made = delegate(*words)
    assert (made.by, made.to) == (PEOPLE[by].id, PEOPLE[to].id)
    assert made.starts_at >= wire(NOW)
    assert at[1] - max(at[0], NOW) <= LONGEST_DELEGATION
