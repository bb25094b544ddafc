"""Several tickets for one entitlement: ending one keeps it, ending the last removes it, whatever the order (I21, F14)."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import faulty
from faults.world import HOUR, World, ground_on
from muniment.core.events import RevocationObserved
from muniment.core.ticket import ENDS
from muniment.service.taking import end_access, prepare_end, record_end

MINUTE = timedelta(minutes=1)


def kept(world: World, ticket: str) -> list[str]:
    [gone] = world.events(ticket, RevocationObserved)
    return [k.ticket for k in gone.kept]


def removals(world: World) -> int:
    """How often the target was asked to take something away."""
    return sum(len(order.scope) for order in world.spy.taken)


def test_ending_one_keeps_it_and_ending_the_last_removes_it(world: World) -> None:
    first, second = world.active(), world.active()
    world.give_back(first)
    world.settle()
    world.must(first, "closed")
    world.must(second, "active")
    assert (world.holds(), kept(world, first), removals(world)) == (["rw"], [second], 0)
    world.sound()
    world.give_back(second)
    world.settle()
    world.must(second, "closed")
    assert (world.holds(), kept(world, second), removals(world)) == ([], [], 1)
    world.sound()


def test_of_two_accounts_each_has_its_own(world: World) -> None:
    ann, bea = world.active(), world.active(who="bea")
    world.give_back(ann)
    world.settle()
    world.must(ann, "closed")
    assert (world.holds(), world.holds("bea"), kept(world, ann)) == ([], ["rw"], [])
    world.give_back(bea, "bea")
    world.settle()
    assert world.holds("bea") == []
    world.sound()


def test_only_what_both_give_is_kept(world: World) -> None:
    both, one = world.active("ro", "rw"), world.active("rw")
    world.give_back(both)
    world.settle()
    world.must(both, "closed")
    assert (world.holds(), kept(world, both)) == (["rw"], [one])
    world.sound()


def test_both_end_in_the_same_instant(world: World) -> None:
    start = world.clock.now() + MINUTE
    first, second = (world.approved(starts_at=start) for _ in range(2))
    world.later(MINUTE)
    world.settle()
    world.must(first, "active")
    world.must(second, "active")
    world.later(HOUR)
    world.must(first, "closed")
    world.must(second, "closed")
    assert (world.holds(), removals(world)) == ([], 1)
    assert kept(world, first) == kept(world, second) == []
    world.sound()


def test_each_in_its_own_pass_in_the_same_instant(world: World) -> None:
    start = world.clock.now() + MINUTE
    first, second = (world.approved(starts_at=start) for _ in range(2))
    world.later(MINUTE)
    world.settle()
    world.clock.pass_by(HOUR)
    for ticket in (first, second):
        world.one_pass("revoke", "pg", [ticket])
        world.must(ticket, "closed")
        assert world.holds() == []  # the other's time is over too: it keeps nothing
    world.sound()


def test_prepared_together_ending_one_after_the_other(world: World) -> None:
    """Controllers look 3 s ahead: the one that ends a second later has it to its own end, and not less."""
    first = world.active(length=HOUR)
    second = world.active(length=HOUR + timedelta(seconds=1))
    world.clock.pass_by(HOUR - timedelta(seconds=2))
    ready = prepare_end(world.desk, "pg", [first, second], "me", world.clock.now() + timedelta(seconds=3))
    assert set(ready) == {first, second}
    world.clock.pass_by(timedelta(seconds=2))
    mine = {first: ready.pop(first)}
    record_end(world.desk, [end_access(world.desk, "pg", [first], "me", mine)])
    world.must(first, "closed")
    assert (world.holds(), kept(world, first)) == (["rw"], [second])
    world.clock.pass_by(timedelta(seconds=1))
    record_end(world.desk, [end_access(world.desk, "pg", [second], "me", ready)])
    world.settle()  # its lease went with the first: tried again, and not called a failure of the target
    world.must(second, "closed")
    assert world.holds() == []
    assert "revocation-failed/1" not in world.kinds(second)
    world.sound()


@pytest.mark.parametrize("trouble", [faulty.unavailable_before, faulty.unavailable_after, faulty.lying])
def test_regrant_while_revoking(world: World, trouble) -> None:
    """The target does not answer to the end of one ticket, and the next for the same begins (F14)."""
    first = world.active()
    world.pg.arrange("revoke", trouble(times=1))
    world.give_back(first)
    world.step()
    world.must(first, "revoking")
    second = world.approved()
    world.settle()
    world.must(second, "active")
    world.must(first, "closed")
    assert world.holds() == ["rw"]
    world.sound()
    world.give_back(second)
    world.settle()
    world.must(second, "closed")
    assert world.holds() == []
    world.sound()


def test_regrant_approved_while_the_target_is_being_asked_to_take(world: World) -> None:
    """The account is leased to the one who takes: the new ticket waits, and then begins."""
    first, second = world.active(), world.approved()

    def meanwhile() -> None:
        progress = world.one_pass("provision", "pg", [second])
        assert second in progress.again
        world.must(second, "approved")

    world.give_back(first)
    world.pg.arrange("revoke", faulty.Fault(before=meanwhile))
    world.step("revoke")
    world.must(first, "closed")
    assert world.holds() == []
    world.settle()
    world.must(second, "active")
    assert world.holds() == ["rw"]
    world.sound()


def test_the_previous_ticket_ends_while_the_next_one_looks(world: World) -> None:
    """What the next one saw was still the previous one's: not a standing membership that nobody has a ticket for."""
    first, second = world.active(), world.approved()
    world.give_back(first)

    def meanwhile() -> None:
        world.one_pass("revoke", "pg", [first])
        world.must(first, "closed")

    world.pg.arrange("observe", faulty.Fault(after=meanwhile))
    world.step("provision")
    world.settle()
    world.must(second, "active")
    assert world.holds() == ["rw"]
    world.sound()


# ── any order of things, against a model in a few lines ──

WHO = ("ann", "bea")
ROLES = (("ro",), ("rw",), ("ro", "rw"))
ACTS = st.one_of(
    st.tuples(st.just("file"), st.sampled_from(WHO), st.sampled_from(ROLES), st.sampled_from((10, 20, 30))),
    st.tuples(st.sampled_from(("return", "revoke")), st.integers(0, 3)),
    st.tuples(st.just("time"), st.sampled_from((5, 10, 20))),
    st.tuples(st.just("pass"), st.sampled_from(("provision", "revoke")), st.integers(0, 3)),
    st.tuples(st.just("fault"), st.sampled_from(("provision", "revoke")), st.booleans()),
    st.tuples(st.just("settle")),
)


class Model:
    """Who should hold what: those with a ticket that began and is not over."""

    def __init__(self) -> None:
        self.tickets: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.over: set[str] = set()

    def holds(self, who: str) -> list[str]:
        return sorted(
            {r for t, (w, roles) in self.tickets.items() if w == who and t not in self.over for r in roles}
        )


@pytest.mark.slow
def test_any_interleaving_ends_as_the_ledger_says(postgres18, sqlite_shelf) -> None:
    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(ACTS, min_size=4, max_size=14))
    def any_order(acts) -> None:
        with tempfile.TemporaryDirectory(prefix="muniment-faults-") as folder:
            ground = ground_on(postgres18, sqlite_shelf, Path(folder))
            with World(ground) as world:
                play(world, acts)

    any_order()


def play(world: World, acts) -> None:
    model, before = Model(), world.ground.everything()
    for act, *more in acts:
        ids = list(model.tickets)
        match act, more:
            case "file", [who, roles, minutes] if len(ids) < 4:
                model.tickets[world.approved(*roles, who=who, length=minutes * MINUTE)] = (who, roles)
            case (("return" | "revoke"), [n]) if n < len(ids):
                if world.ticket(ids[n]).status in {"provisioning", "active"}:
                    world.give_back(ids[n], model.tickets[ids[n]][0]) if act == "return" else world.revoke(
                        ids[n]
                    )
                    model.over.add(ids[n])
                elif world.ticket(ids[n]).status == "approved" and act == "revoke":
                    world.revoke(ids[n])
                    model.over.add(ids[n])
            case "time", [minutes]:
                world.clock.pass_by(minutes * MINUTE)
            case "pass", [action, n] if n < len(ids):
                world.one_pass(action, "pg", [ids[n]])
            case "fault", [call, happened]:
                world.pg.arrange(
                    call, faulty.unavailable_after() if happened else faulty.unavailable_before()
                )
            case "settle", _:
                settled(world, model)
    settled(world, model)
    world.clock.pass_by(HOUR)
    settled(world, model)
    assert all(t.status in ENDS for t in world.tickets())
    assert world.ground.everything() == before


def settled(world: World, model: Model) -> None:
    """Let controllers come to rest, with the faults that wait; then the target holds what the model says."""
    for _ in range(30):
        if not world.step() and not world.desk.store.due(world.clock.now(), 10):
            break
    now = world.clock.now()
    for ticket in model.tickets:
        found = world.ticket(ticket)
        if found.expiry and now >= found.expiry:
            model.over.add(ticket)
    for who in WHO:
        assert world.holds(who) == model.holds(who), [world.kinds(t) for t in model.tickets]
    world.sound()
