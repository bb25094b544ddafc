"""By which keys this ledger is signed: what the ledger itself says of them, and which of ours may sign now.

A key is announced in the ledger before it signs anything, so that those who sign already vouch for it: the announcement
lies under a checkpoint of theirs. From then on both sign. When auditors and witnesses have the new key, the old one is
retired, again by an entry, and signs nothing that covers it. The keys that signed the first checkpoint need no
announcement: nobody could vouch for them.

So whoever has the key in force at any time finds, in what that key signed, the one that followed it.
"""

from __future__ import annotations

import msgspec

from muniment.core.errors import Misconfigured
from muniment.core.events import KeyAnnounced, KeyRetired
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.errors import LedgerFault
from muniment.ledger.note import Signer, Verifier, parse_note
from muniment.ledger.signatures import ED25519
from muniment.service.desk import KEYS, Desk


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger says of its keys. Places are indexes of leaves; None while an entry waits for its leaf."""

    announced: dict[str, int | None]  # by vkey
    retired: dict[str, int | None]  # by vkey


def read(desk: Desk) -> Keyring:
    """Read it from the entries."""
    announced: dict[str, int | None] = {}
    retired: dict[str, int | None] = {}
    places = desk.ledger.indexes_of(KEYS)  # of a stream, in order, without a gap
    for recorded in desk.store.entries(KEYS):
        place = places[recorded.seq] if recorded.seq < len(places) else None
        match recorded.event:
            case KeyAnnounced(vkey=vkey):
                announced.setdefault(vkey, place)
            case KeyRetired(vkey=vkey):
                retired.setdefault(vkey, place)
            case _:
                pass
    return Keyring(announced=announced, retired=retired)


def signing(desk: Desk, head: Checkpoint) -> tuple[Signer, ...]:
    """Those of this process's keys that may sign ``head``.

    Raises:
        Misconfigured: none of them may; the sentence says why of each.
    """
    newest = desk.ledger.kept.newest()
    if newest is None:
        return desk.signers
    ring, signed = read(desk), signed_by(newest.note)
    chosen, reasons = [], []
    for signer in desk.signers:
        verifier = signer.verifier
        retired = ring.retired.get(verifier.vkey)
        announced = ring.announced.get(verifier.vkey)
        if retired is not None and retired < head.size:
            reasons.append(f"{short(verifier)} was retired at entry {retired}")
        elif (verifier.name, verifier.key_id) in signed or (
            announced is not None and announced < newest.size
        ):
            chosen.append(signer)
        else:
            reasons.append(f"{short(verifier)} was not announced in the ledger")
    if not any(signer.verifier.kind == ED25519 for signer in chosen):
        raise Misconfigured(
            f"no key that is configured here may sign this ledger: {'; '.join(reasons)}",
            remedy="Set [ledger] key to the one in force; a new one is announced first, by `muniment admin rotate-key`.",
            code="ledger.key-not-announced",
        )
    return tuple(chosen)


def in_force(desk: Desk) -> tuple[Verifier, ...]:
    """The keys that signed the newest checkpoint, in the order of their lines; before the first one, ours."""
    newest = desk.ledger.kept.newest()
    if newest is None:
        return tuple(signer.verifier for signer in desk.signers)
    known = {(each.name, each.key_id): each for each in desk.verifiers}
    return tuple(known[ident] for ident in signed_by(newest.note) if ident in known)


def signed_by(note: str) -> dict[tuple[str, bytes], None]:
    """Name and id of each key under a note, in order. Nothing is verified: the note is one that we kept."""
    try:
        return {(line.name, line.key_id): None for line in parse_note(note).signatures}
    except LedgerFault:
        return {}


def short(key: Verifier) -> str:
    """Name and id: enough to tell a key, and the first part of its vkey."""
    return f"{key.name}+{key.key_id.hex()}"
