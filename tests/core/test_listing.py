"""Accounts and grants too large for one entry: what was held before is recorded whole, an excess counted and bound to."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from core.lives import RW, Life, in_status
from muniment.core import commands as c
from muniment.core.events import (
    AccountRead,
    Event,
    FindingRaised,
    GrantObserved,
    ProvisioningStarted,
    RevocationObserved,
    encode_data,
)
from muniment.core.listing import BESIDE, MOST_HELD, in_entries, listed
from muniment.core.scope import Privilege, Scope, excess, scope
from muniment.ledger.canonical import MAX_ENTRY
from muniment.ledger.entry import Actor, Entry

#: beside the event itself: the envelope, with names as long as they may be
ENVELOPE = 2048

steady = settings(derandomize=True, database=None, deadline=None, max_examples=40)


def many(count: int, length: int = 60) -> Scope:
    return scope(Privilege(privilege=f"{n:05}".ljust(length, "x")) for n in range(count))


def fits(event: Event) -> None:
    entry = Entry(
        log="x" * 80, ticket="req_1", seq=10**6, prev="sha256:" + "0" * 64, type=event.kind,
        actor=Actor(id="system:muniment", via="controller"), at="2026-11-23T10:00:00.000000Z",
        data=msgspec.Raw(encode_data(event)),
    )  # fmt: skip
    assert len(entry.encode()) <= MAX_ENTRY


@given(st.integers(0, 1500), st.integers(5, 400))
@steady
def test_what_was_held_before_goes_in_whole(count: int, length: int) -> None:
    held = many(count, length)
    parts = in_entries(held)
    if parts is None:
        assert len(encode_data(AccountRead(held=held))) > MOST_HELD
        return
    assert tuple(item for part in parts for item in part) == held
    for part in parts[:-1]:
        assert part
        fits(AccountRead(held=part))
    assert len(encode_data(AccountRead(held=parts[-1]))) <= BESIDE + ENVELOPE


def test_the_ticket_knows_all_that_was_held_before() -> None:
    held = many(600)
    life = in_status("approved").start(held=held)
    kinds = [r.event.kind for r in life.events]
    assert kinds[-3:] == ["account-read/1", "account-read/1", "provisioning-started/1"]
    assert life.ticket
    assert (life.ticket.status, life.ticket.held) == ("provisioning", held)


def test_little_is_in_the_intent_itself_as_before() -> None:
    life = in_status("approved").start(held=many(10))
    assert isinstance(life.events[-1].event, ProvisioningStarted)
    assert life.events[-1].event.held == many(10)


def test_an_account_that_no_ledger_can_take_down_gets_nothing() -> None:
    for held in (many(5000), many(1, 30_000)):
        life = in_status("approved").start(held=held)
        assert life.ticket
        assert (life.ticket.status, life.ticket.failure and life.ticket.failure.code) == (
            "failed",
            "target.too-much-held",
        )


@given(st.integers(1, 2000), st.integers(5, 400))
@steady
def test_every_entry_about_an_excess_fits(count: int, length: int) -> None:
    given_too = scope((*many(count, length), RW))
    life = in_status("provisioning").grant(*given_too)
    assert life.ticket
    assert life.ticket.status == "revoking"
    life.now += life.terms.length  # long overdue: one more finding, which names all of it too
    life.do(c.FailRevocation(code="target.unavailable", message="no answer"), life.system())
    life.gone()
    for recorded in life.events:
        fits(recorded.event)
    [seen] = [r.event for r in life.events if isinstance(r.event, GrantObserved)]
    assert RW in seen.granted
    if seen.whole is msgspec.UNSET:
        assert seen.granted == given_too
        return
    assert seen.whole.count == len(given_too) > len(seen.granted)
    assert seen.comparison.excess == excess((RW,), seen.granted)
    assert not life.ticket.read_back
    excessive = next(r.event for r in life.events if isinstance(r.event, FindingRaised))
    assert f"{count} privileges more" in excessive.message


def test_the_digest_is_over_all_of_it() -> None:
    one, other = many(500), many(501)[1:]
    digests = {whole.digest for _, whole in (listed((RW,), one), listed((RW,), other)) if whole}
    assert len(digests) == 2


def test_one_name_too_long_to_list_is_no_exact_match() -> None:
    life = in_status("provisioning").grant(RW, Privilege(privilege="x" * 30_000))
    assert life.ticket
    assert life.ticket.status == "revoking"
    assert not any(
        r.event.comparison.exact and not r.event.whole
        for r in life.events
        if isinstance(r.event, GrantObserved)
    )


def test_more_than_approved_seen_while_it_ends_is_a_failure_and_a_finding() -> None:
    """It was given back before anybody could read the target; then more is seen there (I16)."""
    life = returned()
    assert life.ticket
    more = Privilege(privilege="more")
    events = life.do(c.RecordGrant(granted=scope((RW, more))), life.system())
    assert [event.kind for event in events] == [
        "grant-observed/1",
        "finding-raised/1",
        "provisioning-failed/1",
    ]
    assert life.ticket.status == "revoking"
    assert life.do(c.RecordGrant(granted=scope((RW, more))), life.system()) == ()  # said once
    life.gone()
    [gone] = [r.event.gone for r in life.events if isinstance(r.event, RevocationObserved)]
    assert gone == scope((RW, more))


def test_what_was_approved_seen_while_it_ends_is_no_news() -> None:
    for granted in ((), (RW,)):
        life = returned()
        assert life.do(c.RecordGrant(granted=granted), life.system()) == ()


def returned() -> Life:
    life = in_status("provisioning")
    life.do(c.Return(), life.by(life.terms.requester))
    assert life.ticket
    assert life.ticket.status == "revoking"
    return life
