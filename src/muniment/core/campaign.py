"""A recertification campaign: people say which standing access is still needed, and what is not is taken away.

    open ──everything decided──> decided ──signed off, by somebody else──> removing ──all of it seen gone──> closed
      └──────────────────────────────┴──cancelled

Nothing is taken away before the whole is signed off, so no removal rests on one person's word. What nobody answers in
time is revoked or handed to others, as the campaign was opened. It closes only when each removal is seen gone, or somebody
says what became of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec.structs import replace

from muniment.core import events as e
from muniment.core.campaign_items import MOST_ITEMS, CampaignItem, numbers, ranges
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import SYSTEM, Identity, IdentityId
from muniment.core.instants import parse_instant, wire
from muniment.core.separation import require_person
from muniment.core.ticket import Recorded

Decision: TypeAlias = Literal["keep", "revoke", "change"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
Outcome: TypeAlias = Literal["gone", "covered", "explained"]
Status: TypeAlias = Literal["open", "decided", "removing", "closed", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)
#: statuses in which nothing happens any more
ENDED: frozenset[Status] = frozenset({"closed", "cancelled"})

#: the form of a campaign's name, as a regular expression
NAME = "[a-z0-9][a-z0-9._-]{0,62}"
#: no campaign is open for longer, and nothing that it keeps stands for longer without another look
LONGEST_OPEN, LONGEST_VALID = timedelta(days=180), timedelta(days=366)
#: whoever it waits for is told when so much of the time is left, and each day once it is over
REMIND_AT, REMIND_AGAIN = 4, timedelta(days=1)

#: one letter an item
UNDECIDED = ord("-")
_LETTERS: dict[str, int] = {"keep": ord("k"), "revoke": ord("r"), "change": ord("c")}
_DECISIONS: dict[int, Decision | None] = {
    UNDECIDED: None, ord("k"): "keep", ord("r"): "revoke", ord("c"): "change",
}  # fmt: skip
_SETTLED: dict[str, int] = {"gone": ord("g"), "covered": ord("t"), "explained": ord("e")}
_OUTCOMES: dict[int, Outcome | None] = {
    UNDECIDED: None, ord("g"): "gone", ord("t"): "covered", ord("e"): "explained",
}  # fmt: skip


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, on one item or many."""

    items: str
    count: int
    decision: Decision
    by: str
    at: str
    reason: str | None  # commitment; None: nobody answered


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Others are asked from here on."""

    items: str
    to: str
    by: str
    at: str


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of items that were not kept."""

    items: str
    outcome: Outcome
    by: str
    at: str
    inventory: str | None
    reason: str | None  # commitment


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign, as its events say."""

    opened: e.CampaignOpened
    opened_by: str
    opened_at: str
    version: int = 1  # events so far
    decisions: bytes  # one letter an item
    outcomes: bytes  # one letter an item that was not kept
    acts: tuple[Act, ...] = ()
    moved: tuple[Moved, ...] = ()
    settled: tuple[Settled, ...] = ()
    reminded_at: str | None = None
    escalated_at: str | None = None
    signed_by: str | None = None
    signed_at: str | None = None
    comment: str | None = None  # commitment
    closed: e.CampaignClosed | None = None
    closed_at: str | None = None
    cancelled_at: str | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.opened.campaign

    @property
    def status(self) -> Status:
        """Where it is."""
        if self.cancelled_at is not None:
            return "cancelled"
        if self.closed is not None:
            return "closed"
        if self.signed_by is not None:
            return "removing"
        return "open" if UNDECIDED in self.decisions else "decided"

    @property
    def due(self) -> datetime:
        """When everything should be decided."""
        return parse_instant(self.opened.due_at)

    @property
    def next_at(self) -> datetime | None:
        """When a controller must look at it next; None if never."""
        if self.status in ENDED:
            return None
        if self.status == "removing":
            return parse_instant(self.signed_at or self.opened_at)
        if self.status == "open" and not self.escalated_at:
            return min(self.due, self.remind_at)
        return self.remind_at

    @property
    def remind_at(self) -> datetime:
        """When whoever it waits for is told next."""
        began = parse_instant(self.opened_at)
        first = self.due - (self.due - began) / REMIND_AT
        if self.reminded_at is None:
            return first
        return max(self.due, parse_instant(self.reminded_at) + REMIND_AGAIN)

    def overdue(self, now: datetime) -> bool:
        """Whether it should have been decided and signed off by now."""
        return self.status in {"open", "decided"} and now >= self.due

    def decision(self, item: int) -> Decision | None:
        """What is to become of an item."""
        return _DECISIONS[self.decisions[item]]

    def outcome(self, item: int) -> Outcome | None:
        """What became of it."""
        return _OUTCOMES[self.outcomes[item]]

    def undecided(self) -> list[int]:
        """Items that nobody has decided."""
        return [n for n, letter in enumerate(self.decisions) if letter == UNDECIDED]

    def unsettled(self) -> list[int]:
        """Items that were revoked or to be changed, and are not yet seen to be so."""
        wanted = (_LETTERS["revoke"], _LETTERS["change"])
        return [
            n
            for n, (letter, outcome) in enumerate(zip(self.decisions, self.outcomes, strict=True))
            if letter in wanted and outcome == UNDECIDED
        ]

    def count(self, decision: Decision) -> int:
        """How many items."""
        return self.decisions.count(_LETTERS[decision])


def results(decisions: bytes) -> str:
    """``sha256:…`` over the letters, as anybody can make it again from the list of decisions."""
    return f"sha256:{hashlib.sha256(decisions).hexdigest()}"


# ── what happened ──


def evolve(campaign: Campaign | None, recorded: Recorded) -> Campaign | None:  # noqa: C901, PLR0911  one case an event
    """What an event makes of it. Total: what is on file has happened."""
    event, at, by = recorded.event, recorded.at, recorded.actor
    if isinstance(event, e.CampaignOpened):
        if campaign is not None:
            return replace(campaign, version=campaign.version + 1)
        blank = b"-" * event.items
        return Campaign(opened=event, opened_by=by, opened_at=at, decisions=blank, outcomes=blank)
    if campaign is None:
        return None
    after, size = replace(campaign, version=campaign.version + 1), campaign.opened.items
    match event:
        case e.CampaignItemsDecided():
            act = Act(
                items=event.items, count=event.count, decision=event.decision, by=by, at=at, reason=event.reason
            )  # fmt: skip
            letters = _written(after.decisions, numbers(event.items, size), _LETTERS[event.decision])
            return replace(after, decisions=letters, acts=(*after.acts, act))
        case e.CampaignReassigned():
            moved = Moved(items=event.items, to=event.to, by=by, at=at)
            escalated = at if event.reason is None else after.escalated_at
            return replace(after, moved=(*after.moved, moved), escalated_at=escalated)
        case e.CampaignReminded():
            return replace(after, reminded_at=at)
        case e.CampaignSignedOff():
            return replace(after, signed_by=by, signed_at=at, comment=event.comment)
        case e.CampaignItemsSettled():
            settled = Settled(
                items=event.items, outcome=event.outcome, by=by, at=at, inventory=event.inventory, reason=event.reason
            )  # fmt: skip
            letters = _written(after.outcomes, numbers(event.items, size), _SETTLED[event.outcome])
            return replace(after, outcomes=letters, settled=(*after.settled, settled))
        case e.CampaignClosed():
            return replace(after, closed=event, closed_at=at)
        case e.CampaignCancelled():
            return replace(after, cancelled_at=at)
        case _:
            return after


def replay(recorded: Iterable[Recorded], known: Campaign | None = None) -> Campaign | None:
    """Fold events, from the beginning or after what is known."""
    return reduce(evolve, recorded, known)


def _written(letters: bytes, places: Iterable[int], letter: int) -> bytes:
    after = bytearray(letters)
    for place in places:
        after[place] = letter
    return bytes(after)


# ── who is asked ──


def reviewers(campaign: Campaign, items: Sequence[CampaignItem]) -> list[str]:
    """Who is asked about each item now."""
    found = [item.reviewer for item in items]
    for moved in campaign.moved:
        for place in numbers(moved.items, len(items)):
            found[place] = moved.to
    return found


def asked(reviewer: str, who: Identity) -> bool:
    """Whether somebody is meant by name, group or role."""
    kind, _, name = reviewer.partition(":")
    if kind == "group":
        return name in who.groups
    if kind == "role":
        return name in who.roles
    return reviewer == who.id or reviewer in who.aliases


def own(item: CampaignItem, names: Collection[str], above: Collection[str]) -> bool:
    """Whether an item is that of somebody with these names, or of somebody above them: neither may decide on it.

    Args:
        item: what is decided.
        names: of whoever decides, aliases too.
        above: everybody whom they report to, at any level.
    """
    return any(holder in names or holder in above for holder in item.holders)


# ── what may happen ──


def opening(event: e.CampaignOpened, now: datetime) -> tuple[e.Event, ...]:
    """Begin. Raises `Invalid` for a campaign that could not be held."""
    due = parse_instant(event.due_at)
    if not now < due <= now + LONGEST_OPEN:
        raise Invalid(
            f"a campaign is open for {LONGEST_OPEN.days} days at most, and not for the past",
            remedy="Give another end with --for.",
        )
    if not 0 < event.valid_for <= LONGEST_VALID.total_seconds():
        raise Invalid(
            f"what is kept stands for {LONGEST_VALID.days} days at most without another look",
            remedy="Give another length with --valid-for.",
        )
    if not event.items:
        raise Invalid(
            "nothing stands that this selects",
            remedy="Select less narrowly; `muniment inventory show` lists what targets hold.",
            code="invalid.empty-campaign",
        )
    if event.items > MOST_ITEMS:
        raise Invalid(
            f"this selects {event.items} items, and a campaign has {MOST_ITEMS} at most",
            remedy="Narrow it, for example by target, and open several.",
        )
    return (event,)


def decide(
    campaign: Campaign,
    who: Identity,
    places: Sequence[int],
    decision: Decision,
    reason: str,
    *,
    items: Sequence[CampaignItem],
    above: Collection[str],
) -> tuple[e.Event, ...]:
    """A reviewer says what is to become of items, all alike and for one reason.

    Args:
        campaign: as it stands.
        who: the reviewer, as the directory knows them now.
        places: of the items.
        decision: what is to become of them.
        reason: why, as a commitment.
        items: all of the campaign's.
        above: everybody whom the reviewer reports to.
    """
    _undone(campaign, "decided")
    require_person(who, "decide")
    if not places:
        raise Invalid("no items are named", remedy="Name at least one.")
    names, now_asked = {who.id, *who.aliases}, reviewers(campaign, items)
    for place in places:
        item = items[place]
        if not asked(now_asked[place], who):
            raise Refused(
                f"item {place} of {campaign.name} is for {now_asked[place]} to decide, and not for {who.id}",
                remedy=f"Ask them; an operator can have it decided by others: `muniment campaign reassign {campaign.name}`.",
                code="refused.not-asked",
            )
        if own(item, names, above):
            raise Refused(
                f"item {place} of {campaign.name} is {who.id}'s own, or that of somebody whom they report to",
                remedy="Somebody else must decide on it: `muniment campaign reassign`.",
                code="refused.self-review",
            )
    if decision == "keep":
        _keepable(campaign, places, items)
    return tuple(
        e.CampaignItemsDecided(
            campaign=campaign.name, items=part, count=len(numbers(part, len(items))), decision=decision,
            reason=reason,
        )
        for part in ranges(places)
    )  # fmt: skip


def _keepable(campaign: Campaign, places: Sequence[int], items: Sequence[CampaignItem]) -> None:
    singly = [place for place in places if place < campaign.opened.singly]
    if len(places) > 1 and singly:
        raise Refused(
            f"item {singly[0]} of {campaign.name} is kept by itself, or not at all",
            remedy="Decide it alone, with a reason of its own; revoking and changing several is possible.",
            code="refused.decide-singly",
        )
    for place in places:
        if items[place].standing == "unexplained":
            raise Refused(
                f"nothing explains item {place} of {campaign.name}, and keeping it would adopt it by that",
                remedy="Revoke it; or decide `change`, and have it declared in the baseline by two people.",
                code="refused.unexplained",
            )


def reassign(campaign: Campaign, places: Sequence[int], to: str, reason: str) -> tuple[e.Event, ...]:
    """Others are asked."""
    _undone(campaign, "reassigned")
    if not places:
        raise Invalid("no items are named", remedy="Name at least one.")
    return tuple(
        e.CampaignReassigned(campaign=campaign.name, items=part, to=to, reason=reason)
        for part in ranges(places)
    )


def unanswered(campaign: Campaign, now: datetime) -> tuple[e.Event, ...]:
    """What becomes of items that nobody decided in time: they are revoked, or others are asked as well."""
    if campaign.status != "open" or now < campaign.due:
        return ()
    places = campaign.undecided()
    if campaign.opened.unanswered == "revoke":
        return tuple(
            e.CampaignItemsDecided(
                campaign=campaign.name, items=part, count=len(numbers(part, campaign.opened.items)),
                decision="revoke", reason=None,
            )
            for part in ranges(places)
        )  # fmt: skip
    if campaign.escalated_at:
        return ()
    to = campaign.opened.escalate_to
    return tuple(
        e.CampaignReassigned(campaign=campaign.name, items=part, to=to, reason=None)
        for part in ranges(places)
    )


def remind(campaign: Campaign, people: Sequence[str], now: datetime) -> tuple[e.Event, ...]:
    """Tell whoever it waits for."""
    if campaign.status not in {"open", "decided"} or now < campaign.remind_at:
        return ()
    return (e.CampaignReminded(campaign=campaign.name, people=tuple(people)),)


def sign_off(
    campaign: Campaign, who: Identity, comment: str, *, same: Mapping[IdentityId, Collection[str]]
) -> tuple[e.Event, ...]:
    """Somebody who neither opened it nor decided anything in it stands for the result.

    Args:
        campaign: as it stands.
        who: as the directory knows them now.
        comment: as a commitment.
        same: every name of those who took part, by the one on record.
    """
    require_person(who, "sign it off")
    if campaign.status == "open":
        left = campaign.decisions.count(UNDECIDED)
        raise Refused(
            f"{left} items of {campaign.name} are not decided",
            remedy=f"`muniment campaign show {campaign.name} --undecided` lists them.",
            code="refused.undecided",
        )
    _undone(campaign, "signed off")
    names = {who.id, *who.aliases}
    for part in {campaign.opened_by, *(act.by for act in campaign.acts if act.by != SYSTEM)}:
        if not names.isdisjoint({part, *same.get(part, ())}):
            raise Refused(
                f"{who.id} took part in {campaign.name}, and somebody else must sign it off",
                remedy="Ask an operator or auditor who neither opened it nor decided in it.",
                code="refused.self-approval",
            )
    signed = e.CampaignSignedOff(campaign=campaign.name, results=results(campaign.decisions), comment=comment)
    return (signed,)


def settle(
    campaign: Campaign,
    places: Collection[int],
    outcome: Outcome,
    *,
    inventory: str | None = None,
    reason: str | None = None,
) -> tuple[e.Event, ...]:
    """Items that were not kept are seen to be gone, or somebody says what became of them."""
    if campaign.status != "removing":
        raise Refused(
            f"{campaign.name} is {campaign.status}, and nothing in it waits to be seen gone",
            remedy="`muniment campaign show` says where it is.",
            code="refused.status",
        )
    waiting = set(campaign.unsettled())
    if reason is not None and (other := sorted(set(places) - waiting)):
        raise Refused(
            f"item {other[0]} of {campaign.name} does not wait to be seen gone",
            remedy=f"`muniment campaign show {campaign.name} --unsettled` lists those that do.",
            code="refused.status",
        )
    return tuple(
        e.CampaignItemsSettled(
            campaign=campaign.name, items=part, outcome=outcome, inventory=inventory, reason=reason
        )
        for part in ranges(waiting & set(places))
    )


def close(campaign: Campaign, now: datetime) -> tuple[e.Event, ...]:
    """End it, if everything is as it was decided."""
    if campaign.status != "removing" or campaign.unsettled():
        return ()
    until = now + timedelta(seconds=campaign.opened.valid_for)
    return (
        e.CampaignClosed(
            campaign=campaign.name, kept=campaign.count("keep"), revoked=campaign.count("revoke"),
            changed=campaign.count("change"), valid_until=wire(until),
        ),
    )  # fmt: skip


def cancel(campaign: Campaign, reason: str) -> tuple[e.Event, ...]:
    """Give it up, before anything came of it."""
    _undone(campaign, "cancelled")
    return (e.CampaignCancelled(campaign=campaign.name, reason=reason),)


def _undone(campaign: Campaign, what: str) -> None:
    if campaign.status not in {"open", "decided"}:
        raise Refused(
            f"{campaign.name} is {campaign.status}, and cannot be {what}",
            remedy="Open another campaign.",
            code="refused.status",
        )
