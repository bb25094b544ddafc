"""Erase a free text of a ticket: the text and its salt, beside the ledger. The ledger stays as it is, and says so.

1. One transaction deletes text and salt, and records who erased it, when and why. A crash before leaves everything, a
   crash after leaves the old bytes in the store's files;
2. the files are cleaned of them (`store.erasing`). Running the same again does this once more, and records nothing.
"""

from __future__ import annotations

from muniment.core.errors import Conflict, NotFound
from muniment.core.events import TextErased
from muniment.core.separation import require_independent
from muniment.core.ticket import Recorded, Ticket
from muniment.evidence.bundle import commitments
from muniment.evidence.rules import ERASURE
from muniment.ports import Append
from muniment.service.desk import ATTEMPTS, Caller, Desk, no_such_ticket, operators_only
from muniment.service.documents import Document, erasure_document, erasures
from muniment.service.sealing import seal
from muniment.store.erasing import scrub

#: what no command of ours reaches
ELSEWHERE = (
    "backups and replicas of the store, evidence bundles that were handed out, and logs of a PostgreSQL server may still"
    " hold it: see docs/how-to/erase-personal-data.md"
)


def texts(desk: Desk, caller: Caller, ticket_id: str) -> Document:
    """The free texts of a ticket: which entry commits to each, who wrote it, and whether it is still there."""
    operators_only(caller)
    ticket, recorded = _read(desk, ticket_id)
    return _document(desk, ticket, recorded)


def erase(desk: Desk, caller: Caller, ticket_id: str, entry: int, reason: str) -> Document:
    """Erase the text that an entry of a ticket commits to.

    Args:
        desk: the adapters.
        caller: an operator without a stake in the ticket.
        ticket_id: the ticket.
        entry: the number of the entry in the ticket, as `texts` shows them.
        reason: why; kept as other free texts are, and not what was erased.

    Raises:
        Refused: the caller may not.
        NotFound: there is no such ticket, or its entry has no text.
        StoreUnavailable: the text is deleted, and the store's files could not be cleaned; do it again.
    """
    operators_only(caller)
    why = desk.commit_text(reason, "the reason")
    for attempt in range(ATTEMPTS):
        ticket, recorded = _read(desk, ticket_id)
        require_independent(ticket, caller.identity, desk.facts(ticket, caller).accountable, "erase")
        (commitment,) = _committed(recorded, entry)
        stream, _ = desk.store.read(ERASURE + ticket_id)
        if commitment in erasures(desk, [ticket_id])[ticket_id]:
            break
        event = TextErased(ticket=ticket_id, seq=entry, commitment=commitment, reason=why.commitment)
        try:
            desk.store.append(
                Append(
                    stream=stream, actor=caller.actor, events=(event,), at=desk.clock.now(), texts=(why,),
                    erased=(commitment,),
                )
            )  # fmt: skip
        except Conflict:
            if attempt + 1 == ATTEMPTS:
                raise
            continue
        break
    scrub(desk.store.engine)
    if desk.signers:
        seal(desk)
    return _document(desk, ticket, recorded)


def _read(desk: Desk, ticket_id: str) -> tuple[Ticket, list[Recorded]]:
    _, ticket = desk.store.read(ticket_id)
    if ticket is None:
        raise no_such_ticket(ticket_id)
    return ticket, desk.store.entries(ticket_id)


def _committed(recorded: list[Recorded], entry: int) -> set[str]:
    found = commitments(recorded[entry].event) if 0 <= entry < len(recorded) else set()
    if not found:
        raise NotFound(
            f"entry {entry} of the ticket has no free text",
            remedy="`muniment admin erase TICKET` shows those that have one.",
        )
    return found


def _document(desk: Desk, ticket: Ticket, recorded: list[Recorded]) -> Document:
    gone = erasures(desk, [ticket.id])[ticket.id]
    there = desk.views.texts(c for each in recorded for c in commitments(each.event))
    reasons = desk.views.texts(
        each.event.reason for each in gone.values() if isinstance(each.event, TextErased)
    )
    items = []
    for each in recorded:
        for commitment in commitments(each.event):
            erased = gone.get(commitment)
            items.append(
                {
                    "entry": each.seq, "type": each.event.kind, "by": each.actor, "at": each.at,
                    "commitment": commitment, "text": there.get(commitment),
                    "erased": erasure_document(erased, reasons) if erased else None,
                }
            )  # fmt: skip
    return {"ticket": ticket.id, "texts": items, "elsewhere": ELSEWHERE}
