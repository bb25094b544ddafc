"""What tokens of tickets do on a real OpenBao, with a real database behind it; the conformance suite asks the rest."""

from __future__ import annotations

import json
import time
import urllib.error
from datetime import UTC, datetime, timedelta

import psycopg
import pyrage
import pytest

import servers
from muniment import delivery
from muniment.conformance.grounds.openbao import Server
from muniment.conformance.grounds.openbao_tokens import TokenHarness
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "openbao") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield TokenHarness(server, proxy)


def order(world, *roles: str, ticket: str = "T-1", number: int = 0) -> Order:
    wanted = scope(Privilege(privilege=each) for each in roles or world.roles[:1])
    return Order(
        ticket=ticket, account=world.accounts[number], scope=wanted, public_key=world.public_key(""),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip


def give(world, *orders: Order):
    outcomes = world.connector.provision(orders, yes)
    assert [o.result for o in outcomes] == ["done"] * len(orders)
    return outcomes


def unwrapped(world, number: int = 0) -> str:
    wrapped = world.env(world.accounts[number])["BAO_TOKEN"]
    return world.server.call("POST", "sys/wrapping/unwrap", {}, token=wrapped)["auth"]["client_token"]


@pytest.mark.server("postgres18")
def test_what_was_issued_under_a_token_ends_with_it(world):
    """A database's login that the beneficiary made, hours before its own lease would end."""
    with servers.postgres(18) as postgres:
        address = postgres.dsn("postgres", postgres.password)
        where = psycopg.conninfo.conninfo_to_dict(address)
        url = (
            "postgresql://{{username}}:{{password}}@"
            f"{where['host']}:{where['port']}/postgres?sslmode=disable"
        )
        call = world.server.call
        call("POST", "sys/mounts/database", {"type": "database"})
        engine = {"plugin_name": "postgresql-database-plugin", "allowed_roles": "ro", "connection_url": url}
        call("POST", "database/config/pg", engine | {"username": "postgres", "password": postgres.password})
        made = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"""
        role = {"db_name": "pg", "creation_statements": made, "default_ttl": "1h", "max_ttl": "24h"}
        call("POST", "database/roles/ro", role)
        rule = 'path "database/creds/ro" { capabilities = ["read"] }'
        call("POST", f"sys/policies/acl/opens-t{world.n}", {"policy": rule})
        given = order(world)
        give(world, given)
        login = call("GET", "database/creds/ro", token=unwrapped(world))["data"]
        with psycopg.connect(postgres.dsn(login["username"], login["password"])) as session:
            session.execute("SELECT 1")
        [outcome] = world.connector.revoke([given], yes)
        assert (outcome.result, outcome.sessions_ended) == ("done", 1)
        deadline = time.monotonic() + 10
        with psycopg.connect(address, autocommit=True) as admin:
            while admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [login["username"]]).fetchone():
                assert time.monotonic() < deadline, "the login outlived the ticket"
                time.sleep(0.05)
        call("DELETE", "sys/mounts/database")


def test_openbaos_own_log_names_the_ticket_at_each_use_and_no_secret_is_anywhere(world):
    give(world, order(world, ticket="T-4711"))
    token = unwrapped(world)
    world.server.call("GET", world.path, token=token)
    log = (world.server.folder / "audit").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    used = [
        each for each in lines if each["type"] == "response" and each["request"].get("path") == world.path
    ]
    mine = [each["auth"]["metadata"] for each in used if each["auth"].get("metadata")]
    assert mine == [{"ticket": "T-4711", "account": world.accounts[0]}]
    kept = json.dumps(world.server.call("GET", f"muniment/data/tokens-t{world.n}/T-4711"))
    for secret in (token, world.env(world.accounts[0])["BAO_TOKEN"], world.secret_id):
        assert secret not in log
        assert secret not in kept


def test_a_token_is_unwrapped_once_and_by_whoever_has_the_key(world):
    [outcome] = give(world, order(world))
    unwrapped(world)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        unwrapped(world)  # whoever comes second finds out that somebody was there
    with pytest.raises(Misconfigured):
        delivery.unseal(outcome.credential, str(pyrage.x25519.Identity.generate()).encode(), lambda: b"")


def test_what_was_made_before_and_perhaps_never_delivered_is_of_no_use_any_more(world):
    given = order(world)
    give(world, given)
    first = unwrapped(world)
    give(world, given)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        world.server.call("GET", world.path, token=first)
    world.server.call("GET", world.path, token=unwrapped(world))
    assert len(world.tokens()) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [({"orphan": False}, "end with our own"), ({"token_type": "batch"}, "cannot be revoked")],
)
def test_a_role_whose_tokens_could_not_be_kept_or_taken_is_refused(world, more, words):
    world.make_role(world.roles[0], **more)
    outcomes = world.connector.provision([order(world), order(world, world.roles[1], ticket="T-2")], yes)
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.not-allowed"), ("done", "")]
    assert words in outcomes[0].message
    assert any(words in problem for problem in world.connector.check().problems)


def test_a_role_that_is_not_ours_to_use_is_refused_and_the_others_are_served(world):
    world.server.call("POST", "auth/token/roles/others", {"allowed_policies": ["root"], "orphan": True})
    outcomes = world.connector.provision([order(world, "others"), order(world, ticket="T-2")], yes)
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.not-allowed"), ("done", "")]


def test_a_register_that_somebody_wrote_into_leads_to_no_token_of_others(world):
    """Else whoever may write there could have us revoke any token of OpenBao's."""
    others = world.server.call("POST", "auth/token/create", {"meta": {"ticket": "T-2"}})["auth"]
    entry = {"account": world.accounts[0], "tokens": {world.roles[0]: others["accessor"]}}
    world.server.call("POST", f"muniment/data/tokens-t{world.n}/T-1", {"data": entry})
    assert world.connector.observe(list(world.accounts)).holdings == ()
    [outcome] = world.connector.revoke([order(world)], yes)
    assert (outcome.result, outcome.sessions_ended) == ("done", 0)
    world.server.call("GET", "auth/token/lookup-self", token=others["client_token"])


def test_a_ticket_of_one_person_ends_nothing_of_anothers(world):
    give(world, order(world))
    [outcome] = world.connector.revoke([order(world, number=1)], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.name-taken")
    assert len(world.tokens()) == 1


def test_a_worker_that_was_paused_makes_no_token_afterwards(world):
    with pytest.raises(TargetUnavailable):
        world.connector.provision([order(world)], lambda: time.sleep(5.3))
    assert world.tokens() == []


def test_several_roles_are_several_tokens(world):
    given = order(world, *world.roles)
    give(world, given)
    assert set(world.env(world.accounts[0])) == {"BAO_ADDR", "BAO_TOKEN_1", "BAO_TOKEN_2"}
    assert world.connector.revoke([given], yes)[0].sessions_ended == 2
    assert world.tokens() == []


def test_check_finds_what_is_missing(world):
    assert world.connector.check().problems == ()
    world.server.call(
        "POST", f"sys/policies/acl/{world.us}", {"policy": 'path "x" { capabilities = ["read"] }'}
    )
    assert not world.connector.check().reachable
