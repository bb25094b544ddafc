# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment show --watch``: the ticket every second, with its time running down. Looks, and does nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.session import Session
    from muniment.core.ticket import Ticket
    from muniment.service.desk import Caller, Desk

SECOND = 1.0


def watch(session: Session, desk: Desk, caller: Caller, ticket: Ticket, *, with_events: bool) -> Ticket:
    """Return the ticket once it has ended. Ctrl-C comes out as what it is."""
    from muniment.cli import console

    if session.as_json or not console.output().is_terminal:
        return _report(session, desk, caller, ticket)
    from rich.live import Live

    from muniment.cli.tickets import panel
    from muniment.service.documents import ticket_document
    from muniment.service.looking import history

    def picture(state: Ticket) -> RenderableType:
        events = history(desk, caller, state.id) if with_events else None
        return panel(ticket_document(desk, state), state, desk.clock.now(), events)

    # transient: what stays on the screen is what `show` prints at the end, or the last look after Ctrl-C
    with Live(picture(ticket), console=console.output(), auto_refresh=False, transient=True) as live:
        try:
            while not ticket.ended:
                time.sleep(SECOND)
                ticket = _again(desk, caller, ticket)
                live.update(picture(ticket), refresh=True)
        except KeyboardInterrupt:
            live.transient = False
            raise
    return ticket


def _report(session: Session, desk: Desk, caller: Caller, ticket: Ticket) -> Ticket:
    """Where nobody watches a screen: a line on stderr whenever something happened."""
    from muniment.cli.tickets import moment, waiting_for

    while True:
        waits = "".join(f", waits for {words}" for words in waiting_for(ticket, desk.clock.now()))
        session.note(f"{moment(ticket.updated_at)} {ticket.id} is {ticket.status}{waits}")
        seen = ticket.version
        while ticket.version == seen:
            if ticket.ended:
                return ticket
            time.sleep(SECOND)
            ticket = _again(desk, caller, ticket)


def _again(desk: Desk, caller: Caller, ticket: Ticket) -> Ticket:
    from muniment.service.looking import show

    return show(desk, caller, ticket.id)
