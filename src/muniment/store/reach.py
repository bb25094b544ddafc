"""How the processes with controllers see targets: which answer, and how fast access is taken away there.

For people to look at, in whichever process they ask. Nothing is decided by it, so a row that foreign SQL wrote harms
nobody but who believes it (I11).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

import msgspec
from sqlalchemy import Engine, delete, select

from muniment.core.instants import wire
from muniment.limits import State
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing

#: a process writes at least so often, however little changes
FRESH = timedelta(minutes=1)
#: a process that has not for so long is gone
GONE = timedelta(seconds=150)
#: what a process that is gone has measured is used for so long
KEPT = timedelta(days=1)


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target, as one process sees it."""

    state: State = State()
    per_second: float | None = (
        None  # tickets that it takes access away for, while there are more; None: not measured
    )


class SqlReach:
    """The table of them."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def write(self, node: str, seen: Mapping[str, Seen], now: datetime) -> None:
        """Replace what a process said of these targets, and forget processes that are long gone."""
        c = t.reach.c
        rows = [
            {"node": node, "target": target, "at": wire(now), "state": msgspec.json.encode(each)}
            for target, each in sorted(seen.items())
        ]
        with writing(self._engine) as connection:
            connection.execute(delete(t.reach).where(c.node == node, c.target.in_(sorted(seen))))
            connection.execute(delete(t.reach).where(c.at < wire(now - KEPT)))
            if rows:
                connection.execute(t.reach.insert(), rows)

    def read(self, now: datetime) -> dict[str, Seen]:
        """Each target as it is seen now: held if any process holds it, and as fast as they are together."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(t.reach).order_by(t.reach.c.target, t.reach.c.at)).all()
        found: dict[str, Seen] = {}
        since = wire(now - GONE)
        for target, group in groupby(rows, key=attrgetter("target")):
            mine = [(row.at >= since, _decode(blob(row.state))) for row in group]
            alive = [seen for fresh, seen in mine if fresh]
            paces = [seen.per_second for seen in alive if seen.per_second is not None]
            last = next((seen.per_second for _, seen in reversed(mine) if seen.per_second is not None), None)
            found[target] = Seen(
                state=min(
                    (seen.state for seen in alive),
                    key=lambda state: _WORST.index(state.reach),
                    default=State(),
                ),
                per_second=sum(paces) if paces else last,
            )
        return found


#: what is told of several processes
_WORST = ("held", "answers", "unknown")


def _decode(state: bytes) -> Seen:
    try:
        return msgspec.json.decode(state, type=Seen)
    except msgspec.MsgspecError:  # not ours, or a later version's
        return Seen()
