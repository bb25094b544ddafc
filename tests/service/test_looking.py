"""What people look at: their own among other people's, and how often the store is asked for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import event

from evidence.office import Office
from muniment.core.ticket import ENDS
from muniment.service import deciding, delegating, explaining, looking, standing
from muniment.service.in_force import Governed
from muniment.service.standing import Adopted
from muniment.store import tables as t
from muniment.store.engine import writing
from muniment.store.rebuild import rebuild
from muniment.store.searching import Sought, search
from muniment.store.views import Filter
from service.changes import oblige, people, ticket

DEPLOY = "service_account:deploy"
_ENDS = tuple(sorted(ENDS))


def ended(office: Office, who: str, limit: int = 2) -> list[str]:
    return [t.id for t in looking.concerning(office.desk, office.caller(who), _ENDS, limit=limit)]


def denied(office: Office, by: str, **more: str) -> str:
    asked = office.ask(**more)
    office.do(deciding.deny, by, asked, comment="no")
    return asked


def test_ones_own_are_found_behind_any_number_that_one_decided_on(office: Office) -> None:
    people(office, 'name = "Cyd"\ngroups = ["platform"]', 'name = "Cyd"\ngroups = ["platform", "engineers"]')
    own = office.ask(who="cyd")
    office.do(deciding.withdraw, "cyd", own)
    machines = [denied(office, "cyd", beneficiary=DEPLOY) for _ in range(5)]
    others = [denied(office, "cyd") for _ in range(3)]
    assert ended(office, "cyd") == [own]
    assert ended(office, "ann") == others[:0:-1]
    assert ended(office, "ann", 9) == [*others[::-1], *machines[::-1]]
    assert ended(office, "dee") == []


@contextmanager
def counted(office: Office) -> Iterator[list[str]]:
    asked: list[str] = []

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    event.listen(office.desk.store.engine, "before_cursor_execute", count)
    try:
        yield asked
    finally:
        event.remove(office.desk.store.engine, "before_cursor_execute", count)


@pytest.mark.parametrize("who", ["bo", "cyd", "ops", "aud"])
def test_the_store_is_asked_as_often_for_many_tickets_as_for_few(office: Office, who: str) -> None:
    """Those that wait, those that owe a review, and those that are seen by a delegation alone."""
    oblige(office, '@approvers("owners")\n@max_duration("4h")\n@review_within("3d")')
    delegating.give(
        office.desk, office.caller("cyd"), to="human:bo@example.com", reason="x", length=timedelta(days=1)
    )

    def asked() -> tuple[int, int, int, int]:
        office.ask()
        owes = office.ask()
        office.approve(owes, "dee")
        office.give(owes)
        office.do(deciding.give_back, "ann", owes)
        office.take(owes)
        caller = office.caller(who)
        with counted(office) as waiting:
            found = looking.tickets(office.desk, caller, Filter(), awaiting_me=True).items
        with counted(office) as listed:
            every = looking.tickets(office.desk, caller, Filter()).items
        return len(waiting), len(listed), len(found), len(every)

    queries = {asked()[:2] for _ in range(3)}
    assert len(queries) == 1
    assert queries == {(2, 1) if who in {"ops", "aud"} else (3, 3)}  # how many one sees is asked first
    *_, found, every = asked()
    assert (found > 3, every) == (True, 8)


def test_the_rules_behind_a_ticket_are_read_once_where_they_are_known(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ticket(office, office.ask())
    read = explaining.rules(office.desk, asked)
    assert '@id("engineers-in-production-bounded")' in read["engineers-in-production-bounded"]
    governed = Governed(
        adopted=Adopted(office.desk.store), targets=office.desk.targets, directory=office.desk.directory
    )
    desk = dataclasses.replace(office.desk, governed=governed)
    assert explaining.rules(desk, asked) == read
    assert explaining.rules(desk, replace(asked, policies=None)) == {}
    folded: list[Any] = []
    monkeypatch.setattr(standing, "current", folded.append)
    monkeypatch.setattr(explaining, "current", folded.append)
    assert explaining.rules(desk, asked) == read
    assert folded == []


def test_a_rebuilt_search_knows_what_tickets_are_about_whose_rows_were_lost(office: Office) -> None:
    """As after a backup is put back: rows of tickets are made first, and entries have their target from them."""
    office.active()
    office.log()
    store = office.desk.store
    before = search(store.engine, Sought(target="bastion", limit=100))
    assert before
    with writing(store.engine) as connection:
        connection.execute(t.ticket.delete())
        connection.execute(t.fact.delete())
    rebuild(store)
    assert search(store.engine, Sought(target="bastion", limit=100)) == before
