"""Why policy decided as it did: replayed from the ledger alone, years later as well (I34)."""

from __future__ import annotations

from typing import Any

import msgspec

from muniment.core.events import (
    ApprovalRecorded,
    Event,
    PolicyDecided,
    ProvisioningStarted,
    RequestDenied,
)
from muniment.core.ticket import Recorded, Ticket
from muniment.policy.replay import replay
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.service.looking import show
from muniment.service.standing import current


def explain(desk: Desk, caller: Caller, ticket_id: str) -> Document:
    """Every decision on a ticket: what was asked, which policies answered, and whether a replay answers the same."""
    ticket = show(desk, caller, ticket_id)
    sets = current(desk.store).sets
    decisions = [_explained(r, sets) for r in desk.store.entries(ticket_id) if _decision(r.event)]
    return {
        "ticket": ticket.id,
        "status": ticket.status,
        "reasons": list(ticket.reasons),
        "same": all(d["same"] for d in decisions),
        "decisions": decisions,
    }


def rules(desk: Desk, ticket: Ticket) -> dict[str, str]:
    """The text of each policy that the ticket's verdict rests on, as the ledger has it. Empty where it has none."""
    found: dict[str, str] = {}
    digest = ticket.policies or ""
    known = (
        desk.governed.adopted.now().sets if desk.governed else {}
    )  # in memory, from checked entries as well
    files = known[digest] if digest in known else current(desk.store).sets.get(digest, {})
    for text in files.values():
        for name in ticket.determining:
            if (at := text.find(f'@id("{name}")')) >= 0:
                found[name] = _rule_at(text, at)
    return found


def _rule_at(text: str, start: int) -> str:
    """From a policy's first annotation to the semicolon that ends it; one within a string ends nothing."""
    within = False
    for place in range(start, len(text)):
        if text[place] == '"' and text[place - 1] != "\\":
            within = not within
        elif text[place] == ";" and not within:
            return text[start : place + 1]
    return text[start:]


def _decision(event: Event) -> bool:
    if isinstance(event, RequestDenied):
        return bool(event.evaluations)
    return isinstance(event, PolicyDecided | ApprovalRecorded | ProvisioningStarted)


def _explained(recorded: Recorded, sets: dict[str, dict[str, str]]) -> Document:
    event: Any = recorded.event
    again = replay(event, sets[event.policies]) if event.policies in sets else None
    return {
        "event": event.kind,
        "at": recorded.at,
        "by": recorded.actor,
        "policies": event.policies,
        "same": again is not None and again.same,
        "questions": [
            {
                "principal": e.principal, "action": e.action, "resource": e.resource, "allowed": e.allowed,
                "determining": list(e.determining), "errors": list(e.errors), "context": msgspec.to_builtins(e.context),
            }
            for e in event.evaluations
        ],
    }  # fmt: skip
