"""Extend access: a linked new ticket for the same account, with a decision of its own, from the end of the old one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from muniment.core.errors import Refused
from muniment.core.scope import Privilege
from muniment.core.ticket import Ticket
from muniment.service.desk import Caller, Desk
from muniment.service.filing import Ask, file_request
from muniment.service.looking import show


def extend(
    desk: Desk,
    caller: Caller,
    ticket: str,
    *,
    duration: timedelta,
    reason: str,
    scope: tuple[Privilege, ...] = (),
    references: Mapping[str, str] | None = None,
    public_key: str | None = None,
) -> Ticket:
    """File the ticket that carries on what ``ticket`` gives, or part of it; references and key default to its own.

    Raises:
        Refused: access is not there now, or policy or core refuse such a request.
    """
    before = show(desk, caller, ticket)
    if before.status != "active" or before.expiry is None:
        raise Refused(
            f"{before.id} is {before.status}: only access that is there can go on",
            remedy="File a new ticket.",
            code="refused.status",
        )
    ask = Ask(
        target=before.terms.target, scope=scope or before.approved, justification=reason, duration=duration,
        beneficiary=before.terms.beneficiary, starts_at=before.expiry, extends=before.id,
        references=before.terms.references if references is None else references,
        public_key=public_key or before.terms.public_key,
    )  # fmt: skip
    return file_request(desk, caller, ask)
