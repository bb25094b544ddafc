"""What a log says of its own keys: which one followed which, and at what place.

An announcement is worth something to whoever trusts a key that signed a checkpoint over it. Nothing here makes a key
trusted: that is the auditor's decision, and these sentences say what there is to decide on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from muniment.core.events import KeyAnnounced, KeyRetired, decode_data
from muniment.evidence.rules import KEYS
from muniment.ledger.entry import Entry, decode_entry
from muniment.ledger.errors import LedgerFault
from muniment.ledger.note import parse_note
from muniment.ledger.trust import Trusted, TrustPolicy

#: characters of a vkey that is shown whole: of Ed25519, and not of ML-DSA-44
_SHOWN = 400


class KeyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An entry about a key."""

    index: int
    at: str
    vkey: str
    others: tuple[str, ...]  # vkeys of those that signed beside it, or go on
    retired: bool  # else announced

    @property
    def key(self) -> str:
        """Name and id."""
        return short(self.vkey)


def key_event(index: int, entry: Entry) -> KeyEvent | None:
    """The entry, if it is about a key and can be read as that."""
    if entry.ticket != KEYS or entry.type not in {KeyAnnounced.kind, KeyRetired.kind}:
        return None
    try:
        event = decode_data(entry.type, entry.data)
    except msgspec.MsgspecError:
        return None
    match event:
        case KeyAnnounced(vkey=vkey, beside=others):
            return KeyEvent(index=index, at=entry.at, vkey=vkey, others=others, retired=False)
        case KeyRetired(vkey=vkey, remaining=others):
            return KeyEvent(index=index, at=entry.at, vkey=vkey, others=others, retired=True)
        case _:
            return None


def key_events(entries: Iterable[tuple[int, bytes]]) -> list[KeyEvent]:
    """All of them, found without reading the others."""
    found = []
    try:
        for index, raw in entries:
            if b'"ticket":"keys"' in raw and (event := key_event(index, decode_entry(raw))):
                found.append(event)
    except LedgerFault:
        pass  # other levels say so
    return found


def explained(
    note: str | bytes, trust: TrustPolicy, seen: Sequence[Trusted], events: Sequence[KeyEvent]
) -> str:
    """Why nobody whom one trusts has signed ``note``, if the log says why. Begins with a semicolon, or is empty.

    Args:
        note: the checkpoint that no trusted key has signed.
        trust: the auditor's.
        seen: older checkpoints that one of the auditor's keys has signed.
        events: what the log says of its keys.
    """
    mine = {short(key.vkey) for key in trust.log}
    signers = _signers(note)
    if seen:
        last = seen[-1]
        covered = [e for e in events if not e.retired and e.index < last.checkpoint.size and e.key in signers]
        if not covered:
            return (
                f"; {', '.join(last.log_keys)} signed until the checkpoint over {last.checkpoint.size} entries,"
                " and announced no other key under it: this is another's work until somebody explains it"
            )
        retired = [
            f", and entry {e.index} of {e.at} retired {e.key}" for e in events if e.retired and e.key in mine
        ]
        return (
            f"; {', '.join(last.log_keys)} signed until the checkpoint over {last.checkpoint.size} entries. Under it"
            f" entry {covered[0].index} of {covered[0].at} announces its successor {_shown(covered[0].vkey)}{''.join(retired)}."
            " Have the operator confirm the new key, and add it to your trust file"
        )
    if (heir := next((e for e in events if _follows(e, mine) and e.key in signers), None)) is not None:
        return (
            f"; entry {heir.index} of {heir.at} announces {_shown(heir.vkey)} beside your key. That your key vouches for it is"
            " shown by a checkpoint that it has signed over that entry, and none is here: ask for one, or have the operator"
            " confirm the new key, and add it to your trust file"
        )
    known = [e for e in events if not e.retired and e.key in mine]
    before = [short(vkey) for e in known for vkey in e.others if short(vkey) in signers]
    if not before:
        return ""
    return (
        f"; it is from before entry {known[0].index} of {known[0].at} announced your key: {', '.join(before)} signed then."
        " To verify the older checkpoints as well, add that key to your trust file"
    )


def misused(heads: Sequence[Trusted], events: Sequence[KeyEvent]) -> str | None:
    """A checkpoint that rests on a key that had been retired by then, or was not announced yet."""
    retired = {e.key: e.index for e in reversed(events) if e.retired}
    announced = {e.key: e.index for e in reversed(events) if not e.retired}
    for head in heads:
        size = head.checkpoint.size
        if all(retired.get(key, size) < size for key in head.log_keys):
            key = head.log_keys[0]
            return f"the checkpoint over {size} entries: it is signed by {key}, which entry {retired[key]} retired"
        if early := [key for key in head.log_keys if announced.get(key, -1) >= size]:
            return (
                f"the checkpoint over {size} entries: it is signed by {early[0]}, which was announced later, by entry"
                f" {announced[early[0]]}"
            )
    return None


def short(vkey: str) -> str:
    """Name and id, as `Trusted.log_keys` has them."""
    return "+".join(vkey.split("+", 2)[:2])


def _follows(event: KeyEvent, mine: set[str]) -> bool:
    return not event.retired and not mine.isdisjoint(map(short, event.others))


def _signers(note: str | bytes) -> set[str]:
    try:
        return {f"{line.name}+{line.key_id.hex()}" for line in parse_note(note).signatures}
    except LedgerFault:
        return set()


def _shown(vkey: str) -> str:
    return vkey if len(vkey) <= _SHOWN else short(vkey)
