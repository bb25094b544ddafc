"""What IAM's connector does, on moto, which is an emulator; and as AWS does it, where moto does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

import servers
from muniment.conformance.grounds.aws import SECRET, Server
from muniment.conformance.grounds.aws_iam import POLICIES, IamHarness
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors import aws_session
from muniment.connectors.kinds import load
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "moto") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield IamHarness(server, proxy)


def order(world, *names: str, number: int = 0, ticket: str = "T-1") -> Order:
    wanted = scope(Privilege(privilege=each) for each in names or world.names[:1])
    return Order(
        ticket=ticket, account=world.accounts[number], scope=wanted,
        expires_at=datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC),
    )  # fmt: skip


def no(code: str, status: int = 400):
    body = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
    return status, {"Content-Type": "text/xml"}, body.encode()


def test_it_is_said_everywhere_that_this_is_an_emulator(world):
    assert load("aws-iam-policies").emulated
    assert any("emulator" in detail for detail in world.connector.check().details)


def test_everything_that_is_allowed_has_the_end_in_it_and_what_is_denied_stays_denied(world):
    name = f"mixed-{world.names[0]}"
    mine = {
        "StringEquals": {"aws:RequestedRegion": "eu-central-1"},
        "DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"},
    }
    world.make_policy(
        name,
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": mine},
        {"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": "*"},
        {"Effect": "Allow", "Action": "ec2:*", "Resource": "*", "Condition": {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
    )  # fmt: skip
    [outcome] = world.connector.provision([order(world, name)], yes)
    assert (outcome.result, outcome.native_expiry) == ("done", order(world).expires_at)
    [(given, body)] = world.inline(world.accounts[0]).items()
    assert given.startswith("muniment.T-1.")
    first, second, third = body["Statement"]
    assert first["Condition"] == mine | {"DateLessThan": {"aws:CurrentTime": "2040-01-02T03:04:05Z"}}
    assert second == {"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": "*"}
    assert third["Condition"] == {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}


@pytest.mark.parametrize("date", ["2030-01-01T00:00:00+05:00", "1893456000", ["2030-01-01T00:00:00Z"]])
def test_an_end_of_its_own_that_cannot_be_compared_is_refused(world, date):
    name = f"odd-{world.names[0]}-{abs(hash(str(date)))}"
    condition = {"DateLessThan": {"aws:CurrentTime": date}}
    world.make_policy(name, {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": condition})
    [outcome, other] = world.connector.provision(
        [order(world, name), order(world, number=1, ticket="T-2")], yes
    )
    assert (outcome.result, outcome.code, other.result) == ("rejected", "target.rejected", "done")
    assert world.inline(world.accounts[0]) == {}


def test_what_was_approved_is_given_also_if_the_policy_changes_afterwards(world):
    given = order(world)
    world.connector.provision([given], yes)
    wider = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    world.iam.create_policy_version(
        PolicyArn=f"{POLICIES}{world.names[0]}", PolicyDocument=json.dumps(wider), SetAsDefault=True
    )
    [body] = world.inline(world.accounts[0]).values()
    assert body["Statement"][0]["Action"] == "s3:GetObject"
    assert world.connector.revoke([given], yes)[0].result == "done"
    assert world.inline(world.accounts[0]) == {}


def test_a_policy_that_only_looks_like_ours_is_no_tickets(world):
    forged = {
        "Version": "2012-10-17",
        "Id": f"muniment.{world.names[0]}.2040-01-01T00:00:00Z",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
    name = world.accounts[0].removeprefix("user/")
    world.iam.put_user_policy(
        UserName=name, PolicyName="muniment.T-1.0123456789abcdef", PolicyDocument=json.dumps(forged)
    )
    assert world.connector.observe([world.accounts[0]]).holdings == ()
    assert world.connector.revoke([order(world)], yes)[0].result == "done"
    assert len(world.inline(world.accounts[0])) == 1


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "SignatureDoesNotMatch", "AccessDenied"])
def test_a_refusal_to_be_looked_at_is_no_sign_that_something_is_gone(world, front, code):
    front.rule = lambda method, path, body: no(code, 403)
    connector = world.make(endpoint=f"http://127.0.0.1:{front.port}", timeout="20s")
    for call in (lambda: connector.observe(None), lambda: connector.observe([world.accounts[0]])):
        with pytest.raises(TargetUnavailable) as caught:
            call()
        assert SECRET not in f"{caught.value.message} {caught.value.remedy} {caught.value.__cause__!r}"
    if code == "AccessDenied":
        [outcome] = connector.revoke([order(world)], yes)
        assert (outcome.result, outcome.code) == ("rejected", "target.not-allowed")
    assert not connector.check().reachable


def test_a_worker_that_was_held_up_changes_nothing_any_more(world, monkeypatch):
    monkeypatch.setattr(aws_session, "PAUSE", -1.0)
    with pytest.raises(TargetUnavailable, match="held up"):
        world.connector.provision([order(world)], yes)
    assert world.inline(world.accounts[0]) == {}


def test_what_is_not_there_is_said(world):
    assert world.connector.check().problems == ()
    world.delete_privilege(world.privileges[1])
    assert any(f"no policy {world.names[1]}" in problem for problem in world.connector.check().problems)


@pytest.mark.parametrize("account", ["ann", "group/x", "user/", "role/a b", "user/a/b"])
def test_names_that_it_could_not_hold(world, account):
    with pytest.raises(Invalid):
        world.connector.validate(account, world.privileges)


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "http://aws.example.com"}, {"policies": "arn:aws:iam::1:policy/"}, {"policies": "policy"},
        {"region": "here"}, {"access_key_id": None}, {"secret_access_key": None}, {"timeout": "soon"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant(world, settings):
    with pytest.raises(Misconfigured):
        world.make(**settings)


def test_an_end_is_rounded_up_to_a_whole_second(world):
    end = datetime.now(UTC).replace(microsecond=1) + timedelta(hours=1)
    given = order(world)
    world.connector.provision(
        [Order(ticket="T-1", account=given.account, scope=given.scope, expires_at=end)], yes
    )
    [body] = world.inline(given.account).values()
    date = datetime.fromisoformat(body["Statement"][0]["Condition"]["DateLessThan"]["aws:CurrentTime"])
    assert end <= date < end + timedelta(seconds=1)
