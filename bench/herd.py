"""What happens when 10,000 grants on one target expire in the same second? And what do other targets notice?

10,000 accounts of one real PostgreSQL (fsync on) hold one role each by ticket, and all these tickets end at the same
instant. On a second PostgreSQL, grants end one after the other, in the ten seconds before that instant and in the ten
seconds after it. Everything is recorded as ever (SQLite, synchronous=FULL). Reported:

- ``started_s``  from the instant until the last of the 10,000 is gone from ``pg_auth_members``: each was started by then;
- ``done_s``     until the last ticket is closed, which takes reading back and the record;
- ``other_ms``   the other target's lag, from each ticket's own end to its absence: before the instant, and after it.

It takes about five minutes, most of them for filing and giving. Run: ``.venv/bin/python bench/herd.py [--n 10000]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from expiry import file_all, prepare, spread, summary, watching, with_postgres
from lifecycle import open_bench
from sqlalchemy import func, select

from muniment.controllers.runtime import Controllers
from muniment.demo.postgres import TemporaryPostgres, installed
from muniment.service.desk import Desk
from muniment.store import tables as t
from muniment.store.engine import reading

#: how often the herd is looked at; looking at 10,000 rows costs something
HERD_POLL = 0.25
#: how long the other target's grants take to end, before the herd and beside it
BESIDE_SECONDS = 10


def count_of(desk: Desk, target: str, status: str) -> int:
    query = select(func.count()).where(t.ticket.c.target == target, t.ticket.c.status == status)
    with reading(desk.store.engine) as connection:
        return int(connection.execute(query).scalar_one())


def measure(desk: Desk, servers: dict[str, TemporaryPostgres], options: argparse.Namespace) -> dict[str, Any]:
    """File everything, wait for the instant, and see."""
    controllers = Controllers(desk, node="bench")
    controllers.start()
    end = datetime.now(UTC) + timedelta(seconds=options.lead)
    instant, hold = end.timestamp(), timedelta(seconds=options.hold)
    try:
        file_all(desk, "herd", [end] * options.n, hold)
        filed = time.time()
        begin = end - timedelta(seconds=BESIDE_SECONDS)
        others = file_all(desk, "other", spread(2 * options.others, begin, 2 * BESIDE_SECONDS), hold)
        while count_of(desk, "herd", "active") < options.n and time.time() < instant - BESIDE_SECONDS - 5:
            time.sleep(1)
        given = time.time()
        with (
            watching(servers["herd"].dsn(), HERD_POLL) as herd,
            watching(servers["other"].dsn(), options.poll) as other,
        ):
            time.sleep(max(0.0, instant - time.time()))
            while count_of(desk, "herd", "closed") < options.n and time.time() < instant + options.patience:
                time.sleep(0.25)
            done = time.time()
            time.sleep(max(0.0, instant + BESIDE_SECONDS + 2 - time.time()))
            for watcher in (herd, other):
                watcher.send(None)
            (held, gone), (_, absent) = herd.recv(), other.recv()
    finally:
        controllers.stop()
    lags = {account: absent[account] - at for account, at in others.items() if account in absent}
    closed = count_of(desk, "herd", "closed")
    return {
        "herd": options.n, "held": held, "gone": len(gone), "closed": closed,
        "early": sum(at < instant for at in gone.values()),
        "filed_s": round(filed - instant + options.lead, 1), "given_s_before": round(instant - given, 1),
        "started_s": round(max(gone.values()) - instant, 2) if len(gone) == options.n else None,
        "done_s": round(done - instant, 2) if closed == options.n else None,
        "others": len(lags), "of": len(others),
        "other_ms": {
            "before": summary([lag for account, lag in lags.items() if others[account] < instant]),
            "beside": summary([lag for account, lag in lags.items() if others[account] >= instant]),
        },
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument(
        "--others", type=int, default=100, help="of the other target, before and again beside"
    )
    parser.add_argument(
        "--lead", type=float, default=240, help="seconds from the first filing to the instant"
    )
    parser.add_argument("--hold", type=float, default=120, help="seconds that a grant lasts")
    parser.add_argument("--patience", type=float, default=180, help="seconds to wait after the instant")
    parser.add_argument("--poll", type=float, default=0.010, help="seconds between looks at the other target")
    parser.add_argument("--postgresql", type=int, default=min(installed()), help="major version to run on")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muniment-bench-")))
        binaries = installed()[options.postgresql]
        servers = {
            name: stack.enter_context(TemporaryPostgres(binaries, fsync=True)) for name in ("herd", "other")
        }
        prepare(servers["herd"], options.n)
        prepare(servers["other"], 2 * options.others)
        store = open_bench(f"sqlite:///{folder}/bench.db", folder)
        desk = with_postgres(store, servers, folder, max(options.n, 2 * options.others))
        print(json.dumps(measure(desk, servers, options)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
