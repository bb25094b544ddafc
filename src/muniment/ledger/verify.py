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

from muniment.ledger.checkpoint import Checkpoint, open_checkpoint
from muniment.ledger.entry import decode_entry
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
    chains = _Chains(origin) if "V3" in levels else None
    events = 0
    if tree is not None or chains is not None:
        source = iter(entries)
        while block := list(islice(source, _BLOCK)):
            hashes = [sha256(b"\x00" + entry).digest() for _, entry in block]
            if tree is not None:
                tree.feed(block, hashes)
            if chains is not None:
                chains.feed(block, hashes)
            events += len(block)
            if progress is not None:
                progress(events)
    found = {}
    if "V1" in levels:
        found["V1"] = _signature(note, verifier, origin)
    if tree is not None:
        found["V2"] = tree.result()
    if chains is not None:
        found["V3"] = chains.result()
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


class _Chains:
    """V3: form, envelope, log, and the chain of each ticket."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.checked = 0
        self.fault: str | None = None
        #: per ticket: eight bytes of the last seq, then the leaf hash. One bytes object, since there may be millions
        self.last: dict[str, bytes] = {}

    def feed(self, block: list[tuple[int, bytes]], hashes: list[bytes]) -> None:
        """Take up a block."""
        if self.fault is not None:
            return
        last, origin = self.last, self.origin
        for (index, raw), digest in zip(block, hashes, strict=True):
            self.checked += 1
            try:
                entry = decode_entry(raw, strict=True)
            except LedgerFault as fault:
                self.fault = f"leaf {index}{_place(raw)}: {fault}"
                return
            ticket, seq = entry.ticket, entry.seq
            if entry.log != origin:
                wrong: str | None = f"it belongs to the log {entry.log!r:.60}, not to {origin!r:.60}"
            else:
                wrong = _broken(last.get(ticket), seq, entry.prev)
            if wrong is not None:
                self.fault = f"leaf {index}, ticket {ticket!r:.80}, seq {seq}: {wrong}"
                return
            last[ticket] = seq.to_bytes(8, "big") + digest

    def result(self) -> Level:
        """What was found."""
        return Level(ok=self.fault is None, checked=self.checked, first_fault=self.fault)


def _broken(before: bytes | None, seq: int, prev: str | None) -> str | None:
    """Say how an entry fails to continue its ticket; None if it does not fail."""
    if before is None:
        return None if seq == 0 else f"the ticket begins here: seq 0 to {seq - 1} are missing"
    expected = int.from_bytes(before[:8], "big") + 1
    if seq < expected:
        return f"the ticket is at seq {expected - 1} already: the entry is repeated or out of order"
    if seq > expected:
        return f"seq {expected} was to come: something between is missing or out of order"
    if prev != "sha256:" + before[8:].hex():
        return f"prev is not the leaf hash of seq {expected - 1}: that entry or this one was changed"
    return None


def _out_of_order(expected: int, index: int) -> str:
    if index > expected:
        return f"leaf {expected} is missing: leaf {index} comes in its place"
    return f"leaf {index} comes again where leaf {expected} belongs"


def _place(raw: bytes) -> str:
    """Ticket and seq of a faulty entry, if it can be read at all; they help to find it, and prove nothing."""
    try:
        entry = decode_entry(raw)
    except LedgerFault:
        return ""
    return f", ticket {entry.ticket!r:.80}, seq {entry.seq!s:.20}"
