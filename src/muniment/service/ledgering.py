"""The ledger from the outside: the checkpoint, the whole verification, and the proof of one ticket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from muniment.core.errors import IntegrityError, NotFound
from muniment.core.instants import wire
from muniment.ledger.checkpoint import open_checkpoint
from muniment.ledger.head import Checkpoint
from muniment.ledger.merkle import inclusion_proof
from muniment.ledger.note import Verifier, parse_note
from muniment.ledger.proof import Proof
from muniment.ledger.verify import Level, verify_log
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.service.publishing import cosigned_note
from muniment.service.sealing import seal
from muniment.service.witnessing import ask, witnessed_size
from muniment.store.rebuild import differences


def checkpoint(desk: Desk) -> Document:
    """Seal what waits, show it to the witnesses, and return the signed checkpoint over everything."""
    seal(desk)
    absent = ask(desk)
    size = desk.ledger.kept.published_size()
    note = cosigned_note(desk, size)
    head = Checkpoint.parse(parse_note(note).text)
    times = {each.name: each.time for each in reversed(desk.ledger.kept.cosignatures(size))}
    return {
        "origin": head.origin, "size": head.size, "root": "sha256:" + head.root.hex(), "vkey": vkey(desk),
        "vkeys": [verifier.vkey for verifier in desk.verifiers], "checkpoint": note,
        "witnesses": [
            {
                "name": w.name, "url": w.url,
                "cosigned_at": wire(datetime.fromtimestamp(times[w.name], UTC)) if w.name in times else None,
                "absent": absent[w.name].message if w.name in absent else None,
            }
            for w in desk.witnesses
        ],
        "quorum": {"needed": desk.quorum, "met": bool(desk.quorum) and witnessed_size(desk) >= size},
    }  # fmt: skip


def vkey(desk: Desk) -> str:
    """The log's public key, as auditors keep it."""
    if not desk.signers:
        raise NotFound(
            "there is no ledger key here", remedy="Set [ledger] key, or run this where the key is."
        )
    return desk.signers[0].verifier.vkey


def verify(desk: Desk, progress: Callable[[int], None] | None = None, *, key: str | None = None) -> Document:
    """Verify the store's ledger from its bytes: signature, tree, chains, and that the read models are their fold.

    Args:
        desk: the adapters.
        progress: told how many entries were read.
        key: the auditor's own copy of the log's vkey; without it ours is used, which proves less.
    """
    newest = desk.ledger.kept.newest()
    note = newest.note if newest else seal(desk)
    verifier = Verifier.from_vkey(key or vkey(desk))
    report = verify_log(_everything(desk), note, verifier, origin=desk.store.origin, progress=progress)
    levels = {**report.levels, "V4": _read_models(desk)}
    levels["V2"] = _nothing_removed(desk, levels["V2"])
    return {
        "ok": all(level.ok for level in levels.values()),
        "events": report.events,
        "levels": {name: msgspec.to_builtins(level) for name, level in levels.items()},
        "witnesses": [],
        "says": "operator-signed only: no witness has confirmed that others were shown the same ledger",
    }


def prove(desk: Desk, ticket: str) -> Document:
    """Proofs that every entry of a ticket is in the ledger, each a tlog-proof that standard tools can check."""
    note = seal(desk)
    size = open_checkpoint(note, Verifier.from_vkey(vkey(desk))).size
    indexes = desk.ledger.indexes_of(ticket)
    if not indexes:
        raise NotFound(f"the ledger holds nothing of {ticket!r:.60}", remedy="`muniment list` shows tickets.")
    hashes = desk.ledger.hashes(size)
    bodies = desk.ledger.bodies(indexes)
    return {
        "ticket": ticket,
        "vkey": vkey(desk),
        "checkpoint": note,
        "entries": [
            {
                "index": index,
                "entry": bodies[index].decode(),
                "proof": Proof(
                    index=index, hashes=tuple(inclusion_proof(index, hashes)), checkpoint=note
                ).text(),
            }
            for index in indexes
        ],
    }


def _everything(desk: Desk) -> Iterator[tuple[int, bytes]]:
    """Sealed entries, then those that wait: V3 looks at all of them."""
    count = 0
    for index, body in desk.ledger.entries():
        yield index, body
        count = index + 1
    yield from enumerate(desk.ledger.waiting(), start=count)


def _nothing_removed(desk: Desk, level: Level) -> Level:
    """Every stored entry is a leaf or waits to be one; fewer leaves than the head says means that some are gone."""
    stored, waiting, leaves = desk.ledger.counts()
    if level.ok and stored != waiting + leaves:
        fault = f"{stored} entries are stored, {leaves} sealed and {waiting} wait: {stored - waiting - leaves} belong nowhere"
        return Level(ok=False, checked=level.checked, first_fault=fault)
    return level


def _read_models(desk: Desk) -> Level:
    """V4, first part: what lists and controllers read is exactly what the entries say (I24)."""
    try:
        wrong = sorted(differences(desk.store))
    except IntegrityError as error:
        return Level(ok=False, checked=0, first_fault=error.message)
    fault = f"the read model of {wrong[0]} is not what its entries say ({len(wrong)} such)" if wrong else None
    return Level(ok=not wrong, checked=desk.store.count_tickets(), first_fault=fault)
