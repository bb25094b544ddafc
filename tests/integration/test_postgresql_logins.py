"""Temporary logins on real servers: what they own, what the server's log says of them, and what `exec` makes of them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from muniment.conformance.grounds.postgresql_logins import LoginHarness
from muniment.conformance.harness import yes
from muniment.core.errors import Invalid
from muniment.core.scope import Privilege, scope
from muniment.ports import Order, Outcome

NUMBERS = itertools.count(1)
LONG = timedelta(hours=1)


@pytest.fixture
def make(any_postgres):
    made = []

    def harness(**options) -> LoginHarness:
        made.append(LoginHarness(any_postgres, **options))
        return made[-1]

    yield harness
    for each in made:
        each.close()


def order(
    h: LoginHarness, *, lasts: timedelta = LONG, ticket: str | None = None, account: str | None = None
) -> Order:
    return Order(
        ticket=ticket or f"req_LOGIN{h.n}T{next(NUMBERS)}",
        account=account or h.accounts[0],
        scope=scope(h.privileges[:1]),
        expires_at=datetime.now(UTC) + lasts,
        public_key=h.public_key("ann"),
    )


def given(h: LoginHarness, wanted: Order) -> str:
    """The login's role."""
    [outcome] = h.connector.provision([wanted], yes)
    assert outcome.result == "done", outcome.message
    return outcome.handle["role"]


def taken(h: LoginHarness, wanted: Order) -> Outcome:
    [outcome] = h.connector.revoke([wanted], yes)
    return outcome


def log_in(h: LoginHarness, account: str | None = None) -> psycopg.Connection:
    env = h.env(account or h.accounts[0])
    return psycopg.connect(h.server.dsn(env["PGUSER"], env["PGPASSWORD"]), autocommit=True)


def makes_a_table(h: LoginHarness, role: str, connection: psycopg.Connection) -> None:
    h.sql("CREATE SCHEMA {} AUTHORIZATION {}", f"s_{role}", role)
    connection.execute(f"CREATE TABLE s_{role}.notes AS SELECT 1 AS n")


def test_what_a_login_owned_goes_to_the_heir_and_the_login_is_gone(make) -> None:
    h = make()
    h.connector = h.logins = type(h.logins)(h.dsn(), **h.options, reassign_to=h.heir)
    h.logins.collected = {}
    h.sql("GRANT CREATE ON DATABASE postgres TO {}", h.heir)  # else nobody can own a schema there
    wanted = order(h)
    role = given(h, wanted)
    with log_in(h) as session:
        makes_a_table(h, role, session)
        outcome = taken(h, wanted)
        assert (outcome.result, outcome.sessions_ended) == ("done", 1), outcome.message
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert h.sql("SELECT 1 FROM pg_roles WHERE rolname = '" + role + "'") == []
    owner = h.admin.execute(
        "SELECT tableowner FROM pg_tables WHERE schemaname = %s", [f"s_{role}"]
    ).fetchone()
    assert owner == (h.heir,)


def test_without_an_heir_it_is_locked_and_overdue_until_somebody_gives_it_away(make) -> None:
    h = make()
    wanted = order(h)
    role = given(h, wanted)
    with log_in(h) as session:
        makes_a_table(h, role, session)
        outcome = taken(h, wanted)
    assert (outcome.result, outcome.code, outcome.sessions_ended) == ("rejected", "target.owns-objects", 1)
    assert h.connector.observe([h.accounts[0]]).of(h.accounts[0], wanted.ticket) == wanted.scope
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        log_in(h)
    h.sql("REASSIGN OWNED BY {} TO {}", role, h.heir)
    assert taken(h, wanted).result == "done"
    assert h.connector.observe([h.accounts[0]]).holdings == ()


def test_what_others_granted_it_beside_is_said_and_theirs_to_take_back(make) -> None:
    h = make()
    wanted = order(h)
    role = given(h, wanted)
    table = f"of_others_{h.n}"
    h.sql("CREATE TABLE {} (n int)", table)
    h.sql("GRANT SELECT ON {} TO {}", table, role)
    h.sql("GRANT {} TO {}", h.roles[1], role)
    seen = h.connector.observe(None).of(h.accounts[0], wanted.ticket)
    assert seen == scope(h.privileges)  # more than was approved: the comparison finds it
    outcome = taken(h, wanted)
    assert (outcome.result, outcome.code) == ("rejected", "target.owns-objects")
    h.sql("REVOKE SELECT ON {} FROM {}", table, role)
    assert taken(h, wanted).result == "done"
    assert h.holds(h.accounts[0]) == ()


def test_a_second_order_after_a_crash_sets_another_password(make) -> None:
    h = make()
    wanted = order(h)
    given(h, wanted)
    first = h.env(h.accounts[0])["PGPASSWORD"]
    given(h, wanted)
    assert h.env(h.accounts[0])["PGPASSWORD"] != first
    log_in(h).close()
    assert taken(h, wanted).result == "done"


def test_the_servers_log_names_the_ticket_and_never_the_password(make) -> None:
    h = make()
    h.sql("ALTER ROLE {} SET log_statement = 'all'", h.connector_role)
    wanted = order(h)
    role = given(h, wanted)
    with log_in(h) as session, pytest.raises(psycopg.Error):
        session.execute("SELECT nonsense")
    log = (h.server.folder / "postgres.log").read_text(errors="replace")
    assert role in log
    assert "SCRAM-SHA-256$" in log  # what the server keeps anyway
    assert h.env(h.accounts[0])["PGPASSWORD"] not in log
    assert taken(h, wanted).result == "done"


def test_nobody_logs_in_after_the_end_even_while_we_are_away(make) -> None:
    h = make()
    wanted = order(h, lasts=timedelta(seconds=-1))
    given(h, wanted)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        log_in(h)
    assert taken(h, wanted).result == "done"


def test_a_role_that_is_not_the_tickets_is_neither_used_nor_dropped(make) -> None:
    h = make()
    wanted = order(h)
    name = f"muniment_{wanted.ticket.lower()}"
    h.sql("CREATE ROLE {}", name)
    [outcome] = h.connector.provision([wanted], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.name-taken")
    assert taken(h, wanted).result == "done"
    assert h.sql("SELECT 1 FROM pg_roles WHERE rolname = '" + name + "'") == [(1,)]


def test_two_tickets_of_one_person_end_apart(make) -> None:
    h = make()
    first, second = order(h), order(h)
    given(h, first)
    given(h, second)
    assert taken(h, first).result == "done"
    assert h.connector.observe([h.accounts[0]]).of(h.accounts[0], second.ticket) == second.scope
    log_in(h).close()
    assert taken(h, second).result == "done"


@pytest.mark.parametrize("key", ["", "age1nonsense", "ecdsa-sha2-nistp256 AAAA"])
def test_a_key_that_nothing_can_be_sealed_to(make, key: str) -> None:
    h = make()
    with pytest.raises(Invalid):
        h.connector.validate("ann", h.privileges[:1], key)


@pytest.mark.parametrize("privilege", ["pg_execute_server_program", "muniment_req_1", "x\0", "a" * 64])
def test_roles_that_are_not_given(make, privilege: str) -> None:
    with pytest.raises(Invalid):
        make().connector.validate("ann", (Privilege(privilege=privilege),))
