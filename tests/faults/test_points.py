"""A worker killed, or paused past its lease, at every point of giving and taking back (I1, I17, I18, I19, I29)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faults.points import UNSTOPPABLE, Plan


def run(server: Any, folder: Path, **given: Any) -> list[str]:
    """Every point in turn; returns their names."""
    plan = Plan(admin=server.dsn(), folder=str(folder), password=server.password, port=server.port, **given)
    script = Path(__file__).with_name("points.py")
    done = subprocess.run(
        [sys.executable, script, msgspec.json.encode(plan)],
        capture_output=True, text=True, timeout=180, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    names: list[str] = json.loads(done.stdout)
    return names


GIVING = {"before provision", "before confirm", "after confirm", "after provision", "before observe"}
TAKING = {"before revoke", "before confirm", "after confirm", "after revoke", "after observe"}
BETWEEN = "between end_access and record_end"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("on", "late"), [("pg", False), ("ssh", False), ("pg", True)], ids=["pg", "ssh", "pg-too-late"]
)
def test_killed_while_giving(postgres18, tmp_path, on, late) -> None:
    names = run(postgres18, tmp_path, act="give", on=on, how="kill", late=late)
    assert set(names) >= GIVING | {"before commit", "after commit"}
    # sealing: taken up, nothing more to take up, the checkpoint, and that it is out; then the intent, and what was seen
    assert names.count("before commit") == 4 + 2  # no credential without either


@pytest.mark.slow
@pytest.mark.parametrize(("act", "on"), [("expire", "pg"), ("return", "ssh")])
def test_killed_while_taking_back(postgres18, tmp_path, act, on) -> None:
    names = run(postgres18, tmp_path, act=act, on=on, how="kill")
    assert set(names) >= TAKING | {"before commit", "after commit", BETWEEN}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "on", "on_postgresql"),
    [("give", "pg", True), ("return", "pg", False), ("return", "ssh", False)],
    ids=["give-pg, store on PostgreSQL", "return-pg", "return-ssh"],
)
def test_paused_past_its_lease_it_changes_and_records_nothing(
    postgres18, tmp_path, act, on, on_postgresql
) -> None:
    names = run(postgres18, tmp_path, act=act, on=on, how="stop", on_postgresql=on_postgresql)
    assert set(names) >= (GIVING if act == "give" else TAKING) - UNSTOPPABLE[on]
