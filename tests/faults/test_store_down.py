"""The store cannot write: nothing is given, and access that was given still ends (I28)."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import event

import faulty
from faults.world import HOUR, World
from muniment.controllers.runtime import Controllers
from muniment.core.errors import LeaseLost, MunimentError, StoreUnavailable
from muniment.core.events import FindingRaised, RevocationObserved, RevocationOrdered
from muniment.service.deciding import approve, revoke
from muniment.service.fulfilment import claim_for
from muniment.service.pursuing import pursue
from muniment.service.taking import end_access, prepare_end, record_end
from store.stores import file_of

SECOND = timedelta(seconds=1)


@contextmanager
def full(world: World):
    """The disk is full: SQLite may not grow by a single page, on any connection, old or new."""
    store = world.desk.store
    store.engine.dispose()
    with closing(sqlite3.connect(file_of(store), isolation_level=None)) as file:
        file.execute("CREATE TABLE filler (x BLOB)")
        [[pages]] = file.execute("PRAGMA page_count").fetchall()
        file.execute(f"PRAGMA max_page_count={pages}")
        size = 1 << 16
        while size > 8:  # what is free within the file is used up
            try:
                file.execute("INSERT INTO filler VALUES (zeroblob(?))", (size,))
            except sqlite3.OperationalError:
                size //= 2

    def limit(connection, _record) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}").close()

    event.listen(store.engine, "connect", limit)
    yield
    event.remove(store.engine, "connect", limit)
    store.engine.dispose()
    with closing(sqlite3.connect(file_of(store), isolation_level=None)) as file:
        file.execute("DROP TABLE filler")


@contextmanager
def unwritable(world: World, monkeypatch: pytest.MonkeyPatch):
    """No transaction that writes can begin; reading goes on."""
    from muniment.store import appending, engine, events, views  # noqa: PLC0415

    down = StoreUnavailable("the store did not answer: disk I/O error")

    @contextmanager
    def writing(_engine):
        raise down
        yield

    class Turn:
        def __enter__(self):
            raise down

        def __exit__(self, *_: object) -> None:
            """Never entered."""

    with monkeypatch.context() as patch:
        for module in (engine, events, views):
            patch.setattr(module, "writing", writing)
        patch.setattr(appending, "writers_turn", lambda _engine: Turn())
        yield


def test_a_full_disk_gives_nothing_and_recovers(ground) -> None:
    with World(ground) as world:
        live = world.active("rw", who="bea")
        ticket, waiting = world.approved(), world.ask("ro", who="bea")
        with full(world):
            long = "because " * 450
            with pytest.raises(StoreUnavailable, match="full"):
                revoke(world.desk, world.caller("ops"), live, reason=long)
            with pytest.raises(StoreUnavailable, match="full"):
                approve(world.desk, world.caller("cyd"), waiting, digest=None, comment=long)
            for _ in range(3):
                world.step()
            world.must(waiting, "pending")
            world.must(live, "active")
            # a small intent may still find room in a page; without it nothing was given
            assert (world.ticket(ticket).status == "approved") == (world.holds() == [])
        assert world.troubles or world.holds()
        world.settle()
        world.must(ticket, "active")
        world.sound()


def test_no_intent_no_grant(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = world.approved()
    with unwritable(world, monkeypatch):
        with pytest.raises(StoreUnavailable):
            pursue(world.desk, ticket)
        with pytest.raises(StoreUnavailable):
            world.ask()
    assert world.spy.given == []
    assert world.holds() == []
    world.sound(at_rest=False)
    world.settle()
    world.must(ticket, "active")


def test_intent_on_record_and_then_no_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given before the store went is not active until it can be said; nobody is told that it is."""
    ticket = world.approved()
    down = unwritable(world, monkeypatch)
    world.pg.arrange("provision", faulty.Fault(after=lambda: faulty.void(down.__enter__())))
    world.step()
    down.__exit__(None, None, None)
    world.must(ticket, "provisioning")
    world.clock.pass_by(61 * SECOND)
    world.settle()
    world.must(ticket, "active")
    world.sound()


def test_what_was_leased_ahead_ends_on_the_target_and_is_recorded_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As controllers do, 3 s before the end. The evidence waits for the store."""
    ticket, other = world.active(), world.active("ro", who="bea")
    world.clock.pass_by(HOUR - 3 * SECOND)
    ready = prepare_end(world.desk, "pg", [ticket], "me", world.clock.now() + 3 * SECOND)
    assert ticket in ready
    world.clock.pass_by(3 * SECOND)
    with unwritable(world, monkeypatch):
        ended = end_access(world.desk, "pg", [ticket, other], "me", ready)
        assert world.holds() == []
        again = record_end(world.desk, [ended]).again
        assert {type(again[t]) for t in (ticket, other)} == {StoreUnavailable}
        world.must(ticket, "active")  # not yet on record, and not said to be over
    world.clock.pass_by(61 * SECOND)
    world.settle()
    world.must(ticket, "closed")
    assert [e.cause for e in world.events(ticket, RevocationOrdered)] == ["expired"]
    assert len(world.events(ticket, RevocationObserved)) == 1
    world.must(other, "closed")
    world.sound()


def test_what_was_not_leased_ahead_ends_on_the_target_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is asked without a lease; the evidence waits for the store."""
    ticket, returned = world.active(), world.active("ro", who="bea")
    world.give_back(returned, who="bea")
    world.clock.pass_by(HOUR)
    with unwritable(world, monkeypatch):
        world.step()
        assert world.holds() == world.holds("bea") == []
        world.must(ticket, "active")  # not yet on record, and not said to be over
    world.settle()
    world.must(ticket, "closed")
    world.must(returned, "closed")
    world.sound()


def test_without_a_lease_what_another_ticket_gives_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I21 holds as ever: both give rw, and only one of them is over."""
    ending, longer = world.active("ro", "rw"), world.approved("rw", length=2 * HOUR)
    world.settle()
    world.must(longer, "active")
    world.clock.pass_by(HOUR)
    with unwritable(world, monkeypatch):
        world.step()
        assert world.holds() == ["rw"]
    world.settle()
    world.must(ending, "closed")
    world.must(longer, "active")
    world.sound()


def test_without_a_lease_nothing_is_done_where_another_worker_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = world.active()
    world.clock.pass_by(HOUR)
    others = world.desk.store.claim([claim_for(world.ticket(ticket), "somebody else")])
    with unwritable(world, monkeypatch):
        world.step()
        assert isinstance(world.troubles[-1], LeaseLost)
        assert world.holds() == ["rw"]
        assert world.spy.taken == []
    world.desk.store.release(list(others.values()))
    world.settle()
    world.must(ticket, "closed")
    world.sound()


@pytest.mark.parametrize("what", ["the lease alone", "a ticket that gives the same"])
def test_without_a_lease_the_last_look_is_right_before_the_change(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Another node, whose store works, begins between our first look and our change (I19)."""
    ticket, soon = world.active(), world.approved()
    world.clock.pass_by(HOUR)
    down = unwritable(world, monkeypatch)

    def meanwhile() -> None:
        with monkeypatch.context() as patch:
            restore(patch)
            if what == "the lease alone":
                assert world.desk.store.claim([claim_for(world.ticket(soon), "another node")])
            else:
                assert world.one_pass("provision", "pg", [soon]).moved

    world.pg.arrange("revoke", faulty.Fault(before=meanwhile))
    restore = remembered()
    with down:
        assert isinstance(world.one_pass("revoke", "pg", [ticket]).again[ticket], LeaseLost)
        assert world.holds() == ["rw"]
    world.clock.pass_by(61 * SECOND)
    world.settle()
    world.must(ticket, "closed")
    world.must(soon, "active")
    assert world.holds() == ["rw"]
    world.sound()


def remembered():
    """What `unwritable` takes away, to be put back for the length of another node's work."""
    from muniment.store import appending, engine, events, views  # noqa: PLC0415

    real, turn = engine.writing, appending.writers_turn

    def restore(patch: pytest.MonkeyPatch) -> None:
        for module in (engine, events, views):
            patch.setattr(module, "writing", real)
        patch.setattr(appending, "writers_turn", turn)

    return restore


def test_more_than_asked_seen_while_nothing_can_be_recorded_is_recorded_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could read it back before the end, and then the store was away: all of it goes, and the excess is said."""
    before = world.ground.everything()
    ticket = world.approved()
    more = lambda: world.ground.as_connector("GRANT {} TO {}", *map(world.ground.name, ("xx", "ann")))  # noqa: E731
    world.pg.arrange("provision", faulty.giving_more(more))
    world.pg.arrange("observe", faulty.Fault(), faulty.unavailable_before())
    world.step()
    world.give_back(ticket)
    with unwritable(world, monkeypatch):
        ended = end_access(world.desk, "pg", [ticket], "me")
        assert world.ground.everything() == before
    assert record_end(world.desk, [ended]).again == {}
    [finding] = world.events(ticket, FindingRaised)
    assert finding.scope == (world.role("xx"),)
    world.must(ticket, "revoked")
    world.sound()


def test_it_is_said_when_an_end_could_not_be_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never silently: the ticket is tried again, and whoever waits for it is told."""
    ticket = world.active()
    world.clock.pass_by(HOUR)
    with unwritable(world, monkeypatch):
        assert isinstance(world.one_pass("revoke", "pg", [ticket]).again[ticket], StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            pursue(world.desk, ticket)
    assert pursue(world.desk, ticket).status == "closed"
    world.sound()


@pytest.mark.slow
def test_controllers_end_access_while_nothing_can_be_recorded(
    ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controllers at work: the store goes after they prepared, the access ends, the record follows (liveness only)."""
    with World(ground, clock="own") as world:
        controllers = Controllers(world.desk, node="here")
        controllers.start()
        try:
            ticket = world.approved(length=4 * SECOND)
            until(lambda: world.ticket(ticket).status == "active")
            end = world.ticket(ticket).expiry
            assert end
            while world.clock.now() < end - timedelta(seconds=1.5):
                time.sleep(0.05)
            with unwritable(world, monkeypatch):
                until(lambda: world.holds() == [])
                assert world.clock.now() >= end
                with pytest.raises(MunimentError):
                    world.ask()
            # the lease could not be given back either: whoever records waits until it is over
            world.clock.advance_to(world.clock.now() + timedelta(seconds=61))
            until(lambda: world.ticket(ticket).status == "closed")
        finally:
            assert controllers.stop()
        world.sound()


def until(holds, seconds: float = 15.0) -> None:
    """Liveness: it comes about, some time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.05)
