"""Rules for what is recorded of targets as they are: does an entry say something that can be?"""

from __future__ import annotations

from muniment.core.events import Event, InventoryTaken
from muniment.core.instants import parse_instant
from muniment.ledger.entry import Entry


def unreconciled(event: Event, entry: Entry) -> str | None:
    """Which rule an entry about a target breaks; None if it breaks none, or is about something else."""
    if isinstance(event, InventoryTaken):
        return _inventory(event, entry)
    return None


def _inventory(event: InventoryTaken, entry: Entry) -> str | None:
    if entry.ticket != f"inventory:{event.target}":
        return f"it is of {event.target!r:.80}, and in the stream of another target"
    if parse_instant(event.began_at) > parse_instant(entry.at):
        return "it was recorded before it began"
    direct = event.holdings - event.nested
    if min(event.nested, event.accounts) < 0 or not bool(direct) <= event.accounts <= direct:
        return "its counts do not go together"
    return None
