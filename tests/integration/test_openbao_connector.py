"""What OpenBao in particular does, against a real server; the conformance suite asks the rest."""

from __future__ import annotations

import threading
import time
import urllib.error
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import servers
from muniment.conformance.grounds.openbao import BaoHarness, Server
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.outbound import Http
from muniment.ports import Order


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "openbao") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield BaoHarness(server, proxy)


def order(world, account: str, *groups: str) -> Order:
    wanted = scope(Privilege(privilege=each) for each in groups or world.groups[:1])
    return Order(
        ticket="T-1", account=account, scope=wanted, expires_at=datetime.now(UTC) + timedelta(hours=1)
    )


def printed(world) -> str:
    """The policy that `check` prints, without the commands behind it."""
    return world.connector.check().least_privilege.partition("\n# then")[0]


def members(world, number: int = 0) -> list[str]:
    return world.group(world.groups[number])["member_entity_ids"] or []


@pytest.fixture
def meddling(world, monkeypatch):
    """Somebody else changes the first group right before or right after we do."""
    post = Http.post

    def arrange(*, before=None, after=None) -> None:
        def meddled(self, url, body, **more):
            ours = url.endswith(world.numbers[world.groups[0]])
            if ours and before:
                before()
            answer = post(self, url, body, **more)
            if ours and after:
                after()
            return answer

        monkeypatch.setattr(Http, "post", meddled)

    return arrange


def test_a_token_that_is_there_gains_and_loses_the_policy_at_its_next_request(world):
    session = world.open_session(world.accounts[0], world.privileges[0])
    assert not session.alive()
    given = order(world, world.accounts[0])
    for _ in range(2):
        assert world.connector.provision([given], yes)[0].result == "done"
        assert session.alive()
        assert world.connector.revoke([given], yes)[0].result == "done"
        assert not session.alive()
    world.server.call("GET", "auth/token/lookup-self", token=session.token)  # the token itself lives on


def test_the_policy_that_check_prints_is_enough_and_changes_members_only(world):
    """A thief of our token cannot make a group mean more than it does."""
    world.rights(printed(world))
    report = world.connector.check()
    assert report.reachable
    assert report.problems == ()
    given = order(world, world.accounts[1], *world.groups)
    assert world.connector.provision([given], yes)[0].result == "done"
    assert world.connector.observe(None).of(world.accounts[1]) == given.scope
    assert world.connector.revoke([given], yes)[0].result == "done"
    login = {"role_id": world.role_id, "secret_id": world.secret_id}
    ours = world.server.call("POST", "auth/approle/login", login)["auth"]["client_token"]
    group = f"identity/group/id/{world.numbers[world.groups[0]]}"
    for body in ({"policies": ["x"]}, {"name": "x"}, {"member_entity_ids": [], "metadata": {"x": "y"}}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            world.server.call("POST", group, body, token=ours)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        world.server.call("POST", "auth/token/create", {"ttl": "5s"}, token=ours)


def test_what_is_missing_or_too_much_is_said(world):
    world.rights('path "identity/*" { capabilities = ["read", "update", "list"] }')
    said = " ".join(world.connector.check().problems)
    for words in (
        "may make groups",
        "may say who is whom",
        "may not update auth/token/create",
        "may not keep the lock",
    ):
        assert words in said
    root = world.make(role_id=None, secret_id=None, token="env:ROOT")
    [problem] = root.check().problems
    assert "root's" in problem
    assert world.server.root not in repr(root.check())
    assert root.provision([order(world, world.accounts[0])], yes)[0].result == "done"  # it works all the same
    world.delete_privilege(world.privileges[1])
    assert any("There is no group ops/*" in problem for problem in root.check().problems)


def test_a_right_that_is_missing_is_a_rejection_and_harms_no_other_group(world):
    world.rights(printed(world).replace(f'/{world.numbers[world.groups[0]]}"', '/none"'))
    mine, other = order(world, world.accounts[0]), order(world, world.accounts[0], world.groups[1])
    outcomes = world.connector.provision([mine, other], yes)
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.not-allowed"), ("done", "")]


def test_names_are_told_apart_by_case_which_openbao_does_not(world):
    before = world.everything()
    for account, group in (
        (world.accounts[0].upper(), world.groups[0]), (world.accounts[0], world.groups[0].upper()),
    ):  # fmt: skip
        [outcome] = world.connector.provision([order(world, account, group)], yes)
        assert outcome.code in {"target.no-such-account", "target.no-such-privilege"}
        assert world.connector.revoke([order(world, account, group)], yes)[0].result == "done"
    assert world.connector.observe([world.accounts[0].upper()]).holdings == ()
    assert world.everything() == before


def test_who_is_in_an_external_group_is_shown_and_not_changed(world):
    number = world.make_group(f"from-outside-{world.n}", type="external")
    world.rights(
        printed(world) + world.group_rights(world.groups[0]).replace(world.numbers[world.groups[0]], number)
    )
    [outcome] = world.connector.provision([order(world, world.accounts[0], f"from-outside-{world.n}")], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.not-allowed")


def test_approvers_see_the_policies_of_a_group_and_of_those_that_it_is_in(world):
    world.give_policy(world.privileges[1])
    world.nest(*world.privileges)
    brought = world.connector.brings(world.privileges[:1])
    policy = Privilege(privilege="policy", resource=f"opens-{world.n}")
    assert brought == scope((world.privileges[1], policy))
    assert world.connector.brings(world.privileges) == (policy,)


def test_a_change_of_somebody_elses_that_ours_overwrites_is_said(world, meddling):
    """OpenBao compares nothing, so it can be lost; nobody is told that all is well."""
    [mine, theirs] = [world.entities[name] for name in world.accounts]
    meddling(before=lambda: world.hold(world.accounts[1], world.privileges[0]))
    [outcome] = world.connector.provision([order(world, world.accounts[0])], yes)
    assert (outcome.result, outcome.code) == ("unknown", "target.lost-update")
    assert members(world) == [mine]
    assert theirs not in members(world)


def test_a_change_of_somebody_elses_that_overwrites_ours_is_made_good(world, meddling):
    [mine, theirs] = [world.entities[name] for name in world.accounts]
    times = iter([True])
    meddling(
        after=lambda: world.members(world.privileges[0], lambda _: [theirs]) if next(times, False) else None
    )
    [outcome] = world.connector.provision([order(world, world.accounts[0])], yes)
    assert (outcome.result, set(members(world))) == ("done", {theirs, mine})
    meddling(after=lambda: world.hold(world.accounts[0], world.privileges[0]))
    [outcome] = world.connector.revoke([order(world, world.accounts[0])], yes)
    assert (outcome.result, outcome.code) == (
        "unknown",
        "target.lost-update",
    )  # somebody puts it back all the time


def test_a_worker_that_was_paused_changes_nothing_afterwards(world):
    """The server itself refuses it, whatever it had read before (I19)."""
    given = order(world, world.accounts[0])
    with pytest.raises(TargetUnavailable):
        world.connector.provision([given], lambda: time.sleep(5.3))
    assert members(world) == []
    assert world.connector.provision([given], yes)[0].result == "done"  # and left no lock behind


def test_another_workers_lock_is_respected_and_a_dead_ones_ends_by_itself(world):
    lock = f"lock{world.n}"
    world.connector.provision([order(world, world.accounts[0])], yes)
    world.server.call("POST", f"muniment/metadata/{lock}", {"delete_version_after": "3s"})
    world.server.call("POST", f"muniment/data/{lock}", {"data": {"by": "another"}})
    with pytest.raises(TargetUnavailable) as caught:
        world.impatient().revoke([order(world, world.accounts[0])], yes)
    assert caught.value.code == "target.busy"
    assert members(world) == [world.entities[world.accounts[0]]]
    assert world.connector.revoke([order(world, world.accounts[0])], yes)[0].result == "done"


def test_a_secret_that_would_be_a_lock_for_ever_is_made_one_that_ends(world):
    lock = f"lock{world.n}"
    world.server.call("POST", f"muniment/data/{lock}", {"data": {"free": True}})
    assert world.connector.provision([order(world, world.accounts[0])], yes)[0].result == "done"
    kept = world.server.call("GET", f"muniment/metadata/{lock}")["data"]
    assert kept["delete_version_after"] == "20s"


def test_tokens_that_we_were_given_for_a_call_are_given_back(world):
    before = len(world.server.call("LIST", "auth/token/accessors")["data"]["keys"])
    world.connector.provision([order(world, world.accounts[0])], yes)
    world.connector.observe(None)
    assert len(world.server.call("LIST", "auth/token/accessors")["data"]["keys"]) == before


def test_a_secret_that_is_refused_is_said_to_be_and_not_shown(world):
    world.secret_id = "not-the-secret-0000"
    with pytest.raises(TargetUnavailable, match="refused our role_id or secret_id") as caught:
        world.connector.observe(None)
    assert (
        "not-the-secret-0000" not in f"{caught.value.message}{caught.value.remedy}{caught.value.__cause__!r}"
    )
    assert "env:SECRET_ID" in caught.value.remedy


def test_another_namespace_is_another_target(world):
    world.server.call("POST", "sys/namespaces/team-a", {})
    there = world.make(role_id=None, secret_id=None, token="env:ROOT", namespace="team-a")
    assert there.observe(None).holdings == ()
    world.hold(world.accounts[0], world.privileges[0])
    assert there.observe([world.accounts[0]]).holdings == ()
    assert world.connector.observe([world.accounts[0]]).of(world.accounts[0]) == world.privileges[:1]


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<html>no such backend</html>")

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        """Quietly."""


def test_a_proxy_that_finds_nothing_is_no_sign_that_something_is_gone(world):
    """Else a revocation would be closed on the word of whoever stands between."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NotFound) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        lost = world.make(
            url=f"http://127.0.0.1:{httpd.server_port}", role_id=None, secret_id=None, token="env:ROOT"
        )
        for call in (
            lambda: lost.observe(list(world.accounts)),
            lambda: lost.observe(None),
            lambda: lost.revoke([order(world, world.accounts[0])], yes),
        ):
            with pytest.raises(TargetUnavailable, match="does not speak like OpenBao"):
                call()
        httpd.shutdown()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://bao.example.com:8200"}, "in clear text"),
        ({"url": "bao.example.com"}, "not an http"),
        ({"token": "env:ROOT"}, "either a token or an AppRole"),
        ({"role_id": None}, "either a token or an AppRole"),
        ({"lock": "lock"}, "names no secret"),
        ({"lock": "../sys/x"}, "lock is no path"),
        ({"approle": "a?b"}, "approle is no path"),
        ({"namespace": "x\r\ny"}, "namespace is no path"),
    ],
)
def test_settings_that_cannot_be_meant(world, settings, message):
    with pytest.raises(Misconfigured, match=message):
        world.make(**settings)
