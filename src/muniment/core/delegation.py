"""Delegation: an approver hands their authority to another person for a period.

- Only one's own authority: what was delegated to somebody cannot be delegated on.
- Judged when it is used: the delegate is a person without a stake in the ticket, and reports to nobody who has one;
  whoever delegated could have decided himself, and has not.
- One person, one vote: a decision on behalf of somebody is the vote of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity, IdentityId, is_human
from muniment.core.instants import parse_instant, wire

#: longer is a change of the approvers' group, which two people decide
LONGEST_DELEGATION = timedelta(days=90)


class Delegation(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody may decide on behalf of somebody else, for a while."""

    id: str  # "dlg_…"; its events are in the stream "delegation:ID"
    by: IdentityId  # whose authority it is
    to: IdentityId
    starts_at: str
    ends_at: str  # at this instant it is over

    def covers(self, now: datetime) -> bool:
        """Whether it is in force."""
        return parse_instant(self.starts_at) <= now < parse_instant(self.ends_at)


def delegate(  # noqa: PLR0917  who, to whom, from when to when
    delegation: str, by: Identity, to: Identity | None, starts: datetime, ends: datetime, now: datetime
) -> Delegation:
    """Hand one's authority to ``to``; None stands for somebody whom the directory does not know."""
    if not (by.active and is_human(by.id)):
        raise Refused(
            f"{by.id} has no authority to hand on: only active people approve", code="refused.not-a-person"
        )
    if to is None or not to.active or not is_human(to.id):
        raise Refused(
            "only an active person of the directory can decide for somebody",
            remedy="Name one, like human:bo@example.com.",
            code="refused.not-a-person",
        )
    if {by.id, *by.aliases} & {to.id, *to.aliases}:
        raise Invalid(f"{to.id} is the same person", remedy="Name somebody else.")
    if ends <= max(starts, now):
        raise Invalid("the delegation would be over before it begins", remedy="Give a later end.")
    if ends - max(starts, now) > LONGEST_DELEGATION:
        raise Invalid(
            f"a delegation lasts at most {LONGEST_DELEGATION.days} days",
            remedy="Have the group of approvers changed for longer.",
        )
    return Delegation(id=delegation, by=by.id, to=to.id, starts_at=wire(max(starts, now)), ends_at=wire(ends))


def require_delegate(
    delegation: Delegation,
    actor: Identity,
    own: Iterable[IdentityId],
    superiors: Iterable[IdentityId],
    now: datetime,
) -> None:
    """Raise `Refused` unless ``actor`` may use a delegation on a ticket.

    Args:
        delegation: under which they would act.
        actor: who would decide, as the directory knows them now.
        own: everybody whose ticket it is, in effect (`separation.excluded`).
        superiors: everybody above the actor now.
        now: the store's clock.
    """
    if delegation.to not in (actor.id, *actor.aliases) or not delegation.covers(now):
        raise Refused(
            f"{actor.id} does not decide for {delegation.by} now",
            remedy=f"Ask {delegation.by}.",
            code="refused.not-delegated",
        )
    if delegation.by in own:
        raise Refused(
            f"{delegation.by} has a stake in it, and hands on no authority over it",
            remedy="Another approver is needed.",
            code="refused.not-delegated",
        )
    if above := set(own) & set(superiors):
        raise Refused(
            f"{actor.id} reports to {min(above)} and cannot decide on behalf of another",
            remedy=f"Ask {delegation.by}, or another approver.",
            code="refused.not-delegated",
        )
