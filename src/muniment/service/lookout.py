"""The ledger as a page shows it: how far it is sealed, signed, published and cosigned, in a few questions to the store."""

from __future__ import annotations

from datetime import datetime

import msgspec

from muniment.service import keyring
from muniment.service.auditing import require_auditor
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.service.witnessing import attendance, standing
from muniment.store.checkpoints import Kept


class Lookout(msgspec.Struct, frozen=True, kw_only=True):
    """Where the ledger stands."""

    origin: str
    vkeys: tuple[str, ...]  # in force first
    size: int  # entries in the tree
    waiting: int  # entries that no leaf holds yet
    lag: float  # seconds since the oldest of those was written
    signed: int  # entries under the newest signed checkpoint
    published: int  # and under the newest published one
    newest: Kept | None
    checkpoints: list[Seen]
    witnesses: list[Document]
    says: str  # whose word the newest published checkpoint is
    quorum: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A published checkpoint, and who confirmed it."""

    size: int
    at: datetime
    witnesses: tuple[str, ...]
    stamps: int


def look(desk: Desk, caller: Caller, *, before: int | None = None, limit: int = 20) -> Lookout:
    """Where it stands, with its newest checkpoints."""
    require_auditor(caller)
    kept = desk.ledger.kept
    newest, published = kept.newest(), kept.published_size()
    oldest = desk.views.oldest_unsealed()
    witnesses = attendance(desk, published)
    return Lookout(
        origin=desk.store.origin,
        vkeys=tuple(dict.fromkeys(v.vkey for v in (*keyring.in_force(desk), *desk.verifiers))),
        size=desk.ledger.head().size,
        waiting=desk.ledger.backlog(),
        lag=max(0.0, (desk.clock.now() - oldest).total_seconds()) if oldest else 0.0,
        signed=newest.size if newest else 0,
        published=published,
        newest=newest,
        checkpoints=checkpoints(desk, caller, before=before, limit=limit),
        witnesses=witnesses,
        says=standing(witnesses),
        quorum=desk.quorum,
    )


def checkpoints(desk: Desk, caller: Caller, *, before: int | None, limit: int) -> list[Seen]:
    """Published checkpoints, newest first, each with who confirmed it."""
    require_auditor(caller)
    return [
        Seen(size=size, at=at, witnesses=names, stamps=stamps)
        for size, at, names, stamps in desk.ledger.kept.recent(before=before, limit=limit)
    ]
