"""V4: what may be recorded of a grant while its access is ending, and of one too large to list."""

from __future__ import annotations

import msgspec
import pytest

from core.lives import RW, in_status
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.identity import SYSTEM
from muniment.core.instants import wire
from muniment.core.scope import Privilege, compare, scope
from muniment.core.ticket import Recorded, Ticket, evolve
from muniment.evidence.judging import judge

MORE = Privilege(privilege="more")
WHOLE = e.Whole(count=600, digest="sha256:" + "0" * 64)


def seen(*granted: Privilege, whole: e.Whole | msgspec.UnsetType = msgspec.UNSET) -> e.GrantObserved:
    held = scope(granted)
    return e.GrantObserved(
        granted=held, comparison=compare((RW,), held), native_expiry=None, handle={}, whole=whole
    )


FAILED = e.ProvisioningFailed(code="target.excess", message="more")


def ending(status: str) -> tuple[Ticket, str]:
    """A ticket that was given back before, or after, anybody read the target."""
    life = in_status(status)
    life.do(c.Return(), life.by(life.terms.requester))
    assert life.ticket
    return life.ticket, wire(life.now)


JUDGED = [
    # given back from, what is recorded then, what is wrong with the last of it
    ("provisioning", (seen(RW, MORE),), None),
    ("provisioning", (seen(RW, MORE), FAILED), None),
    ("provisioning", (seen(RW, whole=WHOLE), FAILED), None),
    ("provisioning", (seen(RW),), "nothing more than was approved"),
    ("provisioning", (seen(),), "nothing more than was approved"),
    ("provisioning", (FAILED,), "nothing more than was approved"),
    ("provisioning", (seen(RW, MORE), FAILED, FAILED), "nothing more than was approved"),
    ("provisioning", (seen(RW, MORE), seen(RW, MORE)), "looked at already"),
    ("provisioning", (seen(RW, MORE, whole=e.Whole(count=2, digest="")),), "says that it lists a part"),
    ("active", (seen(RW, MORE),), "looked at already"),
    ("active", (FAILED,), "nothing more than was approved"),
    ("provisioning", (e.AccountRead(held=(MORE,)),), "where this cannot happen"),
]


@pytest.mark.parametrize(("status", "recorded", "fault"), JUDGED)
def test_what_is_recorded_while_access_ends(
    status: str, recorded: tuple[e.Event, ...], fault: str | None
) -> None:
    ticket, at = ending(status)
    for event in recorded:
        record = Recorded(seq=ticket.version, at=at, actor=SYSTEM, via="controller", event=event)
        said = judge(ticket, record, ticket.id)
        if event is not recorded[-1]:
            assert said is None
        ticket = evolve(ticket, record, ticket.id)
    assert (said is None) if fault is None else (fault in (said or ""))


def test_what_an_account_held_is_recorded_by_controllers_alone() -> None:
    life = in_status("approved")
    assert life.ticket
    event = e.AccountRead(held=(MORE,))
    for actor, fine in ((SYSTEM, True), (life.terms.requester, False)):
        record = Recorded(seq=life.ticket.version, at=wire(life.now), actor=actor, via="local", event=event)
        assert (judge(life.ticket, record, life.ticket.id) is None) is fine
