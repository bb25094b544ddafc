"""Hashing a whole log in parts: the subtree over each range of leaves, put together afterwards.

A range begins at a multiple of `RANGE`, so a full one is a subtree: one tile of level 1 and the 256 of level 0 below
it. Ranges know nothing of each other, so any number of processes may hash them in any order, and what was found of
one is a few hundred bytes to keep.

The tree is made from the entries' bytes alone. Tiles are compared with it, and never believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from muniment.ledger.errors import BadTile
from muniment.ledger.merkle import EMPTY_ROOT, node_hash
from muniment.ledger.tiles import MAX_BUNDLED, TILE, decode_bundle

#: leaves of a full range, and the height of its subtree
RANGE = TILE * TILE
_RANGE_HEIGHT = 16
_TILE_HEIGHT = 8


class Subtree(msgspec.Struct, frozen=True, array_like=True):
    """A complete subtree of ``2**height`` leaves."""

    height: int
    root: bytes


Edge = tuple[Subtree, ...]  # complete subtrees from left to right, each smaller than the one before


class RangeFound(msgspec.Struct, frozen=True, kw_only=True):
    """What hashing one range gave; plain data, to be sent between processes and kept."""

    start: int  # index of its first leaf
    count: int  # leaves hashed
    edge: Edge
    prefixes: dict[int, Edge]  # of the range up to each size that was asked for
    fault: str | None = None  # the first thing that is wrong, and where


def bundle_hashes(
    raw: bytes, count: int, *, limit: int = MAX_BUNDLED, what: str = "the bundle"
) -> list[bytes]:
    """Leaf hashes of the entries of a bundle, read as strictly as `tiles.decode_bundle`, without making the entries.

    Raises:
        BadTile: an entry is cut off or too long, or bytes are left over.
    """
    # the hot loop of every verification. Copying a hash that has begun costs less than beginning one, and less than
    # joining bytes; a slice of a view does not copy the entry; `update` returns nothing, so that `or` goes on
    view, at = memoryview(raw), 0
    entries: list[memoryview] = []
    begin, keep = sha256(b"\x00").copy, entries.append
    try:
        for _ in range(count):
            start = at + 2
            at = start + (raw[at] << 8 | raw[at + 1])
            keep(view[start:at])
    except IndexError:
        at = -1
    if at != len(raw) or max(map(len, entries), default=0) > limit:
        decode_bundle(raw, count, limit=limit, what=what)  # it says what is wrong, and where
        raise BadTile(f"{what} is not a bundle of {count} entries")
    return [(leaf := begin()).update(entry) or leaf.digest() for entry in entries]  # type: ignore[func-returns-value, redundant-expr]


class RangeScan:
    """Hashes one range, tile by tile."""

    def __init__(self, start: int, sizes: Iterable[int] = ()) -> None:
        """``start``: a multiple of `RANGE`. ``sizes``: of the trees whose part in this range is wanted too."""
        self._start, self._sizes = start, sorted(sizes)
        self._roots: list[bytes] = []  # of full tiles
        self._last: list[bytes] = []  # leaf hashes of a tile that is not full
        self._count = 0
        self._prefixes: dict[int, Edge] = {}

    @property
    def at(self) -> int:
        """Index of the next leaf."""
        return self._start + self._count

    def feed(self, hashes: list[bytes]) -> bytes:
        """Take up the leaf hashes of the next tile; return the tile as it must be published.

        Only the last one of a range may be less than full.
        """
        if len(hashes) > TILE or self._last or self._count >= RANGE:
            raise ValueError("a range is fed full tiles, and one that is not full at its end")
        while self._sizes and self._sizes[0] <= self.at + len(hashes):
            size = self._sizes.pop(0)
            self._prefixes[size] = self._edge(hashes[: size - self.at])
        if len(hashes) == TILE:
            self._roots.append(_root(hashes))
        else:
            self._last = hashes
        self._count += len(hashes)
        return b"".join(hashes)

    def level_one(self) -> bytes:
        """The range's tile of level 1 as it must be published, full or not; empty if it has none."""
        return b"".join(self._roots)

    def found(self, fault: str | None = None) -> RangeFound:
        """What hashing gave."""
        edge = self._edge(self._last)
        return RangeFound(
            start=self._start, count=self._count, edge=edge, prefixes=self._prefixes, fault=fault
        )

    def _edge(self, leaves: list[bytes]) -> Edge:
        edge = Edges()
        edge.extend(self._roots, _TILE_HEIGHT)
        edge.extend(leaves, 0)
        return edge.subtrees


class Edges:
    """Subtrees put together from left to right: the right edge of a tree."""

    def __init__(self, edge: Edge = ()) -> None:
        """Go on from an edge."""
        self._stack = list(edge)

    def extend(self, roots: Iterable[bytes], height: int) -> None:
        """Add subtrees of one height."""
        roots = list(roots)
        # all at once as long as they pair up with each other; then one by one
        while len(roots) > 1 and not (self._stack and self._stack[-1].height == height):
            even = len(roots) & ~1
            rest, roots = roots[even:], parents(roots[:even])
            height += 1
            if rest:
                for root in roots:
                    self.push(Subtree(height, root))
                roots, height = rest, height - 1
        for root in roots:
            self.push(Subtree(height, root))

    def push(self, subtree: Subtree) -> None:
        """Add one subtree, no larger than the last one."""
        stack = self._stack
        while stack and stack[-1].height == subtree.height:
            subtree = Subtree(subtree.height + 1, node_hash(stack.pop().root, subtree.root))
        stack.append(subtree)

    @property
    def subtrees(self) -> Edge:
        """What there is so far."""
        return tuple(self._stack)

    def root(self) -> bytes:
        """Root over all of it."""
        if not self._stack:
            return EMPTY_ROOT
        *rest, last = self._stack
        root = last.root
        for left in reversed(rest):
            root = node_hash(left.root, root)
        return root


class Combined:
    """The whole tree, from ranges in order."""

    def __init__(self) -> None:
        self._edges = Edges()
        self.size = 0
        self.ranges: list[bytes] = []  # roots of full ranges: the hashes of level 2
        self.roots: dict[int, bytes] = {}  # of the smaller trees that were asked for

    def add(self, found: RangeFound) -> None:
        """Add the next range."""
        if found.start != self.size:
            raise ValueError(f"the range at {found.start} does not follow {self.size} leaves")
        for size, edge in found.prefixes.items():
            part = Edges(self._edges.subtrees)
            for subtree in edge:
                part.push(subtree)
            self.roots[size] = part.root()
        for subtree in found.edge:
            self._edges.push(subtree)
        if found.count == RANGE:
            self.ranges.append(found.edge[0].root)
        self.size += found.count

    def root(self) -> bytes:
        """Root over all of it."""
        return self._edges.root()


def parents(hashes: list[bytes]) -> list[bytes]:
    """Hashes of the nodes above an even number of nodes."""
    begin, pairs = sha256(b"\x01").copy, iter(hashes)
    return [
        (node := begin()).update(a + b) or node.digest()  # type: ignore[func-returns-value, redundant-expr]
        for a, b in zip(pairs, pairs, strict=True)
    ]


def _root(hashes: list[bytes]) -> bytes:
    """Root of a full tile."""
    while len(hashes) > 1:
        hashes = parents(hashes)
    return hashes[0]
