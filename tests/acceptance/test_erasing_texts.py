"""`muniment admin erase`: one text is gone, everything still verifies, and everybody who looks is told."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from acceptance.conftest import ANN, AUD, CYD, OPS, Muniment
from acceptance.test_published_ledger import backup, restore
from muniment.evidence.archive import unpack

SECRET = "passport X4711 of a customer, pasted by mistake"


def erase(muniment: Muniment, *words: object, who: str = OPS):
    return muniment.json("admin", "erase", *words, who=who)


def everywhere(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_text_is_gone_and_everything_says_so(here: Muniment, tmp_path: Path) -> None:
    muniment = here
    ticket = muniment.filed("--reason", SECRET)
    assert muniment.json("deny", ticket, "--comment", "not with such a reason", who=CYD).status == 0
    before = muniment.json("show", ticket, who=AUD).document
    assert (before["justification"], before["erased"]) == (SECRET, [])
    vkey = tmp_path / "vkey"
    vkey.write_text(muniment.json("ledger", "checkpoint").document["vkey"])
    old = muniment.json("ledger", "checkpoint").document["checkpoint"]
    (tmp_path / "old").write_text(old)

    shown = erase(muniment, ticket).document
    texts = {each["entry"]: each["text"] for each in shown["texts"]}
    assert texts[0] == SECRET
    assert SECRET.encode() in everywhere(muniment.folder)

    document = erase(muniment, ticket, 0, "--reason", "request DSR-17").document
    (gone,) = (each for each in document["texts"] if each["entry"] == 0)
    assert gone["text"] is None
    assert (gone["erased"]["by"], gone["erased"]["reason"]) == (OPS, "request DSR-17")
    assert "backups" in document["elsewhere"]
    assert SECRET.encode() not in everywhere(muniment.folder)

    after = muniment.json("show", ticket, who=AUD).document
    assert after["justification"] == "(erased)"
    (said,) = after["erased"]
    assert (said["entry"], said["by"], said["reason"]) == (0, OPS, "request DSR-17")
    assert {name: value for name, value in after.items() if name not in {"justification", "erased"}} == {
        name: value for name, value in before.items() if name not in {"justification", "erased"}
    }

    # it is recorded once, and running it again cleans again
    size = muniment.json("ledger", "checkpoint").document["size"]
    again = erase(muniment, ticket, 0, "--reason", "once more")
    assert again.status == 0
    assert muniment.json("ledger", "checkpoint").document["size"] == size

    # everything verifies, also from a checkpoint of before
    assert muniment.json("ledger", "verify", "--vkey", vkey).document["ok"] is True
    bundle = tmp_path / "evidence.zip"
    made = muniment.json("evidence", "export", ticket, "--out", bundle, "--since", tmp_path / "old", who=AUD)
    assert made.status == 0, made.err
    files = unpack(bundle.read_bytes())
    commitment = gone["commitment"].removeprefix("sha256:")
    assert files[f"texts/{commitment}.erased"] == b""
    assert any(
        b'"text-erased/1"' in content for name, content in files.items() if name.startswith("registry/")
    )
    assert any(content == b"request DSR-17" for content in files.values())
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "opened")
    (tmp_path / "trust").write_text(f"log {vkey.read_text()}\nquorum none\n")
    shell = subprocess.run(
        ["bash", "verify.sh", "--trust", tmp_path / "trust"],
        cwd=tmp_path / "opened",
        capture_output=True,
        text=True,
        check=False,
    )
    assert shell.returncode == 0, shell.stdout + shell.stderr
    assert "erasure:" in shell.stdout
    checked = muniment.json("evidence", "verify", bundle, "--trust", vkey)
    assert checked.status == 0, checked.err
    assert any(
        f"a text was erased is in the ledger: by {OPS}" in words for words in checked.document["proves"]
    )
    assert not any("what became of" in words for words in checked.document["does_not_prove"])


def test_who_may_and_what_is_refused(here: Muniment) -> None:
    muniment = here
    ticket = muniment.filed("--reason", SECRET)
    for who in (ANN, CYD, AUD):
        assert erase(muniment, ticket, 0, "--reason", "x", who=who).error["code"] == "refused.not-an-operator"
        assert erase(muniment, ticket, who=who).error["code"] == "refused.not-an-operator"
    own = muniment.request("--reason", "my own", who=OPS).document["id"]
    assert erase(muniment, own, 0, "--reason", "x").error["code"] == "refused.self-erase"
    assert erase(muniment, "req_none", 0, "--reason", "x").error["code"] == "not-found"
    for entry in (1, 99):
        assert erase(muniment, ticket, entry, "--reason", "x").error["code"] == "not-found"
    assert erase(muniment, ticket, 0).error["code"] == "usage"
    assert erase(muniment, ticket, 0, "--reason", " ").error["code"] == "invalid"
    assert muniment.json("show", ticket, who=AUD).document["justification"] == SECRET


@pytest.mark.slow
def test_what_came_back_with_an_old_backup_is_erased_again(muniment: Muniment, tmp_path: Path) -> None:
    ticket = muniment.filed("--reason", SECRET)
    backup(muniment, tmp_path / "backup.db")
    assert erase(muniment, ticket, 0, "--reason", "request DSR-17").status == 0
    restore(muniment, tmp_path / "backup.db")
    assert muniment.json("show", ticket, who=AUD).document["justification"] == SECRET
    assert muniment.json("admin", "recover").status == 0
    assert muniment.json("show", ticket, who=AUD).document["justification"] == "(erased)"


def test_a_text_that_is_missing_is_not_called_erased(here: Muniment, tmp_path: Path) -> None:
    import sqlite3  # noqa: PLC0415
    from contextlib import closing  # noqa: PLC0415

    muniment = here
    ticket = muniment.filed("--reason", SECRET)
    with closing(sqlite3.connect(muniment.folder / "var/muniment.db")) as store, store:
        store.execute("UPDATE text SET value = NULL, salt = NULL")
    document = muniment.json("show", ticket, who=AUD).document
    assert (document["justification"], document["erased"]) == ("(missing)", [])
    bundle = tmp_path / "evidence.zip"
    made = muniment.json("evidence", "export", ticket, "--out", bundle, who=AUD)
    assert made.status == 0, made.err
    assert any("nothing in here says who erased them" in words for words in made.document["does_not_prove"])
    assert json.dumps(made.document)
