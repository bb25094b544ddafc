"""State is the fold of the events: rebuilt rows equal the live ones, byte for byte (I24)."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace
from sqlalchemy import Table, delete, insert, select, text, update

from core.lives import LEAD, OWNER, authority, person
from muniment.core import commands as c
from muniment.store import rebuild as module
from muniment.store import tables as t
from muniment.store.events import SqlStore
from muniment.store.projecting import ticket_row
from muniment.store.rebuild import differences, rebuild
from store.stores import HandClock, Shelf, an_append, file_ticket, opened, write


def rows(store: SqlStore, table: Table = t.ticket) -> list[tuple]:
    with store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]


def ids(count: int) -> list[str]:
    return [f"req_{n:026d}" for n in range(count)]


def some(store: SqlStore, count: int = 5) -> None:
    for number, ticket_id in enumerate(ids(count)):
        stream, ticket = file_ticket(store, ticket_id)
        if number % 2:
            facts = c.Facts(actor=person(LEAD), accountable=(OWNER,), authority=authority(LEAD))
            write(store, stream, ticket, c.Approve(digest=ticket.digest), facts)
    store.append(an_append("policy", "not a ticket"))
    stream = store.append(an_append("target:pg", "old")).stream
    store.append(replace(an_append("target:pg", "new"), stream=stream))


DAMAGE = [
    update(t.ticket).values(status="closed"),
    update(t.ticket).values(due_at=None, action=None),
    update(t.ticket).values(state=b"{}"),
    update(t.ticket).values(state=b"\xff"),
    update(t.ticket).values(version=99),
    update(t.ticket).values(open_findings=3),
    update(t.ticket).values(requester="human:eve@example.com"),
    text("DELETE FROM ticket"),
    insert(t.ticket).values(
        id="req_never", version=1, status="active", requester="a", beneficiary="b", target="t", account="c", open_findings=0, kind="standard", state=b"{}"
    ),
    insert(t.ticket).values(
        id="another", version=1, status="active", requester="a", beneficiary="b", target="t", account="c", open_findings=0, kind="standard", state=b"{}"
    ),
    update(t.registry).values(data=b"{}"),
    update(t.registry).values(version=1, head="sha256:00"),
    delete(t.registry),
    insert(t.registry).values(stream="target:never", version=1, head="h", kind="target-retired/1", data=b"{}"),
]  # fmt: skip


@pytest.mark.parametrize("damage", range(len(DAMAGE)))
def test_damage_is_found_and_mended(store: SqlStore, damage: int) -> None:
    some(store)
    sound = rows(store), rows(store, t.registry)
    assert len(sound[1]) == 2
    assert list(differences(store)) == []
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(DAMAGE[damage])
    assert list(differences(store)) != []
    assert rebuild(store) == 5
    assert (rows(store), rows(store, t.registry)) == sound
    assert list(differences(store)) == []


def test_a_rebuilt_row_is_what_the_live_one_was(store: SqlStore) -> None:
    some(store)
    fresh = SqlStore(store.engine, store.origin, store.marker, store.clock)
    for row in rows(store):
        _, ticket = fresh.read(row[0])
        assert ticket
        assert tuple(ticket_row(ticket).values()) == row


def test_in_chunks(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    some(store)
    sound = rows(store)
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("DELETE FROM ticket"))
    told: list[int] = []
    assert rebuild(store, told.append) == 5
    assert told == [2, 4, 5]
    assert rows(store) == sound
    assert list(differences(store)) == []


def test_while_the_service_runs(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a rebuild nor a comparison sees a change half way, and neither undoes one."""
    monkeypatch.setattr(module, "CHUNK", 10)
    url = shelf.url()
    found: list[str] = []
    with opened(url, HandClock()) as store, opened(url, HandClock()) as service:
        some(store, 12)

        def work() -> None:
            for number in range(100, 130):
                stream, ticket = file_ticket(service, f"req_{number:026d}")
                facts = c.Facts(actor=person(LEAD), accountable=(OWNER,), authority=authority(LEAD))
                stream, ticket = write(service, stream, ticket, c.Approve(digest=ticket.digest), facts)
                write(
                    service,
                    stream,
                    ticket,
                    c.Withdraw(),
                    c.Facts(actor=person(ticket.terms.requester), accountable=(OWNER,)),
                )

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            found += differences(store)
            rebuild(store)
            found += differences(store)
        thread.join()
        assert found == []
        assert list(differences(store)) == []
