"""Approvals on file against the stages that policy asks for when access is given: each person in one seat (I4)."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core.lives import LEAD, LEAD2, Life, authority, verdict
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.quorum import short_now, unfilled
from muniment.core.verdict import Stage

X, EVE, BO = "group:x", "human:eve@example.com", "human:bo@example.com"


def stage(name: str, *approvers: str, needed: int = 1) -> Stage:
    return Stage(name=name, needed=needed, approvers=approvers or (f"group:{name}",))


def asking(*stages: Stage):
    said = verdict()
    return replace(said, obligations=replace(said.obligations, stages=stages))


def approved(*stages: Stage, by: dict[str, str]) -> Life:
    """A ticket that was approved in these stages; ``by`` says who approved in which."""
    life = Life().submit(asking(*stages))
    for who, name in by.items():
        life.do(
            c.Approve(digest=life.ticket.digest),
            replace(life.lead(who), authority=authority(who, stages=(name,))),
        )
    assert life.ticket.status == "approved"
    return life


BEFORE, NOW = stage("bo or x", BO, X), stage("eve or x", EVE, X)
# the stage now, what Lead could decide of it, and whether that is enough
ASKED_OTHERWISE = {
    "the same": (BEFORE, (), True),
    "others, and Lead is one of them": (NOW, ("eve or x",), True),
    "others, and Lead is none of them": (NOW, (), False),
    "others of the same name, and Lead is one of them": (replace(NOW, name="bo or x"), ("bo or x",), True),
    "others of the same name, and Lead is none of them": (replace(NOW, name="bo or x"), (), False),
    "more of them": (replace(NOW, needed=2), ("eve or x",), False),
    "some more beside": (stage("bo or x", BO, X, EVE), (), True),
}


@pytest.mark.parametrize("case", ASKED_OTHERWISE)
def test_an_approval_counts_where_its_approver_is_asked_now(case: str) -> None:
    now, could, enough = ASKED_OTHERWISE[case]
    life = approved(BEFORE, by={LEAD: "bo or x"})
    facts = life.system(
        verdict=asking(now), standing_approvers=(LEAD,), entitled={LEAD: could} if could else {}
    )
    [event] = life.do(c.StartProvisioning(held=(), ticketed=()), facts)
    assert isinstance(event, e.ProvisioningStarted if enough else e.RequestDenied)


def test_an_approval_of_one_stage_fills_no_other_that_was_there_or_is_there_still() -> None:
    """Lead approved as an owner: that is no word of security's, although Lead is of security, too."""
    owners, security = stage("owners"), stage("security")
    life = approved(owners, by={LEAD: "owners"})
    both = {LEAD: ("owners", "security")}
    owed = asking(owners, security).obligations
    assert short_now(life.ticket, owed, both) == ("security",)
    # nor where security was asked before and the owners are not any more
    two = approved(owners, security, by={LEAD: "owners", LEAD2: "security"})
    more = asking(replace(security, needed=2)).obligations
    assert short_now(two.ticket, more, {LEAD: ("security",), LEAD2: ("security",)}) == ("security",)


def test_everybody_takes_one_seat_however_they_can_be_placed() -> None:
    """Lead could sit in both stages, Lead2 in one: there is a seat for each, whoever is looked at first."""
    life = approved(stage("bo or x"), stage("bo or y"), by={LEAD: "bo or x", LEAD2: "bo or y"})
    now = asking(stage("eve or x"), stage("eve or y")).obligations
    first, second = (
        {LEAD: ("eve or x", "eve or y"), LEAD2: ("eve or x",)},
        {LEAD: ("eve or x",), LEAD2: ("eve or x",)},
    )
    assert short_now(life.ticket, now, first) == ()
    assert short_now(life.ticket, now, second) == ("eve or y",)


PEOPLE, STAGES = ("a", "b", "c", "d"), tuple(stage(f"s{n}") for n in range(3))


@given(
    st.lists(st.sampled_from(STAGES), max_size=4),
    st.fixed_dictionaries({each: st.lists(st.sampled_from(PEOPLE), unique=True) for each in STAGES}),
)
def test_a_seat_stays_empty_only_where_no_order_fills_them_all(seats, people) -> None:
    """Beside every way of placing people, tried out."""
    orders = permutations(PEOPLE, len(seats))
    could = any(all(who in people[at] for who, at in zip(order, seats, strict=True)) for order in orders)
    empty = unfilled(seats, people)
    assert (not empty) is could
    assert empty <= set(seats)


def test_a_person_fills_one_seat() -> None:
    one, two = stage("one"), stage("two")
    assert unfilled([one, two], {one: [LEAD], two: [LEAD]}) == {two}
    assert unfilled([one, one], {one: [LEAD]}) == {one}
    assert unfilled([one, two], {one: [LEAD, LEAD2], two: [LEAD]}) == set()
