"""A message from outside counts once, for as long as the same one would be taken."""

from __future__ import annotations

from datetime import timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import func, select

from muniment.core.errors import MunimentError, Repeated
from muniment.store import tables as t
from muniment.store.engine import reading, writing
from muniment.store.events import SqlStore
from muniment.store.hearing import hear
from store.stores import NOW

SENDER, UNTIL = "https://idp.example", NOW + timedelta(minutes=5)


def heard(store: SqlStore, ident: str, *, sender: str = SENDER, minutes: int = 0) -> None:
    with writing(store.engine) as connection:
        hear(connection, sender, ident, until=UNTIL, now=NOW + timedelta(minutes=minutes))


def test_a_message_is_heard_once_until_it_would_be_too_old(store: SqlStore) -> None:
    heard(store, "1")
    heard(store, "2")
    heard(store, "1", sender="https://other.example")  # its own name for it
    for minutes in (0, 4):
        with pytest.raises(Repeated):
            heard(store, "1", minutes=minutes)
    heard(store, "3", minutes=5)
    with reading(store.engine) as connection:  # what would be refused for its age is not kept
        assert connection.execute(select(func.count()).select_from(t.heard)).scalar() == 1


def test_what_fails_after_hearing_was_not_heard(store: SqlStore) -> None:
    def fail() -> None:
        with writing(store.engine) as connection:
            hear(connection, SENDER, "1", until=UNTIL, now=NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    heard(store, "1")


def test_of_many_at_the_same_instant_one_counts(store: SqlStore) -> None:
    together, results = Barrier(8), list[MunimentError | None]()

    def send() -> None:
        together.wait()
        try:
            heard(store, "1")
        except MunimentError as error:
            results.append(error)
        else:
            results.append(None)

    threads = [Thread(target=send) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results.count(None) == 1
    assert all(isinstance(each, Repeated) for each in results if each is not None)
    assert len(results) == 8
