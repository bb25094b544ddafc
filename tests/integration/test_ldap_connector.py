"""What directories in particular do, against a real slapd; the conformance suite asks the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import servers
from muniment.conformance.grounds.ldap import (
    GROUPS,
    MANAGER,
    MANAGERS,
    PEOPLE,
    SECRET,
    US,
    LdapHarness,
    Slapd,
    directory,
    must,
)
from muniment.conformance.harness import yes
from muniment.conformance.office import office
from muniment.conformance.proxy import Proxy
from muniment.connectors.kinds import build_connector
from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order
from muniment.service.filing import Ask, preview


@pytest.fixture(scope="module")
def slapd():
    with servers.running(Slapd, "slapd") as server:
        yield server


@pytest.fixture
def world(slapd):
    with Proxy(slapd.port) as proxy:
        made = LdapHarness(slapd, proxy)
        yield made
        made.close()


def order(world, account: str, *groups: str, ticket: str = "T-1") -> Order:
    wanted = scope(Privilege(privilege=each) for each in groups or world.groups[:1])
    return Order(
        ticket=ticket, account=account, scope=wanted, expires_at=datetime.now(UTC) + timedelta(hours=1)
    )


@pytest.mark.parametrize(
    "spelling", [str.upper, str.title, lambda name: f"{name}*", lambda name: f"{name[:-1]}*"]
)
def test_a_name_in_another_spelling_is_another_name(world, spelling):
    """A directory takes ANN1 for ann1. An approval of one must not reach the other (F18)."""
    before = world.everything()
    for wrong in (
        order(world, spelling(world.accounts[0])),
        order(world, world.accounts[0], spelling(world.groups[0])),
    ):
        [outcome] = world.connector.provision([wrong], yes)
        assert outcome.result == "rejected"
        assert outcome.code in {"target.no-such-account", "target.no-such-privilege"}
        assert world.connector.revoke([wrong], yes)[0].result == "done"
    assert world.everything() == before


def test_a_name_that_two_people_have_is_nobodys(world):
    twin = f"cn=twin,{PEOPLE}"
    with world.server.manager() as session:
        name = world.accounts[0]
        must(session.add(twin, {"objectClass": ["inetOrgPerson"], "uid": name, "cn": "twin", "sn": "twin"}))
    [outcome] = world.connector.provision([order(world, world.accounts[0])], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.no-such-account")


def test_the_last_member_leaves_a_placeholder_that_counts_for_nobody(world):
    given = order(world, world.accounts[0])
    world.connector.provision([given], yes)
    with world.server.manager() as session:  # somebody removes everybody else
        change = {"member": [("MODIFY_DELETE", [world.placeholder])]}
        must(session.modify(world.group(world.groups[0]), change))
    assert world.connector.revoke([given], yes)[0].result == "done"
    [group] = [entry for entry in world.entries(GROUPS) if entry.values("cn") == world.groups[:1]]
    assert group.values("member") == (world.placeholder,)
    assert world.connector.observe(None).holdings == ()


def test_a_group_is_changed_with_many_members_at_once(world):
    names = [f"many{number}" for number in range(700)]
    with world.server.manager() as session:
        for name in names:
            person = {"objectClass": ["inetOrgPerson"], "uid": name, "cn": name, "sn": name}
            must(session.add(world.person(name), person))
    orders = [order(world, name, ticket=f"T-{name}") for name in names]
    connector = world.make(timeout="60s")
    assert {outcome.result for outcome in connector.provision(orders, yes)} == {"done"}
    seen = connector.observe(None)
    assert {h.account for h in seen.holdings} == set(names)
    # one of them is gone already, and one was never there: the others go all the same
    world.take(names[3], world.privileges[0])
    world.delete_account(names[5])
    assert {outcome.result for outcome in connector.revoke(orders, yes)} == {"done"}
    assert connector.observe(None).holdings == ()


def test_groups_in_groups_are_followed_to_the_end_and_round(world):
    with world.server.manager() as session:
        for number in range(4):
            name = f"level{number}"
            inner = world.group(f"level{number - 1}") if number else world.group(world.groups[0])
            attributes = {"objectClass": ["groupOfNames"], "cn": name, "member": [world.placeholder, inner]}
            must(session.add(world.group(name), attributes))
        circle = {"member": [("MODIFY_ADD", [world.group("level3")])]}
        must(session.modify(world.group("level0"), circle))
    brought = scope(Privilege(privilege=f"level{number}") for number in range(4))
    assert world.connector.brings(world.privileges[:1]) == brought
    assert world.connector.brings(world.privileges[1:]) == ()


def test_who_asks_is_told_what_a_group_brings(world):
    world.nest(*world.privileges)
    with office(world) as o:
        o.liar.brings = world.connector.brings  # the office's own way to the connector
        caller = o.desk.caller("human:ann@example.com", "test")
        ask = Ask(
            target="target", scope=world.privileges[:1], justification="to see", duration=timedelta(hours=1)
        )
        assert preview(o.desk, caller, ask).effective_scope == scope(world.privileges)


def test_our_account_may_do_what_it_needs_and_nothing_else(world):
    connector = world.make()
    connector._catalogue = world.groups
    report = connector.check()
    assert report.reachable
    assert report.problems == ()
    assert f'by dn.exact="{US}" write' in report.least_privilege
    with directory(world.server.port, US, SECRET).session() as session:
        person = world.person(world.accounts[0])
        assert session.modify(person, {"sn": [("MODIFY_REPLACE", ["x"])]}) == 50
        assert session.search(person, "(userPassword=*)", ["userPassword"]) == []
        assert session.delete(world.group(world.groups[0])) == 50
        group = {"objectClass": ["groupOfNames"], "cn": "mine", "member": person}
        assert session.add(world.group("mine"), group) == 50


def test_check_says_what_is_missing_and_what_is_too_much(world, slapd):
    with slapd.manager() as session:
        must(session.modify(world.person(world.accounts[0]), {"userPassword": [("MODIFY_ADD", ["secret"])]}))
    mighty = world.make(bind_dn=MANAGER)
    mighty._catalogue = (*world.groups, "nowhere")
    mighty._directory = directory(slapd.port, MANAGER, MANAGERS)
    problems = " ".join(mighty.check().problems)
    assert "There is no group nowhere" in problems
    assert "may look at the passwords of people" in problems
    weak = world.make(groups=f"ou=elsewhere,{PEOPLE}", grants=f"ou=none,{PEOPLE}")
    problems = " ".join(weak.check().problems)
    assert f"There is no entry ou=elsewhere,{PEOPLE} that we may read" in problems


def test_check_says_where_we_may_not_write(world):
    """Groups below ``people``: there our account may read names, and write nothing."""
    connector = world.make(groups=PEOPLE)
    with world.server.manager() as session:
        group = {
            "objectClass": ["groupOfNames"],
            "cn": "locked",
            "uid": "locked",
            "member": world.placeholder,
        }
        must(session.add(f"cn=locked,{PEOPLE}", group | {"objectClass": ["groupOfNames", "uidObject"]}))
    connector._catalogue = ("locked",)
    problems = " ".join(connector.check().problems)
    assert "no group locked" in problems or "may not change who is in locked" in problems


def test_a_wrong_password_is_said_and_not_shown(world):
    connector = build_connector(
        "ldap",
        name="ldap-test",
        settings=world.settings,
        secret=lambda _: "not-the-password",
        path=str,
        catalogue=(),
    )
    with pytest.raises(TargetUnavailable) as caught:
        connector.observe(None)
    said = f"{caught.value!r} {caught.value.remedy} {caught.value.__cause__!r}"
    assert "refused our name or password" in said
    assert "env:LDAP" in said
    assert "not-the-password" not in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ldap://ldap.example.com"}, "in clear"),
        ({"url": "http://ldap.example.com"}, "not that of a directory"),
        ({"url": "ldaps://"}, "not that of a directory"),
        ({"profile": "novell"}, "Invalid enum value"),
        ({"profile": "active_directory", "grants": PEOPLE}, "dds"),
        ({"timeout": "soon"}, "soon"),
        ({"filter": "(uid=*)"}, "filter"),
    ],
)
def test_settings_that_cannot_be_meant(world, settings, message):
    with pytest.raises(Misconfigured) as caught:
        world.make(**settings)
    assert message in f"{caught.value.message} {caught.value.remedy}"


def test_groups_in_groups_are_listed_and_their_members_are_not_there_twice(world):
    first, second = (Privilege(privilege=each) for each in world.groups[:2])
    world.hold(world.accounts[0], first)
    world.nest(first, second)
    connector = world.make()
    assert {(each.inner, each.outer) for each in connector.nested()} == {(first.privilege, second)}
    seen = connector.observe(None)
    assert {(h.account, h.privilege) for h in seen.holdings} == {(world.accounts[0], first.privilege)}
