"""When a controller must look at a ticket next. Expiry is state, not a job that could be lost."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from muniment.core.instants import parse_instant
from muniment.core.ticket import Ticket

Action: TypeAlias = Literal["lapse", "provision", "expire", "revoke"]


def due(ticket: Ticket) -> tuple[Action, datetime] | None:
    """What is due and when, or None if only people can move the ticket on."""
    match ticket.status:
        case "pending":
            return "lapse", ticket.lapses_at
        case "approved" | "provisioning":
            return "provision", ticket.start or parse_instant(ticket.approved_at or ticket.filed_at)
        case "active":
            return ("expire", ticket.expiry) if ticket.expiry else None
        case "revoking" if ticket.revocation:
            return "revoke", parse_instant(ticket.revocation.ordered_at)
        case _:
            return None
