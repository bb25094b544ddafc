"""Taking turns on PostgreSQL: who changes something waits for those who are at the same (I19).

Fencing. A worker paused before ``confirm`` finds out there. One paused after it sits idle in a transaction, and the
server ends that after ``pause``: the locks go, and nothing that the worker sends later is ever executed. Whoever
holds the work next waits for the locks, so its changes come after. Advisory locks are per database: all workers
must name the same one.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial

from muniment.connectors import postgresql_queries as q
from muniment.connectors.answering import last_look
from muniment.connectors.postgresql_session import Busy, Query, Row, Session, Sessions

#: namespace of our advisory locks ("MUNI") and how many names share one. Neither may ever change: workers of two
#: versions must lock the same. A lock a name would exhaust the server's lock table with a large batch
_LOCKS, _SHARDS = 0x4D554E49, 64
_PATIENCE = timedelta(seconds=2)  # for a lock, before asking who else than us holds it


@contextmanager
def turn(
    sessions: Sessions,
    names: Collection[str],
    queries: Sequence[Query],
    *,
    timeout: timedelta,
    pause: timedelta,
) -> Iterator[tuple[Session, list[list[Row]]]]:
    """A transaction in which these names are locked to us, and the answers to ``queries`` within it.

    Anybody who may connect to the database may take advisory locks, even ours, and so hold up the end of his own
    access. Whoever does loses his session.
    """
    until = time.monotonic() + timeout.total_seconds()
    shards = sorted({zlib.crc32(name.encode(errors="replace")) % _SHARDS for name in names})

    def opening(patience: timedelta, session: Session) -> list[list[Row]]:
        start = (q.BEGIN, q.limits(pause, patience), q.lock(_LOCKS, shards))
        return session.ask(*start, *queries)[len(start) :]

    with ExitStack() as stack:
        try:
            begun = stack.enter_context(sessions.begin(until, partial(opening, _PATIENCE)))
        except Busy:
            with sessions.begin(until, lambda session: session.ask(q.end_squatters(_LOCKS))):
                pass
            # a paused worker of ours is ended by the server meanwhile
            begun = stack.enter_context(sessions.begin(until, partial(opening, timeout)))
        yield begun


def confirmed(session: Session, confirm: Callable[[], None]) -> None:
    """The last moment to find out that the work is another's. The time it takes is not the target's."""
    session.limit(session.until + last_look(confirm))
