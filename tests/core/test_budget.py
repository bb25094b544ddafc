"""Budgets of machines and agents, as a table: what was used, what is asked, and what they are told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.lives import HOUR, NOW, Life, verdict
from muniment.core import commands as c
from muniment.core.budget import Spent, also, budget_of, require_within
from muniment.core.errors import Refused
from muniment.core.identity import Budget, Identity
from muniment.core.instants import wire

BOT, OTHER = "ai_agent:triage", "ai_agent:other"
SMALL = Budget(requests_per_hour=2, concurrent_grants=2, longest=900)


def ago(minutes: int) -> str:
    return wire(NOW - timedelta(minutes=minutes))


def bot(**changes) -> Spent:
    return Spent(**{"identity": BOT, "budget": SMALL, "filed": (), "held": 0, "ends": ()} | changes)


#: what was used; who asks for whom; seconds; the refusal, and what it says of when there is room again
TABLE = {
    "nothing used": (bot(), BOT, BOT, 900, None, ""),
    "a second too long": (bot(), BOT, BOT, 901, "refused.budget-duration", "15 min"),
    "one request left": (bot(filed=(ago(59),)), BOT, BOT, 60, None, ""),
    "no request left": (bot(filed=(ago(59), ago(1))), BOT, BOT, 60, "refused.budget-requests", "10:01:00 UTC"),
    "three, of which the oldest frees nothing": (
        bot(filed=(ago(50), ago(40), ago(1))), BOT, BOT, 60, "refused.budget-requests", "10:20:00 UTC",
    ),
    "an hour ago is over": (bot(filed=(ago(60), ago(1))), BOT, BOT, 60, None, ""),
    "its owner asks: the requests are not its own": (bot(filed=(ago(2), ago(1))), "human:ann", BOT, 60, None, ""),
    "it asks for another: it holds nothing by that": (bot(held=2), BOT, OTHER, 60, None, ""),
    "as many as it may hold": (
        bot(held=2, ends=(wire(NOW + HOUR),)), "human:ann", BOT, 60, "refused.budget-grants", "11:00:00 UTC",
    ),
    "held, and nobody knows until when": (bot(held=2), BOT, BOT, 60, "refused.budget-grants", "once one of them ends"),
    "a budget of nothing": (
        bot(budget=Budget(requests_per_hour=0, concurrent_grants=9, longest=900)), BOT, BOT, 60, "refused.budget-requests", "never",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_the_table(case: str) -> None:
    spent, requester, beneficiary, seconds, code, says = TABLE[case]
    terms = Life(requester=requester, beneficiary=beneficiary, duration=seconds).terms
    if code is None:
        require_within(spent, terms, NOW)
        return
    with pytest.raises(Refused) as refused:
        require_within(spent, terms, NOW)
    assert refused.value.code == code
    assert says in f"{refused.value.message} {refused.value.remedy}"


def test_there_is_a_budget_though_nobody_wrote_one() -> None:
    assert budget_of(Identity(id=BOT)) == Budget(requests_per_hour=60, concurrent_grants=20, longest=28800)
    own = Identity(id=BOT, budget=Budget(concurrent_grants=0))
    assert budget_of(own) == Budget(requests_per_hour=60, concurrent_grants=0, longest=28800)


def test_a_longest_time_that_is_not_known_is_none_at_all() -> None:
    unknown = bot(budget=Budget(requests_per_hour=2, concurrent_grants=2))
    with pytest.raises(Refused) as refused:
        require_within(unknown, Life(requester="human:ann", beneficiary=BOT, duration=1).terms, NOW)
    assert refused.value.code == "refused.budget-duration"
    assert refused.value.message == f"{BOT} has a budget: no access of more than 0 s"


@pytest.mark.parametrize("beneficiary", ["ai_agent:x", "service_account:x", "workload:spiffe://x/y"])
def test_a_budget_that_is_not_known_is_used_up(beneficiary: str) -> None:
    life = Life(beneficiary=beneficiary)
    with pytest.raises(Refused) as refused:
        life.do(
            c.Submit(ticket="req_1", terms=life.terms),
            life.by(life.terms.requester, verdict=verdict(), spent=()),
        )
    assert refused.value.code == "refused.budget"


def test_what_is_filed_in_the_same_moment_counts() -> None:
    mine = Life(requester=BOT, beneficiary=BOT).terms
    for_it = Life(requester="human:ann", beneficiary=BOT).terms
    for_another = Life(requester=BOT, beneficiary=OTHER).terms
    spent = also(bot(filed=(ago(5),), held=1), (mine, for_it, for_another), NOW)
    assert spent.filed == (ago(5), wire(NOW), wire(NOW))
    assert spent.held == 3
    assert also(bot(held=1), (), NOW) == bot(held=1)


@pytest.mark.parametrize(
    ("spent", "says"),
    [
        (
            bot(held=2, ends=(wire(NOW), wire(NOW + HOUR))),
            "11:00:00 UTC at the latest",
        ),  # what is over frees nothing
        (bot(held=2, ends=(wire(NOW),)), "once one of them ends"),
        (
            bot(
                budget=Budget(requests_per_hour=2, concurrent_grants=0, longest=900), ends=(wire(NOW + HOUR),)
            ),
            "once",
        ),
    ],
)
def test_when_there_is_room_again(spent: Spent, says: str) -> None:
    with pytest.raises(Refused) as refused:
        require_within(spent, Life(requester="human:ann", beneficiary=BOT, duration=60).terms, NOW)
    assert refused.value.code == "refused.budget-grants"
    assert says in str(refused.value.remedy)
