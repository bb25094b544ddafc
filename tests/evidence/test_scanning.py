"""Verifying whole ledgers: levels, processes, going on after an interruption, every published byte, foreign files."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidence.bundles import WITNESSED
from evidence.conftest import Archive
from evidence.published import Ledger, ledger_of
from muniment.core.errors import Misconfigured
from muniment.evidence import scanning
from muniment.evidence.progress import Progress
from muniment.evidence.scanning import LEVELS
from muniment.evidence.source import Older
from muniment.evidence.tile_source import TileSource
from muniment.service import publishing, sealing
from muniment.service.verifying import verify_directory, verify_store
from store import stores
from store.stores import HandClock, an_append, desk_of

SIZE = 300


@pytest.fixture(scope="module")
def sound(archive: Archive) -> Ledger:
    return ledger_of(archive.log, SIZE)


@pytest.fixture
def folder(sound: Ledger, tmp_path: Path) -> Path:
    return sound.copy().write(tmp_path / "ledger")


def flip(path: Path, at: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)


def faults(document: dict[str, Any]) -> dict[str, str | None]:
    return {name: level["first_fault"] for name, level in document["levels"].items()}


# ── every published byte ──


def test_every_published_byte_counts(tmp_path: Path) -> None:
    """As `muniment ledger export` wrote it, one bit of each byte in turn."""
    with stores.shelf(None) as shelf, shelf.store(HandClock()) as store:
        desk = desk_of(store)
        for number in range(3):
            store.append(an_append(f"target:{number}", "pg"))
            sealing.seal(desk)
        publishing.export(desk, tmp_path / "out")
        trust = desk.trust
    files = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != ".lock")
    assert {p.relative_to(tmp_path / "out").parts[0] for p in files} == {
        "checkpoint", "checkpoints", "tile", "trust", "vkey",
    }  # fmt: skip
    assert verify_directory(tmp_path / "out", trust)["ok"]
    unseen = []
    for path in files:
        for at in range(path.stat().st_size):
            flip(path, at, 1 << at % 8)
            document = verify_directory(tmp_path / "out", trust, levels=("V1", "V2"))
            if document["ok"]:
                unseen.append((path.name, at))
            flip(path, at, 1 << at % 8)
    assert unseen == []
    assert verify_directory(tmp_path / "out", trust)["ok"]


# ── levels, processes ──


@pytest.mark.parametrize("levels", [("V1",), ("V2",), ("V3", "V5"), ("V4",), LEVELS])
def test_only_the_levels_asked_for(folder: Path, levels: tuple[str, ...]) -> None:
    document = verify_directory(folder, WITNESSED, levels=levels)
    assert document["ok"]
    assert set(document["levels"]) == set(levels)
    entries = {name: level["checked"] for name, level in document["levels"].items() if name != "V1"}
    assert set(entries.values()) <= {SIZE}


@pytest.mark.slow
def test_two_processes_find_the_same(
    folder: Path, sound: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = sound.copy()
    damaged.again(
        [
            *damaged.entries[:290],
            damaged.entries[290].replace(b'"via":"', b'"via": "'),
            *damaged.entries[291:],
        ]
    )
    other = damaged.write(tmp_path / "damaged")
    flip(other / "tile/0/001.p/44", 64)
    alone = [verify_directory(where, WITNESSED) for where in (folder, other)]
    monkeypatch.setattr(scanning, "ALONE", 0)
    seen: list[tuple[int, int]] = []
    for where, expected in zip((folder, other), alone, strict=True):
        progress = Progress(lambda done, total: seen.append((done, total)))
        found = verify_directory(where, WITNESSED, processes=2, progress=progress)
        assert faults(found) == faults(expected)
    assert alone[0]["ok"]
    assert "tile/0/001.p/44: hash 2" in str(faults(alone[1])["V2"])
    assert "leaf 290" in str(faults(alone[1])["V3"])
    assert seen
    assert all(done <= total for done, total in seen)


def test_progress_goes_from_nothing_to_all(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify_directory(folder, WITNESSED, progress=Progress(lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1] == (2 * SIZE, 2 * SIZE)


def test_memory_does_not_grow_with_the_log(archive: Archive, tmp_path: Path) -> None:
    peaks = []
    for size in (3_000, 12_000):
        folder = ledger_of(archive.log, size).write(tmp_path / str(size))
        tracemalloc.start()
        assert verify_directory(folder, WITNESSED)["ok"]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


# ── going on ──


def interrupted(folder: Path, file: Path) -> None:
    """Stopped by the keyboard as soon as the tree is done."""

    def told(done: int, _total: int) -> None:
        if done > SIZE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_directory(folder, WITNESSED, progress=Progress(told, file))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ranges that are hashed from now on."""
    hashed: list[int] = []
    real = TileSource.hash_range

    def hash_range(self: TileSource, start: int, sizes: Any) -> Any:
        hashed.append(start)
        return real(self, start, sizes)

    monkeypatch.setattr(TileSource, "hash_range", hash_range)
    return hashed


def test_an_interrupted_verification_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "progress"
    interrupted(folder, file)
    assert file.stat().st_mode & 0o777 == 0o600
    hashed = counted(monkeypatch)
    seen: list[int] = []
    document = verify_directory(folder, WITNESSED, progress=Progress(lambda done, _: seen.append(done), file))
    assert document == verify_directory(folder, WITNESSED)
    assert hashed == [0]  # by the second of these two alone
    assert (seen[0], seen[-1]) == (SIZE, 2 * SIZE)  # what was known is not done again, and counts


def test_a_line_that_was_cut_off_is_looked_at_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "progress"
    interrupted(folder, file)
    file.write_bytes(file.read_bytes()[:-7])
    hashed = counted(monkeypatch)
    for _ in range(2):
        assert verify_directory(folder, WITNESSED, progress=Progress(file=file))["ok"]
    assert hashed == [0]


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\x00" * 100),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"of":"', b'"of":"0')),
        lambda file: file.write_bytes(file.read_bytes() + b"{}\n"),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"count":300', b'"count":"x"')),
    ],
    ids=["empty", "zeros", "another", "a line", "a shape"],
)
def test_a_foreign_file_is_refused(folder: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    file = tmp_path / "progress"
    interrupted(folder, file)
    change(file)
    before = file.read_bytes()
    with pytest.raises(Misconfigured) as refused:
        verify_directory(folder, WITNESSED, progress=Progress(file=file))
    assert refused.value.code == "config.resume"
    assert file.read_bytes() == before


def test_what_was_found_of_another_checkpoint_is_not_believed(
    folder: Path, sound: Ledger, tmp_path: Path
) -> None:
    file = tmp_path / "progress"
    interrupted(folder, file)
    (folder / "checkpoint").write_text(sound.note(witnesses=()))
    with pytest.raises(Misconfigured):
        verify_directory(folder, WITNESSED, progress=Progress(file=file))


def test_a_file_that_cannot_be_kept_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be used"):
        verify_directory(folder, WITNESSED, progress=Progress(file=tmp_path / "none" / "progress"))


# ── a store ──


def test_a_store_and_checkpoints_that_were_kept() -> None:
    with stores.shelf(None) as shelf, shelf.store(HandClock()) as store:
        desk = desk_of(store)
        store.append(an_append("target:1", "pg"))
        first = sealing.seal(desk)
        store.append(an_append("target:2", "pg"))
        sealing.seal(desk)
        store.append(
            an_append("target:3", "pg")
        )  # not sealed: form, rules and times see it, the tree does not
        document = verify_store(desk, since=[Older(where="kept", note=first)])
        assert document["ok"], document
        assert {name: level["checked"] for name, level in document["levels"].items()} == {
            "V1": 4, "V2": 2, "V3": 3, "V4": 3, "V5": 0,
        }  # fmt: skip
        with shelf.store(HandClock()) as another:
            another.append(an_append("target:1", "another"))
            foreign = sealing.seal(desk_of(another))
        document = verify_store(desk, since=[Older(where="kept", note=foreign)])
        assert "kept: two roots are claimed for 1 entries" in str(faults(document)["V2"])


# ── foreign files ──


def a_link(path: Path) -> None:
    real = path.parent.parent / "real"
    path.rename(real)
    path.symlink_to(real)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def huge(path: Path) -> None:
    os.truncate(path, 1 << 40)  # a hole: nothing is read of it


@pytest.mark.parametrize(
    ("change", "says"),
    [(a_link, "is a link"), (a_folder, "is not a file"), (a_pipe, "is not a file"), (huge, "are allowed")],
)
@pytest.mark.parametrize(
    ("path", "level"),
    [("checkpoint", "V1"), ("checkpoints/100", "V1"), ("tile/0/001.p/44", "V2"), ("tile/1/000.p/1", "V2"), ("tile/entries/000", "V2")],
)  # fmt: skip
def test_what_is_no_plain_file_is_named_and_not_waited_for(
    folder: Path, path: str, level: str, change: Callable[[Path], None], says: str
) -> None:
    change(folder / path)
    document = verify_directory(folder, WITNESSED, levels=("V1", "V2"))
    fault = str(faults(document)[level])
    assert path in fault
    assert says in fault


def test_a_folder_that_is_a_link_is_not_followed(folder: Path) -> None:
    (folder / "tile/0").rename(folder / "zero")
    (folder / "tile/0").symlink_to(folder / "zero")
    assert "tile/0 is a link" in str(faults(verify_directory(folder, WITNESSED))["V2"])


def test_a_folder_that_is_no_ledger_is_said(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "none", Path("/dev/null")):
        document = verify_directory(where, WITNESSED)
        assert not document["ok"]
        assert str(faults(document)["V1"]).startswith("checkpoint: ")
