"""What Identity Center's connector does, on moto, which is an emulator; and as AWS does it, where moto does not."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

import servers
from muniment.conformance.grounds.aws import SECRET, CenterHarness, Server
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors import aws_session
from muniment.connectors.kinds import load
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

STATUS = "AccountAssignmentCreationStatus"


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "moto") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        made = CenterHarness(server, proxy)
        yield made
        made.clear()


def through(world, front, **settings):
    return world.make(endpoint=f"http://127.0.0.1:{front.port}", **{"timeout": "20s"} | settings)


def order(world, *items: Privilege, number: int = 0, ticket: str = "T-1") -> Order:
    return Order(
        ticket=ticket, account=world.accounts[number], scope=scope(items or world.privileges[:1]),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip


def asked(front, operation: str) -> list:
    return [each for each in front.of("POST") if each[1].get("X-Amz-Target", "").endswith(f".{operation}")]


def no(code: str, status: int = 400):
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps({"__type": code}).encode()


def said(**body: object):
    return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(body).encode()


def on(front, **rules):
    """What is answered to an operation otherwise than moto would."""

    def rule(method, path, body):
        operation = front.asked[-1][2].get("X-Amz-Target", "").rpartition(".")[2]
        return rules[operation](body) if operation in rules else None

    front.rule = rule


def test_it_is_said_everywhere_that_this_is_an_emulator(world):
    assert load("aws-identity-center").emulated
    assert any("emulator" in detail for detail in world.connector.check().details)


def test_an_assignment_is_made_once_however_often_it_is_ordered(world):
    """moto keeps duplicates, and so shows whether there was a second call."""
    given = order(world)
    for _ in range(3):
        assert world.connector.provision([given], yes)[0].result == "done"
    assert len(world.assignments(world.numbers[world.sets[0]])) == 1


def test_duplicates_are_taken_away_all(world):
    for _ in range(3):
        world.hold(world.accounts[0], world.privileges[0])
    assert world.connector.revoke([order(world)], yes)[0].result == "done"
    assert world.holds(world.accounts[0]) == ()


def test_more_duplicates_than_it_tries_are_seen_by_reading_back(world):
    for _ in range(7):
        world.hold(world.accounts[0], world.privileges[0])
    world.connector.revoke([order(world)], yes)
    assert world.connector.observe([world.accounts[0]]).of(world.accounts[0]) == world.privileges[:1]


def test_aws_is_asked_until_it_is_done(world, front):
    """As AWS answers: IN_PROGRESS, for a while. moto is done at once."""
    left = itertools.count(3, -1)

    def status(body):
        if next(left) > 0:
            return said(**{STATUS: {"Status": "IN_PROGRESS", "RequestId": "x"}})
        return None

    on(front, DescribeAccountAssignmentCreationStatus=status)
    assert through(world, front).provision([order(world)], yes)[0].result == "done"
    assert len(asked(front, "DescribeAccountAssignmentCreationStatus")) == 4
    assert len(asked(front, "CreateAccountAssignment")) == 1


def test_what_aws_has_not_finished_in_time_is_unknown_and_is_not_begun_again(world, front):
    on(
        front,
        DescribeAccountAssignmentCreationStatus=lambda body: said(**{STATUS: {"Status": "IN_PROGRESS"}}),
    )
    connector = through(world, front, timeout="2s")
    [outcome] = connector.provision([order(world)], yes)
    assert (outcome.result, outcome.code) == ("unknown", "target.unavailable")
    assert connector.provision([order(world)], yes)[0].result == "done"  # it is there by now
    assert len(asked(front, "CreateAccountAssignment")) == 1


def test_what_fails_after_it_was_begun_is_a_rejection_and_harms_no_other(world, front):
    seen = iter(["FAILED"])

    def status(body):
        word = next(seen, None)
        return said(**{STATUS: {"Status": word, "FailureReason": "secret words of AWS's"}}) if word else None

    on(front, DescribeAccountAssignmentCreationStatus=status)
    outcomes = through(world, front).provision([order(world), order(world, number=1, ticket="T-2")], yes)
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.rejected"), ("done", "")]
    assert "secret" not in outcomes[0].message


def test_many_are_under_way_at_once_and_no_more_than_aws_allows(world, front):
    items = [
        *world.privileges,
        *(Privilege(privilege=world.sets[0], resource=f"{n:012}") for n in range(900, 913)),
    ]
    under_way: set[str] = set()
    most = []

    def begin(body):
        under_way.add(body["TargetId"] + body["PermissionSetArn"])
        most.append(len(under_way))

    def status(body):
        under_way.clear()

    on(front, CreateAccountAssignment=begin, DescribeAccountAssignmentCreationStatus=status)
    given = order(world, *items)
    assert through(world, front).provision([given], yes)[0].result == "done"
    assert len(most) == 15
    assert max(most) == 10
    assert through(world, front).observe([given.account]).of(given.account) == given.scope
    assert through(world, front).revoke([given], yes)[0].result == "done"


@pytest.mark.parametrize("code", ["ThrottlingException", "ConflictException"])
def test_who_asks_too_often_asks_again(world, front, code):
    left = itertools.count(2, -1)
    on(front, CreateAccountAssignment=lambda body: no(code) if next(left) > 0 else None)
    assert through(world, front).provision([order(world)], yes)[0].result == "done"
    assert len(asked(front, "CreateAccountAssignment")) == 3


def test_what_is_throttled_to_the_end_is_tried_again_later(world, front):
    on(front, ListPermissionSets=lambda body: no("ThrottlingException"))
    with pytest.raises(TargetUnavailable, match="ThrottlingException") as caught:
        through(world, front, timeout="1s").observe(None)
    assert caught.value.code == "target.busy"


def test_a_right_that_is_missing_is_a_rejection_and_harms_no_other(world, front):
    mine = world.numbers[world.sets[0]]
    on(
        front,
        CreateAccountAssignment=lambda body: (
            no("AccessDeniedException") if body["PermissionSetArn"] == mine else None
        ),
        UpdatePermissionSet=lambda body: no("AccessDeniedException"),
    )
    connector = through(world, front)
    outcomes = connector.provision([order(world), order(world, world.privileges[1], ticket="T-2")], yes)
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.not-allowed"), ("done", "")]
    assert connector.check().problems == ()


def test_what_our_account_may_too_much_and_what_is_not_there_is_said(world):
    said = " ".join(world.connector.check().problems)
    assert "may change permission sets" in said
    assert any("PT2H" in detail for detail in world.connector.check().details)
    world.delete_privilege(world.privileges[1])
    assert f"no permission set {world.sets[1]}" in " ".join(world.connector.check().problems)


@pytest.mark.parametrize(
    "code", ["UnrecognizedClientException", "InvalidSignatureException", "AccessDeniedException"]
)
def test_a_refusal_to_be_looked_at_is_no_sign_that_something_is_gone(world, front, code):
    on(front, ListPermissionSets=lambda body: no(code, 403))
    connector = through(world, front)
    for call in (lambda: connector.observe(None), lambda: connector.revoke([order(world)], yes)):
        with pytest.raises(TargetUnavailable) as caught:
            call()
        assert SECRET not in f"{caught.value.message} {caught.value.remedy} {caught.value.__cause__!r}"
    assert not connector.check().reachable


def test_what_somebody_has_by_a_group_is_the_groups(world, front):
    group = world.make_group(f"admins-{world.sets[0]}")
    world.sso.create_account_assignment(
        **world.assigned(world.accounts[0], world.privileges[0])
        | {"PrincipalType": "GROUP", "PrincipalId": group}
    )
    by_group = {
        "AccountId": world.account_id, "PermissionSetArn": world.numbers[world.sets[0]], "PrincipalType": "GROUP",
        "PrincipalId": group,
    }  # fmt: skip
    assert f"Group/admins-{world.sets[0]}" in {h.account for h in world.connector.observe(None).holdings}
    on(front, ListAccountAssignmentsForPrincipal=lambda body: said(AccountAssignments=[by_group]))
    assert through(world, front).observe([world.accounts[0]]).holdings == ()  # as AWS lists it for a member
    with pytest.raises(Invalid):
        world.connector.validate(f"Group/admins-{world.sets[0]}", world.privileges)
    world.sso.delete_account_assignment(
        **world.assigned(world.accounts[0], world.privileges[0])
        | {"PrincipalType": "GROUP", "PrincipalId": group}
    )
    world.store.delete_group(IdentityStoreId="d-1234567890", GroupId=group)


def test_names_of_permission_sets_are_looked_up_once_each(world, front):
    connector = through(world, front)
    for _ in range(3):
        connector.observe([world.accounts[0]])
    assert len(asked(front, "DescribePermissionSet")) == len(asked(front, "ListPermissionSets")[0:1]) * 2


def test_a_user_is_told_apart_by_case_which_aws_does_not(world, front):
    upper = world.accounts[0].upper()
    on(
        front,
        GetUserId=lambda body: said(UserId=world.people[world.accounts[0]], IdentityStoreId="d-1234567890"),
    )
    [outcome] = through(world, front).provision(
        [Order(ticket="T-1", account=upper, scope=world.privileges[:1], expires_at=datetime.now(UTC))], yes
    )
    assert outcome.code == "target.no-such-account"


def test_a_worker_that_was_held_up_begins_nothing_more(world, monkeypatch):
    monkeypatch.setattr(aws_session, "PAUSE", -1.0)
    with pytest.raises(TargetUnavailable, match="held up"):
        world.connector.provision([order(world)], yes)
    assert world.holds(world.accounts[0]) == ()


def test_nor_does_it_begin_once_more_to_take_away_what_is_still_there(world, front, monkeypatch):
    for _ in range(2):
        world.hold(world.accounts[0], world.privileges[0])
    late = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late[0], sleep=time.sleep)
    monkeypatch.setattr(aws_session, "time", clock)

    def status(body):
        late[0] = aws_session.PAUSE + 1

    on(front, DescribeAccountAssignmentDeletionStatus=status)
    with pytest.raises(TargetUnavailable, match="held up"):
        through(world, front, timeout="90s").revoke([order(world)], yes)
    assert len(asked(front, "DeleteAccountAssignment")) == 1


def test_a_no_to_the_second_time_harms_no_other(world, front):
    for _ in range(2):
        world.hold(world.accounts[0], world.privileges[0])
    world.hold(world.accounts[1], world.privileges[0])
    left = itertools.count(2, -1)
    on(front, DeleteAccountAssignment=lambda body: None if next(left) > 0 else no("AccessDeniedException"))
    outcomes = through(world, front).revoke([order(world), order(world, number=1, ticket="T-2")], yes)
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.not-allowed"), ("done", "")]


def test_a_no_to_looking_whether_it_is_gone_is_no_sign_that_it_is(world, front):
    world.hold(world.accounts[0], world.privileges[0])
    left = itertools.count(1, -1)
    on(
        front,
        ListAccountAssignmentsForPrincipal=lambda body: (
            None if next(left) > 0 else no("AccessDeniedException")
        ),
    )
    with pytest.raises(TargetUnavailable, match="lets us not look: AWS answered AccessDeniedException"):
        through(world, front).revoke([order(world)], yes)
    assert len(asked(front, "DeleteAccountAssignment")) == 1


def test_the_time_that_confirm_takes_is_not_awss(world):
    assert world.make(timeout="3s").provision([order(world)], lambda: time.sleep(3.5))[0].result == "done"


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("x" * 33, "123456789012"),
        ("a b", "123456789012"),
        ("x", None),
        ("x", "12345678901"),
        ("x", "\uff11" * 12),
    ],
)
def test_names_that_it_could_not_hold(world, name, resource):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (Privilege(privilege=name, resource=resource),))


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "http://aws.example.com"}, {"instance": "ssoins-1"}, {"identity_store": "../x"}, {"region": "here"},
        {"access_key_id": None}, {"secret_access_key": None}, {"timeout": "soon"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant(world, settings):
    with pytest.raises(Misconfigured):
        world.make(**settings)
