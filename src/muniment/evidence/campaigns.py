# ruff: noqa: PLR0911  each return is one rule
"""Rules for recertification campaigns: does an entry say something that can be, after those before it?

Campaigns are folded as the program folds them. That nobody signs off what he opened or decided, that nothing is settled
before, and that the whole is decided by then is judged here again, from the ledger alone. Who was asked about an item,
and whose it was, is in the list beside the ledger, of which the first entry has the digest.
"""

from __future__ import annotations

from muniment.core import events as e
from muniment.core.campaign import LONGEST_OPEN, LONGEST_VALID, Campaign, evolve, results
from muniment.core.campaign_items import MOST_ITEMS, numbers
from muniment.core.identity import SYSTEM, is_human
from muniment.core.instants import parse_instant
from muniment.core.ticket import Recorded
from muniment.ledger.entry import Entry

_OF_CAMPAIGNS = (
    e.CampaignOpened, e.CampaignItemsDecided, e.CampaignReassigned, e.CampaignReminded, e.CampaignSignedOff,
    e.CampaignItemsSettled, e.CampaignClosed, e.CampaignCancelled,
)  # fmt: skip


class Campaigns:
    """Keeps campaigns of the streams that it sees whole."""

    def __init__(self) -> None:
        """None was opened."""
        self._campaigns: dict[str, Campaign] = {}

    def take(self, event: e.Event, entry: Entry) -> str | None:
        """Which rule an entry breaks; None if it breaks none, or is about something else."""
        if not isinstance(event, _OF_CAMPAIGNS):
            return None
        if entry.ticket != f"campaign:{event.campaign}":
            return f"it is of {event.campaign!r:.60}, and in the stream of another campaign"
        before = self._campaigns.get(event.campaign)
        if (fault := _judge(before, event, entry)) is not None:
            return fault
        recorded = Recorded(
            seq=entry.seq, at=entry.at, actor=entry.actor.id, via=entry.actor.via, event=event
        )
        if (after := evolve(before, recorded)) is not None:
            self._campaigns[after.name] = after
        return None


def _judge(before: Campaign | None, event: e.Event, entry: Entry) -> str | None:
    if isinstance(event, e.CampaignOpened):
        return "it was opened before" if before is not None else _opened(event, entry)
    if before is None:
        return "there is no such campaign"
    begun, actor = before.status in {"open", "decided"}, entry.actor.id
    match event:
        case e.CampaignItemsSettled():
            return _settled(before, event, actor)
        case e.CampaignClosed():
            return _closed(before, event, entry)
        case _ if not begun:
            return f"the campaign is {before.status}, where this cannot happen"
        case e.CampaignItemsDecided():
            return _decided(before, event, entry)
        case e.CampaignReassigned():
            return _reassigned(before, event, entry)
        case e.CampaignReminded():
            return None if actor == SYSTEM else f"only {SYSTEM} reminds"
        case e.CampaignSignedOff():
            return _signed(before, event, actor)
        case _:
            return None if is_human(actor) else f"{actor} is no person, and gives it up"


def _opened(event: e.CampaignOpened, entry: Entry) -> str | None:
    at = parse_instant(entry.at)
    if not 0 <= event.singly <= event.items <= MOST_ITEMS or not event.items:
        return "its counts do not go together"
    if not at < parse_instant(event.due_at) <= at + LONGEST_OPEN:
        return "it is open for too long, or for the past"
    if not 0 < event.valid_for <= LONGEST_VALID.total_seconds():
        return "what it keeps stands for too long without another look"
    return None if is_human(entry.actor.id) else f"{entry.actor.id} is no person, and opens it"


def _decided(before: Campaign, event: e.CampaignItemsDecided, entry: Entry) -> str | None:
    places = numbers(event.items, before.opened.items)
    if event.count != len(places):
        return "it names another number of items than it counts"
    if event.reason is None:
        late = parse_instant(entry.at) >= before.due and before.opened.unanswered == "revoke"
        asked = any(before.decision(place) is not None for place in places)
        if entry.actor.id != SYSTEM or event.decision != "revoke" or not late or asked:
            return "nobody says why, and it is not for want of an answer in time"
        return None
    if not is_human(entry.actor.id):
        return f"{entry.actor.id} is no person, and decides"
    if event.decision == "keep" and len(places) > 1 and places[0] < before.opened.singly:
        return f"item {places[0]} is kept together with others, and was to be looked at alone"
    return None


def _reassigned(before: Campaign, event: e.CampaignReassigned, entry: Entry) -> str | None:
    numbers(event.items, before.opened.items)
    if event.reason is not None:
        return (
            None
            if is_human(entry.actor.id)
            else f"{entry.actor.id} is no person, and gives a person's reason"
        )
    late = parse_instant(entry.at) >= before.due and before.opened.unanswered == "escalate"
    sound = entry.actor.id == SYSTEM and late and event.to == before.opened.escalate_to
    return None if sound else "nobody says why, and it is not for want of an answer in time"


def _signed(before: Campaign, event: e.CampaignSignedOff, actor: str) -> str | None:
    if before.status != "decided":
        return "it is signed off before everything is decided"
    if event.results != results(before.decisions):
        return "it is signed off with other results than those on file"
    if not is_human(actor) or actor == before.opened_by or any(act.by == actor for act in before.acts):
        return f"{actor} signs it off, and takes somebody who is a person and had no part in it"
    return None


def _settled(before: Campaign, event: e.CampaignItemsSettled, actor: str) -> str | None:
    if before.status != "removing":
        return "it is settled before it was signed off, or after its end"
    waiting = set(before.unsettled())
    if not waiting.issuperset(numbers(event.items, before.opened.items)):
        return "it settles items that were kept, or settled before"
    said = event.outcome == "explained"
    if said != (event.reason is not None) or said != is_human(actor):
        return "what is seen needs no reason, and what a person explains has one"
    return None if said or actor == SYSTEM else f"{actor} saw it, and only {SYSTEM} looks"


def _closed(before: Campaign, event: e.CampaignClosed, entry: Entry) -> str | None:
    if before.status != "removing" or before.unsettled():
        return "it is closed before everything is as it was decided"
    counts = (before.count("keep"), before.count("revoke"), before.count("change"))
    if (event.kept, event.revoked, event.changed) != counts:
        return "its counts are not those on file"
    if entry.actor.id != SYSTEM:
        return f"{entry.actor.id} closes it, and only {SYSTEM} does"
    valid = (parse_instant(event.valid_until) - parse_instant(entry.at)).total_seconds()
    return (
        "what it keeps stands for longer than it was opened for" if valid > before.opened.valid_for else None
    )
