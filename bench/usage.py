"""Lines of use paired with the tickets that gave it, beside DuckDB's bare range join of the same, in the same run.

    python bench/usage.py [--lines 10000000] [--grants 1000000] [--rounds 3]

Two Parquet files. Each account has about twenty grants, one after the other, a tenth of which overlap the one before; the
lines fall into them, beside them, or to accounts that never had any. One line in a hundred names its ticket. Both programs
read the files as Arrow batches. The bare one finds only for how many lines there is some grant in time; ours says of each
line which of three verdicts it has, and whose ticket it is. Each round starts a process for each; peak memory is the
process's own (VmHWM).

What this leaves out: reading lines, which is Python and linear, and writing verdicts down.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_BARE = """
    SELECT count(*) FROM uses u SEMI JOIN grants g ON u.key = g.key AND u.moment >= g.begins AND u.moment < g.ends"""


def make(folder: Path, lines: int, grants: int) -> None:
    """The two files. Keys are as long as an account with a privilege is."""
    import duckdb  # noqa: PLC0415  children that measure start without it

    accounts = max(1, grants // 20)
    key = "'account-' || lpad(({0})::VARCHAR, 9, '0') || chr(1) || 'privilege_' || (({0}) % 50)::VARCHAR"
    with duckdb.connect() as database:
        database.execute("SET preserve_insertion_order = false")
        # every 10,000,000 units a grant begins; it lasts 4,000,000, every tenth 12,000,000
        database.execute(f"""
            COPY (SELECT 'req_' || lpad(n::VARCHAR, 26, '0') AS ticket, {key.format(f"n % {accounts}")} AS key,
                         (n // {accounts}) * 10000000 AS begins,
                         (n // {accounts}) * 10000000 + CASE WHEN n % 10 = 0 THEN 12000000 ELSE 4000000 END AS ends
                  FROM range({grants}) t(n) ORDER BY hash(n + 1)) TO '{folder}/grants.parquet' (COMPRESSION zstd)""")
        # one account in twenty never had any
        database.execute(f"""
            COPY (SELECT n AS row, {key.format(f"hash(n) % {accounts + accounts // 20}")} AS key,
                         (hash(n + 7) % 200000000)::BIGINT AS moment,
                         CASE WHEN n % 100 = 0 THEN 'req_' || lpad((hash(n + 3) % {grants})::VARCHAR, 26, '0') END AS ticket
                  FROM range({lines}) t(n)) TO '{folder}/uses.parquet' (COMPRESSION zstd)""")


def child(folder: Path, what: str) -> None:
    """One measurement."""
    import pyarrow.dataset as arrow  # noqa: PLC0415  as above

    from muniment.joins import database  # noqa: PLC0415
    from muniment.usage.joining import tally  # noqa: PLC0415

    uses, grants = (arrow.dataset(folder / f"{name}.parquet") for name in ("uses", "grants"))
    began = time.perf_counter()
    if what == "ours":
        result = tally(uses, grants)
    else:
        with database() as opened:
            opened.register("uses", uses)
            opened.register("grants", grants)
            result = {"in-window": opened.execute(_BARE).fetchall()[0][0]}
    seconds = time.perf_counter() - began
    # not ru_maxrss, which a process takes over from whoever started it
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024
    print(json.dumps({"seconds": seconds, "mib": peak, "found": result}))


def main() -> None:
    """Measure, and say it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--grants", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        child(Path(given.child[0]), given.child[1])
        return
    with tempfile.TemporaryDirectory(prefix="muniment-bench-") as name:
        make(Path(name), given.lines, given.grants)
        found: dict[str, list[dict]] = {"bare": [], "ours": []}
        for _ in range(given.rounds):
            for what, results in found.items():
                answer = subprocess.run(
                    [sys.executable, __file__, "--child", name, what], check=True, capture_output=True, text=True
                )  # fmt: skip
                results.append(json.loads(answer.stdout))
    print(f"{given.lines:,} lines, {given.grants:,} grants: {found['ours'][0]['found']}")
    assert sum(found["ours"][0]["found"].values()) == given.lines
    for what, results in found.items():
        seconds = ", ".join(f"{each['seconds']:.1f}" for each in results)
        print(f"  {what}: {seconds} s; peak {max(each['mib'] for each in results):,.0f} MiB")
    ratios = [o["seconds"] / b["seconds"] for b, o in zip(found["bare"], found["ours"], strict=True)]
    print(f"  ours / bare: {statistics.median(ratios):.2f} (median of {given.rounds})")


if __name__ == "__main__":
    main()
