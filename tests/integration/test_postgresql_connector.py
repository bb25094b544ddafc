"""The role-membership connector against real servers, asked past the connector for a second opinion."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import faulty
import servers
from faulty import FaultyConnector
from muniment.conformance import CHECKS, NotApplicable, run
from muniment.conformance.grounds.postgresql import SECRET, PostgresHarness, Session
from muniment.conformance.grounds.servers import TIMEOUT
from muniment.conformance.harness import yes
from muniment.connectors import postgresql_queries as q
from muniment.connectors.kinds import build_connector, registered
from muniment.connectors.postgresql import NEVER, PostgreSQL
from muniment.connectors.postgresql_changes import ROLE_ATTRIBUTE
from muniment.connectors.postgresql_session import StatementRefused
from muniment.core.errors import Invalid, LeaseLost, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, scope
from muniment.ports import Order

NUMBERS = itertools.count(1)


def lost() -> None:
    raise LeaseLost("another worker holds the work")


def role(name: str, resource: str | None = None) -> Privilege:
    return Privilege(privilege=name, resource=resource)


class World(PostgresHarness):
    """A harness of the conformance suite, and orders on it."""

    def order(self, account: str, *privileges: Privilege) -> Order:
        return Order(
            ticket=f"T-{next(NUMBERS)}",
            account=account,
            scope=scope(privileges or self.privileges[:1]),
            expires_at=datetime.now(UTC) + timedelta(hours=1),
        )


@pytest.fixture
def make(any_postgres):
    made = []

    def world(**options) -> World:
        made.append(World(any_postgres, **options))
        return made[-1]

    yield world
    for each in made:
        each.close()


@pytest.fixture
def world(make):
    return make()


@pytest.fixture
def world18(postgres18):
    made = World(postgres18)
    yield made
    made.close()


# ── A crash ──────────────────────────────────────────────────────────────────


@pytest.mark.server("postgres18")
def test_what_was_answered_survives_a_crash_of_the_server() -> None:
    """What is answered is on the disk: here the server by itself writes nothing for 10 s."""
    with servers.postgres(18, wal_writer_delay="10s") as server:
        world = World(server)
        order = world.order(world.accounts[0])
        assert world.connector.provision([order], yes)[0].result == "done"
        assert world.connector.revoke([order], yes)[0].result == "done"
        world.close()
        with server.away():
            pass
        with psycopg.connect(server.dsn()) as again:
            member = "SELECT r.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.member WHERE r.rolname = %s"
            assert again.execute(member, [order.account]).fetchall() == []


# ── Conformance ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance_of_the_faulty_connector_without_a_fault(check, postgres18):
    world = World(postgres18, wrap=FaultyConnector)
    try:
        check(world)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    finally:
        world.close()


def test_the_suite_can_be_run_without_pytest(postgres18):
    """As a command would, and against a connector that lies."""
    worlds = []

    @contextmanager
    def harness():
        worlds.append(World(postgres18, wrap=FaultyConnector, timeout=timedelta(seconds=2)))
        worlds[-1].connector.arrange("revoke", faulty.lying(times=100))
        worlds[-1].outage = lambda kind: None
        try:
            yield worlds[-1]
        finally:
            worlds[-1].close()

    results = {result.check: result for result in run(harness)}
    assert len(results) == len(worlds) == len(CHECKS)
    assert results["what is provisioned the target itself shows"].verdict == "passed"
    assert results["native expiry ends the access"].verdict == "not applicable"
    for name in (
        "revoking twice equals once",
        "revoking ends open sessions",
        "only what was added is removed",
    ):
        assert results[name].verdict == "failed", results[name]


# ── What PostgreSQL in particular does ───────────────────────────────────────


def test_names_are_quoted_and_cut_names_reach_no_other_role(world):
    long = "a" * 63
    taken = f"{long[:-4]}{world.n:04}"
    world.sql("CREATE ROLE {}", taken)
    with pytest.raises(Invalid, match="63 bytes"):
        world.connector.validate(taken + "_readonly", world.privileges[:1])
    order = world.order(taken + "_readonly")
    [outcome] = world.connector.provision([order], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.bad-name")
    assert world.connector.observe([order.account]).holdings == ()
    assert world.connector.revoke([order], yes)[0].result == "done"
    assert world.holds(taken) == ()


@pytest.mark.parametrize(
    ("privilege", "resource"), [("pg_execute_server_program", None), ("readonly", "orders"), ("x\0", None)]
)
def test_what_validate_refuses(world, privilege, resource):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (role(privilege, resource),))


def test_predefined_roles_only_when_allowed_but_always_revoked(make):
    world = make()
    order = world.order(world.accounts[0], role("pg_monitor"))
    assert world.connector.provision([order], yes)[0].code == "target.bad-name"
    world.sql("GRANT pg_monitor TO {} WITH ADMIN OPTION", world.connector_role)
    allowing = PostgreSQL(world.dsn(), **world.options, allow_predefined=True)
    assert allowing.provision([order], yes)[0].result == "done"
    allowing.close()
    assert world.connector.revoke([order], yes)[0].result == "done"
    assert world.holds(order.account) == ()


def test_more_than_a_membership_is_observed_and_taken_back(make):
    world = make()
    account, name = world.accounts[0], world.roles[0]
    order = world.order(account)
    world.connector.provision([order], yes)
    me = world.connector_role
    world.sql("SET ROLE {}", me)
    world.sql("GRANT {} TO {} WITH ADMIN OPTION", name, account)
    world.sql("RESET ROLE")
    world.sql("ALTER ROLE {} SUPERUSER CREATEDB", account)
    excess = (
        role(name, "admin option"),
        role("CREATEDB", "role attribute"),
        role("SUPERUSER", "role attribute"),
    )
    assert world.connector.observe([account]).of(account) == scope((role(name), *excess))
    assert set(world.connector.observe(None).of(account)) == {role(name), *excess}

    [outcome] = world.connector.revoke([world.order(account, *excess)], yes)
    assert outcome.code == "target.not-allowed"  # only a superuser makes or unmakes one
    world.sql("ALTER ROLE {} SUPERUSER", me)
    # since 16 a superuser's REVOKE is by the bootstrap superuser, and does not touch what our role gave
    [outcome] = world.connector.revoke([world.order(account, *excess)], yes)
    assert outcome.code == ("target.still-held" if world.version >= 16 else "")
    world.sql("ALTER ROLE {} NOSUPERUSER", me)
    world.connector.revoke([world.order(account, *excess)], yes)
    assert world.connector.observe([account]).of(account) == (role(name),)  # the membership itself stays
    assert world.connector.revoke([order], yes)[0].result == "done"
    assert world.holds(account) == ()


def test_what_another_gave_stays_and_is_said_so(world):
    account, name = world.accounts[0], world.roles[0]
    order = world.order(account)
    world.hold(account, role(name))
    before = world.everything()
    assert world.connector.provision([order], yes)[0].result == "done"
    givers = {h.grantor for h in world.connector.observe([account]).holdings}
    assert givers == ({"postgres"} if world.version < 16 else {"postgres", world.connector_role})
    session = world.open_session(account, role(name))
    [outcome] = world.connector.revoke([order], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.still-held")
    assert "given by postgres" in outcome.message
    assert world.everything() == before
    assert session.alive()  # it may do what it does, by another's grant
    session.close()
    [holding] = world.connector.observe([account]).holdings
    assert holding == Holding(account=account, privilege=name, grantor="postgres")


def test_a_role_that_is_gone_is_success(world):
    order = world.order(world.accounts[0])
    world.connector.provision([order], yes)
    world.sql("DROP ROLE {}", order.account)
    assert world.connector.revoke([order], yes)[0].result == "done"
    assert world.connector.provision([order], yes)[0].code == "target.no-such-account"
    order = world.order(world.accounts[1])
    world.connector.provision([order], yes)
    world.sql("DROP ROLE {}", world.roles[0])
    assert world.connector.revoke([order], yes)[0].result == "done"
    assert world.connector.provision([order], yes)[0].code == "target.no-such-privilege"


def test_a_refused_statement_harms_no_other_order(world18):
    """No look beforehand can tell this one: the batch is refused as a whole, then tried order by order."""
    world18.sql("CREATE ROLE {}", f"foreign{world18.n}")
    orders = [
        world18.order(world18.accounts[0]),
        world18.order(world18.accounts[0], role(f"foreign{world18.n}"), world18.privileges[1]),
        world18.order(world18.accounts[1]),
    ]
    outcomes = world18.connector.provision(orders, yes)
    assert [o.code for o in outcomes] == ["", "target.not-allowed", ""]
    assert world18.holds(world18.accounts[0]) == orders[0].scope  # of the refused order nothing
    assert world18.holds(world18.accounts[1]) == orders[2].scope


def test_a_role_locked_by_somebody_stops_no_other_order(make):
    world18 = make(timeout=timedelta(seconds=5))
    if world18.version < 16:
        pytest.skip("before 16 GRANT locks no role")
    orders = [world18.order(world18.accounts[0]), world18.order(world18.accounts[1], world18.privileges[1])]
    with psycopg.connect(world18.server.dsn()) as dba:
        dba.execute(f'GRANT {world18.roles[0]} TO "{world18.accounts[1]}"')  # not committed
        outcomes = world18.connector.provision(orders, yes)
        dba.rollback()
    assert [(o.result, o.code) for o in outcomes] == [("unknown", "target.busy"), ("done", "")]


def test_without_set_role_no_session_can_take_the_role_up(postgres18, postgres15):
    for server in (postgres18, postgres15):
        world = World(server, set_role=False)
        order = world.order(world.accounts[0])
        [outcome] = world.connector.provision([order], yes)
        if world.version >= 16:
            assert outcome.result == "done"
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                world.open_session(order.account, order.scope[0])
        else:
            assert outcome.code == "target.rejected"
            assert any("set_role" in problem for problem in world.connector.check().problems)
            assert world.holds(order.account) == ()
        world.close()


# ── Sessions ─────────────────────────────────────────────────────────────────


def test_sessions_of_the_account_end_and_others_live_on(world):
    first, second = world.accounts
    orders = [world.order(first), world.order(second)]
    world.connector.provision(orders, yes)
    plain, taken = Session(world.server.dsn(first, "pw")), world.open_session(first, world.privileges[0])
    other = world.open_session(second, world.privileges[0])
    assert world.connector.revoke(orders[:1], yes)[0].sessions_ended == 2
    assert not plain.alive()
    assert not taken.alive()
    assert other.alive()
    later = Session(world.server.dsn(first, "pw"))
    assert later.alive()
    for session in (plain, taken, other, later):
        session.close()


def test_a_session_that_reached_the_role_through_the_account_ends(world):
    first, second = world.accounts
    world.sql("GRANT {} TO {}", first, second)
    order = world.order(first)
    world.connector.provision([order], yes)
    session = world.open_session(second, world.privileges[0])
    assert world.connector.revoke([order], yes)[0].sessions_ended == 1
    assert not session.alive()
    session.close()


@pytest.mark.parametrize("hidden", [False, True], ids=["", "starts-hidden"])
def test_sessions_that_may_not_be_ended_are_never_called_done(world, hidden):
    world.sql("REVOKE pg_signal_backend FROM {}", world.connector_role)
    if hidden:
        world.sql("REVOKE pg_read_all_stats FROM {}", world.connector_role)
    order = world.order(world.accounts[0])
    world.connector.provision([order], yes)
    session = world.open_session(order.account, order.scope[0])
    [outcome] = world.connector.revoke([order], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.session-survives")
    assert session.alive()
    assert world.holds(order.account) == ()
    world.sql("GRANT pg_signal_backend TO {}", world.connector_role)
    [outcome] = world.connector.revoke([order], yes)  # the caller asks again
    assert (outcome.result, outcome.sessions_ended) == ("done", 1)
    assert not session.alive()
    session.close()


def test_a_session_that_does_not_end_is_never_called_done(world):
    order = world.order(world.accounts[0])
    world.connector.provision([order], yes)
    session = world.open_session(order.account, order.scope[0])
    pid = session.connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        [outcome] = world.connector.revoke([order], yes)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (outcome.result, outcome.code) == ("unknown", "target.session-survives")
    session.close()


# ── Fencing ──────────────────────────────────────────────────────────────────

PAUSED = """
import sys
from datetime import UTC, datetime, timedelta
from muniment.connectors import postgresql_queries as q
from muniment.connectors.postgresql import NEVER, PostgreSQL
from muniment.connectors.postgresql_session import StatementRefused
from muniment.core.scope import Privilege
from muniment.ports import Order

dsn, account, role = sys.argv[1:]
def confirm():
    print("confirmed", flush=True)
    sys.stdin.readline()  # we are stopped here: the lease was ours, and then time passes
order = Order(ticket="T-1", account=account, scope=(Privilege(privilege=role),),
              expires_at=datetime.now(UTC) + timedelta(hours=1))
try:
    print(PostgreSQL(dsn, name="pg", pause=timedelta(seconds=1)).provision([order], confirm), flush=True)
except Exception as error:
    print(type(error).__name__, flush=True)
"""


def test_a_worker_paused_after_confirm_never_acts_late(world):
    """Kill and pause: I19. The successor waits for the first worker's locks, which the server takes away."""
    order = world.order(world.accounts[0])
    call = [sys.executable, "-c", PAUSED, world.dsn(), order.account, world.roles[0]]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "confirmed\n"
        worker.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        try:
            assert world.connector.revoke([order], yes)[0].result == "done"
            assert 0.3 < time.monotonic() - started < 2
        finally:
            worker.send_signal(signal.SIGCONT)
        answer, _ = worker.communicate("go on\n")
    assert answer == "TargetUnavailable\n"
    assert world.holds(order.account) == ()


def test_confirm_may_take_its_time_but_not_longer_than_the_fence(make):
    world = make(pause=timedelta(seconds=0.5))
    order = world.order(world.accounts[0])
    assert world.connector.provision([order], lambda: time.sleep(0.2))[0].result == "done"
    with pytest.raises(TargetUnavailable):
        world.connector.revoke([order], lambda: time.sleep(0.8))
    assert world.holds(order.account) == order.scope
    assert world.connector.revoke([order], yes)[0].result == "done"  # on a new connection


def test_a_lost_lease_gives_the_locks_back_at_once(world):
    order = world.order(world.accounts[0])
    with pytest.raises(LeaseLost):
        world.connector.provision([order], lost)
    started = time.monotonic()
    assert world.connector.provision([order], yes)[0].result == "done"
    assert time.monotonic() - started < 1


def test_nobody_holds_up_his_own_end_by_our_locks(make):
    world = make(timeout=timedelta(seconds=5))
    order = world.order(world.accounts[0])
    world.connector.provision([order], yes)
    squatter = Session(world.server.dsn(world.accounts[1], "pw"))
    squatter.connection.execute("SELECT pg_advisory_lock(1297436233, n) FROM generate_series(0, 63) n")
    assert world.connector.revoke([order], yes)[0].result == "done"
    assert not squatter.alive()
    squatter.close()
    assert world.holds(order.account) == ()


def test_hundreds_of_accounts_need_few_locks(world):
    names = [f"many{world.n}_{i}" for i in range(300)]
    world.admin.execute("; ".join(f"CREATE ROLE {name}" for name in names))
    orders = [world.order(name, *world.privileges) for name in names]
    seen = []

    def count() -> None:
        seen.extend(world.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))

    started = time.monotonic()
    assert {o.result for o in world.connector.provision(orders, count)} == {"done"}
    assert {o.result for o in world.connector.revoke(orders, yes)} == {"done"}
    assert seen == [(64,)]
    assert time.monotonic() - started < 3


# ── A target that does not answer ────────────────────────────────────────────


def test_a_target_that_accepts_and_never_answers(world):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = world.dsn(port=silent.getsockname()[1])
        connector = PostgreSQL(dsn, name="pg-hole", timeout=TIMEOUT)
        started = time.monotonic()
        with pytest.raises(TargetUnavailable, match="pg-hole did not answer: there was no answer in time"):
            connector.observe(None)
        assert time.monotonic() - started < TIMEOUT.total_seconds() + 1
        report = connector.check()
    assert not report.reachable


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "wrong-" + SECRET}, "refused our password"),
        ({"port": 1}, "refuses connections"),
        ({"host": f"x:{SECRET}@h"}, "unknown"),  # as of a URL with an @ in its password
        ({"dbname": "nosuch"}, "does not know"),
    ],
)
def test_a_refusal_says_why_and_quotes_no_secret(world, changes, reason):
    connector = PostgreSQL(world.dsn(**changes), **world.options)
    with pytest.raises(TargetUnavailable) as caught:
        connector.observe(None)
    error = caught.value
    assert reason in error.message
    assert "env:PG_DSN" in error.remedy
    assert error.__suppress_context__
    assert SECRET not in f"{error.message} {error.remedy} {error!r} {connector!r} {connector.check()}"


def test_who_is_warm_has_connections_and_plans_at_hand(world):
    """An end is not held up by what its first call would have to make."""
    order = world.order(world.accounts[0])
    world.connector.provision([order], yes)
    connected = "SELECT pid FROM pg_stat_activity WHERE usename = '" + world.connector_role + "'"
    session = Session(world.server.dsn(order.account, "pw"))
    for _ in range(2):
        world.real.warm(3)
        assert len(there := sorted(world.sql(connected))) == 3
    assert session.alive()  # what ends sessions was planned, and ended none
    for idle in world.real._sessions._idle:
        idle.idle_since -= 55  # the next call would find them too old
    world.real.warm(3)
    assert len(new := sorted(world.sql(connected))) == 3
    assert not set(new) & set(there)
    assert world.connector.revoke([order], yes)[0].sessions_ended == 1
    assert sorted(world.sql(connected)) == new
    session.close()


def test_a_restarted_server_costs_no_call(world):
    """Warm connections that the server has closed are replaced within the call."""
    world.connector.observe(None)
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'muniment'")
    order = world.order(world.accounts[0])
    assert world.connector.provision([order], yes)[0].result == "done"


def test_the_session_is_pinned(world):
    world.sql("ALTER ROLE {} SET search_path = public", world.connector_role)
    world.sql("ALTER ROLE {} SET synchronous_commit = off", world.connector_role)
    world.connector.observe(None)
    [(application,)] = world.sql(
        "SELECT application_name FROM pg_stat_activity WHERE usename = '" + world.connector_role + "'"
    )
    assert application == "muniment"
    show = (sql.SQL("SHOW search_path"), ())
    with world.real._sessions.begin(time.monotonic() + 2, lambda s: s.ask(show)) as (_, (rows,)):
        assert rows == [("pg_catalog,pg_temp",)]


# ── Settings and check ───────────────────────────────────────────────────────


def test_check_says_what_works_and_what_does_not(make):
    world = make()
    names = (*world.roles, "muniment_no_such_role")
    connector = PostgreSQL(world.dsn(), **world.options, catalogue=names)
    report = connector.check()
    assert report.reachable
    assert f"PostgreSQL {world.version} answers" in report.details[0]
    assert "There is no role muniment_no_such_role, which is in the catalogue." in report.problems
    assert ("pg_execute_server_program" in " ".join(report.problems)) == (world.version < 16)
    world.sql("REVOKE {} FROM {} CASCADE", world.roles[0], world.connector_role)
    world.sql("REVOKE pg_signal_backend, pg_read_all_stats FROM {}", world.connector_role)
    problems = " ".join(connector.check().problems)
    assert "GRANT pg_signal_backend TO" in problems
    assert "GRANT pg_read_all_stats TO" in problems
    assert (f"cannot give {world.roles[0]}" in problems) == (world.version >= 16)
    world.sql("ALTER ROLE {} SUPERUSER", world.connector_role)
    assert "is a superuser" in " ".join(connector.check().problems)
    connector.close()


def test_a_connector_is_built_from_settings(world):
    settings = {"dsn": "env:PG_DSN", "timeout": "2s", "set_role": True}
    connector = build_connector(
        "postgresql",
        name="pg",
        settings=settings,
        secret=lambda _: world.dsn(),
        path=Path,
        catalogue=world.privileges,
    )
    assert connector.check().reachable
    connector.close()


@pytest.mark.parametrize(
    ("settings", "catalogue"),
    [
        ({"dsn": "env:X", "sslmode": "require"}, ()),
        ({}, ()),
        ({"dsn": "env:X", "timeout": "soon"}, ()),
        ({"dsn": "env:X"}, (role("pg_read_server_files"),)),
        ({"dsn": "env:X"}, (role("readonly", "orders"),)),
        ({"dsn": "env:NOT-A-DSN"}, ()),
    ],
)
def test_settings_that_cannot_be_meant(settings, catalogue):
    def secret(reference: str) -> str:
        return f"{SECRET} without an equals sign" if "NOT" in reference else "host=127.0.0.1"

    with pytest.raises(Misconfigured) as caught:
        build_connector(
            "postgresql", name="pg", settings=settings, secret=secret, path=Path, catalogue=catalogue
        )
    assert caught.value.remedy
    assert SECRET not in f"{caught.value} {caught.value.remedy}"
    assert caught.value.__cause__ is None or SECRET not in str(caught.value.__cause__)


def test_an_unknown_kind_lists_the_known():
    with pytest.raises(Misconfigured) as caught:
        build_connector("postgres", name="pg", settings={}, secret=str, path=Path, catalogue=())
    assert all(kind in caught.value.remedy for kind in registered())


# ── Faults on demand ─────────────────────────────────────────────────────────


def test_faults_do_what_they_say(make):
    world = make(wrap=FaultyConnector)
    connector, order = world.connector, world.order(world.accounts[0])
    connector.arrange("provision", faulty.unavailable_before(), faulty.lying(), faulty.unavailable_after())
    with pytest.raises(TargetUnavailable):
        connector.provision([order], yes)
    assert world.holds(order.account) == ()
    assert connector.provision([order], yes)[0].result == "done"
    assert world.holds(order.account) == ()
    with pytest.raises(TargetUnavailable):
        connector.provision([order], yes)
    assert world.holds(order.account) == order.scope

    connector.arrange(
        "revoke", faulty.unsure(happened=False), faulty.rejecting(), faulty.unsure(happened=True)
    )
    assert connector.revoke([order], yes)[0].result == "unknown"
    assert connector.revoke([order], yes)[0].result == "rejected"
    assert world.holds(order.account) == order.scope
    assert connector.revoke([order], yes)[0].result == "unknown"
    assert world.holds(order.account) == ()

    more = faulty.giving_more(lambda: world.hold(order.account, world.privileges[1]))
    connector.arrange("provision", more)
    connector.provision([order], yes)
    assert world.holds(order.account) == scope(world.privileges)

    release = threading.Event()
    connector.arrange("observe", faulty.hanging(release))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(connector.observe([order.account])))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    release.set()
    thread.join(5)
    assert seen[0].of(order.account) == scope(world.privileges)


def test_roles_in_roles_are_listed_and_accounts_are_not(make):
    world = make()
    first, second = world.privileges
    world.hold(world.accounts[0], first)
    world.nest(first, second)
    listed = [each for each in world.connector.nested() if each.inner == first.privilege]
    assert [(each.outer, each.grantor) for each in listed] == [(second, "postgres")]
    assert world.accounts[0] not in {each.inner for each in world.connector.nested()}


def test_what_a_role_brings_is_said_to_the_end_and_with_what_makes_it_powerful(make):
    world = make()
    first, second = world.privileges
    deep = f'deep "{world.n}'
    world.sql("CREATE ROLE {} NOLOGIN CREATEDB", deep)
    world.nest(first, second)
    world.sql("GRANT {} TO {}", deep, second.privilege)
    expected = {second, Privilege(privilege=deep), Privilege(privilege="CREATEDB", resource=ROLE_ATTRIBUTE)}
    assert set(world.connector.brings((first,))) == expected
    assert set(world.connector.brings(world.privileges)) == expected - {second}
    for name in ('x"; DROP ROLE y; --', "nobody", "x" * 70):
        assert world.connector.brings((Privilege(privilege=name),)) == ()


def test_what_was_planned_stays_when_something_is_refused_or_dropped(world):
    """A plan that was made twice, or that somebody had given up, would hold up the end of access."""
    asked = (q.end_sessions(15, ("nobody_at_all",), NEVER, None),)
    with world.real._sessions.begin(time.monotonic() + 5, lambda session: session.run(sql.SQL("BEGIN"))) as (
        session,
        _,
    ):
        for _ in range(7):  # psycopg would plan by itself what it is asked so often
            session.run(sql.SQL("SAVEPOINT one"), then=asked)
            with pytest.raises(StatementRefused):
                session.run(sql.SQL("SELECT 1/0"), then=asked)
            session.run(sql.SQL("ROLLBACK TO one"), then=asked)
        session.run(sql.SQL("ROLLBACK"))
        assert session.ask(*asked) == [[]]
