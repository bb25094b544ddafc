"""Break-glass (I10): at once, short, loud, and looked back on by people outside of the incident."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import faulty
from evidence.office import HOUR, Office, altered, places
from faulty import Fault
from muniment.config import load
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.identity import SYSTEM
from muniment.core.ticket import Ticket
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.main import open_desk
from muniment.service import deciding, delegating, looking
from muniment.service.attending import attend
from muniment.service.desk import CONTROLLER
from muniment.service.registry import record_registry

#: Bo is on call. Cyd and Dee own the target. Eve, on call too, works on the same incident. Flo reports to Bo, and Gil to Flo
PEOPLE = """
[identities."human:eve@example.com"]
groups = ["engineers", "on-call", "platform"]
[identities."human:flo@example.com"]
groups = ["platform"]
manager = "human:bo@example.com"
aliases = ["human:florence@example.com"]
[identities."human:gil@example.com"]
groups = ["platform"]
manager = "human:florence@example.com"
"""
AT_ONCE = {"break_glass": True, "incident": "INC-9", "length": HOUR / 2}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "access")
    write(made, lambda text: text + PEOPLE)
    yield made
    made.close()


def write(office: Office, change: Callable[[str], str]) -> None:
    file = office.folder / "identities.toml"
    file.write_text(change(file.read_text()))
    office.desk.directory.reload_if_changed()
    record_registry(office.desk, CONTROLLER)


def state(office: Office, ticket: str) -> Ticket:
    found = office.desk.store.read(ticket)[1]
    assert found
    return found


def broken(office: Office, who: str = "bo", **more: Any) -> str:
    ticket = office.ask(who=who, **AT_ONCE | more)
    office.give(ticket)
    assert office.status(ticket) == "active"
    return ticket


def over(office: Office, ticket: str) -> str:
    office.do(
        deciding.give_back, state(office, ticket).terms.requester.split("@")[0].removeprefix("human:"), ticket
    )
    office.take(ticket)
    assert office.status(ticket) == "revoked"
    return ticket


def review(office: Office, who: str, ticket: str, outcome: str = "appropriate") -> None:
    office.do(deciding.review, who, ticket, outcome=outcome, comment="looked")


def judged(log: list[bytes]) -> str | None:
    rules = TicketRules()
    for index, raw in enumerate(log):
        rules.feed(index, raw, decode_entry(raw, strict=True))
    return rules.result().first_fault


def kinds(office: Office, ticket: str) -> list[str]:
    return [e.event.kind.partition("/")[0] for e in office.desk.store.entries(ticket)]


def test_its_whole_life_skips_no_event(office: Office) -> None:
    ticket = over(office, broken(office, responders=("human:eve@example.com",)))
    review(office, "cyd", ticket)
    assert kinds(office, ticket) == [
        "request-submitted", "policy-decided", "request-approved", "provisioning-started", "finding-raised", "grant-observed",
        "revocation-ordered", "revocation-observed", "review-opened", "review-recorded", "finding-resolved", "request-closed",
    ]  # fmt: skip
    log = office.log()
    assert judged(log) is None

    def by_eve(entry: dict[str, Any]) -> None:
        entry["actor"]["id"] = entry["data"]["reviewer"] = "human:eve@example.com"

    changed = altered(log, places(log, ticket)["review-recorded"], by_eve)
    assert "is a responder of its incident" in str(judged(changed))


def test_it_is_loud_from_the_moment_in_which_access_may_exist(office: Office) -> None:
    ticket = broken(office)
    (finding,) = looking.findings(office.desk, office.caller("ops"))
    assert (finding["ticket"], finding["type"], finding["severity"]) == (ticket, "break-glass", "high")
    assert "bo@example.com broke the glass on bastion for INC-9" in finding["message"]


@pytest.mark.parametrize(
    ("more", "kind", "code"),
    [
        ({"incident": None}, Invalid, "invalid"),
        ({"starts_at": "later"}, Invalid, "invalid"),
        ({"length": timedelta(hours=4, seconds=1)}, Refused, "refused.too-long"),
        ({"responders": ("human:nobody@example.com",)}, Invalid, "invalid.unknown-identity"),
        (
            {"break_glass": False, "incident": None, "responders": ("human:eve@example.com",)},
            Invalid,
            "invalid",
        ),
    ],
)
def test_what_no_policy_allows(
    office: Office, more: dict[str, Any], kind: type[MunimentError], code: str
) -> None:
    if "starts_at" in more:
        more = {"starts_at": office.clock.at + HOUR}
    with pytest.raises(kind) as refused:
        office.ask(who="bo", **AT_ONCE | more)
    assert refused.value.code == code


#: who may look back on what Bo did, and why others may not
REVIEWERS = {
    "bo": "refused.self-review",
    "eve": "refused.involved",  # she broke the glass for the same incident
    "dee": "refused.involved",  # named as a responder
    "flo": "refused.subordinate",  # reports to Bo
    "gil": "refused.subordinate",  # reports to Flo, by her other name
    "ann": "not-found",  # sees nothing of it
    "cyd": None,
    "aud": None,
    "ops": None,
}


@pytest.mark.parametrize("who", REVIEWERS)
def test_who_looks_back_is_outside_of_the_incident(office: Office, who: str) -> None:
    ticket = broken(office, responders=("human:dee@example.com",))
    review(
        office, "aud", over(office, broken(office, "eve", incident="inc-9"))
    )  # closed long since, and written otherwise: she took part all the same
    over(office, ticket)
    code = REVIEWERS[who]
    acts: list[tuple[Any, dict[str, str]]] = [
        (deciding.review, {"outcome": "appropriate", "comment": "fine"}),
        (deciding.waive, {"check": "reviewed", "reason": "fine"}),
        (deciding.resolve, {"finding": "1", "reason": "fine"}),
    ]
    if code is None:
        review(office, who, ticket)
        assert office.status(ticket) == "closed"
        return
    for act, words in acts:
        with pytest.raises(MunimentError) as refused:
            office.do(act, who, ticket, **words)
        assert refused.value.code in {
            code,
            code.replace("review", "waive"),
            code.replace("review", "resolve"),
        }
    assert office.status(ticket) == "revoked"


def test_an_overdue_review_is_a_finding_escalates_and_blocks_the_next(office: Office) -> None:
    ticket = over(office, broken(office))
    due_at = state(office, ticket).review
    assert due_at
    attend(office.desk, [ticket])
    assert [f.type for f in state(office, ticket).findings] == ["break-glass"], "not before it is due"
    office.later(24 * 3600 + 5)
    for _ in range(2):  # twice: it is raised once
        attend(office.desk, [ticket])
    assert [(f.type, f.severity) for f in state(office, ticket).findings] == [
        ("break-glass", "high"),
        ("review-overdue", "high"),
    ]
    with pytest.raises(Refused, match="overdue") as refused:
        office.ask(who="bo", **AT_ONCE | {"incident": "INC-10"})
    assert refused.value.code == "refused.review-overdue"
    office.ask(who="bo")  # in the ordinary way he may ask
    broken(office, "eve", incident="INC-10")  # and others may break the glass

    office.later(24 * 3600)
    attend(office.desk, [ticket])
    attend(office.desk, [ticket])
    assert [f.severity for f in state(office, ticket).findings] == ["high", "high", "critical"]

    review(office, "cyd", ticket)
    assert office.status(ticket) == "closed", "the review answers every finding that waited for it"
    broken(office, incident="INC-11")
    assert judged(office.log()) is None


def test_an_overdue_review_is_named_only_to_who_may_see_it(office: Office) -> None:
    """I33: that Bo may break no glass has to be said; which ticket it was, only to who may see that."""
    ticket = over(office, broken(office))
    office.later(24 * 3600 + 5)
    asked = AT_ONCE | {"incident": "INC-10", "beneficiary": "human:bo@example.com"}
    for who, named in (("bo", True), ("ops", True), ("ann", False)):
        with pytest.raises(Refused) as refused:
            office.ask(who=who, **asked)
        assert refused.value.code == "refused.review-overdue", who
        assert (ticket in refused.value.message) is named, who


def demanding_approval(office: Office) -> None:
    """A policy that wants the word of an owner for break-glass, too."""
    file = office.folder / "policies" / "people.cedar"
    before = file.read_text()
    after = before.replace(
        '@min_approvals("0")\n@max_duration("1h")', '@approvers("owners")\n@max_duration("1h")'
    )
    assert after != before
    file.write_text(after)


def test_approvals_that_policy_demands_come_afterwards(tmp_path: Path) -> None:
    first = Office(tmp_path / "access")
    first.close()
    demanding_approval(first)
    office = _reopened(tmp_path / "access", first)
    write(office, lambda text: text + PEOPLE)
    ticket = broken(office, responders=("human:eve@example.com",))  # every approver is asleep
    for who, code in (
        ("bo", "refused.self-approval"),
        ("flo", "refused.by-policy"),
        ("eve", "refused.involved"),
    ):
        with pytest.raises(Refused) as refused:
            office.approve(ticket, who)
        assert refused.value.code == code
    over(office, ticket)
    review(office, "aud", ticket)
    assert office.status(ticket) == "revoked", "reviewed, and not approved yet"
    with pytest.raises(Refused):
        office.do(deciding.waive, "ops", ticket, check="approved_before_provisioned", reason="we know him")
    office.approve(ticket, "cyd")
    assert office.status(ticket) == "closed"
    log = office.log()
    assert judged(log) is None
    at = places(log, ticket)["approval-recorded"]
    by_bo = altered(log, at, lambda e: (e["actor"].update(id="human:bo@example.com"), e["data"].update(approver="human:bo@example.com")))  # fmt: skip
    assert "its requester" in str(judged(by_bo))
    office.close()


def test_a_target_that_is_never_read_back_excuses_no_review(tmp_path: Path) -> None:
    """Access may have existed: nobody saw whether it was given, until it was to end."""
    first = Office(tmp_path / "access")
    first.close()
    demanding_approval(first)
    office = _reopened(tmp_path / "access", first)
    ticket = office.ask(who="bo", **AT_ONCE)
    office.target.arrange("observe", Fault(times=1), faulty.unavailable_before())
    office.give(ticket)
    assert office.status(ticket) == "provisioning"
    office.later(3600)
    office.take(ticket)
    assert office.status(ticket) == "revoked"
    found = state(office, ticket)
    assert found.failure
    assert found.review
    assert [(f.type, f.resolved_at) for f in found.findings] == [("break-glass", None)]
    assert judged(office.log()) is None
    review(office, "aud", ticket)
    assert office.status(ticket) == "revoked", "reviewed, and not approved yet"
    office.approve(ticket, "cyd")
    assert office.status(ticket) == "failed"
    log = office.log()
    assert judged(log) is None
    at = places(log, ticket)["finding-resolved"]
    by_nobody = altered(log, at, lambda e: (e["actor"].update(id=SYSTEM), e["data"].update(reason=None)))
    assert "only the review" in str(judged(by_nobody))
    office.close()


@pytest.mark.parametrize(
    ("holder", "code"), [("eve", "refused.involved"), ("flo", "refused.subordinate"), ("dee", None)]
)
def test_nobody_inside_approves_through_a_delegate(tmp_path: Path, holder: str, code: str | None) -> None:
    first = Office(tmp_path / "access")
    first.close()
    demanding_approval(first)
    approvals = first.folder / "policies" / "approvals.cedar"  # no policy keeps reports from deciding
    approvals.write_text('@id("all")\npermit (principal is Human, action == Action::"approve", resource);')
    office = _reopened(tmp_path / "access", first)
    write(office, lambda text: text + PEOPLE)
    ticket = broken(office, responders=("human:eve@example.com",))
    to, length = "human:aud@example.com", timedelta(days=1)
    delegating.give(office.desk, office.caller(holder), to=to, length=length, reason="off")
    if code is None:
        office.approve(ticket, "aud")
        assert state(office, ticket).decisions
        return
    with pytest.raises(Refused) as refused:
        office.approve(ticket, "aud")
    assert refused.value.code == code
    office.close()


def test_nothing_stands_in_for_the_review(office: Office) -> None:
    ticket = broken(office)
    acts: list[tuple[Any, dict[str, str], str]] = [
        (deciding.resolve, {"finding": "1", "reason": "fine"}, "refused.review-first"),
        (deciding.waive, {"check": "reviewed", "reason": "fine"}, "refused.never-waived"),
        (deciding.waive, {"check": "findings_resolved", "reason": "fine"}, "refused.never-waived"),
    ]
    for act, words, code in acts:
        with pytest.raises(Refused) as refused:
            office.do(act, "ops", ticket, **words)
        assert refused.value.code == code
        if act is deciding.resolve:
            over(office, ticket)
    review(office, "aud", ticket)
    log = office.log()
    at = places(log, ticket)["finding-resolved"]
    by_hand = altered(log, at, lambda e: e["actor"].update(id="human:ops@example.com"))
    assert "only the review" in str(judged(by_hand))


def test_an_ordinary_ticket_is_not_approved_afterwards(office: Office) -> None:
    ticket = office.active()
    with pytest.raises(Refused) as refused:
        office.approve(ticket, "dee")
    assert refused.value.code == "refused.status"


def _reopened(folder: Path, before: Office) -> Office:
    """The same folder, with the policies as they are now."""
    made = object.__new__(Office)
    made.__dict__.update(before.__dict__)
    desk = open_desk(load(folder / "muniment.toml"), clock=before.clock)
    made.desk = dataclasses.replace(desk, targets=before.desk.targets)
    record_registry(made.desk, CONTROLLER)
    return made
