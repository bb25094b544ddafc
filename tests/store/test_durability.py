"""A commit is on the disk; a disk that is full, or a file that is damaged, is said so, and nothing is half done."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, text

from muniment.core.errors import Misconfigured, MunimentError, StoreUnavailable
from muniment.core.ticket import Ticket
from muniment.ledger.verify import verify_log
from muniment.ports import Appended, Claim
from muniment.store.events import SqlStore
from muniment.store.opening import open_store
from muniment.store.rebuild import differences, rebuild
from muniment.store.views import Filter, SqlViews
from store.stores import (
    KEY,
    ORIGIN,
    SIGNER,
    HandClock,
    Shelf,
    an_append,
    file_of,
    file_ticket,
    ledger_of,
    nothing,
    opened,
    seal,
    verified,
)


def test_sqlite_settings_are_in_force_on_every_connection(sqlite_shelf: Shelf) -> None:
    with sqlite_shelf.store() as store:
        store.append(an_append("a", "x"))
        connections = [store.engine.connect() for _ in range(12)]  # pooled and overflowing
        try:
            for connection in connections:
                found = {
                    name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("synchronous", "journal_mode", "foreign_keys", "trusted_schema")
                }
                assert found == {
                    "synchronous": 2,
                    "journal_mode": "wal",
                    "foreign_keys": 1,
                    "trusted_schema": 0,
                }
        finally:
            for connection in connections:
                connection.close()


def test_a_sqlite_writer_takes_the_lock_at_once(sqlite_shelf: Shelf) -> None:
    """BEGIN IMMEDIATE: a transaction that reads first could not be completed once somebody else has written."""
    begins: list[str] = []
    with sqlite_shelf.store() as store:

        @event.listens_for(store.engine, "before_cursor_execute")
        def note(_connection, _cursor, statement, *_rest) -> None:
            if statement.startswith("BEGIN"):
                begins.append(statement)

        store.append(an_append("a", "x"))
        assert begins == ["BEGIN IMMEDIATE"]
        begins.clear()
        store.read("a")
        assert begins == ["BEGIN"]


@pytest.mark.server("postgres18")
@pytest.mark.xdist_group("store-postgres18")
def test_a_postgresql_that_may_lose_commits_is_refused(postgres_shelf: Shelf) -> None:
    url = postgres_shelf.url()
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(Misconfigured) as caught:
        open_store(url, ORIGIN, KEY)
    assert "synchronous_commit" in caught.value.message
    assert caught.value.remedy
    for value in ("on", "local", "remote_apply"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {value}")
        with opened(url, HandClock()) as store:
            store.append(an_append(f"with-{value}", "x"))


# ── full (I28) ──


def fill_up(store: SqlStore) -> list[str]:
    """Append until the store can take no more; what was acknowledged."""
    acknowledged = []
    for number in range(5000):
        result = store.append_many([an_append(f"s{number}", "x" * 3000, "y" * 3000)])[0]
        if not isinstance(result, Appended):
            assert isinstance(result, StoreUnavailable), result
            assert result.remedy
            return acknowledged
        acknowledged.append(f"s{number}")
    raise AssertionError("it was never full")


def check_after(store: SqlStore, acknowledged: list[str]) -> None:
    """All of what was acknowledged, nothing of the rest; and it goes on."""
    assert len(acknowledged) > 3
    for stream in acknowledged:
        assert len(store.entries(stream)) == 2
    lost = f"s{len(acknowledged)}"
    assert store.entries(lost) == []
    store.append(an_append(lost, "now"))
    assert verified(store).events == 2 * len(acknowledged) + 1


def test_a_full_sqlite_database(sqlite_shelf: Shelf) -> None:
    limit = [0]
    with sqlite_shelf.store() as store:

        @event.listens_for(store.engine, "connect")
        def bound(connection, _record) -> None:
            if limit[0]:
                connection.execute(f"PRAGMA max_page_count = {limit[0]}")

        with store.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit[0] = pages + 60
        store.engine.dispose()
        acknowledged = fill_up(store)
        # a neighbour in the same commit is not half there either, and reading goes on
        assert all(
            isinstance(r, StoreUnavailable)
            for r in store.append_many([an_append("n1", "z" * 9000), an_append("n2", "z" * 9000)])
        )
        assert len(store.entries(acknowledged[0])) == 2
        with pytest.raises(StoreUnavailable):
            for number in range(100):
                store.claim([Claim(key=f"k{number}" + "k" * 3000, holder="h", seconds=9)])
        limit[0] = 1 << 30
        store.engine.dispose()
        assert store.entries("n1") == store.entries("n2") == []
        check_after(store, acknowledged)


def test_a_full_file_system(sqlite_shelf: Shelf, tmp_path: Path) -> None:
    """A real one, where we may mount it; `test_processes` has the case for everybody."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2000k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here; the file size limit and max_page_count are tested instead")
    try:
        source = sqlite_shelf.url().removeprefix("sqlite:///")
        shutil.copy(source, disk / "store.db")
        with opened(f"sqlite:///{disk}/store.db", HandClock()) as store:
            ballast = disk / "ballast"
            ballast.write_bytes(b"\0" * 600_000)
            acknowledged = fill_up(store)
            ballast.unlink()
            check_after(store, acknowledged)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_store_that_fails_while_many_wait_answers_everybody(store: SqlStore) -> None:
    """Whoever waits for a commit that fails is told so, and does not wait for ever."""
    results: list[object] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def broken(_connection, _cursor, statement, *_rest) -> None:
        if "INSERT INTO event" in statement:
            raise RuntimeError("no words of the statement may come out: secret")

    def one(number: int) -> None:
        results.extend(store.append_many([an_append(f"s{number}", "x")]))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert len(results) == 8
    assert all(isinstance(r, StoreUnavailable) and "secret" not in r.message for r in results)
    event.remove(store.engine, "before_cursor_execute", broken)
    store.append(an_append("s0", "x"))
    assert verified(store).events == 1


def test_an_interrupted_leader_leaves_nobody_waiting(store: SqlStore) -> None:
    """Ctrl-C in the thread that commits for everybody."""

    @event.listens_for(store.engine, "before_cursor_execute")
    def interrupt(_connection, _cursor, statement, *_rest) -> None:
        if "INSERT INTO event" in statement:
            event.remove(store.engine, "before_cursor_execute", interrupt)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.append(an_append("a", "x"))
    assert store.append(an_append("a", "x")).stream.version == 1


# ── damaged ──


def exercise(store: SqlStore, originals: dict[str, Ticket]) -> None:
    """Use everything that reads. Each answer is the true one, or an error of ours."""
    views = SqlViews(store.engine)
    ledger = ledger_of(store)

    def reads() -> None:
        older = []
        for stream, original in originals.items():
            ticket = store.read(stream)[1]
            if (
                ticket != original
            ):  # no entry was changed; its last ones can be gone, and then the ledger misses them
                assert ticket is None or ticket.version < original.version
                older.append(stream)
        assert not older or misses(store, older)

    def many() -> None:
        for stream, (_, ticket) in store.read_many(list(originals)).items():
            assert ticket == originals[stream] or ticket.version < originals[stream].version

    uses = [
        reads, many, lambda: [store.entries(stream) for stream in originals], lambda: store.due(HandClock().now(), 10),
        lambda: store.sharing([("pg-prod", "billing")]), ledger.head, ledger.kept.newest, lambda: list(ledger.entries()), ledger.integrate,
        lambda: ledger.sign([SIGNER]).note, ledger.counts, lambda: list(differences(store)), lambda: views.tickets(Filter()),
        lambda: [views.ticket(stream) for stream in originals], lambda: views.registered(""), views.oldest_unsealed, views.live_targets,
        lambda: store.append(an_append("new", "x")), lambda: rebuild(store), store.clock.now,
    ]  # fmt: skip
    for use in uses:
        try:
            use()
        except MunimentError as error:
            assert error.message


def misses(store: SqlStore, streams: list[str]) -> bool:
    """Whether `muniment ledger verify` finds that entries of these streams are gone."""
    ledger = ledger_of(store)
    newest = ledger.kept.newest()
    try:
        stored, waiting, leaves = ledger.counts()
        report = newest and verify_log(ledger.entries(), newest.note, SIGNER.verifier, origin=ORIGIN)
        return (
            stored != waiting + leaves
            or not (report and report.ok)
            or set(streams) <= set(differences(store))
        )
    except MunimentError:
        return True


def damaged_store(shelf: Shelf) -> tuple[Path, dict[str, Ticket]]:
    """A file with some tickets, sealed, everything in the main file."""
    with opened(shelf.url(), HandClock()) as store:
        originals = {}
        for number in range(4):
            ticket_id = f"req_{number:026d}"
            originals[ticket_id] = file_ticket(store, ticket_id)[1]
        seal(store)
        store.append(an_append("policy", "waits"))
        with store.engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        path = file_of(store)
    return path, originals


def try_damaged(path: Path, originals: dict[str, Ticket]) -> str:
    for leftover in path.parent.glob(path.name + "-*"):
        leftover.unlink()
    try:
        store = open_store(f"sqlite:///{path}", ORIGIN, KEY)
    except MunimentError as error:
        assert error.message
        return type(error).__name__
    try:
        exercise(store, originals)
    finally:
        store.engine.dispose()
    return "opened"


def test_flipped_bits_are_found_or_do_not_matter(sqlite_shelf: Shelf, tmp_path: Path) -> None:
    """SQLite's own check misses most of them; marks and chains do not. Never another answer, never another error."""
    path, originals = damaged_store(sqlite_shelf)
    whole = path.read_bytes()
    chance = random.Random(9)
    used = [at for at in range(len(whole)) if whole[at]]
    outcomes = set()
    for number in range(110):
        at = chance.choice(used) if number >= 40 else chance.randrange(120 if number < 20 else len(whole))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << chance.randrange(8)
        broken = tmp_path / "broken.db"
        broken.write_bytes(flipped)
        outcomes.add(try_damaged(broken, originals))
    assert "opened" in outcomes


def test_a_truncated_file(sqlite_shelf: Shelf, tmp_path: Path) -> None:
    path, originals = damaged_store(sqlite_shelf)
    whole = path.read_bytes()
    for size in (
        1,
        15,
        16,
        99,
        100,
        511,
        4095,
        4096,
        4097,
        8192,
        len(whole) // 2,
        len(whole) - 4096,
        len(whole) - 1,
    ):
        broken = tmp_path / "broken.db"
        broken.write_bytes(whole[:size])
        try_damaged(broken, originals)


@pytest.mark.parametrize(
    "content", [b"not a database", b"SQLite format 3\x00" + b"\xff" * 4096, b"\x00" * 8192, b"\xff" * 100_000]
)
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable) as caught:
        open_store(f"sqlite:///{path}", ORIGIN, KEY)
    assert caught.value.remedy
    assert path.read_bytes() == content  # and it was not written to


def test_an_emptied_store_is_not_taken_for_a_new_one_by_its_tickets(sqlite_shelf: Shelf) -> None:
    """A file of no length is a new store: its ledger is empty, and a kept checkpoint shows that (I26)."""
    path, originals = damaged_store(sqlite_shelf)
    path.write_bytes(b"")
    with opened(f"sqlite:///{path}", HandClock()) as store:
        for stream in originals:
            assert store.read(stream) == (nothing(stream), None)
        assert ledger_of(store).head().size == 0


def test_rows_of_the_read_model_that_are_no_tickets(store: SqlStore) -> None:
    ticket_id = f"req_{1:026d}"
    file_ticket(store, ticket_id)
    views = SqlViews(store.engine)
    for state in ("{}", "x", "[]", '{"id":1}'):
        with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
            connection.execute(text("UPDATE ticket SET state = :state"), {"state": state.encode()})
        for use in (lambda: views.ticket(ticket_id), lambda: views.tickets(Filter())):
            with pytest.raises(MunimentError) as caught:
                use()
            assert caught.value.remedy
    rebuild(store)
    assert views.ticket(ticket_id)
