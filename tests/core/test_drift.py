"""The life of a finding of drift: what may follow what, and that nobody ends it with a word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.core import drift as d
from muniment.core import events as e
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity
from muniment.core.instants import wire
from muniment.core.inventory import Item

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OPS, CYD = (
    Identity(id="human:ops@example.com"),
    Identity(id="human:cyd@example.com", aliases=("human:c@example.org",)),
)
TEXT = "sha256:" + "0" * 64


def observed(**more) -> d.Observed:
    said = {"target": "pg", "type": "excess", "severity": "high", "reference": None, "message": "m"}
    return d.Observed(**(said | {"item": Item(account="ann", privilege="orders_rw", grantor="cs")} | more))


def after(drift, events, actor=OPS, at=NOW):
    for event in events:
        drift = d.evolve(drift, event, wire(at), actor.id)
    return drift


def raised(at=NOW) -> d.Drift:
    return after(None, d.raise_(observed(), None, "inv_1", DAY, at), at=at)


def explained() -> d.Drift:
    return after(raised(), d.explain(raised(), TEXT))


def accepted(until=NOW + DAY) -> d.Drift:
    events = d.accept(explained(), CYD, frozenset(), until=until, reason=TEXT, now=NOW)
    return after(explained(), events, CYD)


def test_a_finding_is_raised_once_however_often_it_is_seen() -> None:
    drift = raised()
    assert (drift.status, drift.due_at, drift.inventory) == ("open", wire(NOW + DAY), "inv_1")
    for known in (drift, explained(), accepted()):
        assert d.raise_(observed(), known, "inv_2", DAY, NOW + timedelta(hours=1)) == ()


def test_it_comes_back_when_it_was_over_or_its_time_is() -> None:
    over = after(raised(), d.resolve(raised(), "gone", "inv_2"))
    assert (over.status, over.outcome, over.resolved_at) == ("resolved", "gone", wire(NOW))
    [again] = d.raise_(observed(), over, "inv_3", DAY, NOW)
    back = after(over, [again])
    assert (back.status, back.resolved_at, back.version) == ("open", None, 3)
    assert d.raise_(observed(), accepted(), "inv_3", DAY, NOW + DAY) != ()


def test_its_name_is_that_of_the_trouble_and_not_of_its_giver_or_wording() -> None:
    same = [
        observed(message="other", severity="low", reference="x"),
        observed(item=Item(account="ann", privilege="orders_rw", grantor="bo")),
        observed(type="orphan"),  # nothing explains it: one trouble, whoever is behind the account
    ]
    assert {each.id for each in same} == {observed().id}
    other = [
        observed(target="other"), observed(type="altered", explained=True), observed(type="overdue", explained=True),
        *(observed(item=Item(**{"account": "ann", "privilege": "orders_rw", **more})) for more in (
            {"account": "bo"}, {"privilege": "x"}, {"resource": "x"}, {"ticket": "x"}, {"nested": True})),
    ]  # fmt: skip
    assert len({each.id for each in other} | {observed().id}) == len(other) + 1


def test_accepting_takes_somebody_else_than_who_explained_it_or_holds_it() -> None:
    for actor, holders, drift in (
        (OPS, frozenset(), explained()),
        (CYD, frozenset({"human:c@example.org"}), explained()),
        (Identity(id="service_account:x"), frozenset(), explained()),
        (CYD, frozenset(), raised()),
    ):
        with pytest.raises(Refused):
            d.accept(drift, actor, holders, until=NOW + DAY, reason=TEXT, now=NOW)
    assert accepted().status == "accepted"
    assert accepted().accepted_by == CYD.id


@pytest.mark.parametrize("until", [NOW, NOW - DAY, NOW + timedelta(days=90, seconds=1)])
def test_it_is_accepted_for_a_time(until: datetime) -> None:
    with pytest.raises(Invalid):
        d.accept(explained(), CYD, frozenset(), until=until, reason=TEXT, now=NOW)


def test_only_active_people_see_to_it() -> None:
    for to in (None, Identity(id="service_account:x"), Identity(id="human:x", active=False)):
        with pytest.raises(Invalid):
            d.assign(raised(), to, "x")
    assert after(raised(), d.assign(raised(), CYD, CYD.id)).assigned_to == CYD.id


def test_only_what_nothing_explains_is_taken_away() -> None:
    ordered = after(raised(), d.order_removal(raised(), TEXT, separate=False))
    assert (ordered.removal_by, ordered.status) == (OPS.id, "open")
    assert d.order_removal(ordered, TEXT, separate=False) == ()
    declared = after(None, d.raise_(observed(type="owner-gone", explained=True), None, "inv_1", DAY, NOW))
    nested = after(
        None, d.raise_(observed(item=Item(account="a", privilege="b", nested=True)), None, "inv_1", DAY, NOW)
    )
    for drift, separate in ((declared, False), (nested, False), (raised(), True)):
        with pytest.raises(Refused):
            d.order_removal(drift, TEXT, separate=separate)
    tagged = after(
        None, d.raise_(observed(item=Item(account="a", privilege="b", ticket="req_x")), None, "i", DAY, NOW)
    )
    assert d.order_removal(tagged, TEXT, separate=True) != ()


def test_what_is_over_is_left_alone() -> None:
    over = after(raised(), d.resolve(raised(), "covered", "inv_2"))
    assert d.resolve(over, "gone", "inv_3") == ()
    for act in (
        lambda: d.explain(over, TEXT),
        lambda: d.order_removal(over, TEXT, separate=False),
        lambda: d.assign(over, CYD, CYD.id),
        lambda: d.accept(over, CYD, frozenset(), until=NOW + DAY, reason=TEXT, now=NOW),
    ):
        with pytest.raises(Refused):
            act()


def test_nobody_sees_to_it_in_time() -> None:
    assert not raised().overdue(NOW)
    assert raised().overdue(NOW + DAY)
    assert not accepted().overdue(NOW + 9 * DAY)


def test_a_word_does_not_end_it() -> None:
    with pytest.raises(Refused):
        d.resolved_by_nobody(observed().id)
    d.resolved_by_nobody("req_x:1")


EVENTS = st.sampled_from(
    [
        *d.raise_(observed(), None, "inv", DAY, NOW), e.DriftAssigned(finding="f", to=CYD.id),
        e.DriftExplained(finding="f", explanation=TEXT), e.DriftAccepted(finding="f", until=wire(NOW), reason=TEXT),
        e.DriftResolved(finding="f", outcome="gone", inventory="inv"), e.TargetRetired(target="t"),
    ]
)  # fmt: skip


@given(st.lists(EVENTS))
def test_what_is_on_file_is_never_refused(events) -> None:
    """Total, and a function of the events alone (I24)."""
    recorded = [(event, wire(NOW), OPS.id) for event in events]
    drift = d.replay(recorded)
    assert drift == d.replay(recorded)
    assert (drift is None) == (not any(isinstance(event, e.DriftRaised) for event in events))
