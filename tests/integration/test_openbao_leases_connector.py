"""What leases do on a real OpenBao, with real databases behind it; the conformance suite asks the rest."""

from __future__ import annotations

import json
import subprocess
import urllib.error
from datetime import UTC, datetime, timedelta

import psycopg
import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import servers
from muniment import delivery
from muniment.conformance.grounds.openbao import Server
from muniment.conformance.grounds.openbao_leases import (
    CertificateHarness,
    LoginHarness,
    authority,
    database,
)
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.core.errors import Invalid, Misconfigured
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "openbao") as made:
        authority(made)
        made.call("POST", "sys/mounts/ssh", {"type": "ssh"})
        made.call("POST", "ssh/config/ca", {"generate_signing_key": True, "key_type": "ed25519"})
        ca = {"key_type": "ca", "allow_user_certificates": True, "allowed_users": "*", "max_ttl": "24h"}
        made.call("POST", "ssh/roles/ops", ca | {"default_extensions": {"permit-pty": ""}})
        otp = {"key_type": "otp", "default_user": "ubuntu", "allowed_users": "*", "cidr_list": "127.0.0.0/8"}
        made.call("POST", "ssh/roles/otp", otp)
        made.call("POST", "pki/roles/plain", {"allow_any_name": True, "enforce_hostnames": False})
        yield made


@pytest.fixture(scope="module")
def postgres(server):
    with servers.postgres(18) as made:
        database(server, made)
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield CertificateHarness(server, proxy, "ssh/sign/ops", "ssh/creds/otp", "pki/issue/plain")


@pytest.fixture
def logins(server, postgres):
    with Proxy(server.port) as proxy:
        yield LoginHarness(server, proxy, postgres)


def order(world, *wanted: Privilege, ticket: str = "T-1", key: str = "", lasts: timedelta = HOUR) -> Order:
    return Order(
        ticket=ticket, account=world.accounts[0], scope=scope(wanted or world.privileges[:1]),
        expires_at=datetime.now(UTC) + lasts, public_key=key or world.public_key(""),
    )  # fmt: skip


def at(path: str, resource: str | None = None) -> Privilege:
    return Privilege(privilege=path, resource=resource)


def ssh_key() -> str:
    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.server("postgres18")
def test_a_login_lasts_as_long_as_the_ticket_and_is_named_after_it(logins):
    given = order(logins, ticket="T-4711")  # its role says one minute by default
    [outcome] = logins.connector.provision([given], yes)
    assert outcome.result == "done", outcome.message
    env = logins.issued(given.account).env
    assert env["MUNIMENT_USERNAME"].startswith(f"T-4711-{given.account}-")
    with psycopg.connect(logins.postgres.dsn(env["MUNIMENT_USERNAME"], env["MUNIMENT_PASSWORD"])) as session:
        [[until]] = session.execute("SELECT rolvaliduntil FROM pg_roles WHERE rolname = current_user")
    assert abs(until - given.expires_at) < timedelta(seconds=10)
    log = (logins.server.folder / "audit").read_text()
    assert env["MUNIMENT_PASSWORD"] not in log
    issued = [json.loads(line) for line in log.splitlines() if f'"path":"{given.scope[0].privilege}"' in line]
    assert {each["auth"]["metadata"]["ticket"] for each in issued if each["type"] == "response"} == {"T-4711"}
    kept = json.dumps(logins.server.call("GET", f"muniment/data/leases-l{logins.n}/T-4711"))
    assert env["MUNIMENT_PASSWORD"] not in kept
    assert logins.connector.revoke([given], yes)[0].result == "done"


@pytest.mark.server("postgres18")
def test_what_the_database_could_not_take_back_is_still_held(logins):
    given = order(logins)
    assert logins.connector.provision([given], yes)[0].result == "done"
    admin = logins.query
    [[login]] = [
        row for row in admin("SELECT rolname FROM pg_roles") if row[0].startswith(f"T-1-{given.account}-")
    ]
    admin(f'CREATE TABLE owned{logins.n} (); ALTER TABLE owned{logins.n} OWNER TO "{login}"')
    [outcome] = logins.connector.revoke([given], yes)
    assert (outcome.result, outcome.code) == ("unknown", "target.still-held")
    assert logins.connector.observe([given.account]).of(given.account, "T-1") == given.scope
    admin(f"DROP TABLE owned{logins.n}")
    assert logins.connector.revoke([given], yes)[0].result == "done"
    assert logins.connector.observe([given.account]).holdings == ()


@pytest.mark.server("postgres18")
def test_who_can_have_no_such_length_is_told_how_long(logins):
    body = logins.server.call("GET", f"database/roles/{logins.roles[0]}")["data"]
    logins.server.call("POST", f"database/roles/{logins.roles[0]}", body | {"max_ttl": "10m"})
    before = logins.everything()
    [outcome] = logins.connector.provision([order(logins)], yes)
    assert outcome.result == "rejected"
    assert "no longer than 0:10:00" in outcome.message
    assert logins.everything() == before


@pytest.mark.server("postgres18")
def test_two_paths_fill_variables_that_are_told_apart(logins):
    env = {"PGUSER": "{username}", "PGPASSWORD": "{password}", "PGHOST": "db.example.com"}
    connector = logins.make(env=env, timeout="20s", files={"PGPASS": "*:*:*:{username}:{password}"})
    given = order(logins, *logins.privileges)
    [outcome] = connector.provision([given], yes)
    issued = delivery.unseal(outcome.credential, str(logins.key).encode(), lambda: b"")
    assert sorted(issued.env) == ["PGHOST", "PGPASSWORD_1", "PGPASSWORD_2", "PGUSER_1", "PGUSER_2"]
    assert issued.env["PGHOST"] == "db.example.com"
    assert issued.files["PGPASS_2"] == f"*:*:*:{issued.env['PGUSER_2']}:{issued.env['PGPASSWORD_2']}"
    connector.revoke([given], yes)


def test_a_certificate_is_on_the_list_of_those_revoked(world):
    given = order(world)
    assert world.connector.provision([given], yes)[0].result == "done"
    env = world.issued(given.account).env
    assert "PRIVATE KEY" in env["MUNIMENT_PRIVATE_KEY"]
    assert world.connector.revoke([given], yes)[0].result == "done"
    found = world.server.call("GET", f"pki/cert/{env['MUNIMENT_SERIAL_NUMBER']}")["data"]
    assert found["revocation_time"] > 0


@pytest.mark.parametrize("path", ["ssh/sign/ops", "pki/issue/plain"])
def test_what_has_no_lease_is_not_given_unless_the_settings_say_so(world, path):
    before = world.everything()
    [outcome] = world.connector.provision([order(world, at(path), key=ssh_key())], yes)
    assert (outcome.result, outcome.credential) == ("rejected", None)
    assert "has no lease" in outcome.message
    assert world.everything() == before


def test_a_signed_key_names_the_ticket_and_is_held_until_it_ends(world, tmp_path):
    connector = world.make(unleased=True, timeout="20s")
    given = order(world, at("ssh/sign/ops"), key=ssh_key(), lasts=timedelta(seconds=3))
    [outcome] = connector.provision([given], yes)
    assert outcome.result == "done", outcome.message
    assert not delivery.is_sealed(outcome.credential)  # no secret: `exec` puts it into an agent
    path = tmp_path / "key-cert.pub"
    path.write_bytes(outcome.credential)
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", path], capture_output=True, text=True, check=True
    ).stdout
    assert f"token-T-1-{given.account}" in shown
    assert f"Principals: \n                {given.account}\n" in shown
    [early] = connector.revoke([given], yes)
    assert (early.result, early.code) == ("rejected", "target.still-held")
    assert connector.observe([given.account]).of(given.account) == given.scope
    world.pass_time(given.expires_at + timedelta(seconds=1))
    assert connector.revoke([given], yes)[0].result == "done"
    assert connector.observe([given.account]).holdings == ()


def test_a_one_time_password_opens_its_host_until_it_is_taken_back(world):
    given = order(world, at("ssh/creds/otp", "127.0.0.9"))
    twice = [
        world.connector.provision([replaced], yes)[0].result
        for replaced in (given, given)  # the first one's password is of no use any more
    ]
    assert twice == ["done", "done"]
    env = world.issued(given.account).env
    assert env["MUNIMENT_IP"] == "127.0.0.9"
    assert world.connector.revoke([given], yes)[0].result == "done"
    with pytest.raises(urllib.error.HTTPError, match="400"):
        world.server.call("POST", "ssh/verify", {"otp": env["MUNIMENT_KEY"]})
    world.connector.provision([given], yes)
    used = world.server.call("POST", "ssh/verify", {"otp": world.issued(given.account).env["MUNIMENT_KEY"]})
    assert used["data"]["ip"] == "127.0.0.9"


def test_a_resource_is_of_a_one_time_password_alone(world):
    [outcome] = world.connector.provision([order(world, at(world.paths[0], "127.0.0.9"))], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.rejected")


def test_check_names_paths_that_tokens_may_not_use_and_how_to_be_less_than_root(world):
    assert world.connector.check().problems == ()
    world.server.call(
        "POST",
        f"sys/policies/acl/lending-l{world.n}",
        {"policy": 'path "nowhere" { capabilities = ["read"] }'},
    )
    barred = world.connector.check()
    assert barred.reachable
    assert [path for path in world.paths if any(path in each for each in barred.problems)] == list(
        world.paths
    )
    connector = world.make(role_id="", secret_id=None, token="env:ROOT", timeout="20s")
    assert any("root's" in each for each in connector.check().problems)


def test_our_account_may_take_back_what_the_catalogue_lends_and_nothing_else(world):
    other = world.server.call("POST", "ssh/creds/otp", {"ip": "127.0.0.7", "username": "x"})["lease_id"]
    foreign = world.server.call("POST", "sys/mounts/ssh2", {"type": "ssh"})
    assert foreign == {}
    otp = {"key_type": "otp", "default_user": "ubuntu", "allowed_users": "*", "cidr_list": "127.0.0.0/8"}
    world.server.call("POST", "ssh2/roles/otp", otp)
    theirs = world.server.call("POST", "ssh2/creds/otp", {"ip": "127.0.0.7", "username": "x"})["lease_id"]
    login = {"role_id": world.role_id, "secret_id": world.secret_id}
    token = world.server.call("POST", "auth/approle/login", login)["auth"]["client_token"]
    world.server.call("POST", "sys/leases/lookup", {"lease_id": other}, token=token)
    for path in ("sys/leases/lookup", "sys/leases/revoke"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            world.server.call("POST", path, {"lease_id": theirs}, token=token)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        world.server.call("GET", "database/creds/any", token=token)
    world.server.call("DELETE", "sys/mounts/ssh2")


@pytest.mark.parametrize(
    "path",
    [
        "sys/creds/x", "auth/creds/x", "database/creds/../x", "database/creds/", "creds/x", "database/config/x",
        "database/creds/x/y", "/database/creds/x", "identity/issue/x",
    ],
)  # fmt: skip
def test_paths_that_issue_nothing_are_refused(world, path):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (at(path),))


def test_ages_keys_are_not_signed(world):
    key = str(pyrage.x25519.Identity.generate().to_public())
    with pytest.raises(Invalid, match="age's"):
        world.connector.validate("ann", (at("ssh/sign/ops"),), key)


@pytest.mark.parametrize("settings", [{"env": {"A B": "{x}"}}, {"files": {"1X": "{x}"}}, {"register": "x"}])
def test_settings_that_cannot_be_meant(world, settings):
    with pytest.raises(Misconfigured):
        world.make(**settings)


def test_orders_for_which_the_turn_is_too_short_wait_and_those_before_them_count(world, monkeypatch):
    """A database takes its time, and the fence lives for five seconds: a long batch gets to its end all the same."""
    monkeypatch.setattr("muniment.connectors.openbao_session._ONE", 5.0)  # the turn is over at once
    orders = [order(world, ticket=f"T-{number}") for number in range(3)]
    before, left, rounds = world.everything(), orders, 0
    for call in (world.connector.provision, world.connector.revoke):
        left = orders
        while left:
            outcomes = call(left, yes)
            assert [o.result for o in outcomes] == ["done"] + ["unknown"] * (len(left) - 1)
            left, rounds = left[1:], rounds + 1
    assert rounds == 6
    assert world.everything() == before


def test_a_database_that_is_away_fails_its_own_order_and_no_other(world):
    world.server.call("POST", "sys/mounts/away", {"type": "database"})
    url = "postgresql://{{username}}:{{password}}@127.0.0.1:1/x?sslmode=disable"
    body = {
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url, "username": "x",
        "password": "x", "verify_connection": False,
    }  # fmt: skip
    world.server.call("POST", "away/config/pg", body)
    role = {"db_name": "pg", "creation_statements": "SELECT 1", "default_ttl": "1m", "max_ttl": "24h"}
    world.server.call("POST", "away/roles/ro", role)
    with Proxy(world.server.port) as proxy:
        harness = CertificateHarness(world.server, proxy, "away/creds/ro")
        before = harness.everything()
        good, bad = order(harness), order(harness, at("away/creds/ro"), ticket="T-2")
        assert [o.result for o in harness.connector.provision([good, bad], yes)] == ["done", "unknown"]
        assert [o.result for o in harness.connector.revoke([good, bad], yes)] == ["done", "done"]
        assert harness.everything() == before
    world.server.call("DELETE", "sys/mounts/away")
