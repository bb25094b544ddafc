"""kill -9 around sequencing, signing and publishing: no fork, no gap, no acknowledged event lost (I25, I27).

``MUNIMENT_KILLS=500`` for as many runs; ``make kill`` does that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from faults.killing import Plan
from store.stores import Shelf

RUNS = int(os.environ.get("MUNIMENT_KILLS", "25"))


@pytest.mark.slow
@pytest.mark.server("postgres18")
@pytest.mark.parametrize("on", ["sqlite", "postgresql"])
def test_killed_while_sealing(request: pytest.FixtureRequest, tmp_path: Path, on: str) -> None:
    shelf: Shelf = request.getfixturevalue("sqlite_shelf" if on == "sqlite" else "postgres_shelf")
    plan = Plan(url=shelf.url(), folder=str(tmp_path / "ledger"), runs=RUNS)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killing.py"), msgspec.json.encode(plan)],
        capture_output=True, text=True, timeout=120 + 10 * RUNS, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    whole, places = map(json.loads, done.stdout.splitlines())
    print(f"{on}: {RUNS} runs, {whole}, killed at {places}")
    assert sum(places.values()) == RUNS
    assert whole["events"] >= whole["acknowledged"] > RUNS
    if RUNS >= 25:  # at every kind of point, and from outside
        assert {"outside", "before commit", "after commit"} < set(places)
        assert {"before fsync", "after fsync", "before rename", "after rename"} & set(places)
