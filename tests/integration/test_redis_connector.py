"""What Redis in particular does, against a real server; the conformance suite asks the rest."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, NoPermissionError

import servers
from muniment.conformance.grounds.redis import ROOTS, Client, RedisHarness, Server
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors import redis_session
from muniment.connectors.ticket_users import whose
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "redis") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield RedisHarness(server, proxy)


def order(world, *privileges: Privilege, account: str | None = None, ticket: str = "T-1") -> Order:
    return Order(
        ticket=f"{ticket}-{world.n}",
        account=account or world.accounts[0],
        scope=scope(privileges or world.privileges[:1]),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        public_key=world.public_key("ann"),
    )


def gives(world, *orders: Order) -> None:
    outcomes = world.connector.provision(orders, yes)
    assert [each.result for each in outcomes] == ["done"] * len(orders), outcomes


@pytest.fixture
def unsaved(world):
    """For the length of a call Redis cannot write the file of its users."""
    folder = world.server.folder / "acl"
    folder.chmod(0o500)
    yield
    folder.chmod(0o700)


def restart(world) -> None:
    with world.server.away():
        pass


# ── What is not saved comes back ──


def test_what_cannot_be_saved_is_never_called_gone(world):
    """Redis forgets the user at once; but it is in the file, and back when Redis starts again."""
    asked = order(world)
    gives(world, asked)
    folder = world.server.folder / "acl"
    for _ in range(2):  # also when there was nothing left to delete
        folder.chmod(0o500)
        try:
            [outcome] = world.connector.revoke([asked], yes)
        finally:
            folder.chmod(0o700)
        assert (outcome.result, outcome.code) == ("unknown", "target.not-saved")
    restart(world)
    assert world.holds(asked.account) == asked.scope  # it was right not to call it gone
    assert world.connector.observe([asked.account]).of(asked.account, asked.ticket) == asked.scope
    assert world.connector.revoke([asked], yes)[0].result == "done"
    restart(world)
    assert world.holds(asked.account) == ()


def test_what_was_deleted_by_who_died_before_saving_is_saved_with_the_next_order(world):
    asked = order(world)
    gives(world, asked)
    [user] = world.users(asked.account)
    world.server.root("ACL", "DELUSER", user)
    assert world.connector.revoke([asked], yes)[0].result == "done"
    restart(world)
    assert world.holds(asked.account) == ()


def test_what_cannot_be_saved_is_not_given(world, unsaved):
    before = world.everything()
    [outcome] = world.connector.provision([order(world)], yes)
    assert (outcome.result, outcome.code, outcome.credential) == ("rejected", "target.not-saved", None)
    assert world.everything() == before


def test_what_was_given_is_there_after_a_restart(world):
    asked = order(world, *world.privileges)
    gives(world, asked)
    restart(world)
    assert world.connector.observe(None).of(asked.account, asked.ticket) == asked.scope
    with_password = world.open_session(asked.account, world.privileges[0])
    assert with_password.ask("GET", world.proofs[0][1]) is None
    assert world.connector.revoke([asked], yes)[0].sessions_ended == 1


# ── Sessions ──


def test_connections_that_wait_for_something_end(world):
    """Blocked, subscribed, watching all commands, within a transaction, and idle."""
    everything = Privilege(privilege="+@all", resource="~* &*")
    asked = order(world, everything)
    gives(world, asked)
    doings = (
        ("BLPOP", "nothing", "0"), ("SUBSCRIBE", "news"), ("PSUBSCRIBE", "*"), ("MONITOR",), ("MULTI",), ("PING",),
        ("XREAD", "BLOCK", "0", "STREAMS", "s", "$"), ("WAIT", "9", "0"), ("CLIENT", "NO-EVICT", "on"),
    )  # fmt: skip
    open_ones = [world.open_session(asked.account, everything) for _ in doings]
    for session, doing in zip(open_ones, doings, strict=True):
        session.send(*doing)
    while "blocked_clients:3" not in world.server.root("INFO", "clients"):
        time.sleep(0.01)
    [outcome] = world.connector.revoke([asked], yes)
    assert (outcome.result, outcome.sessions_ended) == ("done", len(doings))
    assert [session.ends() for session in open_ones] == [True] * len(doings)
    with pytest.raises(AuthenticationError):
        world.open_session(asked.account, everything)


def test_only_the_tickets_own_sessions_end(world):
    first, second = order(world), order(world, ticket="T-2")
    gives(world, first)
    mine = world.open_session(first.account, world.privileges[0])
    gives(world, second)
    theirs = world.open_session(second.account, world.privileges[0])
    assert world.connector.revoke([first], yes)[0].sessions_ended == 1
    assert not mine.alive()
    assert theirs.alive()
    theirs.close()


# ── What is held ──


def test_commands_of_one_privilege_do_not_reach_the_keys_of_another(world):
    gives(world, order(world, *world.privileges))
    session = world.open_session(world.accounts[0], world.privileges[0])
    assert session.ask("SET", f"b{world.n}:x", "1") == "OK"
    for forbidden in (
        ("SET", f"a{world.n}:x", "1"),
        ("GET", f"b{world.n}:x"),
        ("KEYS", "*"),
        ("ACL", "WHOAMI"),
    ):
        with pytest.raises(NoPermissionError):
            session.ask(*forbidden)
    session.close()


@pytest.mark.parametrize("way_in", ["nopass", ">another"])
def test_what_others_add_to_a_tickets_user_is_seen(world, way_in):
    asked = order(world)
    gives(world, asked)
    [user] = world.users(asked.account)
    world.server.root("ACL", "SETUSER", user, "+ping", "(+del ~x*)", way_in)
    seen = {str(what) for what in world.connector.observe([asked.account]).of(asked.account, asked.ticket)}
    assert seen == {
        str(asked.scope[0]), "+ping", "+del (~x*)", "a login with another password, or none",
    }  # fmt: skip
    assert world.connector.revoke([asked], yes)[0].result == "done"


def test_a_second_order_after_a_crash_sets_another_password(world):
    asked = order(world)
    gives(world, asked)
    first = world.env(asked.account)
    gives(world, asked)
    second = world.env(asked.account)
    assert first["REDIS_USERNAME"] == second["REDIS_USERNAME"] == f"muniment.T-1-{world.n}.ann{world.n}"
    with pytest.raises(AuthenticationError):
        Client(world.server.port, first["REDIS_USERNAME"], first["REDISCLI_AUTH"])
    Client(world.server.port, second["REDIS_USERNAME"], second["REDISCLI_AUTH"]).close()


def test_redis_never_learns_the_password(world):
    spy = Client(world.server.port, "root", ROOTS)
    spy.ask("CONFIG", "SET", "slowlog-log-slower-than", "0")
    spy.send("MONITOR")
    asked = order(world)
    gives(world, asked)
    world.server.root("ECHO", "the end")
    heard = "".join(iter(lambda: said if "the end" not in (said := spy.read()) else "", ""))
    env = world.env(asked.account)
    slow = str(world.server.root("SLOWLOG", "GET", "100"))
    files = [path.read_text(errors="replace") for path in world.server.folder.rglob("*") if path.is_file()]
    assert env["REDIS_USERNAME"] in str(files)  # it is looked at
    assert not any(env["REDISCLI_AUTH"] in text for text in (heard, slow, *files))
    assert ROOTS not in heard


@pytest.mark.parametrize("account", ["Bob of the Tower", "x:y", "muniment.T-1.ann", "a/../b", "%41"])
def test_accounts_are_whom_it_is_for_and_nothing_else(world, account):
    asked = order(world, account=account)
    gives(world, asked)
    held = world.connector.observe(None).holdings
    assert {(h.account, h.ticket) for h in held if h.ticket == asked.ticket} == {(account, asked.ticket)}
    assert world.connector.observe([account]).of(account, asked.ticket) == asked.scope
    assert world.connector.revoke([asked], yes)[0].result == "done"
    assert world.connector.observe([account]).of(account, asked.ticket) == ()


@pytest.mark.parametrize(
    "user", ["muniment.", "muniment..x", "muniment.T-1.", "muniment.T-1.a:b", "muniment.T-1.%61", "x"]
)
def test_users_that_no_ticket_made_are_their_own_accounts(user):
    assert whose(user) == (user, None)


# ── The lock ──


def test_a_worker_that_was_held_up_changes_nothing_any_more(world, monkeypatch):
    """Redis itself refuses the transaction of whoever has lost the lock (I19)."""
    monkeypatch.setattr(redis_session, "PAUSE", 0.05)
    asked = order(world)
    gives(world, asked)
    before = world.everything()
    for call in (world.connector.provision, world.connector.revoke):
        with pytest.raises(TargetUnavailable) as caught:
            call([asked], lambda: time.sleep(0.2))
        assert caught.value.code == "target.busy"
    assert world.everything() == before


def test_the_lock_is_waited_for_no_longer_than_a_call_may_take(world):
    world.server.root("SET", redis_session.LOCK, "another's")
    try:
        with pytest.raises(TargetUnavailable) as caught:
            world.make(timeout="1s").provision([order(world)], yes)
        assert caught.value.code == "target.busy"
        assert world.server.root("GET", redis_session.LOCK) == "another's"
    finally:
        world.server.root("DEL", redis_session.LOCK)


# ── Checking ──


def test_check_finds_nothing_wrong_with_the_least_rights(world):
    report = world.connector.check()
    assert (report.reachable, report.problems) == (True, ())
    assert report.details[0].startswith("Redis ")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (["+@all"], "may do more than it needs"),
        (["+get", "~secret:*"], "may reach more than the key"),
        (["&news"], "may reach more than the key"),
        (["(+config|set)"], "may do more than it needs: config|set"),
        (["-client|kill"], "lacks commands that it needs: client|kill"),
    ],
)
def test_check_says_what_is_too_much_or_missing(world, rules, said):
    world.server.root("ACL", "SETUSER", world.us, *rules)
    assert said in " ".join(world.connector.check().problems)


def test_check_says_what_is_wrong_with_the_server(world, unsaved):
    world.server.root("ACL", "SETUSER", "default", "on")
    try:
        problems = " ".join(world.connector.check().problems)
    finally:
        world.server.root("ACL", "SETUSER", "default", "off")
    assert "Nothing can be given: Redis cannot save its users" in problems
    assert "Anybody may connect as default" in problems


def test_check_says_what_is_wrong_with_the_catalogue(world):
    world.real._catalogue = (
        Privilege(privilege="+get -@nothing", resource="~a"), Privilege(privilege="+get -@all"),
        Privilege(privilege="+@all", resource="~*"),
        Privilege(privilege="+set +get", resource="~a %R~b"), Privilege(privilege="+get +set", resource="%R~b ~a"),
    )  # fmt: skip
    connector = world.make()
    connector._catalogue = world.real._catalogue
    report = connector.check()
    problems = " ".join(report.problems)
    assert "There is no -@nothing, which is in the catalogue" in problems
    assert "+get -@all allows nothing" in problems
    assert "+set +get (~a %R~b) and +get +set (%R~b ~a) allow the same" in problems
    assert "Whoever holds +@all (~*) can keep access beyond a ticket, by acl|load, acl|setuser" in " ".join(
        report.details
    )


def test_a_wrong_password_is_said_without_it(world):
    world.server.root("ACL", "SETUSER", world.us, "resetpass", ">another")
    with pytest.raises(TargetUnavailable, match="refused our name or password") as caught:
        world.connector.observe(None)
    assert "env:REDIS" in caught.value.remedy


def test_what_we_may_not_do_is_said(world):
    world.server.root("ACL", "SETUSER", world.us, "-acl|deluser")
    with pytest.raises(TargetUnavailable, match="our user may not do there what it must"):
        world.connector.revoke([order(world)], yes)


# ── Words ──


@pytest.mark.parametrize(
    ("privilege", "resource"),
    [
        ("get", None), ("-get", None), ("-@all +get", None), ("+get  +set", None), ("+get ", None), ("+GET", None),
        ("+get ~*", None), ("+get nopass", None), ("+get >pw", None), ("+get)", None), ("+get on", None), ("+", None),
        ("+get", "~"), ("+get", "a"), ("+get", "~a b"), ("+get", "~a)"), ("+get", '~"a"'), ("+get", "~a\\"),
        ("+get", "~a +set"), ("+get", "allkeys"), ("+get", "%X~a"), ("+get", "~ö"), ("+get", ""), ("+get", "~a  ~b"),
        ("+get", "~a\n~b"),
    ],
)  # fmt: skip
def test_words_that_are_no_rules(world, privilege, resource):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (Privilege(privilege=privilege, resource=resource),))


@pytest.mark.parametrize(
    "wrong", [{"host": "cache.example.com"}, {"port": "many"}, {"timeout": "soon"}, {"socket": "/run/x"}]
)
def test_settings_that_cannot_be_meant(world, wrong):
    with pytest.raises(Misconfigured):
        world.make(**wrong)


WORDS = st.lists(
    st.tuples(
        st.sampled_from("+-"),
        st.sampled_from(
            ["@all", "@read", "@write", "@dangerous", "@admin", "@fast", "@scripting", "get", "set", "config", "config|get", "client", "client|kill", "acl", "xinfo|stream", "object", "debug", "eval"]
        ),
    ).map("".join),
    min_size=1, max_size=6,
).map(lambda words: " ".join(["+ping", *words, "+ping"]))  # fmt: skip
PATTERNS = st.lists(
    st.sampled_from(["~a:*", "%R~a:*", "%W~a:*", "%RW~b*", "%R~b*", "~!x", "&c", "&d*"]),
    max_size=5,
    unique=True,
).map(" ".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=WORDS, patterns=PATTERNS)
def test_what_redis_says_back_allows_the_same_as_what_it_was_told(world, commands, patterns):
    """In memory, and from its file."""
    item = Privilege(privilege=commands, resource=patterns or None)
    world.connector.validate("ann", (item,))
    connector = world.make(timeout="20s")
    connector._catalogue = (item,)
    asked = order(world, item)
    outcomes = connector.provision([asked], yes)
    assert outcomes[0].result == "done", outcomes
    assert connector.observe([asked.account]).of(asked.account, asked.ticket) == asked.scope
    world.server.root("ACL", "LOAD")
    assert connector.observe([asked.account]).of(asked.account, asked.ticket) == asked.scope
    assert connector.revoke([asked], yes)[0].result == "done"
