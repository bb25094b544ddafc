"""While a request waits: who is reminded when, who may decide as well, and that each of it happens once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from core.lives import HOUR, LEAD, LEAD2, NOW, REQUESTER, WORDS, Life, authority, verdict
from core.test_stages import CONSENT, FIRST, staged
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.due import due
from muniment.core.errors import Refused
from muniment.core.instants import wire

MINUTE = timedelta(minutes=1)
BOSS = "human:boss@example.com"


def patient(**obliged) -> Life:
    more = {
        "remind_after": 600,
        "escalate_after": 3600,
        "escalate_to": ("group:managers",),
        "lapse_after": 7200,
    }
    return Life().submit(verdict(needed=2, **(more | obliged)))


def controllers(life: Life) -> list[str]:
    """What they do on the way to the end, each at the instant that it is due."""
    done = []
    while (todo := due(life.ticket)) and life.ticket.status == "pending":
        life.now = todo[1] - timedelta(microseconds=1)
        command = {"remind": c.Remind(approvers=(LEAD,)), "escalate": c.Escalate(), "lapse": c.Lapse()}[
            todo[0]
        ]
        assert life.do(command, life.system()) == ()  # not before its time
        life.now = todo[1]
        assert life.do(command, life.system())
        assert life.ticket.ended or life.do(command, life.system()) == ()  # and once
        done.append(f"{todo[0]} {(todo[1] - NOW) // MINUTE}")
    return done


@pytest.mark.parametrize(
    ("obliged", "happens"),
    [
        ({}, ["remind 10", "escalate 60", "lapse 120"]),
        ({"remind_after": 3600}, ["escalate 60", "remind 60", "lapse 120"]),
        ({"lapse_after": 3600}, ["remind 10", "lapse 60"]),
        ({"lapse_after": 60}, ["lapse 1"]),
        ({"remind_after": 86_400, "escalate_after": 86_400}, ["lapse 120"]),
    ],
)
def test_in_this_order(obliged, happens) -> None:
    assert controllers(patient(**obliged)) == happens


def test_nothing_of_it_where_policy_does_not_say_so() -> None:
    assert controllers(Life().submit()) == ["lapse 1440"]


@pytest.mark.parametrize("status", ["pending", "approved"])
def test_what_could_not_begin_in_its_window_is_over_at_its_very_end(status: str) -> None:
    life = Life(starts_at=wire(NOW + HOUR)).submit(verdict(lapse_after=86_400))
    if status == "approved":
        life.approve()
    life.now = life.ticket.expiry - timedelta(microseconds=1)
    assert life.do(c.Lapse(), life.system()) == ()
    life.now = life.ticket.expiry
    [event] = life.do(c.Lapse(), life.system())
    assert event.reason == "its window was over before access could begin"


def test_a_decision_begins_the_waiting_anew() -> None:
    life = patient(lapse_after=86_400)
    life.now = NOW + 10 * MINUTE
    assert life.do(c.Remind(approvers=()), life.system())
    life.now = NOW + 30 * MINUTE
    life.approve(LEAD)
    assert due(life.ticket) == ("remind", NOW + 40 * MINUTE)
    life.now = NOW + 40 * MINUTE
    assert life.do(c.Remind(approvers=()), life.system())
    assert due(life.ticket) == ("escalate", NOW + 90 * MINUTE)


def test_those_it_was_escalated_to_may_decide_from_then_on() -> None:
    life = patient()
    may = authority(BOSS)
    assert life.ticket.stages[0].approvers == ("group:dba-leads",)
    life.now = NOW + HOUR
    [escalated] = life.do(c.Escalate(), life.system())
    assert escalated == e.RequestEscalated(stages=("dba-leads",), to=("group:managers",))
    assert life.ticket.stages[0].approvers == ("group:dba-leads", "group:managers")
    life.do(c.Approve(digest=life.ticket.digest), life.by(BOSS, authority=may))
    life.approve(LEAD2)
    assert life.ticket.status == "approved"


def test_escalation_lets_nobody_agree_for_an_owner() -> None:
    life = staged(FIRST, CONSENT)
    obliged = replace(life.ticket.obligations, escalate_after=60, escalate_to=("group:managers",))
    ticket = replace(life.ticket, obligations=obliged, escalated_at=life.ticket.filed_at)
    assert [s.approvers for s in ticket.stages] == [("group:dba", "group:managers"), CONSENT.approvers]


def test_accepted_terms_are_waited_for_anew() -> None:
    life = patient(lapse_after=86_400)
    life.now = NOW + HOUR
    life.do(c.Escalate(), life.system())
    life.do(c.Remind(approvers=()), life.system())
    life.do(c.Counter(digest=life.ticket.digest, duration=60, comment=WORDS), life.lead())
    obliged = {"remind_after": 600, "escalate_after": 3600, "escalate_to": ("group:managers",)}
    accepted = c.Accept(offer=life.ticket.offer.digest)
    life.do(accepted, life.by(REQUESTER, verdict=verdict(needed=2, **obliged)))
    assert due(life.ticket) == ("remind", NOW + HOUR + 10 * MINUTE)
    assert life.ticket.stages[0].approvers == ("group:dba-leads",)


def test_nobody_left_is_noted_once_for_each_change() -> None:
    life = patient()
    note = c.NoteMissing(stages=("dba-leads",), reasons=("nobody is in it",))
    assert life.do(note, life.system())
    assert life.do(note, life.system()) == ()
    assert life.ticket.missing == ("dba-leads",)
    assert life.do(c.NoteMissing(), life.system()) == (e.ApproversMissing(stages=(), reasons=()),)
    assert not life.ticket.missing
    assert life.do(c.NoteMissing(), life.system()) == ()


def test_people_remind_and_escalate_nobody() -> None:
    life = patient()
    life.now = NOW + HOUR
    for command in (c.Remind(approvers=()), c.Escalate(), c.NoteMissing()):
        with pytest.raises(Refused):
            life.do(command, life.lead())
