"""V3, the entries: canonical form, a whole envelope of this log, and the chain of every ticket.

The entries of a ticket are ``seq`` 0, 1, 2, … without gap or repeat, each naming the leaf hash of the one before. A
pass may be split: every ticket whole, to any one of several `Chains`. Memory holds 40 bytes and the name of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from muniment.ledger.entry import Entry, decode_entry
from muniment.ledger.errors import LedgerFault
from muniment.ledger.merkle import leaf_hash


class Chains:
    """Fed with entries in the order of the log. After the first fault nothing more is looked at."""

    def __init__(self, origin: str) -> None:
        """``origin``: the log that every entry must name."""
        self.checked = 0  # entries, the faulty one included
        self.fault: str | None = None
        self.at: int | None = None  # index of the faulty one
        self._origin = origin
        #: per ticket: eight bytes of the last seq, then the leaf hash. One bytes object, since there may be millions
        self._last: dict[str, bytes] = {}

    def feed(self, index: int, raw: bytes, digest: bytes | None = None) -> Entry | None:
        """Check one entry; return it, or None if it or one before is faulty. ``digest``: its leaf hash, if known."""
        if self.fault is not None:
            return None
        self.checked += 1
        try:
            entry = decode_entry(raw, strict=True)
        except LedgerFault as fault:
            self._found(index, f"leaf {index}{_place(raw)}: {fault}")
            return None
        if entry.log != self._origin:
            wrong: str | None = f"it belongs to the log {entry.log!r:.60}, not to {self._origin!r:.60}"
        else:
            wrong = _broken(self._last.get(entry.ticket), entry.seq, entry.prev)
        if wrong is not None:
            self._found(index, f"leaf {index}, ticket {entry.ticket!r:.80}, seq {entry.seq}: {wrong}")
            return None
        self._last[entry.ticket] = entry.seq.to_bytes(8, "big") + (digest or leaf_hash(raw))
        return entry

    def feed_all(self, block: Sequence[tuple[int, bytes]], hashes: Sequence[bytes]) -> None:
        """Check several, whose leaf hashes are known."""
        for (index, raw), digest in zip(block, hashes, strict=True):
            self.feed(index, raw, digest)

    def _found(self, index: int, fault: str) -> None:
        self.at, self.fault = index, fault


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


def _place(raw: bytes) -> str:
    """Ticket and seq of a faulty entry, if it can be read at all; they help to find it, and prove nothing."""
    try:
        entry = decode_entry(raw)
    except LedgerFault:
        return ""
    return f", ticket {entry.ticket!r:.80}, seq {entry.seq!s:.20}"
