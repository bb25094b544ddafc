"""The proof file (``.tlog-proof``): one entry is in the log, checkable offline with the log's public key alone.

Line by line: ``c2sp.org/tlog-proof@v1``; optionally ``extra <base64>``, which nobody authenticates; ``index <n>``;
the inclusion hashes in base64 from the leaf to the root; an empty line; the signed checkpoint, verbatim.

To verify: read strictly, open the checkpoint with the log's key, then check the entry's bytes against its root. The
order matters: a root is worth nothing before its signature has been checked.

Source: c2sp.org/tlog-proof.
"""

from __future__ import annotations

import msgspec

from muniment.ledger.checkpoint import Checkpoint, open_checkpoint
from muniment.ledger.errors import BadProof
from muniment.ledger.merkle import HASH, verify_inclusion
from muniment.ledger.note import MAX_NOTE, Verifier
from muniment.ledger.wire import MAX_NUMBER, read_base64, read_decimal, read_text, write_base64

#: first line of the file
MAGIC = "c2sp.org/tlog-proof@v1"
#: hashes at most: the height of a tree of `MAX_NUMBER` leaves
MAX_HASHES = 63
#: bytes of extra data at most
MAX_EXTRA = 16 * 1024

_MAX_PROOF = MAX_NOTE + MAX_HASHES * 45 + MAX_EXTRA * 4 // 3 + 200  # characters of a file at most


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A proof file, taken apart and not verified."""

    index: int  # of the entry in the log, from 0
    hashes: tuple[bytes, ...]  # from the leaf's sibling upwards, 32 bytes each
    checkpoint: str  # the signed note, verbatim
    extra: bytes = b""  # opaque; not covered by any signature

    def __post_init__(self) -> None:
        """Refuse what no proof file can hold, so that writing and reading agree."""
        if not 0 <= self.index <= MAX_NUMBER:
            raise BadProof(f"the index in the proof is impossible: {self.index}")
        if len(self.hashes) > MAX_HASHES:
            raise BadProof(
                f"the proof has {len(self.hashes)} hashes; {MAX_HASHES} are the most any tree needs"
            )
        if any(len(each) != HASH for each in self.hashes):
            raise BadProof(f"a hash of the proof does not have {HASH} bytes")
        if len(self.extra) > MAX_EXTRA:
            raise BadProof(
                f"the extra data of the proof has {len(self.extra)} bytes; {MAX_EXTRA} are allowed"
            )
        read_text(self.checkpoint, limit=MAX_NOTE, what="the checkpoint of the proof", fault=BadProof)

    def text(self) -> str:
        """The file."""
        lines = [MAGIC]
        if self.extra:
            lines.append(f"extra {write_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines.extend(write_base64(each) for each in self.hashes)
        return "\n".join(lines) + "\n\n" + self.checkpoint

    @classmethod
    def parse(cls, raw: str | bytes) -> Proof:
        """Read a file strictly; its checkpoint is only cut out, `verify_proof` opens it.

        Raises:
            BadProof: says which line is not as the format wants it.
        """
        file = read_text(raw, limit=_MAX_PROOF, what="the proof", fault=BadProof)
        # the first empty line: no line above the checkpoint is empty, and the checkpoint has one of its own
        head, empty, checkpoint = file.partition("\n\n")
        if not empty:
            raise BadProof("the proof has no empty line before its checkpoint")
        magic, *lines = head.split("\n")
        if magic != MAGIC:
            raise BadProof(f"the first line of the proof is not {MAGIC}: {magic!r:.60}")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = read_base64(lines.pop(0)[6:], what="the extra data of the proof", fault=BadProof)
            if not extra:
                raise BadProof("the proof has an extra line without data; such a line is left out")
        if not lines or not lines[0].startswith("index "):
            raise BadProof("the proof has no index line where it belongs")
        index = read_decimal(lines.pop(0)[6:], what="the index in the proof", fault=BadProof)
        if len(lines) > MAX_HASHES:
            raise BadProof(f"the proof has {len(lines)} hashes; {MAX_HASHES} are the most any tree needs")
        hashes = tuple(
            read_base64(line, what=f"hash {at} of the proof", fault=BadProof, length=HASH)
            for at, line in enumerate(lines)
        )
        return cls(index=index, hashes=hashes, checkpoint=checkpoint, extra=extra)


def verify_proof(entry: bytes, proof: str | bytes, verifier: Verifier) -> Checkpoint:
    """Check that the log of ``verifier`` holds ``entry``; return the checkpoint that covers it.

    Args:
        entry: stored bytes of the entry.
        proof: the proof file.
        verifier: the log's key, from one's own trust file, never from the bundle.

    Raises:
        BadProof: the file is malformed, or does not lead from the entry to the root.
        BadNote: the checkpoint in it is not a note.
        BadSignature: its signature does not verify.
        WrongKey: it is not signed by the log's key.
        BadCheckpoint: its text is not a checkpoint.
        WrongOrigin: it is a checkpoint of another log.
    """
    parsed = Proof.parse(proof)
    checkpoint = open_checkpoint(parsed.checkpoint, verifier)
    verify_inclusion(entry, parsed.index, checkpoint.size, parsed.hashes, checkpoint.root)
    return checkpoint
