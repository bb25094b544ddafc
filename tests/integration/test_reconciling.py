"""On real servers: what somebody plants there is found, each with the holding that proves it, and nothing else is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

import servers
from muniment.conformance.grounds.ldap import LdapHarness, Slapd
from muniment.conformance.grounds.openssh import SshHarness
from muniment.conformance.grounds.postgresql import PostgresHarness
from muniment.conformance.grounds.ssh_host import Server as HostServer
from muniment.conformance.grounds.ssh_host import SshHostHarness
from muniment.conformance.harness import Harness, yes
from muniment.conformance.office import HOUR, Office, office
from muniment.conformance.proxy import Proxy
from muniment.core.errors import NotFound, Refused, TargetRejected
from muniment.core.inventory import read
from muniment.ports import Claim, Order
from muniment.reconcile.baseline import drafted
from muniment.service import reconciling, removing
from muniment.service.desk import CONTROLLER
from muniment.store.inventories import SqlInventories


@contextmanager
def postgres(server) -> Iterator[Harness]:
    made = PostgresHarness(server)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def ldap(_: object) -> Iterator[Harness]:
    with servers.running(Slapd, "slapd") as server, Proxy(server.port) as proxy:
        made = LdapHarness(server, proxy)
        yield made
        made.close()


@contextmanager
def at(h: Harness) -> Iterator[Office]:
    """An office whose connector is the real one, not the one that lies."""
    with office(h) as made:
        target = replace(made.desk.targets["target"], connector=h.connector)
        made.desk = dataclasses.replace(made.desk, targets={"target": target})
        yield made


def run(o: Office) -> reconciling.Run:
    o.clock.at += reconciling.MARGIN
    return reconciling.reconcile(o.desk, CONTROLLER, o.desk.targets["target"])


def found(made: reconciling.Run) -> set[tuple[str, str, str, bool]]:
    return {(f.type, f.item.account, f.item.privilege, f.item.nested) for f in made.findings}


def declare_what_is_there(o: Office) -> None:
    """The first inventory becomes the baseline: what a server has from the beginning."""
    made = run(o)
    items = [f.item for f in made.findings]
    text = drafted(items, "target", owner="human:dee@example.com", until="2099-01-01", reason="as found")
    o.desk = dataclasses.replace(o.desk, baseline=lambda: text)
    after = run(o)
    assert after.findings == ()
    assert (after.made.unexplained, after.made.baseline) == (0, made.made.unexplained)


def whole_life(o: Office, h: Harness, *, nests: bool) -> None:
    first, second = h.privileges
    ann, bea = h.accounts
    declare_what_is_there(o)

    ticket = o.active()
    made = run(o)
    assert (made.made.ticketed, found(made)) == (1, set()), "a ticket's own grant is no finding"

    h.hold(bea, second)
    made = run(o)
    assert found(made) == {("excess", bea, second.privilege, False)}, "an addition past us"
    [excess] = made.findings
    lines = {read(line) for line in inventory_lines(o, made)}
    assert excess.item in lines, "the finding names the line that proves it"
    assert run(o).raised == (), "the same finding in every run"

    if nests:
        h.nest(first, second)
        made = run(o)
        assert found(made) == {
            ("excess", bea, second.privilege, False), ("excess", first.privilege, second.privilege, True)
        }, "a privilege put into another"  # fmt: skip
        assert made.inherited["unexplained"] >= 1, "ann has the second one by the first"

    h.take(ann, first)
    made = run(o)
    gone = [f for f in made.findings if f.type == "vanished"]
    assert [(f.item.account, f.reference) for f in gone] == [(ann, ticket)], "a removal past us"

    h.take(bea, second)
    over = run(o)
    assert excess.id in over.resolved, "what is gone is over"
    assert found(over) - {("vanished", ann, first.privilege, False)} == (
        {("excess", first.privilege, second.privilege, True)} if nests else set()
    )
    o.give_back(ticket)
    o.settle()
    assert gone[0].id in run(o).resolved, "and so is what a ticket that has ended should have given"


def taken_away(o: Office, h: Harness, plant: Callable[[], object]) -> None:
    """What nobody explains is taken away by an order; what a ticket has come to explain by then is not."""
    second = h.privileges[1]
    ann, bea = h.accounts
    declare_what_is_there(o)
    dee, hers = o.desk.caller("human:dee@example.com", "test"), o.desk.caller("human:bea@example.com", "test")
    plant()
    [name] = run(o).raised
    with pytest.raises(NotFound):
        removing.remove(o.desk, hers, name, "mine")
    assert h.holds(bea) == (second,)
    before = h.holds(ann)
    done = removing.remove(o.desk, dee, name, "nobody knows it")
    assert (done["status"], done["outcome"], done["removal_by"]) == ("resolved", "gone", dee.identity.id)
    assert (h.holds(bea), h.holds(ann)) == ((), before)
    with pytest.raises(Refused):
        removing.remove(o.desk, dee, name, "again")

    plant()
    assert run(o).raised == (name,)
    drift = reconciling.read_drift(o.desk, name)[1]
    assert drift is not None
    assert drift.removal_by is None, "found again, it takes another order"
    text = o.desk.baseline()
    item = drift.item
    more = drafted(
        [item], "target", owner="human:dee@example.com", until="2099-01-01", reason="agreed meanwhile"
    )
    o.desk = dataclasses.replace(o.desk, baseline=lambda: f"{text}\n{more}")
    assert removing.carry_out(o.desk, o.desk.targets["target"], [drift]) == {}
    assert h.holds(bea) == (second,), "it is explained by now"
    o.desk = dataclasses.replace(o.desk, baseline=lambda: text)
    claim = Claim(key=f"target/{bea}", holder="somebody", seconds=600)
    lease = o.desk.store.claim([claim])[claim.key]
    assert set(removing.carry_out(o.desk, o.desk.targets["target"], [drift])) == {name}, (
        "another worker is at it"
    )
    assert h.holds(bea) == (second,)
    o.desk.store.release([lease])
    assert removing.again(o.desk, o.desk.targets["target"]) == {}, "nobody ordered it"
    assert h.holds(bea) == (second,)
    removing.remove(o.desk, dee, name, "still nobody knows it")
    assert h.holds(bea) == ()


def test_taken_away_on_postgresql(any_postgres) -> None:
    """By somebody who has our own credentials there."""
    with postgres(any_postgres) as h, at(h) as o:
        order = Order(
            ticket="nobody's", account=h.accounts[1], scope=(h.privileges[1],), expires_at=h.now() + HOUR
        )
        taken_away(o, h, lambda: h.connector.provision([order], yes))


def test_what_others_gave_is_theirs_to_take_on_postgresql(any_postgres) -> None:
    """PostgreSQL says who gave a membership, and the connector ends what we gave (I17)."""
    with postgres(any_postgres) as h, at(h) as o:
        bea, second = h.accounts[1], h.privileges[1]
        declare_what_is_there(o)
        h.hold(bea, second)
        [name] = run(o).raised
        dee = o.desk.caller("human:dee@example.com", "test")
        with pytest.raises(TargetRejected) as refused:
            removing.remove(o.desk, dee, name, "nobody knows it")
        assert "given by postgres" in refused.value.message
        assert set(removing.again(o.desk, o.desk.targets["target"])) == {name}, "it is tried again"
        h.take(bea, second)
        assert run(o).resolved == (name,)
        assert removing.again(o.desk, o.desk.targets["target"]) == {}


def test_taken_away_in_openldap() -> None:
    """No directory says who gave a membership."""
    with ldap(None) as h, at(h) as o:
        taken_away(o, h, lambda: h.hold(h.accounts[1], h.privileges[1]))


def inventory_lines(o: Office, made: reconciling.Run) -> list[bytes]:
    return list(SqlInventories(o.desk.store.engine).lines(made.inventory.id))


def test_postgresql(any_postgres) -> None:
    with postgres(any_postgres) as h, at(h) as o:
        whole_life(o, h, nests=True)


def test_orphans_and_attributes_on_postgresql(any_postgres) -> None:
    with postgres(any_postgres) as h, at(h) as o:
        declare_what_is_there(o)
        ghost = f"ghost{h.n}"
        h.sql("CREATE ROLE {} LOGIN", ghost)
        assert found(run(o)) == set(), "an account that holds nothing is no finding"
        h.sql("GRANT {} TO {}", h.roles[0], ghost)
        h.sql("ALTER ROLE {} CREATEDB", h.accounts[0])
        assert found(run(o)) == {
            ("orphan", ghost, h.roles[0], False), ("excess", h.accounts[0], "CREATEDB", False)
        }  # fmt: skip
        h.sql("DROP ROLE {}", ghost)
        h.sql("ALTER ROLE {} NOCREATEDB", h.accounts[0])
        assert found(run(o)) == set()


def test_openldap() -> None:
    with ldap(None) as h, at(h) as o:
        whole_life(o, h, nests=True)


def test_hosts_over_ssh() -> None:
    """A real sshd, with its principals and sudo's rules."""
    with servers.running(HostServer, "ssh-host") as server, Proxy(server.port) as proxy:
        h = SshHostHarness(server, proxy)
        with at(h) as o:
            whole_life(o, h, nests=False)


def test_certificates(tmp_path: Path) -> None:
    """Nobody takes a certificate from the register without revoking it, so removals are not tried here."""
    servers.require("sshd")
    h = SshHarness(tmp_path)
    with at(h) as o:
        declare_what_is_there(o)
        ticket = o.active()
        assert found(run(o)) == set()
        h.hold(h.accounts[1], h.privileges[1])
        made = run(o)
        assert found(made) == {("excess", h.accounts[1], h.privileges[1].privilege, False)}
        # another certificate for what a ticket gives already is another grant
        h.hold(h.accounts[0], h.privileges[0])
        more = run(o)
        assert len(more.findings) == 2
        assert ticket not in {f.item.ticket for f in more.findings}
