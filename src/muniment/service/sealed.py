"""Nothing is given before the entries that authorise it are under a published checkpoint.

A row that only the store has seen can be deleted again without a trace. What a published checkpoint covers cannot,
and where policy demands it, a quorum of witnesses has seen that checkpoint too.
"""

from __future__ import annotations

from collections.abc import Collection

from muniment.core.errors import MunimentError, NotSealed
from muniment.core.ticket import Ticket
from muniment.service import fulfilment as f
from muniment.service.desk import Desk
from muniment.service.sealing import seal
from muniment.service.witnessing import ask, witnessed_size


def under_checkpoint(desk: Desk, works: Collection[f.Work], progress: f.Progress) -> list[f.Work]:
    """Those whose entries are published, and witnessed where that is owed; the others are in ``progress.again``.

    Seals and publishes what is not yet, where this process has the key; else another node does so within a second.
    """
    if not works:
        return []
    try:
        missing = _missing(desk, works)
        if missing and desk.signers:
            seal(desk)
            if desk.witnesses and any(_witnessed(w.ticket) for w in works):
                ask(desk, only_quorum=True)
            missing = _missing(desk, works)
    except MunimentError as error:
        progress.again |= {w.ticket.id: error for w in works}
        return []
    progress.again |= missing
    return [w for w in works if w.ticket.id not in missing]


def _missing(desk: Desk, works: Collection[f.Work]) -> dict[str, MunimentError]:
    """What each ticket still waits for."""
    needed = desk.ledger.sealed([w.ticket.id for w in works])
    published = desk.ledger.kept.published_size()
    witnessed = witnessed_size(desk) if any(_witnessed(w.ticket) for w in works) else 0
    missing: dict[str, MunimentError] = {}
    for work in works:
        size = needed.get(work.ticket.id)
        if size is None or size > published:
            missing[work.ticket.id] = NotSealed(
                "the approvals are not under a published checkpoint yet",
                remedy="It begins as soon as they are; `muniment serve` seals every second, where the ledger's key is.",
            )
        elif _witnessed(work.ticket) and size > witnessed:
            missing[work.ticket.id] = NotSealed(
                "policy demands that witnesses have seen the approvals, and too few have answered",
                remedy="It begins as soon as they do; `muniment ledger checkpoint` says which are absent.",
                code="ledger.not-witnessed",
            )
    return missing


def _witnessed(ticket: Ticket) -> bool:
    return ticket.obligations is not None and ticket.obligations.witnessed is True
