"""From the outbox into the tree: nothing lost, nothing twice, one history, and the same note after a crash."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

from muniment.core.errors import MunimentError
from muniment.ledger.checkpoint import open_checkpoint
from muniment.ledger.merkle import leaf_hash, tree_root
from muniment.store import sequencer
from muniment.store import tables as t
from muniment.store.events import SqlStore
from muniment.store.sequencer import SqlLedger
from store.stores import (
    ORIGIN,
    SIGNER,
    HandClock,
    Shelf,
    an_append,
    ledger_of,
    nothing,
    opened,
    seal,
    verified,
)


def test_an_empty_ledger_has_a_checkpoint(store: SqlStore) -> None:
    assert ledger_of(store).integrate() == 0
    assert open_checkpoint(seal(store), SIGNER.verifier).size == 0
    verified(store)


def test_nothing_new_signs_nothing_new(store: SqlStore) -> None:
    store.append(an_append("a", "x"))
    first = seal(store)
    assert seal(store) == first
    with store.engine.connect() as connection:
        assert len(connection.execute(select(t.checkpoint)).all()) == 1


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6), batch=st.integers(1, 5))
@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_tree_does_not_depend_on_how_it_was_cut(
    sqlite_shelf: Shelf, sizes: list[int], batch: int
) -> None:
    whole = sequencer.BATCH
    try:
        with sqlite_shelf.store() as store:
            for number, size in enumerate(sizes):
                store.append(an_append(f"s{number}", *["x"] * size))
                if number % 2:
                    sequencer.BATCH = batch
                    seal(store)
            sequencer.BATCH = batch
            verified(store)
            entries = [body for _, body in ledger_of(store).entries()]
            assert ledger_of(store).head().root == tree_root(map(leaf_hash, entries))
    finally:
        sequencer.BATCH = whole


def test_more_than_a_batch(store: SqlStore) -> None:
    store.append_many([an_append(f"s{n}", "x") for n in range(sequencer.BATCH + 3)])
    ledger = ledger_of(store)
    assert ledger.integrate() == sequencer.BATCH
    assert ledger.integrate() == 3
    assert ledger.integrate() == 0
    assert verified(store).events == sequencer.BATCH + 3


def test_a_crash_between_commit_and_note_signs_the_same_bytes(store: SqlStore) -> None:
    store.append(an_append("a", "x"))
    ledger = ledger_of(store)
    ledger.integrate()  # and here the process ends
    first = ledger_of(store).sign([SIGNER]).note
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(t.checkpoint.delete())  # or it ends before the note is kept
    assert ledger_of(store).sign([SIGNER]).note == first
    verified(store)


def test_a_crash_in_the_middle_of_taking_up_leaves_nothing_of_it(store: SqlStore) -> None:
    store.append(an_append("a", "x", "y"))
    ledger = ledger_of(store)

    class Crash(Exception):
        pass

    for table in ("INSERT INTO leaf", "DELETE FROM outbox", "UPDATE head"):

        def crash(_connection, _cursor, statement, *_rest, table=table) -> None:
            if table in statement:
                raise Crash

        event.listen(store.engine, "before_cursor_execute", crash)
        with pytest.raises(Crash):
            ledger.integrate()
        event.remove(store.engine, "before_cursor_execute", crash)
        assert ledger.counts() == (2, 2, 0)
        assert ledger.head().size == 0
    assert ledger.integrate() == 2
    verified(store)


def test_sequencers_race_without_a_fork(shelf: Shelf) -> None:
    """Two sequencers, as two nodes have, while entries arrive: one history, and every note is of it."""
    url = shelf.url()
    notes: list[str] = []
    errors: list[BaseException] = []
    over = threading.Event()
    with (
        opened(url, HandClock()) as one,
        opened(url, HandClock()) as other,
        opened(url, HandClock()) as writer,
    ):

        def sequence(store: SqlStore) -> None:
            ledger = SqlLedger(store.engine, ORIGIN, store.marker, store.clock)
            try:
                while not over.is_set():
                    ledger.integrate()
                    notes.append(ledger.sign([SIGNER]).note)
            except MunimentError as error:
                errors.append(error)

        threads = [threading.Thread(target=sequence, args=(store,)) for store in (one, other)]
        for thread in threads:
            thread.start()
        for number in range(60):
            stream = writer.append(an_append(f"s{number}", "x")).stream
            writer.append(an_append(stream, "y"))
        over.set()
        for thread in threads:
            thread.join(30)
        assert errors == []
        report = verified(writer)
        assert report.events == 120
        hashes = [leaf_hash(body) for _, body in ledger_of(writer).entries()]
        for note in set(notes):
            checkpoint = open_checkpoint(note, SIGNER.verifier)
            assert checkpoint.root == tree_root(hashes[: checkpoint.size])
        assert len({open_checkpoint(note, SIGNER.verifier).size for note in notes}) == len(set(notes))


def test_indexes_and_bodies(store: SqlStore) -> None:
    first = store.append(an_append("a", "x")).stream
    store.append(an_append("b", "y"))
    store.append(an_append(first, "z"))
    ledger = ledger_of(store)
    assert len(ledger.waiting()) == 3
    seal(store)
    assert ledger.waiting() == []
    assert ledger.indexes_of("a") == [0, 2]
    assert ledger.indexes_of("b") == [1]
    assert ledger.indexes_of("none") == []
    bodies = dict(ledger.entries())
    assert ledger.bodies([2, 0]) == {0: bodies[0], 2: bodies[2]}
    assert list(dict(ledger.entries(upto=2))) == [0, 1]
    assert ledger.hashes(2) == [leaf_hash(bodies[0]), leaf_hash(bodies[1])]
    assert nothing("x").version == 0
