"""A target that does not answer is held: tried at a beat of its own, and nobody waits for it (I14, I20)."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

import servers
from faults.test_races import until
from faults.world import World, ground_on, lay
from muniment.controllers.gates import Gates
from muniment.controllers.runtime import Controllers
from muniment.controllers.taker import Taker
from muniment.core.errors import Invalid, LeaseLost, TargetUnavailable
from muniment.core.events import FindingRaised, RevocationFailed
from muniment.limits import PATIENCE, Gate, gated
from muniment.ports import Bringing, CheckReport, Nesting, Order, Outcome, Target, Warming, Watching
from muniment.service.owing import owed, target_documents
from muniment.settings.limits import LimitSettings
from muniment.store import tables as t
from muniment.store.engine import writing
from muniment.store.reach import GONE, Seen, SqlReach

DOWN = TargetUnavailable("connection refused")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Ticking:
    """Seconds in the test's hands."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def made(ticks: Ticking, *, chance: float = 1.0, **limits) -> Gate:
    return Gate(
        LimitSettings(**limits), monotonic=ticks, clock=lambda: NOON + timedelta(seconds=ticks.seconds),
        chance=lambda: chance,
    )  # fmt: skip


def fails(gate: Gate, error: Exception = DOWN, **how) -> bool:
    """Whether a call reached the target, which then failed."""
    reached = False
    with pytest.raises(type(error)), gate.call(**how):
        reached = True
        raise error
    return reached


def test_held_after_some_failures_in_a_row_and_not_before() -> None:
    gate = made(Ticking(), failures=3)
    assert gate.state.reach == "unknown"
    for _ in range(2):
        assert fails(gate)
    with gate.call():
        pass
    assert gate.state.reach == "answers"
    for _ in range(3):
        assert not gate.held
        assert fails(gate)
    assert gate.held
    state = gate.state
    assert (state.reach, state.since, state.why, state.code) == (
        "held",
        NOON,
        "connection refused",
        DOWN.code,
    )
    assert not fails(gate)  # refused at once, with the same words


def test_pauses_double_up_to_the_longest_and_go_on_without_end() -> None:
    ticks = Ticking()
    gate = made(ticks, failures=1)
    assert fails(gate)
    pauses = []
    for _ in range(30):
        began = ticks.seconds
        while gate.refuses:
            ticks.seconds += 0.5
            assert ticks.seconds - began <= 60
        pauses.append(ticks.seconds - began)
        assert fails(gate)
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[7:]) == {60}
    assert gate.state.since == NOON


def test_chance_parts_targets_that_failed_together() -> None:
    ticks = Ticking()
    gates = [made(ticks, failures=1, chance=chance) for chance in (0.0, 0.5, 1.0)]
    for gate in gates:
        assert fails(gate)
    found = [gate.state.again_at for gate in gates]
    assert found == [NOON + timedelta(seconds=each) for each in (0.5, 0.75, 1.0)]


def test_one_attempt_at_a_time_and_an_answer_opens_it() -> None:
    ticks = Ticking()
    gate = made(ticks, failures=1)
    assert fails(gate)
    ticks.seconds = 1
    with gate.call():
        assert gate.refuses  # this is the attempt; another is not made beside it
        assert not fails(gate)
    assert gate.state.reach == "answers"
    assert not gate.refuses


def test_an_attempt_that_ends_without_a_word_lets_the_next_one_try() -> None:
    ticks = Ticking()
    gate = made(ticks, failures=1)
    assert fails(gate)
    ticks.seconds = 1
    assert fails(gate, LeaseLost("another worker"))  # says nothing about the target
    assert gate.held
    assert fails(gate)


@pytest.mark.parametrize(
    "error",
    [LeaseLost("another worker"), Invalid("not a name"), TargetUnavailable("locked", code="target.busy")],
)
def test_what_says_nothing_about_the_target_does_not_hold_it(error: Exception) -> None:
    gate = made(Ticking(), failures=1)
    assert fails(gate, error)
    assert not gate.held


def test_what_a_connector_did_not_expect_counts_as_no_answer() -> None:
    gate = made(Ticking(), failures=1)
    assert fails(gate, ValueError("the reply has 10 GB"))
    assert gate.state.why == "unexpected: ValueError"


def test_whoever_asks_whether_it_answers_is_not_refused() -> None:
    gate = made(Ticking(), failures=1)
    assert fails(gate)
    with gate.call(asked=True):
        pass
    assert not gate.held


def test_no_more_calls_at_once_than_are_allowed_and_one_place_is_for_taking_away() -> None:
    ticks = Ticking()
    gate = made(ticks, at_once=2)
    with gate.call():
        waits = threading.Timer(0.05, lambda: setattr(ticks, "seconds", PATIENCE))
        waits.start()
        gate._turn.wait = lambda *_: time.sleep(0.01)  # its clock is ours  # type: ignore[method-assign]
        with pytest.raises(TargetUnavailable) as refused:
            gate.call().__enter__()
        assert refused.value.code == "target.busy"
        with gate.call(urgent=True):
            pass
    assert not gate.held  # that we are busy says nothing about the target


@pytest.mark.parametrize("at_once", [3, 8, 100])
def test_whoever_takes_away_leaves_a_place_to_read_back(world: World, at_once: int) -> None:
    """Else what is gone could not be seen to be gone while more is due: ends would be on record as failed."""
    gate = Gate(LimitSettings(at_once=at_once))
    taker = Taker(world.desk, "pg", lambda: "me", lambda *_: None, lambda _: None, gate=gate)
    try:
        with ExitStack() as busy:
            for _ in taker._threads:
                busy.enter_context(gate.call(urgent=True))
            busy.enter_context(gate.call())
    finally:
        taker.stop(5)


def test_the_pace_is_kept_in_the_long_run_and_taking_away_goes_first() -> None:
    ticks = Ticking()
    gate = made(ticks, per_second=10, batch=200)
    assert gate.batch == 40
    assert gate.pause(urgent=True) == 0
    with gate.call(40, urgent=True):
        pass
    assert gate.pause(urgent=True) == pytest.approx(3.1)
    assert gate.pause(urgent=False) == pytest.approx(3.5)
    ticks.seconds = 3.2
    assert gate.pause(urgent=True) == 0
    assert gate.pause(urgent=False) > 0
    ticks.seconds = 100  # what was not used is not saved up for a rush
    with gate.call(11, urgent=True):
        pass
    assert gate.pause(urgent=True) > 0


class Answering:
    capabilities = None

    def __init__(self, *, outcomes=(), reachable: bool = True) -> None:
        self.outcomes, self.reachable = list(outcomes), reachable

    def validate(self, *_) -> None: ...

    def check(self) -> CheckReport:
        return CheckReport(
            reachable=self.reachable, details=(), problems=() if self.reachable else ("it is off",)
        )

    def revoke(self, orders, confirm):
        return self.outcomes


ORDER = Order(ticket="req_1", account="ann", scope=(), expires_at=NOON)


@pytest.mark.parametrize(
    ("codes", "held"),
    [
        ([("unknown", "target.unavailable")], True),
        ([("unknown", "target.unavailable"), ("done", "")], False),
        ([("unknown", "target.sessions")], False),
        ([("rejected", "target.rejected")], False),
    ],
)
def test_of_no_order_is_known_what_became_of_it(codes, *, held: bool) -> None:
    gate = made(Ticking(), failures=1)
    outcomes = [Outcome(ticket="req_1", result=result, code=code) for result, code in codes]
    assert gated(Answering(outcomes=outcomes), gate).revoke([ORDER] * len(codes), lambda: None) == outcomes
    assert gate.held is held


def test_a_check_holds_it_and_opens_it() -> None:
    gate = made(Ticking(), failures=1)
    gated(Answering(reachable=False), gate).check()
    assert gate.state.why == "it is off"
    gated(Answering(), gate).check()
    assert gate.state.reach == "answers"


def test_it_can_what_the_connector_can() -> None:
    class More(Answering):
        def brings(self, wanted):
            return wanted

        def nested(self):
            return ["one"]

        def changes(self, since):
            return since

        def warm(self, calls):
            self.warmed = calls

    plain, more = gated(Answering(), Gate()), gated(More(), Gate())
    for kind in (Bringing, Nesting, Watching, Warming):
        assert not isinstance(plain, kind)
        assert isinstance(more, kind)
    assert (more.brings(()), more.nested(), more.changes("here")) == ((), ["one"], "here")
    more.warm(3)
    assert more.warmed == 3


def test_who_may_have_asked_nothing_opens_nothing() -> None:
    """What a connector knows by itself says nothing about a target that is down."""

    class Knowing(Answering):
        def brings(self, wanted):
            return wanted

        def warm(self, calls):
            del calls

        def nested(self):
            return []

    ticks = Ticking()
    gate = made(ticks, failures=1)
    assert fails(gate)
    ticks.seconds = 10
    knowing = gated(Knowing(), gate)
    knowing.brings(())
    knowing.warm(3)
    assert gate.held
    knowing.nested()
    assert not gate.held


# ── controllers, on real servers ──


@contextmanager
def paused(server):
    """The server's processes live and answer nothing: as bad a target as there is."""
    postmaster = server._process.pid
    children = [
        int(pid) for pid in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    ]
    for pid in (postmaster, *children):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (*children, postmaster):
            os.kill(pid, signal.SIGCONT)


def behind(gate: Gate, target: Target) -> Target:
    return replace(target, gate=gate, connector=gated(target.connector, gate))


def limited(target: Target, **limits) -> Target:
    return behind(Gate(LimitSettings(**limits)), target)


@pytest.mark.slow
def test_a_stopped_server_is_held_delays_no_other_and_goes_on_when_it_is_back(
    postgres18, sqlite_shelf, tmp_path
) -> None:
    """Grants on a server under SIGSTOP wait, and say why; those beside it begin and end as ever."""
    ground = ground_on(postgres18, sqlite_shelf, tmp_path / "a")
    with servers.postgres(18) as bad, World(ground, clock="own", timeout=timedelta(seconds=1)) as world:
        far_ground = lay(bad.dsn(), ground.store, tmp_path / "b")
        with World(far_ground, clock="own", timeout=timedelta(seconds=1)) as far:
            targets = {
                "pg": limited(world.target("pg", "rw")),
                "pg-far": limited(
                    far.target("pg-far", "ro", "rw", connector=far.pg), failures=2, longest_pause="2s"
                ),
            }
            world.use(targets=targets)
            far.use(targets=targets)
            controllers = Controllers(world.desk, node="here")
            controllers.start()
            try:
                stuck = far.approved("rw", on="pg-far", length=timedelta(seconds=6))
                until(lambda: world.ticket(stuck).status == "active")
                with paused(bad):
                    waiting = far.approved("ro", who="bea", on="pg-far")
                    fine = world.approved("rw", length=timedelta(seconds=2))
                    until(lambda: world.ticket(fine).status == "closed")
                    until(lambda: targets["pg-far"].gate.held and world.ticket(stuck).status == "revoking")
                    revocation = world.ticket(stuck).revocation
                    assert revocation
                    assert "target.unavailable" in str(revocation.failure)
                    assert world.ticket(waiting).status == "approved"
                    seen = SqlReach(world.desk.store.engine)
                    until(lambda: seen.read(world.clock.now())["pg-far"].state.reach == "held")
                    assert seen.read(world.clock.now())["pg"].state.reach == "answers"
                until(lambda: world.ticket(stuck).status == "closed")
                until(lambda: world.ticket(waiting).status == "active")
                until(lambda: seen.read(world.clock.now())["pg-far"].state.reach == "answers")
                assert len(world.events(stuck, RevocationFailed)) <= 2
                far.give_back(waiting, "bea")
                until(lambda: world.ticket(waiting).status == "closed")
            finally:
                assert controllers.stop()
            assert far_ground.holds("bea") == far_ground.holds("ann") == []
            world.sound()


def test_a_held_ticket_comes_back_in_time_to_be_overdue_and_is_written_once(world: World) -> None:
    """The gate paces attempts; that a ticket is overdue is found all the same, and once."""
    world.use(targets={"pg": limited(world.target("pg", "rw"), failures=1)})
    ticket = world.active()
    world.give_back(ticket)
    gate = world.desk.targets["pg"].gate
    controllers = Controllers(world.desk, node="here")  # not started: nothing happens but what we say
    fails(gate)
    with capture_logs() as logs:
        controllers.retry(ticket, "pg", "revoke", DOWN)
    assert logs == []  # the target is said to be held once, not each ticket
    [(at, _, item, _)] = controllers._heap
    assert item.ticket == ticket
    assert timedelta(seconds=30) < at - world.clock.now() <= timedelta(seconds=31)
    for _ in range(3):
        world.step()
        world.clock.pass_by(timedelta(seconds=30.5))
    assert len(world.events(ticket, FindingRaised)) == 1
    assert len(world.events(ticket, RevocationFailed)) == 1


def test_taking_away_tries_first_and_the_rest_follows_the_answer(world: World) -> None:
    ticks, put = Ticking(), []
    gate = made(ticks, failures=1, batch=2)
    world.use(targets={"pg": behind(gate, world.target("pg", "rw"))})
    gates = Gates(world.desk, "here", lambda *each: put.append(each), lambda _: False)
    assert not gates.hold("pg", "revoke", "early")  # it answers: the caller sees to it
    fails(gate)
    for action, ticket in (("provision", "give"), ("revoke", "one"), ("expire", "two"), ("expire", "three")):
        assert gates.hold("pg", action, ticket)
    gates.beat()
    assert put == []
    ticks.seconds = 1
    gates.beat()
    assert put == [("pg", "revoke", "one"), ("pg", "expire", "two")]
    with gate.call():
        pass
    gates.beat()
    assert put[2:] == [("pg", "expire", "three"), ("pg", "provision", "give")]
    gates.beat()
    assert len(put) == 4


def test_the_pace_is_measured_while_there_is_more_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks, busy = Ticking(), {"pg"}
    monkeypatch.setattr("muniment.controllers.gates.time.monotonic", ticks)
    world.use(targets={"pg": limited(world.target("pg", "rw"))})
    gates = Gates(world.desk, "here", lambda *_: None, lambda target: target in busy)
    for beat in range(4):  # the first one began before there was anything
        for _ in range(50 if beat else 7):
            gates.done("pg")
        ticks.seconds += 0.5
        gates.beat()
    assert gates._pace("pg") == 100.0
    busy.clear()
    ticks.seconds += 100
    gates.beat()
    assert gates._pace("pg") == 100.0  # that there is nothing to do does not make it slow


def test_several_processes_are_told_of_as_one(world: World) -> None:
    now, reach = world.clock.now(), SqlReach(world.desk.store.engine)
    gate = made(Ticking(), failures=1)
    fails(gate)
    reach.write("one", {"pg": Seen(state=gate.state, per_second=10.0)}, now)
    with gate.call(asked=True):
        pass
    reach.write("two", {"pg": Seen(state=gate.state, per_second=5.0), "ssh": Seen(state=gate.state)}, now)
    found = reach.read(now)
    assert (found["pg"].state.reach, found["pg"].per_second) == ("held", 15.0)
    assert (found["ssh"].state.reach, found["ssh"].per_second) == ("answers", None)
    later = now + GONE + timedelta(seconds=1)
    reach.write("two", {"pg": Seen(state=gate.state)}, later)
    found = reach.read(later)  # the first one is gone, and what it measured is the best there is
    assert (found["pg"].state.reach, found["pg"].per_second) == ("answers", 10.0)
    assert found["ssh"].state.reach == "unknown"
    assert reach.read(later + timedelta(days=2))["pg"].state.reach == "unknown"


def test_what_is_owed_and_how_long_that_takes(world: World) -> None:
    world.use(targets={"pg": limited(world.target("pg", "rw"), failures=1)})
    first, later = world.active("rw"), world.active("rw", who="bea")
    world.give_back(first)
    now, reach = world.clock.now(), SqlReach(world.desk.store.engine)
    gate = world.desk.targets["pg"].gate
    with gate.call():
        pass
    assert owed(world.desk)["pg"].seconds is None  # nothing was measured yet
    reach.write("here", {"pg": Seen(state=gate.state, per_second=4.0)}, now)
    each = owed(world.desk)["pg"]
    assert (each.overdue, each.ahead, each.seconds, each.held) == (1, 1, 0.25, False)
    assert world.ticket(later).status == "active"
    fails(gate)
    reach.write("here", {"pg": Seen(state=gate.state, per_second=4.0)}, now)
    each = owed(world.desk)["pg"]
    assert (each.seconds, each.held) == (None, True)  # nobody knows when it answers
    [seen] = target_documents(world.desk, world.caller("ops"))
    assert seen["state"]["why"] == "connection refused"
    assert seen["debt"]["overdue"] == 1
    [seen] = target_documents(world.desk, world.caller("ann"))
    assert (seen["state"]["reach"], seen["state"]["why"], seen["debt"]) == ("held", None, None)


def test_a_row_that_is_not_ours_says_nothing(world: World) -> None:
    now = world.clock.now()
    with writing(world.desk.store.engine) as connection:
        connection.execute(t.reach.insert().values(node="x", target="pg", at="9999", state=b'{"state": 3}'))
    assert SqlReach(world.desk.store.engine).read(now)["pg"] == Seen()
