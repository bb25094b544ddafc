"""Optimistic concurrency and group commit: one winner a version, one commit for many, and no harm to neighbours."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import event, select, text

from muniment.core.errors import Conflict, Invalid, LeaseLost, MunimentError, StoreUnavailable
from muniment.core.text import Disclosure, commit
from muniment.ports import Append, Appended, Claim, Lease, Premise
from muniment.store import tables as t
from muniment.store.events import SqlStore
from muniment.store.families import counting
from muniment.store.rows import sql_of
from muniment.store.views import SqlViews
from store.stores import (
    NOW,
    ORIGIN,
    HandClock,
    Shelf,
    an_append,
    done,
    fact,
    file_ticket,
    nothing,
    opened,
    stream_of,
    verified,
)


def test_what_was_appended_is_read_back(store: SqlStore) -> None:
    appended = store.append(an_append("thing", "a", "b"))
    assert appended.stream.version == 2
    after = store.append(an_append(appended.stream, "c")).stream
    recorded = store.entries("thing")
    assert [r.event for r in recorded] == [fact("a"), fact("b"), fact("c")]
    assert [r.seq for r in recorded] == [0, 1, 2]
    assert after.version == 3
    verified(store)


def test_two_streams_do_not_touch_each_other(store: SqlStore) -> None:
    first = store.append(an_append("one", "a")).stream
    store.append(an_append("two", "b"))
    assert store.append(an_append(first, "c")).stream.version == 2


@pytest.mark.parametrize("version", [0, 2])
def test_a_version_that_is_not_current_is_a_conflict(store: SqlStore, version: int) -> None:
    now = store.append(an_append("thing", "a")).stream
    stale = type(now)(id="thing", version=version, head=now.head if version else None)
    with pytest.raises(Conflict):
        store.append(an_append(stale, "b"))
    assert len(store.entries("thing")) == 1
    verified(store)


# ── premises ──


def resting(stream: str, entries: int) -> Append:
    return replace(an_append(stream, "x"), premise=Premise(family="delegation:", entries=entries))


def test_an_append_stands_and_falls_with_what_it_rests_on(store: SqlStore) -> None:
    assert store.count("delegation:") == 0
    given = store.append(an_append("delegation:1", "a")).stream
    store.append(an_append("delegatioz", "b"))  # others, whose names come just before and after
    store.append(an_append("delegation", "b"))
    assert (store.count("delegation:"), store.family("delegation:")) == (1, {"delegation:1": 1})
    store.append(resting("one", 1))
    store.append(an_append(given, "c"))
    for entries in (0, 1, 3):
        with pytest.raises(Conflict):
            store.append(resting("two", entries))
    assert store.entries("two") == []
    store.append(resting("two", 2))
    store.append(an_append("delegation:2", "d"))
    assert store.family("delegation:") == {"delegation:1": 2, "delegation:2": 1}
    verified(store)


def test_a_family_is_counted_by_an_index_of_its_own(store: SqlStore) -> None:
    dialect = store.engine.dialect.name
    counted = sql_of(dialect, counting(dialect, "delegation:"))
    with store.engine.connect() as connection:
        if dialect == "postgresql":  # it would rather read a table without rows
            connection.exec_driver_sql("SET enable_seqscan = off")
        plan = connection.exec_driver_sql(
            f"EXPLAIN {'QUERY PLAN ' if dialect == 'sqlite' else ''}{counted}"
        ).all()
    assert "event_delegation" in str(plan)


def test_what_comes_first_in_a_commit_counts(store: SqlStore) -> None:
    """A conflict harms neither what changed the premise nor whoever rests on nothing."""
    results = store.append_many(
        [resting("one", 0), an_append("delegation:1", "a"), resting("two", 0), resting("three", 1), an_append("four", "b")]
    )  # fmt: skip
    assert [type(result) for result in results] == [Appended, Appended, Conflict, Appended, Appended]
    verified(store)


def test_the_same_text_may_come_with_several(store: SqlStore) -> None:
    text = Disclosure(commitment=commit("why", b"s" * 32), salt=b"s" * 32, text="why")
    results = store.append_many([replace(an_append(name, "a"), texts=(text,)) for name in ("one", "two")])
    assert [type(result) for result in results] == [Appended, Appended]
    assert SqlViews(store.engine).texts([text.commitment]) == {text.commitment: "why"}


# ── races ──


def test_threads_race_and_one_wins_each_version(shelf: Shelf) -> None:
    """Two stores on one database, as two processes have; every thread tries for every version."""
    url = shelf.url()
    threads, rounds = 6, 6
    wins: list[tuple[int, int]] = []
    heads = [nothing("contested")]
    barrier = threading.Barrier(threads, timeout=30)
    with opened(url, HandClock()) as one, opened(url, HandClock()) as other:

        def race(me: int) -> None:
            store = (one, other)[me % 2]
            for version in range(rounds):
                barrier.wait(30)
                try:
                    won = store.append(an_append(heads[version], f"{me}"))
                except Conflict:
                    pass
                else:
                    heads.append(won.stream)
                    wins.append((version, me))
                barrier.wait(30)

        _run(*[lambda me=me: race(me) for me in range(threads)])
        assert sorted(v for v, _ in wins) == list(range(rounds))
        assert [r.event for r in one.entries("contested")] == [fact(f"{me}") for _, me in sorted(wins)]
        verified(one)


def test_no_command_is_lost_or_doubled_when_all_try_again(shelf: Shelf) -> None:
    url = shelf.url()
    with opened(url, HandClock()) as one, opened(url, HandClock()) as other:

        def insist(me: int) -> None:
            store = (one, other)[me % 2]
            for number in range(4):
                while True:
                    stream = stream_of(store, "shared")
                    try:
                        store.append(an_append(stream, f"{me}-{number}"))
                    except Conflict:
                        continue
                    break

        _run(*[lambda me=me: insist(me) for me in range(5)])
        said = [r.event.target for r in one.entries("shared")]
        assert sorted(said) == sorted(f"{me}-{n}" for me in range(5) for n in range(4))
        for me in range(5):  # each one's own order is kept
            assert [s for s in said if s.startswith(f"{me}-")] == [f"{me}-{n}" for n in range(4)]
        verified(one)


def test_a_group_takes_one_commit(store: SqlStore) -> None:
    """What gathers while one commit is under way goes into the next, all together."""
    commits = _count_commits(store)
    waiting = 40
    first_is_in = threading.Event()
    everybody_waits = threading.Event()

    @event.listens_for(store.engine, "commit")
    def hold_the_first(_connection) -> None:
        if not first_is_in.is_set():
            first_is_in.set()
            assert everybody_waits.wait(30)

    results: list[Appended] = []
    leader = threading.Thread(target=lambda: results.append(store.append(an_append("leader", "x"))))
    leader.start()
    assert first_is_in.wait(30)
    followers = [
        threading.Thread(target=lambda n=n: results.append(store.append(an_append(f"s{n}", "x"))))
        for n in range(waiting)
    ]
    for thread in followers:
        thread.start()
    assert _until(lambda: len(store._appender._queue) == waiting)
    everybody_waits.set()
    for thread in (leader, *followers):
        thread.join(30)
    assert len(results) == waiting + 1
    assert commits() <= 3  # the leader's, and one for all (two, should one have been late)
    assert verified(store).events == waiting + 1


def test_many_appends_of_one_caller_take_one_commit(store: SqlStore) -> None:
    commits = _count_commits(store)
    results = store.append_many([an_append(f"s{n}", "x") for n in range(200)])
    assert all(isinstance(r, Appended) for r in results)
    assert commits() == 1


def test_results_come_in_the_order_asked(store: SqlStore) -> None:
    results = store.append_many([an_append(f"s{n}", *["x"] * (n + 1)) for n in (3, 1, 2)])
    assert [(done(r).stream.id, done(r).stream.version) for r in results] == [("s3", 4), ("s1", 2), ("s2", 3)]


def test_a_failing_append_does_not_harm_its_neighbours(store: SqlStore) -> None:
    there = store.append(an_append("there", "a")).stream
    lease = store.claim([Claim(key="work", holder="me", seconds=60)])["work"]
    results = store.append_many(
        [
            an_append("good-1", "x"),
            an_append("there", "stale"),
            an_append("late", "x", fence=Lease(key="work", fence=lease.fence + 1)),
            an_append("unknown", "x", fence=Lease(key="never", fence=1)),
            an_append("claimed", "x", claim=Claim(key="work", holder="other", seconds=60)),
            an_append("large", "x" * 40_000),
            an_append("part-large", "x", "x" * 40_000),
            an_append("surrogate", "\ud800"),
            an_append("good-2", "x", fence=lease),
            an_append(there, "b"),
        ]
    )
    kinds = [type(r) for r in results]
    assert kinds == [
        Appended, Conflict, LeaseLost, LeaseLost, LeaseLost, Invalid, Invalid, Invalid, Appended, Appended,
    ]  # fmt: skip
    for stream in ("late", "unknown", "claimed", "large", "part-large", "surrogate"):
        assert store.entries(stream) == []
    assert len(store.entries("there")) == 2
    verified(store)


def test_the_second_of_two_appends_for_one_version_is_a_conflict(store: SqlStore) -> None:
    first, second = store.append_many([an_append("same", "a"), an_append("same", "b")])
    assert isinstance(first, Appended)
    assert isinstance(second, Conflict)
    assert [r.event for r in store.entries("same")] == [fact("a")]


def test_what_the_database_refuses_fails_alone(store: SqlStore) -> None:
    """A text that a database cannot hold is one caller's trouble; it must not cost others their commit."""
    words = "\ud800"  # never gets here through clean_text
    bad = Disclosure(commitment=commit("x", b"\1" * 32), salt=b"\1" * 32, text=words)
    good, refused = store.append_many([an_append("good", "x"), an_append("bad", "x", texts=(bad,))])
    assert isinstance(good, Appended)
    assert isinstance(refused, MunimentError)
    assert store.entries("bad") == []
    assert store.append(an_append("bad", "x")).stream.version == 1
    verified(store)


def test_an_append_without_events_records_nothing_but_its_lease(store: SqlStore) -> None:
    stream, ticket = file_ticket(store, "req_1")
    lease = store.claim([Claim(key="k", holder="me", seconds=60)])["k"]
    same = store.append(
        Append(
            stream=stream,
            actor=an_append("x").actor,
            events=(),
            at=NOW,
            ticket=ticket,
            fence=lease,
            release=True,
        )
    )
    assert same.stream == stream
    assert not store.confirm([lease])


@pytest.mark.xdist_group("store-postgres18")
@pytest.mark.server("postgres18")
def test_a_version_taken_by_another_process_meanwhile_is_one_conflict(postgres_shelf: Shelf) -> None:
    """Between our look and our insert: the whole statement fails, and then each append is tried by itself."""
    url = postgres_shelf.url()
    results: list[list[Appended | MunimentError]] = []
    with opened(url, HandClock()) as store:
        batch = [an_append("before", "x"), an_append("victim", "x"), an_append("after", "x")]
        with psycopg.connect(url.replace("postgresql://", "postgres://")) as foreign:
            foreign.execute("INSERT INTO event (stream, seq, body, mark) VALUES ('victim', 0, 'b', 'm')")
            thread = threading.Thread(target=lambda: results.append(store.append_many(batch)))
            thread.start()
            waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            with opened_connection(url) as watcher:
                assert _until(lambda: watcher.execute(waits).fetchone()[0] == 1)
            foreign.commit()
        thread.join(30)
        before, victim, after = results[0]
        assert isinstance(before, Appended)
        assert isinstance(victim, Conflict)
        assert isinstance(after, Appended)


@pytest.mark.xdist_group("store-postgres18")
@pytest.mark.server("postgres18")
def test_two_processes_in_a_deadlock_both_get_answers(postgres_shelf: Shelf) -> None:
    """They write the same streams in opposite order; PostgreSQL ends one, whose appends are then tried by themselves."""
    url = postgres_shelf.url()
    results: list[list[Appended | MunimentError]] = []
    with opened(url, HandClock()) as store, psycopg.connect(url) as foreign:
        foreign.execute("SET deadlock_timeout = '60s'")  # the other side is the one that finds out
        foreign.execute("INSERT INTO event (stream, seq, body, mark) VALUES ('b', 0, 'b', 'm')")
        batch = [an_append("a", "x"), an_append("b", "x"), an_append("c", "x")]
        thread = threading.Thread(target=lambda: results.append(store.append_many(batch)))
        thread.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with opened_connection(url) as watcher:
            assert _until(lambda: watcher.execute(waits).fetchone()[0] == 1)
        foreign.execute("INSERT INTO event (stream, seq, body, mark) VALUES ('a', 0, 'b', 'm')")
        foreign.commit()
        thread.join(30)
        a, b, c = results[0]
        assert isinstance(a, Conflict)
        assert isinstance(b, Conflict)
        assert isinstance(c, Appended)


@pytest.mark.xdist_group("store-postgres18")
@pytest.mark.server("postgres18")
def test_a_connection_that_was_cut_is_replaced(postgres_shelf: Shelf) -> None:
    url = postgres_shelf.url()
    with opened(url, HandClock()) as store:
        stream = store.append(an_append("thing", "a")).stream
        cut = (
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'muniment-store'"
        )
        with opened_connection(url) as other:
            assert other.execute(cut).fetchall()
        assert store.append(an_append(stream, "b")).stream.version == 2

        @event.listens_for(store.engine, "before_cursor_execute")
        def cut_at_the_insert(_connection, _cursor, statement, *_rest) -> None:
            if "INSERT INTO outbox" in statement:
                with opened_connection(url) as other:
                    other.execute(cut)

        with pytest.raises(StoreUnavailable):
            store.append(an_append("lost", "a"))
        event.remove(store.engine, "before_cursor_execute", cut_at_the_insert)
        assert store.entries("lost") == []
        assert store.append(an_append("lost", "a")).stream.version == 1
        verified(store)


def test_texts_are_in_the_commit_or_not_at_all(store: SqlStore) -> None:
    words = Disclosure(commitment=commit("why", b"\1" * 32), salt=b"\1" * 32, text="why")
    store.append(an_append("there", "x"))
    with pytest.raises(Conflict):
        store.append(an_append("there", "again", texts=(words,)))
    with store.engine.connect() as connection:
        assert connection.execute(select(t.text)).all() == []
    store.append(an_append("other", "x", texts=(words,)))
    with store.engine.connect() as connection:
        assert connection.execute(select(t.text.c.value)).scalar_one() == "why"


def test_a_stream_that_is_no_ticket_is_no_ticket(store: SqlStore) -> None:
    """Whoever asks for the ticket "policy" gets the answer of one that is not there, not a crash."""
    stream = store.append(an_append("policy", "x")).stream
    assert store.read("policy") == (stream, None)
    assert store.read_many(["policy"]) == {}


def test_entries_name_their_ledger(shelf: Shelf) -> None:
    url = shelf.url()
    with opened(url, HandClock()) as store:
        store.append(an_append("thing", "x"))
        with store.engine.connect() as connection:
            body = bytes(connection.execute(text("SELECT body FROM event")).scalar_one())
    assert f'"log":"{ORIGIN}"'.encode() in body


# ── helpers ──


def opened_connection(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True)


def _count_commits(store: SqlStore):
    done: list[int] = []
    event.listen(store.engine, "commit", lambda connection: done.append(1) if _writes(connection) else None)
    return lambda: len(done)


def _writes(connection) -> bool:
    return bool(connection.get_execution_options().get("writes"))


def _until(condition, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _run(*work) -> None:
    """Run all at once; the first error is ours."""
    errors: list[BaseException] = []

    def guarded(do) -> None:
        try:
            do()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(do,)) for do in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)
