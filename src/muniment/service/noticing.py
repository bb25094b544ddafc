"""Whom to tell of what happened to a ticket. The ledger is the record; a notice is a courtesy that may get lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from muniment.core import events as e
from muniment.core.campaign import Campaign
from muniment.core.glass import LATE
from muniment.core.ticket import Ticket
from muniment.ports import Notice


def notices(  # noqa: C901  one case an event
    ticket: Ticket, events: Iterable[e.Event], owners: tuple[str, ...] = ()
) -> Iterator[Notice]:
    """One for each event that somebody waits for.

    Args:
        ticket: as it stands after the events.
        events: what happened, in order.
        owners: of the target: who could see to it that somebody can decide.
    """
    own = tuple(dict.fromkeys((ticket.terms.requester, ticket.terms.beneficiary)))
    told = (ticket.obligations.notify or ()) if ticket.obligations else ()
    for event in events:
        match event:
            case e.RequestSubmitted() if ticket.status == "pending":
                waiting = (a for s in ticket.open_stages() for a in s.approvers)
                yield _notice(ticket, "filed", (*waiting, *told), "waits for a decision")
            case e.ApproversReminded():
                yield _notice(ticket, "reminded", event.approvers, "still waits for a decision")
            case e.RequestEscalated():
                yield _notice(
                    ticket, "escalated", event.to, "was decided by nobody, and waits for you as well"
                )
            case e.ApproversMissing() if event.stages:
                said = f"can be decided by nobody: {'; '.join(event.reasons)}"
                yield _notice(ticket, "approvers-missing", (*owners, *own), said)
            case e.CounterOffered():
                said = f"would be approved for less by {event.approver}: accept it, or let it be"
                yield _notice(ticket, "countered", (ticket.terms.requester,), said)
            case e.RequestApproved():
                yield _notice(ticket, "approved", (*own, *told), "is approved")
            case e.RequestDenied():
                yield _notice(ticket, "denied", (*own, *told), f"is denied by {event.by}")
            case e.ReviewOpened():
                looks = (*owners, *(a for s in ticket.stages for a in s.approvers))
                yield _notice(
                    ticket,
                    "review-owed",
                    looks,
                    f"has ended, and somebody has to look back on it by {event.due_at}",
                )
            case e.FindingRaised() if event.type == LATE:
                looks = (*owners, *(a for s in ticket.stages for a in s.approvers), "role:operator")
                yield _notice(
                    ticket, "review-overdue", looks, "has ended, and nobody has looked back on it in time"
                )
            case e.RequestLapsed():
                yield _notice(ticket, "lapsed", own, f"lapsed: {event.reason}")
            case _:
                pass


def campaign_notices(
    before: Campaign | None,
    after: Campaign,
    events: Iterable[e.Event],
    waits_for: Callable[[], tuple[str, ...]],
    at: str,
) -> Iterator[Notice]:
    """Of what happened to a campaign. ``waits_for``: who is asked about what nobody has decided, or to sign it off."""

    def notice(kind: str, to: tuple[str, ...], said: str) -> Notice:
        name = after.name
        return Notice(
            kind=f"campaign-{kind}", ticket=f"campaign:{name}", at=at, to=to, text=f"campaign {name} {said}"
        )

    by = after.opened.due_at
    for event in events:
        match event:
            case e.CampaignOpened():
                yield notice("opened", waits_for(), f"asks you what is still needed, by {by}")
            case e.CampaignReassigned():
                yield notice(
                    "reassigned", (event.to,), f"asks you about items that others were asked about, by {by}"
                )
            case e.CampaignReminded():
                yield notice("reminded", event.people, f"still waits for you, by {by}")
            case e.CampaignClosed():
                yield notice("closed", (after.opened_by,), "is closed: everything is as it was decided")
            case _:
                pass
    if after.status == "decided" and (before is None or before.status != "decided"):
        yield notice("decided", waits_for(), "is decided, and waits for somebody to sign it off")


def _notice(ticket: Ticket, kind: str, to: Iterable[str], said: str) -> Notice:
    return Notice(
        kind=kind,
        ticket=ticket.id,
        at=ticket.updated_at,
        to=tuple(dict.fromkeys(to)),
        text=f"{ticket.id} {said}",
    )
