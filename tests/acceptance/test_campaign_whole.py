"""The measured campaign, smaller: on a real PostgreSQL, through API and command line, every removal seen gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import servers
from muniment.demo.postgres import find_binaries

BENCH = Path(__file__).parents[2] / "bench" / "campaign.py"


def test_a_campaign_on_a_real_database_ends_with_what_was_decided() -> None:
    if find_binaries() is None:
        servers.missing("postgresql")
    made = subprocess.run(
        [sys.executable, BENCH, "--items", "120", "--revoked", "30"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr + made.stdout
    document = json.loads(made.stdout)
    assert (document["items"], document["revoked"]) == (120, 30)
    assert all(document["sound"].values()), document
