"""The last gate before access, and what is recorded of it: each rule of `core.fulfilling` by itself.

Real targets and every fault of theirs are in `tests/faults`; here each rule fails alone when it is taken out.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from core.lives import (
    BENEFICIARY,
    HOUR,
    LEAD,
    LEAD2,
    NOW,
    REQUESTER,
    RW,
    SUPER,
    Life,
    in_status,
    verdict,
)
from core.test_gate import approving, broken
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Refused, Unavailable
from muniment.core.events import Kept
from muniment.core.fulfilling import MAX_MESSAGE, OVERDUE_AFTER
from muniment.core.instants import wire
from muniment.core.scope import Privilege
from muniment.core.verdict import Evaluation, Stage


def start(life: Life, *, said=None, held=(), ticketed=(), **facts):
    standing = tuple(d.approver for d in life.ticket.decisions)
    told = life.system(**({"verdict": said or verdict(), "standing_approvers": standing} | facts))
    return life.do(c.StartProvisioning(held=held, ticketed=ticketed), told)


def kinds(events) -> list[str]:
    return [type(event).__name__ for event in events]


# ── may it begin? ──


def test_while_the_directory_may_be_old_only_a_broken_glass_is_given() -> None:
    life = in_status("approved")
    with pytest.raises(Unavailable):
        start(life, stale="the file cannot be read")
    assert life.ticket.status == "approved"
    glass = Life(kind="break_glass", incident="INC-1", beneficiary=REQUESTER, duration=3600).submit(
        verdict(needed=2)
    )
    assert "ProvisioningStarted" in kinds(
        start(glass, said=verdict(needed=2), stale="the file cannot be read")
    )


@pytest.mark.parametrize(
    ("waits", "what"),
    [(timedelta(), "Refused"), (HOUR, "ProvisioningStarted"), (2 * HOUR, "ProvisioningStarted"), (3 * HOUR, "RequestLapsed")],
    ids=str,
)  # fmt: skip
def test_only_within_the_window_that_was_asked_for(waits: timedelta, what: str) -> None:
    life = Life(starts_at=wire(NOW + HOUR)).submit().approve()
    life.now += waits
    if what == "Refused":
        with pytest.raises(Refused) as caught:
            start(life)
        assert caught.value.code == "refused.early"
        return
    [event] = start(life)
    assert type(event).__name__ == what
    if isinstance(event, e.ProvisioningStarted):
        assert (event.starts_at, event.expires_at) == (wire(life.now), wire(NOW + 3 * HOUR))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"verdict": None}, "the beneficiary or whoever answers for it is deactivated"),
        ({"active": False}, "the beneficiary or whoever answers for it is deactivated"),
        ({"said": verdict(permitted=False)}, "no"),
        ({"said": replace(verdict(), obligations=None)}, "what policy demands changed since the approval: it says no longer what access obliges to"),
    ],
    ids=str,
)  # fmt: skip
def test_what_policy_does_not_permit_now_is_denied(facts, reason: str) -> None:
    life = in_status("approved")
    [event] = start(life, **facts)
    assert event == e.RequestDenied(by="policy", reasons=(reason,))


def test_a_no_keeps_what_policy_was_asked_and_answered() -> None:
    asked = Evaluation(
        principal='Human::"ann"',
        action="request",
        resource='Privilege::"p"',
        context={},
        allowed=False,
        determining=(),
    )
    said = replace(verdict(permitted=False), evaluations=(asked,), entities=({"uid": {}},))
    [event] = start(in_status("approved"), said=said)
    assert (event.policies, event.evaluations, event.entities) == ("sha256:aa", (asked,), ({"uid": {}},))


def test_an_approval_without_a_login_is_of_no_assurance() -> None:
    for assurance, kind in ((UNSET, e.ProvisioningStarted), (1, e.RequestDenied), (3, e.RequestDenied)):
        [event] = start(in_status("approved"), said=demanding(assurance=assurance))
        assert isinstance(event, kind)


def demanding(**changes):
    said = verdict()
    return replace(said, obligations=replace(said.obligations, **changes))


STRICTER = [
    ({"longest": 7199}, "at most"),
    ({"longest": 7200}, None),
    ({"references": ("change",)}, "demands a reference"),
    ({"native_expiry": True}, "itself ends the access"),
    ({"signed": True}, "must sign"),
    ({"witnessed": True}, "witnesses"),
    ({"stages": (Stage(name="dba-leads", needed=2, approvers=("group:dba-leads",)),)}, "more approvals in dba-leads"),
    ({"stages": (Stage(name="dba-leads", needed=1, approvers=("group:others",)),)}, "more approvals in dba-leads"),
    ({"stages": (Stage(name="dba-leads", needed=1, approvers=("group:dba-leads", "group:others")),)}, None),
    ({"stages": (Stage(name="security", needed=1, approvers=("group:security",)),)}, "more approvals in security"),
    ({"stages": ()}, None),
]  # fmt: skip


@pytest.mark.parametrize(("now", "why"), STRICTER, ids=str)
def test_what_policy_demands_now_holds_for_what_was_approved_before(now, why: str | None) -> None:
    life = in_status("approved")
    [event] = start(life, said=demanding(**now))
    if why is None:
        assert isinstance(event, e.ProvisioningStarted)
    else:
        assert isinstance(event, e.RequestDenied)
        assert why in event.reasons[0]


def test_of_two_approvals_each_must_be_signed_where_that_is_demanded_now() -> None:
    life = Life().submit(verdict(needed=2))
    approving(life, LEAD)
    life.do(c.Approve(digest=life.ticket.digest, signature="ssh"), replace(life.lead(LEAD2), signed_by="key"))
    assert isinstance(start(life, said=verdict(needed=2, signed=True))[0], e.RequestDenied)
    signed = Life().submit(verdict(needed=2))
    for who in (LEAD, LEAD2):
        signed.do(
            c.Approve(digest=signed.ticket.digest, signature="ssh"),
            replace(signed.lead(who), signed_by="key"),
        )
    assert isinstance(start(signed, said=verdict(needed=2, signed=True))[0], e.ProvisioningStarted)


def test_what_was_witnessed_when_it_was_asked_for_is_given() -> None:
    life = Life().submit(verdict(witnessed=True)).approve()
    assert isinstance(start(life, said=verdict(witnessed=True))[0], e.ProvisioningStarted)


def test_approvals_that_no_longer_stand_are_void() -> None:
    life = Life().submit(verdict(needed=2)).approve(LEAD).approve(LEAD2)
    [event] = start(life, said=verdict(needed=2), standing_approvers=(LEAD,))
    assert event == e.ApprovalsVoided(approvers=(LEAD2,), reason="no longer entitled to approve")
    assert (life.ticket.status, [d.approver for d in life.ticket.decisions]) == ("pending", [LEAD])


def test_what_is_held_without_a_ticket_is_not_given_and_what_another_ticket_gives_is() -> None:
    life = in_status("approved")
    failed, closed = start(life, held=(RW, SUPER))
    assert (failed.code, closed.outcome, life.ticket.status) == ("target.already-held", "failed", "failed")
    assert str(RW) in failed.message
    assert str(SUPER) not in failed.message  # nobody asked for it
    other = in_status("approved")
    assert isinstance(start(other, held=(RW,), ticketed=(RW,))[0], e.ProvisioningStarted)


def test_more_than_the_ledger_can_take_down_is_not_touched() -> None:
    life = in_status("approved")
    much = tuple(Privilege(privilege=f"{n:05}" + "x" * 200) for n in range(20_000))
    failed, _ = start(life, held=much)
    assert (failed.code, life.ticket.status) == ("target.too-much-held", "failed")


# ── what was given ──


def test_nothing_more_is_news_once_the_end_was_ordered() -> None:
    """Read back for the first time after the end: only more than was approved is recorded, and once."""
    life = in_status("provisioning")
    life.do(c.Return(), life.by(REQUESTER))
    assert life.do(c.RecordGrant(granted=(RW,)), life.system()) == ()
    observed, finding, failed = life.do(c.RecordGrant(granted=(RW, SUPER)), life.system())
    assert (observed.comparison.excess, finding.type, failed.code) == ((SUPER,), "excess", "target.excess")
    assert life.ticket.status == "revoking"
    assert life.do(c.RecordGrant(granted=(RW, SUPER)), life.system()) == ()


def test_more_than_was_approved_after_a_failure_is_a_finding_alone() -> None:
    life = in_status("provisioning")
    life.do(c.FailProvisioning(code="target.rejected", message="no such role"), life.system())
    assert kinds(life.do(c.RecordGrant(granted=(SUPER,)), life.system())) == [
        "GrantObserved",
        "FindingRaised",
    ]


def test_more_than_was_approved_ends_at_once() -> None:
    life = in_status("provisioning")
    observed, finding, failed, ordered = life.do(c.RecordGrant(granted=(RW, SUPER)), life.system())
    said = (observed.comparison.excess, finding.severity, failed.code, ordered.cause)
    assert said == ((SUPER,), "critical", "target.excess", "excess")
    assert "gave more than was approved" in finding.message


def test_many_more_than_was_approved_are_counted() -> None:
    life = in_status("provisioning")
    more = tuple(Privilege(privilege=f"{n:05}" + "x" * 200) for n in range(400))
    finding = life.do(c.RecordGrant(granted=(RW, *more)), life.system())[1]
    assert "gave 400 privileges more than was approved" in finding.message


def test_less_than_was_approved_ends_as_failed() -> None:
    life = in_status("provisioning")
    assert kinds(life.do(c.RecordGrant(granted=()), life.system())) == [
        "GrantObserved", "ProvisioningFailed", "RevocationOrdered",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "after"), [("approved", ["ProvisioningFailed", "RequestClosed"]), ("provisioning", ["ProvisioningFailed", "RevocationOrdered"])]
)  # fmt: skip
def test_what_failed_before_anything_was_touched_is_over(status: str, after: list[str]) -> None:
    life = in_status(status)
    assert kinds(life.do(c.FailProvisioning(code="x", message="why"), life.system())) == after


# ── the end ──


def test_nothing_expires_before_its_end() -> None:
    life = in_status("active")
    life.now = life.ticket.expiry - timedelta(microseconds=1)
    assert life.do(c.End(cause="expired"), life.system()) == ()
    assert life.do(c.End(cause="offboarded"), life.system()) == (
        e.RevocationOrdered(cause="offboarded", reason=None),
    )
    other = in_status("active")
    other.now = other.ticket.expiry
    assert other.do(c.End(cause="expired"), other.system()) == (
        e.RevocationOrdered(cause="expired", reason=None),
    )


def test_what_nobody_could_give_in_time_says_so() -> None:
    life = in_status("provisioning")
    life.now = life.ticket.expiry
    assert kinds(life.do(c.End(cause="expired"), life.system())) == [
        "ProvisioningFailed",
        "RevocationOrdered",
    ]


def test_what_another_ticket_keeps_is_not_said_to_be_gone() -> None:
    life = Life(scope=(SUPER, RW) if str(SUPER) < str(RW) else (RW, SUPER)).submit().approve().start()
    life.grant(RW, SUPER).expire()
    kept = (Kept(privilege=RW, ticket="req_2"),)
    gone = life.do(c.RecordRevocation(kept=kept, sessions_ended=2), life.system())[0]
    assert (gone.gone, gone.kept, gone.sessions_ended) == ((SUPER,), kept, 2)


@pytest.mark.parametrize(("within", "opens"), [(3600, True), (None, False)])
def test_a_review_is_opened_where_policy_demands_one_and_once(within: int | None, opens: bool) -> None:
    life = Life().submit(verdict(review_within=within)).approve().start().grant().expire()
    said = life.do(c.RecordRevocation(sessions_ended=0), life.system())
    assert ("ReviewOpened" in kinds(said)) is opens
    if opens:
        assert life.ticket.review.due_at == wire(life.now + timedelta(seconds=3600))


def test_trouble_with_the_end_is_recorded_when_it_is_new_and_found_when_it_lasts() -> None:
    life = in_status("revoking")
    no_answer = c.FailRevocation(code="target.unavailable", message="no answer")
    assert kinds(life.do(no_answer, life.system())) == ["RevocationFailed"]
    assert life.do(no_answer, life.system()) == ()
    assert kinds(life.do(replace(no_answer, message="refused"), life.system())) == ["RevocationFailed"]
    life.now += OVERDUE_AFTER - timedelta(microseconds=1)
    assert life.do(replace(no_answer, message="refused"), life.system()) == ()
    life.now += timedelta(microseconds=1)
    [finding] = life.do(replace(no_answer, message="refused"), life.system())
    assert (finding.type, finding.severity, finding.scope) == ("overdue", "high", (RW,))
    assert life.do(replace(no_answer, message="refused"), life.system()) == ()
    over = life.do(c.RecordRevocation(sessions_ended=0), life.system())
    assert [event.finding for event in over if isinstance(event, e.FindingResolved)] == [finding.finding]


def test_what_is_late_is_a_finding_beside_others_and_names_what_was_given() -> None:
    life = in_status("provisioning").grant(RW, SUPER)
    assert [finding.type for finding in life.ticket.findings] == ["excess"]
    life.now += OVERDUE_AFTER
    said = life.do(c.FailRevocation(code="target.unavailable", message="no answer"), life.system())
    assert [(event.type, event.scope) for event in said if isinstance(event, e.FindingRaised)] == [
        ("overdue", (RW, SUPER))
    ]


@pytest.mark.parametrize("status", ["provisioning", "active"])
def test_what_a_signal_ended_is_for_somebody_to_look_at(status: str) -> None:
    life = in_status(status)
    ended = life.do(c.End(cause="signal"), life.system())
    [ordered] = [event for event in ended if isinstance(event, e.RevocationOrdered)]
    assert ordered.cause == "signal"
    [found] = [event for event in ended if isinstance(event, e.FindingRaised)]
    assert (found.finding, found.type, found.severity, found.scope) == ("1", "signal", "high", (RW,))
    assert found.message == f"a signal about {BENEFICIARY} ended req_1"
    other = in_status(status)
    assert "FindingRaised" not in kinds(other.do(c.End(cause="revoked"), other.system()))


def test_what_a_signal_ended_is_found_as_it_was_given() -> None:
    life = in_status("active")
    life.ticket = replace(life.ticket, granted=(SUPER, RW))
    [found] = [
        each for each in life.do(c.End(cause="signal"), life.system()) if isinstance(each, e.FindingRaised)
    ]
    assert found.scope == (SUPER, RW)


def test_foreign_words_are_kept_visible_and_short() -> None:
    life = in_status("provisioning")
    failed = life.do(c.FailProvisioning(code="x", message="\x1b[2J" + "y" * 5000), life.system())[0]
    assert "\x1b" not in failed.message
    assert len(failed.message) == MAX_MESSAGE
    assert failed.message.endswith("…")
    plain = in_status("provisioning")
    cut = plain.do(c.FailProvisioning(code="x", message="y" * 1001), plain.system())[0]
    assert cut.message == "y" * 999 + "…"
    other = in_status("provisioning")
    assert other.do(c.FailProvisioning(code="x", message="short"), other.system())[0].message == "short"


def test_use_is_paired_with_its_ticket() -> None:
    life = in_status("active")
    used = c.RecordUse(
        source="pg", digest="sha256:aa", events=3, first_at=wire(NOW), last_at=wire(NOW), privileges=(RW,)
    )
    [event] = life.do(used, life.system())
    assert (event.events, event.privileges) == (3, (RW,))


def test_a_broken_glass_is_a_finding_from_its_first_moment() -> None:
    assert [f.type for f in broken().ticket.findings] == ["break-glass"]
    assert BENEFICIARY not in broken().ticket.findings[0].message
