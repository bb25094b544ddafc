"""The way out for a store that is older than what was published from it: put back what is in the published tiles.

Entries are their bytes, so the published bundles hold everything that the ledger says; read models are folded from
them. What the ledger never held is not there: free texts and credentials recorded since the backup. They are shown
as missing, and the entries still verify.

1. read the published checkpoint, verify our signature, and hash every published entry: they must make its root;
2. every entry that the store has must be the published one at its place. A store with other entries is a fork, which
   nothing here mends: a person decides which of the two is evidence;
3. write the missing entries, their leaves, the head and the checkpoint, in one transaction; the checkpoint alone,
   where the store has the entries and keeps no checkpoint;
4. make the read models again. A crash before this is mended by `muniment admin rebuild`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from muniment.core.errors import Misconfigured, RolledBack
from muniment.ledger.checkpoint import Checkpoint, open_checkpoint
from muniment.ledger.errors import LedgerFault
from muniment.ledger.merkle import Frontier, leaf_hash
from muniment.ledger.tiles import TILE, bundle_path, decode_bundle
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.store.rebuild import rebuild
from muniment.store.recovering import put_back
from muniment.store.tile_directory import TileDirectory


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    note: str
    head: Checkpoint
    directory: TileDirectory


def recover(desk: Desk, progress: Callable[[int], None] = lambda _: None) -> Document:
    """Put back what was published and is not in the store. Does nothing to a store that is as new.

    Raises:
        Misconfigured: nothing is published, or this process has no key.
        RolledBack: the store and the tiles have different histories; nothing was changed.
        IntegrityError: the published files do not hold together.
    """
    published = _read(desk)
    before = desk.ledger.head().size
    missing = max(0, published.head.size - before)
    frontier = Frontier()
    mine = desk.ledger.entries()
    for index, entry in _entries(published):
        if index < before:
            place = next(mine, None)
            if place is None or place != (index, entry):
                raise RolledBack(
                    f"the store and the published ledger part at entry {index}: both were added to since",
                    remedy="Nothing was changed. Keep both, and see docs/how-to/recover-the-ledger.md.",
                    code="ledger.forked",
                )
        frontier = frontier.append(leaf_hash(entry))
        if index % TILE == 0:
            progress(index)
    if frontier.root() != published.head.root:
        raise RolledBack(
            "the published entries do not make the root that was signed over them",
            remedy="Take another copy of the published ledger: this one was changed.",
            code="ledger.tile-differs",
        )
    if missing:
        since = (pair for pair in _entries(published, before) if pair[0] >= before)
        put_back(desk.store, since, published.note, frontier)
    elif desk.ledger.kept.newest() is None:  # the entries are there, and what was signed over them is not
        kept = desk.ledger.kept.keep(
            published.head.size, published.note, frontier.to_bytes(), desk.clock.now()
        )
        desk.ledger.kept.mark_published(kept.size, desk.clock.now())
    desk.store.resume()
    rebuild(desk.store)
    return {"entries": published.head.size, "put_back": missing, "dir": str(published.directory.root)}


def _read(desk: Desk) -> _Published:
    note = desk.tiles.checkpoint() if desk.tiles else None
    if desk.tiles is None or note is None:
        raise Misconfigured(
            "there is no published ledger to recover from",
            remedy="Set [ledger] tiles to a copy of it, as the nodes or `muniment ledger export` wrote it.",
        )
    if not desk.signers:
        raise Misconfigured(
            "there is no ledger key here", remedy="Set [ledger] key, or run this where the key is."
        )
    fault: LedgerFault | None = None
    for verifier in desk.verifiers:
        try:
            return _Published(note=note, head=open_checkpoint(note, verifier), directory=desk.tiles)
        except LedgerFault as error:
            fault = error
    raise Misconfigured(
        f"the checkpoint in {desk.tiles.root} is not ours: {fault}",
        remedy="Set [ledger] tiles to a copy of this ledger.",
    )


def _entries(published: _Published, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Index and bytes of the published entries, from the bundle that holds ``start``."""
    size = published.head.size
    for bundle in range(start // TILE, -(-size // TILE)):
        width = min(TILE, size - bundle * TILE)
        raw = published.directory.read(bundle_path(bundle, width))
        if raw is None:
            raw = published.directory.must_read(bundle_path(bundle))
        try:
            found = decode_bundle(raw, width, what=bundle_path(bundle, width))
        except LedgerFault as fault:
            raise RolledBack(
                f"the published ledger cannot be read: {fault}",
                remedy="Take another copy of it: this one was changed.",
                code="ledger.tile-differs",
            ) from fault
        yield from enumerate(found, start=bundle * TILE)
