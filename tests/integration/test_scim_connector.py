"""What SCIM services in particular do, good and bad ones; the conformance suite asks the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

import servers
from muniment.conformance.grounds.scim import MunimentServer, Scim2Server, ScimHarness
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors import scim_session
from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


@pytest.fixture(scope="module")
def server():
    with servers.running(Scim2Server, "scim2-server") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        made = ScimHarness(server, proxy)
        yield made
        made.clear()


def through(world, front, **settings):
    return world.make(
        url=f"http://127.0.0.1:{front.port}{world.server.path}", **{"timeout": "20s"} | settings
    )


def order(world, number: int = 0, *groups: str, ticket: str = "T-1") -> Order:
    wanted = scope(Privilege(privilege=each) for each in groups or world.groups[:1])
    return Order(
        ticket=ticket, account=world.accounts[number], scope=wanted,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip


def give(connector, *orders: Order) -> list[Order]:
    outcomes = connector.provision(orders, yes)
    assert [o.result for o in outcomes] == ["done"] * len(orders), outcomes
    return [replace(each, handle=o.handle) for each, o in zip(orders, outcomes, strict=True)]


def no(status: int, word: str = "invalidValue", **headers: str):
    body = {"schemas": [ERROR], "status": str(status), "scimType": word}
    return status, {"Content-Type": "application/scim+json"} | headers, json.dumps(body).encode()


def test_all_who_come_into_a_group_come_by_one_request(world, front):
    given = give(through(world, front), order(world), order(world, 1, ticket="T-2"))
    assert len(front.of("PATCH")) == 1
    assert world.members(world.groups[0]) == set(world.people.values())
    through(world, front).revoke(given, yes)
    assert len(front.of("PATCH")) == 2
    assert world.members(world.groups[0]) == set()


def test_who_changes_the_group_meanwhile_is_seen_by_its_version_and_nothing_of_theirs_is_lost(world, front):
    """The PATCH names the version from before ``confirm`` (I19)."""
    meddled = []

    def rule(method, path, body):
        if method == "PATCH" and not meddled:
            meddled.append(world.hold(world.accounts[1], world.privileges[0]))

    front.rule = rule
    give(through(world, front), order(world))
    versions = [headers["If-Match"] for _, headers, _ in front.of("PATCH")]
    assert len(set(versions)) == 2
    assert world.members(world.groups[0]) == set(world.people.values())


def test_without_entity_tags_a_late_worker_finds_out_by_itself(world, front, monkeypatch):
    monkeypatch.setattr(scim_session, "PAUSE", 0.0)
    with pytest.raises(TargetUnavailable, match="held up"):
        through(world, front, etags=False).provision([order(world)], yes)
    assert front.of("PATCH") == []
    assert world.members(world.groups[0]) == set()


def test_a_service_that_refuses_the_versions_that_it_gives_is_told_by_the_remedy(world, front):
    front.rule = lambda method, path, body: no(412) if method == "PATCH" else None
    with pytest.raises(TargetUnavailable) as caught:
        through(world, front).provision([order(world)], yes)
    assert "etags = false" in caught.value.remedy
    front.rule = lambda method, path, body: None
    give(through(world, front, etags=False), order(world))
    assert "If-Match" not in front.of("PATCH")[-1][1]


@pytest.mark.parametrize("late", ["0", format_datetime(datetime.now(UTC), usegmt=True), "soon", ""])
def test_who_asks_too_often_waits_as_long_as_the_service_says(world, front, late):
    left = [("GET", 2), ("PATCH", 1)]

    def rule(method, path, body):
        for at, (verb, times) in enumerate(left):
            if verb == method and times:
                left[at] = (verb, times - 1)
                return no(429, **({"Retry-After": late} if late else {}))
        return None

    front.rule = rule
    given = give(through(world, front), order(world))
    assert left == [("GET", 0), ("PATCH", 0)]
    assert through(world, front).revoke(given, yes)[0].result == "done"


def test_a_wait_that_is_too_long_ends_the_call_and_changes_nothing(world, front):
    front.rule = lambda method, path, body: no(429, **{"Retry-After": "3600"}) if method == "PATCH" else None
    with pytest.raises(TargetUnavailable, match="3600 seconds") as caught:
        through(world, front).provision([order(world)], yes)
    assert caught.value.code == "target.busy"
    assert world.members(world.groups[0]) == set()


def small(path: str) -> str:
    return path.replace("count=100", "count=2").replace(" ", "%20").replace('"', "%22")


def test_short_pages_are_read_to_the_end(world, front):
    """A service may give fewer than it was asked for."""
    more = [world.make_user(f"page{number}-{world.groups[0]}") for number in range(5)]
    for one in more:
        world.patch(world.groups[0], op="add", path="members", value=[{"value": one}])
    front.rule = lambda method, path, body: small(path)
    seen = through(world, front).observe(None)
    assert len([h for h in seen.holdings if h.privilege == world.groups[0]]) == 5
    assert len(front.of("GET", "Users")) >= 4
    for one in more:
        world.server.call("DELETE", f"Users/{one}")


@pytest.mark.parametrize(
    "what", ["the same page again", "a total that moves", "nothing where there is something"]
)
def test_a_list_that_cannot_be_read_whole_is_no_answer(world, front, what):
    """Absence from it would prove nothing."""
    users = world.server.every("Users")[:1]

    def rule(method, path, body):
        if "/Users" not in path:
            return None
        total = 3 + len(front.asked) if what == "a total that moves" else 3
        page = {"totalResults": total, "Resources": [] if what.startswith("nothing") else users}
        if what == "a total that moves":
            page["Resources"] = [users[0] | {"id": str(len(front.asked))}]
        return 200, {}, json.dumps(page).encode()

    front.rule = rule
    with pytest.raises(TargetUnavailable, match="change as they are read"):
        through(world, front).observe(None)


def test_a_name_is_no_part_of_a_filter(world):
    before = world.everything()
    for name in ('x" or userName pr or userName eq "x', 'a"] pr', "\\", world.accounts[0].upper()):
        [outcome] = world.connector.provision([replace(order(world), account=name)], yes)
        assert outcome.code == "target.no-such-account"
        assert world.connector.observe([name]).holdings == ()
    assert world.everything() == before


def test_a_person_who_was_renamed_meanwhile_is_found_by_the_id(world):
    [given] = give(world.connector, order(world))
    who = world.people[world.accounts[0]]
    rename = {"op": "replace", "path": "userName", "value": f"married-{who}@example.com"}
    body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [rename]}
    world.server.call("PATCH", f"Users/{who}", body)
    world.connector.revoke([replace(given, handle={})], yes)
    assert world.members(world.groups[0]) == {who}
    [held] = world.connector.observe(None).holdings
    assert held.account == f"married-{who}@example.com"  # where reconciliation finds it
    world.connector.revoke([given], yes)
    assert world.members(world.groups[0]) == set()


def test_nothing_is_given_to_who_is_not_active_there_and_it_can_be_taken(world):
    [given] = give(world.connector, order(world))
    who = world.people[world.accounts[0]]
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "path": "active", "value": False}],
    }
    world.server.call("PATCH", f"Users/{who}", body)
    [outcome] = world.connector.provision([order(world, 0, world.groups[1])], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.no-such-account")
    assert world.connector.revoke([given], yes)[0].result == "done"
    assert world.members(world.groups[0]) == set()


def test_two_groups_of_one_name_are_nobodys(world):
    second = world.make_group(world.groups[0])
    [outcome] = world.connector.provision([order(world)], yes)
    assert outcome.code == "target.no-such-privilege"
    assert any("or there are several" in problem for problem in world.connector.check().problems)
    world.server.call("DELETE", f"Groups/{second}")


def test_a_service_that_takes_one_change_at_a_time_is_served_so(world, front):
    def rule(method, path, body):
        if method != "PATCH":
            return None
        many = sum(len(each.get("value") or [0]) for each in body["Operations"]) > 1
        return no(400, "tooMany") if many else None

    front.rule = rule
    given = give(through(world, front), order(world), order(world, 1, ticket="T-2"))
    assert world.members(world.groups[0]) == set(world.people.values())
    assert [o.result for o in through(world, front).revoke(given, yes)] == ["done", "done"]
    assert world.members(world.groups[0]) == set()


def test_a_no_to_what_is_so_already_is_no_failure(world, front):
    [given] = give(world.connector, order(world))
    front.rule = lambda method, path, body: no(409, "uniqueness") if method == "PATCH" else None
    connector = through(world, front)
    assert connector.provision([given], yes)[0].result == "done"
    [outcome] = connector.revoke([given], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.rejected")
    assert "409 uniqueness" in outcome.message


def test_a_right_that_is_missing_is_a_rejection_and_harms_no_other_group(world, front):
    mine = world.numbers[world.groups[0]]
    front.rule = lambda method, path, body: no(403) if method == "PATCH" and mine in path else None
    outcomes = through(world, front).provision(
        [order(world), order(world, 0, world.groups[1], ticket="T-2")], yes
    )
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.not-allowed"), ("done", "")]


@pytest.mark.parametrize("filters", [1, 20])
def test_names_are_looked_up_together_where_the_service_knows_or(world, front, filters):
    connector = through(world, front, filters=filters)
    given = give(connector, order(world), order(world, 1, ticket="T-2"))
    assert len(front.of("GET", "/Users")) == (2 if filters == 1 else 1)
    assert connector.observe(world.accounts).of(world.accounts[1]) == given[1].scope
    assert not any("filters" in problem for problem in connector.check().problems)


def test_checking_reads_no_more_people_than_it_looks_up_together(world, front):
    """Here of a service with three of them that gives one at a time."""

    def one(method, path, body):
        everybody = method == "GET" and "/Users?" in path and "filter=" not in path
        return path.replace("count=2", "count=1") if everybody else None

    front.rule = one
    third = world.make_user("third-person@example.com")
    try:
        report = through(world, front, filters=2).check()
    finally:
        world.server.call("DELETE", f"Users/{third}")
    assert not any("filters" in problem for problem in report.problems)
    queries = [urlsplit(path).query for path, *_ in front.of("GET", "/Users?") if "filter=" not in path]
    assert queries == ["startIndex=1&count=2", "startIndex=2&count=2"]


def test_what_a_service_gives_beside_what_was_asked_for_does_not_count(world, front):
    """One that ignores filters gives everything."""
    give(world.connector, order(world), order(world, 1, world.groups[1], ticket="T-2"))
    front.rule = lambda method, path, body: (
        urlsplit(path).path + "?startIndex=1&count=100" if "filter=" in path else None
    )
    assert through(world, front).observe([world.accounts[0]]).holdings == (
        world.connector.observe([world.accounts[0]]).holdings
    )


def empty(method, path, body):
    if "members.value" in path:
        return 200, {}, b'{"totalResults": 0}'
    return None


def unknown(method, path, body):
    return no(400, "invalidFilter") if "members.value" in path else None


@pytest.mark.parametrize("rule", [empty, unknown])
def test_a_service_that_finds_no_groups_by_member_is_found_out_and_read_whole(world, front, rule):
    front.rule = rule
    give(world.connector, order(world))
    assert any('memberships = "groups"' in problem for problem in through(world, front).check().problems)
    whole = through(world, front, memberships="groups")
    assert not any("memberships" in problem for problem in whole.check().problems)
    assert whole.observe([world.accounts[0]]).of(world.accounts[0]) == world.privileges[:1]
    world.nest(*world.privileges)
    assert whole.brings(world.privileges[:1]) == world.privileges[1:]


def test_a_service_that_knows_no_or_is_found_out(world, front):
    front.rule = lambda method, path, body: (200, {}, b'{"totalResults": 0}') if " or " in path else None
    assert any("filters = 1" in problem for problem in through(world, front, filters=5).check().problems)


def test_check_says_when_our_token_may_do_more_than_it_needs(world, front):
    assert any("may change accounts" in problem for problem in world.connector.check().problems)
    front.rule = lambda method, path, body: no(403) if method == "PATCH" and "/Users/" in path else None
    report = through(world, front).check()
    assert report.reachable
    assert report.problems == ()
    assert all("00000000-0000" in path for path, *_ in front.of("PATCH"))  # nobody is changed by asking


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {}, b""), "refused our token"), ((404, {}, b"<html>not here</html>"), "does not speak like SCIM"),
        ((200, {}, b"[" * 100_000), "does not speak like SCIM"), ((503, {}, b""), "answered 503"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "a redirect, which is not followed"),
    ],
)  # fmt: skip
def test_a_bad_answer_is_no_sign_that_something_is_gone_and_quotes_no_secret(world, front, answer, words):
    front.rule = lambda method, path, body: answer
    connector = through(world, front)
    for call in (lambda: connector.observe(None), lambda: connector.revoke([order(world)], yes)):
        with pytest.raises(TargetUnavailable, match=words) as caught:
            call()
        assert (
            world.server.token
            not in f"{caught.value.message} {caught.value.remedy} {caught.value.__cause__!r}"
        )
    assert not connector.check().reachable or connector.check().problems


def test_an_id_leads_us_to_no_other_place(world, front):
    group = {"id": "../Users", "displayName": world.groups[0]}
    page = json.dumps({"totalResults": 1, "Resources": [group]}).encode()
    front.rule = lambda method, path, body: (200, {}, page) if path.startswith("/v2/Groups?") else None
    through(world, front).provision([order(world)], yes)
    [(path, _, _)] = front.of("PATCH")
    assert path == "/v2/Groups/../Users"  # as one segment: unquoted here
    front.rule = lambda method, path, body: (
        (200, {}, page.replace(b"../Users", b"..")) if path.startswith("/v2/Groups?") else None
    )
    with pytest.raises(TargetUnavailable, match="no path can hold"):
        through(world, front).provision([order(world)], yes)


def test_our_own_endpoint_takes_a_member_out_in_either_way():
    """As the RFC names it, and as Entra ID does; whoever else is in the group stays."""
    with servers.running(MunimentServer, "muniment") as server, Proxy(server.port) as proxy:
        for remove in ("path", "value"):
            world = ScimHarness(server, proxy)
            connector = world.make(remove=remove, timeout="20s")
            given = give(connector, order(world), order(world, 1, ticket="T-2"))
            assert connector.revoke(given[:1], yes)[0].result == "done"
            assert world.members(world.groups[0]) == {world.people[world.accounts[1]]}
            world.clear()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://saas.example.com/scim/v2"}, "in clear text"),
        ({"url": "saas.example.com"}, "not an http"),
        ({"url": "https://u:p@saas.example.com"}, "not an http"),
        ({"filters": 0}, "filters is 0"),
        ({"filters": 1000}, "filters is 1000"),
        ({"remove": "all"}, "remove"),
        ({"account_attribute": "emails"}, "account_attribute"),
        ({"timeout": "soon"}, "soon"),
    ],
)
def test_settings_that_cannot_be_meant(world, settings, message):
    with pytest.raises(Misconfigured, match=message):
        world.make(**settings)
