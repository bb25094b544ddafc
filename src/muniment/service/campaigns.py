"""Campaigns as they stand, by their entries; and what those that were signed off say of the baseline.

A line of the baseline that a campaign revoked counts for nothing from then on, though it may still be in the file: whoever
wants it back writes another line, and two people adopt that. One that a campaign kept need not be looked at again for as
long as the campaign says.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

import msgspec

from muniment.core.campaign import Campaign, replay
from muniment.core.campaign_items import CampaignItem, read
from muniment.core.errors import IntegrityError
from muniment.core.instants import parse_instant
from muniment.core.inventory import digest
from muniment.ports import Stream
from muniment.store.campaigns import SqlCampaigns
from muniment.store.events import SqlStore
from muniment.store.projecting import CAMPAIGN

#: campaigns whose state and items are held in memory
HELD = 8


class Rulings(msgspec.Struct, frozen=True, kw_only=True):
    """What campaigns said of lines of the baseline, by the lines' digests."""

    revoked: Mapping[str, datetime]  # since when: the sign-off
    kept: Mapping[str, datetime]  # until when


class Campaigns:
    """Reads campaigns. Safe for use by several threads; what memory holds is checked, and read on from where it stands."""

    def __init__(self, store: SqlStore) -> None:
        """Share the store."""
        self._store, self._rows = store, SqlCampaigns(store.engine)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Stream, Campaign]] = OrderedDict()
        self._items: OrderedDict[str, tuple[CampaignItem, ...]] = OrderedDict()
        self._ruled: dict[str, tuple[int, Rulings]] = {}  # by name, at which version

    def read(self, name: str) -> tuple[Stream, Campaign | None]:
        """A campaign from its entries, and where its stream stands."""
        with self._lock:
            known = self._known.get(name)
        state, before = known or (Stream(id=CAMPAIGN + name, version=0, head=None), None)
        state, recorded = self._store.further(state)
        after = replay(recorded, before)
        if after is not None:
            with self._lock:
                self._known[name] = (state, after)
                self._known.move_to_end(name)
                while len(self._known) > HELD:
                    self._known.popitem(last=False)
        return state, after

    def items(self, campaign: Campaign) -> tuple[CampaignItem, ...]:
        """Its items in their order. Raises `IntegrityError` if they are not those of which the ledger has the digest."""
        name = campaign.opened.digest
        with self._lock:
            known = self._items.get(name)
        if known is not None:
            return known
        lines = list(self._rows.lines(name))
        if digest(lines) != name or len(lines) != campaign.opened.items:
            raise _altered(campaign)
        try:
            items = tuple(read(line) for line in lines)
        except msgspec.MsgspecError as error:
            raise _altered(campaign) from error
        with self._lock:
            self._items[name] = items
            while len(self._items) > HELD:
                self._items.popitem(last=False)
        return items

    def rulings(self) -> Rulings:
        """What those that were signed off say, together. A row of a list rules nothing (I11): entries do."""
        revoked: dict[str, datetime] = {}
        kept: dict[str, datetime] = {}
        for stream, version in sorted(self._store.family(CAMPAIGN).items()):
            name = stream.removeprefix(CAMPAIGN)
            at, ruled = self._ruled.get(name, (0, _NOTHING))
            if at != version:
                ruled = self._rule(name)
                self._ruled[name] = (version, ruled)
            for line, since in ruled.revoked.items():
                revoked[line] = min(since, revoked.get(line, since))
            for line, until in ruled.kept.items():
                kept[line] = max(until, kept.get(line, until))
        return Rulings(revoked=revoked, kept=kept)

    def _rule(self, name: str) -> Rulings:
        _, campaign = self.read(name)
        if campaign is None or campaign.status not in {"removing", "closed"} or campaign.signed_at is None:
            return _NOTHING
        said = [
            (item.line, campaign.decision(place))
            for place, item in enumerate(self.items(campaign))
            if item.line is not None
        ]
        closed = campaign.closed
        until = parse_instant(closed.valid_until) if closed else None
        since = parse_instant(campaign.signed_at)
        return Rulings(
            revoked={line: since for line, decision in said if decision == "revoke"},
            kept={line: until for line, decision in said if decision == "keep" and until is not None},
        )


def _altered(campaign: Campaign) -> IntegrityError:
    return IntegrityError(
        f"the items kept of {campaign.name} are not those that it was opened over",
        remedy="Keep the database as it is, and restore a backup beside it.",
    )


_NOTHING = Rulings(revoked={}, kept={})
