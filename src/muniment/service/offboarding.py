"""Act on what the directory says of people and machines that are gone (I22).

A look at the directory as it is and at the tickets that are open, not a reaction to a change: whatever was missed, by
a crash or by a node with an older directory, is found by the next look.
"""

from __future__ import annotations

from collections.abc import Iterable

from muniment.core import commands as c
from muniment.core.errors import MunimentError
from muniment.core.identity import IdentityId
from muniment.core.ticket import Ticket
from muniment.ports import Append, Appended
from muniment.service.desk import Desk, answered_for
from muniment.store.views import PAGE, Filter

#: tickets decided and appended together
CHUNK = 200


def offboard(desk: Desk) -> list[Ticket]:
    """Order the end of access that rests on whoever is gone, and void their approvals; return what changed.

    The target is not touched here: a ticket that is `revoking` now is due, and controllers take the access away.
    A ticket that somebody else changes meanwhile is left to the next look.
    """
    gone = frozenset(people_gone(desk))
    if not gone:
        return []
    concerned = {*desk.views.open_of(gone), *_approved_by(desk, gone)}
    changed: list[Ticket] = []
    order = sorted(concerned)
    for start in range(0, len(order), CHUNK):
        appends: list[Append] = []
        for stream, ticket in desk.store.read_many(order[start : start + CHUNK]).values():
            if ticket.status not in {"pending", "approved", "provisioning", "active"}:
                continue
            facts = desk.facts(ticket, None)
            append = desk.appending(ticket, (c.Offboard(gone=tuple(sorted(gone))),), facts, stream)
            if append.events:
                appends.append(append)
        trouble: MunimentError | None = None
        for append, result in zip(appends, desk.store.append_many(appends), strict=True):
            if isinstance(result, Appended) and append.ticket:
                changed.append(append.ticket)
                desk.tell(append.ticket, append.events)
            elif isinstance(result, MunimentError):
                trouble = result
        if trouble is not None and trouble.code != "conflict":
            raise trouble
    return changed


def people_gone(desk: Desk) -> Iterable[IdentityId]:
    """Whoever is deactivated, has left the directory, or is no person and has no active person who answers for it."""
    for identity in desk.directory.everybody():
        if not answered_for(desk.subject(identity.id)):
            yield from (identity.id, *identity.aliases)
    for identity_id in desk.views.deactivated():
        if desk.directory.get(identity_id) is None:
            yield identity_id


def _approved_by(desk: Desk, gone: frozenset[IdentityId]) -> Iterable[str]:
    """Tickets that wait, with a decision by somebody who is gone."""
    wanted = Filter(statuses=("pending", "approved"), limit=PAGE)
    while True:
        page = desk.views.tickets(wanted)
        yield from (t.id for t in page if any(not gone.isdisjoint(d.voters) for d in t.decisions))
        if len(page) < PAGE:
            return
        wanted = Filter(statuses=wanted.statuses, limit=PAGE, before=page[-1].id)
