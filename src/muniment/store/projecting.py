"""The read model's rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from muniment.core.campaign import UNDECIDED, Campaign
from muniment.core.drift import Drift
from muniment.core.due import due
from muniment.core.instants import parse_instant, wire
from muniment.core.ticket import Ticket
from muniment.core.visibility import viewers
from muniment.ports import Stream
from muniment.store import tables as t
from muniment.store.rows import Into

#: what a ticket is about, from its filing to its end
FIXED = ("requester", "beneficiary", "target", "account", "kind")

#: how the streams begin that hold findings of drift
DRIFT = "drift:"
#: and those of campaigns
CAMPAIGN = "campaign:"

_encode_state = msgspec.json.Encoder(order="sorted").encode


def tickets_to_list(tickets: Iterable[Ticket], fixed: tuple[str, ...] = ()) -> Into:
    """The read model's rows of these tickets, in place of earlier ones. Of those, ``fixed`` columns are believed."""
    return Into(t.ticket, [ticket_row(each) for each in tickets], "replace", fixed)


def drifts_to_list(drifts: Iterable[Drift]) -> Into:
    """The rows of these findings, in place of earlier ones."""
    return Into(t.drift, [drift_row(each) for each in drifts], "replace")


def drift_row(drift: Drift) -> dict[str, Any]:
    """A function of the folded state and nothing else (I24)."""
    return {
        "stream": DRIFT + drift.id, "target": drift.target, "status": drift.status, "state": _encode_state(drift)
    }  # fmt: skip


def campaigns_to_list(campaigns: Iterable[Campaign]) -> Into:
    """The rows of these campaigns, in place of earlier ones."""
    return Into(t.campaign, [campaign_row(each) for each in campaigns], "replace")


def campaign_row(campaign: Campaign) -> dict[str, Any]:
    """What lists show: its counts, not its items, so that a row stays small however many there are."""
    at = campaign.next_at
    return {
        "stream": CAMPAIGN + campaign.name, "status": campaign.status, "due_at": wire(at) if at else None,
        "state": _encode_state(
            {
                "name": campaign.name, "version": campaign.version, "status": campaign.status,
                "opened_by": campaign.opened_by, "opened_at": campaign.opened_at, "due_at": campaign.opened.due_at,
                "items": campaign.opened.items, "undecided": campaign.decisions.count(UNDECIDED),
                "kept": campaign.count("keep"), "revoked": campaign.count("revoke"),
                "changed": campaign.count("change"), "unsettled": len(campaign.unsettled()),
                "signed_by": campaign.signed_by, "ended_at": campaign.closed_at or campaign.cancelled_at,
            }
        ),
    }  # fmt: skip


def viewers_of(tickets: Iterable[Ticket]) -> Into:
    """What lets people find the tickets that they may see. Nobody is ever taken out: `may_see` has the last word."""
    return Into(t.viewer, [row for each in tickets for row in viewer_rows(each)], "keep")


def viewer_rows(ticket: Ticket) -> list[dict[str, str]]:
    """The index's rows of a ticket: a function of its state, too. Tickets of one incident find each other by it as well."""
    found = viewers(ticket)
    if ticket.terms.kind == "break_glass" and ticket.terms.incident:
        found |= {incident_key(ticket.terms.incident)}
    return [{"who": who, "ticket": ticket.id} for who in sorted(found)]


def incident_key(incident: str) -> str:
    """What tickets of one incident share, however somebody wrote its name in a hurry."""
    return f"incident:{incident.casefold()}"


def ticket_row(ticket: Ticket) -> dict[str, Any]:
    """The read model's row: a function of the folded state and nothing else (I24)."""
    action, at = due(ticket) or (None, None)
    return {
        "id": ticket.id, "version": ticket.version, "status": ticket.status, "requester": ticket.terms.requester,
        "beneficiary": ticket.terms.beneficiary, "target": ticket.terms.target, "account": ticket.terms.account,
        "action": action, "due_at": wire(at) if at else None,
        "open_findings": sum(1 for f in ticket.findings if not f.resolved_at), "kind": ticket.terms.kind,
        "decided_after": decided_after(ticket), "gone_after": gone_after(ticket), "state": _encode_state(ticket),
    }  # fmt: skip


def decided_after(ticket: Ticket) -> int | None:
    """Seconds from the asking to the answer; None where there is none, or glass was broken, which asks nobody first."""
    answered = ticket.ended_at if ticket.status == "denied" else ticket.approved_at
    if answered is None or ticket.terms.kind == "break_glass":
        return None
    return _between(ticket.filed_at, answered)


def gone_after(ticket: Ticket) -> int | None:
    """Seconds from when access was to end until the target was seen without it; None where it was not seen so."""
    ordered = ticket.revocation
    if ordered is None or ordered.observed_gone_at is None:
        return None
    # an expiry is recorded once it was carried out; its window says when it was to end
    over = min(ordered.ordered_at, ticket.expires_at or ordered.ordered_at)
    return _between(over, ordered.observed_gone_at)


def _between(start: str, end: str) -> int:
    return max(0, int((parse_instant(end) - parse_instant(start)).total_seconds()))


def registry_row(stream: Stream, kind: str, data: bytes) -> dict[str, Any]:
    """The row of a stream that holds no ticket: where it stands, and what was recorded last."""
    return {"stream": stream.id, "version": stream.version, "head": stream.head, "kind": kind, "data": data}
