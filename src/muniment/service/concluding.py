"""What follows from a campaign by itself: reminders, what becomes of items without an answer, removal, and its end.

Level-triggered: each pass looks where the campaign is and does what is due, so a crash anywhere leaves something that is
due again. Removal, once somebody signed the whole off:

1. each target is reconciled: a line of the baseline that was revoked counts for nothing by then, so what it explained is a
   finding like any other
2. findings of what was revoked are ordered to be taken away, and that is carried out (`removing`)
3. the target is reconciled again: what a complete inventory no longer shows is settled, and what something else explains
4. once nothing is left, the campaign closes

What Muniment cannot take away itself (a group of the directory, an identity, a privilege inside another one) is watched
until it is gone, or somebody says what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from muniment.core import campaign as c
from muniment.core import drift as d
from muniment.core.campaign import Campaign, Outcome
from muniment.core.campaign_items import CampaignItem
from muniment.core.drift import Drift
from muniment.core.errors import Conflict, Misconfigured, MunimentError, Refused
from muniment.core.events import Event
from muniment.core.reconciling import key_of
from muniment.ports import Claim, Target
from muniment.reconcile.baseline import parse
from muniment.service import certifying, reconciling, removing
from muniment.service.desk import CONTROLLER, Desk
from muniment.service.selecting import owners_of

#: findings ordered and carried out at once: as long as a lease lasts, at most
CHUNK = 200
LEASE_SECONDS = 3600


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass came to."""

    campaign: Campaign
    trouble: Mapping[str, MunimentError] = {}  # by target, or by finding


def advance(desk: Desk, name: str, holder: str) -> Pass | None:
    """Do what is due on a campaign now; None if somebody else is at it, or there is none."""
    key = f"campaign {name}"
    lease = desk.store.claim([Claim(key=key, holder=holder, seconds=LEASE_SECONDS)]).get(key)
    if lease is None:
        return None
    try:
        _, campaign = desk.campaigns.read(name)
        if campaign is None:
            return None
        trouble = _remove(desk, campaign) if campaign.status == "removing" else {}
        return Pass(campaign=_moved_on(desk, name), trouble=trouble)
    finally:
        desk.store.release([lease])


def _moved_on(desk: Desk, name: str) -> Campaign:
    """What needs no target: items without an answer, reminders, the end."""
    now = desk.clock.now()
    _record(desk, name, lambda campaign: c.unanswered(campaign, now))
    _record(desk, name, lambda campaign: c.remind(campaign, certifying.waits_for(desk, campaign), now))
    return _record(desk, name, lambda campaign: c.close(campaign, now))


def _record(desk: Desk, name: str, make: certifying.Make) -> Campaign:
    """As people's commands are recorded; when somebody else was first, the next pass looks again."""
    stream, campaign = desk.campaigns.read(name)
    if campaign is None:
        raise AssertionError("unreachable: a campaign stays")
    events = make(campaign)
    if not events:
        return campaign
    try:
        return certifying.record(desk, CONTROLLER, stream, campaign, events)
    except Conflict:
        return campaign


# ── taking away ──


def _remove(desk: Desk, campaign: Campaign) -> dict[str, MunimentError]:
    """Take away what was revoked, look, and put on record what is seen; what stood in the way."""
    items = desk.campaigns.items(campaign)
    trouble: dict[str, MunimentError] = {}
    on: dict[str, list[int]] = {}
    for place in campaign.unsettled():
        if items[place].subject == "entitlement":
            on.setdefault(items[place].target or "", []).append(place)
    for target_id, places in sorted(on.items()):
        target = desk.targets.get(target_id)
        if target is None:
            trouble[target_id] = Misconfigured(
                f"the target {target_id} is not in the configuration", remedy="Put it back first."
            )
            continue
        try:
            trouble |= _on_target(desk, campaign, target, places)
        except MunimentError as error:
            trouble[target_id] = error
    _elsewhere(desk, campaign, items)
    return trouble


def _on_target(
    desk: Desk, campaign: Campaign, target: Target, places: Sequence[int]
) -> dict[str, MunimentError]:
    """In rounds, as long as each ends with less than it began: a run raises so many findings, and no more."""
    items, trouble = desk.campaigns.items(campaign), dict[str, MunimentError]()
    left, last = list(places), -1
    while left:
        reconciling.reconcile(desk, CONTROLLER, target)
        left = _look(desk, campaign, target, left)
        revoked = [items[place] for place in left if campaign.decision(place) == "revoke"]
        ordered = _order(desk, campaign, target, revoked)
        if not ordered or len(left) == last:
            return trouble
        last, trouble = len(left), {}
        for start in range(0, len(ordered), CHUNK):
            trouble |= removing.carry_out(desk, target, ordered[start : start + CHUNK])
    return trouble


def _order(desk: Desk, campaign: Campaign, target: Target, revoked: Sequence[CampaignItem]) -> list[Drift]:
    """Have findings of these taken away, those for which it is not ordered yet; all that are ordered."""
    separate, reason = target.connector.capabilities.separate, campaign.comment or ""
    names = [d.name_of(target.id, d.UNEXPLAINED, item.held) for item in revoked]
    ordered: list[Drift] = []

    def make(_: str, drift: Drift | None) -> tuple[Event, ...]:
        if drift is None or drift.status == "resolved":
            return ()
        try:
            events = d.order_removal(drift, reason, separate=separate)
        except Refused:  # it is not ours to take away: it is watched
            return ()
        ordered.append(drift)
        return events

    reconciling.append_findings(desk, CONTROLLER, desk.clock.now(), {name: name for name in names}, make)
    return ordered


# ── looking ──


def _look(desk: Desk, campaign: Campaign, target: Target, places: Sequence[int]) -> list[int]:
    """Settle what the target was last seen without, and what something else explains there; what is left."""
    standing = reconciling.standing(desk, target)
    if standing is None:
        return list(places)
    items = desk.campaigns.items(campaign)
    separate = target.connector.capabilities.separate
    held = {key_of(item, separate=separate): by for item, by in standing.items}
    lines = {each.reference: each.digest for each in standing.declared}
    found: dict[Outcome, list[int]] = {"gone": [], "covered": []}
    left = []
    for place in places:
        key = key_of(items[place].held, separate=separate)
        by = held.get(key)
        if key not in held:
            found["gone"].append(place)
        elif by is not None and (by.klass == "ticketed" or lines.get(by.reference) != items[place].line):
            found["covered"].append(place)
        else:
            left.append(place)
    for outcome, settled in found.items():
        _settle(desk, campaign.name, settled, outcome, standing.inventory.id)
    return left


def _elsewhere(desk: Desk, campaign: Campaign, items: Sequence[CampaignItem]) -> None:
    """What no target shows: identities and groups of the directory, and lines of the baseline that nobody holds."""
    lines = {each.digest for each in parse(desk.baseline())} - desk.campaigns.rulings().revoked.keys()
    found: dict[Outcome, list[int]] = {"gone": [], "covered": []}
    for place in campaign.unsettled():
        item = items[place]
        if item.subject == "declaration" and item.line not in lines:
            found["gone"].append(place)
        elif item.subject in {"identity", "membership"}:
            who = desk.directory.get(item.identity or "")
            if who is None or not who.active or (item.group is not None and item.group not in who.groups):
                found["gone"].append(place)
            # others answer for it than when the campaign was opened, as was to be changed
            elif (
                item.subject == "identity"
                and campaign.decision(place) == "change"
                and owners_of(desk, who) != item.owners
            ):
                found["covered"].append(place)
    for outcome, settled in found.items():
        _settle(desk, campaign.name, settled, outcome, None)


def _settle(desk: Desk, name: str, places: Iterable[int], outcome: Outcome, inventory: str | None) -> None:
    wanted = list(places)
    if wanted:

        def make(campaign: Campaign) -> tuple[Event, ...]:
            if campaign.status != "removing":
                return ()
            return c.settle(campaign, wanted, outcome, inventory=inventory)

        _record(desk, name, make)
