"""Attend to requests that wait for people: remind, escalate, and end those that nobody decided or whose window passed."""

from __future__ import annotations

from collections.abc import Collection

from muniment.core import commands as c
from muniment.core.due import due
from muniment.core.ticket import Ticket
from muniment.service import fulfilment as f
from muniment.service.approvers import able
from muniment.service.desk import Desk


def attend(desk: Desk, tickets: Collection[str]) -> f.Progress:
    """One pass over tickets that are due; those that are not are left alone."""
    progress = f.Progress(moved=[], again={})
    works = [
        f.Work(stream=stream, ticket=ticket)
        for stream, ticket in desk.store.read_many(tickets).values()
        if ticket.status in {"pending", "approved"}
    ]
    appends = [
        desk.appending(w.ticket, (_command(desk, w.ticket),), desk.facts(w.ticket, None), w.stream)
        for w in works
    ]
    f.settle(desk, works, appends, progress)
    return progress


def _command(desk: Desk, ticket: Ticket) -> c.Command:
    """What is due next; `decide` makes nothing of it before its time."""
    match due(ticket):
        case ("remind", _):
            waiting = (s for s in ticket.open_stages())
            people = {p for stage in waiting for p in able(desk, ticket, stage)}
            return c.Remind(approvers=tuple(sorted(people)[:MOST_REMINDED]))
        case ("escalate", _):
            return c.Escalate()
        case _:
            return c.Lapse()


#: names in one entry; a group may be the whole company
MOST_REMINDED = 100
