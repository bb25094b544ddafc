"""Counter-offers: less than was asked, as terms of their own, that count once the requester accepts them (I3, I5)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core.lives import BENEFICIARY, LEAD, LEAD2, OWNER, REQUESTER, RW, SUPER, WORDS, Life, verdict
from core.test_deciding import steady
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.scope import Privilege, covers
from muniment.core.terms import terms_digest

RO = Privilege(privilege="orders_ro")


def asked(needed: int = 2) -> Life:
    return Life(scope=(RO, RW)).submit(verdict(needed=needed))


def counter(life: Life, who: str = LEAD, **less) -> Life:
    life.do(
        c.Counter(**{"digest": life.ticket.digest, "duration": 60, "comment": WORDS} | less), life.lead(who)
    )
    return life


def accept(life: Life, who: str = REQUESTER, offer: str | None = None, **facts) -> Life:
    told = life.by(who, verdict=facts.pop("verdict", verdict(needed=2)), **facts)
    life.do(c.Accept(offer=life.ticket.offer.digest if offer is None else offer), told)
    return life


def refused(code: str, do, *words, **more) -> None:
    with pytest.raises(Refused) as caught:
        do(*words, **more)
    assert caught.value.code == code
    assert caught.value.remedy


def test_an_offer_changes_nothing_by_itself() -> None:
    life = asked().approve()
    before = life.ticket
    counter(life, LEAD2)
    assert life.ticket.offer.by == LEAD2
    assert replace(life.ticket, offer=before.offer, version=before.version) == before


def test_accepted_it_is_the_request_and_every_approval_begins_anew() -> None:
    life = counter(asked().approve(), LEAD2, duration=60, scope=(RW,))
    old = life.ticket.digest
    events = life.do(c.Accept(offer=life.ticket.offer.digest), life.by(REQUESTER, verdict=verdict(needed=2)))
    assert [type(event) for event in events] == [e.CounterAccepted, e.PolicyDecided]
    assert events[0].voided == (LEAD,)
    assert (life.ticket.terms.duration, life.ticket.terms.scope) == (60, (RW,))
    assert life.ticket.digest == terms_digest("req_1", life.ticket.terms) != old
    assert (life.ticket.decisions, life.ticket.status) == ((), "pending")
    # what was shown before is no longer what is decided on, for those who had approved it and those who had not
    for who in (LEAD, LEAD2):
        refused("refused.stale-approval", life.do, c.Approve(digest=old), life.lead(who))
    life.approve(LEAD).approve(LEAD2)  # also who approved before, and who offered
    assert life.ticket.approved == (RW,)
    [approved] = [r.event for r in life.events if isinstance(r.event, e.RequestApproved)]
    assert (approved.scope, approved.duration) == ((RW,), 60)
    life.do(
        c.StartProvisioning(held=(), ticketed=()),
        life.system(verdict=verdict(needed=2), standing_approvers=(LEAD, LEAD2)),
    )
    assert life.ticket.expiry - life.ticket.start == timedelta(seconds=60)


@pytest.mark.parametrize(
    "more",
    [
        {"duration": 7201},
        {"duration": 0},
        {"duration": -60},
        {"duration": None, "scope": (RW, SUPER)},
        {"duration": None, "scope": (SUPER,)},
        {"duration": None, "scope": ()},
        {"duration": 60, "scope": (replace(RW, resource="x"),)},
        {"duration": 7200, "scope": (RW, RO)},
        {"duration": None, "scope": None},
    ],
)
def test_an_offer_is_for_less_or_none(more) -> None:
    with pytest.raises(Invalid):
        counter(asked(), **more)


@pytest.mark.parametrize(
    "more",
    [
        {"duration": 1},
        {"duration": 7199},
        {"duration": 7200, "scope": (RW,)},
        {"duration": None, "scope": (RO,)},
    ],
)
def test_an_offer_is_less_in_one_way_or_the_other(more) -> None:
    terms = counter(asked(), **more).ticket.offer.terms
    assert (terms.duration, terms.scope) == (more["duration"] or 7200, more.get("scope", (RO, RW)))


def test_an_offer_has_no_field_for_anything_else() -> None:
    assert set(c.Counter.__struct_fields__) == {"digest", "duration", "scope", "comment"}


@pytest.mark.parametrize("who", [LEAD, OWNER, BENEFICIARY, "human:eve@example.com"])
def test_only_the_requester_accepts(who: str) -> None:
    refused("refused.not-yours", accept, counter(asked()), who)


def test_only_who_could_decide_offers() -> None:
    life = asked()
    for who in (REQUESTER, OWNER):
        refused("refused.self-approval", counter, life, who)
    refused(
        "refused.not-an-approver",
        life.do,
        c.Counter(digest=life.ticket.digest, duration=60, comment=WORDS),
        life.by(LEAD),
    )
    refused("refused.stale-approval", counter, life, digest="sha256:00")


def test_a_newer_offer_takes_the_place_of_the_older() -> None:
    life = counter(asked(), LEAD, duration=60)
    old = life.ticket.offer.digest
    counter(life, LEAD2, duration=120)
    refused("refused.stale-offer", accept, life, offer=old)
    assert accept(life).ticket.terms.duration == 120
    refused("refused.no-offer", accept, life, offer=life.ticket.digest)


def test_policy_judges_what_was_offered() -> None:
    life = accept(counter(asked()), verdict=verdict(permitted=False))
    assert life.ticket.status == "denied"
    life = accept(counter(asked()), verdict=verdict(needed=0))
    assert (life.ticket.status, life.ticket.approved) == ("approved", (RO, RW))
    refused("refused.inactive", accept, counter(asked()), active=False)
    life = counter(asked())
    refused("refused.inactive", life.do, c.Accept(offer=life.ticket.offer.digest), life.by(REQUESTER))


def test_not_after_it_lapsed_and_not_once_it_is_decided() -> None:
    life = counter(asked())
    life.now = life.ticket.lapses_at
    refused("refused.lapsed", accept, life)
    refused("refused.lapsed", counter, life)
    life = counter(asked(1)).approve(LEAD2)
    offered = life.events[-3].event.offer
    assert not life.ticket.offer
    refused("refused.status", accept, life, offer=offered)


@given(
    st.lists(st.sampled_from(["approve", "approve2", "counter", "narrow", "accept", "wrong"]), max_size=12)
)
@steady
def test_whatever_the_order_an_approval_is_of_the_terms_that_are_given(steps) -> None:
    life = asked()
    for step in steps:
        half = max(1, life.ticket.terms.duration // 2)
        moves = {
            "approve": lambda: life.approve(LEAD),
            "approve2": lambda: life.approve(LEAD2),
            "counter": lambda half=half: counter(life, duration=half),
            "narrow": lambda: counter(life, LEAD2, duration=None, scope=life.ticket.terms.scope[:1]),
            "accept": lambda: accept(life),
            "wrong": lambda: life.do(c.Approve(digest="sha256:00"), life.lead(LEAD)),
        }
        try:
            moves[step]()
        except (MunimentError, AttributeError):
            continue
        t = life.ticket
        assert all(d.digest == t.digest for d in t.decisions)
        assert covers((RO, RW), t.terms.scope)
        assert t.terms.duration <= 7200
        assert t.digest == terms_digest("req_1", t.terms)
        if t.status == "approved":
            assert t.approved == t.terms.scope
            assert {d.approver for d in t.decisions} == {LEAD, LEAD2}
