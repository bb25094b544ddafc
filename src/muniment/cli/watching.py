# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment show --watch``: the ticket every second, with its time running down. Looks, and does nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from muniment.cli.following import ENDED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.backend import Backend, Document
    from muniment.cli.session import Session

SECOND = 1.0


def watch(session: Session, backend: Backend, ticket: Document, *, with_events: bool) -> Document:
    """Return the ticket once it has ended. Ctrl-C comes out as what it is."""
    from muniment.cli import console

    if session.as_json or not console.output().is_terminal:
        return _report(session, backend, ticket)
    from rich.live import Live

    from muniment.cli.tickets import panel

    def picture(state: Document) -> RenderableType:
        events = backend.events(state["id"]) if with_events else None
        return panel(state, backend.now(), events)

    # transient: what stays on the screen is what `show` prints at the end, or the last look after Ctrl-C
    with Live(picture(ticket), console=console.output(), auto_refresh=False, transient=True) as live:
        try:
            while ticket["status"] not in ENDED:
                time.sleep(SECOND)
                ticket = backend.ticket(ticket["id"])
                live.update(picture(ticket), refresh=True)
        except KeyboardInterrupt:
            live.transient = False
            raise
    return ticket


def _report(session: Session, backend: Backend, ticket: Document) -> Document:
    """Where nobody watches a screen: a line on stderr whenever something happened."""
    from muniment.cli.tickets import moment, waiting_for

    while True:
        waits = "".join(f", waits for {words}" for words in waiting_for(ticket, backend.now()))
        session.note(f"{moment(ticket['updated_at'])} {ticket['id']} is {ticket['status']}{waits}")
        seen = ticket["ledger"]["events"]
        while ticket["ledger"]["events"] == seen:
            if ticket["status"] in ENDED:
                return ticket
            time.sleep(SECOND)
            ticket = backend.ticket(ticket["id"])
