"""Looks back on access that has ended: which are owed, overdue or done, each with what there is to judge it by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec.structs import replace

from muniment.core.commands import Review
from muniment.core.errors import Invalid, MunimentError
from muniment.core.identity import is_human
from muniment.core.instants import parse_instant
from muniment.core.lifecycle import decide
from muniment.core.ticket import Status, Ticket
from muniment.service import looking
from muniment.service.authority import Standing
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document, ticket_documents
from muniment.store.views import PAGE, Filter

#: a look that is owed, one that is owed and late, one that was taken
State: TypeAlias = Literal["owed", "overdue", "done"]
STATES: tuple[State, ...] = get_args(State)
#: of what a ticket's document says, what a reviewer goes by
_EVIDENCE = (
    "kind", "requester", "beneficiary", "target", "account", "justification", "references", "requested", "approved",
    "granted", "comparison", "used", "window", "revocation", "findings",
)  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which looks. Every field narrows; an empty one does not."""

    state: str = "owed"
    target: str | None = None
    beneficiary: str | None = None
    kind: str | None = None  # "standard", "break_glass"
    outcome: str | None = None
    mine: bool = False  # that the caller could take
    before: str | None = None
    limit: int = 100


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, and where it goes on."""

    items: list[Document]
    next: str | None


def listed(desk: Desk, caller: Caller, wanted: Wanted) -> Page:
    """Those on tickets that the caller may see, newest ticket first.

    Raises:
        Invalid: there is no such state.
    """
    if wanted.state not in STATES:
        raise Invalid(f"there is no state {wanted.state!r:.40}", remedy=f"Known are {', '.join(STATES)}.")
    now, standing = desk.clock.now(), desk.delegations.now()

    def keep(ticket: Ticket) -> bool:
        return _is(ticket, wanted, now) and (not wanted.mine or may_review(desk, caller, ticket, standing))

    statuses: tuple[Status, ...] = ("revoked", "closed", "failed") if wanted.state == "done" else ("revoked",)
    narrowed = Filter(
        statuses=statuses,
        target=wanted.target,
        beneficiary=wanted.beneficiary,
        before=wanted.before,
        limit=PAGE,
    )
    found, more = _gathered(desk, caller, narrowed, keep, wanted.limit)
    documents = ticket_documents(desk, found)
    rows = [
        _row(desk, caller, ticket, document, standing, now)
        for ticket, document in zip(found, documents, strict=True)
    ]
    return Page(items=rows, next=more)


def may_review(desk: Desk, caller: Caller, ticket: Ticket, standing: Standing) -> bool:
    """Whether the caller could take the look now: the gate is asked."""
    if ticket.review is None or ticket.review.outcome is not None or not is_human(caller.identity.id):
        return False
    try:
        facts = desk.facts(ticket, caller, standing)
        decide(ticket, Review(outcome="appropriate", comment=""), facts, desk.clock.now())
    except MunimentError:
        return False
    return True


def _is(ticket: Ticket, wanted: Wanted, now: datetime) -> bool:
    review = ticket.review
    if review is None or (review.outcome is not None) != (wanted.state == "done"):
        return False
    late = wanted.state != "overdue" or now >= parse_instant(review.due_at)
    return late and wanted.kind in {None, ticket.terms.kind} and wanted.outcome in {None, review.outcome}


def _gathered(
    desk: Desk, caller: Caller, wanted: Filter, keep: Callable[[Ticket], bool], limit: int
) -> tuple[list[Ticket], str | None]:
    found: list[Ticket] = []
    while True:
        page = looking.tickets(desk, caller, wanted)
        for ticket in page.items:
            if keep(ticket):
                if len(found) == limit:
                    return found, found[-1].id
                found.append(ticket)
        if page.next is None:
            return found, None
        wanted = replace(wanted, before=page.next)


def _row(  # noqa: PLR0917  what a row is made of
    desk: Desk, caller: Caller, ticket: Ticket, document: Document, standing: Standing, now: datetime
) -> Document:
    owed = ticket.review if ticket.review and ticket.review.outcome is None else None
    return {
        "ticket": ticket.id, **{name: document[name] for name in _EVIDENCE},
        "sessions_ended": ticket.revocation.sessions_ended if ticket.revocation else 0, **document["review"],
        "past_due": owed is not None and now >= parse_instant(owed.due_at),
        "yours": may_review(desk, caller, ticket, standing),
    }  # fmt: skip
