"""After a command that may set something off: wait for what comes of it, and say why there is no access."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from muniment.cli.tickets import waiting_for
from muniment.core.errors import MunimentError, Refused

if TYPE_CHECKING:
    from muniment.cli.backend import Backend, Document
    from muniment.cli.session import Session

#: seconds between looks while waiting; what others do is seen by looking
PAUSE = 0.5
#: while a target does not answer
LONGEST_PAUSE = 30.0
ENDED = frozenset({"closed", "denied", "withdrawn", "lapsed", "failed"})


def wait(session: Session, backend: Backend, ticket: Document) -> tuple[Document, MunimentError | None]:
    """Wait until there is access, or never will be; do what becomes due meanwhile."""
    pause, told = PAUSE, ""
    while True:
        ticket, trouble = backend.settle(backend.ticket(ticket["id"]))
        if ticket["status"] == "active":
            return ticket, None
        if ticket["status"] in ENDED | {"revoking", "revoked"}:
            return ticket, over(backend, ticket)
        news = trouble.message if trouble else "; ".join(waiting_for(ticket, backend.now()))
        if news != told:
            session.note(f"{ticket['id']} is {ticket['status']}: {news}")
            told = news
        pause = min(pause * 2, LONGEST_PAUSE) if trouble else PAUSE
        time.sleep(pause)


def over(backend: Backend, ticket: Document) -> MunimentError | None:
    """Why a ticket that was just filed, or waited for, gives no access; None while it still may."""
    ticket_id, reasons = ticket["id"], "; ".join(ticket["policy"]["reasons"])
    decided = next((d["approver"] for d in ticket["decisions"] if d["decision"] == "deny"), None)
    match ticket["status"]:
        case "denied" if decided is None:
            return Refused(
                f"policy does not permit {ticket_id}: {reasons or 'no policy permits it'}",
                remedy=f"Ask for what the reasons allow; {_owners(backend, ticket)} can say more.",
                code="refused.by-policy",
            )
        case "denied":
            return Refused(f"{decided} denied {ticket_id}", remedy=f"Ask {decided}.", code="refused.denied")
        case "withdrawn":
            return Refused(f"{ticket_id} was withdrawn", remedy="File it again.", code="refused.withdrawn")
        case "lapsed":
            return Refused(f"{ticket_id} lapsed: {reasons}", remedy="File it again.", code="refused.lapsed")
        case "revoking" | "revoked" | "closed" | "failed":
            failure = ticket["failure"] or {"message": "its access is over", "code": "refused.over"}
            return Refused(
                f"{ticket_id} gives no access: {failure['message']}",
                remedy=f"File it again, or ask {_owners(backend, ticket)}.",
                code=failure["code"],
            )
        case _:
            return None


def _owners(backend: Backend, ticket: Document) -> str:
    """Who owns the ticket's target, as far as it is configured."""
    owners = next((t["owners"] for t in backend.targets() if t["id"] == ticket["target"]), ())
    return ", ".join(owners) or "an operator"
