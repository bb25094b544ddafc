"""The store's clock never runs backwards, and time goes on whatever the machine's clock does (I13)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from muniment.core.errors import StoreUnavailable
from muniment.core.instants import wire
from muniment.store import events as events_module
from muniment.store import tables as t
from muniment.store.clock import StoreClock
from muniment.store.opening import open_store
from store.stores import KEY, NOW, ORIGIN, HandClock, Shelf, an_append, opened

STEPS = [timedelta(minutes=5), timedelta(days=1)]


class Machine:
    """A machine's two clocks."""

    def __init__(self) -> None:
        self.wall, self.ticks, self.broken, self.asked = NOW, 1000.0, False, 0

    def source(self) -> datetime:
        self.asked += 1
        if self.broken:
            raise StoreUnavailable("gone")
        return self.wall

    def pass_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.ticks += seconds

    def clock(self, resync: float = 0.0) -> StoreClock:
        return StoreClock(self.source, resync=resync, monotonic=lambda: self.ticks)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_back_extends_nothing(step: timedelta) -> None:
    machine = Machine()
    clock = machine.clock()
    expiry = clock.now() + timedelta(hours=1)
    machine.wall -= step
    assert clock.now() == NOW
    machine.pass_by(3599)
    assert clock.now() < expiry
    machine.pass_by(1)
    assert clock.now() == expiry  # after an hour of real time, whatever the wall says


@pytest.mark.parametrize("step", STEPS)
def test_a_step_forward_may_only_shorten(step: timedelta) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.now()
    machine.wall += step
    assert clock.now() == NOW + step
    machine.wall -= step  # corrected: it stays ahead, and goes on
    assert clock.now() == NOW + step
    machine.pass_by(10)
    assert clock.now() == NOW + step + timedelta(seconds=10)


def test_a_source_that_fails_does_not_stop_time() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.now()
    machine.broken = True
    machine.pass_by(60)
    assert clock.now() == NOW + timedelta(seconds=60)
    machine.broken = False
    machine.wall += timedelta(seconds=5)
    assert clock.now() == NOW + timedelta(seconds=65)


def test_the_source_is_asked_every_so_often_only() -> None:
    machine = Machine()
    clock = machine.clock(resync=5)
    for _ in range(50):
        clock.now()
        machine.pass_by(0.1)
    assert machine.asked == 1
    machine.pass_by(0.1)
    clock.now()
    assert machine.asked == 2


def test_between_two_questions_time_goes_on() -> None:
    machine = Machine()
    clock = machine.clock(resync=5)
    clock.now()
    machine.ticks += 3
    assert clock.now() == NOW + timedelta(seconds=3)


def test_an_answer_that_takes_long_puts_nothing_ahead_of_time() -> None:
    """Else every grant from then on ended early, by the longest that an answer ever took."""
    machine = Machine()

    def slow() -> datetime:
        said = machine.source()
        machine.pass_by(0.25)
        return said

    clock = StoreClock(slow, monotonic=lambda: machine.ticks)
    for _ in range(3):
        assert machine.wall - timedelta(seconds=0.25) <= clock.now() <= machine.wall


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pass", "wall", "broken", "mark"]),
            st.integers(min_value=-100_000, max_value=100_000),
        ),
        max_size=40,
    ),
    st.sampled_from([0.0, 5.0]),
)
@settings(derandomize=True, database=None, deadline=None)
def test_whatever_happens_time_passes_at_least_as_fast_as_it_does(
    steps: list[tuple[str, int]], resync: float
) -> None:
    machine = Machine()
    clock = machine.clock(resync)
    last, last_tick = clock.now(), machine.ticks
    for what, amount in steps:
        if what == "pass":
            machine.pass_by(abs(amount))
        elif what == "wall":
            machine.wall += timedelta(seconds=amount)
        elif what == "broken":
            machine.broken = amount > 0
        else:
            clock.advance_to(last + timedelta(seconds=amount))
        now = clock.now()
        assert now >= last + timedelta(seconds=machine.ticks - last_tick)
        if not machine.broken and resync == 0:
            assert now >= machine.wall
        last, last_tick = now, machine.ticks


@pytest.mark.parametrize("step", STEPS)
def test_over_a_restart_the_persisted_mark_takes_over(
    sqlite_shelf: Shelf, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    """The process ends, somebody sets the machine's clock back, the process starts: no grant lives longer."""
    machine = Machine()
    monkeypatch.setattr(events_module, "system_time", machine.source)
    monkeypatch.setitem(StoreClock.__init__.__kwdefaults__, "monotonic", lambda: machine.ticks)
    url = sqlite_shelf.url()
    with opened(url) as store:
        store.append(an_append("x", "x", at=store.clock.now()))
    machine.wall -= step
    with opened(url) as store:
        assert store.clock.now() == NOW
        machine.pass_by(30)
        assert store.clock.now() == NOW + timedelta(seconds=30)


@pytest.mark.server("postgres18")
@pytest.mark.xdist_group("store-postgres18")
def test_on_postgresql_the_database_has_the_time(
    postgres_shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes with clocks of their own agree, because none of them is asked."""

    def forbidden() -> datetime:
        raise AssertionError("a node's own clock was asked")

    monkeypatch.setattr(events_module, "system_time", forbidden)
    url = postgres_shelf.url()
    with opened(url) as store:
        with store.engine.connect() as connection:
            before = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        assert store.clock.now() >= before
        assert store.clock.now().utcoffset() == timedelta(0)


@pytest.mark.parametrize("ahead", STEPS)
def test_the_mark_only_rises(shelf: Shelf, ahead: timedelta) -> None:
    with shelf.store(HandClock()) as store:
        mark = NOW.replace(year=2999) + ahead  # ahead of any machine that runs this
        store.append(an_append("a", "x", at=mark))
        store.append(an_append("b", "x", at=NOW))
        with store.engine.connect() as connection:
            assert connection.execute(select(t.clock.c.mark)).scalar_one() == wire(mark)
        url = store.engine.url.render_as_string(hide_password=False)
        again = open_store(url, ORIGIN, KEY)  # with a clock of its own
        assert again.clock.now() >= mark
        again.engine.dispose()


def test_the_mark_is_a_year_of_four_digits_also_long_ago() -> None:
    """Instants are compared as texts, so every one has the same width, even where no clock was ever read."""
    clock = StoreClock(lambda: datetime.min.replace(tzinfo=NOW.tzinfo), monotonic=lambda: 0.0)
    assert wire(clock.now()) == "0001-01-01T00:00:00.000000Z"
