"""Several workers on one store, and targets that hang: one effect each, in the order of fences (I19, I20)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

import faulty
from faults.world import HOUR, LEASE_OVER, Ground, World, ground_on
from muniment.conformance.proxy import Proxy
from muniment.controllers.runtime import Controllers
from muniment.core import commands as c
from muniment.core.errors import LeaseLost, Refused
from muniment.core.events import GrantObserved, RevocationFailed, RevocationObserved
from muniment.ports import Appended
from muniment.service import fulfilment as f
from muniment.service.deciding import approve, withdraw
from muniment.service.giving import give
from muniment.service.taking import end_access, record_end, take_back

SECOND = timedelta(seconds=1)


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Liveness: it comes about, some time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.05)


@pytest.mark.parametrize("act", ["give", "take"])
def test_many_workers_for_one_account_have_one_effect(any_ground: Ground, act: str) -> None:
    """Six workers in two processes' worth of desks start at the same instant, again and again."""
    with World(any_ground) as one, World(any_ground) as two:
        for _ in range(3):
            ticket = one.approved() if act == "give" else one.active()
            if act == "take":
                one.give_back(ticket)
            for world in (one, two):
                world.spy.given.clear()
                world.spy.taken.clear()
            gate = threading.Barrier(6)

            def work(n: int, ticket: str = ticket, gate: threading.Barrier = gate) -> None:
                world = (one, two)[n % 2]
                gate.wait()
                (give if act == "give" else take_back)(world.desk, "pg", [ticket], f"worker-{n}")

            with ThreadPoolExecutor(6) as pool:
                list(pool.map(work, range(6)))
            one.settle()
            if act == "give":
                one.must(ticket, "active")
                assert len(one.events(ticket, GrantObserved)) == 1
                assert len(one.spy.given) + len(two.spy.given) == 1
                one.give_back(ticket)
                one.settle()
            else:
                assert len(one.spy.taken) + len(two.spy.taken) == 1
            one.must(ticket, "closed")
            assert len(one.events(ticket, RevocationObserved)) == 1
            assert one.events(ticket, RevocationFailed) == []
            one.sound()


@pytest.mark.slow
def test_two_controllers_on_one_store(any_ground: Ground) -> None:
    """Both sweep, both are told: each ticket is given once and taken once (liveness only)."""
    with World(any_ground, clock="own") as one, World(any_ground, clock="own") as two:
        both = [Controllers(world.desk, node=name) for world, name in ((one, "one"), (two, "two"))]
        for controllers in both:
            controllers.start()
        try:
            tickets = [one.approved("ro", "rw"), two.approved("rw"), one.approved("rw", who="bea")]
            until(lambda: all(two.ticket(t).status == "active" for t in tickets))
            for ticket, who in zip(tickets, ("ann", "ann", "bea"), strict=True):
                two.give_back(ticket, who)
            until(lambda: all(one.ticket(t).status == "closed" for t in tickets))
        finally:
            assert all([controllers.stop() for controllers in both])  # noqa: C419  every one of them is stopped
        for ticket in tickets:
            assert len(one.events(ticket, GrantObserved)) == len(one.events(ticket, RevocationObserved)) == 1
        one.sound()


def test_memory_that_is_behind_neither_decides_nor_refuses(any_ground: Ground) -> None:
    """A node remembers a ticket as it was; another has moved it on meanwhile (I7)."""
    with World(any_ground) as one, World(any_ground) as two:
        given, withdrawn, decided = one.approved(), one.ask("ro"), one.ask("ro", who="bea")
        for ticket in (given, withdrawn, decided):
            two.ticket(ticket)
        one.settle()
        one.must(given, "active")
        two.give_back(given)  # as two remembers it, there is nothing to give back yet
        withdraw(one.desk, one.caller("ann"), withdrawn)
        with pytest.raises(Refused, match="is withdrawn"):
            approve(two.desk, two.caller("cyd"), withdrawn, digest=None)
        approve(one.desk, one.caller("cyd"), decided, digest=None)
        with pytest.raises(Refused, match="is approved"):
            approve(two.desk, two.caller("dee"), decided, digest=None)
        assert one.kinds(decided).count("approval-recorded/1") == 1
        one.settle()
        one.must(given, "closed")
        one.sound()


class Held:
    """A connector whose confirmations wait for a word, with the target's attention and locks: a paused worker."""

    def __init__(self, real) -> None:
        self.real, self.capabilities = real, real.capabilities
        self.validate, self.check, self.observe = real.validate, real.check, real.observe
        self.there, self.go = threading.Event(), threading.Event()

    def provision(self, orders, confirm):
        return self.real.provision(orders, self.wait(confirm))

    def revoke(self, orders, confirm):
        return self.real.revoke(orders, self.wait(confirm))

    def wait(self, confirm):
        def waiting() -> None:
            confirm()
            self.there.set()
            assert self.go.wait(30)

        return waiting


@pytest.mark.parametrize("act", ["give", "take"])
def test_paused_between_confirmation_and_change(any_ground: Ground, act: str) -> None:
    """The worst instant: the word that the work is ours is a moment old. The server ends the transaction (I19)."""
    with World(any_ground, pause=SECOND) as late, World(any_ground, pause=SECOND) as other:
        ticket = late.approved() if act == "give" else late.active()
        if act == "take":
            late.give_back(ticket)
        held = Held(late.pg)
        late.use(targets={"pg": late.target("pg", "ro", "rw", connector=held)})
        with ThreadPoolExecutor(1) as pool:
            paused = pool.submit(late.step)
            assert held.there.wait(10)
            other.clock.pass_by(LEASE_OVER)
            other.settle()
            other.must(ticket, "active" if act == "give" else "closed")
            if act == "give":  # and on: the access has ended by the time the first one wakes up
                other.give_back(ticket)
                other.settle()
                other.must(ticket, "closed")
            known, state = other.ground.kinds(ticket), other.ground.everything()
            held.go.set()
            paused.result(30)
        assert other.ground.kinds(ticket) == known
        assert other.ground.everything() == state
        assert other.holds() == []
        other.sound()


@pytest.mark.parametrize("act", ["give", "take"])
def test_nobody_took_over_and_still_nothing_is_done_late(world: World, act: str) -> None:
    """The lease ran out unnoticed: the late worker does nothing, and does not call it the target's failure."""
    ticket = world.approved() if act == "give" else world.active()
    if act == "take":
        world.give_back(ticket)
    world.pg.arrange(
        "provision" if act == "give" else "revoke",
        faulty.Fault(before=lambda: world.clock.pass_by(LEASE_OVER)),
    )
    before = world.ground.everything()
    world.step()
    assert world.ground.everything() == before
    assert any(isinstance(e, LeaseLost) or e.code == "lease.lost" for e in world.troubles)
    world.must(ticket, "provisioning" if act == "give" else "revoking")
    world.settle()
    world.must(ticket, "active" if act == "give" else "closed")
    assert world.events(ticket, RevocationFailed) == []
    world.sound()


def test_a_stale_fence_records_nothing(any_ground: Ground) -> None:
    """Even a worker that asked the target before it was overtaken cannot say what it saw (I19)."""
    with World(any_ground) as late, World(any_ground) as other:
        ticket = late.active()
        late.give_back(ticket)
        ended = end_access(late.desk, "pg", [ticket], "late")
        assert late.holds() == []
        other.clock.pass_by(LEASE_OVER)
        other.settle()
        other.must(ticket, "closed")
        known = other.ground.kinds(ticket)
        assert ticket in record_end(late.desk, [ended]).again
        assert other.ground.kinds(ticket) == known

        second = late.active()
        late.give_back(second)
        [work] = f.load(late.desk, [second], "pg")
        [mine] = f.claim_all(late.desk, [work], "late", f.Progress(moved=[], again={}))
        other.clock.pass_by(LEASE_OVER)
        [theirs] = f.claim_all(
            other.desk, f.load(other.desk, [second], "pg"), "other", f.Progress(moved=[], again={})
        )
        assert mine.lease
        assert theirs.lease
        assert theirs.lease.fence > mine.lease.fence
        [refused] = late.desk.store.append_many([f.record(late.desk, mine, c.RecordRevocation())])
        assert isinstance(refused, LeaseLost)
        with pytest.raises(LeaseLost):
            f.confirmation(late.desk, [mine])()
        f.let_go(late.desk, [mine])  # gives nothing of the other's back
        f.confirmation(other.desk, [theirs])()
        [recorded] = other.desk.store.append_many(
            [f.record(other.desk, theirs, c.FailRevocation(code="x", message="y"))]
        )
        assert isinstance(recorded, Appended)


def test_the_owner_returns_it_while_it_is_being_given(world: World) -> None:
    """A person's word and the worker's record meet: the word stands, and what was given is taken back."""
    ticket = world.approved()
    world.pg.arrange("provision", faulty.Fault(after=lambda: world.give_back(ticket)))
    world.step()
    world.settle()
    world.must(ticket, "closed")
    assert world.holds() == []
    assert world.events(ticket, GrantObserved) == []
    world.sound()


def test_returned_and_expired_at_once(world: World) -> None:
    """Both end the same access: one revocation, with whichever was first as its cause."""
    ticket = world.active()
    world.clock.pass_by(HOUR)
    world.pg.arrange("revoke", faulty.Fault(before=lambda: world.give_back(ticket)))
    world.step()
    world.settle()
    closed = world.must(ticket, "closed")
    assert closed.revocation
    assert closed.revocation.cause == "returned"
    assert len(world.events(ticket, RevocationObserved)) == 1
    world.sound()


@pytest.mark.slow
@pytest.mark.parametrize("act", ["give", "take"])
def test_a_target_that_hangs_holds_up_no_other(postgres18, sqlite_shelf, tmp_path, act: str) -> None:
    """Controllers at work: one target accepts and never answers, another ends its grants on time (I20; liveness)."""
    ground = ground_on(postgres18, sqlite_shelf, tmp_path)
    with (
        Proxy(postgres18.port) as proxy,
        World(ground, clock="own", timeout=timedelta(seconds=30)) as world,
        World(ground, clock="own", port=proxy.port, timeout=timedelta(seconds=30)) as far,
    ):
        targets = {**world.desk.targets, "pg-far": world.target("pg-far", "rw", connector=far.pg)}
        world.use(targets=targets)
        controllers = Controllers(world.desk, node="here")
        controllers.start()
        try:
            length = timedelta(seconds=3)
            if act == "take":
                stuck = world.approved(on="pg-far", who="bea", length=length)
                until(lambda: world.ticket(stuck).status == "active")
            proxy.mode = "silent"
            if act == "give":
                stuck = world.approved(on="pg-far", who="bea")
            fine = [world.approved(length=length), world.approved(on="ssh", length=length)]
            until(lambda: all(world.ticket(t).status == "active" for t in fine))
            until(lambda: all(world.ticket(t).status == "closed" for t in fine))
            for ticket in fine:
                done = world.ticket(ticket)
                assert done.revocation
                assert done.expiry
            assert (world.holds(), world.certified()) == ([], [])
            assert world.ticket(stuck).status in ({"approved"} if act == "give" else {"active", "revoking"})
            proxy.mode = "through"
            until(lambda: world.ticket(stuck).status == ("active" if act == "give" else "closed"))
            if act == "give":
                world.give_back(stuck, "bea")
                until(lambda: world.ticket(stuck).status == "closed")
        finally:
            proxy.mode = "through"
            assert controllers.stop()
        assert world.holds("bea") == []
        world.sound()


@pytest.mark.slow
def test_a_stopped_controller_process_gives_its_work_to_the_next(ground: Ground) -> None:
    """Stopped in order: what was leased ahead is free at once, for a successor to end on time (liveness)."""
    with World(ground, clock="own") as world:
        first = Controllers(world.desk, node="first")
        first.start()
        ticket = world.approved(length=timedelta(seconds=4))
        until(lambda: world.ticket(ticket).status == "active")
        end = world.ticket(ticket).expiry
        assert end
        while world.clock.now() < end - timedelta(seconds=1.5):
            time.sleep(0.05)
        assert first.stop()
        second = Controllers(world.desk, node="second")
        second.start()
        try:
            until(lambda: world.ticket(ticket).status == "closed", 15)
        finally:
            assert second.stop()
        world.sound()
