"""The ledger from the outside: the checkpoint, the whole verification, and the proof of one ticket."""

from __future__ import annotations

from collections.abc import Callable

from muniment.core.errors import NotFound, StampRefused, StampUnavailable
from muniment.evidence.progress import Progress
from muniment.ledger.checkpoint import open_checkpoint
from muniment.ledger.head import Checkpoint
from muniment.ledger.merkle import inclusion_proof
from muniment.ledger.note import Verifier, parse_note
from muniment.ledger.proof import Proof
from muniment.ledger.trust import TrustPolicy
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.service.keyring import in_force
from muniment.service.publishing import cosigned_note
from muniment.service.sealing import seal
from muniment.service.stamping import stamp, stamps
from muniment.service.verifying import verify_store
from muniment.service.witnessing import ask, attendance, standing, witnessed_size


def checkpoint(desk: Desk) -> Document:
    """Seal what waits, show it to the witnesses, and return the signed checkpoint over everything."""
    seal(desk)
    ask(desk)
    unstamped = _stamped(desk)
    size = desk.ledger.kept.published_size()
    note = cosigned_note(desk, size)
    head = Checkpoint.parse(parse_note(note).text)
    witnesses = attendance(desk, size)
    return {
        "origin": head.origin, "size": head.size, "root": "sha256:" + head.root.hex(), "vkey": vkey(desk),
        "vkeys": [verifier.vkey for verifier in desk.verifiers], "checkpoint": note,
        "witnesses": witnesses, "says": standing(witnesses),
        "stamps": stamps(desk, size), "unstamped": unstamped,
        "quorum": {"needed": desk.quorum, "met": bool(desk.quorum) and witnessed_size(desk) >= size},
    }  # fmt: skip


def _stamped(desk: Desk) -> str | None:
    """Have it stamped, where an authority is configured; return what is in the way of it."""
    try:
        stamp(desk)
    except (StampUnavailable, StampRefused) as error:
        return error.message
    return None


def vkey(desk: Desk) -> str:
    """The log's public key in force, as auditors keep it."""
    if not (keys := in_force(desk)):
        raise NotFound(
            "there is no ledger key here", remedy="Set [ledger] key, or run this where the key is."
        )
    return keys[0].vkey


def verify(desk: Desk, progress: Callable[[int], None] | None = None, *, key: str | None = None) -> Document:
    """Verify the store's ledger at every level, in this process.

    Args:
        desk: the adapters.
        progress: told how many entries were read.
        key: the auditor's own copy of the log's vkey; without it ours is used, which proves less.
    """
    told = Progress((lambda done, _: progress(done)) if progress else (lambda _done, _total: None))
    trust = TrustPolicy(log=(Verifier.from_vkey(key),)) if key else None
    return verify_store(desk, trust=trust, progress=told)


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
