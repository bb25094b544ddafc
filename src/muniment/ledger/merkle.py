"""The Merkle tree of RFC 6962: hashes, the right edge that grows, and the two proofs.

- ``leaf = SHA-256(0x00 || entry)``, ``node = SHA-256(0x01 || left || right)``, the empty tree is ``SHA-256("")``.
  The two prefixes keep a node from passing for an entry.
- A tree of n leaves splits at the largest power of two below n. Level by level this means: pair the nodes, and carry
  an odd last one up as it is. Proofs are made that way here, without recursion.
- Functions that verify take the root from a checkpoint whose signature the caller has verified.

Source: RFC 6962, section 2.1; RFC 9162, sections 2.1.3 and 2.1.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import islice

import msgspec

from muniment.ledger.errors import BadProof, BadTree, Fork

#: bytes of a hash
HASH = 32
#: root of the tree without leaves
EMPTY_ROOT = sha256(b"").digest()

_BLOCK_HEIGHT = 10
_BLOCK = 1 << _BLOCK_HEIGHT  # leaves reduced in one go: whole lists are faster than one leaf at a time


def leaf_hash(entry: bytes) -> bytes:
    """Hash of an entry's stored bytes. Source: RFC 9162, section 2.1.1."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two nodes. Source: RFC 9162, section 2.1.1."""
    return sha256(b"\x01" + left + right).digest()


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """The right edge of a tree: all that appending needs, however large the tree is.

    ``edge`` holds the roots of the complete subtrees that make up the tree, from left to right, one for each bit of
    ``size``. ``Frontier()`` is the empty tree.
    """

    size: int = 0  # leaves
    edge: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Frontier:
        """Return the frontier after one more leaf, given by its hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """Return the frontier after more leaves, given by their hashes in order.

        Raises:
            BadTree: a hash does not have 32 bytes.
        """
        size, edge, hashes = self.size, list(self.edge), iter(leaves)
        while block := list(islice(hashes, _BLOCK - size % _BLOCK)):
            if set(map(len, block)) != {HASH}:
                raise BadTree(f"a leaf hash after leaf {size} does not have {HASH} bytes")
            if len(block) == _BLOCK:
                while len(block) > 1:
                    block = _parents(block)
                _grow(edge, size, block[0], _BLOCK_HEIGHT)
                size += _BLOCK
            else:
                for leaf in block:
                    _grow(edge, size, leaf, 0)
                    size += 1
        return Frontier(size=size, edge=tuple(edge))

    def root(self) -> bytes:
        """Root hash of the tree."""
        if not self.edge:
            return EMPTY_ROOT
        *rest, root = self.edge
        for left in reversed(rest):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """Eight bytes of size, big-endian, then the edge; for the row that holds the tree's head."""
        return self.size.to_bytes(8, "big") + b"".join(self.edge)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Frontier:
        """Read what `to_bytes` wrote.

        Raises:
            BadTree: the bytes do not hold one hash for each bit of the size.
        """
        if len(raw) < 8:
            raise BadTree(f"the stored edge of the tree has {len(raw)} bytes; its size alone takes 8")
        size, hashes = int.from_bytes(raw[:8], "big"), raw[8:]
        if size >> 63 or len(hashes) != size.bit_count() * HASH:
            raise BadTree(
                f"the stored edge of the tree does not fit its size {size}: {len(hashes)} bytes of hashes"
            )
        return cls(size=size, edge=tuple(hashes[at : at + HASH] for at in range(0, len(hashes), HASH)))


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Root of the tree over leaf hashes. Source: RFC 9162, section 2.1.1."""
    return Frontier().extend(leaves).root()


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Sibling hashes from leaf ``index`` up to the root of the tree over ``leaves``.

    Takes O(n) hashing. Source: RFC 9162, section 2.1.3.1.

    Raises:
        BadProof: the index lies outside the tree.
    """
    if not 0 <= index < len(leaves):
        raise BadProof(f"leaf {index} is outside a tree of {len(leaves)}")
    return _path(index, list(leaves))


def consistency_proof(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Hashes that tie the tree over the first ``old`` leaves to the tree over all of ``leaves``.

    Empty when ``old`` is 0 or all: the sizes and roots say everything. Source: RFC 9162, section 2.1.4.1.

    Raises:
        BadProof: the old tree is larger than the new one.
    """
    if not 0 <= old <= len(leaves):
        raise BadProof(f"a tree of {old} cannot be part of a tree of {len(leaves)}")
    if old in (0, len(leaves)):
        return []
    # the largest complete subtree that ends where the old tree ends
    level, index = list(leaves), old - 1
    while index & 1:
        level, index = _parents(level), index >> 1
    # if it is the old tree itself, the verifier has it already: it is the old root
    start = [level[index]] if index else []
    return start + _path(index, level)


def verify_inclusion(entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that ``entry`` is leaf ``index`` of the tree of ``size`` leaves whose head is ``root``.

    Args:
        entry: stored bytes of one entry, not its hash.
        index: position in the log, from 0.
        size: leaves in the tree, at least 1.
        proof: sibling hashes of 32 bytes each, from the leaf upwards.
        root: root hash of 32 bytes, from a verified checkpoint.

    Raises:
        BadProof: the index lies outside the tree, the proof has a wrong length, or it leads to another root.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise BadProof(f"leaf {index} is outside a tree of {size}")
    _check_hashes(proof)
    node, last, computed = index, size - 1, leaf_hash(entry)
    for sibling in proof:
        if last == 0:
            raise BadProof(f"the proof of leaf {index} is longer than a tree of {size} is high")
        if node & 1 or node == last:
            computed = node_hash(sibling, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise BadProof(f"the proof of leaf {index} is shorter than a tree of {size} is high")
    if computed != root:
        raise BadProof(f"the proof of leaf {index} leads to another root than that of the tree of {size}")


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that the log only grew: the first ``old_size`` leaves of the new tree are the old tree.

    Args:
        old_size: leaves in the old tree.
        new_size: leaves in the new tree, not fewer.
        proof: hashes of 32 bytes each, as `consistency_proof` gives them.
        old_root: root of the old tree, from a verified checkpoint.
        new_root: root of the new tree, from a verified checkpoint.

    Raises:
        Fork: the sizes are equal and the roots are not.
        BadProof: the proof has a wrong length or leads to other roots. The log may be forked, or the proof bad.

    Source: RFC 9162, section 2.1.4.2.
    """
    if not 0 <= old_size <= new_size:
        raise BadProof(f"the tree shrank from {old_size} to {new_size} leaves")
    _check_hashes(proof)
    if old_size in (0, new_size):
        _verify_trivial(old_size, new_size, proof, old_root, new_root)
        return
    if not proof:
        raise BadProof(f"there is no proof from {old_size} to {new_size} leaves")
    # step 3: a complete old tree is its own first node
    first, *rest = proof if old_size & (old_size - 1) else [old_root, *proof]
    old, new = _climb(old_size, new_size, first, rest)
    if old != old_root:
        raise BadProof(f"the proof leads to another root than that of the old tree of {old_size}")
    if new != new_root:
        raise BadProof(f"the proof leads to another root than that of the new tree of {new_size}")


def _verify_trivial(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """From nothing, or to the same size: the roots say everything."""
    if old_size == new_size and old_root != new_root:
        raise Fork(f"the log has two roots for {old_size} leaves: {old_root.hex()} and {new_root.hex()}")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise BadProof("the old tree has no leaves, and its root is not that of the empty tree")
    if proof:
        raise BadProof(f"from {old_size} to {new_size} leaves nothing is to be proved, yet there is a proof")


def _climb(old_size: int, new_size: int, first: bytes, rest: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Steps 4 to 6: compute the old and the new root along one path."""
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = first
    for sibling in rest:
        if last == 0:
            raise BadProof(f"the proof is longer than the way from {old_size} to {new_size} leaves")
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise BadProof(f"the proof is shorter than the way from {old_size} to {new_size} leaves")
    return old, new


def _grow(edge: list[bytes], size: int, node: bytes, height: int) -> None:
    """Put a complete subtree of ``2**height`` leaves to the right of a tree of ``size`` leaves, in place."""
    size >>= height
    while size & 1:
        node, size = node_hash(edge.pop(), node), size >> 1
    edge.append(node)


def _parents(level: list[bytes]) -> list[bytes]:
    """The next level up: nodes in pairs, an odd last one as it is, never doubled."""
    digest = sha256
    above = [digest(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
    if len(level) & 1:
        above.append(level[-1])
    return above


def _path(index: int, level: list[bytes]) -> list[bytes]:
    """Siblings on the way from node ``index`` of ``level`` to the root; a node carried up has none."""
    path = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level, index = _parents(level), index >> 1
    return path


def _check_hashes(proof: Sequence[bytes]) -> None:
    for place, each in enumerate(proof):
        if len(each) != HASH:
            raise BadProof(f"hash {place} of the proof has {len(each)} bytes, not {HASH}")
