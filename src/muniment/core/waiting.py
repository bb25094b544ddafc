"""While a request waits for people: reminders, escalation, nobody left to ask, and the end of waiting.

All of it is due at an instant that the ticket's state names, so a controller that was away does it when it is back.
"""

from __future__ import annotations

from datetime import datetime

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.ticket import Ticket


def lapse(ticket: Ticket, command: c.Lapse, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """End a request that nobody decided, or whose window is over before access could begin."""
    del command, facts
    if ticket.expiry and now >= ticket.expiry:
        return (e.RequestLapsed(reason="its window was over before access could begin"),)
    if ticket.status == "pending" and now >= ticket.lapses_at:
        return (e.RequestLapsed(reason="nobody decided in time"),)
    return ()


def remind(ticket: Ticket, command: c.Remind, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Tell those who could decide that it waits for them: once, until somebody decides."""
    del facts
    if ticket.remind_at is None or now < ticket.remind_at:
        return ()
    waiting = tuple(s.name for s in ticket.open_stages())
    return (e.ApproversReminded(stages=waiting, approvers=command.approvers),)


def escalate(ticket: Ticket, command: c.Escalate, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Let others decide as well, because nobody did."""
    del command, facts
    owed = ticket.obligations
    if ticket.escalate_at is None or now < ticket.escalate_at or owed is None or not owed.escalate_to:
        return ()
    waiting = tuple(s.name for s in ticket.open_stages())
    return (e.RequestEscalated(stages=waiting, to=owed.escalate_to),)


def note_missing(
    ticket: Ticket, command: c.NoteMissing, facts: c.Facts, now: datetime
) -> tuple[e.Event, ...]:
    """Put on record that nobody is left who could decide, or that there is somebody again. Once for each change."""
    del facts, now
    if command.stages == (ticket.missing or ()):
        return ()
    return (e.ApproversMissing(stages=command.stages, reasons=command.reasons),)
