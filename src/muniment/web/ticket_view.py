"""One ticket as its page shows it: how far it came, what was asked beside what came of it, and what waits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from muniment.core.events import CounterAccepted, RequestSubmitted
from muniment.core.instants import parse_instant, spoken
from muniment.core.scope import Privilege
from muniment.core.terms import Terms
from muniment.core.ticket import Recorded, Ticket
from muniment.web.when import Moment, moment

Far: TypeAlias = Literal["done", "now", "next", "bad"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One station of a ticket's way."""

    name: str
    far: Far


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Where a privilege stands in one column."""

    said: str
    look: Literal["yes", "none", "off", "more", "less", "open"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One privilege, or the time, in the four columns."""

    name: str
    cells: tuple[Cell, Cell, Cell, Cell]  # requested, approved, granted, used
    differs: bool


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as somebody saw it."""

    what: str
    was: str
    now: str


def steps(t: Ticket) -> list[Step]:
    """Asked, decided, in use, gone, closed: how far a ticket came, and where it stopped."""
    reached = {
        "pending": 1, "approved": 2, "provisioning": 2, "active": 2, "revoking": 3, "revoked": 4, "closed": 5,
        "denied": 1, "withdrawn": 1, "lapsed": 1, "failed": 2,
    }[t.status]  # fmt: skip
    if t.status in {"withdrawn", "lapsed"} and t.approved:
        reached = 2
    stopped = t.status in {"denied", "withdrawn", "lapsed", "failed"}
    names = ("Asked", "Decided", "In use", "Gone", "Closed")
    return [
        Step(
            name=name,
            far="done" if place < reached else ("next" if place > reached else ("bad" if stopped else "now")),
        )
        for place, name in enumerate(names)
    ]


def first_terms(recorded: Iterable[Recorded]) -> Terms | None:
    """What was asked in the beginning, before anybody offered anything else."""
    return next((r.event.terms for r in recorded if isinstance(r.event, RequestSubmitted)), None)


def columns(t: Ticket, asked: Terms | None, *, read: bool) -> list[Row]:
    """Requested, approved, granted and used, side by side. ``read``: whether anybody reads how it is used."""
    first = asked or t.terms
    requested, approved = set(first.scope), set(t.approved)
    granted, used = set(t.granted or ()), set(t.use.privileges if t.use else ())
    rows = []
    for what in sorted(requested | approved | granted | used, key=str):
        cells = (
            Cell(said="asked", look="yes") if what in requested else Cell(said="not asked", look="off"),
            _agreed(t, what, requested, approved),
            _given(t, what, approved),
            _used(t, what, approved, read=read),
        )
        rows.append(Row(name=str(what), cells=cells, differs=any(c.look in {"more", "less"} for c in cells)))
    return [*rows, _time(t, first)]


def _agreed(t: Ticket, what: Privilege, requested: set[Privilege], approved: set[Privilege]) -> Cell:
    if what in approved:
        return Cell(said="approved", look="yes")
    if t.status == "pending":
        return (
            Cell(said="waits", look="open") if what in t.terms.scope else Cell(said="left out", look="less")
        )
    if approved and what in requested:
        return Cell(said="left out", look="less")
    return Cell(said="not approved", look="off")


def _given(t: Ticket, what: Privilege, approved: set[Privilege]) -> Cell:
    if t.granted is None:
        soon = t.status in {"pending", "approved", "provisioning"}
        return Cell(said="not yet", look="open") if soon else Cell(said="nothing given", look="off")
    if what in t.granted:
        if what in approved:
            return Cell(said="given", look="yes")
        return Cell(said="more than approved", look="more")
    return Cell(said="missing", look="less") if what in approved else Cell(said="not given", look="off")


def _used(t: Ticket, what: Privilege, approved: set[Privilege], *, read: bool) -> Cell:
    if t.use is None:
        return Cell(said="no use seen" if read else "not read", look="none")
    if what in t.use.privileges:
        return Cell(said="used", look="yes" if what in approved else "more")
    return Cell(said="not used", look="off")


def _time(t: Ticket, first: Terms) -> Row:
    asked = Cell(said=spoken(first.length), look="yes")
    if t.approved:
        agreed = Cell(said=spoken(t.terms.length), look="less" if t.terms.length < first.length else "yes")
    elif t.status == "pending":
        agreed = Cell(said="waits", look="open")
    else:
        agreed = Cell(said="–", look="off")
    return Row(
        name="Time", cells=(asked, agreed, _held_for(t), Cell(said="–", look="none")),
        differs=agreed.look == "less",
    )  # fmt: skip


def _held_for(t: Ticket) -> Cell:
    if t.granted is None or t.start is None:
        return Cell(said="–", look="open" if t.status in {"pending", "approved", "provisioning"} else "off")
    gone = t.revocation.observed_gone_at if t.revocation else None
    if gone is None:
        return Cell(said="running", look="yes")
    length = max(timedelta(), parse_instant(gone) - t.start)
    return Cell(said=spoken(timedelta(seconds=round(length.total_seconds()))), look="yes")


def changes(recorded: Iterable[Recorded], seen: str, now: Ticket) -> list[Change]:
    """What is different from the terms with the digest that somebody saw; empty where those were never asked here."""
    known: Mapping[str, Terms] = {
        r.event.digest: r.event.terms
        for r in recorded
        if isinstance(r.event, RequestSubmitted | CounterAccepted)
    }
    before, after = known.get(seen), now.terms
    if before is None:
        return []
    said = (
        ("Privileges", ", ".join(map(str, before.scope)), ", ".join(map(str, after.scope))),
        ("Time", spoken(before.length), spoken(after.length)),
        ("Begins", before.starts_at or "once approved", after.starts_at or "once approved"),
    )
    return [Change(what=what, was=was, now=is_) for what, was, is_ in said if was != is_]


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """What is counted down on a ticket."""

    says: str  # "ends", "begins", "lapses"
    at: Moment
    left: timedelta
    share: int  # of the whole time that is left, in percent


def countdown(t: Ticket, now: datetime) -> Clock | None:
    """The next thing that happens by itself, and when."""
    says, at, since = None, None, None
    if t.status == "active" and t.expiry:
        says, at, since = "ends", t.expiry, t.start
    elif t.status == "approved" and t.ready and t.ready > now:
        says, at = "begins", t.ready
    elif t.status == "pending":
        says, at = "lapses", t.lapses_at
    if says is None or at is None:
        return None
    left = max(timedelta(), at - now)
    whole = at - since if since else None
    share = round(100 * left / whole) if whole else 100
    shown = moment(at, now)
    return None if shown is None else Clock(says=says, at=shown, left=left, share=max(0, min(100, share)))
