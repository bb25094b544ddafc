"""Each call of a connector fails twice: not done, and done but unreported (I15, I16, I18, I19)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

import faulty
from faults.world import HOUR, World
from faulty import Fault
from muniment.core.errors import LeaseLost, MunimentError, TargetUnavailable
from muniment.core.events import GrantObserved, RevocationObserved
from muniment.service.looking import collect

ON = pytest.mark.parametrize("on", ["pg", "ssh"])


def lost_after() -> Fault:
    return Fault(after=faulty.raising(LeaseLost("another worker holds the work")))


#: what a target can do to us that leaves open what happened; each is over by the next attempt
TROUBLES: dict[str, Callable[[], Fault]] = {
    "no answer, not done": faulty.unavailable_before,
    "no answer, done": faulty.unavailable_after,
    "unknown, not done": lambda: faulty.unsure(happened=False),
    "unknown, done": lambda: faulty.unsure(happened=True),
    "lease lost, done": lost_after,
    "another error, not done": lambda: Fault(before=faulty.raising(MunimentError("odd", code="target.odd"))),
    "another error, done": lambda: Fault(after=faulty.raising(MunimentError("odd", code="target.odd"))),
}


def held(world: World, on: str) -> list[str]:
    return world.holds() if on == "pg" else world.certified()


@ON
@pytest.mark.parametrize("trouble", TROUBLES)
def test_giving_is_adopted_or_tried_again(world: World, on: str, trouble: str) -> None:
    before = world.ground.everything()
    ticket = world.approved(on=on)
    getattr(world, on).arrange("provision", TROUBLES[trouble]())
    world.step()
    done = bool(held(world, on))
    assert done == trouble.endswith(", done")
    if world.ticket(ticket).status == "active":
        assert done, "active without having been read back"
    world.settle()
    world.must(ticket, "active")
    assert len(world.events(ticket, GrantObserved)) == 1
    if on == "ssh":
        assert b"cert" in collect(world.desk, world.caller("ann"), ticket)
        assert len(world.ground.certificates()) == 1
    world.sound()
    world.later(HOUR)
    world.must(ticket, "closed")
    world.sound()
    assert world.ground.everything() == before


@ON
@pytest.mark.parametrize("trouble", [t for t in TROUBLES if t != "lease lost, done"])
def test_taking_back_is_seen_or_tried_again(world: World, on: str, trouble: str) -> None:
    before = world.ground.everything()
    ticket = world.active(on=on)
    getattr(world, on).arrange("revoke", TROUBLES[trouble]())
    world.give_back(ticket)
    world.step()
    if held(world, on):
        world.must(ticket, "revoking")
    world.settle()
    world.must(ticket, "closed")
    assert held(world, on) == []
    assert len(world.events(ticket, RevocationObserved)) == 1
    world.sound()
    world.later(HOUR)
    assert world.ground.everything()[0] == before[0]


@ON
@pytest.mark.parametrize("which", ["before giving", "after giving", "after taking back"])
@pytest.mark.parametrize("trouble", ["no answer", "incomplete"])
def test_a_target_that_cannot_be_read_proves_nothing(world: World, on: str, which: str, trouble: str) -> None:
    connector = getattr(world, on)
    blind = Blind(connector, trouble)
    world.use(targets={on: world.target(on, "ro", "rw", "web", connector=blind)})
    ticket = world.approved(on=on)
    if which == "before giving":
        blind.times = 3
        for _ in range(3):
            assert not world.step()
            world.must(ticket, "approved")
        assert held(world, on) == []
    elif which == "after giving":
        blind.skip, blind.times = 1, 2
        world.step()
        world.must(ticket, "provisioning")  # it is held, and not yet seen
        assert held(world, on)
        world.step()
        world.must(ticket, "provisioning")
    world.settle()
    world.must(ticket, "active")
    if which == "after taking back":
        blind.times = 3
        world.give_back(ticket)
        for _ in range(3):
            world.step()
            assert held(world, on) == []
            assert world.must(ticket, "revoking").revocation
    elif which == "after giving":
        world.sound()
    world.give_back(ticket) if world.ticket(ticket).status == "active" else None
    world.settle()
    world.must(ticket, "closed")
    world.sound()


class Blind:
    """Cannot be read, or not completely, the next ``times`` times after ``skip``; then shows nothing at all."""

    def __init__(self, real, trouble: str) -> None:
        self.real, self.trouble, self.times, self.skip = real, trouble, 0, 0
        self.capabilities, self.validate, self.check = real.capabilities, real.validate, real.check
        self.provision, self.revoke = real.provision, real.revoke

    def observe(self, accounts):
        seen = self.real.observe(accounts)
        if self.skip:
            self.skip -= 1
            return seen
        if not self.times:
            return seen
        self.times -= 1
        if self.trouble == "no answer":
            raise TargetUnavailable("the target did not answer")
        return type(seen)(holdings=(), complete=False)


@ON
def test_rejected_is_the_end_and_nothing_stays(world: World, on: str) -> None:
    before = world.ground.everything()
    ticket = world.approved(on=on)
    getattr(world, on).arrange("provision", faulty.rejecting("target.no-such-account"))
    world.settle()
    failed = world.must(ticket, "failed")
    assert failed.failure
    assert failed.failure.code == "target.no-such-account"
    world.sound()
    assert world.ground.everything() == before


def test_rejected_though_done_is_adopted(world: World) -> None:
    """The answer is hearsay; what the target holds is not."""
    ticket = world.approved()
    world.pg.arrange("provision", Fault(result="rejected", code="target.rejected"))
    world.settle()
    world.must(ticket, "active")
    world.sound()


def test_unknown_until_the_window_is_over(world: World) -> None:
    """A target that never says whether it gave: the ticket is never active, and whatever was given is taken back."""
    before = world.ground.everything()
    ticket = world.approved("ro", "rw")
    world.pg.arrange("provision", faulty.unavailable_before(times=3))
    for _ in range(3):
        world.step()
        world.must(ticket, "provisioning")
    world.ground.as_connector(
        "GRANT {} TO {}", world.ground.name("ro"), world.ground.name("ann")
    )  # half of it
    world.later(HOUR)
    failed = world.must(ticket, "failed")
    assert failed.failure
    assert failed.failure.code == "target.too-late"
    world.sound()
    assert world.ground.everything() == before


def test_a_batch_with_one_rejected_order(world: World) -> None:
    """One account is gone; the other ticket of the same pass is served."""
    world.ground.sql("ALTER ROLE {} RENAME TO {}", world.ground.name("bea"), world.ground.name("was_bea"))
    gone, fine = world.approved(who="bea"), world.approved()
    world.settle()
    world.must(gone, "failed")
    world.must(fine, "active")
    world.sound()
    world.ground.sql("ALTER ROLE {} RENAME TO {}", world.ground.name("was_bea"), world.ground.name("bea"))


def test_access_that_ends_while_nobody_answers_is_not_given_late(world: World) -> None:
    world.pg.arrange("observe", faulty.unavailable_before(times=50))
    ticket = world.approved(length=timedelta(minutes=1), starts_at=world.clock.now() + timedelta(minutes=1))
    for _ in range(5):
        world.later(timedelta(seconds=30))
    world.settle()
    assert world.ticket(ticket).status in {"approved", "lapsed"}
    world.pg.arrange("observe")
    for _ in range(60):
        if world.ticket(ticket).status == "lapsed":
            break
        world.step()
    world.must(ticket, "lapsed")
    assert world.spy.given == []
