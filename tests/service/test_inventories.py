"""Inventories of a real certificate authority: what is recorded, what is kept, and who may have one taken."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import update

import faulty
from evidence.office import Office, altered
from muniment.controllers.reconcile import AGAIN, Reconciling
from muniment.core.errors import IntegrityError, NotFound, Refused, TargetUnavailable
from muniment.core.events import InventoryTaken
from muniment.core.inventory import Nested
from muniment.core.scope import Privilege
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.service import inventories
from muniment.service.desk import CONTROLLER
from muniment.store import tables as t
from muniment.store.inventories import PART, SqlInventories
from muniment.store.rebuild import differences, rebuild
from service.changes import sound

HOUR = timedelta(hours=1)


def take(office: Office) -> inventories.Inventory:
    office.later(1)
    return inventories.take(office.desk, CONTROLLER, office.desk.targets["bastion"]).inventory


def on_record(office: Office) -> list[InventoryTaken]:
    return [r.event for r in office.desk.store.entries("inventory:bastion")]


def test_what_is_held_is_counted_and_listed(office: Office) -> None:
    ticket = office.active()
    taken = take(office)
    assert on_record(office) == [taken.taken]
    assert (taken.taken.holdings, taken.taken.accounts, taken.taken.nested) == (1, 1, 0)
    assert taken.taken.complete
    shown = inventories.shown(office.desk, office.caller("aud"), "bastion")
    [item] = shown["items"]
    assert (item["account"], item["privilege"], item["ticket"]) == ("ann", "web-admin", ticket)
    assert (shown["inventory"], shown["by"], shown["kept"]) == (taken.id, "system:muniment", True)
    sound(office)


def test_an_empty_target_has_an_inventory_too(office: Office) -> None:
    assert take(office).taken.holdings == 0
    assert inventories.shown(office.desk, office.caller("aud"), "bastion")["items"] == []


def test_a_reading_that_is_not_complete_says_so(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.active()
    whole = office.target.observe
    monkeypatch.setattr(office.target, "observe", lambda accounts: replace(whole(accounts), complete=False))
    assert not take(office).taken.complete


def test_a_target_that_never_tells_everything_has_no_complete_inventory(office: Office) -> None:
    office.target.capabilities = replace(office.target.capabilities, lists_everything=False)
    assert not take(office).taken.complete


def test_a_target_that_does_not_answer_leaves_no_record(office: Office) -> None:
    office.target.arrange("observe", faulty.unavailable_before())
    with pytest.raises(TargetUnavailable):
        take(office)
    assert on_record(office) == []
    assert SqlInventories(office.desk.store.engine).kept("bastion") == set()


def test_lines_of_two_complete_inventories_are_kept(office: Office) -> None:
    office.active()
    taken = [take(office).id for _ in range(4)]
    assert SqlInventories(office.desk.store.engine).kept("bastion") == set(taken[-2:])
    known = inventories.listed(office.desk, office.caller("aud"), "bastion")
    assert [(each["inventory"], each["kept"]) for each in known] == [
        (taken[3], True), (taken[2], True), (taken[1], False), (taken[0], False)
    ]  # fmt: skip
    assert inventories.shown(office.desk, office.caller("aud"), "bastion", taken[0])["items"] == []


def test_what_a_crash_left_is_deleted_by_the_next_one(office: Office) -> None:
    SqlInventories(office.desk.store.engine).keep("bastion", "inv_nobody", [b"x"])
    taken = take(office)
    assert SqlInventories(office.desk.store.engine).kept("bastion") <= {taken.id}


def test_lines_that_somebody_changed_are_not_shown(office: Office) -> None:
    office.active()
    taken, other = take(office), SqlInventories(office.desk.store.engine)
    other.keep("bastion", "inv_forged", [b'{"account":"bo","privilege":"web-admin"}'])
    with office.desk.store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        body = connection.execute(
            t.inventory_part.select().where(t.inventory_part.c.inventory == "inv_forged")
        ).one()
        connection.execute(
            update(t.inventory_part).where(t.inventory_part.c.inventory == taken.id).values(body=body.body)
        )
    with pytest.raises(IntegrityError):
        inventories.shown(office.desk, office.caller("aud"), "bastion")


def test_many_lines_come_back_in_their_order(office: Office) -> None:
    kept = SqlInventories(office.desk.store.engine)
    many = [b"%07d" % n for n in range(2 * PART + 1)]
    kept.keep("bastion", "inv_many", many)
    assert list(kept.lines("inv_many")) == many


def test_privileges_in_privileges_are_listed(office: Office) -> None:
    office.target.nested = lambda: [Nested(inner="web-admin", outer=Privilege(privilege="root"))]
    assert take(office).taken.nested == 1
    [item] = inventories.shown(office.desk, office.caller("aud"), "bastion", privilege="root")["items"]
    assert item["nested"] is True


def test_pages_and_filters(office: Office) -> None:
    office.active()
    ticket = office.ask("root", who="bo")
    office.approve(ticket)
    office.approve(ticket, "dee")
    office.give(ticket)
    take(office)
    aud = office.caller("aud")
    first = inventories.shown(office.desk, aud, "bastion", limit=1)
    second = inventories.shown(office.desk, aud, "bastion", limit=1, after=int(first["next"]))
    assert [i["account"] for i in (*first["items"], *second["items"])] == ["ann", "bo"]
    assert second["next"] is None
    assert [i["account"] for i in inventories.shown(office.desk, aud, "bastion", account="bo")["items"]] == [
        "bo"
    ]


@pytest.mark.parametrize("who", ["ops", "cyd"])
def test_operators_and_owners_have_one_taken(office: Office, who: str) -> None:
    assert inventories.take_for(office.desk, office.caller(who), "bastion").by == f"human:{who}@example.com"


def test_auditors_look_and_others_see_nothing(office: Office) -> None:
    with pytest.raises(Refused):
        inventories.take_for(office.desk, office.caller("aud"), "bastion")
    for ask in (inventories.take_for, inventories.listed, inventories.shown):
        with pytest.raises(NotFound):
            ask(office.desk, office.caller("ann"), "bastion")
    assert on_record(office) == []
    with pytest.raises(NotFound):
        inventories.shown(office.desk, office.caller("aud"), "bastion")


def test_an_inventory_in_another_stream_is_a_fault(office: Office) -> None:
    take(office)
    log = office.log()
    at = next(n for n, raw in enumerate(log) if decode_entry(raw).type.startswith("inventory-"))
    for stream, sane in (("inventory:bastion", True), ("inventory:other", False), ("target:bastion", False)):
        rules = TicketRules()
        for index, raw in enumerate(altered(log, at, lambda entry, to=stream: entry.update(ticket=to))):
            rules.feed(index, raw, decode_entry(raw))
        assert rules.result().ok == sane, stream


@pytest.mark.parametrize(
    "wrong",
    [
        {"accounts": 2},
        {"accounts": 0},
        {"nested": -1},
        {"nested": 2},
        {"began_at": "2027-01-01T00:00:00.000000Z"},
    ],
)
def test_an_inventory_that_cannot_be_is_a_fault(office: Office, wrong: dict) -> None:
    office.active()
    take(office)
    log = office.log()
    rules = TicketRules()
    for index, raw in enumerate(altered(log, len(log) - 1, lambda entry: entry["data"].update(wrong))):
        rules.feed(index, raw, decode_entry(raw))
    assert not rules.result().ok


def test_rows_are_rebuilt_from_entries(office: Office) -> None:
    take(office)
    rebuild(office.desk.store)
    assert list(differences(office.desk.store)) == []


# ── on time ──


def test_each_target_is_asked_as_often_as_it_was_configured(office: Office) -> None:
    controller = Reconciling(office.desk, HOUR, "node")
    assert controller.due() == ["bastion"]
    controller.look("bastion")
    assert controller.due() == []
    office.later(3599)
    assert controller.due() == []
    office.later(1)
    assert controller.due() == ["bastion"]
    controller.look("bastion")
    assert len(on_record(office)) == 2


def test_a_target_that_does_not_answer_is_asked_again_after_a_while(office: Office) -> None:
    controller = Reconciling(office.desk, HOUR, "node")
    office.target.arrange("observe", faulty.unavailable_before())
    controller.look("bastion")
    assert controller.due() == []
    office.later(AGAIN.total_seconds())
    assert controller.due() == ["bastion"]
    controller.look("bastion")
    assert len(on_record(office)) == 1


def test_of_two_nodes_one_asks(office: Office) -> None:
    one, two = (Reconciling(office.desk, HOUR, node) for node in ("one", "two"))
    asked = office.target.observe

    def meanwhile(accounts):
        two.look("bastion")
        return asked(accounts)

    office.target.observe = meanwhile
    one.look("bastion")
    two.look("bastion")
    assert len(on_record(office)) == 1


def test_the_loop_takes_them_and_stops(office: Office) -> None:
    controller = Reconciling(office.desk, HOUR, "node")
    done = threading.Event()
    asked = office.target.observe

    def seen(accounts):
        try:
            return asked(accounts)
        finally:
            done.set()

    office.target.observe = seen
    controller.start()
    assert done.wait(30)
    assert controller.stop()
    assert len(on_record(office)) == 1
