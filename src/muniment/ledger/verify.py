"""Verify a whole log from its bytes. What was stored as a hash is never believed: everything is hashed again.

Three levels, reported apart, because they fail for different reasons:

- V1, the signature: the checkpoint is signed by the log's key and names the expected origin.
- V2, the tree: hashing the entries gives the checkpoint's root over exactly its size. Without V1 this compares with
  what the checkpoint claims.
- V3, the entries: each is in canonical form, with a whole envelope that names this log; the entries of a ticket are
  ``seq`` 0, 1, 2, … without gap or repeat, each naming the leaf hash of the one before. Entries beyond the
  checkpoint, not sealed yet, are checked here as well, and by V2 not.

A level stops at its first fault, since what follows a broken place is seldom news; the others go on. One pass;
memory holds one block of entries and 40 bytes plus the name for each ticket.

Not checked here: rules of the domain, the claimed times, witnesses, and whether a log that verifies is the one that
others were shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from itertools import islice

import msgspec

from muniment.ledger.chains import Chains
from muniment.ledger.checkpoint import Checkpoint, open_checkpoint
from muniment.ledger.errors import LedgerFault, WrongOrigin
from muniment.ledger.merkle import Frontier
from muniment.ledger.note import Verifier, parse_note

#: the levels, in the order in which a report shows them
LEVELS = ("V1", "V2", "V3")

_BLOCK = 1024  # entries in memory at a time; the tree is hashed fastest in such blocks


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What one level found."""

    ok: bool
    checked: int  # checkpoints (V1) or entries (V2, V3) looked at, the faulty one included
    first_fault: str | None = None  # a sentence that names index, ticket and seq where they are known


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify_log` found, in the shape that ``ledger verify --json`` prints."""

    ok: bool  # every level asked for is
    events: int  # entries read
    levels: dict[str, Level]  # those asked for


def verify_log(
    entries: Iterable[tuple[int, bytes]],
    note: str | bytes,
    verifier: Verifier,
    *,
    origin: str,
    levels: Collection[str] = LEVELS,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Check ``entries`` against a signed checkpoint. A fault is in the report, never an exception.

    Args:
        entries: index, from 0, and stored bytes of every entry, in order. Read once, and not at all if V1 alone is
            asked for.
        note: the signed checkpoint.
        verifier: the log's key, from one's own trust file.
        origin: the log one means to verify.
        levels: which of `LEVELS` to check.
        progress: told the number of entries read so far, every thousand or so.

    Raises:
        ValueError: ``levels`` names a level that does not exist, or none at all.
    """
    if not levels or not set(levels) <= set(LEVELS):
        raise ValueError(f"levels are some of {', '.join(LEVELS)}, not {sorted(levels)}")
    tree = _Tree(note) if "V2" in levels else None
    chains = Chains(origin) if "V3" in levels else None
    events = 0
    if tree is not None or chains is not None:
        source = iter(entries)
        while block := list(islice(source, _BLOCK)):
            hashes = [sha256(b"\x00" + entry).digest() for _, entry in block]
            if tree is not None:
                tree.feed(block, hashes)
            if chains is not None:
                chains.feed_all(block, hashes)
            events += len(block)
            if progress is not None:
                progress(events)
    found = {}
    if "V1" in levels:
        found["V1"] = _signature(note, verifier, origin)
    if tree is not None:
        found["V2"] = tree.result()
    if chains is not None:
        found["V3"] = Level(ok=chains.fault is None, checked=chains.checked, first_fault=chains.fault)
    return Report(ok=all(level.ok for level in found.values()), events=events, levels=found)


def _signature(note: str | bytes, verifier: Verifier, origin: str) -> Level:
    """V1."""
    try:
        checkpoint = open_checkpoint(note, verifier)
        if checkpoint.origin != origin:
            raise WrongOrigin(f"it is a checkpoint of {checkpoint.origin}, not of {origin}")
    except LedgerFault as fault:
        return Level(ok=False, checked=1, first_fault=f"checkpoint: {fault}")
    return Level(ok=True, checked=1)


class _Tree:
    """V2: the root over the first ``size`` entries, and that they are all there."""

    def __init__(self, note: str | bytes) -> None:
        self.frontier = Frontier()
        self.fault: str | None = None
        self.claimed: Checkpoint | None = None
        try:
            self.claimed = Checkpoint.parse(parse_note(note).text)
        except LedgerFault as fault:
            self.fault = f"checkpoint: no size and root to compare the entries with: {fault}"

    def feed(self, block: list[tuple[int, bytes]], hashes: list[bytes]) -> None:
        """Take up a block, as far as the checkpoint covers it."""
        if self.fault is not None or self.claimed is None:
            return
        start = self.frontier.size
        wanted = min(len(block), self.claimed.size - start)
        indexes = [index for index, _ in block[:wanted]]
        if indexes != list(range(start, start + wanted)):
            wanted = next(at for at, index in enumerate(indexes) if index != start + at)
            self.fault = _out_of_order(start + wanted, indexes[wanted])
        self.frontier = self.frontier.extend(hashes[:wanted])

    def result(self) -> Level:
        """Compare with the checkpoint, now that every entry is in."""
        checked, claimed = self.frontier.size, self.claimed
        if self.fault is None and claimed is not None:
            root = self.frontier.root()
            if checked < claimed.size:
                self.fault = (
                    f"leaf {checked} is missing, and all that follow:"
                    f" the checkpoint covers {claimed.size} leaves, {checked} are there"
                )
            elif root != claimed.root:
                self.fault = (
                    f"leaves 0 to {checked - 1} are not those the checkpoint covers:"
                    f" their root is {root.hex()}, it says {claimed.root.hex()}"
                )
        return Level(ok=self.fault is None, checked=checked, first_fault=self.fault)


def _out_of_order(expected: int, index: int) -> str:
    if index > expected:
        return f"leaf {expected} is missing: leaf {index} comes in its place"
    return f"leaf {index} comes again where leaf {expected} belongs"
