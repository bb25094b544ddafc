"""What MariaDB in particular does, against a real server; the conformance suite asks the rest."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

import servers
from muniment.conformance.grounds.mariadb import ROOTS, MariaHarness, Server, quoted
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors import mariadb
from muniment.connectors.kinds import build_connector
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "mariadb") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield MariaHarness(server, proxy)


def order(world, account: str, *roles: str) -> Order:
    wanted = scope(Privilege(privilege=each) for each in roles or world.roles[:1])
    return Order(
        ticket="T-1", account=account, scope=wanted, expires_at=datetime.now(UTC) + timedelta(hours=1)
    )


def test_a_default_role_that_is_gone_is_cleared_by_who_may_do_that(world):
    """Else it would come into force by itself with the next grant, which need not be for the same."""
    account, role = world.accounts[0], world.roles[0]
    given = order(world, account)
    for mighty in (False, True):
        connector = world.connector
        if mighty:
            connector = build_connector(
                "mariadb", name="maria-test", catalogue=(), path=str, secret=lambda _: ROOTS,
                settings={"host": "127.0.0.1", "port": world.server.port, "user": "root", "password": "env:ROOT"},
            )  # fmt: skip
        connector.provision([given], yes)
        world.sql(f"SET DEFAULT ROLE {quoted(role)} FOR {quoted(account)}")
        assert connector.revoke([given], yes)[0].result == "done"
        [(default,)] = world.sql("SELECT default_role FROM mysql.user WHERE User = %s", account)
        assert default == ("" if mighty else role)
        assert world.holds(account) == ()


def test_a_default_role_that_is_still_held_stays(world):
    account, (first, second) = world.accounts[0], world.roles
    world.hold(account, world.privileges[1])
    world.sql(f"SET DEFAULT ROLE {quoted(second)} FOR {quoted(account)}")
    given = order(world, account, first)
    world.connector.provision([given], yes)
    world.connector.revoke([given], yes)
    assert world.sql("SELECT default_role FROM mysql.user WHERE User = %s", account) == [(second,)]


def test_only_sessions_of_who_loses_a_role_end(world):
    first, second = order(world, world.accounts[0]), order(world, world.accounts[1])
    world.connector.provision([first, second], yes)
    mine, theirs = (world.open_session(each.account, world.privileges[0]) for each in (first, second))
    [outcome] = world.connector.revoke([first], yes)
    assert (outcome.result, outcome.sessions_ended) == ("done", 1)
    assert not mine.alive()
    assert theirs.alive()
    assert (
        world.connector.revoke([first], yes)[0].sessions_ended == 0
    )  # nothing to take, so nobody is thrown out
    theirs.close()
    mine.close()


def test_a_worker_that_was_held_up_changes_nothing_any_more(world, monkeypatch):
    """The server ends a session of ours that is idle between ``confirm`` and the change (I19)."""
    monkeypatch.setattr(mariadb, "_PAUSE", 1)
    connector = world.make(timeout="10s")
    before = world.everything()
    with pytest.raises(TargetUnavailable):
        connector.provision([order(world, world.accounts[0])], lambda: time.sleep(2.5))
    assert world.everything() == before


def test_check_says_what_is_missing_and_what_is_too_much(world):
    connector = world.make()
    connector._catalogue = world.roles
    assert connector.check().problems == ()
    connector._catalogue = (*world.roles, "nowhere")
    world.sql(f"REVOKE ADMIN OPTION FOR {quoted(world.roles[1])} FROM {quoted(world.us)}")
    world.sql(f"REVOKE CONNECTION ADMIN ON *.* FROM {quoted(world.us)}")
    problems = " ".join(connector.check().problems)
    assert "There is no role nowhere" in problems
    assert f"cannot give {world.roles[1]}" in problems
    assert "Sessions cannot be ended" in problems
    world.sql(f"GRANT ALL PRIVILEGES ON *.* TO {quoted(world.us)}")
    assert "more than it needs" in " ".join(connector.check().problems)


def test_the_words_of_least_privilege_are_what_the_suite_runs_with():
    for grant in ("SELECT ON mysql.roles_mapping", "PROCESS, CONNECTION ADMIN ON *.*", "WITH ADMIN OPTION"):
        assert grant in mariadb.KIND.least_privilege


@pytest.mark.parametrize("name", ["x" * 81, "NONE", "none", "\U0001f511", "line\nx"])
def test_names_that_it_could_not_hold(world, name):
    with pytest.raises(Invalid):
        world.connector.validate(world.accounts[0], (Privilege(privilege=name),))


@pytest.mark.parametrize(
    "settings", [{"host": "db.example.com"}, {"port": "many"}, {"timeout": "soon"}, {"socket": "/run/x"}]
)
def test_settings_that_cannot_be_meant(world, settings):
    with pytest.raises(Misconfigured) as caught:
        world.make(**settings)
    assert caught.value.remedy


def test_what_a_role_brings_is_said_to_the_end(world):
    first, second = world.privileges
    deep = Privilege(privilege=f"deep`{world.n}")
    world.sql(f"CREATE ROLE {quoted(deep.privilege)}")
    world.nest(first, second)
    world.nest(second, deep)
    assert set(world.connector.brings((first,))) == {second, deep}
    assert world.connector.brings((second, deep)) == ()
    world.hold(world.accounts[0], first)
    assert world.connector.observe([world.accounts[0]]).of(world.accounts[0]) == (first,)
    inner = {(each.inner, each.outer) for each in world.connector.nested()}
    assert {(first.privilege, second), (second.privilege, deep)} <= inner
    assert world.accounts[0] not in {each.inner for each in world.connector.nested()}
    for name in ("'; DROP ROLE x; --", "nobody"):
        assert world.connector.brings((Privilege(privilege=name),)) == ()
