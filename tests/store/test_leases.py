"""Leases are efficiency; the fence, checked in the transaction that records the effect, is the safety (I19)."""

from __future__ import annotations

import threading

import pytest

from muniment.core.errors import Conflict, LeaseLost
from muniment.ports import Appended, Claim, Lease
from muniment.store.events import SqlStore
from store.stores import HandClock, Shelf, an_append, done, nothing, opened

KEY = "pg-prod/billing"


def claim(store: SqlStore, holder: str, seconds: int = 60, key: str = KEY) -> Lease | None:
    return store.claim([Claim(key=key, holder=holder, seconds=seconds)]).get(key)


def test_one_holder_at_a_time(store: SqlStore) -> None:
    mine = claim(store, "me")
    assert mine
    assert claim(store, "other") is None
    assert store.confirm([mine])


def test_claiming_again_is_the_same_lease(store: SqlStore) -> None:
    assert claim(store, "me") == claim(store, "me")


def test_a_lease_ends_at_its_instant_and_not_before(store: SqlStore, clock: HandClock) -> None:
    mine = claim(store, "me", 60)
    assert mine
    clock.pass_by(59.999999)
    assert claim(store, "other") is None
    assert store.confirm([mine])
    clock.pass_by(0.000001)
    assert not store.confirm([mine])
    theirs = claim(store, "other", 60)
    assert theirs
    assert theirs.fence > mine.fence


def test_the_fence_rises_with_every_holder_also_after_release(store: SqlStore, clock: HandClock) -> None:
    fences = []
    for number in range(6):
        lease = claim(store, f"holder-{number}", 10)
        assert lease
        fences.append(lease.fence)
        if number % 2:
            store.release([lease])
        else:
            clock.pass_by(10)
    assert fences == sorted(set(fences))


def test_releasing_a_lost_lease_does_not_free_the_new_holders(store: SqlStore, clock: HandClock) -> None:
    mine = claim(store, "me", 10)
    clock.pass_by(11)
    theirs = claim(store, "other", 10)
    assert mine
    assert theirs
    store.release([mine])
    assert store.confirm([theirs])
    assert claim(store, "me") is None
    assert not store.confirm([mine, theirs])  # all of them, or none


def test_a_worker_that_was_paused_past_its_lease_records_nothing(store: SqlStore, clock: HandClock) -> None:
    mine = claim(store, "me", 10)
    clock.pass_by(11)
    theirs = claim(store, "other", 10)
    with pytest.raises(LeaseLost):
        store.append(an_append("effect", "mine", at=clock.at, fence=mine))
    assert store.entries("effect") == []
    store.append(an_append("effect", "theirs", at=clock.at, fence=theirs))
    assert len(store.entries("effect")) == 1


def test_a_fence_that_nobody_ever_had_is_refused(store: SqlStore) -> None:
    with pytest.raises(LeaseLost):
        store.append(an_append("effect", "x", fence=Lease(key="never-claimed", fence=1)))


def test_a_claim_is_taken_with_its_events_or_not_at_all(store: SqlStore) -> None:
    taken = store.append(an_append("intent", "x", claim=Claim(key=KEY, holder="me", seconds=60)))
    assert taken.lease
    assert store.confirm([taken.lease])
    with pytest.raises(LeaseLost):
        store.append(an_append("intent-2", "x", claim=Claim(key=KEY, holder="other", seconds=60)))
    assert store.entries("intent-2") == []
    with pytest.raises(Conflict):  # its version is old, so the claim must not stay behind either
        store.append(an_append("intent", "x", claim=Claim(key="free", holder="me", seconds=60)))
    assert claim(store, "other", key="free")


def test_claims_for_one_key_in_one_commit(store: SqlStore) -> None:
    """Two passes gathered into one commit: one gets the account. Two tickets of one pass: both, under one fence."""
    first, second, other = store.append_many(
        [
            an_append("a", "x", claim=Claim(key=KEY, holder="pass-1", seconds=60)),
            an_append("b", "x", claim=Claim(key=KEY, holder="pass-1", seconds=60)),
            an_append("c", "x", claim=Claim(key=KEY, holder="pass-2", seconds=60)),
        ]
    )
    assert done(first).lease == done(second).lease
    assert done(first).lease
    assert isinstance(other, LeaseLost)
    assert store.entries("c") == []


def test_releasing_comes_with_the_effect(store: SqlStore) -> None:
    mine = claim(store, "me")
    store.append(an_append("effect", "x", fence=mine, release=True))
    assert mine
    assert not store.confirm([mine])
    theirs = claim(store, "other")
    assert theirs
    assert theirs.fence == mine.fence + 1
    with pytest.raises(LeaseLost):
        store.append(an_append("effect-2", "x", fence=mine))


def test_a_released_lease_stays_when_the_effect_was_not_recorded(store: SqlStore) -> None:
    mine = claim(store, "me")
    store.append(an_append("effect", "x"))
    with pytest.raises(Conflict):
        store.append(an_append("effect", "again", fence=mine, release=True))
    assert mine
    assert store.confirm([mine])


def test_many_claims_at_once(store: SqlStore) -> None:
    assert claim(store, "other", key="k3")
    wanted = [Claim(key=f"k{n}", holder="me", seconds=60) for n in (5, 3, 1)]
    assert set(store.claim(wanted)) == {"k5", "k1"}
    assert store.claim([]) == {}
    assert store.confirm([])


def test_threads_and_stores_race_for_one_lease(shelf: Shelf) -> None:
    url = shelf.url()
    rounds, workers = 8, 4
    winners: list[tuple[int, Lease]] = []
    barrier = threading.Barrier(workers, timeout=30)
    clock = HandClock()
    with opened(url, clock) as one, opened(url, clock) as other:

        def race(me: int) -> None:
            for number in range(rounds):
                barrier.wait()
                lease = claim((one, other)[me % 2], f"{me}-{number}", 10)
                if lease:
                    winners.append((number, lease))
                if barrier.wait() == 0:
                    clock.pass_by(10)
                barrier.wait()

        threads = [threading.Thread(target=race, args=(me,)) for me in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(number for number, _ in winners) == list(range(rounds))
    assert sorted(lease.fence for _, lease in winners) == list(range(1, rounds + 1))


def test_an_effect_and_a_takeover_cannot_both_happen(shelf: Shelf) -> None:
    """At each instant either the holder's effect is recorded under its fence, or the fence has risen."""
    url = shelf.url()
    clock = HandClock()
    with opened(url, clock) as one, opened(url, clock) as other:
        for number in range(6):
            mine = claim(one, f"me-{number}", 10)
            clock.pass_by(10)
            results: dict[str, object] = {}

            def effect(mine: Lease | None = mine, number: int = number, results=results) -> None:
                results["effect"] = one.append_many([an_append(f"e{number}", "x", at=clock.at, fence=mine)])[
                    0
                ]

            def takeover(number: int = number, results=results) -> None:
                results["lease"] = claim(other, f"other-{number}", 10)

            threads = [threading.Thread(target=effect), threading.Thread(target=takeover)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            recorded = isinstance(results["effect"], Appended)
            assert recorded == (len(one.entries(f"e{number}")) == 1)
            late = one.append_many([an_append(nothing(f"late{number}"), "x", at=clock.at, fence=mine)])[0]
            assert isinstance(late, LeaseLost)
            clock.pass_by(10)
