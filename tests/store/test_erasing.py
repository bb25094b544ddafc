"""An erased text is in no file of the store any more; what else is kept stays."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text

from muniment.core.errors import StoreUnavailable
from muniment.core.text import disclose
from muniment.store import tables as t
from muniment.store.appending import ERASED
from muniment.store.engine import writing
from muniment.store.erasing import scrub
from muniment.store.events import SqlStore
from store.stores import Shelf, an_append, file_of, opened, verified

SECRET = "Zürich, the passport number is X4711-unmistakable"
OTHER = "another text, which stays"


def files(store: SqlStore, shelf: Shelf) -> dict[str, bytes]:
    """Everything that the database keeps in its files, but for PostgreSQL's own write-ahead log."""
    if shelf.server is None:
        path = file_of(store)
        return {each.name: each.read_bytes() for each in path.parent.glob(f"{path.name}*")}
    with psycopg.connect(
        store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    ) as connection:
        connection.execute("CHECKPOINT")
        (number,) = connection.execute(
            "SELECT oid FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    base = Path(shelf.server.folder) / "data/base" / str(number)
    return {each.name: each.read_bytes() for each in base.iterdir() if each.is_file()}


def holds(store: SqlStore, shelf: Shelf, words: str) -> list[str]:
    return sorted(name for name, content in files(store, shelf).items() if words.encode() in content)


@pytest.mark.parametrize("long", [False, True], ids=["in its page", "in pages of its own"])
def test_an_erased_text_is_in_no_file(store: SqlStore, shelf: Shelf, long: bool) -> None:
    erased = disclose(SECRET + ("".join(f" {n:x}" for n in range(3000)) if long else ""), b"\x11" * 32)
    kept = disclose(OTHER, b"\x22" * 32)
    more = [disclose(f"text {n} {'x' * 300}", n.to_bytes(32, "big")) for n in range(200)]
    store.append(an_append("target:a", "a", texts=(erased, kept, *more)))
    store.append(an_append("target:b", "b", texts=(disclose("b" + OTHER, b"\x33" * 32),)))
    if shelf.shared:
        with store.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text('ANALYZE "text"'))
    with writing(store.engine) as connection:
        connection.execute(
            t.answered.insert().values(
                who="human:ann@example.com",
                key="k",
                request="sha",
                ticket="target:a",
                version=1,
                sealed=0,
                at="x",
            )
        )
    assert holds(store, shelf, SECRET), "the test looks where it is"
    stream = store.append(an_append(store.read("target:a")[0], "again", erased=(erased.commitment,))).stream
    assert stream.version == 2
    scrub(store.engine)
    assert holds(store, shelf, SECRET) == []
    assert holds(store, shelf, OTHER)
    with store.engine.connect() as connection:
        rows = {row.commitment: row for row in connection.execute(select(t.text))}
        assert (rows[erased.commitment].salt, rows[erased.commitment].value) == (None, None)
        assert rows[kept.commitment].value == OTHER
        assert all(rows[each.commitment].value == each.text for each in more)
        assert connection.execute(select(t.answered.c.request)).scalar() == ERASED
    assert verified(store).ok


def test_what_an_old_snapshot_could_still_see_goes_too(shelf: Shelf, monkeypatch) -> None:
    monkeypatch.setattr("muniment.store.engine.BUSY_SECONDS", 0.2)
    erased = disclose(SECRET, b"\x11" * 32)
    with opened(shelf.url()) as store:
        store.append(an_append("target:a", "a", texts=(erased,)))
        with store.engine.connect() as reader:
            if shelf.shared:
                reader.execution_options(isolation_level="REPEATABLE READ")
            reader.execute(select(t.event.c.id)).all()
            store.append(an_append(store.read("target:a")[0], "again", erased=(erased.commitment,)))
            if shelf.shared:
                scrub(store.engine)
                assert holds(store, shelf, SECRET) == []
                return
            with pytest.raises(StoreUnavailable) as found:  # the reader needs the pages in the log
                scrub(store.engine)
            assert found.value.code == "erase.not-scrubbed"
        scrub(store.engine)
        assert holds(store, shelf, SECRET) == []


def test_a_store_from_before_secure_delete_is_cleaned_as_well(sqlite_shelf: Shelf) -> None:
    """Copies that SQLite left in free space when nobody had told it to overwrite them."""
    url = sqlite_shelf.url()
    with opened(url) as store:
        erased = disclose(SECRET + " and more" * 40, b"\x11" * 32)
        store.append(an_append("target:a", "a", texts=(erased,)))
        raw = store.engine.raw_connection()
        raw.cursor().execute("PRAGMA secure_delete=OFF")
        raw.cursor().execute("UPDATE text SET value = NULL")
        raw.close()
        store.engine.dispose()
        assert holds(store, sqlite_shelf, SECRET)
        scrub(store.engine)
        assert holds(store, sqlite_shelf, SECRET) == []
