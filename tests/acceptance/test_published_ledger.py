"""The ledger as others see it: published files, a restored backup, and the way out of it (I26)."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from acceptance.conftest import ANN, AUD, CYD, Muniment
from muniment.config import load
from muniment.core.errors import IntegrityError, NotSealed, RolledBack
from muniment.core.scope import Privilege
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.merkle import Frontier, leaf_hash, tree_root
from muniment.ledger.note import parse_note
from muniment.ledger.tiles import bundle_path, decode_bundle, layout, tile_path
from muniment.main import open_desk
from muniment.service.deciding import approve
from muniment.service.filing import Ask, file_request
from muniment.service.giving import give
from muniment.service.sealing import seal


def files(folder: Path) -> dict[str, bytes]:
    """Every published file, by its path."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def published(folder: Path) -> Checkpoint:
    return Checkpoint.parse(parse_note((folder / "checkpoint").read_text()).text)


def backup(muniment: Muniment, to: Path) -> None:
    """As an operator does it: a consistent copy of the database."""
    with (
        closing(sqlite3.connect(muniment.folder / "var/muniment.db")) as source,
        closing(sqlite3.connect(to)) as copy,
    ):
        source.backup(copy)


def restore(muniment: Muniment, copy: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (muniment.folder / f"var/muniment.db{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, muniment.folder / "var/muniment.db")


@pytest.fixture
def ledger(muniment: Muniment) -> Path:
    return muniment.folder / "var/ledger"


def test_what_is_published_is_the_whole_ledger(muniment: Muniment, ledger: Path) -> None:
    muniment.filed()
    head = published(ledger)
    expected = {"checkpoint"}
    for level, index, width in layout(head.size):
        expected |= {tile_path(level, index, width)} | ({bundle_path(index, width)} if level == 0 else set())
    assert expected <= set(files(ledger))
    entries = decode_bundle((ledger / bundle_path(0, head.size)).read_bytes(), head.size)
    assert tree_root(map(leaf_hash, entries)) == head.root


def test_growing_over_a_tile_drops_partials_and_changes_nothing(muniment: Muniment, ledger: Path) -> None:
    """Each growth adds files; none that stays is ever another; a full tile takes the place of its partial ones."""
    desk = open_desk(load(muniment.config))
    caller = desk.caller(ANN, "test")
    seen: dict[str, bytes] = {}
    while desk.ledger.head().size < 300:
        ask = Ask(
            target="bastion",
            scope=(Privilege(privilege="web-admin"),),
            justification="why",
            duration=timedelta(hours=1),
            public_key=muniment.key.read_text(),
        )
        for _ in range(9):
            file_request(desk, caller, ask)
        seal(desk)
        now = files(ledger)
        changed = {path for path in seen if path in now and now[path] != seen[path]}
        assert changed <= {"checkpoint"}
        seen = now
    assert "tile/0/000" in seen
    assert "tile/entries/000" in seen
    assert not any(path.startswith(("tile/0/000.p/", "tile/entries/000.p/")) for path in seen)
    assert "tile/1/000.p/1" in seen


def test_an_export_is_complete_and_can_be_repeated(muniment: Muniment, tmp_path: Path) -> None:
    muniment.filed()
    out = tmp_path / "audit"
    first = muniment.json("ledger", "export", out)
    assert first.status == 0, first.err
    before = files(out)
    assert {"checkpoint", "vkey", "trust", f"checkpoints/{first.document['size']}"} <= set(before)
    assert (out / "vkey").read_text().strip() == muniment.json("ledger", "checkpoint").document["vkey"]
    muniment.filed()
    second = muniment.json("ledger", "export", out)
    assert second.status == 0, second.err
    assert second.document["size"] > first.document["size"]
    after = files(out)
    assert all(after[path] == content for path, content in before.items() if path != "checkpoint")


@pytest.mark.parametrize("flip", [0, -1])
def test_an_exported_tile_that_differs_stops_the_export(
    muniment: Muniment, tmp_path: Path, flip: int
) -> None:
    muniment.filed()
    out = tmp_path / "audit"
    size = muniment.json("ledger", "export", out).document["size"]
    tile = out / tile_path(0, 0, size)
    content = bytearray(tile.read_bytes())
    content[flip] ^= 1
    tile.write_bytes(content)
    answer = muniment.json("ledger", "export", out)
    assert answer.status == 1
    assert answer.error["code"] == "ledger.tile-differs"
    assert str(tile) in answer.error["message"]
    assert tile.read_bytes() == content  # it is evidence


@pytest.mark.parametrize("which", ["tile/0", "tile/entries"])
def test_a_changed_tile_stops_publishing_and_giving(muniment: Muniment, ledger: Path, which: str) -> None:
    """Somebody changed a published file: nothing new is published, so nothing new is given."""
    ticket = muniment.filed()
    (path,) = [p for p in files(ledger) if p.startswith(which)]
    content = bytearray((ledger / path).read_bytes())
    content[40] ^= 1
    (ledger / path).write_bytes(content)
    answer = muniment.json("approve", ticket, who=CYD)
    assert answer.status != 0 or answer.document["status"] == "approved"
    shown = muniment.json("show", ticket, who=ANN)
    assert shown.document["status"] == "approved"
    assert shown.document["granted"] == []
    refused = muniment.json("ledger", "checkpoint")
    assert refused.status == 1
    assert refused.error["code"] == "ledger.tile-differs"


def test_a_restored_backup_grants_nothing_and_is_mended(
    muniment: Muniment, ledger: Path, tmp_path: Path
) -> None:
    kept = muniment.filed()
    backup(muniment, tmp_path / "backup.db")
    later = muniment.filed("--reason", "after the backup")
    whole = published(ledger)
    restore(muniment, tmp_path / "backup.db")
    # it says so, adds nothing, and still reads
    for words, who in (
        (("approve", kept), CYD), (("deny", kept, "--comment", "no"), CYD), (("withdraw", kept), ANN), (("ledger", "checkpoint"), None),
    ):  # fmt: skip
        answer = muniment.json(*words, who=who)
        assert answer.status == 1, words
        assert answer.error["code"] == "ledger.rolled-back"
        assert "recover" in answer.error["remedy"]
    assert muniment.request().error["code"] == "ledger.rolled-back"
    assert [item["id"] for item in muniment.json("list", who=AUD).document["items"]] == [kept]
    assert published(ledger) == whole
    # the way out
    answer = muniment.json("admin", "recover")
    assert answer.status == 0, answer.err
    assert answer.document["put_back"] > 0
    assert answer.document["entries"] == whole.size
    shown = muniment.json("show", later, who=ANN).document
    assert shown["status"] == "pending"
    assert "after the backup" not in str(shown)  # texts lie beside the ledger, and were not published
    verified = muniment.json("ledger", "verify")
    assert verified.status == 0, verified.err
    assert muniment.json("approve", kept, who=CYD).document["status"] == "active"
    assert published(ledger).size > whole.size
    assert muniment.json("admin", "recover").document["put_back"] == 0


def test_a_backup_that_was_added_to_is_a_fork_that_nobody_signs(
    muniment: Muniment, ledger: Path, tmp_path: Path
) -> None:
    muniment.filed()
    backup(muniment, tmp_path / "backup.db")
    muniment.filed()
    whole = files(ledger)
    # somebody starts it where the published ledger is not at hand, and it is used
    shutil.move(ledger, tmp_path / "away")
    restore(muniment, tmp_path / "backup.db")
    other = [muniment.filed() for _ in range(3)]
    shutil.rmtree(ledger)
    shutil.move(tmp_path / "away", ledger)
    answer = muniment.json("approve", other[0], who=CYD)
    assert answer.status == 1
    assert answer.error["code"] == "ledger.rolled-back"
    assert "another history" in answer.error["message"]
    answer = muniment.json("admin", "recover")
    assert answer.status == 1
    assert answer.error["code"] == "ledger.forked"
    assert files(ledger) == whole


def test_a_published_folder_of_another_ledger_is_refused(
    muniment: Muniment, ledger: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(muniment.folder, other)
    muniment.filed()
    text = (other / "muniment.toml").read_text()
    origin = text.partition('origin = "')[2].partition('"')[0]
    (other / "muniment.toml").write_text(text.replace(origin, "ledger.example.org/other"))
    shutil.copytree(ledger, other / "var/ledger", dirs_exist_ok=True)
    answer = Muniment(other).request()
    assert answer.status == 1
    assert answer.error["code"] == "ledger.integrity"


def test_nothing_begins_before_its_approval_is_published(muniment: Muniment) -> None:
    """A node without the key waits; as soon as one with it has published, the access is given."""
    ticket = muniment.filed()
    desk = open_desk(load(muniment.config))
    other = replace(desk, signers=())
    before = desk.ledger.kept.published_size()
    _, pending = desk.store.read(ticket)
    assert pending is not None
    approve(desk, desk.caller(CYD, "test"), ticket, digest=pending.digest)
    progress = give(other, "bastion", [ticket], "keyless")
    assert isinstance(progress.again[ticket], NotSealed)
    assert progress.moved == []
    assert desk.ledger.kept.published_size() == before
    seal(desk)
    assert give(other, "bastion", [ticket], "keyless").again == {}
    _, found = desk.store.read(ticket)
    assert found is not None
    assert found.status == "active"


def test_a_head_that_somebody_wrote_is_not_signed(muniment: Muniment) -> None:
    """Leaves and head changed together, as a database administrator can: the tree did not grow from its entries."""
    muniment.filed()
    path = muniment.folder / "var/muniment.db"
    desk = open_desk(load(muniment.config))
    size = desk.ledger.head().size
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        forged = Frontier.from_bytes(connection.execute("SELECT frontier FROM head").fetchone()[0]).append(
            leaf_hash(b"{}")
        )
        connection.execute(
            "INSERT INTO leaf (idx, event_id, hash) VALUES (?, 999999, ?)", (size, leaf_hash(b"{}"))
        )
        connection.execute("UPDATE head SET size = ?, frontier = ?", (size + 1, forged.to_bytes()))
    with pytest.raises(IntegrityError):
        seal(desk)
    assert desk.ledger.kept.published_size() == size


def test_a_halted_store_says_why_each_time(muniment: Muniment, ledger: Path, tmp_path: Path) -> None:
    muniment.filed()
    backup(muniment, tmp_path / "backup.db")
    muniment.filed()
    restore(muniment, tmp_path / "backup.db")
    desk = open_desk(load(muniment.config))
    assert isinstance(desk.store.halted, RolledBack)
    with pytest.raises(RolledBack):
        seal(desk)
