"""`decide`: which events a command makes, or a refusal that says why. One gate for every path (I7).

    Submit ──> pending ──Approve──> approved ──StartProvisioning──> provisioning ──RecordGrant──> active
                 │ Deny, Withdraw, Lapse │ Withdraw, Revoke, Lapse      │ FailProvisioning            │ End, Return, Revoke
                 v                       v                              v                             v
         denied · withdrawn · lapsed   withdrawn · lapsed            revoking ──RecordRevocation──> revoked ──> closed · failed

The last step takes itself: whichever command makes the last closure check hold also closes the ticket.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from muniment.core import aftermath, approving, countering, filing, fulfilling, glass, leaving, waiting
from muniment.core import commands as c
from muniment.core.closure import closable, run_checks
from muniment.core.errors import Refused
from muniment.core.events import Event, RequestClosed
from muniment.core.identity import SYSTEM
from muniment.core.instants import wire
from muniment.core.ticket import Recorded, Status, Ticket, evolve

#: the statuses in which each command can mean anything; everything else is refused before it is looked at
WHEN: dict[type[c.Command], frozenset[Status]] = {
    # later than pending: of a broken glass, approved afterwards
    c.Approve: frozenset({"pending", "provisioning", "active", "revoking", "revoked"}),
    c.Deny: frozenset({"pending"}),
    c.Counter: frozenset({"pending"}),
    c.Accept: frozenset({"pending"}),
    c.Withdraw: frozenset({"pending", "approved"}),
    c.Return: frozenset({"provisioning", "active"}),
    c.Revoke: frozenset({"approved", "provisioning", "active"}),
    c.Review: frozenset({"provisioning", "active", "revoking", "revoked"}),
    c.Waive: frozenset({"revoking", "revoked"}),
    c.Resolve: frozenset({"provisioning", "active", "revoking", "revoked"}),
    c.Lapse: frozenset({"pending", "approved"}),
    c.Remind: frozenset({"pending"}),
    c.Escalate: frozenset({"pending"}),
    c.NoteMissing: frozenset({"pending"}),
    c.StartProvisioning: frozenset({"approved"}),
    c.RecordGrant: frozenset({"provisioning", "revoking"}),
    c.FailProvisioning: frozenset({"approved", "provisioning"}),
    c.End: frozenset({"provisioning", "active"}),
    c.Offboard: frozenset({"pending", "approved", "provisioning", "active"}),
    c.RecordRevocation: frozenset({"revoking"}),
    c.FailRevocation: frozenset({"revoking"}),
    c.NoteLateReview: frozenset({"revoked"}),
    c.RecordUse: frozenset({"active", "revoking", "revoked"}),
}

_RULES: dict[type[c.Command], Callable[[Ticket, Any, c.Facts, datetime], tuple[Event, ...]]] = {
    c.Approve: approving.approve,
    c.Deny: approving.deny,
    c.Counter: countering.counter,
    c.Accept: countering.accept,
    c.Withdraw: filing.withdraw,
    c.Lapse: waiting.lapse,
    c.Remind: waiting.remind,
    c.Escalate: waiting.escalate,
    c.NoteMissing: waiting.note_missing,
    c.StartProvisioning: fulfilling.start,
    c.RecordGrant: fulfilling.record_grant,
    c.FailProvisioning: fulfilling.fail,
    c.End: fulfilling.end,
    c.Offboard: leaving.offboard,
    c.RecordRevocation: fulfilling.record_revocation,
    c.FailRevocation: fulfilling.fail_revocation,
    c.NoteLateReview: glass.note_late_review,
    c.RecordUse: fulfilling.record_use,
    c.Return: aftermath.give_back,
    c.Revoke: aftermath.revoke,
    c.Review: aftermath.review,
    c.Waive: aftermath.waive,
    c.Resolve: aftermath.resolve,
}
_CONTROLLERS = frozenset(c.ControllersCommand.__args__)


def decide(ticket: Ticket | None, command: c.Command, facts: c.Facts, now: datetime) -> tuple[Event, ...]:
    """Say what happens, or raise `Refused` or `Invalid`. Reads no clock, store or network.

    Args:
        ticket: the fold of the ticket's events; None only for `Submit`.
        command: what is asked.
        facts: what is true of the world now.
        now: the store's clock, UTC.

    Returns:
        Events to append, in order. Empty means that there is nothing new to record (a controller repeating itself).
    """
    if isinstance(command, c.Submit):
        if ticket is not None:
            raise Refused(
                f"{ticket.id} is on file already", remedy="File a new ticket.", code="refused.exists"
            )
        return filing.submit(command, facts, now)
    if ticket is None:
        raise Refused("there is no such ticket", remedy="`muniment list` shows yours.", code="not-found")
    if (facts.actor is None) != (type(command) in _CONTROLLERS):
        raise Refused("this step is not for this kind of actor", code="refused.actor")
    if ticket.status not in WHEN[type(command)]:
        raise _out_of_order(ticket, command)
    actor = facts.actor.id if facts.actor else SYSTEM
    return _closing(ticket, _RULES[type(command)](ticket, command, facts, now), actor, now)


def _closing(ticket: Ticket, events: tuple[Event, ...], actor: str, now: datetime) -> tuple[Event, ...]:
    """Add RequestClosed when these events make the last closure check hold."""
    after = ticket
    for event in events:
        recorded = Recorded(seq=after.version, at=wire(now), actor=actor, via="decide", event=event)
        after = evolve(after, recorded, after.id)
    if not events or after.status != "revoked":
        return events
    checks = run_checks(after)
    if not closable(checks):
        return events
    return (*events, RequestClosed(outcome="failed" if after.failure else "closed", checks=checks))


def _out_of_order(ticket: Ticket, command: c.Command) -> Refused:
    verb = type(command).__name__.lower()
    if ticket.ended:
        remedy = (
            "It has ended; file a new ticket."
            if verb in {"approve", "deny", "return", "revoke"}
            else "It has ended."
        )
    else:
        remedy = f"`muniment show {ticket.id}` says what it waits for."
    return Refused(
        f"{ticket.id} is {ticket.status}: {verb} does not apply", remedy=remedy, code="refused.status"
    )
