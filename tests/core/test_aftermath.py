"""Ending access early and looking back, as tables: who, when, and what each of it leaves for others to do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from core.lives import LEAD, LEAD2, NOW, OWNER, REQUESTER, RW, SUPER, WORDS, Life, in_status, person, verdict
from core.test_gate import INCIDENT, approving, refusal
from core.test_giving import kinds
from muniment.core import aftermath
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.glass import BROKEN
from muniment.core.instants import wire
from muniment.core.login import FRESH, Login, falls_short
from muniment.core.ticket import Finding
from muniment.core.verdict import Obligations

OPERATOR = "human:opa@example.com"


def steward(life: Life, **facts) -> c.Facts:
    return life.by(OPERATOR, steward=True, **facts)


def overseen(status: str = "revoked", **changes) -> Life:
    """Of two approvers, with a review owed, in a status; its glass broken if it says so."""
    life = Life(**changes).submit(verdict(needed=2, review_within=3600))
    if life.ticket.terms.kind == "standard":
        life.approve(LEAD).approve(LEAD2)
    standing = tuple(d.approver for d in life.ticket.decisions)
    facts = life.system(verdict=verdict(needed=2, review_within=3600), standing_approvers=standing)
    life.do(c.StartProvisioning(held=(), ticketed=()), facts)
    life.grant()
    if status in {"revoking", "revoked"}:
        life.expire()
    if status == "revoked":
        life.gone()
    return life


def glass(status: str = "revoked") -> Life:
    life = overseen(status, **INCIDENT, beneficiary=REQUESTER, account="ann")
    for who in (LEAD, LEAD2):
        approving(life, who)
    return life


# ── ending it early ──


@pytest.mark.parametrize("who", [LEAD, LEAD2])
def test_each_who_approved_may_end_it(who: str) -> None:
    life = overseen("active")
    [event] = life.do(c.Revoke(reason=WORDS), life.by(who))
    assert event == e.RevocationOrdered(cause="revoked", reason=WORDS)


@pytest.mark.parametrize(
    ("who", "facts", "may"),
    [
        (OPERATOR, {"steward": True}, True),
        (OWNER, {}, True),
        ("human:eve@example.com", {}, False),
        (OPERATOR, {"steward": True, "actor": person(OPERATOR, active=False)}, False),
        ("human:cyd2@example.com", {"actor": person("human:cyd2@example.com", aliases=(LEAD,))}, True),
    ],
)
def test_who_else_may_end_it(who: str, facts: dict, may: bool) -> None:
    life = overseen("active")
    if may:
        assert life.do(c.Revoke(reason=WORDS), life.by(who, **facts))
    else:
        assert (
            refusal(life.do, c.Revoke(reason=WORDS), life.by(who, **facts)).code == "refused.not-responsible"
        )


@pytest.mark.parametrize(
    ("status", "becomes", "happens"),
    [
        ("approved", "withdrawn", "RequestWithdrawn"),
        ("provisioning", "revoking", "RevocationOrdered"),
        ("active", "revoking", "RevocationOrdered"),
    ],
)
def test_before_anything_was_given_nothing_is_touched(status: str, becomes: str, happens: str) -> None:
    life = in_status(status)
    assert kinds(life.do(c.Revoke(reason=WORDS), steward(life))) == [happens]
    assert life.ticket.status == becomes


# ── looking back ──


def test_a_review_is_done_once() -> None:
    life = glass()
    life.do(c.Review(outcome="inappropriate", comment=WORDS), steward(life))
    assert life.ticket.status == "revoked"  # the finding is open
    again = refusal(life.do, c.Review(outcome="appropriate", comment=WORDS), steward(life))
    assert (again.code, again.message) == ("refused.reviewed", f"req_1 was reviewed by {OPERATOR}")


def test_where_none_is_owed_nobody_reviews() -> None:
    life = in_status("active")
    assert (
        refusal(life.do, c.Review(outcome="appropriate", comment=WORDS), steward(life)).code
        == "refused.no-review"
    )


def test_what_was_found_inappropriate_is_for_somebody_to_look_at() -> None:
    life = overseen()
    events = life.do(c.Review(outcome="inappropriate", comment=WORDS), steward(life))
    [found] = [event for event in events if isinstance(event, e.FindingRaised)]
    assert (found.finding, found.type, found.severity, found.scope) == (
        "1",
        "inappropriate-use",
        "high",
        (RW,),
    )
    more = overseen()
    more.ticket = replace(more.ticket, granted=(SUPER, RW))
    [*_, found] = aftermath.review(
        more.ticket, c.Review(outcome="inappropriate", comment=WORDS), steward(more), NOW
    )
    assert found.scope == (SUPER, RW)


def test_a_glass_whose_access_nobody_could_read_is_found_by_what_was_asked() -> None:
    life = overseen("active", **INCIDENT, beneficiary=REQUESTER, account="ann")
    ticket = replace(glass().ticket, granted=None, findings=life.ticket.findings)
    facts = steward(life)
    [*_, found] = aftermath.review(ticket, c.Review(outcome="inappropriate", comment=WORDS), facts, NOW)
    assert (found.type, found.scope) == ("inappropriate-use", (RW,))


# ── waiving ──


@pytest.mark.parametrize(
    ("check", "message", "remedy"),
    [
        ("nobody_alone", "nobody_alone is never waived", "It points at a fault; tell an operator."),
        (
            "reviewed",
            "reviewed is never waived of a broken glass",
            "Have it reviewed, and its findings resolved.",
        ),
    ],
)
def test_why_it_is_never_waived_is_said(check: str, message: str, remedy: str) -> None:
    life = glass()
    refused = refusal(life.do, c.Waive(check=check, reason=WORDS), steward(life))
    assert (refused.code, refused.message, refused.remedy) == ("refused.never-waived", message, remedy)


def test_while_access_is_there_only_its_end_is_attested() -> None:
    life = overseen("revoking")
    assert refusal(life.do, c.Waive(check="reviewed", reason=WORDS), steward(life)).code == "refused.status"
    events = life.do(c.Waive(check="gone", reason=WORDS), steward(life))
    assert kinds(events) == ["CheckWaived", "ReviewOpened"]


def test_only_the_word_that_access_is_gone_opens_the_review_that_is_owed() -> None:
    """As a look would: another check has nothing to do with it."""
    life = overseen()
    finding = Finding(id="1", type="excess", severity="high", message="", scope=(), raised_at=wire(NOW))
    life.ticket = replace(life.ticket, review=None, findings=(finding,))
    assert kinds(life.do(c.Waive(check="findings_resolved", reason=WORDS), steward(life)))[:2] == [
        "CheckWaived"
    ]


# ── findings ──


def found(life: Life, *findings: tuple[str, str | None]) -> None:
    life.ticket = replace(
        life.ticket,
        findings=tuple(
            Finding(
                id=str(at), type=kind, severity="high", message="", scope=(), raised_at=wire(NOW), resolved_at=resolved
            )
            for at, (kind, resolved) in enumerate(findings, 1)
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("named", "code"), [("1", "not-found"), ("2", None), ("3", None), ("4", "not-found"), ("", "not-found")]
)
def test_the_open_finding_that_was_named_is_resolved(named: str, code: str | None) -> None:
    life = overseen("active")
    found(life, ("excess", wire(NOW)), ("excess", None), ("signal", None))
    command = c.Resolve(finding=named, reason=WORDS)
    if code:
        assert refusal(life.do, command, steward(life)).code == code
    else:
        assert life.do(command, steward(life)) == (e.FindingResolved(finding=named, reason=WORDS),)


def test_nobodys_word_stands_in_for_the_review_of_a_broken_glass() -> None:
    life = glass("active")
    [broken] = [f for f in life.ticket.findings if f.type == BROKEN]
    refused = refusal(life.do, c.Resolve(finding=broken.id, reason=WORDS), steward(life))
    assert refused.code == "refused.review-first"


# ── who ──

LOOKING_BACK = [
    c.Review(outcome="appropriate", comment=WORDS),
    c.Waive(check="findings_resolved", reason=WORDS),
    c.Resolve(finding="1", reason=WORDS),
]


@pytest.mark.parametrize("command", LOOKING_BACK, ids=lambda command: type(command).__name__)
@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"stale": "the file cannot be read"}, "refused.stale-directory"),
        ({"on_incident": (OPERATOR,)}, "refused.involved"),
        ({"superiors": (REQUESTER,)}, "refused.subordinate"),
        ({"steward": False}, "refused.not-responsible"),
        ({"actor": person(REQUESTER)}, None),
        ({"actor": None}, "refused.not-a-person"),
    ],
    ids=str,
)
def test_who_looks_back(command, facts: dict, code: str | None) -> None:
    life = glass()
    found(life, ("excess", None))
    do = {c.Review: aftermath.review, c.Waive: aftermath.waive, c.Resolve: aftermath.resolve}[type(command)]
    refused = refusal(do, life.ticket, command, replace(steward(life), **facts), NOW)
    assert refused.code == code or (code is None and refused.code.startswith("refused.self-"))


def test_nobody_looks_back_on_ordinary_use_either_by_whom_they_report_to() -> None:
    life = overseen()
    facts = replace(steward(life), superiors=(REQUESTER,))
    refused = refusal(life.do, c.Review(outcome="appropriate", comment=WORDS), facts)
    assert refused.code == "refused.subordinate"


# ── how somebody signed in ──


def login(level: int = 2, age: timedelta = timedelta()) -> Login:
    return Login(method="oidc", issuer="https://idp", subject="1", at=wire(NOW - age), level=level)


@pytest.mark.parametrize(
    ("owed", "shown", "why"),
    [
        (None, None, None),
        (Obligations(stages=(), longest=60), None, None),
        (Obligations(stages=(), longest=60, assurance=1), None, "nobody signed in: a token shows no assurance"),
        (Obligations(stages=(), longest=60, assurance=2), login(1), "the login has assurance 1"),
        (Obligations(stages=(), longest=60, assurance=2), login(2), None),
        (Obligations(stages=(), longest=60, assurance=2), login(2, FRESH), None),
        (Obligations(stages=(), longest=60, assurance=2), login(3, FRESH + timedelta(seconds=1)), "the login is older than 15 minutes"),
    ],
)  # fmt: skip
def test_what_is_missing_of_a_login(owed: Obligations | None, shown: Login | None, why: str | None) -> None:
    assert falls_short(owed, shown, NOW) == why
