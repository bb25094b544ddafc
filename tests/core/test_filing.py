"""What is refused before anything is on file, each at its edge; and what policy's verdict makes of the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from core.lives import BENEFICIARY, NOW, OWNER, REQUESTER, RW, Life, verdict
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Invalid, Refused
from muniment.core.filing import MAX_BUNDLE, PAST_TOLERANCE
from muniment.core.instants import LONGEST, wire

MICRO = timedelta(microseconds=1)
DAYS = int(LONGEST.total_seconds())
ROOMY = replace(verdict(), obligations=replace(verdict().obligations, longest=10 * DAYS))


def file(said=ROOMY, *, by: str = REQUESTER, facts=None, **terms) -> Life:
    life = Life(**terms)
    told = replace(life.by(by, verdict=said), **(facts or {}))
    life.do(c.Submit(ticket="req_1", terms=life.terms), told)
    return life


#: what is asked, and the code of the refusal; None: it is filed
EDGES = [
    ({"duration": 1}, None),
    ({"duration": 0}, "invalid"),
    ({"duration": -1}, "invalid"),
    ({"duration": DAYS, "beneficiary": REQUESTER}, None),
    ({"duration": DAYS + 1, "beneficiary": REQUESTER}, "invalid"),
    ({"scope": ()}, "invalid"),
    ({"starts_at": wire(NOW - PAST_TOLERANCE)}, None),
    ({"starts_at": wire(NOW - PAST_TOLERANCE - MICRO)}, "invalid"),
    ({"starts_at": wire(NOW + LONGEST)}, None),
    ({"starts_at": wire(NOW + LONGEST + MICRO)}, "invalid"),
    ({"kind": "break_glass", "incident": "INC-1", "beneficiary": REQUESTER}, None),
    ({"kind": "break_glass", "beneficiary": REQUESTER}, "invalid"),
    ({"bundle": ("req_1", "req_2")}, None),
    ({"bundle": tuple(f"req_{n}" for n in range(1, MAX_BUNDLE + 2))}, "invalid"),
]


@pytest.mark.parametrize(("asked", "code"), EDGES, ids=str)
def test_at_its_edge(asked, code) -> None:
    if code is None:
        assert file(**asked).ticket.status in {"pending", "approved"}
        return
    with pytest.raises(Invalid) as caught:
        file(**asked)
    assert (caught.value.code, bool(caught.value.remedy)) == (code, True)


#: who files it and what is known, and the code of the refusal
WHO = [
    ({"by": OWNER}, "refused.actor"),
    ({"by": BENEFICIARY}, "refused.actor"),
    ({"said": None}, "refused.actor"),
    ({"facts": {"active": False}}, "refused.inactive"),
    ({"facts": {"accountable": ()}}, "refused.no-owner"),
    ({"requester": "ai_agent:bot", "by": "ai_agent:bot", "beneficiary": OWNER, "facts": {"accountable": ()}}, "refused.no-owner"),
    ({"facts": {"spent": ()}}, "refused.budget"),
    ({"extends": "req_0"}, "not-found"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "code"), WHO, ids=str)
def test_who_may_file(asked, code) -> None:
    with pytest.raises(Refused) as caught:
        file(**asked)
    assert caught.value.code == code


def test_a_person_without_an_owner_files_for_themselves() -> None:
    assert file(beneficiary=REQUESTER, facts={"accountable": (), "spent": ()}).ticket.status == "pending"


def test_by_nobody() -> None:
    with pytest.raises(Refused):
        file(facts={"actor": None})


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        (verdict(), ["request-submitted/1", "policy-decided/1"]),
        (verdict(needed=0), ["request-submitted/1", "policy-decided/1", "request-approved/1"]),
        (verdict(permitted=False), ["request-submitted/1", "policy-decided/1", "request-denied/1"]),
        (
            replace(verdict(), obligations=None),
            ["request-submitted/1", "policy-decided/1", "request-denied/1"],
        ),
        (
            replace(verdict(), permitted=False),
            ["request-submitted/1", "policy-decided/1", "request-denied/1"],
        ),
    ],
)
def test_what_the_verdict_makes_of_it(said, kinds) -> None:
    assert [r.event.kind for r in file(said).events] == kinds


def test_what_is_approved_without_anybody_is_what_was_asked() -> None:
    [approved] = [r.event for r in file(verdict(needed=0)).events if isinstance(r.event, e.RequestApproved)]
    assert (approved.approvers, approved.scope, approved.duration) == ((), (RW,), 7200)


@pytest.mark.parametrize(
    ("obliged", "asked", "code"),
    [
        ({"longest": 7200}, {}, None),
        ({"longest": 7199}, {}, "refused.too-long"),
        ({"references": ("change",)}, {}, "refused.reference-required"),
        ({"references": ("change",)}, {"references": {"change": "CHG-7"}}, None),
        (
            {"references": ("change", "risk")},
            {"references": {"change": "CHG-7"}},
            "refused.reference-required",
        ),
        ({"native_expiry": True}, {}, "refused.native-expiry"),
        ({"native_expiry": True}, {"facts": {"native_expiry": True}}, None),
        ({"sessions_cut": True}, {}, "refused.sessions-cut"),
        ({"sessions_cut": True}, {"facts": {"ends_sessions": True}}, None),
        ({"scope_bounded": True}, {}, "refused.scope-bounded"),
        ({"scope_bounded": True}, {"facts": {"scope_bounded": True}}, None),
    ],
)
def test_what_policy_demands_of_the_request(obliged, asked, code) -> None:
    said = replace(verdict(), obligations=replace(verdict().obligations, **obliged))
    if code is None:
        assert file(said, **asked).ticket.status == "pending"
        return
    with pytest.raises(Refused) as caught:
        file(said, **asked)
    assert (caught.value.code, bool(caught.value.remedy)) == (code, True)
