"""Attend to tickets that wait for people: remind, escalate, end those that nobody decided, raise what nobody reviewed."""

from __future__ import annotations

from collections.abc import Collection

from muniment.core import commands as c
from muniment.core.due import due
from muniment.core.ticket import Ticket
from muniment.ports import Appended
from muniment.service import fulfilment as f
from muniment.service.approvers import able, missing
from muniment.service.desk import Desk
from muniment.store.views import PAGE, Filter


def attend(desk: Desk, tickets: Collection[str]) -> f.Progress:
    """One pass over tickets that are due; those that are not are left alone."""
    progress = f.Progress(moved=[], again={})
    works = [
        f.Work(stream=stream, ticket=ticket)
        for stream, ticket in desk.store.read_many(tickets).values()
        if ticket.status in {"pending", "approved", "revoked"}
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
        case _ if ticket.status == "revoked":
            return c.NoteLateReview()
        case _:
            return c.Lapse()


def note_missing(desk: Desk) -> list[Ticket]:
    """Put on record for which requests nobody is left who could decide, or somebody is again; return what changed."""
    changed: list[Ticket] = []
    wanted = Filter(statuses=("pending",), limit=PAGE)
    while True:
        page = desk.views.tickets(wanted)
        news = {t.id: said for t in page if tuple(said := missing(desk, t)) != (t.missing or ())}
        appends = [
            desk.appending(ticket, (_noted(news[ticket.id]),), desk.facts(ticket, None), stream)
            for stream, ticket in desk.store.read_many(news).values()
            if ticket.status == "pending"
        ]
        for append, result in zip(appends, desk.store.append_many(appends), strict=True):
            if isinstance(result, Appended) and append.ticket and append.events:
                changed.append(append.ticket)
                desk.tell(append.ticket, append.events)
        if len(page) < PAGE:
            return changed
        wanted = Filter(statuses=wanted.statuses, limit=PAGE, before=page[-1].id)


def _noted(said: dict[str, str]) -> c.NoteMissing:
    return c.NoteMissing(stages=tuple(said), reasons=tuple(said.values()))


#: names in one entry; a group may be the whole company
MOST_REMINDED = 100
