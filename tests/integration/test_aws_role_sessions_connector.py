"""What sessions of roles are made of, on an emulator that enforces none of it; the conformance suite asks the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

import servers
from muniment.conformance.grounds.aws import SECRET, Server
from muniment.conformance.grounds.aws_roles import RoleHarness
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

HOUR = timedelta(hours=1)
ALLOW = {"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "moto") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield RoleHarness(server, proxy)


def order(world, *roles: str, ticket: str = "T-1", lasts: timedelta = HOUR, number: int = 0) -> Order:
    return Order(
        ticket=ticket, account=world.accounts[number], public_key=world.public_key(""),
        scope=scope(Privilege(privilege=each) for each in roles or world.names[:1]),
        expires_at=(datetime.now(UTC) + lasts).replace(microsecond=0),
    )  # fmt: skip


def give(world, given: Order):
    [outcome] = world.connector.provision([given], yes)
    assert outcome.result == "done", outcome.message
    return outcome


def when(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_session_is_the_persons_and_carries_the_ticket(world, server):
    given = order(world)
    give(world, given)
    env = world.issued(given.account).env
    assert set(env) == {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    }  # fmt: skip
    [(account, role, policy, key)] = world.sessions()
    assert (account, role, key) == (given.account, world.names[0], env["AWS_ACCESS_KEY_ID"])
    assert [each["Condition"] for each in policy["Statement"]] == [
        {"DateLessThan": {"aws:CurrentTime": when(given.expires_at)}}
    ]


def test_the_role_denies_the_ticket_from_its_end_on_and_at_once_when_it_is_revoked(world):
    given = order(world)
    give(world, given)
    [body] = world.policies(world.names[0]).values()
    late, older = body["Statement"]
    mine = {"aws:SourceIdentity": "T-1"}
    assert late["Condition"] == {
        "StringEquals": mine,
        "DateGreaterThanEquals": {"aws:CurrentTime": when(given.expires_at)},
    }
    assert set(older["Condition"]) == {"StringEquals", "DateLessThan"}
    assert world.connector.observe([given.account]).of(given.account, "T-1") == given.scope
    assert world.connector.revoke([given], yes)[0].result == "done"
    [body] = world.policies(world.names[0]).values()
    denied = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": mine}}
    assert body["Statement"] == [denied]
    assert world.connector.observe([given.account]).holdings == ()


def test_what_was_revoked_early_is_forgotten_after_its_end(world):
    short = order(world, lasts=timedelta(seconds=2))
    give(world, short)
    world.connector.revoke([short], yes)
    assert len(world.policies(world.names[0])) == 1
    world.pass_time(short.expires_at + timedelta(seconds=1))
    give(world, order(world, ticket="T-2"))
    [name] = world.policies(world.names[0])
    assert name.startswith("muniment.T-2.")


def test_what_is_over_leaves_nothing(world):
    short = order(world, lasts=timedelta(seconds=2))
    give(world, short)
    world.pass_time(short.expires_at + timedelta(seconds=1))
    assert world.connector.observe([short.account]).holdings == ()
    assert world.connector.revoke([short], yes)[0].result == "done"
    assert world.policies(world.names[0]) == {}


def test_a_session_that_is_made_again_ends_those_before(world):
    given = order(world)
    give(world, given)
    world.connector.revoke([given], yes)
    began = datetime.now(UTC)
    give(world, given)
    [body] = world.policies(world.names[0]).values()
    cut = body["Statement"][1]["Condition"]["DateLessThan"]["aws:TokenIssueTime"]
    assert when(began) < cut <= when(datetime.now(UTC))  # of a later second than whatever was made before


def test_who_asks_for_longer_than_the_role_lends_is_told_how_long(world):
    world.iam.update_role(RoleName=world.names[0], MaxSessionDuration=3600)
    before = world.everything()
    [outcome] = world.connector.provision([order(world, lasts=2 * HOUR)], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.rejected")
    assert "no longer than 1:00:00" in outcome.message
    assert world.everything() == before


def test_several_roles_are_profiles_in_a_file(world):
    given = order(world, *world.names)
    give(world, given)
    issued = world.issued(given.account)
    text = issued.files["AWS_SHARED_CREDENTIALS_FILE"]
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        f"[{item.privilege}]" for item in given.scope
    ]
    assert issued.env["AWS_PROFILE"] == given.scope[0].privilege
    assert "AWS_SECRET_ACCESS_KEY" not in issued.env


def test_a_session_policy_bounds_it_and_gets_the_same_end(world, tmp_path):
    path = tmp_path / "bound.json"
    statements = [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "iam:*", "Resource": "*"},
    ]
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    connector = world.make(session_policy=str(path), timeout="20s")
    given = order(world)
    assert connector.provision([given], yes)[0].result == "done"
    [(_, _, policy, _)] = world.sessions()
    end = {"DateLessThan": {"aws:CurrentTime": when(given.expires_at)}}
    assert policy["Statement"] == [statements[0] | {"Condition": end}, statements[1]]


@pytest.mark.parametrize(
    "text", ["no json", "[]", "{}", json.dumps({"Statement": [{"Effect": "Allow"}] * 40}), None]
)
def test_a_session_policy_that_cannot_be_used_is_found_at_the_start(world, tmp_path, text):
    path = tmp_path / "bound.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Misconfigured, match="session_policy"):
        world.make(session_policy=str(path))


@pytest.mark.parametrize("roles", ["", "role/", "arn:aws:iam::1:role/", "arn:aws:iam::123456789012:policy/"])
def test_settings_that_cannot_be_meant(world, roles):
    with pytest.raises(Misconfigured):
        world.make(roles=roles)


@pytest.mark.parametrize("account", ["a", "a b", "a:b", "ö" * 3, "a" * 65, "a/b"])
def test_an_account_that_aws_calls_no_session_is_refused(world, account):
    with pytest.raises(Invalid):
        world.connector.validate(account, world.privileges)


def test_what_is_on_the_role_and_not_ours_is_left_alone(world):
    theirs = {"Version": "2012-10-17", "Id": "x ann", "Statement": [ALLOW]}
    for name in ("muniment.T-1.0123456789abcdef", "other"):
        world.iam.put_role_policy(RoleName=world.names[0], PolicyName=name, PolicyDocument=json.dumps(theirs))
    given = order(world)
    give(world, given)
    world.connector.revoke([given], yes)
    assert {"muniment.T-1.0123456789abcdef", "other"} < set(world.policies(world.names[0]))
    assert world.connector.observe(None).holdings == ()


def test_a_policy_that_does_not_appear_is_no_revocation(world, monkeypatch):
    given = order(world)
    give(world, given)
    real = world.real._real
    monkeypatch.setattr(type(real), "_put", lambda *_, **__: None)
    with pytest.raises(TargetUnavailable, match="does not show"):
        world.connector.revoke([given], yes)


def test_check_says_what_is_missing_and_that_it_is_no_aws(world):
    found = world.make(timeout="20s").check()
    assert found.reachable
    assert not found.problems
    assert any("emulator" in each for each in found.details)
    assert sum("12:00:00 at most" in each for each in found.details) == 2
    world.delete_privilege(world.privileges[1])
    assert world.names[1] in " ".join(world.make(timeout="20s").check().problems)


def test_no_secret_is_on_the_role_or_in_a_message(world):
    given = order(world)
    outcome = give(world, given)
    env = world.issued(given.account).env
    shown = json.dumps(world.policies(world.names[0])) + outcome.message
    for secret in (SECRET, env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"]):
        assert secret not in shown
