"""Do what is due on one ticket, here and now: for the command line, which may run without `muniment serve`.

The same passes that controllers run, so nothing is different but who waits for them.
"""

from __future__ import annotations

from muniment.core.due import due
from muniment.core.ticket import Ticket
from muniment.service.attending import attend
from muniment.service.desk import Desk, no_such_ticket
from muniment.service.fulfilment import Progress
from muniment.service.giving import give
from muniment.service.taking import take_back

#: approved → provisioning → active, or → revoking → closed, and once more for what changed meanwhile
STEPS = 6


def pursue(desk: Desk, ticket_id: str) -> Ticket:
    """Move a ticket on as far as it goes by itself now.

    Raises:
        TargetUnavailable: the target did not answer; the ticket says so, and controllers try again.
    """
    for step in range(STEPS):
        ticket = _read(desk, ticket_id)
        todo = due(ticket)
        if todo is None or todo[1] > desk.clock.now():
            return ticket
        progress = _pass(desk, ticket, todo[0], f"here-{desk.random.bytes(8).hex()}-{step}")
        if ticket_id in progress.again:
            raise progress.again[ticket_id]
    return _read(desk, ticket_id)


def _read(desk: Desk, ticket_id: str) -> Ticket:
    _, ticket = desk.store.read(ticket_id)
    if ticket is None:
        raise no_such_ticket(ticket_id)
    return ticket


def _pass(desk: Desk, ticket: Ticket, action: str, holder: str) -> Progress:
    if action in {"provision", "expire", "revoke"}:
        return (give if action == "provision" else take_back)(desk, ticket.terms.target, [ticket.id], holder)
    return attend(desk, [ticket.id])
