"""Evidence by the command line: handed out, taken elsewhere, verified there, and refused once anything is changed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from acceptance.conftest import ANN, BO, CYD, Answer, Muniment, run, run_here


@pytest.fixture(scope="module")
def ticket(shared: Muniment) -> str:
    found = shared.filed("--reference", "change=CHG-7")
    assert shared("approve", found, "--comment", "go on", who=CYD).status == 0
    assert shared("return", found, who=ANN).status == 0
    return found


@pytest.fixture(scope="module")
def kept(shared: Muniment, tmp_path_factory: pytest.TempPathFactory, ticket: str) -> Path:
    """What an auditor has elsewhere: the evidence, the trust file, an old checkpoint."""
    folder = tmp_path_factory.mktemp("auditor")
    checkpoint = shared.json("ledger", "checkpoint").document
    (folder / "vkey").write_text(checkpoint["vkey"] + "\n")
    (folder / "trust").write_text(f"# mine\nlog {checkpoint['vkey']}\nquorum none\n")
    (folder / "checkpoint").write_text(checkpoint["checkpoint"])
    shared.filed()
    answer = shared.json(
        "evidence", "export", ticket, "--out", folder / "e.zip", "--since", folder / "checkpoint"
    )
    assert answer.status == 0, answer.err
    document = answer.document
    assert (document["ticket"], document["ok"], document["out"]) == (ticket, True, str(folder / "e.zip"))
    assert document["entries"] == 9
    return folder


def verified(file: Path, trust: Path, *words: object, here: bool = False) -> Answer:
    """In a folder without any configuration: an auditor has none."""
    return (run_here if here else run)("evidence", "verify", file, "--trust", trust, "--json", *words)


def test_an_auditor_needs_the_file_and_a_trust_file_alone(kept: Path, ticket: str) -> None:
    answer = verified(kept / "e.zip", kept / "trust", "--since", kept / "checkpoint", here=False)
    assert answer.status == 0, answer.err
    document = answer.document
    assert document["ok"] is True
    assert document["ticket"] == ticket
    assert {name: level["ok"] for name, level in document["levels"].items()} == dict.fromkeys(
        ("V1", "V2", "V3", "V4", "V5"), True
    )
    assert all(set(level) == {"ok", "checked", "first_fault"} for level in document["levels"].values())
    assert any("only grew" in sentence for sentence in document["proves"])
    assert any("operator-signed only" in sentence for sentence in document["does_not_prove"])
    assert verified(kept / "e.zip", kept / "vkey").document["ok"], (
        "a file of verifier keys is a trust file, too"
    )
    shown = run("evidence", "verify", kept / "e.zip", "--trust", kept / "trust")
    assert "the evidence verifies" in shown.out
    assert "It does not prove" in shown.out


def test_the_file_is_private_and_not_overwritten(shared: Muniment, kept: Path, ticket: str) -> None:
    assert (kept / "e.zip").stat().st_mode & 0o777 == 0o600
    before = (kept / "e.zip").read_bytes()
    again = shared.json("evidence", "export", ticket, "--out", kept / "e.zip")
    assert (again.status, again.error["code"]) == (2, "invalid.out")
    assert (kept / "e.zip").read_bytes() == before


def test_whoever_may_not_see_the_ticket_gets_no_evidence(
    shared: Muniment, tmp_path: Path, ticket: str
) -> None:
    refused = shared.json("evidence", "export", ticket, "--out", tmp_path / "x.zip", who=BO)
    assert (refused.status, refused.error["code"]) == (1, "not-found")
    unknown = shared.json("evidence", "export", "req_NONE", "--out", tmp_path / "x.zip")
    assert (unknown.status, unknown.error["code"]) == (1, "not-found")
    assert not (tmp_path / "x.zip").exists()
    own = shared.json("evidence", "export", ticket, "--out", tmp_path / "x.zip", who=ANN)
    assert own.status == 0, own.err


def test_a_changed_byte_anywhere_is_refused(kept: Path, tmp_path: Path) -> None:
    raw = (kept / "e.zip").read_bytes()
    chance = random.Random(3)
    copy = tmp_path / "copy.zip"
    for number, at in enumerate([0, len(raw) - 1, *chance.sample(range(len(raw)), 40)]):
        changed = bytearray(raw)
        changed[at] ^= 1 << chance.randrange(8)
        copy.write_bytes(changed)
        answer = verified(copy, kept / "trust", here=number > 1)
        assert (answer.status, answer.error["code"]) == (1, "evidence.bad-bundle"), at
        assert answer.document["ok"] is False
    copy.write_bytes(raw[: len(raw) // 2])
    assert verified(copy, kept / "trust").error["code"] == "evidence.bad-bundle"


def test_the_operator_s_own_trust_file_is_not_asked(shared: Muniment, kept: Path, tmp_path: Path) -> None:
    """Somebody else's ledger may be sound in itself. It is not the one that the auditor trusts."""
    other = tmp_path / "other"
    assert run("init", other).status == 0
    vkey = run("ledger", "checkpoint", "--json", "--config", other / "muniment.toml").document["vkey"]
    (tmp_path / "trust").write_text(f"log {vkey}\nquorum none\n")
    answer = verified(kept / "e.zip", tmp_path / "trust")
    assert (answer.status, answer.error["code"]) == (1, "evidence.does-not-verify")
    assert answer.document["levels"]["V1"]["ok"] is False
    assert answer.document["levels"]["V2"]["ok"] is True
    assert answer.document["proves"] == []
    both = (tmp_path / "trust").read_text() + "quorum none\n"
    (tmp_path / "trust").write_text(both)
    wrong = verified(kept / "e.zip", tmp_path / "trust")
    assert (wrong.status, wrong.error["code"], wrong.out) == (2, "ledger.bad-trust", "")
    for file, trust in ((kept / "none.zip", kept / "trust"), (kept / "e.zip", kept / "none")):
        missing = verified(file, trust)
        assert (missing.status, missing.out) == (2, "")


def test_a_checkpoint_of_another_ledger_is_no_beginning(
    shared: Muniment, kept: Path, tmp_path: Path, ticket: str
) -> None:
    foreign = (kept / "checkpoint").read_text().replace("— muniment", "— somebody")
    (tmp_path / "since").write_text(foreign)
    answer = shared.json(
        "evidence", "export", ticket, "--out", tmp_path / "x.zip", "--since", tmp_path / "since"
    )
    assert (answer.status, answer.error["code"]) == (1, "ledger.integrity")
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing")
def test_the_file_verifies_itself_without_muniment(kept: Path, tmp_path: Path, ticket: str) -> None:
    with zipfile.ZipFile(kept / "e.zip") as bundle:
        bundle.extractall(tmp_path)
    words = ["bash", tmp_path / "verify.sh", "--trust", kept / "trust", "--since", kept / "checkpoint"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "operator-signed only" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("VERIFIES: ")
    assert ticket in done.stdout
    entry = tmp_path / "ticket" / "0002.entry"
    assert json.loads(entry.read_bytes())["data"]["approver"] == CYD
    entry.write_bytes(entry.read_bytes().replace(b"cyd", b"dee"))
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 1
    assert "FAIL  ticket/0002.entry" in done.stdout
