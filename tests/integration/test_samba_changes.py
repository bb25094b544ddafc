"""What a real domain controller of Samba's says of changes, by DirSync; the conformance suite asks the rest of the connector."""

from __future__ import annotations

import pytest

import servers
from muniment.conformance.grounds.samba import AdHarness, Samba
from muniment.conformance.harness import order_for, provision
from muniment.conformance.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("active-directory")]


@pytest.fixture(scope="module")
def samba():
    with servers.running(Samba, "active-directory") as server:
        yield server


@pytest.fixture
def world(samba):
    with Proxy(636, samba.address) as proxy:
        made = AdHarness(samba, proxy)
        yield made
        made.close()


@pytest.fixture
def connector(world):
    return world.make(changes="dirsync", timeout="20s")


def noticed(connector, cookie):
    found = connector.changes(cookie)
    return found.cookie, found.changed


def test_who_asks_what_changed_goes_on_from_where_they_were(world, connector):
    assert connector.capabilities.change_feed
    cookie, changed = noticed(connector, None)
    assert changed  # since nobody knows when
    cookie, changed = noticed(connector, cookie)
    assert not changed
    first, second = world.privileges
    for which, change in enumerate(
        (
            lambda: world.hold(world.accounts[0], first),
            lambda: world.take(world.accounts[0], first),
            lambda: world.nest(first, second),
        )
    ):
        change()
        later, changed = noticed(connector, cookie)
        assert changed, which
        assert noticed(connector, cookie)[1]  # whoever lost an answer asks again
        cookie, changed = noticed(connector, later)
        assert not changed


def test_of_what_was_deleted_the_next_inventory_tells(world, connector):
    """Only who may replicate the domain hears of it, which is more than our account should."""
    given = provision(world, order_for(world, 0))
    cookie, _ = noticed(connector, None)
    world.delete_privilege(world.privileges[0])
    assert not noticed(connector, cookie)[1]
    assert connector.observe(None).of(given[0].account) == ()


def test_what_we_gave_ourselves_is_not_told_apart(world, connector):
    cookie, _ = noticed(connector, None)
    provision(world, order_for(world, 0))
    assert noticed(connector, cookie)[1]


def test_what_is_elsewhere_is_no_news(world, connector):
    cookie, _ = noticed(connector, None)
    with world.server.administrator() as session:
        change = {"description": [("MODIFY_REPLACE", ["x"])]}
        assert session.modify(world.person(world.accounts[0]), change) == 0
        members = {"member": [("MODIFY_ADD", [world.person(world.accounts[0])])]}
        assert session.modify("CN=Guests,CN=Builtin,DC=cs,DC=test", members) == 0
    assert not noticed(connector, cookie)[1]


@pytest.mark.parametrize("cookie", ["nonsense", "bm9uc2Vuc2U=", "%"])
def test_a_cookie_of_another_server_means_that_anything_may_have_changed(connector, cookie):
    later, changed = noticed(connector, cookie)
    assert changed
    assert not noticed(connector, later)[1]
