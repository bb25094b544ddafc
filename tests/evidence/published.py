"""Whole ledgers as they are published, of any size, to be damaged: real tickets first, then entries that fill it up."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from evidence.bundles import SIGNER, W1, W2, WITNESSED
from evidence.office import ORIGIN
from muniment.core.instants import wire
from muniment.ledger.checkpoint import Checkpoint, with_lines
from muniment.ledger.merkle import tree_root
from muniment.ledger.note import sign_note
from muniment.ledger.tiles import TileWriter, bundle_path, tile_path
from muniment.ledger.trust import TrustPolicy

STREAMS = 50  # of the entries that fill a log up


def filled(real: Sequence[bytes], size: int) -> list[bytes]:
    """``real``, cut or filled up to ``size`` entries with small facts, each a millisecond after the one before."""
    made = list(real[:size])
    at = datetime.fromisoformat(json.loads(real[-1])["at"])
    last: dict[int, tuple[int, str]] = {}
    origin = json.loads(real[0])["log"]
    for number in range(size - len(made)):
        pad = number % STREAMS
        seq, prev = last.get(pad, (0, "null"))
        at += timedelta(milliseconds=1)
        raw = (
            f'{{"actor":{{"id":"system:muniment","via":"controller"}},"at":"{wire(at)}","data":{{"target":"pad-{pad}"}},'
            f'"log":"{origin}","prev":{prev},"seq":{seq},"ticket":"target:pad-{pad}","type":"target-retired/1","v":1}}'
        ).encode()
        last[pad] = (seq + 1, _ref(raw))
        made.append(raw)
    return made


def _ref(raw: bytes) -> str:
    digest = hashlib.sha256(b"\x00" + raw).hexdigest()
    return f'"sha256:{digest}"'


def kept_sizes(size: int) -> list[int]:
    """Sizes of the checkpoints that were published before the newest one."""
    return sorted({size // 3, size // 2, size - 1} - {0, size, -1})


def seconds(entry: bytes) -> int:
    return int(datetime.fromisoformat(json.loads(entry)["at"]).timestamp()) + 1


@dataclass
class Ledger:
    """A published ledger: files by their path. A mutation changes it in place."""

    entries: list[bytes]
    clock: list[int]  # when witnesses saw the log, by its size
    files: dict[str, bytes] = field(default_factory=dict)
    trust: TrustPolicy = WITNESSED
    since: str | None = None  # a checkpoint that the auditor kept

    @property
    def size(self) -> int:
        return len(self.clock) - 1

    def note(self, size: int | None = None, **options: Any) -> str:
        """A checkpoint over the first ``size`` entries."""
        entries = self.entries[:size]
        root = options.pop("root", None) or tree_root(map(_leaf, entries))
        head = Checkpoint(origin=ORIGIN, size=len(entries), root=root)
        return self.signed(head.text(), at=self.clock[min(len(entries), self.size)], **options)

    def signed(self, text: str, *, by: Any = SIGNER, at: int | None = None, witnesses: Any = (W1, W2)) -> str:
        """A text, signed and cosigned as the log and its witnesses would."""
        at = self.clock[-1] if at is None else at
        return with_lines(sign_note(text, [by]), [witness.sign(text, at) for witness in witnesses])

    def publish(self) -> None:
        """Make every file from the entries: tiles, and a checkpoint for each size at which one was published."""
        kept, self.files = [n for n in kept_sizes(self.size) if n < len(self.entries)], {}
        writer = TileWriter()
        half = min(self.size // 2, len(self.entries))
        for part in (self.entries[:half], self.entries[half:]):
            self.files |= writer.extend(part)
            self.files |= writer.partials()
        roots = {n: tree_root(map(_leaf, self.entries[:n])) for n in kept}
        self.files |= {f"checkpoints/{n}": self.note(n, root=root).encode() for n, root in roots.items()}
        self.files["checkpoint"] = self.note(root=writer.root()).encode()

    def again(self, entries: Sequence[bytes]) -> None:
        """Other entries, signed and cosigned as if they had always been there."""
        self.entries = list(entries)
        self.publish()

    def copy(self) -> Ledger:
        return Ledger(self.entries, self.clock, dict(self.files), self.trust, self.since)

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        made: set[Path] = {folder}
        for path, content in self.files.items():
            place = folder / path
            if place.parent not in made:
                place.parent.mkdir(parents=True, exist_ok=True)
                made.add(place.parent)
            place.write_bytes(content)
        return folder

    # ── what a row speaks of ──

    @property
    def names(self) -> dict[str, Any]:
        """Paths and places of this size, for the words of a row."""
        size = self.size
        last = (size - 1) // 256
        width = (size - 1) % 256 + 1
        kept = kept_sizes(size)
        return {
            "size": size,
            "last": size - 1,
            "first_bundle": bundle_path(0, min(256, size)) if size else "",
            "first_tile": tile_path(0, 0, min(256, size)) if size else "",
            "bundle": bundle_path(last, width) if size else "",
            "tile": tile_path(0, last, width) if size else "",
            "one": tile_path(1, 0, min(256, size // 256)) if size >= 256 else "",
            "two": tile_path(2, 0, 1),
            "older": kept[0] if kept else None,
            "half": size // 2,
        }


def ledger_of(real: Sequence[bytes], size: int) -> Ledger:
    entries = filled(real, size)
    clock = [0, *map(seconds, entries[: len(real)])]
    # the others are made evenly: reading them all again would take longer than making them
    begin = datetime.fromisoformat(json.loads(real[-1])["at"])
    clock += [
        int((begin + timedelta(milliseconds=n)).timestamp()) + 1 for n in range(1, size + 2 - len(clock))
    ]
    clock[0] = clock[1] - 1 if size else 1_700_000_000
    made = Ledger(entries, clock[: size + 1])
    made.publish()
    return made


def _leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


@dataclass(frozen=True)
class SecondVerifier:
    """The program in ``tests/second_verifier``, built."""

    program: Path

    def __call__(
        self, folder: Path, trust: Path, *, since: Path | None = None, levels: str = ""
    ) -> dict[str, str | None]:
        """What is wrong first, by level; None if nothing is."""
        words = ["-levels", levels] if levels else []
        words += ["-since", str(since)] if since else []
        done = subprocess.run(
            [self.program, *words, folder, trust], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, str | None] = json.loads(done.stdout)
        return found


Damage = Callable[[Ledger], None]


def edit_file(path: str, change: Callable[[bytes], bytes | None]) -> Damage:
    """Change one file, by its path; ``{words}`` as in `Ledger.names`."""

    def damage(ledger: Ledger) -> None:
        name = path.format(**ledger.names)
        content = change(ledger.files[name])
        if content is None:
            del ledger.files[name]
        else:
            ledger.files[name] = content

    return damage


def bundle(change: Callable[[list[bytes]], list[bytes]], path: str = "{bundle}") -> Damage:
    """Change the entries in one bundle, and nothing else."""

    def damage(ledger: Ledger) -> None:
        name = path.format(**ledger.names)
        ledger.files[name] = b"".join(
            len(e).to_bytes(2, "big") + e for e in change(list(_entries(ledger.files[name])))
        )

    return damage


def _entries(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 2], "big")
        yield raw[at + 2 : at + 2 + length]
        at += 2 + length
