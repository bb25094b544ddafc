"""Connections to PostgreSQL that the server closed are replaced before they are used, without asking each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import Engine, text

from muniment.demo.postgres import HOST, SUPERUSER, TemporaryPostgres
from muniment.store import alive
from muniment.store.engine import open_engine, reading, writing


@pytest.fixture(scope="module")
def server() -> Iterator[TemporaryPostgres]:
    with TemporaryPostgres(fsync=False) as server:
        yield server


@pytest.fixture
def engine(server: TemporaryPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """One whose pings are counted."""
    made = open_engine(f"postgresql://{SUPERUSER}:{server.password}@{HOST}:{server.port}/postgres")
    ping, asked = made.dialect.do_ping, list[object]()
    monkeypatch.setattr(made.dialect, "do_ping", lambda each: asked.append(each) or ping(each))
    made.asked = asked  # type: ignore[attr-defined]
    yield made
    made.dispose()


def used(engine: Engine, times: int = 1) -> list[int]:
    """Use so many connections together; return whom they talk to."""
    with ExitStack() as stack:
        several = [stack.enter_context(reading(engine)) for _ in range(times)]
        return [each.execute(text("SELECT pg_backend_pid()")).scalar_one() for each in several]


def test_a_connection_in_use_is_not_asked(engine: Engine) -> None:
    first = used(engine)
    for _ in range(20):
        assert used(engine) == first
        with writing(engine) as connection:
            connection.execute(text("SELECT 1"))
    assert engine.asked == []  # type: ignore[attr-defined]


def test_one_that_lay_unused_is_asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = used(engine)
    monkeypatch.setattr(alive, "IDLE_SECONDS", 0.0)
    assert used(engine) == first
    assert len(engine.asked) == 1  # type: ignore[attr-defined]


def test_a_session_that_the_server_ended_is_replaced(engine: Engine, server: TemporaryPostgres) -> None:
    first = used(engine, 3)
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        for pid in first:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    after = used(engine, 3)
    assert not set(first) & set(after)
    with writing(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_a_server_that_was_away_is_found_again(engine: Engine, server: TemporaryPostgres) -> None:
    before = used(engine, 4)
    with server.away():
        pass
    for _ in range(4):
        with writing(engine) as connection:
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() not in before
    assert len(engine.asked) == 1  # type: ignore[attr-defined]  # the first that is gone stands for all


def test_one_that_we_closed_ourselves_is_not_sound(server: TemporaryPostgres) -> None:
    with psycopg.connect(server.dsn()) as connection:
        assert alive.quiet(connection)
    assert not alive.quiet(connection)
