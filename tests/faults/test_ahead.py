"""Ends that set out a moment before they are due: never early, and recorded as truly as any other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from faults.world import HOUR, LEASE_OVER, Ground, World
from muniment.conformance.proxy import Proxy
from muniment.controllers import runtime
from muniment.controllers.worker import Worker
from muniment.core.errors import Conflict, LeaseLost
from muniment.core.events import RevocationObserved, RevocationOrdered
from muniment.core.instants import parse_instant
from muniment.service import taking
from muniment.service.fulfilment import Progress
from muniment.service.taking import Ended, Ready, end_access, prepare_end, record_end

AHEAD = timedelta(milliseconds=10)
SECONDS = timedelta(seconds=1)


def near_their_ends(world: World, *names: str) -> tuple[list[str], dict[str, Ready]]:
    """Tickets of ann and bea that end 4 ms one after the other, prepared; the first ends in 5 ms."""
    tickets = []
    for name, who in zip(names, ("ann", "bea"), strict=False):
        tickets.append(world.active(name, who=who))
        world.clock.pass_by(timedelta(milliseconds=4))
    first = world.ticket(tickets[0]).expiry
    assert first
    world.clock.set(first - 2 * SECONDS)
    ready = prepare_end(world.desk, "pg", tickets, "me", world.clock.now() + 3 * SECONDS)
    assert set(ready) == set(tickets)
    world.clock.set(first - timedelta(milliseconds=5))
    return tickets, ready


def waiting(monkeypatch: pytest.MonkeyPatch, wait: Callable[[float], None]) -> None:
    """Wait for an end like this, and not in real time."""
    monkeypatch.setattr(taking, "time", SimpleNamespace(sleep=wait))


def set_out(world: World, tickets: list[str], ready: dict[str, Ready], asked=lambda: None) -> Ended:
    return end_access(world.desk, "pg", tickets, "me", ready, ahead=AHEAD, asked=asked)


def test_nothing_is_taken_before_all_that_go_together_are_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets, ready = near_their_ends(world, "rw", "ro")
    meanwhile = []

    def wait(seconds: float) -> None:
        meanwhile.append((world.holds(), world.holds("bea")))
        world.clock.pass_by(max(timedelta(seconds=seconds / 2), timedelta(milliseconds=1)))

    waiting(monkeypatch, wait)
    ended = set_out(world, tickets, ready)
    assert len(meanwhile) > 1
    assert set(map(str, meanwhile)) == {"(['rw'], ['ro'])"}
    assert (world.holds(), world.holds("bea"), ended.trouble) == ([], [], {})
    assert record_end(world.desk, [ended]).again == {}
    for ticket in tickets:
        closed = world.must(ticket, "closed")
        entries = world.desk.store.entries(ticket)
        [gone] = [parse_instant(e.at) for e in entries if isinstance(e.event, RevocationObserved)]
        assert closed.expiry
        assert gone >= closed.expiry
    world.sound()


def test_a_clock_that_does_not_get_there_takes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tickets, ready = near_their_ends(world, "rw", "ro")
    waiting(monkeypatch, lambda _seconds: None)
    ended = set_out(world, tickets, ready)
    assert {type(error) for error in ended.trouble.values()} == {LeaseLost}
    assert set(record_end(world.desk, [ended]).again) == set(tickets)
    assert (world.holds(), world.holds("bea")) == (["rw"], ["ro"])
    for ticket in tickets:
        world.must(ticket, "active")
    world.later(SECONDS)  # nothing is kept from whoever comes at the end itself
    for ticket in tickets:
        world.must(ticket, "closed")
    world.sound()


def test_what_ends_later_stays_where_it_is(world: World) -> None:
    ticket = world.active()
    world.clock.pass_by(HOUR - 2 * AHEAD)
    assert set_out(world, [ticket], {}).works == []
    world.must(ticket, "active")
    assert world.holds() == ["rw"]


def test_returned_after_it_was_prepared(world: World) -> None:
    """What is said of a ticket here is known at its end, though it is not read again."""
    [ticket], ready = near_their_ends(world, "rw")
    world.give_back(ticket)
    record_end(world.desk, [set_out(world, [ticket], ready)])
    assert [e.cause for e in world.events(ticket, RevocationOrdered)] == ["returned"]
    world.must(ticket, "closed")
    world.sound()


def test_returned_elsewhere_after_it_was_prepared(any_ground: Ground) -> None:
    """Another node recorded its return. It is taken all the same, and recorded as what it was."""
    with World(any_ground) as world, World(any_ground) as other:
        [ticket], ready = near_their_ends(world, "rw")
        other.give_back(ticket)
        world.clock.pass_by(SECONDS)
        ended = set_out(world, [ticket], ready)
        assert world.holds() == []
        assert isinstance(record_end(world.desk, [ended]).again[ticket], Conflict)
        world.settle()
        world.must(ticket, "closed")
        assert [e.cause for e in world.events(ticket, RevocationOrdered)] == ["returned"]
        assert len(world.events(ticket, RevocationObserved)) == 1
        world.sound()


def test_a_pass_that_was_late_finds_that_it_is_anothers(any_ground: Ground) -> None:
    """Prepared, and then paused until somebody else took it, and gave the account something new."""
    with World(any_ground) as world, World(any_ground) as other:
        [ticket], ready = near_their_ends(world, "rw")
        other.clock.pass_by(LEASE_OVER)
        other.settle()
        fresh = other.active("rw")
        ended = set_out(world, [ticket], ready)
        assert isinstance(ended.trouble[ticket], LeaseLost)
        record_end(world.desk, [ended])
        assert world.holds() == ["rw"]
        world.must(fresh, "active")
        world.must(ticket, "closed")
        world.sound()


def test_one_that_the_target_refuses_holds_up_no_other(world: World) -> None:
    """Ann was made able to pass her role on, and did: the server refuses to take it while that stands."""
    tickets, ready = near_their_ends(world, "ro", "rw")
    role, ann, bea = map(world.ground.name, ("ro", "ann", "bea"))
    world.ground.as_connector("GRANT {} TO {} WITH ADMIN OPTION", role, ann)
    world.ground.sql("GRANT {} TO {} GRANTED BY {}", role, bea, ann)
    world.clock.pass_by(SECONDS)
    ended = set_out(world, tickets, ready)
    assert (world.holds(), world.holds("bea")) == (["ro"], ["ro"])
    assert set(record_end(world.desk, [ended]).again) == {tickets[0]}
    world.must(tickets[0], "revoking")
    world.must(tickets[1], "closed")
    world.ground.sql("REVOKE {} FROM {} GRANTED BY {}", role, bea, ann)
    world.later(61 * SECONDS)
    world.must(tickets[0], "closed")
    world.sound()


def test_cut_off_when_the_change_was_on_its_way(ground: Ground, postgres18) -> None:
    """The connection breaks off under a batch: each account is as the target says, and goes with the next attempt."""
    with Proxy(postgres18.port) as proxy, World(ground, port=proxy.port) as world:
        tickets, ready = near_their_ends(world, "rw", "ro")
        world.clock.pass_by(SECONDS)

        def cut() -> None:
            proxy.mode = "reset"

        ended = set_out(world, tickets, ready, cut)
        held = {t: who for t, who in zip(tickets, ("ann", "bea"), strict=True) if world.holds(who)}
        proxy.mode = "through"
        assert set(held) <= set(record_end(world.desk, [ended]).again)
        for ticket in held:
            world.must(ticket, "active", "revoking")
        world.later(61 * SECONDS)
        for ticket in tickets:
            world.must(ticket, "closed")
        assert (world.holds(), world.holds("bea")) == ([], [])
        world.sound()


# ── turns ──


class Passes:
    """A worker whose passes wait where the test lets them."""

    def __init__(self, *, passing_on: bool) -> None:
        self.batches: list[list[str]] = []
        self.on_its_way = threading.Semaphore(0)
        self.go = threading.Event()
        self._passing_on = passing_on
        self.worker = Worker("test", self._run, lambda *_: None, lambda _: None, threads=2)

    def _run(self, batch: list[str]) -> Progress:
        self.batches.append(batch)
        self.on_its_way.release()
        if self._passing_on and len(self.batches) == 1:
            self.worker.pass_on()
        assert self.go.wait(20)
        return Progress(moved=[], again={})


@pytest.mark.parametrize("passing_on", [True, False], ids=["passed on", "stuck on its way"])
def test_one_pass_that_waits_keeps_no_other_waiting(*, passing_on: bool) -> None:
    """Neither one that waits for the target's answer, nor one that does not get that far."""
    passes = Passes(passing_on=passing_on)
    passes.worker.put("first")
    assert passes.on_its_way.acquire(timeout=20)
    passes.worker.put("second")
    assert passes.on_its_way.acquire(timeout=20)
    assert passes.batches == [["first"], ["second"]]
    passes.go.set()
    assert passes.worker.stop(20)


def test_what_becomes_ready_while_one_is_on_its_way_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muniment.controllers.worker.TURN_SECONDS", 600.0)
    passes = Passes(passing_on=False)
    for ticket in ("first", "second", "third"):
        passes.worker.put(ticket)
        if ticket == "first":
            assert passes.on_its_way.acquire(timeout=20)
    passes.go.set()
    assert passes.on_its_way.acquire(timeout=20)
    assert passes.batches == [["first"], ["second", "third"]]
    assert passes.worker.stop(20)


# ── herds ──


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5000])
def test_no_herd_hides_what_is_due_behind_it(
    any_ground: Ground, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """More than a page is due at one instant on one target; the sweep sees all of it, and another's a moment later."""
    monkeypatch.setattr(runtime, "SWEEP_LIMIT", limit)
    with World(any_ground) as world:
        herd = [world.active("rw") for _ in range(3)]
        world.clock.pass_by(SECONDS)
        other = world.active(on="ssh")
        controllers = runtime.Controllers(world.desk, node="here")
        until = world.clock.now() + HOUR
        assert [item.ticket for item in controllers._due(until)] == [*sorted(herd), other]
