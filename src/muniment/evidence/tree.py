"""V2, by ranges of 65,536 entries, in any order: entries are hashed, tiles compared.

Put together, the ranges must make the root of the checkpoint, and of every kept one at its size. What was found of one
is a few hundred bytes, whoever hashed it.

This file is all that a process needs that hashes for another, so it imports little: starting is what such a process costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from muniment.evidence.source import NEWEST, Older, Source
from muniment.evidence.workers import Task, Workers, advance
from muniment.ledger.errors import LedgerFault
from muniment.ledger.head import Checkpoint
from muniment.ledger.note import parse_note
from muniment.ledger.scan import RANGE, Combined, RangeFound
from muniment.ledger.verify import Level


def whole_tree(source: Source, note: str, kept: Sequence[Older], workers: Workers) -> Level:
    """The level. What the notes claim is compared whether they are signed or not: that is V1's question."""
    claims: dict[int, tuple[str, bytes]] = {}
    for each in [*kept, Older(where=NEWEST, note=note)]:
        try:
            head = Checkpoint.parse(parse_note(each.note).text)
        except LedgerFault as fault:
            wrong = f"{each.where}: no size and root to compare the entries with: {fault}"
            return Level(ok=False, checked=0, first_fault=wrong)
        where, root = claims.setdefault(head.size, (each.where, head.root))
        if root != head.root:
            wrong = f"{each.where}: two roots are claimed for {head.size} entries, the other one in {where}"
            return Level(ok=False, checked=0, first_fault=wrong)
    newest = head
    beyond = [(where, size) for size, (where, _) in sorted(claims.items()) if size > newest.size]
    if beyond:
        where, size = beyond[0]
        wrong = f"{where}: it covers {size} entries, and the newest checkpoint {newest.size}: the ledger was rolled back"
        return Level(ok=False, checked=0, first_fault=wrong)
    tree = Combined()
    tasks = [
        Task(
            f"range {start}",
            _hash_range,
            (source, start, [s for s in claims if start < s <= start + RANGE]),
            RangeFound,
            min(RANGE, newest.size - start),
        )
        for start in range(0, newest.size, RANGE)
    ]
    with closing(workers.run(tasks)) as found:
        for part in found:
            if part.fault is not None:
                return Level(ok=False, checked=tree.size + part.count, first_fault=part.fault)
            tree.add(part)
    differs = _compare(tree, newest, claims) or source.higher_levels(tree)
    return Level(ok=differs is None, checked=tree.size, first_fault=differs)


def _compare(tree: Combined, newest: Checkpoint, claims: dict[int, tuple[str, bytes]]) -> str | None:
    if tree.size < newest.size:
        return (
            f"leaf {tree.size} is missing: the checkpoint covers {newest.size} leaves, {tree.size} are there"
        )
    roots = {0: Combined().root(), **tree.roots}
    for size, (where, root) in sorted(claims.items()):
        if roots[size] != root:
            return (
                f"{where}: leaves 0 to {size - 1} are not those it covers:"
                f" their root is {roots[size].hex()}, it says {root.hex()}"
            )
    return None


def _hash_range(source: Source, start: int, sizes: Sequence[int]) -> RangeFound:
    found = source.hash_range(start, sizes)
    advance(found.count)
    return found
