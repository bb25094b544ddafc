"""Why policy decided as it did: replayed from the ledger alone, years later as well (I34)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from muniment.core.errors import IntegrityError
from muniment.core.events import (
    ApprovalRecorded,
    Event,
    PolicyAdopted,
    PolicyDecided,
    PolicyTextRecorded,
    ProvisioningStarted,
)
from muniment.core.ticket import Recorded
from muniment.policy.replay import replay
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.service.looking import show
from muniment.service.registry import POLICY_STREAM


def explain(desk: Desk, caller: Caller, ticket_id: str) -> Document:
    """Every decision on a ticket: what was asked, which policies answered, and whether a replay answers the same."""
    ticket = show(desk, caller, ticket_id)
    sets = policy_sets(desk.store.entries(POLICY_STREAM))
    decisions = [_explained(r, sets) for r in desk.store.entries(ticket_id) if _decision(r.event)]
    return {
        "ticket": ticket.id,
        "status": ticket.status,
        "reasons": list(ticket.reasons),
        "same": all(d["same"] for d in decisions),
        "decisions": decisions,
    }


def policy_sets(entries: list[Recorded]) -> dict[str, dict[str, str]]:
    """Every policy set that was ever in force: digest to its files, put together from their recorded parts.

    Raises:
        IntegrityError: a file's parts are not the file.
    """
    texts: dict[str, str] = {}
    sets: dict[str, dict[str, str]] = {}
    parts: dict[str, list[str]] = {}
    for recorded in entries:
        event = recorded.event
        if isinstance(event, PolicyTextRecorded):
            if event.part == 0:
                parts[event.sha256] = []
            parts[event.sha256].append(event.text)
            texts[event.sha256] = "".join(parts[event.sha256])
        elif isinstance(event, PolicyAdopted):
            sets[event.digest] = {file.name: _whole(texts, file.name, file.sha256) for file in event.files}
    return sets


def _whole(texts: dict[str, str], name: str, sha256: str) -> str:
    text = texts.get(sha256, "")
    if hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise IntegrityError(
            f"the recorded parts of policy {name} are not the file", remedy="Run `muniment ledger verify`."
        )
    return text


def _decision(event: Event) -> bool:
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
