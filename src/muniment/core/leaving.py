"""Somebody left: what they hold ends, what they asked for is over, and what they approved no longer stands (I22)."""

from __future__ import annotations

from datetime import datetime

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.fulfilling import end
from muniment.core.ticket import Ticket


def offboard(ticket: Ticket, command: c.Offboard, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """End or void what rests on people who are gone; nothing if none of them has a part in it that counts."""
    if not facts.active:
        if ticket.status in {"pending", "approved"}:
            why = "the requester, the beneficiary or whoever answers for it is deactivated"
            return (e.RequestDenied(by="policy", reasons=(why,)),)
        return end(ticket, c.End(cause="offboarded"), facts, now)
    fallen = tuple(d.approver for d in ticket.decisions if not set(d.voters).isdisjoint(command.gone))
    if fallen and ticket.status in {"pending", "approved"}:
        return (e.ApprovalsVoided(approvers=fallen, reason=command.reason),)
    return ()
