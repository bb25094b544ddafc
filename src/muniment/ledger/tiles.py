"""Tiles: the tree and the entries as files that any web server can serve, and proofs from them.

- ``tile/<level>/<index>[.p/<width>]`` holds up to 256 hashes. Those of level 0 are leaf hashes; hash i of a higher
  level is the root over the whole of tile i below. ``tile/entries/…`` holds the entries of the level-0 tile of the
  same index, each behind its length: an entry bundle.
- A tree of n leaves has ``n // 256**level`` hashes on a level. The last ``% 256`` of them are a partial tile, named
  after its width; none if that is 0. A partial tile is never hashed upwards.
- No file ever changes. Growing adds files, and a full tile takes the place of its partial ones.

Nothing here believes a tile: a proof made from altered tiles does not verify, and the root of a `TileReader` is
worth comparing with a signed one, no more. That the hashes belong to the entries takes hashing the entries.

Source: c2sp.org/tlog-tiles v0.1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256

from muniment.ledger.errors import BadProof, BadTile
from muniment.ledger.merkle import EMPTY_ROOT, HASH, leaf_hash, node_hash
from muniment.ledger.wire import MAX_NUMBER

#: hashes in a full tile, entries in a full bundle
TILE = 256
#: bytes of an entry that a bundle can hold; our own entries are smaller (`canonical.MAX_ENTRY`)
MAX_BUNDLED = 0xFFFF
#: the highest level a path can name
MAX_LEVEL = 63

_HEIGHT = 8  # levels of the tree between two levels of tiles
_KEPT = 64  # tiles that a reader keeps: a proof goes through a few, often the same as the one before


def tile_path(level: int, index: int, width: int = TILE) -> str:
    """Where the tile lies, below the log's prefix: ``tile/0/x001/234.p/5``.

    Raises:
        BadTile: there is no such tile.

    Source: c2sp.org/tlog-tiles, "Merkle Tree".
    """
    if not 0 <= level <= MAX_LEVEL:
        raise BadTile(f"tiles have levels from 0 to {MAX_LEVEL}, not {level}")
    return f"tile/{level}/{_place(index, width)}"


def bundle_path(index: int, width: int = TILE) -> str:
    """Where the entry bundle lies: ``tile/entries/x001/234.p/5``.

    Raises:
        BadTile: there is no such bundle.

    Source: c2sp.org/tlog-tiles, "Log entries".
    """
    return f"tile/entries/{_place(index, width)}"


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The file that holds ``entries``, each behind its length in two bytes, big-endian.

    Raises:
        BadTile: there are none or more than `TILE`, or one is longer than `MAX_BUNDLED` bytes.
    """
    if not 1 <= len(entries) <= TILE:
        raise BadTile(f"a bundle holds 1 to {TILE} entries, not {len(entries)}")
    for at, entry in enumerate(entries):
        if len(entry) > MAX_BUNDLED:
            raise BadTile(f"entry {at} of the bundle has {len(entry)} bytes; {MAX_BUNDLED} are allowed")
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def decode_bundle(
    raw: bytes, count: int, *, limit: int = MAX_BUNDLED, what: str = "the bundle"
) -> list[bytes]:
    """Take a bundle apart: exactly ``count`` entries and nothing after them.

    Args:
        raw: the file.
        count: entries it is to hold: the width in its name.
        limit: bytes of an entry at most, if fewer than the format allows.
        what: how faults call it, such as its path.

    Raises:
        BadTile: names the entry, counted from 0 within the bundle, that is cut off or too long, or says how many
            bytes are left over.
    """
    if not 1 <= count <= TILE:
        raise BadTile(f"a bundle holds 1 to {TILE} entries, not {count}")
    entries, at, end = [], 0, len(raw)
    for place in range(count):
        start = at + 2
        if start > end:
            raise BadTile(f"{what} ends before entry {place} of {count}, at byte {end}")
        at = start + (raw[at] << 8 | raw[at + 1])
        if at - start > limit:
            raise BadTile(f"entry {place} of {what} has {at - start} bytes; {limit} are allowed")
        if at > end:
            raise BadTile(
                f"entry {place} of {what} is cut off: {end - start} bytes are there, {at - start} were to come"
            )
        entries.append(raw[start:at])
    if at != end:
        raise BadTile(f"{what} has {end - at} bytes after the last of its {count} entries")
    return entries


def tile_width(size: int, level: int, index: int) -> int:
    """Hashes in the tile of a tree of ``size`` leaves: `TILE` if it is full, 0 if there is none."""
    return max(0, min(TILE, (size >> _HEIGHT * level) - index * TILE))


def layout(size: int) -> Iterator[tuple[int, int, int]]:
    """Level, index and width of every tile of a tree of ``size`` leaves, level by level from the leaves.

    The entry bundles have index and width of the tiles of level 0.

    Raises:
        BadTile: no tree has that size.
    """
    return changed(0, size)


def changed(old: int, new: int) -> Iterator[tuple[int, int, int]]:
    """The part of `layout` that a tree of ``new`` leaves has and the tree of its first ``old`` leaves has not.

    Raises:
        BadTile: ``old`` is larger than ``new``, or no tree has such a size.
    """
    if not 0 <= old <= new <= MAX_NUMBER:
        raise BadTile(f"a tree cannot grow from {old} to {new} leaves")
    return _changed(old, new)


def level_hashes(children: bytes) -> bytes:
    """Root over a full tile: its one hash in the level above.

    Raises:
        BadTile: it is not a full tile. A partial one is never hashed upwards.
    """
    if len(children) != TILE * HASH:
        raise BadTile(f"a full tile has {TILE * HASH} bytes, not {len(children)}")
    return _root(children)


class TileReader:
    """Proofs and roots from the tiles of one tree, without the rest of it: a proof reads about one tile a level.

    The answers are those of `merkle.inclusion_proof`, `merkle.consistency_proof` and `merkle.tree_root`.
    """

    def __init__(self, size: int, read: Callable[[int, int, int], bytes]) -> None:
        """Look at a tree.

        Args:
            size: its leaves.
            read: returns the bytes of the tile of that level, index and width. Its own exceptions pass through. If
                a partial tile is gone, the first bytes of the full one are the same.

        Raises:
            BadTile: no tree has that size.
        """
        if not 0 <= size <= MAX_NUMBER:
            raise BadTile(f"no tree has {size} leaves")
        self.size = size
        self._read = read
        self._tile = lru_cache(maxsize=_KEPT)(self._read_tile)

    def root(self, size: int | None = None) -> bytes:
        """Root of the tree, or of the tree of its first ``size`` leaves.

        Raises:
            BadTile: a tile has another length than its width asks for.
            BadProof: the tree has fewer leaves.
        """
        if size is None:
            size = self.size
        if not 0 <= size <= self.size:
            raise BadProof(f"a tree of {size} cannot be part of a tree of {self.size}")
        return self._span(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int) -> list[bytes]:
        """Sibling hashes from leaf ``index`` up to the root. Source: RFC 9162, section 2.1.3.1.

        Raises:
            BadTile: a tile has another length than its width asks for.
            BadProof: the index lies outside the tree.
        """
        if not 0 <= index < self.size:
            raise BadProof(f"leaf {index} is outside a tree of {self.size}")
        return self._path(0, index)

    def consistency(self, old: int) -> list[bytes]:
        """Hashes that tie the tree of the first ``old`` leaves to this one. Source: RFC 9162, section 2.1.4.1.

        Raises:
            BadTile: a tile has another length than its width asks for.
            BadProof: the old tree is larger than this one.
        """
        if not 0 <= old <= self.size:
            raise BadProof(f"a tree of {old} cannot be part of a tree of {self.size}")
        if old in (0, self.size):
            return []
        # the largest complete subtree that ends where the old tree ends
        height, index = 0, old - 1
        while index & 1:
            height, index = height + 1, index >> 1
        # if it is the old tree itself, the verifier has it already: it is the old root
        start = [self._subtree(height, index)] if index else []
        return start + self._path(height, index)

    def _path(self, height: int, index: int) -> list[bytes]:
        """Siblings on the way from a node to the root; a node carried up has none."""
        path = []
        while self.size - 1 >> height:
            start = (index ^ 1) << height
            if start < self.size:
                path.append(self._span(start, min(start + (1 << height), self.size)))
            height, index = height + 1, index >> 1
        return path

    def _span(self, start: int, end: int) -> bytes:
        """Hash over leaves, of which ``start`` begins a subtree that would reach to ``end`` or further."""
        parts = []
        while start < end:
            height = (end - start).bit_length() - 1
            parts.append(self._subtree(height, start >> height))
            start += 1 << height
        root = parts.pop()
        for left in reversed(parts):
            root = node_hash(left, root)
        return root

    def _subtree(self, height: int, index: int) -> bytes:
        """Hash of a complete subtree of ``2**height`` leaves, from the highest tile that has it or its parts."""
        level, rest = divmod(height, _HEIGHT)
        tile, first = divmod(index << rest, TILE)
        hashes = self._tile(level, tile)
        return _root(hashes[first * HASH : (first + (1 << rest)) * HASH])

    def _read_tile(self, level: int, index: int) -> bytes:
        width = tile_width(self.size, level, index)
        hashes = self._read(level, index, width)
        if len(hashes) != width * HASH:
            raise BadTile(
                f"{tile_path(level, index, width)} has {len(hashes)} bytes, not {width * HASH}: {width} hashes"
            )
        return hashes


class TileWriter:
    """Makes the files of a growing log. Memory holds one unfinished tile a level, whatever the size.

    Feed entries with `extend`; at the size of every checkpoint to be published take `partials` as well. A file is
    yielded after all that it hashes, so that written in that order no tile ever stands above missing ones.
    """

    def __init__(self, size: int = 0, read: Callable[[str], bytes] | None = None) -> None:
        """Go on where a tree of ``size`` leaves ends, for which `partials` has been written.

        Args:
            size: leaves so far.
            read: returns the bytes of a file written before, by its path: at most one tile a level and one bundle.
                Its own exceptions pass through. Not needed from 0.

        Raises:
            BadTile: such a file has another length, or bundle and leaf hashes do not belong together.
        """
        if not 0 <= size <= MAX_NUMBER or (size and read is None):
            raise BadTile(f"the tiles of {size} leaves cannot be continued without the files they end in")
        self.size = size
        self._sealed = size  # of the last partials
        self._bundle: list[bytes] = []
        self._edge: list[bytearray] = []
        while read is not None and size >> _HEIGHT * len(self._edge):
            level = len(self._edge)
            index, width = divmod(size >> _HEIGHT * level, TILE)
            hashes = read(tile_path(level, index, width)) if width else b""
            if len(hashes) != width * HASH:
                raise BadTile(f"{tile_path(level, index, width)} has {len(hashes)} bytes, not {width * HASH}")
            if level == 0 and width:
                path = bundle_path(index, width)
                self._bundle = decode_bundle(read(path), width, what=path)
                if b"".join(map(leaf_hash, self._bundle)) != hashes:
                    raise BadTile(
                        f"{path} holds other entries than {tile_path(level, index, width)} has hashed"
                    )
            self._edge.append(bytearray(hashes))

    def extend(self, entries: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
        """Take up entries; yield path and bytes of every bundle and tile that becomes full by them.

        Nothing happens before the iterator is driven; drive it to its end.

        Raises:
            BadTile: an entry is longer than `MAX_BUNDLED` bytes.
        """
        for entry in entries:
            if len(entry) > MAX_BUNDLED:
                raise BadTile(f"entry {self.size} has {len(entry)} bytes; {MAX_BUNDLED} are allowed")
            self._bundle.append(entry)
            self._push(0, leaf_hash(entry))
            self.size += 1
            if self.size % TILE == 0:
                yield bundle_path(self.size // TILE - 1), encode_bundle(self._bundle)
                self._bundle.clear()
                yield from self._full_tiles()

    def partials(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and bytes of the partial files that the tree has at its present size and did not have before.

        With what `extend` yielded they are the files of `changed`, from the last time to now.
        """
        before, self._sealed = self._sealed, self.size
        if self._bundle and before != self.size:
            yield bundle_path(self.size // TILE, len(self._bundle)), encode_bundle(self._bundle)
        for level, hashes in enumerate(self._edge):
            count = self.size >> _HEIGHT * level
            if hashes and count != before >> _HEIGHT * level:
                yield tile_path(level, count // TILE, count % TILE), bytes(hashes)

    def root(self) -> bytes:
        """Root of the tree at its present size, to compare with the checkpoint that is to be published."""
        root = b""
        for hashes in self._edge:
            if hashes:
                root = _root(bytes(hashes) + root)
        return root or EMPTY_ROOT

    def _push(self, level: int, digest: bytes) -> None:
        if level == len(self._edge):
            self._edge.append(bytearray())
        self._edge[level] += digest

    def _full_tiles(self) -> Iterator[tuple[str, bytes]]:
        level, count = 0, self.size
        while count % TILE == 0:
            hashes = bytes(self._edge[level])
            yield tile_path(level, count // TILE - 1), hashes
            self._edge[level].clear()
            level, count = level + 1, count // TILE
            self._push(level, level_hashes(hashes))


def _place(index: int, width: int) -> str:
    if index < 0 or not 1 <= width <= TILE:
        raise BadTile(f"there is no tile {index} of width {width}")
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups)) + (f".p/{width}" if width < TILE else "")


def _changed(old: int, new: int) -> Iterator[tuple[int, int, int]]:
    level = 0
    while old != new:
        for index in range(old // TILE, new // TILE):
            yield level, index, TILE
        if new % TILE:
            yield level, new // TILE, new % TILE
        level, old, new = level + 1, old // TILE, new // TILE


def _root(hashes: bytes) -> bytes:
    """Root over hashes: pairs, level by level, and an odd last one is carried up as it is."""
    digest = sha256
    while len(hashes) > HASH:
        above = [
            digest(b"\x01" + hashes[at : at + 2 * HASH]).digest()
            for at in range(0, len(hashes) - HASH, 2 * HASH)
        ]
        if len(hashes) // HASH & 1:
            above.append(hashes[-HASH:])
        hashes = b"".join(above)
    return hashes
