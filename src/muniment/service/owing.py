"""What is owed on each target: whether it answers, what is overdue there, and how long that will take.

The forecast is arithmetic: what is overdue, by the pace at which access was last taken away there while there was more
to do. There is none while the target does not answer, nor before anything was measured.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from muniment.core.instants import wire
from muniment.core.visibility import SEES_ALL
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document, target_document
from muniment.store.reach import Seen, SqlReach

#: how far a forecast looks
AHEAD = timedelta(hours=1)


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """One target."""

    seen: Seen  # by the processes with controllers
    overdue: int  # tickets whose access is over and not seen gone
    oldest: float  # seconds that the oldest of them is over
    ahead: int  # grants that end within `AHEAD`

    @property
    def held(self) -> bool:
        """Whether the target does not answer."""
        return self.seen.state.reach == "held"

    @property
    def seconds(self) -> float | None:
        """Until what is overdue is worked off; None: that cannot be said."""
        if not self.overdue:
            return 0.0
        return None if self.held or not self.seen.per_second else self.overdue / self.seen.per_second


def owed(desk: Desk) -> dict[str, Owed]:
    """Of every target, in three questions however many there are."""
    now = desk.clock.now()
    seen, debts = SqlReach(desk.store.engine).read(now), desk.views.debts(now)
    ahead = desk.views.due_between(now, now + AHEAD)
    found = {}
    for target in sorted(desk.targets):
        overdue, oldest = debts.get(target, (0, 0.0))
        found[target] = Owed(
            seen=seen.get(target, Seen()), overdue=overdue, oldest=oldest, ahead=ahead.get(target, 0)
        )
    return found


def target_documents(desk: Desk, caller: Caller | None) -> list[Document]:
    """All targets. What they say, and how many tickets there are, is for those who see every ticket (I33)."""
    everything = caller is not None and bool(SEES_ALL & set(caller.identity.roles))
    return [
        target_document(desk.targets[name])
        | {"state": _state(each, everything=everything), "debt": _debt(each) if everything else None}
        for name, each in owed(desk).items()
    ]


def _state(each: Owed, *, everything: bool) -> Document:
    state = each.seen.state
    return {
        "reach": state.reach,
        "since": wire(state.since) if state.since else None,
        "again_at": wire(state.again_at) if state.again_at else None,
        "why": state.why if everything and state.why else None,
    }


def _debt(each: Owed) -> Document:
    return {
        "overdue": each.overdue,
        "oldest_seconds": round(each.oldest),
        "ends_within_hour": each.ahead,
        "per_second": each.seen.per_second,
        "worked_off_in_seconds": None if each.seconds is None else round(each.seconds),
    }
