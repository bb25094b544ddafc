"""A key is taken with what was done under it, or not at all (I30); viewers and tokens are rows like others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from core.lives import LEAD, Life, terms
from muniment.core.commands import Submit
from muniment.core.errors import Conflict, Repeated
from muniment.core.lifecycle import decide
from muniment.core.visibility import viewers
from muniment.ports import Append, Once
from muniment.store import tables as t
from muniment.store.events import SqlStore
from muniment.store.rebuild import differences, rebuild
from muniment.store.views import Filter, SqlViews
from store.stores import ACTOR, NOW, Shelf, an_append, file_ticket, folded, nothing, opened

ANN = "human:ann@example.com"


def under(key: str, request: str = "a", who: str = ANN) -> Once:
    return Once(who=who, key=key, request=request, sealed=0)


def submission(ticket: str, once: Once) -> Append:
    from core.lives import verdict  # noqa: PLC0415  a name of the helpers, beside ours

    life = Life()
    facts = life.by(life.terms.requester, verdict=verdict(review_within=3600))
    events = decide(None, Submit(ticket=ticket, terms=terms()), facts, NOW)
    return Append(
        stream=nothing(ticket),
        actor=ACTOR,
        events=events,
        at=NOW,
        ticket=folded(ticket, None, events, NOW),
        once=once,
    )


def ticket(number: int) -> str:
    return f"req_{number:026d}"


def test_the_second_with_a_key_does_nothing(store: SqlStore) -> None:
    views = SqlViews(store.engine)
    assert views.answered(ANN, "k") is None
    store.append(submission(ticket(1), under("k")))
    done = views.answered(ANN, "k")
    assert done is not None
    assert (done.ticket, done.version, done.request) == (ticket(1), 2, "a")
    with pytest.raises(Repeated):
        store.append(submission(ticket(2), under("k")))
    assert store.count_tickets() == 1
    store.append(submission(ticket(3), under("k", who=LEAD)))
    store.append(submission(ticket(4), under("other")))
    assert store.count_tickets() == 3


def test_what_fails_takes_no_key(store: SqlStore) -> None:
    store.append(submission(ticket(1), under("k")))
    with pytest.raises(Conflict):
        store.append(submission(ticket(1), under("late")))
    assert SqlViews(store.engine).answered(ANN, "late") is None


def test_two_in_one_commit(store: SqlStore) -> None:
    first, second, other = store.append_many(
        [submission(ticket(1), under("k")), submission(ticket(2), under("k")), an_append("s", "x")]
    )
    assert not isinstance(first, Exception)
    assert isinstance(second, Repeated)
    assert not isinstance(other, Exception)


def test_a_race_of_processes(shelf: Shelf) -> None:
    """Several stores on one database, as several nodes: one wins, whatever the others are told."""
    url = shelf.url()
    with opened(url) as one, opened(url) as two:
        for round_ in range(8):
            key = f"k{round_}"
            with ThreadPoolExecutor(4) as pool:
                asked = [
                    pool.submit(node.append_many, [submission(ticket(100 * round_ + n), under(key))])
                    for n, node in enumerate((one, two, one, two))
                ]
                results = [each.result()[0] for each in asked]
            won = [r for r in results if not isinstance(r, Exception)]
            assert len(won) == 1
            assert all(isinstance(r, Repeated | Conflict) for r in results if r not in won)
        assert one.count_tickets() == 8


def test_old_keys_are_forgotten(store: SqlStore) -> None:
    views = SqlViews(store.engine)
    store.append(submission(ticket(1), under("k")))
    views.forget_answered(NOW)
    assert views.answered(ANN, "k") is not None
    views.forget_answered(NOW + timedelta(seconds=1))
    assert views.answered(ANN, "k") is None


def test_lists_by_who_may_see(store: SqlStore) -> None:
    views = SqlViews(store.engine)
    tickets = [file_ticket(store, ticket(n))[1] for n in range(5)]
    for key in viewers(tickets[0]):
        found = views.tickets(Filter(seen_by=frozenset({key, "group:nobody"})))
        assert [each.id for each in found] == [ticket(n) for n in (4, 3, 2, 1, 0)]
    page = views.tickets(Filter(seen_by=viewers(tickets[0]), before=ticket(3), limit=2))
    assert [each.id for each in page] == [ticket(2), ticket(1)]
    assert views.tickets(Filter(seen_by=frozenset({"human:eve@example.com"}))) == []
    assert views.tickets(Filter(seen_by=frozenset())) == []


def test_a_ticket_that_cannot_be_found_is_found_out_and_mended(store: SqlStore) -> None:
    file_ticket(store, ticket(1))
    assert list(differences(store)) == []
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        one = connection.execute(select(t.viewer.c.who)).scalars().first()
        connection.execute(delete(t.viewer).where(t.viewer.c.who == one))
    assert list(differences(store)) == [ticket(1)]
    rebuild(store)
    assert list(differences(store)) == []


def test_what_others_wrote_is_heard_of(shelf: Shelf) -> None:
    url = shelf.url()
    with opened(url) as mine, opened(url) as other:
        mark = mine.last_entry()
        other.append(an_append("elsewhere", "x"))
        mark, streams = mine.written_since(mark)
        assert "elsewhere" in streams
        assert mine.written_since(mark)[0] == mark


def test_what_was_committed_is_told_before_the_answer(store: SqlStore) -> None:
    told: list[str] = []
    store.committed.append(lambda each: told.append(each.id))
    store.append(submission(ticket(1), under("k")))
    assert told == [ticket(1)]
    with pytest.raises(Repeated):
        store.append(submission(ticket(2), under("k")))
    assert told == [ticket(1)]
