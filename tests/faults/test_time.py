"""The clock is stepped: back never extends a grant, forward may only shorten it (I13)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from faults.world import HOUR, Ground, World
from muniment.store import events
from muniment.store.clock import StoreClock

STEPS = [timedelta(minutes=5), timedelta(days=1)]
SECOND = timedelta(seconds=1)


class Machine:
    """A machine's two clocks: the one that an administrator sets, and the one that only counts."""

    def __init__(self) -> None:
        self.shown, self.counted = datetime.now(UTC), 1000.0

    def live(self, length: timedelta) -> None:
        self.shown += length
        self.counted += length.total_seconds()

    def now(self) -> datetime:
        return self.shown

    def monotonic(self) -> float:
        return self.counted


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The store's own clock runs on this machine."""
    made = Machine()
    monkeypatch.setattr(events, "system_time", made.now)
    own = StoreClock.__init__

    def init(self, source, *, resync=0.0, monotonic=None) -> None:
        own(self, source, resync=resync, monotonic=made.monotonic)

    monkeypatch.setattr(StoreClock, "__init__", init)
    return made


@pytest.fixture
def world(ground: Ground, machine: Machine) -> Iterator[World]:
    with World(ground, clock="own") as made:
        yield made


def end_of(world: World, ticket: str) -> datetime:
    end = world.ticket(ticket).expiry
    assert end
    return end


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_back_never_extends(world: World, machine: Machine, step: timedelta) -> None:
    ticket = world.active()
    end = end_of(world, ticket)
    machine.live(timedelta(minutes=30))
    machine.shown -= step
    machine.live(timedelta(minutes=29))
    world.settle()
    world.must(ticket, "active")  # its hour is not over
    machine.live(timedelta(minutes=1))
    world.settle()
    assert end_of(world, ticket) == end
    world.must(ticket, "closed")
    assert world.holds() == []
    world.sound()


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_back_over_a_restart_never_extends(world: World, machine: Machine, step: timedelta) -> None:
    """The monotonic clock begins again; the store's high-water mark does not."""
    ticket = world.active()
    end = end_of(world, ticket)
    machine.live(timedelta(minutes=30))
    world.active("ro", who="bea")  # something is recorded at this instant
    machine.shown -= step
    machine.counted = 5.0
    with World(world.ground, clock="own") as again:
        assert again.clock.now() >= end - timedelta(minutes=30)
        machine.live(timedelta(minutes=30))
        again.settle()
        again.must(ticket, "closed")
        assert again.holds() == []
        again.sound()


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_back_between_approval_and_start(world: World, machine: Machine, step: timedelta) -> None:
    """A later window stays where it was on the store's clock."""
    start = world.clock.now() + HOUR
    ticket = world.approved(starts_at=start, length=HOUR)
    machine.shown -= step
    machine.live(HOUR)
    world.settle()
    assert end_of(world, ticket) == start.replace(microsecond=start.microsecond) + HOUR
    world.must(ticket, "active")
    machine.live(HOUR)
    world.settle()
    world.must(ticket, "closed")


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_forward_only_shortens(world: World, machine: Machine, step: timedelta) -> None:
    ticket = world.active()
    end = end_of(world, ticket)
    machine.shown += step
    world.settle()
    assert world.clock.now() >= end - HOUR + step
    world.must(ticket, "closed" if step >= HOUR else "active")
    assert end_of(world, ticket) == end
    machine.shown -= step  # and back again: what is over stays over, and what is not ends no later
    machine.live(HOUR - min(step, HOUR) + SECOND)
    world.settle()
    world.must(ticket, "closed")
    assert world.holds() == []
    world.sound()


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_back_does_not_stop_what_is_overdue_from_being_said(
    world: World, machine: Machine, step: timedelta
) -> None:
    import faulty  # noqa: PLC0415

    ticket = world.active()
    world.pg.arrange("revoke", faulty.unavailable_before(times=3))
    machine.live(HOUR)
    world.step()
    machine.shown -= step
    machine.live(timedelta(seconds=61))
    world.step()
    assert [f.type for f in world.must(ticket, "revoking").findings] == ["overdue"]
    world.settle()
    for _ in range(3):
        world.step()
    world.must(ticket, "closed")


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_nodes_clock_behind_the_others(world: World, machine: Machine, step: timedelta) -> None:
    """Two processes on one store, one with a clock that is behind: it serves no later than what it was told."""
    ticket = world.active()
    machine.live(HOUR)
    world.active("ro", who="bea")  # the other has acted at this instant
    machine.shown -= step
    with World(world.ground, clock="own") as behind:
        behind.settle()
        behind.must(ticket, "closed")
