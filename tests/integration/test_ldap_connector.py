"""What directories in particular do, against a real slapd; the conformance suite asks the rest."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

import servers
from muniment.conformance.grounds.ldap import (
    GROUPS,
    LOG,
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
from muniment.controllers.reconcile import Reconciling
from muniment.controllers.watching import Watcher
from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order
from muniment.service.desk import CONTROLLER
from muniment.service.filing import Ask, preview
from muniment.service.reconciling import reconcile


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


# ── what changed ──


def noticed(connector, cookie):
    found = connector.changes(cookie)
    return found.cookie, found.changed


def test_who_asks_what_others_changed_goes_on_from_where_they_were(world):
    connector = world.make(changes=LOG, timeout="20s")
    assert connector.capabilities.change_feed
    cookie, changed = noticed(connector, None)
    assert changed  # since nobody knows when
    assert noticed(connector, cookie) == (cookie, False)
    world.hold(world.accounts[0], world.privileges[0])
    later, changed = noticed(connector, cookie)
    assert changed
    assert later > cookie
    assert noticed(connector, later) == (later, False)
    assert noticed(connector, cookie) == (later, True)  # whoever lost an answer asks again


def test_what_we_changed_ourselves_or_elsewhere_is_no_news(world):
    connector = world.make(changes=LOG, timeout="20s")
    cookie, _ = noticed(connector, None)
    given = order(world, world.accounts[0])
    for call in (connector.provision, connector.revoke):
        assert call([given], yes)[0].result == "done"
    with world.server.manager() as session:
        must(session.modify(world.person(world.accounts[0]), {"sn": [("MODIFY_REPLACE", ["x"])]}))
    later, changed = noticed(connector, cookie)
    assert (later > cookie, changed) == (True, False)


@pytest.mark.parametrize("how", ["deleted", "renamed", "made"])
def test_a_group_that_comes_or_goes_is_news(world, how):
    connector = world.make(changes=LOG, timeout="20s")
    cookie, _ = noticed(connector, None)
    if how == "deleted":
        world.delete_privilege(world.privileges[0])
    with world.server.manager() as session:
        if how == "made":
            attributes = {"objectClass": ["groupOfNames"], "cn": "new", "member": world.placeholder}
            must(session.add(world.group("new"), attributes))
        if how == "renamed":
            must(session.run(session._connection.modify_dn, world.group(world.groups[0]), "cn=other"))
    assert noticed(connector, cookie)[1]


@pytest.mark.parametrize(
    "cookie", ["nonsense", "20200101000000.000000Z", "*)(cn=*", "99991231235959.000000Z"]
)
def test_a_cookie_that_the_log_does_not_know_means_that_anything_may_have_changed(world, cookie):
    connector = world.make(changes=LOG, timeout="20s")
    known, _ = noticed(connector, None)
    later, changed = noticed(connector, cookie)
    assert changed
    assert later == known
    assert noticed(connector, later) == (later, False)


def test_a_log_that_we_may_not_read_is_said_so(world):
    connector = world.make(changes="cn=elsewhere", timeout="20s")
    with pytest.raises(TargetUnavailable, match="does not show us cn=elsewhere"):
        connector.changes(None)


def test_our_account_reads_who_changed_what_and_no_values(world):
    world.hold(world.accounts[0], world.privileges[0])
    with directory(world.server.port, US, SECRET).session() as session:
        found = session.search(LOG, "(reqStart=*)", ["*", "reqMod"], scope="LEVEL")
    assert {name for entry in found for name, values in entry.attributes.items() if values} == {
        "objectclass", "reqstart", "reqdn", "reqauthzid", "reqresult", "reqtype",
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{"changes": "dirsync"}, {"changes": "cn=x", "profile": "active_directory"}]
)
def test_a_record_of_changes_is_of_the_directorys_own_kind(world, settings):
    with pytest.raises(Misconfigured, match="does not fit"):
        world.make(**settings)


def test_what_somebody_changes_is_found_at_once_and_not_after_the_pause(world):
    connector = world.make(changes=LOG, timeout="20s")
    with office(world) as o:
        target = replace(o.desk.targets["target"], connector=connector)
        o.desk = dataclasses.replace(o.desk, targets={"target": target})
        reconciling = Reconciling(o.desk, timedelta(days=1), "node")
        watcher = Watcher(o.desk, timedelta(seconds=15), reconciling)
        later = timedelta(minutes=2)
        o.later(later)
        watcher.step()  # nobody knows what was before
        assert reconciling.due() == ["target"]
        o.later(later)
        reconciling.look("target")
        o.later(later)
        watcher.step()
        assert reconciling.due() == []
        world.hold(world.accounts[0], world.privileges[0])
        o.later(later)
        watcher.step()
        assert reconciling.due() == ["target"]
        o.later(later)
        reconciling.look("target")
        assert reconciling.due() == []
        again = reconcile(o.desk, CONTROLLER, target)
        assert again.raised == ()  # the run before has raised it
        [found] = again.findings
        assert (found.item.account, found.item.privilege) == (world.accounts[0], world.groups[0])


def test_a_target_that_changes_all_the_time_is_asked_for_everything_once_a_minute(world):
    connector = world.make(changes=LOG, timeout="20s")
    with office(world) as o:
        target = replace(o.desk.targets["target"], connector=connector)
        o.desk = dataclasses.replace(o.desk, targets={"target": target})
        woken = []
        watcher = Watcher(o.desk, timedelta(seconds=15), SimpleNamespace(wake=lambda *a: woken.append(a)))
        for step in range(9):
            (world.hold if step % 2 else world.take)(world.accounts[0], world.privileges[0])
            watcher.step()
            o.later(timedelta(seconds=15))
        assert len(woken) == 3
