"""Searching the ledger: what is found is what the entries say, newest first, and nothing twice however it is paged."""

from __future__ import annotations

from datetime import timedelta

from muniment.core.instants import parse_instant
from muniment.store import tables as t
from muniment.store.engine import writing
from muniment.store.events import SqlStore
from muniment.store.rebuild import rebuild
from muniment.store.searching import Sought, search
from store.stores import an_append, ledger_of, seal


def filled(store: SqlStore) -> None:
    for number in range(7):
        store.append(an_append(f"s{number}", "x", "y"))
    seal(store)


def test_pages_have_every_entry_once_newest_first(store: SqlStore) -> None:
    filled(store)
    whole = search(store.engine, Sought(limit=100))
    assert len(whole) == 14
    places = [(each.entry.at, each.index) for each in whole]
    assert places == sorted(places, reverse=True)
    found, after = [], None
    while page := search(store.engine, Sought(limit=3, after=after)):
        found += page
        after = (page[-1].entry.at, page[-1].index)
    assert found == whole


def test_each_field_narrows(store: SqlStore) -> None:
    filled(store)
    whole = search(store.engine, Sought(limit=100))
    some = whole[5]
    assert {e.entry.ticket for e in search(store.engine, Sought(stream=some.entry.ticket))} == {
        some.entry.ticket
    }
    assert search(store.engine, Sought(actor=some.entry.actor.id, limit=100)) == [
        e for e in whole if e.entry.actor.id == some.entry.actor.id
    ]
    assert search(store.engine, Sought(actor="human:nobody@example.com")) == []
    assert search(store.engine, Sought(kinds=(some.entry.type,), limit=100)) == [
        e for e in whole if e.entry.type == some.entry.type
    ]
    at = parse_instant(some.entry.at)
    assert search(store.engine, Sought(since=at, limit=100)) == [
        e for e in whole if e.entry.at >= some.entry.at
    ]
    assert search(store.engine, Sought(before=at, limit=100)) == [
        e for e in whole if e.entry.at < some.entry.at
    ]
    assert search(store.engine, Sought(since=at + timedelta(days=1))) == []


def test_only_what_is_sealed_is_found(store: SqlStore) -> None:
    store.append(an_append("a", "x"))
    assert search(store.engine, Sought()) == []
    ledger_of(store).integrate()
    assert [e.entry.ticket for e in search(store.engine, Sought())] == ["a"]


def test_a_rebuilt_index_is_the_one_that_was_written(store: SqlStore) -> None:
    filled(store)
    before = search(store.engine, Sought(limit=100))
    with writing(store.engine) as connection:
        connection.execute(t.fact.delete().where(t.fact.c.idx > 4))
        connection.execute(t.fact.update().values(actor="human:somebody@example.com"))
    rebuild(store)
    assert search(store.engine, Sought(limit=100)) == before
