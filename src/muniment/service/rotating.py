"""Change the ledger's keys: announce one, let both sign for a while, retire the other. `keyring` says what that means.

Each step is one entry and the checkpoint over it. A crash in between leaves the entry waiting for its checkpoint;
running the same step again records nothing twice and ends it.
"""

from __future__ import annotations

from collections.abc import Callable

from muniment.core.errors import Conflict, Misconfigured, Refused
from muniment.core.events import Event, KeyAnnounced, KeyRetired
from muniment.ledger.errors import LedgerFault
from muniment.ledger.note import Signer, Verifier
from muniment.ledger.signatures import ED25519, ML_DSA_44
from muniment.ports import Append
from muniment.service.desk import ATTEMPTS, KEYS, Caller, Desk, operators_only
from muniment.service.documents import Document
from muniment.service.keyring import Keyring, in_force, read, short, signed_by
from muniment.service.sealing import seal

ALGORITHMS = {ED25519: "Ed25519", ML_DSA_44: "ML-DSA-44"}


def announce(desk: Desk, caller: Caller, signer: Signer) -> Document:
    """Put a key on record, under a checkpoint of those that sign now. It may sign from the next checkpoint on.

    Raises:
        Refused: the caller is no operator, or the key was retired.
        Misconfigured: no key that is in force is configured here.
    """
    operators_only(caller)
    verifier = signer.verifier
    seal(desk)  # what signs now must be able to: or the announcement would wait, and nobody vouch for it

    def step(ring: Keyring) -> Event | None:
        if verifier.vkey in ring.retired:
            raise Refused(
                f"the key {short(verifier)} was retired, and no retired key comes back",
                remedy="Make another one.",
                code="refused.retired-key",
            )
        beside = tuple(each.vkey for each in in_force(desk))
        if verifier.vkey in ring.announced or verifier.vkey in beside:
            return None
        return KeyAnnounced(vkey=verifier.vkey, beside=beside)

    _record(desk, caller, step)
    return status(desk)


def retire(desk: Desk, caller: Caller, which: str) -> Document:
    """Put on record that a key signs no more. The others must have signed beside it.

    Args:
        desk: the adapters.
        caller: an operator.
        which: its vkey, or name and id as `short` writes them, or the id.

    Raises:
        Refused: the caller is no operator, or no other Ed25519 key that is configured here has signed yet.
    """
    operators_only(caller)
    key = _named(desk, which)
    seal(desk)

    def step(ring: Keyring) -> Event | None:
        if key.vkey in ring.retired:
            return None
        here = {signer.verifier.vkey for signer in desk.signers}
        remaining = [
            each
            for each in in_force(desk)
            if each != key and each.vkey in here and each.vkey not in ring.retired
        ]
        if not any(each.kind == ED25519 for each in remaining):
            raise Refused(
                f"{short(key)} is the only Ed25519 key that has signed the newest checkpoint and is configured here",
                remedy="Announce its successor, put it into [ledger] also_sign, and let both sign for a while.",
                code="refused.last-key",
            )
        return KeyRetired(vkey=key.vkey, remaining=tuple(each.vkey for each in remaining))

    _record(desk, caller, step)
    return status(desk)


def status(desk: Desk) -> Document:
    """Every key of this ledger, what it does now, and what to do next."""
    ring, newest = read(desk), desk.ledger.kept.newest()
    signed = signed_by(newest.note) if newest else {}
    here = {signer.verifier.vkey for signer in desk.signers}
    keys = [
        {
            "key": short(key), "vkey": key.vkey, "algorithm": ALGORITHMS.get(key.kind, "?"),
            "state": _state(key, ring, (key.name, key.key_id) in signed, key.vkey in here, first=newest is None),
            "announced": ring.announced.get(key.vkey), "retired": ring.retired.get(key.vkey),
            "configured": key.vkey in here,
        }
        for key in desk.verifiers
    ]  # fmt: skip
    return {
        "origin": desk.store.origin,
        "size": newest.size if newest else 0,
        "keys": keys,
        "next": _next(keys),
    }


def _state(key: Verifier, ring: Keyring, signed: bool, configured: bool, *, first: bool) -> str:
    if key.vkey in ring.retired:
        return "retired"
    if signed or (first and configured):
        return "signs"
    if ring.announced.get(key.vkey) is not None:
        return "announced"
    return "waits for its announcement to be sealed" if key.vkey in ring.announced else "not announced"


def _next(keys: list[Document]) -> list[str]:
    said = []
    for each in keys:
        name = each["key"]
        match each["state"], each["configured"]:
            case "announced", False:
                said.append(f"put the reference to {name} into [ledger] also_sign, and restart every node")
            case "announced", True:
                said.append(f"{name} signs from the next checkpoint on")
            case "not announced", True:
                said.append(
                    f"{name} is configured and signs nothing: announce it by `muniment admin rotate-key`"
                )
            case "retired", True:
                said.append(f"take {name} out of the configuration, then destroy it")
            case _:
                pass
    both = [each["key"] for each in keys if each["state"] == "signs" and each["algorithm"] == "Ed25519"]
    if len(both) > 1:
        said.append(
            f"give auditors and witnesses the vkeys of {' and '.join(both)}; when all have them, retire the old one"
        )
    return said


def _record(desk: Desk, caller: Caller, step: Callable[[Keyring], Event | None]) -> None:
    for attempt in range(ATTEMPTS):
        stream, _ = desk.store.read(KEYS)
        event = step(read(desk))
        if event is None:
            break
        try:
            desk.store.append(Append(stream=stream, actor=caller.actor, events=(event,), at=desk.clock.now()))
        except Conflict:
            if attempt + 1 == ATTEMPTS:
                raise
            continue
        break
    seal(desk)


def _named(desk: Desk, which: str) -> Verifier:
    found = [key for key in desk.verifiers if which in {key.vkey, short(key), key.key_id.hex()}]
    if len(found) != 1:
        raise Refused(
            f"{which!r:.80} names {'several keys' if found else 'no key'} of this ledger",
            remedy="`muniment admin rotate-key` shows them.",
            code="refused.unknown-key",
        )
    return found[0]


def opened(desk: Desk, reference: str) -> Signer:
    """The key that a reference names.

    Raises:
        Misconfigured: it names none, or this process can open none.
    """
    if desk.open_signer is None:
        raise Misconfigured("this process opens no keys", remedy="Run it where the configuration is.")
    try:
        signer = desk.open_signer(reference)
        _ = signer.verifier
    except LedgerFault as fault:
        raise Misconfigured(
            f"the new key cannot be used: {fault}", remedy="Make another one.", code=fault.code
        ) from fault
    return signer
