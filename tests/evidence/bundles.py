"""Bundles made by hand: real entries at any place of a log of any size, signed by keys of the test's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evidence.office import ORIGIN
from muniment.core.events import decode_data
from muniment.core.text import Disclosure
from muniment.evidence.archive import pack, unpack
from muniment.evidence.bundle import Anchored, Proved, Text, TicketEvidence, commitments, manifest
from muniment.ledger.checkpoint import Checkpoint, sign_checkpoint, with_lines
from muniment.ledger.entry import decode_entry
from muniment.ledger.keys import cosigner_from_seed, signer_from_seed
from muniment.ledger.merkle import consistency_proof, inclusion_proof, leaf_hash, tree_root
from muniment.ledger.trust import TrustPolicy

SIGNER = signer_from_seed(ORIGIN, b"\x01" * 32)
STRANGER = signer_from_seed(ORIGIN, b"\x02" * 32)
W1, W2, W3 = (cosigner_from_seed(f"w{n}.example.org", bytes([16 + n]) * 32) for n in (1, 2, 3))
TRUST = TrustPolicy.parse(f"log {SIGNER.vkey}\nquorum none\n")
WITNESSED = TrustPolicy.parse(
    f"log {SIGNER.vkey}\nwitness one {W1.vkey}\nwitness two {W2.vkey}\nwitness three {W3.vkey}\n"
    "group two-of-three 2 one two three\nquorum two-of-three\n"
)


class Book:
    """A log: real entries at places of the test's choosing, and leaves in between that nobody looks at."""

    def __init__(self, placed: Mapping[int, bytes], size: int) -> None:
        self.placed = dict(placed)
        self.leaves = [hashlib.sha256(b"filler %d" % at).digest() for at in range(size)]
        for at, raw in placed.items():
            self.leaves[at] = leaf_hash(raw)

    @classmethod
    def of(cls, log: Sequence[bytes]) -> Book:
        return cls(dict(enumerate(log)), len(log))

    def checkpoint(
        self, size: int | None = None, cosigned: Mapping[Any, int] | None = None, by: Any = SIGNER
    ) -> str:
        """Signed, and cosigned by each witness at a time of its own."""
        leaves = self.leaves[:size]
        head = Checkpoint(origin=ORIGIN, size=len(leaves), root=tree_root(leaves))
        note = sign_checkpoint(head, [by])
        return with_lines(note, [w.sign(head.text(), time) for w, time in (cosigned or {}).items()])

    def proved(self, places: Sequence[int]) -> tuple[Proved, ...]:
        return tuple(
            Proved(index=at, raw=self.placed[at], hashes=tuple(inclusion_proof(at, self.leaves)))
            for at in places
        )

    def tied(self, size: int, **options: Any) -> Anchored:
        stamps = options.pop("stamps", ())
        note = self.checkpoint(size, **options)
        return Anchored(note=note, consistency=tuple(consistency_proof(size, self.leaves)), stamps=stamps)

    def evidence(self, ticket: str, **changes: Any) -> TicketEvidence:
        """Everything about a ticket, with all texts erased unless ``disclosed`` has them."""
        entries = {at: decode_entry(raw) for at, raw in sorted(self.placed.items())}
        mine = [at for at, entry in entries.items() if entry.ticket == ticket]
        streams = ("policy", "identity:", "target:", "keys")
        disclosed = {each.commitment: each for each in changes.pop("disclosed", ())}
        wanted = sorted(
            {c for at in mine for c in commitments(decode_data(entries[at].type, entries[at].data))}
        )
        fields: dict[str, Any] = {
            "ticket": ticket,
            "checkpoint": self.checkpoint(),
            "trust": TRUST.render(),
            "entries": self.proved(mine),
            "registry": self.proved(
                [at for at, entry in entries.items() if entry.ticket.startswith(streams)]
            ),
            "texts": tuple(text_of(each, disclosed.get(each)) for each in wanted),
        }
        return TicketEvidence(**(fields | changes))


def text_of(commitment: str, disclosure: Disclosure | None) -> Text:
    if disclosure is None:
        return Text(commitment=commitment)
    return Text(commitment=commitment, salt=disclosure.salt, text=disclosure.text)


def repacked(raw: bytes, change: Mapping[str, bytes | None]) -> bytes:
    """The bundle with files put in, changed or taken out (None), and a manifest that agrees: no accident, a forgery."""
    files = unpack(raw)
    for name, content in change.items():
        if content is None:
            files.pop(name)
        else:
            files[name] = content
    if "MANIFEST" not in change:
        files.pop("MANIFEST")
        files["MANIFEST"] = manifest(files)
    return pack(files)


def flipped(content: bytes, at: int, bit: int = 1) -> bytes:
    made = bytearray(content)
    made[at] ^= bit
    return bytes(made)


class Shell:
    """``verify.sh`` of a bundle, run where it was unpacked, by somebody who is not root."""

    def __init__(self, raw: bytes, trust: TrustPolicy | None = TRUST) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="muniment-evidence-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.trust = trust
        for name, content in unpack(raw).items():
            path = self.folder / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if trust is not None:
            (self.folder / "mine").write_text(trust.render())
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def put(self, change: Mapping[str, bytes | None]) -> None:
        """Change files where they lie, without the manifest."""
        for name, content in change.items():
            path = self.folder / "bundle" / name
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)

    def __call__(self, *words: str) -> tuple[int, str]:
        mine = [] if self.trust is None else ["--trust", str(self.folder / "mine")]
        someone = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*someone, "bash", self.folder / "bundle" / "verify.sh", *mine, *words], capture_output=True, text=True,
            timeout=120, check=False, cwd="/",
        )  # fmt: skip
        assert done.stderr == "" or done.returncode == 2, done.stderr
        return done.returncode, done.stdout + done.stderr


def faults(out: str) -> list[str]:
    return [line.removeprefix("FAIL  ") for line in out.splitlines() if line.startswith("FAIL")]
