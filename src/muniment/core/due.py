"""When a controller must look at a ticket next. Expiry is state, not a job that could be lost."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from muniment.core.glass import review_late_at
from muniment.core.instants import parse_instant
from muniment.core.ticket import Ticket

Action: TypeAlias = Literal["lapse", "remind", "escalate", "provision", "expire", "revoke", "review"]


def due(ticket: Ticket) -> tuple[Action, datetime] | None:
    """What is due and when, or None if only people can move the ticket on."""
    match ticket.status:
        case "pending":
            return _next(
                ("lapse", ticket.lapses_at), ("escalate", ticket.escalate_at), ("remind", ticket.remind_at)
            )
        case "approved" | "provisioning":
            return "provision", ticket.ready or parse_instant(ticket.approved_at or ticket.filed_at)
        case "active":
            return ("expire", ticket.expiry) if ticket.expiry else None
        case "revoking" if ticket.revocation:
            return "revoke", parse_instant(ticket.revocation.ordered_at)
        case "revoked":
            late = review_late_at(ticket)
            return ("review", late) if late else None
        case _:
            return None


def _next(*steps: tuple[Action, datetime | None]) -> tuple[Action, datetime] | None:
    """The earliest; of those at one instant, the first."""
    known = [(action, at) for action, at in steps if at is not None]
    return min(known, key=lambda step: step[1], default=None)
