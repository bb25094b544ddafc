"""The ledger for auditors: the checkpoint and the tiles of C2SP tlog-tiles, as the standard's tools ask for them."""

from __future__ import annotations

import re

from muniment.api import answers
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import NotFound
from muniment.core.identity import Role
from muniment.service import ledgering
from muniment.service.documents import Document

routes = Routes("ledger")
AUDITORS: frozenset[Role] = frozenset({"auditor"})

#: paths of tlog-tiles: hash tiles at six bits of level, bundles of entries, both whole or partial
_TILE = re.compile(
    r"(?:[0-5]?\d|6[0-3]|entries)/(?:x\d{3}/)*\d{3}(?:\.p/(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-5]))?", re.ASCII
)
_UNCHANGING = "max-age=31536000, immutable"


@routes.get("/ledger/checkpoint", answer="text/plain", scope="ledger", roles=AUDITORS)
def get_checkpoint(call: Call) -> Plain:
    """Get the newest published checkpoint, a signed note."""
    note = call.desk.tiles.checkpoint() if call.desk.tiles else None
    if note is None:
        raise _nothing()
    return Plain(
        body=note.encode(), media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"}
    )


@routes.get("/ledger/tile/{tile:path}", answer="application/octet-stream", scope="ledger", roles=AUDITORS)
def get_tile(call: Call) -> Plain:
    """Get a tile of hashes, or a bundle of entries."""
    path = call.names["tile"].removeprefix("/")
    if call.desk.tiles is None or not _TILE.fullmatch(path):
        raise _nothing()
    body = call.desk.tiles.read(f"tile/{path}")
    if body is None:
        raise _nothing()
    return Plain(body=body, headers={"Cache-Control": _UNCHANGING})


@routes.get("/v1/ledger/checkpoint", answer=answers.Checkpoint, scope="ledger", roles=AUDITORS)
def seal_checkpoint(call: Call) -> Document:
    """Seal what waits, and say what the signed checkpoint is."""
    return ledgering.checkpoint(call.desk)


def _nothing() -> NotFound:
    return NotFound(
        "the ledger has no such file", remedy="Read /ledger/checkpoint: it says how large the tree is."
    )
