"""The demo's last steps: the ledger verifies; a copy in which one byte is not as it was is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from muniment.demo.play import Play
from muniment.demo.telling import Told, require
from muniment.service import ledgering
from muniment.service.documents import Document, ticket_document
from muniment.service.sealing import seal

#: the bit that makes a `y` an `x`
_BIT = 0x01


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """The one byte that was changed."""

    ticket: str
    seq: int
    offset: int  # in the stored bytes of the entry
    was: str  # the word around it, before and after
    now: str


def _copy(store: Path, to: Path) -> None:
    """Copy a SQLite store while it is in use, through SQLite itself."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def flip_one_byte(store: Path, ticket: str, kind: str, word: str) -> Flip:
    """Change the second letter of ``word`` in the ticket's first entry of a kind.

    The trigger that says "append only" is dropped first: it is there for the careless, and stops nobody who means it.
    """
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        rows = connection.execute("SELECT id, seq, body FROM event WHERE stream = ? ORDER BY seq", (ticket,))
        wanted = f'"type":"{kind}"'.encode()
        key, seq, body = next(row for row in rows.fetchall() if wanted in row[2])
        offset = body.index(word.encode()) + 1
        forged = bytearray(body)
        forged[offset] ^= _BIT
        connection.execute("DROP TRIGGER event_no_update")
        connection.execute("UPDATE event SET body = ? WHERE id = ?", (bytes(forged), key))
        (stored,) = connection.execute("SELECT body FROM event WHERE id = ?", (key,)).fetchone()
    changed = [at for at, (old, new) in enumerate(zip(body, stored, strict=True)) if old != new]
    require(changed == [offset], "exactly one byte differs")
    now = stored[offset - 1 : offset - 1 + len(word)].decode()
    return Flip(ticket=ticket, seq=seq, offset=offset, was=word, now=now)


def verifies(play: Play) -> Told:
    desk = play.stage.desk
    require(play.stage.controllers.stop(), "the controllers end what they are at")
    seal(desk)
    play.ledger = document = ledgering.verify(desk, key=play.auditors_key)
    stored, waiting, leaves = desk.ledger.counts()
    require(document["ok"] and document["events"] == stored == leaves and not waiting, _faults(document))
    play.tickets = [
        ticket_document(desk, play.reached(ticket, status))
        for ticket, status in ((play.access, "closed"), (play.certificate, "active"))
    ]
    sealed = all(t["ledger"]["events"] == t["ledger"]["sealed"] for t in play.tickets)
    require(sealed, "both tickets are sealed whole")
    levels = {"V1": "signature", "V2": "tree", "V3": "chains", "V4": "rules", "V5": "times"}
    return Told(
        f"is sealed and verifies: {stored} entries, all hashed again, under the key noted at the start.",
        ", ".join(f"{name} {levels.get(name, '')} ok" for name in document["levels"]),
    )


def forges(play: Play) -> Told:
    ticket = play.reached(play.access, "closed")
    store = play.stage.folder / "forged.db"
    _copy(play.stage.folder / "var/muniment.db", store)
    require(_verified(play)["ok"], "the copy verifies before it is touched")
    flip = flip_one_byte(store, ticket.id, "approval-recorded/1", "cyd@example.com")
    play.tampered = {"changed": {name: getattr(flip, name) for name in flip.__struct_fields__}}
    return Told(
        "copies the store, drops the copy's append-only trigger and changes one byte in the approval.",
        f"entry {flip.seq} of {ticket.id}:",
        f"{flip.was} becomes {flip.now}",
        refused=True,
    )


def refuses(play: Play) -> Told:
    changed: dict[str, Any] = (play.tampered or {})["changed"]
    document = _verified(play)
    play.tampered = {"ok": document["ok"], "changed": changed, **document}
    faults = {name: level["first_fault"] for name, level in document["levels"].items() if not level["ok"]}
    require(not document["ok"] and {"V2", "V3", "V4"} <= faults.keys(), "it sees that the copy was changed")
    place = f"ticket {changed['ticket']!r}, seq {changed['seq']},"
    named = [fault for fault in faults.values() if place in fault]
    require(named, f"it names the entry; it says {faults}")
    return Told("refuses the copy and names the entry.", *named, refused=True)


def _verified(play: Play) -> Document:
    """Verify the copy."""
    desk = play.stage.with_store(play.stage.folder / "forged.db")
    try:
        return ledgering.verify(desk, key=play.auditors_key)
    finally:
        desk.store.engine.dispose()


def _faults(document: Document) -> str:
    return "; ".join(str(level["first_fault"]) for level in document["levels"].values() if not level["ok"])
