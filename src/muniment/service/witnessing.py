"""Show every published checkpoint to the witnesses, and keep what they answer.

A signature of ours says that we said so. A witness says that what we say now has grown from what we said before; a
quorum of them that nobody was shown anything else. One that does not answer is absent, which every report shows, and
holds up nothing but tickets whose policy demands it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from muniment.core.errors import MunimentError, RolledBack
from muniment.ledger.merkle import consistency_proof
from muniment.ledger.tiles import TileReader, tile_path
from muniment.ports import Cosigned, Witness
from muniment.service.desk import Desk
from muniment.service.guarding import WAY_OUT, guard
from muniment.service.publishing import refresh
from muniment.store.checkpoints import CosignatureLine


def ask(desk: Desk, *, at_least_every: timedelta | None = None) -> dict[str, MunimentError]:
    """Ask those witnesses that have not seen the newest published checkpoint; return those that are absent, and why.

    Args:
        desk: the adapters.
        at_least_every: ask again for a checkpoint that was cosigned longer ago than this, so that whoever sees it
            can tell a quiet ledger from one that somebody freezes.

    Raises:
        RolledBack: a witness has seen a newer or another ledger of this name; the store is halted.
    """
    size = desk.ledger.kept.published_size()
    kept = desk.ledger.kept.at(size) if desk.witnesses else None
    if kept is None:
        return {}
    guard(desk)
    known = desk.ledger.kept.cosignatures(size)
    fresh = desk.clock.now() - at_least_every if at_least_every else None
    done = {c.name for c in known if fresh is None or c.time >= fresh.timestamp()}
    missing = [w for w in desk.witnesses if w.name not in done]
    if not missing:
        return {}
    seen = _seen_before(desk, [w.name for w in missing])
    answers = _all(desk, missing, kept.note, size, seen)
    lines = [
        CosignatureLine(name=name, key_id=answer.key_id, time=answer.time, line=answer.line)
        for name, answer in answers.items()
        if isinstance(answer, Cosigned)
    ]
    desk.ledger.kept.add_cosignatures(size, lines)
    for answer in answers.values():
        if isinstance(answer, RolledBack):
            answer.remedy = WAY_OUT
            desk.store.halt(answer)
            raise answer
    if lines:
        refresh(desk, size)
    return {name: answer for name, answer in answers.items() if isinstance(answer, MunimentError)}


def witnessed_size(desk: Desk) -> int:
    """How many entries a quorum of the witnesses has seen; 0 where none is configured."""
    found: set[str] = set()
    if desk.quorum:
        for size, name in desk.ledger.kept.cosigned_sizes([w.name for w in desk.witnesses]):
            found.add(name)
            if len(found) >= desk.quorum:
                return size
    return 0


def _seen_before(desk: Desk, names: Sequence[str]) -> dict[str, int]:
    """The largest size that each of them has answered for, as far as we know; it says so itself if it is another."""
    seen: dict[str, int] = {}
    for size, name in desk.ledger.kept.cosigned_sizes(names):
        seen.setdefault(name, size)
    return seen


def _all(
    desk: Desk, witnesses: Sequence[Witness], note: str, size: int, seen: dict[str, int]
) -> dict[str, Cosigned | MunimentError]:
    """Ask all at once, so that a slow one holds up no other. Each has time-outs of its own."""

    def one(witness: Witness) -> Cosigned | MunimentError:
        try:
            return witness.cosign(note, seen.get(witness.name, 0), lambda old: proof(desk, old, size))
        except MunimentError as error:
            return error

    with ThreadPoolExecutor(len(witnesses), thread_name_prefix="muniment-witness") as pool:
        return dict(zip([w.name for w in witnesses], pool.map(one, witnesses), strict=True))


def proof(desk: Desk, old: int, size: int) -> list[bytes]:
    """Consistency of the tree of the first ``old`` entries with that of ``size``: a few tiles, or every leaf hash."""
    if desk.tiles is None:
        return consistency_proof(old, desk.ledger.hashes(size))
    directory = desk.tiles

    def read(level: int, index: int, width: int) -> bytes:
        partial = directory.read(tile_path(level, index, width))
        return partial if partial is not None else directory.must_read(tile_path(level, index))[: width * 32]

    return TileReader(size, read).consistency(old)
