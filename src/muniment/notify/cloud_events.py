"""An entry as a CloudEvent 1.0: what happened, when, by whom, and about which ticket. No texts, no secrets.

Who receives it asks the API for more, with their own rights.
"""

from __future__ import annotations

from typing import Any

from muniment.core.ticket import Ticket
from muniment.ledger.entry import Entry

MEDIA_TYPE = "application/cloudevents+json"


def type_of(kind: str) -> str:
    """``request-approved/1`` is ``org.muniment.request.approved.v1``."""
    name, _, version = kind.partition("/")
    return f"org.muniment.{name.replace('-', '.')}.v{version}"


def cloud_event(index: int, entry: Entry, ticket: Ticket | None) -> dict[str, Any]:
    """The event in its structured form. The same whenever it is made: only what never changes is in it."""
    data: dict[str, Any] = {
        "stream": entry.ticket,
        "seq": entry.seq,
        "event": entry.type,
        "actor": entry.actor.id,
    }
    if ticket is not None:
        terms = ticket.terms
        data["ticket"] = {
            "id": ticket.id, "kind": terms.kind, "requester": terms.requester, "beneficiary": terms.beneficiary,
            "target": terms.target, "account": terms.account,
            "privileges": [
                {"privilege": each.privilege, "resource": each.resource} for each in terms.scope
            ],
        }  # fmt: skip
    return {
        "specversion": "1.0", "id": str(index), "source": entry.log, "type": type_of(entry.type),
        "subject": entry.ticket, "time": entry.at, "datacontenttype": "application/json", "data": data,
    }  # fmt: skip
