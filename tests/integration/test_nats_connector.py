"""What NATS in particular does, against a real server; the conformance suite asks the rest."""

from __future__ import annotations

import time
from base64 import b32encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import servers
from muniment.conformance.grounds.nats import Client, NatsHarness, Server, user_of
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors import nats_jwt as j
from muniment.connectors import nats_session
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

LONG = timedelta(hours=1)


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "nats") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield NatsHarness(server, proxy)


def order(
    world, *privileges: str, lasts: timedelta = LONG, ticket: str = "T-1", account: str | None = None
) -> Order:
    return Order(
        ticket=f"{ticket}-{world.n}",
        account=account or world.accounts[0],
        scope=scope(Privilege(privilege=each) for each in privileges) or world.privileges[:1],
        expires_at=datetime.now(UTC).replace(microsecond=0) + lasts,
        public_key=world.public_key("ann"),
    )


def gives(world, *orders: Order) -> list[dict[str, str]]:
    """What was handed out, and with what handles."""
    outcomes = world.connector.provision(orders, yes)
    assert [each.result for each in outcomes] == ["done"] * len(orders), outcomes
    return [dict(each.handle) for each in outcomes]


def newest(world, account: str | None = None) -> dict[str, str]:
    return world.issued(account or world.accounts[0])[-1]


# ── What a token allows ──


@pytest.mark.parametrize(
    ("privileges", "may", "may_not"),
    [
        (["publish orders.*.new"], ["PUB orders.eu.new 0\r\n"], ["PUB orders.eu 0\r\n", "SUB orders.eu.new 1"]),
        (["subscribe news.>"], ["SUB news.eu 1"], ["SUB news 1", "SUB > 1", "PUB news.eu 0\r\n"]),
        (["publish a", "publish b", "subscribe c"], ["PUB a 0\r\n", "PUB b 0\r\n", "SUB c 1"], ["PUB c 0\r\n", "SUB a 1"]),
    ],
)  # fmt: skip
def test_a_token_allows_what_was_approved_and_nothing_else(world, privileges, may, may_not):
    """To allow no subject at all is to allow each in NATS's tokens."""
    gives(world, order(world, *privileges))
    for lines, allowed in ((may, True), (may_not, False)):
        for line in lines:
            with world.client(newest(world)) as client:
                assert client.connected
                assert client.may(line) is allowed, line


def test_the_token_ends_by_itself_and_with_it_the_connection(world):
    asked = order(world, lasts=timedelta(seconds=2))
    gives(world, asked)
    with world.client(newest(world)) as client:
        assert client.connected
        while client.hear():  # the server says why, and ends it
            pass
        assert time.time() >= asked.expires_at.timestamp()
    assert world.pass_time(asked.expires_at + timedelta(seconds=1))  # NATS counts seconds, this one included
    with world.client(newest(world)) as again:
        assert not again.connected


def test_an_access_that_is_over_is_not_given(world):
    before = world.everything()
    [outcome] = world.connector.provision([order(world, lasts=timedelta(seconds=-1))], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.too-late")
    assert world.everything() == before


def test_the_credentials_are_as_nats_writes_them(world):
    gives(world, order(world))
    env = newest(world)
    lines = env["NATS_CREDENTIALS"].splitlines()
    assert (lines[1], lines[5]) == (env["NATS_JWT"], env["NATS_SEED"])
    assert env["NATS_SEED"].startswith("SU")
    assert user_of(env).startswith("U")


# ── Sessions and revocations ──


def test_every_connection_of_the_ticket_ends_and_no_other(world):
    first, second = order(world, "subscribe >"), order(world, "subscribe >", ticket="T-2")
    gives(world, first)
    env = newest(world)
    gives(world, second)
    mine, theirs = [world.client(env) for _ in range(3)], world.client(newest(world))
    mine[0].say("SUB waiting 1")
    [outcome] = world.connector.revoke([first], yes)
    assert (outcome.result, outcome.sessions_ended) == ("done", 3)
    assert [client.alive() for client in mine] == [False] * 3
    assert theirs.alive()
    for client in (*mine, theirs):
        client.close()


def test_a_second_order_after_a_crash_revokes_the_first_token(world):
    asked = order(world)
    gives(world, asked)
    first = newest(world)
    gives(world, asked)
    with world.client(first) as old, world.client(newest(world)) as new:
        assert not old.connected
        assert new.connected
    world.connector.revoke([asked], yes)
    assert world.holds(asked.account) == ()


def test_who_pushes_an_older_account_takes_nothing_from_the_next_order(world):
    """Register and revocations go with it; what the order itself says is enough to revoke again."""
    asked = order(world)
    old = world.server.stored(world.app)
    [handle] = gives(world, asked)
    world.connector.revoke([asked], yes)

    def back(nats):
        nats.clear()
        nats.update(j.claims_of(old, world.app, [world.server.signer.public])["nats"])

    world.server.push(world.app, back)
    assert world.holds(asked.account) == asked.scope
    [outcome] = world.connector.revoke([Order(**{**_fields(asked), "handle": handle})], yes)
    assert outcome.result == "done"
    assert world.holds(asked.account) == ()


def test_what_an_administrator_changed_stays(world):
    asked = order(world)
    gives(world, asked)

    def change(nats):
        nats["tags"] = [*nats["tags"], "muniment:nonsense", "another"]
        nats["description"] = "of the shop"
        nats["limits"]["subs"] = 77

    world.server.push(world.app, change)
    world.connector.revoke([asked], yes)
    nats = j.claims_of(world.server.stored(world.app), world.app, [world.server.signer.public])["nats"]
    assert (nats["description"], nats["limits"]["subs"]) == ("of the shop", 77)
    assert {"team:shop", "another"} <= set(nats["tags"])
    assert nats["signing_keys"] == [world.keys["signs"].public]


def test_what_would_have_ended_by_now_is_forgotten(world):
    asked = order(world, lasts=timedelta(seconds=2))
    gives(world, asked)
    world.connector.revoke([asked], yes)
    assert len(_nats(world)["revocations"]) == 1
    assert world.pass_time(asked.expires_at + timedelta(seconds=1))
    other = order(world, ticket="T-2")
    gives(world, other)
    assert "revocations" not in _nats(world)
    assert len([tag for tag in _nats(world)["tags"] if tag.startswith("muniment:")]) == 1


def test_all_revoked_at_once_is_nothing_held(world):
    """By the star, as `nsc revocations add-user --user *` does."""
    asked = order(world)
    gives(world, asked)
    world.server.push(world.app, lambda nats: nats.update(revocations={"*": int(time.time())}))
    assert world.connector.observe([asked.account]).holdings == ()
    assert world.connector.revoke([asked], yes)[0].result == "done"
    assert _nats(world)["revocations"]["*"] > 0


# ── The lock ──


def test_a_worker_that_was_held_up_changes_nothing_any_more(world, monkeypatch):
    """The server itself ends our connection when its token ends (I19)."""
    monkeypatch.setattr(nats_session, "PAUSE", 1)
    asked = order(world)
    gives(world, asked)
    before = _nats(world)
    for call in (world.connector.provision, world.connector.revoke):
        with pytest.raises(TargetUnavailable):
            call([asked], lambda: time.sleep(2.5))
    assert _nats(world) == before


def test_of_workers_at_once_none_loses_what_another_did(world):
    orders = [order(world, ticket=f"T-{number}") for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda each: world.connector.provision([each], yes), orders):
            assert results[0].result == "done"
        assert len(world.connector.observe(world.accounts).holdings) == 8
        for results in pool.map(lambda each: world.connector.revoke([each], yes), orders):
            assert results[0].result == "done"
    assert world.holds(orders[0].account) == ()
    assert len(_nats(world)["revocations"]) == 8


def test_the_lock_is_waited_for_no_longer_than_a_call_may_take(world):
    user = j.new_key("user")
    claims = {
        "sub": user.public, "name": "another",
        "nats": {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "issuer_account": world.own, "pub": {}, "sub": {}},
    }  # fmt: skip
    with Client(world.server.port, j.token(world.keys["ours"], claims), user.seed) as other:
        assert other.connected
        with pytest.raises(TargetUnavailable) as caught:
            world.make(timeout="1s").provision([order(world)], yes)
        assert caught.value.code == "target.busy"


# ── What is believed ──


def test_an_account_that_the_operator_did_not_sign_is_not_changed_and_signed(world):
    """Else whoever has the server could have anything signed with the operator's key."""
    claims = j.claims_of(world.server.stored(world.app), world.app, [world.server.signer.public])
    (world.server.accounts / f"{world.app}.jwt").write_text(j.token(j.new_key("operator"), claims))
    for call in (
        lambda: world.connector.provision([order(world)], yes),
        lambda: world.connector.revoke([order(world)], yes),
        lambda: world.connector.observe(None),
    ):
        with pytest.raises(TargetUnavailable, match="shows no account"):
            call()


def test_another_key_of_the_operator_is_believed_where_it_is_named(world):
    (world.server.accounts / f"{world.app}.jwt").unlink()
    claims = {
        "sub": world.app, "name": "APP", "iat": 1,
        "nats": {"type": "account", "version": 2, "limits": {"subs": -1, "conn": -1, "leaf": -1, "data": -1, "payload": -1},
                 "signing_keys": [world.keys["signs"].public]},
    }  # fmt: skip
    (world.server.accounts / f"{world.app}.jwt").write_text(j.token(world.server.operator, claims))
    with pytest.raises(TargetUnavailable, match="shows no account"):
        world.connector.observe(None)
    assert world.make(operators=[world.server.operator.public]).observe(None).holdings == ()


@given(st.binary(max_size=80), st.integers(0, 3))
def test_text_that_is_no_token_is_refused(noise, dots):
    text = ".".join([b32encode(noise).decode().rstrip("=")] * (dots + 1))
    with pytest.raises(ValueError):
        j.claims_of(text, "A", ["O"])


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_that_was_changed_is_refused(part):
    key, account = j.new_key("operator"), j.new_key("account")
    text = j.token(key, {"sub": account.public, "nats": {"tags": ["x"]}})
    assert j.claims_of(text, account.public, [key.public])["nats"] == {"tags": ["x"]}
    parts = text.split(".")
    parts[part] = ("A" if parts[part][5] != "A" else "B").join([parts[part][:5], parts[part][6:]])
    with pytest.raises(ValueError):
        j.claims_of(".".join(parts), account.public, [key.public])


# ── Checking ──


def test_check_finds_nothing_wrong_with_the_least_rights(world):
    report = world.connector.check()
    assert (report.reachable, report.problems) == (True, ())
    assert f"APP{world.n}" in report.details[0]


def test_check_says_what_is_wrong_with_the_account_key(world):
    for key, said in (("app", "the account's own key"), ("ours", "no key of the account")):
        world.seeds["env:SIGNS"] = world.keys[key].seed
        assert said in " ".join(world.make().check().problems)
    world.seeds["env:SIGNS"] = world.keys["signs"].seed
    scoped = {"kind": "user_scope", "key": world.keys["signs"].public, "role": "x", "template": {"subs": -1}}
    world.server.push(world.app, lambda nats: nats.update(signing_keys=[scoped]))
    assert "a scoped key" in " ".join(world.make().check().problems)


def test_check_says_if_our_account_is_no_lock(world):
    world.server.push(world.own, lambda nats: nats["limits"].update(conn=2))
    assert "more than one connection" in " ".join(world.make().check().problems)


def test_imports_that_are_missing_are_said(world):
    world.server.push(world.own, lambda nats: nats.update(imports=nats["imports"][:1]))
    with pytest.raises(TargetUnavailable, match="nobody answers") as caught:
        world.connector.observe(None)
    assert "imports" in caught.value.remedy


def test_imports_that_are_missing_for_a_moment_are_waited_for(world):
    """The server takes accounts up anew while others change them."""
    with ThreadPoolExecutor(1) as pool:
        whole: list[dict[str, object]] = []

        def cut(nats: dict[str, list[dict[str, object]]]) -> None:
            whole.extend(nats["imports"])
            nats["imports"] = nats["imports"][:1]

        world.server.push(world.own, cut)
        observed = pool.submit(world.connector.observe, None)
        time.sleep(0.2)
        world.server.push(world.own, lambda nats: nats.update(imports=whole))
        assert observed.result().complete


def test_a_key_that_is_not_ours_is_said(world):
    world.seeds["env:OURS"] = j.new_key("account").seed
    with pytest.raises(TargetUnavailable, match="refused our token"):
        world.make().observe(None)


# ── Words ──


@pytest.mark.parametrize(
    "privilege",
    ["publish", "publish ", "pub x", "publish a b", "publish .a", "publish a..b", "publish a.", "publish >.a",
     "publish a>", "publish a*", "publish a.*b", "subscribe a\n", "subscribe a,b\x00", "PUBLISH a", "a"],
)  # fmt: skip
def test_words_that_nats_does_not_know(world, privilege):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (Privilege(privilege=privilege),))


@pytest.mark.parametrize(
    "privilege", ["publish >", "publish *", "publish a.*.>", "subscribe $JS.API.x", "subscribe _INBOX.>"]
)
def test_words_that_it_knows(world, privilege):
    world.connector.validate("ann", (Privilege(privilege=privilege),))
    with pytest.raises(Invalid):
        world.connector.validate("ann", (Privilege(privilege=privilege, resource="x"),))


@pytest.mark.parametrize(
    "wrong",
    [{"url": "nats://nats.example.com"}, {"url": "https://nats.example.com"}, {"url": "tls://ann@nats.example.com"},
     {"url": "tls://nats.example.com/x"}, {"url": "nats"}, {"timeout": "soon"}, {"subject": "x"}, {"account": "A"},
     {"own_account": "x"}, {"operators": ["A"]}, {"operator_key": "env:SIGNS"}, {"account_key": "env:OPERATOR"}],
)  # fmt: skip
def test_settings_that_cannot_be_meant(world, wrong):
    with pytest.raises(Misconfigured) as caught:
        world.make(**wrong)
    assert not any(seed in f"{caught.value} {caught.value.remedy}" for seed in world.secrets)


def _nats(world) -> dict:
    return j.claims_of(world.server.stored(world.app), world.app, [world.server.signer.public])["nats"]


def _fields(asked: Order) -> dict:
    return {name: getattr(asked, name) for name in Order.__struct_fields__}
