"""The head of a log: origin, size and root on three lines, the text that log and witnesses sign.

Three lines and nothing else. The specification allows further ones, which no monitor can audit; we write none and
refuse any. It also lets origins be of any shape; ours can name a key, since the log's key is named like its origin.

Source: c2sp.org/tlog-checkpoint v1.0.0, "Note text".
"""

from __future__ import annotations

import msgspec

from muniment.ledger.errors import BadCheckpoint
from muniment.ledger.merkle import EMPTY_ROOT, HASH
from muniment.ledger.wire import MAX_NUMBER, good_name, read_base64, read_decimal, write_base64


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a log at one size. What it says is only as good as who signed it."""

    origin: str  # the log's name, such as ledger.example.com/muniment
    size: int  # leaves
    root: bytes  # 32 bytes

    def __post_init__(self) -> None:
        """Refuse a head that no log can have, wherever it comes from."""
        if not good_name(self.origin):
            raise BadCheckpoint(
                f"the origin is empty or has a space, a plus or a control character: {self.origin!r:.60}"
            )
        if not 0 <= self.size <= MAX_NUMBER:
            raise BadCheckpoint(f"the checkpoint of {self.origin} has an impossible size: {self.size}")
        if len(self.root) != HASH:
            raise BadCheckpoint(
                f"the root in the checkpoint of {self.origin} has {len(self.root)} bytes, not {HASH}"
            )
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise BadCheckpoint(
                f"the checkpoint of {self.origin} has no leaves but not the root of the empty tree"
            )

    def text(self) -> str:
        """The text that is signed, with its final newline."""
        return f"{self.origin}\n{self.size}\n{write_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note.

        Raises:
            BadCheckpoint: it is anything but origin, size and root on three lines.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:
            raise BadCheckpoint("a checkpoint has three lines, each with its newline: origin, size and root")
        if len(lines) > 4:
            raise BadCheckpoint(
                f"the checkpoint has an extension line, which nobody can audit: {lines[3]!r:.60}"
            )
        origin, size, root, _ = lines
        return cls(
            origin=origin,
            size=read_decimal(size, what="the size in the checkpoint", fault=BadCheckpoint),
            root=read_base64(root, what="the root in the checkpoint", fault=BadCheckpoint, length=HASH),
        )
