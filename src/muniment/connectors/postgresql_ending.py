"""Ending sessions: what a REVOKE does not do.

A session that ran SET ROLE keeps the role's rights after the REVOKE, and an open cursor goes on reading.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

import msgspec

from muniment.connectors import postgresql_queries as q
from muniment.connectors.postgresql_session import Row, Session

_FIRST_PAUSE = 0.003  # seconds between the first look and the second
_PAUSE = 0.05  # and at most between later ones
_GRACE = 3.0  # seconds for a session to end; a busy one ends when its statement can be interrupted
_MARGIN = 0.5  # seconds of the call kept back, so that the answer is what we saw and not that time ran out


class Ended(msgspec.Struct, frozen=True):
    """How it went for one account."""

    gone: int = 0
    alive: int = 0
    forbidden: bool = False  # some of those alive are not ours to end


def end_sessions(session: Session, accounts: Sequence[str], since: datetime) -> dict[str, Ended]:
    """End the accounts' sessions that began before ``since``, and wait until they are gone, for a while.

    It looks twice at least: a login takes up its SET ROLE settings just before it shows in pg_stat_activity.
    """
    seen: dict[str, set[int]] = {}
    alive: list[Row] = []
    until, pause, looks = min(time.monotonic() + _GRACE, session.until - _MARGIN), _FIRST_PAUSE, 0
    while accounts:
        pids = None if looks == 0 else sorted(set().union(*seen.values()))
        (alive,) = session.ask(q.end_sessions(session.version, accounts, since, pids))
        for account, pid, *_ in alive:
            seen.setdefault(account, set()).add(pid)
        waiting = looks == 0 or any(allowed for _, _, allowed, _ in alive)
        looks += 1
        if not waiting or time.monotonic() + pause > until:
            break
        time.sleep(pause)
        pause = min(pause * 2, _PAUSE)
    left = {account: [allowed for name, _, allowed, _ in alive if name == account] for account in seen}
    return {
        account: Ended(len(pids) - len(left[account]), len(left[account]), not all(left[account]))
        for account, pids in seen.items()
    }
