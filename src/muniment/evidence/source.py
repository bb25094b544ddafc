"""What is verified: entries and tiles to read, and the checkpoints beside the newest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from muniment.ledger.scan import Combined, RangeFound

#: how faults call the checkpoint that is verified
NEWEST = "checkpoint"


class Source(Protocol):
    """A log to read. It is sent to other processes."""

    @property
    def name(self) -> str:
        """What it is, for a verification that goes on later."""

    @property
    def size(self) -> int:
        """Entries under the checkpoint."""

    def hash_range(self, start: int, sizes: Sequence[int]) -> RangeFound:
        """Hash one range, and compare with what is stored of it."""

    def higher_levels(self, tree: Combined) -> str | None:
        """Compare what is stored above the ranges."""

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Every entry, those that no checkpoint covers yet last. Raises `LedgerFault` if one cannot be read."""


class Older(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint beside the newest: one that was published, or that the auditor kept."""

    where: str  # how faults call it: checkpoints/42, or the auditor's own file
    note: str
    size: int | None = None  # what it must cover, where its name says so
