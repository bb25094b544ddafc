"""Taking access away from targets that resist: other grantors, outages, open sessions (I14, I15, F10, F15, F16)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from structlog.testing import capture_logs

import faulty
import servers
from faults.world import HOUR, World, ground_on
from muniment.conformance.proxy import Proxy
from muniment.connectors import krl
from muniment.controllers.runtime import Controllers
from muniment.core.errors import MunimentError, TargetUnavailable
from muniment.core.events import FindingRaised, FindingResolved, RevocationFailed, RevocationObserved
from muniment.service.deciding import resolve, waive
from muniment.service.pursuing import pursue

SECOND = timedelta(seconds=1)


def failure(world: World, ticket: str) -> str:
    revocation = world.must(ticket, "revoking").revocation
    assert revocation
    return revocation.failure or ""


@pytest.mark.parametrize("major", [18, 15])
def test_another_grantors_membership_stays_and_keeps_the_ticket_open(
    request, sqlite_shelf, tmp_path, major
) -> None:
    server = request.getfixturevalue(f"postgres{major}")
    with World(ground_on(server, sqlite_shelf, tmp_path)) as world:
        name = world.ground.name
        ticket = world.active()
        if major == 15:  # one membership in all: whoever gives it anew is its grantor
            world.ground.sql("REVOKE {} FROM {}", name("rw"), name("ann"))
        world.ground.sql("GRANT {} TO {}", name("rw"), name("ann"))
        world.give_back(ticket)
        world.settle()
        for _ in range(3):
            said = failure(world, ticket)
            assert "target.still-held" in said
            assert "given by postgres" in said
            world.later(timedelta(seconds=30))
        assert [f.type for f in world.ticket(ticket).findings] == ["overdue"]
        assert len(world.events(ticket, RevocationFailed)) == 1  # the same again is nothing new
        world.ground.sql("REVOKE {} FROM {}", name("rw"), name("ann"))
        world.settle()
        world.must(ticket, "closed")
        assert world.holds() == []
        world.sound()


@pytest.mark.parametrize("gone", ["role", "account"])
def test_what_was_dropped_by_hand_is_gone(world: World, gone: str) -> None:
    ticket = world.active()
    world.ground.sql("DROP ROLE {}", world.ground.name("rw" if gone == "role" else "ann"))
    world.later(HOUR)
    world.must(ticket, "closed")
    world.sound()


def test_the_account_is_renamed_by_hand(world: World) -> None:
    """The name that we gave to is free of it: closed, as far as we can see. What the new name holds is an orphan."""
    ticket = world.active()
    world.ground.sql("ALTER ROLE {} RENAME TO {}", world.ground.name("ann"), world.ground.name("was_ann"))
    world.later(HOUR)
    world.must(ticket, "closed")
    assert world.ground.holds("was_ann") == ["rw"]  # the reconciler's work (I36)
    world.ground.sql("REVOKE {} FROM {} CASCADE", world.ground.name("rw"), world.ground.name("was_ann"))


@contextmanager
def away(proxy: Proxy, how: str) -> Iterator[None]:
    proxy.mode = how
    yield
    proxy.mode = "through"


@pytest.mark.parametrize("how", ["refuse", "reset", "silent"])
def test_down_at_expiry_it_is_overdue_and_closes_when_it_is_back(
    postgres18, sqlite_shelf, tmp_path, how
) -> None:
    ground = ground_on(postgres18, sqlite_shelf, tmp_path)
    with Proxy(postgres18.port) as proxy, World(ground, port=proxy.port, timeout=2 * SECOND) as world:
        before = ground.everything()
        ticket = world.active()
        with away(proxy, how):
            world.clock.pass_by(HOUR)
            world.step()
            assert "target.unavailable" in failure(world, ticket)
            assert world.ticket(ticket).findings == ()
            if how == "refuse":
                world.later(59 * SECOND)
                assert world.ticket(ticket).findings == ()
            world.clock.pass_by(SECOND if how == "refuse" else 60 * SECOND)
            world.step()
            [finding] = world.events(ticket, FindingRaised)
            assert (finding.type, finding.severity) == ("overdue", "high")
            if how == "refuse":
                for _ in range(5):
                    world.later(timedelta(minutes=10))
            assert len(world.events(ticket, FindingRaised)) == 1
            world.sound(at_rest=False)
        world.settle()
        world.must(ticket, "closed")
        assert len(world.events(ticket, FindingResolved)) == 1
        assert ground.everything() == before
        world.sound()


def test_the_server_is_stopped_at_expiry(sqlite_shelf, tmp_path) -> None:
    """A real one, with SIGQUIT; it comes back on its own port."""
    with servers.postgres(18) as server, World(ground_on(server, sqlite_shelf, tmp_path)) as world:
        ticket = world.active()
        world.clock.pass_by(HOUR)
        restart = Outage(server)
        world.step()
        assert "target.unavailable" in failure(world, ticket)
        world.clock.pass_by(61 * SECOND)
        world.settle()
        assert [f.type for f in world.ticket(ticket).findings] == ["overdue"]
        restart.over()
        world.settle()
        world.must(ticket, "closed")
        world.ground.forget()
        world.sound()


class Outage:
    """The server process ends at once, and its data stay."""

    def __init__(self, server) -> None:
        self.server = server
        server._process.send_signal(3)
        server._process.wait(30)

    def over(self) -> None:
        port = self.server.port
        options = (
            "-D",
            f"{self.server.folder}/data",
            f"--port={port}",
            "--unix_socket_directories=",
            "--fsync=off",
        )
        process = self.server._run((self.server._server, *options, "--listen_addresses=127.0.0.1"), death=3)
        self.server.port = port
        assert self.server._becomes_ready(process)


def test_attempts_go_on_without_end_and_never_pause_longer_than_a_minute(world: World) -> None:
    """The controller's own pauses, for a target that never answers again (I14, F10)."""
    ticket = world.active()
    world.give_back(ticket)
    controllers = Controllers(world.desk, node="here")  # not started: nothing happens but what we say
    down = TargetUnavailable("the target did not answer")
    with capture_logs() as logs:
        for _ in range(200):
            controllers.retry(ticket, "pg", "revoke", down)
    pauses = [entry["seconds"] for entry in logs if entry["event"] == "tried again later"]
    assert len(pauses) == 200
    assert pauses[0] <= 5
    assert max(pauses) <= 60
    assert pauses[-1] == 60
    with capture_logs() as logs:  # one success, and the next trouble is taken up quickly again
        controllers.settled(ticket, None)
        controllers.retry(ticket, "pg", "revoke", down)
    assert logs[-1]["seconds"] <= 5


def session(world: World, who: str, role: str) -> psycopg.Connection:
    connection = psycopg.connect(world.ground.dsn(world.ground.name(who), "pw"), autocommit=True)
    connection.execute(f"SET ROLE {world.ground.name(role)}")
    return connection


def alive(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_sessions_that_hold_set_role_are_cut_and_counted(world: World) -> None:
    ticket, other = world.active(), world.active("ro", who="bea")
    mine, theirs = [session(world, "ann", "rw") for _ in range(3)], session(world, "bea", "ro")
    world.give_back(ticket)
    world.settle()
    world.must(ticket, "closed")
    world.must(other, "active")
    assert [alive(each) for each in mine] == [False] * 3
    assert alive(theirs)
    assert [event.sessions_ended for event in world.events(ticket, RevocationObserved)] == [3]
    theirs.close()


def test_sessions_of_an_account_that_keeps_everything_stay(world: World) -> None:
    """Another ticket keeps the role: nothing is taken, and nobody is thrown out."""
    first, second = world.active(), world.active()
    connection = session(world, "ann", "rw")
    world.give_back(first)
    world.settle()
    world.must(first, "closed")
    assert alive(connection)
    world.give_back(second)
    world.settle()
    assert not alive(connection)


def test_a_session_we_may_not_end_keeps_the_ticket_open(world: World) -> None:
    """Without pg_signal_backend the right goes, and what an old session still has does not."""
    ticket = world.active()
    connection = session(world, "ann", "rw")
    world.ground.sql("REVOKE pg_signal_backend FROM {}", world.ground.name("muniment"))
    world.give_back(ticket)
    world.settle()
    assert "target.session-survives" in failure(world, ticket)
    assert world.holds() == []
    assert alive(connection)
    connection.close()
    for _ in range(50):
        if not world.ground.sql(
            "SELECT 1 FROM pg_stat_activity WHERE usename = '" + world.ground.name("ann") + "'"
        ):
            break
        threading.Event().wait(0.02)
    world.settle()
    world.must(ticket, "closed")


def test_waiving_gone_attests_it(postgres18, sqlite_shelf, tmp_path) -> None:
    """A target that will never answer again: a second person's word, on record as such (I15)."""
    ground = ground_on(postgres18, sqlite_shelf, tmp_path)
    with Proxy(postgres18.port) as proxy, World(ground, port=proxy.port, timeout=2 * SECOND) as world:
        ticket = world.active()
        proxy.mode = "refuse"
        world.later(HOUR)
        world.later(61 * SECOND)
        waive(world.desk, world.caller("ops"), ticket, check="gone", reason="the machine was scrapped")
        revoked = world.must(ticket, "revoked")  # the finding is still to be looked at
        assert revoked.revocation
        assert revoked.revocation.attested_by == "human:ops@example.com"
        assert revoked.revocation.observed_gone_at is None
        resolve(world.desk, world.caller("ops"), ticket, finding="1", reason="scrapped")
        closed = world.must(ticket, "closed")
        assert {(c.check, c.holds, c.waived) for c in closed.checks if not c.holds} == {
            ("gone", False, "human:ops@example.com")
        }
        world.settle()
        world.sound(at_rest=False)


@pytest.mark.parametrize("who", ["ann", "bea"])
def test_not_everybody_may_attest(world: World, who: str) -> None:
    """Least of all the beneficiary."""
    ticket = world.active()
    world.pg.arrange("revoke", faulty.unavailable_before())
    world.give_back(ticket)
    with pytest.raises(TargetUnavailable):
        pursue(world.desk, ticket)
    with pytest.raises(MunimentError):
        waive(world.desk, world.caller(who), ticket, check="gone", reason="I say so")
    world.settle()
    world.must(ticket, "closed")


def test_a_process_stopped_with_the_authoritys_lock_in_its_hands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file lock is nobody else's to break: the ticket says who is in the way, and it goes on when that is over."""
    monkeypatch.setattr(krl, "_LOCK_SECONDS", 0.2)
    ticket = world.active(on="ssh")
    world.give_back(ticket)
    with krl.locked(world.ground.path / "krl"):
        world.step()
        assert "another process has held" in failure(world, ticket)
        world.clock.pass_by(61 * SECOND)
        world.step()
        assert [f.type for f in world.must(ticket, "revoking").findings] == ["overdue"]
    world.settle()
    world.must(ticket, "closed")
    world.sound()
