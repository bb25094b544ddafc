"""Is this store the one that was published last? A restored backup, or a copy that somebody changed, is not (I26).

What was shown to others cannot be taken back: a store that ends before it, or differs from it, must not sign, record
or grant anything, or the ledger has two histories and none is evidence. The process goes on reading, and takes away
what is over; `recovering` says how to get out of it.
"""

from __future__ import annotations

from muniment.core.errors import IntegrityError, RolledBack, SignerRefused, SignerUnavailable
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.errors import LedgerFault
from muniment.ledger.merkle import Frontier, leaf_hash
from muniment.ledger.note import open_note, parse_note
from muniment.service.desk import Desk

WAY_OUT = (
    "Nothing is recorded or granted here, and what is over is still taken away."
    " Stop every node, then see docs/how-to/recover-the-ledger.md: `muniment admin recover` puts back what was published."
)


def guard(desk: Desk) -> None:
    """Compare with what was published. Call at the start, and before each signing.

    Raises:
        RolledBack: this store is older, or has another history; the store is halted.
        IntegrityError: what lies where the ledger is published is not ours.
    """
    if desk.store.halted is not None:
        raise desk.store.halted
    note = desk.tiles.checkpoint() if desk.tiles else None
    if note is None:
        return
    where = str(desk.tiles.root) if desk.tiles else ""
    compare(desk, _published(desk, note, where), where)


def compare(desk: Desk, published: Checkpoint, where: str) -> None:
    """Compare with a checkpoint that others were shown. Raises as `guard`.

    ``where``: who has it, for the message.
    """
    if published.size == 0:
        return
    kept = desk.ledger.kept.at(published.size)
    if kept is not None and Checkpoint.parse(parse_note(kept.note).text).root == published.root:
        return
    size, newest = desk.ledger.head().size, desk.ledger.kept.newest()
    held = kept is None and published.size <= size and _root(desk, published.size) == published.root
    if held and newest is not None:
        return  # a checkpoint that is not kept here; what it covers is
    if held:  # none is published before it is kept, so somebody emptied the table
        what = f"keeps no checkpoint any more, and {where} has one of ours over {published.size} entries"
    elif size < published.size or newest is None or newest.size < published.size:
        what = (
            f"ends at entry {size}, and {where} has a checkpoint of ours over {published.size}: it is older"
        )
    else:
        what = f"has another history than the checkpoint over {published.size} entries that {where} has"
    error = RolledBack(f"this store {what}", remedy=WAY_OUT)
    desk.store.halt(error)
    raise error


def _root(desk: Desk, size: int) -> bytes:
    return Frontier().extend(leaf_hash(entry) for _, entry in desk.ledger.entries(upto=size)).root()


def _published(desk: Desk, note: str, where: str) -> Checkpoint:
    try:
        verifiers = desk.verifiers
    except (SignerUnavailable, SignerRefused):  # comparing needs no key; signing does, and asks again
        verifiers = ()
    try:
        text = open_note(note, verifiers).text if verifiers else parse_note(note).text
        checkpoint = Checkpoint.parse(text)
    except LedgerFault as fault:
        raise IntegrityError(
            f"the checkpoint in {where} is not ours: {fault}",
            remedy="Set [ledger] tiles to this ledger's own folder, or find out who changed it.",
        ) from fault
    if checkpoint.origin != desk.store.origin:
        raise IntegrityError(
            f"{where} holds the ledger {checkpoint.origin}, not {desk.store.origin}",
            remedy="Set [ledger] tiles to this ledger's own folder.",
        )
    return checkpoint
