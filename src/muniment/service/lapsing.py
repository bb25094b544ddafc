"""End requests that nobody decided, or whose window passed before access could begin."""

from __future__ import annotations

from collections.abc import Collection

from muniment.core import commands as c
from muniment.service import fulfilment as f
from muniment.service.desk import Desk


def lapse(desk: Desk, tickets: Collection[str]) -> f.Progress:
    """One pass over tickets that are due to lapse; those that are not are left alone."""
    progress = f.Progress(moved=[], again={})
    works = [
        f.Work(stream=stream, ticket=ticket)
        for stream, ticket in desk.store.read_many(tickets).values()
        if ticket.status in {"pending", "approved"}
    ]
    appends = [desk.appending(w.ticket, (c.Lapse(),), desk.facts(w.ticket, None), w.stream) for w in works]
    f.settle(desk, works, appends, progress)
    return progress
