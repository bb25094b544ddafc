"""What people look at: tickets, grants, findings, targets, holdings, and the credential to collect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from muniment.core.commands import Approve, Command, Review
from muniment.core.drift import PREFIX
from muniment.core.errors import Invalid, MunimentError, NotFound, Refused, TargetUnavailable
from muniment.core.identity import is_human
from muniment.core.inventory import Item
from muniment.core.lifecycle import decide
from muniment.core.separation import excluded
from muniment.core.ticket import STATUSES, Recorded, Status, Ticket
from muniment.core.visibility import SEES_ALL, sees
from muniment.evidence.bundle import commitments
from muniment.service import drift, reconciling
from muniment.service.authority import Standing
from muniment.service.desk import Caller, Desk, in_stage, no_such_ticket, ticket_id
from muniment.service.documents import Document, event_document, finding_document, ticket_document
from muniment.service.inventories import visible_target
from muniment.service.possible import BY_ANOTHER_WAY
from muniment.store.views import PAGE, Filter


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, and where it goes on."""

    items: tuple[Ticket, ...]
    next: str | None


def show(desk: Desk, caller: Caller, ticket_id: str) -> Ticket:
    """One ticket, from its entries."""
    _, ticket = desk.store.read(ticket_id)
    if ticket is None or not desk.may_see(ticket, caller):
        raise no_such_ticket(ticket_id)
    return ticket


def history(desk: Desk, caller: Caller, ticket_id: str) -> list[Document]:
    """Everything that happened to a ticket, in order."""
    show(desk, caller, ticket_id)
    recorded: list[Recorded] = desk.store.entries(ticket_id)
    return [event_document(each) for each in recorded]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to say of a ticket: its state, its document, what happened, and the texts of that."""

    ticket: Ticket
    document: Document
    recorded: tuple[Recorded, ...]
    texts: dict[str, str]  # by commitment; an erased one is missing


def story(desk: Desk, caller: Caller, ticket_id: str) -> Story:
    """One ticket from ask to closure, in as many queries however much happened to it."""
    ticket = show(desk, caller, ticket_id)
    recorded = tuple(desk.store.entries(ticket_id))
    wanted = {commitment for each in recorded for commitment in commitments(each.event)}
    return Story(
        ticket=ticket,
        document=ticket_document(desk, ticket),
        recorded=recorded,
        texts=desk.views.texts(wanted),
    )


def tickets(desk: Desk, caller: Caller, wanted: Filter, *, awaiting_me: bool = False) -> Page:
    """Tickets that the caller may see, newest first. What they may not see is not counted either (I33)."""
    if unknown := set(wanted.statuses) - set(STATUSES):
        raise Invalid(
            f"there is no status {unknown.pop()!r:.40}", remedy=f"The statuses: {', '.join(STATUSES)}."
        )
    if awaiting_me:
        wanted = replace(wanted, statuses=(), waiting=True)
    everything = bool(SEES_ALL & set(caller.identity.roles))
    if everything and not awaiting_me:
        return _gathered(desk, wanted, lambda _: True, wanted.limit + 1)
    # looked up once for all rows
    standing = desk.delegations.now()
    keys, received = desk.keys(caller.identity), desk.keys_received(caller.identity, standing)
    if not everything:
        wanted = replace(wanted, seen_by=keys | received)

    def keep(ticket: Ticket) -> bool:
        seen = everything or sees(ticket, keys, received)
        return seen and (not awaiting_me or _awaits(desk, ticket, caller, received, standing))

    return _gathered(desk, wanted, keep, PAGE if awaiting_me else wanted.limit + 1)


def concerning(
    desk: Desk, caller: Caller, statuses: tuple[Status, ...], *, limit: int = PAGE
) -> tuple[Ticket, ...]:
    """Tickets by the caller, for them, or for what they answer for, newest first."""
    who = frozenset({caller.identity.id, *caller.identity.aliases})
    wanted = Filter(statuses=statuses, concerning=who, limit=limit)
    return _gathered(desk, wanted, lambda t: bool(who & excluded(t)), limit + 1).items


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list of what tickets have; the rows of one ticket are never parted."""

    items: list[Document]
    next: str | None


def grants(
    desk: Desk, caller: Caller, *, target: str | None = None, beneficiary: str | None = None
) -> list[Document]:
    """What tickets make targets hold now, one row a privilege."""
    return _whole(
        lambda before: grants_page(desk, caller, target=target, beneficiary=beneficiary, before=before)
    )


def grants_page(
    desk: Desk,
    caller: Caller,
    *,
    target: str | None = None,
    beneficiary: str | None = None,
    before: str | None = None,
    limit: int = PAGE,
) -> Rows:
    """As `grants`, of so many tickets."""
    live: tuple[Status, ...] = ("provisioning", "active", "revoking")
    wanted = Filter(statuses=live, target=target, beneficiary=beneficiary, before=before, limit=limit)
    page = tickets(desk, caller, wanted)
    rows = [
        {
            "ticket": t.id, "beneficiary": t.terms.beneficiary, "target": t.terms.target, "account": t.terms.account,
            **msgspec.to_builtins(privilege), "status": t.status, "expires_at": t.expires_at,
        }
        for t in page.items
        for privilege in (t.granted or t.approved)
    ]  # fmt: skip
    return Rows(items=rows, next=page.next)


def findings(desk: Desk, caller: Caller, wanted: drift.Wanted = drift.ALL) -> list[Document]:
    """Every finding that the caller may see: of drift on targets, and of tickets; open ones unless told otherwise."""
    return _whole(lambda before: findings_page(desk, caller, wanted, before=before))


def findings_page(
    desk: Desk, caller: Caller, wanted: drift.Wanted, *, before: str | None = None, limit: int = PAGE
) -> Rows:
    """A part of them: those of drift by their names, then those of so many tickets, newest first."""
    rows: list[Document] = []
    if before is None or before.startswith(PREFIX):
        found, more = drift.listed(desk, caller, replace(wanted, after=before or "", limit=limit))
        rows = drift.documents(desk, found)
        if more is not None:
            return Rows(items=rows, next=more)
        before = None
    if wanted.statuses or wanted.past_due or wanted.account is not None or wanted.assigned_to is not None:
        return Rows(items=rows, next=None)  # tickets' findings have none of these
    page = tickets(
        desk,
        caller,
        Filter(with_findings=not wanted.resolved, target=wanted.target, before=before, limit=limit),
    )
    rows += [
        finding_document(t, f.id)
        for t in page.items
        for f in t.findings
        if bool(f.resolved_at) == wanted.resolved
        and (not wanted.types or f.type in wanted.types)
        and (not wanted.severities or f.severity in wanted.severities)
    ]
    return Rows(items=rows, next=page.next)


def finding(desk: Desk, caller: Caller, name: str) -> Document:
    """One finding: of drift by its name, of a ticket as ``TICKET:NUMBER``."""
    if ":" not in name:
        return drift.shown(desk, caller, name)
    ticket, _, number = name.rpartition(":")
    found = show(desk, caller, ticket_id(ticket))
    if number not in {each.id for each in found.findings}:
        raise NotFound(f"{found.id} has no finding {number!r:.40}", remedy="`muniment findings` lists them.")
    return finding_document(found, number)


def holdings(desk: Desk, caller: Caller, target_id: str) -> list[Document]:
    """What a target holds now, asked of the target itself, each holding with the ticket that explains it."""
    target = visible_target(desk, caller, target_id)
    observed = target.connector.observe(None)
    if not observed.complete:
        raise TargetUnavailable(
            f"{target_id} could not be read completely, so a list would mislead",
            remedy="`muniment check` says what is wrong there.",
        )
    items = [
        Item(
            account=h.account, privilege=h.privilege, resource=h.resource, grantor=h.grantor, ticket=h.ticket
        )
        for h in observed.holdings
    ]
    rows: list[dict[str, Any]] = []
    for item, by in zip(items, reconciling.explained(desk, target, items), strict=True):
        rows.append(
            {
                "account": item.account, "privilege": item.privilege, "resource": item.resource,
                "grantor": item.grantor, "class": by.klass if by else "unexplained",
                "ticket": by.reference if by and by.klass == "ticketed" else None,
            }
        )  # fmt: skip
    return sorted(
        rows, key=lambda row: (row["account"], row["privilege"], row["resource"] or "", row["grantor"] or "")
    )


def collect(desk: Desk, caller: Caller, ticket_id: str) -> bytes:
    """Hand the credential of an active ticket to its beneficiary or requester, once.

    Raises:
        Refused: it is not theirs, not there yet, was collected, or is over.
    """
    ticket = show(desk, caller, ticket_id)
    who = caller.identity
    if excluded(ticket).isdisjoint((who.id, *who.aliases)):
        raise Refused(
            f"the credential of {ticket_id} is for {ticket.terms.beneficiary}",
            remedy="Ask them.",
            code="refused.not-yours",
        )
    if ticket.status != "active":
        raise Refused(
            f"{ticket_id} is {ticket.status}: there is nothing to collect",
            remedy="A credential is there while it is active.",
            code="refused.status",
        )
    body = desk.views.take_credential(ticket_id, desk.clock.now())
    if body is None:
        raise Refused(
            f"{ticket_id} has no credential to collect: it was collected already, or its target issues none",
            remedy="File a new ticket if it was lost.",
            code="refused.no-credential",
        )
    return body


def _gathered(desk: Desk, wanted: Filter, keep: Callable[[Ticket], bool], size: int) -> Page:
    """As many as are wanted of those to keep. Begun with so many at a time, then with ever more: few may be kept."""
    found: list[Ticket] = []
    before, size = wanted.before, min(PAGE, size)
    while True:
        batch = desk.views.tickets(replace(wanted, before=before, limit=size))
        for ticket in batch:
            before = ticket.id
            if keep(ticket):
                found.append(ticket)
                if len(found) > wanted.limit:
                    return Page(items=tuple(found[:-1]), next=found[-2].id)
        if len(batch) < size:
            return Page(items=tuple(found), next=None)
        size = min(PAGE, 2 * size)


def _whole(page: Callable[[str | None], Rows]) -> list[Document]:
    """Every page."""
    found: list[Document] = []
    before: str | None = None
    while True:
        rows = page(before)
        found += rows.items
        if rows.next is None:
            return found
        before = rows.next


def _looks_back(desk: Desk, ticket: Ticket, caller: Caller, standing: Standing) -> bool:
    """Whether the caller could review how access was used, or approve a broken glass afterwards: the gate is asked."""
    wanted: list[Command] = []
    if ticket.review is not None and ticket.review.outcome is None:
        wanted.append(Review(outcome="appropriate", comment=""))
    if ticket.terms.kind == "break_glass" and ticket.open_stages():
        wanted.append(Approve(digest=ticket.digest))
    if not wanted or not is_human(caller.identity.id):
        return False
    try:
        facts = desk.facts(ticket, caller, standing)
    except MunimentError:  # its target is not configured: nobody can do anything about it here
        return False
    for command in wanted:
        try:
            decide(ticket, command, facts, desk.clock.now())
        except Refused as refusal:
            if refusal.code in BY_ANOTHER_WAY:
                return True
        else:
            return True
    return False


def _awaits(desk: Desk, ticket: Ticket, caller: Caller, received: frozenset[str], standing: Standing) -> bool:
    """Whether the caller could decide on the ticket now, as far as its stages say, or look back on it.

    ``received`` is `Desk.keys_received` of theirs, by the delegations that are ``standing``.
    """
    if ticket.status != "pending":
        return _looks_back(desk, ticket, caller, standing)
    who = caller.identity
    names = {who.id, *who.aliases}
    if who.kind != "human" or names & {voter for d in ticket.decisions for voter in d.voters}:
        return False
    own = {ticket.terms.requester, ticket.terms.beneficiary}
    if names & excluded(ticket):  # but for the consent of who owns the machine
        return not names & own and any(
            s.consent is True and in_stage(s.approvers, who) for s in ticket.open_stages()
        )
    return any(in_stage(s.approvers, who) or received.intersection(s.approvers) for s in ticket.open_stages())
