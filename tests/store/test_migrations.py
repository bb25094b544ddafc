"""The schema on disk is the schema in the code, however often and by however many it is brought there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import Engine

from muniment.core.errors import Misconfigured, StoreUnavailable
from muniment.store import migrations
from muniment.store import tables as t
from muniment.store.engine import create_file, open_engine
from muniment.store.migrations import NEWEST, migrate, revision
from muniment.store.opening import open_store
from muniment.store.rebuild import differences
from store.stores import (
    KEY,
    ORIGIN,
    HandClock,
    Shelf,
    an_append,
    file_of,
    ledger_of,
    opened,
    seal,
    verified,
)

DATA = Path(__file__).parent / "data"


def test_the_newest_revision_is_the_only_head() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_heads() == [NEWEST]


def test_migrating_gives_the_tables_of_the_code(shelf: Shelf) -> None:
    url = shelf.empty_url()
    with opened(url, HandClock()) as store, store.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), t.metadata) == []
        found = inspect(connection)
        for table in t.metadata.sorted_tables:  # what the comparison does not look at
            assert found.get_pk_constraint(table.name)["constrained_columns"] == [
                c.name for c in table.primary_key
            ]
            indexes = {
                i["name"]: i["column_names"]
                for i in found.get_indexes(table.name)
                if not i.get("duplicates_constraint")
            }
            assert {i.name: [c.name for c in i.columns] for i in table.indexes} == indexes


def test_the_comparison_can_fail(shelf: Shelf) -> None:
    with shelf.store() as store:
        with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
            connection.execute(text("DROP INDEX ticket_due"))
        with store.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), t.metadata) != []


def test_migrating_twice_changes_nothing(shelf: Shelf) -> None:
    url = shelf.empty_url()
    create_file(url)
    engine = open_engine(url)
    assert revision(engine) is None
    assert migrate(engine)
    assert revision(engine) == NEWEST
    assert not migrate(engine)
    engine.dispose()
    with opened(url, HandClock()) as store:
        store.append(an_append("a", "x"))
    with opened(url, HandClock()) as store:
        assert verified(store).events == 1


def test_a_migration_that_fails_leaves_nothing(shelf: Shelf) -> None:
    url = shelf.empty_url()
    create_file(url)
    engine = open_engine(url)

    class Crash(Exception):
        pass

    @event.listens_for(engine, "before_cursor_execute")
    def crash(_connection, _cursor, statement, *_rest) -> None:
        if "CREATE TABLE" in statement and "lease" in statement:
            raise Crash

    with pytest.raises(Crash):
        migrate(engine)
    event.remove(engine, "before_cursor_execute", crash)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == []
    assert migrate(engine)
    engine.dispose()


@pytest.mark.parametrize("release", sorted(path.stem for path in DATA.glob("*.json")))
def test_data_of_an_earlier_release_goes_on(shelf: Shelf, release: str) -> None:
    """Rows as that release wrote them: read, verified, appended to and signed by this one."""
    url = shelf.empty_url()
    create_file(url)
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, release)
        connection.execute(text("DELETE FROM clock"))
        for table, rows in json.loads((DATA / f"{release}.json").read_text()).items():
            for row in rows:
                values = {k: bytes.fromhex(v["hex"]) if isinstance(v, dict) else v for k, v in row.items()}
                names = ", ".join(f'"{name}"' for name in values)
                marks = ", ".join(f":{name}" for name in values)
                connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({marks})'), values)
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval(pg_get_serial_sequence('event', 'id'), 100)"))
    engine.dispose()
    with opened(url, HandClock()) as store:
        assert revision(store.engine) == NEWEST
        before = ledger_of(store).kept.newest()
        assert before is not None
        assert list(differences(store)) == []
        store.append(an_append("after", "x"))
        seal(store)
        assert verified(store).ok
        after = ledger_of(store).kept.newest()
        assert after is not None
        assert after.size > before.size
        kept = ledger_of(store).kept.at(before.size)
        assert kept is not None
        assert kept.note == before.note


def test_a_store_of_a_newer_program_is_refused(shelf: Shelf) -> None:
    with shelf.store() as store:
        store.append(an_append("a", "x"))
        url = store.engine.url.render_as_string(hide_password=False)
        with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(Misconfigured) as caught:
            open_store(url, ORIGIN, KEY)
        assert "newer" in caught.value.message
        assert caught.value.remedy
        with store.engine.connect() as connection:  # and it was left as it is
            assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_a_store_belongs_to_one_ledger(shelf: Shelf) -> None:
    with shelf.store() as store:
        url = store.engine.url.render_as_string(hide_password=False)
        with pytest.raises(Misconfigured) as caught:
            open_store(url, "ledger.example.org/other", KEY)
        assert ORIGIN in caught.value.message
        password = store.engine.url.password
        assert not password or password not in caught.value.message


@pytest.mark.server("postgres18")
@pytest.mark.xdist_group("store-postgres18")
@pytest.mark.parametrize("other", [ORIGIN, "ledger.example.org/other"])
def test_two_nodes_name_the_ledger_at_the_same_instant(postgres_shelf: Shelf, other: str) -> None:
    """One is faster: with the same name both are served, with another the slower one is told."""
    url = postgres_shelf.empty_url()
    open_engine(url).dispose()
    hooked = []

    @event.listens_for(Engine, "before_cursor_execute")
    def be_faster(_connection, _cursor, statement, *_rest) -> None:
        if statement.startswith("INSERT INTO head") and not hooked:
            hooked.append(1)
            with psycopg.connect(url, autocommit=True) as faster:
                faster.execute("INSERT INTO head VALUES (1, %s, 0, %s)", (other, b"\0" * 8))

    try:
        if other == ORIGIN:
            with opened(url, HandClock()) as store:
                store.append(an_append("a", "x"))
                verified(store)
        else:
            with pytest.raises(Misconfigured, match="belongs to the ledger"):
                open_store(url, ORIGIN, KEY)
    finally:
        event.remove(Engine, "before_cursor_execute", be_faster)
    assert hooked


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "mysql://x/y",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql+asyncpg://x/y",
        "http://x",
        "\x00",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        open_store(url, ORIGIN, KEY)
    assert caught.value.remedy


def test_a_store_that_cannot_be_reached(sqlite_shelf: Shelf) -> None:
    file = sqlite_shelf.folder / "file"
    file.write_text("x")
    folder = sqlite_shelf.folder / "a-folder"
    folder.mkdir(exist_ok=True)
    for url in (
        f"sqlite:///{file}/store.db",
        f"sqlite:///{folder}",
        "postgresql://nobody:hidden@127.0.0.1:1/none",
    ):
        with pytest.raises(StoreUnavailable) as caught:
            open_store(url, ORIGIN, KEY)
        assert caught.value.remedy
        assert "hidden" not in caught.value.message


def test_a_new_file_is_its_owners_alone(sqlite_shelf: Shelf) -> None:
    with opened(sqlite_shelf.empty_url(), HandClock()) as store:
        store.append(an_append("a", "x"))
        path = file_of(store)
        for each in path.parent.glob(path.name + "*"):
            assert each.stat().st_mode & 0o077 == 0, each


def test_revisions_sort_as_texts() -> None:
    """A newer one is recognised by comparing them."""
    versions = Path(migrations.__file__).parent / "versions"
    names = [path.name for path in versions.glob("[0-9]*.py")]
    assert all(re.fullmatch(r"\d{4}_\w+\.py", name) for name in names)
