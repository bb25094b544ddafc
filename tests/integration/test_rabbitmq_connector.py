"""What RabbitMQ in particular does, against a real server; the conformance suite asks the rest."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import amqp
import pytest
from amqp.exceptions import AccessRefused, AMQPError

import servers
from front import Front
from muniment.conformance.grounds.rabbitmq import RabbitHarness, Server, Session
from muniment.conformance.harness import yes
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.rabbitmq_session import Session as Asking
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

pytestmark = pytest.mark.xdist_group("rabbitmq")  # one node at a time


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "rabbitmq") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield RabbitHarness(server, proxy)


def order(world, *privileges: Privilege, account: str | None = None, ticket: str = "T-1") -> Order:
    return Order(
        ticket=f"{ticket}-{world.n}",
        account=account or world.accounts[0],
        scope=scope(privileges or world.privileges[:1]),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        public_key=world.public_key("ann"),
    )


def here(world, *permissions: str) -> tuple[Privilege, ...]:
    return tuple(Privilege(privilege=each, resource=world.hosts[0]) for each in permissions)


def gives(world, *orders: Order) -> None:
    outcomes = world.connector.provision(orders, yes)
    assert [each.result for each in outcomes] == ["done"] * len(orders), outcomes


def takes(world, *orders: Order) -> list[int]:
    outcomes = world.connector.revoke(orders, yes)
    assert [each.result for each in outcomes] == ["done"] * len(orders), outcomes
    return [each.sessions_ended for each in outcomes]


# ── What is held ──


def test_permissions_in_one_host_and_a_tag_are_one_users_and_no_more(world):
    wanted = (*here(world, "configure ^orders-", "write ^(orders-|amq.default$)", "read ^orders-in$"),
              Privilege(privilege="tag monitoring"))  # fmt: skip
    asked = order(world, *wanted)
    gives(world, asked)
    assert world.connector.observe([asked.account]).of(asked.account, asked.ticket) == asked.scope
    [user] = world.users(asked.account)
    assert world.server.call("GET", "users", user)["tags"] == ["monitoring"]
    session = world.open_session(asked.account, wanted[0])
    channel = session.connection.channel()
    for queue in ("orders-in", "orders-out"):
        channel.queue_declare(queue, auto_delete=False)
    channel.basic_publish(amqp.Message("17"), routing_key="orders-in")
    assert channel.basic_get("orders-in", no_ack=True).body == "17"
    with pytest.raises(AccessRefused):
        channel.basic_get("orders-out", no_ack=True)
    with pytest.raises(AccessRefused):
        session.connection.channel().queue_declare("others")
    assert takes(world, asked) == [1]
    session.close()


def test_the_address_that_is_handed_out_leads_there(world):
    asked = order(world, Privilege(privilege="write .*", resource=world.hosts[1]), account=world.accounts[1])
    gives(world, asked)
    address = urlsplit(world.env(asked.account)["AMQP_URL"])
    assert (address.scheme, address.hostname, address.port) == ("amqp", HOST, world.server.amqp)
    user, password, host = (
        unquote(part or "") for part in (address.username, address.password, address.path[1:])
    )
    assert host == world.hosts[1]
    Session(address.port, user, password, host).close()
    takes(world, asked)


def test_what_others_add_to_a_tickets_user_is_seen(world):
    asked = order(world)
    gives(world, asked)
    [user] = world.users(asked.account)
    world.server.call("PUT", "users", user, body={"password": "another", "tags": "administrator"})
    rights = {"configure": ".*", "write": "", "read": ""}
    world.server.call("PUT", "permissions", world.hosts[1], user, body=rights)
    seen = set(world.connector.observe([asked.account]).of(asked.account, asked.ticket)) - set(asked.scope)
    assert seen == {
        Privilege(privilege="tag administrator"), Privilege(privilege="configure .*", resource=world.hosts[1]),
    }  # fmt: skip
    takes(world, asked)


@pytest.mark.parametrize("wrong", ["read (", "write *"])
def test_what_is_no_pattern_is_refused_and_leaves_nothing(world, wrong):
    before = world.everything()
    [outcome] = world.connector.provision([order(world, *here(world, wrong))], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.no-such-privilege")
    assert "that is no pattern" in outcome.message
    assert world.everything() == before


def test_what_was_given_and_taken_is_so_after_a_restart(world):
    stays, goes = order(world), order(world, ticket="T-2")
    gives(world, stays, goes)
    takes(world, goes)
    with world.server.away():
        pass
    seen = world.connector.observe(None)
    assert seen.of(stays.account, stays.ticket) == stays.scope
    assert seen.of(goes.account, goes.ticket) == ()
    takes(world, stays)
    assert world.holds(stays.account) == ()


# ── Sessions ──


def test_whoever_waits_for_messages_is_cut_off(world):
    """Two connections, one of them consuming; and nobody else's."""
    wanted = here(world, "configure .*", "write .*", "read .*")
    asked, other = order(world, *wanted), order(world, *wanted, ticket="T-2", account=world.accounts[1])
    gives(world, asked, other)
    idle, busy = (world.open_session(asked.account, wanted[0]) for _ in range(2))
    theirs = world.open_session(other.account, wanted[0])
    ended: list[Exception] = []
    channel = busy.connection.channel()
    channel.queue_declare("jobs")
    channel.basic_consume("jobs", no_ack=True)

    def consume() -> None:
        try:
            busy.connection.drain_events(timeout=60)
        except (AMQPError, OSError) as error:
            ended.append(error)

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    assert takes(world, asked) == [2]
    thread.join(10)
    assert [type(each) for each in ended] != []
    assert not isinstance(ended[0], TimeoutError)
    assert [idle.alive(), busy.alive()] == [False, False]
    assert theirs.alive()
    theirs.close()
    with pytest.raises(AccessRefused):
        world.open_session(asked.account, wanted[0])
    takes(world, other)


def test_a_second_order_after_a_crash_sets_another_password(world):
    asked = order(world)
    gives(world, asked)
    first = world.env(asked.account)
    gives(world, asked)
    second = world.env(asked.account)
    assert first["RABBITMQ_USERNAME"] == second["RABBITMQ_USERNAME"] == f"muniment.T-1-{world.n}.ann{world.n}"
    world.open_session(asked.account, asked.scope[0]).close()
    with pytest.raises(AccessRefused):
        Session(world.server.amqp, first["RABBITMQ_USERNAME"], first["RABBITMQ_PASSWORD"], world.hosts[0])
    takes(world, asked)


def test_rabbitmq_never_learns_the_password(world):
    asked = order(world)
    gives(world, asked)
    env = world.env(asked.account)
    world.open_session(asked.account, asked.scope[0]).close()
    files = [path.read_bytes() for path in world.server.folder.rglob("*") if path.is_file()]
    assert any(env["RABBITMQ_USERNAME"].encode() in content for content in files)  # it is looked at
    assert not any(env["RABBITMQ_PASSWORD"].encode() in content for content in files)
    takes(world, asked)


# ── Time ──


def test_orders_for_which_no_time_is_left_wait_and_those_before_them_count(world, monkeypatch):
    """Else a batch that takes longer than a call may would begin anew for ever."""
    first, second = order(world), order(world, ticket="T-2")
    has = iter([True, False] * 2)
    monkeypatch.setattr(Asking, "has", lambda *_: next(has))
    for call in (world.connector.provision, world.connector.revoke):
        done, later = call([first, second], yes)
        assert (done.result, later.result, later.code) == ("done", "unknown", "target.unavailable")
        assert len(world.users(first.account)) == (1 if call == world.connector.provision else 0)


# ── Answers that prove nothing ──


@pytest.mark.parametrize("content", [b"<html>no such page</html>", b"", b"[]", b"{}"])
def test_a_404_that_is_not_rabbitmqs_is_no_absence(world, content):
    def rule(method, path, body):
        if method == "DELETE":
            return 404, {}, content
        return 200, {}, b'{"name": "us"}' if path.endswith("whoami") else b"[]"

    with Front(world.server.port).running() as front:
        front.rule = rule
        connector = world.make(url=f"http://{HOST}:{front.port}")
        with pytest.raises(TargetUnavailable, match="does not speak like RabbitMQ"):
            connector.revoke([order(world)], yes)
    assert len(front.of("DELETE", "/users/")) == 1


# ── Checking ──


def test_check_finds_nothing_wrong_with_the_least_rights(world):
    report = world.connector.check()
    assert (report.reachable, report.problems) == (True, ())
    assert report.details[0].startswith("RabbitMQ ")


def test_check_says_what_is_too_much_or_missing(world):
    rights = {"configure": "", "write": "", "read": ".*"}
    world.server.call("PUT", "permissions", world.hosts[1], world.us, body=rights)
    world.server.call("PUT", "users", "guest", body={"password": "guest", "tags": ""})
    connector = world.make()
    connector._catalogue = (
        Privilege(privilege="read x", resource="nowhere"), Privilege(privilege="tag administrator"),
    )  # fmt: skip
    try:
        report = connector.check()
    finally:
        world.server.call("DELETE", "users", "guest")
    problems = " ".join(report.problems)
    assert f"may reach what is in {world.hosts[1]}, which it does not need" in problems
    assert "guest is there" in problems
    assert "There is no virtual host nowhere" in problems
    assert "Whoever holds tag administrator can keep access beyond a ticket." in report.details


def test_who_is_no_administrator_is_told_so(world):
    world.server.call(
        "PUT", "users", world.us, body={"password": "correct-horse-battery", "tags": "management"}
    )
    with pytest.raises(TargetUnavailable, match="refused our name or password") as caught:
        world.connector.provision([order(world)], yes)
    assert "is an administrator" in caught.value.remedy
    assert not world.connector.check().reachable


# ── Words ──


@pytest.mark.parametrize(
    ("privilege", "resource"),
    [
        ("read", "v"), ("read  x", "v"), ("read x y", "v"), ("delete x", "v"), ("READ x", "v"), ("read x", None),
        ("tag", None), ("tag Administrator", None), ("tag a,b", None), ("tag monitoring", "v"), ("monitoring", None),
        ("read x\n", "v"), ("read x", "line\nx"), ("read x", ""),
    ],
)  # fmt: skip
def test_words_that_are_no_permission(world, privilege, resource):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (Privilege(privilege=privilege, resource=resource),))


def test_two_patterns_of_a_kind_in_one_host_are_refused(world):
    with pytest.raises(Invalid, match="one pattern for read"):
        world.connector.validate("ann", scope(here(world, "read a", "read b")))
    world.connector.validate(
        "ann", scope((*here(world, "read a", "write a"), Privilege(privilege="read b", resource="v")))
    )


@pytest.mark.parametrize("account", ["", "x" * 91, "ö" * 16, "line\nx"])
def test_accounts_that_no_user_could_be_named_after(world, account):
    with pytest.raises(Invalid):
        world.connector.validate(account, world.privileges[:1])


@pytest.mark.parametrize(
    "wrong",
    [{"url": "http://mq.example.com"}, {"url": "mq"}, {"timeout": "soon"}, {"vhost": "/"}, {"amqp": "mq.example.com"},
     {"amqp": "amqps://ann:pw@mq.example.com"}],
)  # fmt: skip
def test_settings_that_cannot_be_meant(world, wrong):
    with pytest.raises(Misconfigured):
        world.make(**wrong)


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        (("tag administrator",), ("tag management", "tag monitoring", "tag policymaker")),
        (("tag monitoring",), ("tag management",)),
        (("tag monitoring", "tag management"), ()),
        (("tag impersonator",), ()),
        (("read",), ()),
    ],
)
def test_a_tag_that_includes_others_says_so(world, asked, more):
    wanted = scope(Privilege(privilege=each, resource="/" if each == "read" else None) for each in asked)
    assert world.connector.brings(wanted) == scope(Privilege(privilege=each) for each in more)
