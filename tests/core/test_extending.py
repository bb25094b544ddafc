"""Access that goes on under a new ticket: decided by itself, from the end of the old one, and not past its reasons (I21)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from core.lives import LEAD, NOW, REQUESTER, RW, SUPER, Life, in_status, verdict
from muniment.core import commands as c
from muniment.core.due import due
from muniment.core.errors import Invalid, Refused
from muniment.core.extending import cut_short, falls_with
from muniment.core.instants import wire
from muniment.core.ticket import HAND_OVER, STATUSES, Revocation, Ticket

END = NOW + timedelta(hours=2)


def active(**changes) -> Ticket:
    life = in_status("active")
    return replace(life.ticket, id="req_0", **changes)


def asked(before: Ticket | None, now=NOW + timedelta(hours=1), **changes) -> Life:
    life = Life(**{"extends": "req_0", "starts_at": wire(END), "duration": 3600} | changes)
    life.now = now
    told = life.by(REQUESTER, verdict=verdict(), extended=before)
    life.do(c.Submit(ticket="req_1", terms=life.terms), told)
    return life


def start(life: Life, before: Ticket | None) -> Life:
    told = life.system(verdict=verdict(), standing_approvers=(LEAD,), extended=before)
    life.do(c.StartProvisioning(held=(RW,), ticketed=(RW,)), told)
    return life


def test_it_is_decided_by_itself() -> None:
    assert asked(active()).ticket.status == "pending"


WRONG = {
    "another ticket": lambda: asked(replace(active(), id="req_9")),
    "no ticket": lambda: asked(None),
    "over": lambda: asked(active(), now=END),
    "not given yet": lambda: asked(replace(in_status("approved").ticket, id="req_0")),
    "ended": lambda: asked(replace(in_status("closed").ticket, id="req_0")),
    "another account": lambda: asked(active(), account="root"),
    "another target": lambda: asked(active(), target="pg-dev"),
    "another beneficiary": lambda: asked(active(), beneficiary="human:eve@example.com"),
    "more than it gives": lambda: asked(active(), scope=(RW, SUPER)),
    "from another instant": lambda: asked(active(), starts_at=wire(END + timedelta(seconds=1))),
    "from now": lambda: asked(active(), starts_at=None),
    "as an emergency": lambda: asked(active(), kind="break_glass", incident="INC-1"),
}


@pytest.mark.parametrize("why", WRONG)
def test_it_carries_on_what_is_there_or_less(why: str) -> None:
    with pytest.raises((Refused, Invalid)):
        WRONG[why]()


def test_it_is_given_a_moment_before_the_old_one_ends() -> None:
    before = active()
    life = asked(before).approve()
    assert due(life.ticket) == ("provision", END - HAND_OVER)
    life.now = END - HAND_OVER - timedelta(microseconds=1)
    with pytest.raises(Refused) as caught:
        start(life, before)
    assert caught.value.code == "refused.early"
    life.now = END - HAND_OVER
    start(life, before)
    assert life.ticket.status == "provisioning"
    assert (life.ticket.start, life.ticket.expiry) == (END, END + timedelta(hours=1))
    assert due(life.ticket) == ("provision", END - HAND_OVER)


@pytest.mark.parametrize(
    "before",
    [
        lambda: None,
        lambda: replace(active(), id="req_9"),
        lambda: active(expires_at=wire(END + timedelta(seconds=1))),
        lambda: active(approved=(SUPER,)),
    ],
)
def test_no_other_ticket_begins_early(before) -> None:
    life = asked(active()).approve()
    life.now = END - HAND_OVER
    try:
        start(life, before())
    except Refused as error:
        assert error.code == "refused.early"
    assert life.ticket.status in {"approved", "lapsed"}
    plain = Life(starts_at=wire(END)).submit().approve()
    plain.now = END - HAND_OVER
    with pytest.raises(Refused):
        start(plain, active())


def test_decided_after_the_old_end_it_begins_then_and_ends_as_asked() -> None:
    over = replace(in_status("closed").ticket, id="req_0")
    life = asked(active()).approve()
    life.now = END + timedelta(minutes=10)
    start(life, over)
    assert (life.ticket.start, life.ticket.expiry) == (life.now, END + timedelta(hours=1))


@pytest.mark.parametrize(
    "cause", ["returned", "revoked", "excess", "offboarded", "signal", "campaign", "failed"]
)
def test_what_ended_early_does_not_come_back(cause: str) -> None:
    ended = in_status("closed").ticket
    ended = replace(ended, id="req_0", revocation=replace(ended.revocation, cause=cause))
    for now in (END - HAND_OVER, END, END + timedelta(minutes=1)):
        life = asked(active()).approve()
        life.now = now
        start(life, ended)
        assert life.ticket.status == "lapsed"
        assert cause in life.ticket.reasons[0]


def test_what_it_extends_is_in_the_digest() -> None:
    plain, linked = Life(starts_at=wire(END)), asked(active())
    plain.submit()
    assert plain.ticket.digest != linked.ticket.digest


# ── bundles ──


@pytest.mark.parametrize(
    ("bundle", "sound"),
    [
        (("req_1", "req_2"), True),
        (("req_2", "req_1", "req_3"), True),
        (("req_1",), False),
        (("req_2", "req_3"), False),
        (("req_1", "req_1"), False),
        (tuple(f"req_{n}" for n in range(1, 21)), True),
        (tuple(f"req_{n}" for n in range(1, 22)), False),
    ],
)
def test_a_bundle_names_itself_and_others(bundle, sound) -> None:
    life = Life(bundle=bundle)
    if sound:
        assert life.submit().ticket.terms.bundle == bundle
        return
    with pytest.raises(Invalid):
        life.submit()


def test_what_it_was_filed_with_is_in_the_digest() -> None:
    digests = {Life(**more).submit().ticket.digest for more in ({}, {"bundle": ("req_1", "req_2")})}
    assert len(digests) == 2


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("cause", [None, "expired", "returned", "revoked"])
def test_access_ahead_of_its_start_falls_with_what_it_extends(status: str, cause: str | None) -> None:
    """Only while it is given, only with the very ticket that it extends, and only where that was ended early."""
    over = None if cause is None else Revocation(cause=cause, reason=None, by=REQUESTER, ordered_at=wire(NOW))
    before = replace(active(), revocation=over)
    ticket = replace(asked(active()).ticket, status=status)
    falls = cause if status in {"provisioning", "active"} and cause in {"returned", "revoked"} else None
    assert falls_with(ticket, before) == falls
    assert falls_with(ticket, replace(before, id="req_other")) is None
    assert falls_with(ticket, None) is None


@pytest.mark.parametrize("status", STATUSES)
def test_what_never_gave_anything_is_not_gone_on_with(status: str) -> None:
    ran = status in {"active", "revoking", "revoked", "closed"}
    assert (cut_short(replace(active(), status=status, revocation=None)) is None) is ran
