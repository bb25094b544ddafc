"""Somebody left, as a table: what that makes of a ticket in each status, and that nobody else's part in it falls (I22)."""

from __future__ import annotations

import pytest

from core.lives import LEAD, LEAD2, Life, in_status, verdict
from core.test_giving import kinds
from core.test_stages import GUS, for_another, given_to
from muniment.core import commands as c
from muniment.core import events as e

WHY = "human:cyd@example.com left"


def left(life: Life, *gone: str, active: bool = True):
    return life.do(c.Offboard(gone=gone, reason=WHY), life.system(active=active))


@pytest.mark.parametrize(
    ("status", "happens"),
    [
        ("pending", ["RequestDenied"]),
        ("approved", ["RequestDenied"]),
        ("provisioning", ["ProvisioningFailed", "RevocationOrdered"]),
        ("active", ["RevocationOrdered"]),
    ],
)
def test_what_nobody_answers_for_any_more_is_over(status: str, happens: list[str]) -> None:
    life = in_status(status)
    events = left(life, active=False)
    assert kinds(events) == happens
    if happens == ["RequestDenied"]:
        assert events[0].by == "policy"
        assert events[0].reasons == (
            "the requester, the beneficiary or whoever answers for it is deactivated",
        )
    else:
        assert events[-1].cause == "offboarded"


@pytest.mark.parametrize(
    ("status", "gone", "fallen"),
    [
        ("pending", (LEAD,), ()),
        ("approved", (LEAD,), (LEAD,)),
        ("approved", (LEAD2,), ()),
        ("approved", (), ()),
        ("provisioning", (LEAD,), ()),
        ("active", (LEAD,), ()),
    ],
)
def test_what_somebody_approved_who_left_is_void_until_access_was_given(status, gone, fallen) -> None:
    events = left(in_status(status), *gone)
    if fallen:
        assert events == (e.ApprovalsVoided(approvers=fallen, reason=WHY),)
    else:
        assert events == ()


def test_of_several_approvals_only_theirs_falls() -> None:
    life = Life().submit(verdict(needed=3)).approve(LEAD).approve(LEAD2)
    assert left(life, LEAD2) == (e.ApprovalsVoided(approvers=(LEAD2,), reason=WHY),)
    assert [d.approver for d in life.ticket.decisions] == [LEAD]


def test_a_delegates_falls_with_whoever_handed_it_on() -> None:
    life = for_another(Life().submit(verdict(needed=2)), GUS, given_to(GUS))
    assert left(life, "human:nobody@example.com") == ()
    assert left(life, LEAD) == (e.ApprovalsVoided(approvers=(GUS,), reason=WHY),)
