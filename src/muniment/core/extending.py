"""Extension: access that is there goes on under a new ticket, with a decision of its own (I12, I21).

The new window begins at the instant the old one ends. Controllers give the new access a moment before, while the old
ticket still holds the same: so there is no gap, and the old ticket's end takes away nothing that the new one holds.
What ended early for a reason does not come back by an extension, and one that was given already ends with it.
"""

from __future__ import annotations

from datetime import datetime

from muniment.core.errors import Invalid, Refused
from muniment.core.events import Cause
from muniment.core.scope import covers
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket


def require_extension(terms: Terms, before: Ticket | None, now: datetime) -> None:
    """Raise `Refused` or `Invalid` unless these terms carry on what ``before`` gives now."""
    if before is None or before.id != terms.extends:
        raise Refused(
            f"there is no ticket {terms.extends!r:.60} to extend",
            remedy="`muniment list` shows yours.",
            code="not-found",
        )
    if before.status != "active" or before.expiry is None or now >= before.expiry:
        raise Refused(
            f"{before.id} is {before.status}: only access that is there can go on",
            remedy="File a new ticket.",
            code="refused.status",
        )
    same = (before.terms.beneficiary, before.terms.target, before.terms.account)
    if (terms.beneficiary, terms.target, terms.account) != same:
        raise Invalid(
            f"an extension of {before.id} is for the same account", remedy="File a new ticket for another."
        )
    if not covers(before.approved, terms.scope):
        raise Invalid(
            f"an extension of {before.id} is for what it gives, or less", remedy="File a new ticket for more."
        )
    if terms.start != before.expiry or terms.kind != "standard":
        raise Invalid(
            f"an extension begins when {before.id} ends, at {before.expires_at}",
            remedy="Use `muniment extend`.",
        )


def cut_short(before: Ticket | None) -> str | None:
    """Why what a ticket extends is no reason to go on; None if it ran, or runs, to its end."""
    if before is None:
        return "what it extends is not on record"
    if before.revocation is not None and before.revocation.cause != "expired":
        return f"{before.id}, which it extends, was ended early ({before.revocation.cause})"
    if before.status not in {"active", "revoking", "revoked", "closed"}:
        return f"{before.id}, which it extends, is {before.status}"
    return None


def hands_over(ticket: Ticket, before: Ticket | None, now: datetime) -> bool:
    """Whether access may be given a moment before its start: what it extends still holds the same."""
    return (
        ticket.ready is not None
        and ticket.ready <= now
        and before is not None
        and before.id == ticket.terms.extends
        and before.status == "active"
        and before.expiry == ticket.terms.start
        and covers(before.approved, ticket.terms.scope)
    )


def falls_with(ticket: Ticket, before: Ticket | None) -> Cause | None:
    """Why access that was given a moment before its start ends now: what it extends was ended early. None if not."""
    if before is None or before.id != ticket.terms.extends or ticket.status not in {"provisioning", "active"}:
        return None
    over = before.revocation
    return over.cause if over is not None and over.cause != "expired" else None
