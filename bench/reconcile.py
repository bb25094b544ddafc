"""Everything held against everything expected: our one pass beside DuckDB's bare anti-join, in the same run.

    python bench/reconcile.py [--rows 10000000] [--differences 100000] [--rounds 3]

Two Parquet files of ``rows`` entitlements each differ by ``differences``: half of them are held and not expected, half
expected and not held. Both programs read them as Arrow batches and join on the same three columns. The bare one finds
what is held and not expected; ours finds that and what is missing, counts the classes, and returns every difference.
Each round starts a process for each, one after the other; peak memory is the process's own (VmHWM).

What this leaves out: making rows of what a target said and reading tickets, which are Python and linear.
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
    SELECT h.row FROM held h ANTI JOIN expected e
    ON h.account = e.account AND h.privilege = e.privilege AND h.detail IS NOT DISTINCT FROM e.detail"""


def make(folder: Path, rows: int, differences: int) -> None:
    """The two files. Names are as long as they are in directories, and every tenth has a resource."""
    import duckdb  # noqa: PLC0415  children that measure start without it

    half = differences // 2
    columns = """
        'account-' || lpad((n // 8)::VARCHAR, 9, '0') AS account,
        'privilege_' || (hash(n) % 5000)::VARCHAR || '_' || (n % 8)::VARCHAR AS privilege,
        CASE WHEN n % 10 = 0 THEN '["db' || (n % 97)::VARCHAR || '",false,null]' END AS detail"""
    with duckdb.connect() as database:
        database.execute("SET preserve_insertion_order = false")
        # in another order, as a target has it
        database.execute(f"""
            COPY (SELECT {columns}, n AS row FROM range({rows}) t(n) ORDER BY hash(n + 1))
            TO '{folder}/held.parquet' (COMPRESSION zstd)""")
        database.execute(f"""
            COPY (SELECT {columns}, (n % 3)::TINYINT AS class, true AS must, n % 1000 = 0 AND false AS look, n AS row
                  FROM range({half}, {rows + half}) t(n) ORDER BY hash(n + 2))
            TO '{folder}/expected.parquet' (COMPRESSION zstd)""")


def child(folder: Path, what: str) -> None:
    """One measurement."""
    import pyarrow.dataset as arrow  # noqa: PLC0415  as above

    from muniment.joins import database  # noqa: PLC0415
    from muniment.reconcile.comparing import compare  # noqa: PLC0415

    # batches as they are wanted: what Arrow would read ahead of either is no part of the comparison
    held, expected = (
        arrow.dataset(folder / f"{name}.parquet").scanner(batch_readahead=1, fragment_readahead=1).to_reader()
        for name in ("held", "expected")
    )
    began = time.perf_counter()
    if what == "ours":
        found = compare(held, expected)
        result = {
            "unexplained": len(found.unexplained),
            "missing": len(found.missing),
            "counts": found.counts,
        }
    else:
        with database() as opened:
            opened.register("held", held)
            opened.register("expected", expected)
            result = {"unexplained": len(opened.execute(_BARE).fetchall())}
    seconds = time.perf_counter() - began
    # not ru_maxrss, which a process takes over from whoever started it
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024
    print(json.dumps({"seconds": seconds, "mib": peak, **result}))


def main() -> None:
    """Measure, and say it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--differences", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        child(Path(given.child[0]), given.child[1])
        return
    with tempfile.TemporaryDirectory(prefix="muniment-bench-") as name:
        make(Path(name), given.rows, given.differences)
        found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
        for _ in range(given.rounds):
            for what, results in found.items():
                answer = subprocess.run(
                    [sys.executable, __file__, "--child", name, what], check=True, capture_output=True, text=True
                )  # fmt: skip
                results.append(json.loads(answer.stdout))
    half = given.differences // 2
    assert {each["unexplained"] for results in found.values() for each in results} == {half}
    assert {each["missing"] for each in found["ours"]} == {half}
    print(f"{given.rows:,} held, {given.rows:,} expected, {given.differences:,} differences")
    for what, results in found.items():
        seconds = ", ".join(f"{each['seconds']:.1f}" for each in results)
        print(f"  {what}: {seconds} s; peak {max(each['mib'] for each in results):,.0f} MiB")
    ratios = [
        ours["seconds"] / bare["seconds"] for bare, ours in zip(found["bare"], found["ours"], strict=True)
    ]
    print(f"  ours / bare: {statistics.median(ratios):.2f} (median of {given.rounds})")


if __name__ == "__main__":
    main()
