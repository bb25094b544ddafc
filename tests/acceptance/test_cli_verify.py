"""``ledger verify`` by the command line: store and folder, levels, kept checkpoints, going on, what is wrong and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.conftest import CYD, Answer, Muniment, run_here


@pytest.fixture(scope="module")
def audit(shared: Muniment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an auditor has: an export, the key, a checkpoint from before."""
    muniment, folder = Muniment(shared.folder, here=True), tmp_path_factory.mktemp("audit")
    ticket = muniment.filed()
    kept = muniment.json("ledger", "checkpoint").document
    (folder / "vkey").write_text(kept["vkey"] + "\n")
    (folder / "kept").write_text(kept["checkpoint"])
    assert muniment("approve", ticket, who=CYD).status == 0
    assert muniment.json("ledger", "export", folder / "ledger").status == 0
    return folder


def verified(audit: Path, *words: object) -> Answer:
    """Without any configuration."""
    return run_here("ledger", "verify", "--dir", audit / "ledger", "--vkey", audit / "vkey", "--json", *words)


def test_store_and_folder_agree(shared: Muniment, audit: Path) -> None:
    store = Muniment(shared.folder, here=True).json("ledger", "verify", "--since", audit / "kept")
    folder = verified(audit, "--since", audit / "kept")
    assert (store.status, folder.status) == (0, 0), store.err + folder.err
    assert store.document["ok"]
    assert folder.document["levels"] == store.document["levels"]
    assert list(folder.document["levels"]) == ["V1", "V2", "V3", "V4", "V5"]
    assert "operator-signed only" in folder.document["says"]
    shown = run_here("ledger", "verify", "--dir", audit / "ledger", "--vkey", audit / "vkey")
    assert "the ledger verifies" in shown.out
    assert "not checked" in next(line for line in shown.out.splitlines() if line.startswith("V5"))


def test_some_levels_in_processes_and_going_on(audit: Path, tmp_path: Path) -> None:
    words = ("--level", "V2", "--level", "V1", "--processes", 2, "--resume", tmp_path / "progress")
    for _ in range(2):
        answer = verified(audit, *words)
        assert answer.status == 0, answer.err
        assert list(answer.document["levels"]) == ["V1", "V2"]
    refused = verified(audit, "--since", audit / "kept", "--resume", tmp_path / "progress")
    assert (refused.status, refused.error["code"], refused.out) == (2, "config.resume", "")


def test_what_is_wrong_is_named_with_its_place(audit: Path, tmp_path: Path) -> None:
    (bundle,) = (audit / "ledger/tile/entries/000.p").iterdir()
    content = bundle.read_bytes()
    bundle.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    answer = verified(audit)
    bundle.write_bytes(content)
    assert (answer.status, answer.error["code"]) == (1, "ledger.integrity")
    assert "V2: tile/0/000.p/" in answer.error["message"]
    assert "hash 0 is not what the entries from leaf 0 make" in answer.error["message"]
    assert answer.document["levels"]["V1"]["ok"]
    assert not answer.document["levels"]["V2"]["ok"]
    foreign = tmp_path / "foreign"
    foreign.write_text((audit / "kept").read_text().replace("— ", "— x"))
    answer = verified(audit, "--since", foreign)
    assert answer.status == 1
    assert f"V1: {foreign}: " in answer.error["message"]


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--level", "V6"), "usage"), (("--since", "/none"), "config"), (("--processes", "0"), "usage")],
)
def test_words_that_cannot_be_meant(audit: Path, words: tuple[str, ...], code: str) -> None:
    answer = verified(audit, *words)
    assert (answer.status, answer.error["code"].partition(".")[0], answer.out) == (2, code, "")


def test_a_folder_is_not_believed_by_itself(audit: Path) -> None:
    answer = run_here("ledger", "verify", "--dir", audit / "ledger", "--json")
    assert (answer.status, answer.error["code"]) == (2, "usage")
    assert "--trust" in answer.error["remedy"]
