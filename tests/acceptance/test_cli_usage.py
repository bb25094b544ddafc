"""Use by the program, at a desk and by a server: read, judged, reported, checked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from acceptance.conftest import ANN, AUD, BO, OPS, Muniment
from acceptance.test_cli_server import Served, served  # noqa: F401  a fixture
from muniment.cli.usage import SENT_LINES

pytest.importorskip("duckdb")


def lines(*uses: tuple[str, str]) -> str:
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    return "".join(
        json.dumps({"account": a, "privilege": p, "at": at, "id": f"{a}{p}{at}"}) + "\n" for a, p in uses
    )


def test_a_log_is_read_judged_and_reported(here: Muniment, tmp_path: Path) -> None:
    log = tmp_path / "siem.log"
    log.write_text(lines(("bo", "web-admin"), ("bo", "nothing")) + "broken\n")
    words = ("usage", "ingest", log, "--format", "events", "--target", "bastion")
    made = here.json(*words, who=OPS)
    assert made.status == 1, made.err
    [batch] = made.document["items"]
    assert (batch["lines"], batch["uses"], batch["unparsable"]) == (3, 2, 1)
    assert made.document["verdicts"] == {"ordinary": 1, "ungranted": 1}
    assert here.json(*words, who=OPS).document["items"] == []
    assert here.json(*words, who=BO).status == 1
    report = here.json("usage", "report", "--target", "bastion", who=AUD).document
    assert [f["type"] for f in report["findings"]] == ["used-ungranted"]
    assert report["targets"][0]["logs"][0]["source"] == "events"
    shown = here("usage", "report", who=AUD)
    assert "bo used web-admin" in shown.out.replace("\n", " ")
    assert here("usage", "report", "--right-size", who=AUD).status == 0
    assert here.json("usage", "check", "bastion", who=AUD).document["ok"]
    assert here.json("findings", "--type", "used-ungranted", who=AUD).document["items"][0]["line"]
    assert here.json("ledger", "verify").status == 0
    assert (
        here.json("usage", "ingest", log, "--format", "nothing", "--target", "bastion", who=OPS).status == 2
    )
    assert (
        here.json(
            "usage", "ingest", tmp_path / "no", "--format", "sshd", "--target", "bastion", who=OPS
        ).status
        == 3
    )
    assert here.json("usage", "report", "--judgement", "nice", who=AUD).status == 2


def test_a_server_reads_the_same(served: Served, tmp_path: Path) -> None:  # noqa: F811  the fixture
    log = tmp_path / "siem.log"
    log.write_text(lines(("bo", "web-admin"), ("cyd", "nothing")))
    words = ("usage", "ingest", log, "--format", "events", "--target", "bastion")
    made = served(*words, who=OPS)
    assert made.status == 1, made.err
    assert made.document["verdicts"] == {"ordinary": 1, "ungranted": 1}
    assert served(*words, who=OPS).document["items"] == []
    assert served(*words, who=ANN).status == 1
    there, here_ = (
        served("usage", "report", who=AUD).document,
        served.at_desk("usage", "report", who=AUD).document,
    )
    assert there == here_
    assert served("usage", "check", "bastion", who=AUD).document["ok"]


def test_a_server_is_sent_nothing_that_it_cannot_read(served: Served, tmp_path: Path) -> None:  # noqa: F811  the fixture
    log = tmp_path / "other.log"
    log.write_text(lines(*[(f"user{number}", "web-admin") for number in range(SENT_LINES + 1)]))
    words = ("usage", "ingest", log, "--format", "events", "--target", "bastion", "--timezone", "+02:00")
    before = served("usage", "check", "bastion", who=AUD).document
    answer = served(*words, who=OPS)
    assert (answer.status, answer.error["code"]) == (2, "invalid")
    assert served("usage", "check", "bastion", who=AUD).document == before
