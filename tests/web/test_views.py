"""What pages say, without a page: times, how far a ticket came, the four columns, the story."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from msgspec.structs import replace

from golden.values import VALUES
from muniment.core import events as e
from muniment.core.closure import run_checks
from muniment.core.errors import Invalid
from muniment.core.scope import Comparison, Privilege, scope
from muniment.core.terms import Terms
from muniment.core.ticket import STATUSES, Recorded, Revocation, Ticket, Use, evolve
from muniment.web import when, words
from muniment.web.ticket_view import changes, columns, countdown, steps
from muniment.web.timeline import timeline

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
RW, RO, EXTRA = (Privilege(privilege=name) for name in ("orders_rw", "orders_ro", "superuser"))
TERMS = Terms(
    kind="standard", requester="human:ann@example.com", beneficiary="human:ann@example.com", target="pg-prod", account="ann",
    scope=scope((RW, RO)), justification="sha256:" + "1" * 64, references={"change": "CHG-7"}, incident=None, starts_at=None,
    duration=7200, public_key=None,
)  # fmt: skip
TICKET = Ticket(
    id="req_1", status="pending", version=2, filed_at="2026-11-26T11:00:00.000000Z",
    updated_at="2026-11-26T11:00:00.000000Z", terms=TERMS, digest="sha256:" + "2" * 64, accountable=(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("away", "said"),
    [
        (timedelta(), "just now"),
        (timedelta(seconds=-44), "just now"),
        (timedelta(seconds=44), "in a moment"),
        (timedelta(minutes=-1), "1 min ago"),
        (timedelta(hours=2, minutes=5), "in 2 h 5 min"),
        (timedelta(days=1, hours=3, minutes=59), "in 1 day 3 h"),
        (timedelta(days=-40), "40 days ago"),
    ],
)
def test_times_are_said_from_now(away: timedelta, said: str) -> None:
    assert when.relative(NOW + away, NOW) == said


def test_an_instant_is_said_exactly_as_well() -> None:
    moment = when.moment("2026-11-26T14:52:07.500000Z", NOW)
    assert moment
    assert (moment.iso, moment.exact) == ("2026-11-26T14:52:07Z", "26 Nov 2026, 14:52 UTC")
    assert when.moment(None, NOW) is None


@pytest.mark.parametrize(
    "seconds", [1, 60, 1800, 3600, 5400, 86400, 95400, 95415, 2 * 86400 + 59, 366 * 86400]
)
def test_a_length_that_a_page_says_can_be_typed_back(seconds: int) -> None:
    said = when.length(timedelta(seconds=seconds))
    assert when.typed(said) == when.typed(said.replace(" ", "")) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "min", "30 minutes", "1 hour", "0 min", "30 min 1 h", "a day", "1 d ays s"]
)
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        when.typed(text)


def test_every_status_has_words_and_a_place_on_the_way() -> None:
    assert set(words.STATUS) == set(STATUSES)
    for status in STATUSES:
        way = [step.far for step in steps(replace(TICKET, status=status))]
        assert way[0] == "done"
        assert sum(far in {"now", "bad"} for far in way) == (0 if status == "closed" else 1), status
        assert way == sorted(way, key=("done", "now", "bad", "next").index), status
        assert ("bad" in way) == (status in {"denied", "withdrawn", "lapsed", "failed"})


def test_every_cause_and_every_closure_check_has_words() -> None:
    assert set(words.CAUSE) == set(get_args(e.Cause))
    assert set(words.CHECK) == {check.check for check in run_checks(TICKET)}


def looks(ticket: Ticket, asked: Terms | None = None) -> dict[str, tuple[str, ...]]:
    return {row.name: tuple(cell.look for cell in row.cells) for row in columns(ticket, asked, read=False)}


def test_what_waits_is_neither_more_nor_less() -> None:
    assert looks(TICKET)["orders_rw"] == ("yes", "open", "open", "none")
    assert not any(row.differs for row in columns(TICKET, None, read=False))


def test_what_was_left_out_or_shortened_is_marked() -> None:
    less = replace(TERMS, scope=(RO,), duration=3600)
    ticket = replace(
        TICKET,
        status="active",
        terms=less,
        approved=(RO,),
        granted=(RO,),
        starts_at="2026-11-26T11:30:00.000000Z",
    )
    found = looks(ticket, TERMS)
    assert found["orders_ro"] == ("yes", "yes", "yes", "none")
    assert found["orders_rw"][1] == "less"
    assert found["Time"][1] == "less"
    assert {row.name for row in columns(ticket, TERMS, read=False) if row.differs} == {"orders_rw", "Time"}


def test_more_and_less_than_approved_are_marked() -> None:
    ticket = replace(
        TICKET, status="revoking", approved=(RO, RW), granted=(EXTRA, RO),
        use=Use(events=2, first_at="", last_at="", privileges=(EXTRA,)),
    )  # fmt: skip
    found = looks(ticket)
    assert found["superuser"] == ("off", "off", "more", "more")
    assert found["orders_rw"] == ("yes", "yes", "less", "off")


def test_the_time_that_was_used_is_that_until_it_was_seen_gone() -> None:
    gone = Revocation(
        cause="returned", reason=None, by="x", ordered_at="", observed_gone_at="2026-11-26T11:45:00.000000Z"
    )
    ticket = replace(
        TICKET,
        status="closed",
        approved=(RO,),
        granted=(RO,),
        starts_at="2026-11-26T11:30:00.000000Z",
        revocation=gone,
    )
    assert columns(ticket, None, read=False)[-1].cells[2].said == "15 min"


def test_the_countdown_is_to_what_happens_by_itself() -> None:
    active = replace(
        TICKET,
        status="active",
        starts_at="2026-11-26T11:00:00.000000Z",
        expires_at="2026-11-26T13:00:00.000000Z",
    )
    clock = countdown(active, NOW)
    assert clock
    assert (clock.says, clock.left, clock.share) == ("ends", timedelta(hours=1), 50)
    late = countdown(active, NOW + timedelta(hours=5))
    assert late
    assert (late.left, late.share) == (timedelta(), 0)
    assert countdown(replace(TICKET, status="closed"), NOW) is None


def recorded(event: e.Event, seq: int = 0) -> Recorded:
    return Recorded(
        seq=seq, at="2026-11-26T11:00:00.000000Z", actor="human:ann@example.com", via="web", event=event
    )


def test_what_changed_since_somebody_looked_is_named() -> None:
    before, after = "sha256:" + "2" * 64, "sha256:" + "3" * 64
    less = replace(TERMS, duration=3600)
    story = [
        recorded(e.RequestSubmitted(terms=TERMS, digest=before, accountable=())),
        recorded(e.CounterAccepted(digest=after, terms=less, voided=()), 1),
    ]
    now = replace(TICKET, terms=less, digest=after)
    assert [(c.what, c.was, c.now) for c in changes(story, before, now)] == [("Time", "2 h", "1 h")]
    assert changes(story, "sha256:" + "9" * 64, now) == []


def test_the_story_quotes_what_people_wrote_and_says_where_it_was_erased() -> None:
    asked = recorded(e.RequestSubmitted(terms=TERMS, digest="", accountable=()))
    said = timeline([asked], {TERMS.justification: "because"}, lambda _: "Ann")[0]
    assert (said.title, said.quote, said.erased) == ("Ann asked for orders_ro, orders_rw", "because", False)
    gone = timeline([asked], {}, lambda _: "Ann")[0]
    assert gone.erased
    assert gone.quote == "(erased)"


def test_a_grant_that_is_not_what_was_approved_is_a_warning() -> None:
    exact = Comparison(missing=(), excess=())
    wrong = Comparison(missing=(RW,), excess=(EXTRA,))
    for comparison, look in ((exact, "give"), (wrong, "warn")):
        event = e.GrantObserved(granted=(RO,), comparison=comparison, native_expiry=None, handle={})
        assert timeline([recorded(event)], {}, str)[0].look == look


@pytest.mark.parametrize("name", VALUES)
def test_every_event_that_changes_a_ticket_is_said_in_words(name: str) -> None:
    """What is no ticket's own is named as the ledger names it: no page shows it."""
    event = VALUES[name]
    said = timeline([recorded(event)], {}, str)[0]
    after = evolve(TICKET, recorded(event, TICKET.version), TICKET.id)
    changes_it = replace(after, version=TICKET.version, updated_at=TICKET.updated_at) != TICKET
    assert said.title != event.kind or not changes_it
    assert "sha256:" not in said.title + " ".join(said.facts)
