"""The read models are nobody's authority: what foreign SQL puts there gives nobody anything (I11)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import insert, update

from evidence.office import Office
from muniment.config import load
from muniment.core import events as e
from muniment.core.delegation import Delegation
from muniment.core.errors import IntegrityError, NotFound
from muniment.core.instants import wire
from muniment.core.scope import Privilege
from muniment.ledger.entry import Actor as EntryActor
from muniment.ledger.entry import Entry
from muniment.main import open_desk
from muniment.service import delegating
from muniment.service.authority import in_force
from muniment.service.holding import Holdings
from muniment.service.standing import POLICY_STREAM, Adopted
from muniment.store import tables as t
from muniment.store.projecting import ticket_row
from service.changes import oblige, ticket
from service.test_authority import BO, CYD, DAY, delegate


def run(office: Office, *statements: Any) -> None:
    with office.desk.store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        for statement in statements:
            connection.execute(statement)


def a_row(stream: str, event: e.Event) -> Any:
    row = {"stream": stream, "version": 1, "head": "sha256:aa", "kind": event.kind}
    return insert(t.registry).values(**row, data=e.encode_data(event))


def forged(office: Office) -> e.DelegationGiven:
    """Cyd never said so."""
    now = office.clock.at
    given = Delegation(id="dlg_x", by=CYD, to=BO, starts_at=wire(now), ends_at=wire(now + DAY))
    return e.DelegationGiven(delegation=given, reason="sha256:" + "0" * 64)


def test_a_delegation_that_is_only_a_row_lets_nobody_decide(office: Office) -> None:
    asked = office.ask()
    run(office, a_row("delegation:dlg_x", forged(office)))
    assert in_force(office.desk, office.clock.at) == ()
    with pytest.raises(NotFound):
        office.approve(asked, "bo")
    office.approve(asked, "cyd")  # and holds up nobody
    office.give(asked)
    assert office.status(asked) == "active"


def test_nor_does_one_with_an_entry_that_we_did_not_write(office: Office) -> None:
    asked, event = office.ask(), forged(office)
    body = Entry(
        log=office.desk.store.origin, ticket="delegation:dlg_x", seq=0, prev=None, type=event.kind,
        actor=EntryActor(id=CYD, via="local"), at=wire(office.clock.at), data=msgspec.Raw(e.encode_data(event)),
    ).encode()  # fmt: skip
    row = {"stream": "delegation:dlg_x", "seq": 0, "body": body, "mark": b"\xff" * 32}
    run(office, a_row("delegation:dlg_x", event), insert(t.event).values(**row))
    with pytest.raises(IntegrityError):
        office.approve(asked, "bo")
    assert office.status(asked) == "pending"


def test_nor_does_one_that_was_taken_back_and_is_put_back_as_a_row(office: Office) -> None:
    asked, given = office.ask(), delegate(office)
    before = forged(office)
    delegating.end(office.desk, office.caller("cyd"), given.id)
    again = e.encode_data(replace(before, delegation=given))
    here = t.registry.c.stream == f"delegation:{given.id}"
    run(office, update(t.registry).where(here).values(kind=before.kind, data=again))
    with pytest.raises(NotFound):
        office.approve(asked, "bo")


def test_a_ticket_that_only_the_read_model_calls_active_holds_nothing(office: Office) -> None:
    real, asked = office.ask(), office.ask("web-admin", who="bo")
    office.approve(real)
    office.give(real)
    active, pending = ticket(office, real), ticket(office, asked)
    seen = replace(active, id=asked, version=99, terms=pending.terms)
    assert seen.expiry
    run(office, update(t.ticket).where(t.ticket.c.id == asked).values(**ticket_row(seen)))
    index = Holdings(office.desk)
    index.start()
    try:
        what, now = Privilege(privilege="web-admin"), office.clock.at
        assert index.check(active.terms.beneficiary, "bastion", what, now)
        assert index.check(BO, "bastion", what, now) is None
        assert len(index) == 1
    finally:
        index.stop()


def test_an_unreadable_directory_is_replaced_by_entries_alone(office: Office) -> None:
    """While the file cannot be read, people are those on record; a row makes nobody an operator."""
    ann = office.desk.directory.get("human:ann@example.com")
    assert ann
    mallory = replace(ann, id="human:mallory@example.com", roles=("operator",), aliases=())
    operator = e.IdentityRecorded(identity=replace(ann, roles=("operator",)))
    here = t.registry.c.stream == f"identity:{ann.id}"
    run(
        office,
        a_row(f"identity:{mallory.id}", e.IdentityRecorded(identity=mallory)),
        update(t.registry).where(here).values(data=e.encode_data(operator)),
    )
    (office.folder / "identities.toml").unlink()
    desk = open_desk(load(office.folder / "muniment.toml"), clock=office.clock)
    try:
        assert desk.directory.get(mallory.id) is None
        assert desk.directory.get(ann.id) == ann
    finally:
        desk.store.engine.dispose()


def test_policies_that_were_replaced_are_not_put_back_by_a_row(office: Office) -> None:
    """A process that runs on learns of an adoption by the entries, not by a row that says how many there are."""
    adopted = Adopted(office.desk.store)
    before = adopted.now()
    oblige(office, '@approvers("owners")\n@max_duration("3h")')
    here = t.registry.c.stream == POLICY_STREAM
    run(office, update(t.registry).where(here).values(version=before.version))
    adopted.look_again()
    assert adopted.now().policy == office.desk.policy.digest != before.policy
