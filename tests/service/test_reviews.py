"""Looks back: owed, overdue and done; who may take them, and who is told."""

from __future__ import annotations

import pytest

from evidence.office import HOUR, Office
from muniment.core.errors import Invalid, Refused
from muniment.service import deciding, reviews
from muniment.service.attending import attend
from muniment.service.reviews import Wanted
from service.changes import listening, people, sound


def gone(office: Office) -> str:
    """Critical access that is over: somebody owes a look."""
    ticket = office.ask("root")
    office.approve(ticket)
    office.approve(ticket, "dee", None)
    office.give(ticket)
    office.do(deciding.give_back, "ann", ticket)
    office.take(ticket)
    assert office.status(ticket) == "revoked"
    return ticket


def tickets(office: Office, who: str = "aud", **wanted) -> list[str]:
    return [row["ticket"] for row in reviews.listed(office.desk, office.caller(who), Wanted(**wanted)).items]


def test_each_comes_with_what_there_is_to_judge_it_by(office: Office) -> None:
    ticket = gone(office)
    [row] = reviews.listed(office.desk, office.caller("dee"), Wanted()).items
    assert (row["ticket"], row["granted"], row["approved"]) == (ticket, row["requested"], row["requested"])
    assert (row["comparison"], row["used"], row["sessions_ended"]) == ({"missing": (), "excess": ()}, None, 0)
    assert (row["past_due"], row["outcome"], row["yours"]) == (False, None, True)
    assert row["revocation"]["cause"] == "returned"


def test_they_are_owed_then_overdue_then_done(office: Office) -> None:
    heard = listening(office)
    ticket = gone(office)
    assert (tickets(office), tickets(office, state="overdue"), tickets(office, state="done")) == (
        [ticket],
        [],
        [],
    )
    office.later(30 * 86400)
    attend(office.desk, [ticket])
    office.later(86400)
    attend(office.desk, [ticket])
    assert (tickets(office), tickets(office, state="overdue")) == ([ticket], [ticket])
    told = [(n.kind, "role:operator" in n.to) for n in heard.notices if n.kind.startswith("review")]
    assert told == [("review-owed", False), ("review-overdue", True), ("review-overdue", True)]
    office.do(deciding.review, "aud", ticket, outcome="inappropriate", comment="nobody asked for that")
    assert (tickets(office), tickets(office, state="done")) == ([], [ticket])
    assert tickets(office, state="done", outcome="appropriate") == []
    [row] = reviews.listed(
        office.desk, office.caller("aud"), Wanted(state="done", outcome="inappropriate")
    ).items
    assert (row["reviewer"], row["comment"]) == ("human:aud@example.com", "nobody asked for that")
    assert "inappropriate-use" in {finding["type"] for finding in row["findings"]}
    sound(office)


def test_they_are_narrowed_and_paged(office: Office) -> None:
    made = [gone(office) for _ in range(3)]
    found, cursor = [], None
    while True:
        page = reviews.listed(office.desk, office.caller("aud"), Wanted(limit=1, before=cursor))
        found += [row["ticket"] for row in page.items]
        if (cursor := page.next) is None:
            break
    assert found == made[::-1]
    assert tickets(office, target="other") == tickets(office, kind="break_glass") == []
    assert tickets(office, beneficiary="human:bo@example.com") == []
    assert tickets(office, mine=True) == made[::-1]
    assert tickets(office, "ann", mine=True) == [], "nobody looks back on what was theirs"
    assert tickets(office, "ann") == made[::-1]
    assert tickets(office, "bo") == [], "and what one may not see is not there"
    with pytest.raises(Invalid):
        tickets(office, state="lost")


def test_nobody_looks_back_on_whom_they_report_to(office: Office) -> None:
    """Dee reports to Ann, for the time of this test."""
    ticket = gone(office)
    people(office, 'name = "Dee"', 'name = "Dee"\nmanager = "human:ann@example.com"')
    assert tickets(office, "dee", mine=True) == []
    with pytest.raises(Refused) as refused:
        deciding.review(office.desk, office.caller("dee"), ticket, outcome="appropriate", comment="x")
    assert refused.value.code == "refused.subordinate"
    office.do(deciding.review, "cyd", ticket, outcome="appropriate", comment="as agreed")
    assert office.status(ticket) == "closed"


def test_a_broken_glass_is_among_them_until_somebody_outside_has_looked(office: Office) -> None:
    ticket = office.ask(who="bo", break_glass=True, incident="INC-1", length=HOUR / 2)
    office.give(ticket)
    office.do(deciding.give_back, "bo", ticket)
    office.take(ticket)
    assert tickets(office, kind="break_glass") == [ticket]
    assert tickets(office, "bo", mine=True) == []
    [row] = reviews.listed(office.desk, office.caller("aud"), Wanted()).items
    assert (row["references"]["incident"], row["yours"]) == ("INC-1", True)
