"""kill -9 at each write of a step of `rotate-key`: run again, it ends what was begun, and records nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("step", ["announce", "retire"])
def test_a_killed_step_is_ended_by_running_it_again(tmp_path: Path, step: str) -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("rotating.py"), tmp_path, step],
        capture_output=True, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    names = json.loads(done.stdout)
    print(f"{step}: killed at {len(names)} points")
    assert {
        f"{when} {what}" for when in ("before", "after") for what in ("commit", "sign", "fsync", "rename")
    } <= set(names)
