"""What people do with a campaign: open it, decide, have others asked, say what became of something, sign it off."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeAlias

import msgspec

from muniment.core import campaign as c
from muniment.core.campaign import Campaign, Decision
from muniment.core.campaign_items import RISKS, CampaignItem, Risk, Selection, numbers
from muniment.core.errors import Conflict, Invalid, NotFound, Refused
from muniment.core.events import CampaignOpened, Event
from muniment.core.instants import wire
from muniment.core.inventory import digest
from muniment.core.text import Disclosure
from muniment.core.ticket import Recorded
from muniment.core.visibility import SEES_ALL
from muniment.ports import Actor, Append, Stream
from muniment.service.attending import MOST_REMINDED
from muniment.service.desk import ATTEMPTS, Caller, Desk, operators_only
from muniment.service.noticing import campaign_notices
from muniment.service.selecting import Chooser, Selected, rule, select, somebody
from muniment.store.campaigns import SqlCampaigns

#: what somebody does to a campaign, as events
Make: TypeAlias = Callable[[Campaign], tuple[Event, ...]]
DEFAULT_RULES = ("owner", "manager", "target-owner")


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to open."""

    name: str
    reason: str
    selection: Selection = Selection()
    rules: tuple[str, ...] = DEFAULT_RULES
    length: timedelta = timedelta(days=14)
    unanswered: str = "escalate"
    escalate_to: str = "role:operator"
    valid_for: timedelta = timedelta(days=180)
    sample: int = 5  # percent
    alone: str | None = "critical"  # items of this risk and worse are kept one by one


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which items of a campaign. Every field narrows; an empty one does not."""

    items: str | None = None  # ranges
    subject: str | None = None
    target: str | None = None
    account: str | None = None
    privilege: str | None = None
    standing: str | None = None
    identity: str | None = None  # whose it is
    reviewer: str | None = None  # as it is asked: an identity, "group:NAME"
    decision: str | None = None  # "keep", "revoke", "change"; "none": nobody decided
    unsettled: bool = False  # not kept, and not seen to be gone

    def narrowed(self, campaign: Campaign, items: Sequence[CampaignItem]) -> list[int]:
        """Their places. Raises `Invalid` for ranges that name none."""
        wanted = range(len(items)) if self.items is None else numbers(self.items, len(items))
        asked = c.reviewers(campaign, items) if self.reviewer is not None else []
        waiting = set(campaign.unsettled()) if self.unsettled else set()

        def is_wanted(place: int) -> bool:
            item = items[place]
            return (
                self.subject in {None, item.subject}
                and self.target in {None, item.target}
                and self.account in {None, item.account}
                and self.privilege in {None, item.privilege}
                and self.standing in {None, item.standing}
                and (self.identity is None or self.identity in item.holders)
                and (self.reviewer is None or asked[place] == self.reviewer)
                and (self.decision is None or self.decision == (campaign.decision(place) or "none"))
                and (not self.unsettled or place in waiting)
            )

        return [place for place in wanted if is_wanted(place)]


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a decision on many."""

    campaign: Campaign
    decided: int
    left: tuple[int, ...] = ()  # of those that were meant: to be kept one by one, if at all


# ── opening ──


def preview(desk: Desk, caller: Caller, asked: Opening) -> Selected:
    """What it would be about. Nothing is recorded."""
    operators_only(caller)
    return _prepared(desk, asked)[1]


def open_(desk: Desk, caller: Caller, asked: Opening) -> Campaign:
    """Open a campaign.

    Raises:
        Refused: the caller is no operator, there is one with this name, or nobody can be asked about something.
        Invalid: it selects nothing, or too much, or is open for too long.
    """
    operators_only(caller)
    _named(asked.name)
    stream, known = desk.campaigns.read(asked.name)
    if known is not None:
        raise Refused(
            f"there is a campaign {asked.name} already",
            remedy="Give it another name.",
            code="refused.exists",
        )
    event, selected, text = _prepared(desk, asked)
    events = c.opening(event, desk.clock.now())
    SqlCampaigns(desk.store.engine).keep(event.digest, selected.lines)
    return record(desk, caller.actor, stream, None, events, text)


def _named(name: str) -> None:
    if not re.fullmatch(c.NAME, name):
        raise Invalid(
            f"{name!r:.80} is no name for a campaign",
            remedy="Use up to 63 of a-z 0-9 . _ - and begin with a letter or digit, like 2026-q4-postgres.",
            code="invalid.campaign-name",
        )


def _prepared(desk: Desk, asked: Opening) -> tuple[CampaignOpened, Selected, Disclosure]:
    _named(asked.name)
    if asked.unanswered not in {"revoke", "escalate"}:
        raise Invalid(
            f"{asked.unanswered!r:.40} is nothing that becomes of items without an answer",
            remedy="Say revoke or escalate.",
        )
    if not 0 <= asked.sample <= 100:
        raise Invalid("a sample is 0 to 100 percent", remedy="Give another number with --sample.")
    if asked.alone is not None and asked.alone not in RISKS:
        raise Invalid(f"there is no risk {asked.alone!r:.40}", remedy=f"Known are {', '.join(RISKS)}.")
    text = desk.commit_text(asked.reason, "the reason")
    rules, last = tuple(map(rule, asked.rules)), somebody(asked.escalate_to)
    alone: Risk | None = asked.alone
    selected = select(desk, asked.selection, rules, last, sample=asked.sample, alone=alone)
    event = CampaignOpened(
        campaign=asked.name, selection=asked.selection, rules=rules, due_at=wire(desk.clock.now() + asked.length),
        unanswered=asked.unanswered,  # type: ignore[arg-type]  # checked above
        escalate_to=last, valid_for=int(asked.valid_for.total_seconds()), items=len(selected.lines),
        singly=selected.singly, digest=digest(selected.lines), sources=selected.sources,
        left_out=selected.left_out, reason=text.commitment,
    )  # fmt: skip
    return event, selected, text


# ── what happens in it ──


def decide(
    desk: Desk, caller: Caller, name: str, where: Where, *, decision: Decision, reason: str
) -> Decided:
    """Decide on items, all alike and for one reason.

    Items that are named by their numbers are decided all, or none. Of those that are found by what they are, only what the
    caller may decide is; what is to be kept one by one, and what nothing explains, is left.
    """
    text = desk.commit_text(reason, "the reason")
    above = desk.superiors(caller.identity)
    left: tuple[int, ...] = ()
    places: list[int] = []

    def make(campaign: Campaign) -> tuple[Event, ...]:
        nonlocal left, places
        items = desk.campaigns.items(campaign)
        places, left = where.narrowed(campaign, items), ()
        if where.items is None:
            places = _theirs(campaign, items, places, caller, above)
            if decision == "keep":
                places, left = _together(campaign, items, places)
        if where.items is None and not places:
            return ()
        return c.decide(
            campaign, caller.identity, places, decision, text.commitment, items=items, above=above
        )  # fmt: skip

    after = act(desk, caller, name, make, text)
    return Decided(campaign=after, decided=len(places), left=left)


def _theirs(
    campaign: Campaign,
    items: Sequence[CampaignItem],
    places: Sequence[int],
    caller: Caller,
    above: Sequence[str],
) -> list[int]:
    """Of these, what somebody may decide."""
    who = caller.identity
    names, asked = {who.id, *who.aliases}, c.reviewers(campaign, items)
    return [n for n in places if c.asked(asked[n], who) and not c.own(items[n], names, above)]


def _together(
    campaign: Campaign, items: Sequence[CampaignItem], places: Sequence[int]
) -> tuple[list[int], tuple[int, ...]]:
    """What can be kept at once, and what is left."""

    def apart(place: int) -> bool:
        alone = place < campaign.opened.singly and len(places) > 1
        return alone or items[place].standing == "unexplained"

    return [n for n in places if not apart(n)], tuple(n for n in places if apart(n))


def reassign(desk: Desk, caller: Caller, name: str, where: Where, *, to: str, reason: str) -> Decided:
    """Have others asked. Operators do; and a reviewer hands on what is theirs to decide."""
    text, whom = desk.commit_text(reason, "the reason"), somebody(to)
    chooser, places = Chooser(desk, (), whom), list[int]()

    def make(campaign: Campaign) -> tuple[Event, ...]:
        nonlocal places
        items = desk.campaigns.items(campaign)
        places = where.narrowed(campaign, items)
        if "operator" not in caller.identity.roles:
            asked = c.reviewers(campaign, items)
            if where.items is None:
                places = [n for n in places if c.asked(asked[n], caller.identity)]
            elif other := [n for n in places if not c.asked(asked[n], caller.identity)]:
                raise Refused(
                    f"item {other[0]} of {name} is not {caller.identity.id}'s to hand on",
                    remedy="An operator can.",
                    code="refused.not-asked",
                )
        if unable := [n for n in places if not chooser.can(whom, items[n].holders)]:
            raise Refused(
                f"{whom} cannot decide on item {unable[0]} of {name}: nobody meant by that is a person without a stake in it",
                remedy="Name somebody who neither holds it nor reports to whoever does.",
                code="refused.no-reviewer",
            )
        return c.reassign(campaign, places, whom, text.commitment)

    return Decided(campaign=act(desk, caller, name, make, text), decided=len(places))


def explain(desk: Desk, caller: Caller, name: str, items: str, reason: str) -> Campaign:
    """Say what became of items that were not kept and that nobody can see to be gone."""
    operators_only(caller)
    text = desk.commit_text(reason, "the reason")
    names, above = {caller.identity.id, *caller.identity.aliases}, desk.superiors(caller.identity)

    def make(campaign: Campaign) -> tuple[Event, ...]:
        known, places = desk.campaigns.items(campaign), numbers(items, campaign.opened.items)
        if mine := [n for n in places if c.own(known[n], names, above)]:
            raise Refused(
                f"item {mine[0]} of {name} is {caller.identity.id}'s own, or that of somebody whom they report to",
                remedy="Ask another operator.",
                code="refused.self-review",
            )
        return c.settle(campaign, places, "explained", reason=text.commitment)

    return act(desk, caller, name, make, text)


def sign_off(desk: Desk, caller: Caller, name: str, comment: str) -> Campaign:
    """Stand for the result, as an operator or auditor who had no part in it. What is revoked is taken away from then on."""
    if not SEES_ALL & set(caller.identity.roles):
        visible(desk, caller, name)
        raise Refused(
            f"{caller.identity.id} is neither operator nor auditor, and cannot sign {name:.80} off",
            remedy="An operator or an auditor can, who neither opened it nor decided in it.",
            code="refused.not-responsible",
        )
    text = desk.commit_text(comment, "the comment")

    def make(campaign: Campaign) -> tuple[Event, ...]:
        parts = {campaign.opened_by, *(each.by for each in campaign.acts)}
        known = {part: found for part in parts if (found := desk.directory.get(part))}
        same = {part: {found.id, *found.aliases} for part, found in known.items()}
        return c.sign_off(campaign, caller.identity, text.commitment, same=same)

    return act(desk, caller, name, make, text)


def cancel(desk: Desk, caller: Caller, name: str, reason: str) -> Campaign:
    """Give it up."""
    operators_only(caller)
    text = desk.commit_text(reason, "the reason")
    return act(desk, caller, name, lambda campaign: c.cancel(campaign, text.commitment), text)


# ── the way in, and out ──


def visible(desk: Desk, caller: Caller, name: str) -> tuple[Stream, Campaign]:
    """A campaign that the caller may see: operators and auditors, and whoever is asked in it."""
    stream, campaign = desk.campaigns.read(name) if re.fullmatch(c.NAME, name) else (None, None)
    if stream is None or campaign is None or not may_see(desk, caller, campaign):
        raise NotFound(
            f"there is no campaign {name!r:.80} that you may see",
            remedy="`muniment campaign list` lists them.",
        )
    return stream, campaign


def may_see(desk: Desk, caller: Caller, campaign: Campaign) -> bool:
    """Whether somebody sees a campaign at all; of its items, reviewers see those that they are asked about."""
    if SEES_ALL & set(caller.identity.roles):
        return True
    asked = set(c.reviewers(campaign, desk.campaigns.items(campaign)))
    took_part = any(each.by == caller.identity.id for each in campaign.acts)
    return took_part or any(c.asked(each, caller.identity) for each in asked)


def act(
    desk: Desk,
    caller: Caller,
    name: str,
    make: Make,
    *texts: Disclosure,
) -> Campaign:
    """Decide by the campaign's entries and append; decide again when another writer was first."""
    for _ in range(ATTEMPTS):
        stream, campaign = visible(desk, caller, name)
        events = make(campaign)
        if not events:
            return campaign
        try:
            return record(desk, caller.actor, stream, campaign, events, *texts)
        except Conflict:
            continue
    raise Conflict(f"{name} is changed all the time", remedy="Try again.")


def record(
    desk: Desk,
    actor: Actor,
    stream: Stream,
    campaign: Campaign | None,
    events: tuple[Event, ...],
    *texts: Disclosure,
) -> Campaign:
    """Append events of a campaign with the state that they make."""
    now, after = desk.clock.now(), campaign
    for offset, event in enumerate(events):
        recorded = Recorded(
            seq=stream.version + offset, at=wire(now), actor=actor.id, via=actor.via, event=event
        )
        after = c.evolve(after, recorded)
    if after is None:
        raise AssertionError("unreachable: the first event opens it")
    desk.store.append(Append(stream=stream, actor=actor, events=events, at=now, campaign=after, texts=texts))
    if desk.notifiers:
        for notice in campaign_notices(campaign, after, events, lambda: waits_for(desk, after), wire(now)):
            for notifier in desk.notifiers:
                notifier.send(notice)
    return after


def waits_for(desk: Desk, campaign: Campaign) -> tuple[str, ...]:
    """Who is asked about what nobody has decided; once everything is, whoever may sign it off."""
    if campaign.status != "open":
        return ("role:operator",) if campaign.status == "decided" else ()
    asked = c.reviewers(campaign, desk.campaigns.items(campaign))
    return tuple(sorted({asked[place] for place in campaign.undecided()})[:MOST_REMINDED])
