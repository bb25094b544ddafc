"""Break-glass, as tables: how the glass may be broken, who looks back, and what a review that nobody does becomes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from core.lives import LEAD, LEAD2, NOW, OWNER, REQUESTER, Life, person, terms
from muniment.core import commands as c
from muniment.core import glass
from muniment.core.errors import Invalid, MunimentError
from muniment.core.instants import wire
from muniment.core.ticket import Finding, Review, Ticket

GLASS = {"kind": "break_glass", "incident": "INC-1", "duration": 3600}
FACTS = c.Facts(accountable=(OWNER,))
END = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("changes", "overdue", "code"),
    [
        ({}, (), None),
        ({"responders": (LEAD,)}, (), None),
        ({"duration": 4 * 3600}, (), None),
        ({"duration": 4 * 3600 + 1}, (), "refused.too-long"),
        ({"starts_at": wire(NOW)}, (), "invalid"),
        ({"incident": None}, (), "invalid"),
        ({}, ("req_9",), "refused.review-overdue"),
        ({"kind": "standard"}, ("req_9",), None),
        ({"kind": "standard", "duration": 4 * 3600 + 1, "starts_at": wire(NOW)}, (), None),
        ({"kind": "standard", "responders": (LEAD,)}, (), "invalid"),
    ],
)
def test_how_the_glass_may_be_broken(changes: dict, overdue: tuple[str, ...], code: str | None) -> None:
    asked = terms(**GLASS | changes)
    facts = replace(FACTS, overdue_reviews=overdue)
    if code is None:
        glass.require_glass(asked, facts)
        return
    with pytest.raises(MunimentError) as refused:
        glass.require_glass(asked, facts)
    assert refused.value.code == code
    assert refused.value.remedy


def test_three_overdue_reviews_are_named() -> None:
    owed = tuple(f"req_{number}" for number in range(5))
    with pytest.raises(MunimentError, match="req_0, req_1, req_2 is overdue"):
        glass.require_glass(terms(**GLASS), replace(FACTS, overdue_reviews=owed))


def broken(**changes: object) -> Ticket:
    ticket = Life(**GLASS | changes).submit().ticket
    assert ticket is not None
    return ticket


#: named as a responder, on the incident, above whoever acts; the refusal
OUTSIDE = [
    ((), (), (), None),
    ((LEAD,), (), (), "refused.involved"),
    ((), (LEAD,), (), "refused.involved"),
    ((LEAD2,), (LEAD2,), (LEAD2,), None),
    ((), (), (REQUESTER,), "refused.subordinate"),
    ((), (), (OWNER,), "refused.subordinate"),
    ((LEAD,), (), (REQUESTER,), "refused.involved"),
]


@pytest.mark.parametrize(("responders", "incident", "above", "code"), OUTSIDE)
@pytest.mark.parametrize("kind", ["break_glass", "standard"])
@pytest.mark.parametrize("borrowed", [True, False])
def test_who_looks_back(
    responders: tuple[str, ...],
    incident: tuple[str, ...],
    above: tuple[str, ...],
    code: str | None,
    kind: str,
    borrowed: bool,
) -> None:
    """Outside of the incident; also whoever's authority it is that somebody uses."""
    ticket = broken(responders=responders or None)
    ticket = replace(ticket, terms=replace(ticket.terms, kind=kind))
    facts = replace(FACTS, on_incident=incident, superiors=above, above={LEAD: above})

    def look() -> None:
        if borrowed:
            glass.require_outside_delegator(ticket, LEAD, facts, "review")
        else:
            glass.require_outside(ticket, person(LEAD), facts, "review")

    if code is None or kind == "standard":
        look()
        return
    with pytest.raises(MunimentError) as refused:
        look()
    assert refused.value.code == code
    said = "took part" if code == "refused.involved" else "reports to"
    assert said in refused.value.message


def test_by_another_name_one_took_part_as_well() -> None:
    with pytest.raises(MunimentError):
        glass.require_outside(
            broken(), person(LEAD, aliases=("human:c@x",)), replace(FACTS, on_incident=("human:c@x",)), "x"
        )


def found(kind: str, number: int = 1, *, resolved: bool = False) -> Finding:
    at = wire(NOW) if resolved else None
    return Finding(id=str(number), type=kind, severity="high", message="", scope=(), raised_at=wire(NOW), resolved_at=at)  # fmt: skip


@pytest.mark.parametrize("kind", ["break_glass", "standard"])
@pytest.mark.parametrize(
    ("finding", "by_review"), [("break-glass", True), ("review-overdue", True), ("excess", False)]
)
def test_only_a_review_answers_the_findings_of_a_broken_glass(
    kind: str, finding: str, by_review: bool
) -> None:
    ticket = broken()
    ticket = replace(ticket, terms=replace(ticket.terms, kind=kind))
    assert glass.answered_by_review(ticket, found(finding)) is (by_review and kind == "break_glass")


def test_a_review_answers_those_that_wait_for_it() -> None:
    waiting = (
        found("break-glass"),
        found("excess", 2),
        found("review-overdue", 3),
        found("break-glass", 4, resolved=True),
    )
    said = glass.answered(replace(broken(), findings=waiting), "sha256:aa")
    assert [(each.finding, each.reason) for each in said] == [("1", "sha256:aa"), ("3", "sha256:aa")]


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("raised", "outcome", "due"),
    [(0, None, END), (1, None, END + DAY), (2, None, None), (3, None, None), (0, "appropriate", None)],
)
def test_a_review_that_nobody_does_is_a_finding_twice(raised: int, outcome: str | None, due) -> None:
    review = Review(due_at=wire(END), outcome=outcome)
    late = tuple(found("review-overdue", number + 2) for number in range(raised))
    ticket = replace(broken(), review=review, findings=(found("break-glass"), *late))
    assert glass.review_late_at(ticket) == due
    assert glass.review_late_at(replace(ticket, review=None)) is None

    def noted(at):
        return glass.note_late_review(ticket, c.NoteLateReview(), FACTS, at)

    if due is None:
        assert noted(END + 9 * DAY) == ()
        return
    assert noted(due - timedelta(microseconds=1)) == ()
    [finding] = noted(due)
    assert (finding.finding, finding.type) == (str(raised + 2), "review-overdue")
    assert finding.severity == ("critical" if raised else "high")
    assert ("a day later" in finding.message) is bool(raised)


def test_what_was_not_broken_has_no_finding() -> None:
    [finding] = glass.broken(broken())
    assert (finding.type, finding.severity) == ("break-glass", "high")
    plain = broken()
    assert glass.broken(replace(plain, terms=replace(plain.terms, kind="standard"))) == ()


def test_a_responder_without_a_glass_is_a_mistake() -> None:
    with pytest.raises(Invalid, match="responders go with break-glass"):
        glass.require_glass(terms(responders=(LEAD,)), FACTS)
