"""The tree against the definition in RFC 6962, which is recursive and slow."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import steady
from muniment.ledger.errors import BadProof, BadTree, Fork, LedgerFault
from muniment.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

ENTRIES = [b"entry %d" % n for n in range(2100)]
LEAVES = [leaf_hash(each) for each in ENTRIES]
SMALL = range(71)
BOUNDARIES = [127, 128, 129, 255, 256, 257]


def split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def mth(leaves):
    """RFC 6962, 2.1: Merkle Tree Hash."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """RFC 6962, 2.1.1: audit path, with the side on which each hash stands."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), ("right", mth(leaves[k:]))]
    return [*path(m - k, leaves[k:]), ("left", mth(leaves[:k]))]


def subproof(m, leaves, whole):
    """RFC 6962, 2.1.2: consistency proof."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def sides(index, size):
    """The way from a leaf to the root, without the hashes."""
    if size == 1:
        return []
    k = split(size)
    if index < k:
        return [*sides(index, k), "right"]
    return [*sides(index - k, size - k), "left"]


def test_roots_published_with_certificate_transparency():
    data = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    leaves = [leaf_hash(bytes.fromhex(each)) for each in data]
    assert [tree_root(leaves[:n]).hex() for n in range(1, 9)] == roots
    assert tree_root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", [*SMALL, *BOUNDARIES, 1023, 1024, 1025, 2047, 2048, 2049])
def test_the_root_is_that_of_the_definition(size):
    root = mth(LEAVES[:size])
    assert tree_root(LEAVES[:size]) == root
    one_by_one = Frontier()
    for leaf in LEAVES[:size]:
        one_by_one = one_by_one.append(leaf)
    assert one_by_one == Frontier().extend(LEAVES[:size])
    assert one_by_one.root() == root
    assert one_by_one.size == size


@steady
@given(st.lists(st.integers(0, 1100), max_size=4))
def test_however_it_grows_the_frontier_is_the_same(steps):
    frontier = Frontier()
    for step in steps:
        frontier = Frontier.from_bytes(frontier.extend(LEAVES[n % 2100] for n in range(step)).to_bytes())
    leaves = [LEAVES[n % 2100] for step in steps for n in range(step)]
    assert frontier == Frontier().extend(leaves)


def test_the_empty_frontier():
    assert Frontier().root() == EMPTY_ROOT
    assert Frontier().to_bytes() == bytes(8)
    assert Frontier.from_bytes(bytes(8)) == Frontier()
    assert Frontier().extend([]) == Frontier()


def test_extending_leaves_the_old_frontier_alone():
    before = Frontier().extend(LEAVES[:7])
    root = before.root()
    before.extend(LEAVES[7:20])
    assert before.root() == root
    assert before.size == 7


def test_stored_edges_that_cannot_be_are_refused():
    good = Frontier().extend(LEAVES[:7]).to_bytes()
    assert len(good) == 8 + 3 * 32
    for raw in [
        b"",
        good[:-1],
        good + b"\0",
        good[32:],
        (8).to_bytes(8, "big") + good[8:],
        b"\xff" * 8 + b"\0" * 64 * 32,
    ]:
        with pytest.raises(BadTree):
            Frontier.from_bytes(raw)


@pytest.mark.parametrize("bad", [[b""], [b"x" * 31], [*LEAVES[:3], b"x" * 33], [LEAVES[0]] * 1023 + [b"x"]])
def test_a_leaf_hash_of_another_length_is_refused(bad):
    with pytest.raises(BadTree):
        Frontier().extend(bad)


@pytest.mark.parametrize("size", [*SMALL, *BOUNDARIES])
def test_inclusion(size):
    leaves, root = LEAVES[:size], mth(LEAVES[:size])
    for index in range(size) if size <= 70 else [0, 1, size // 2, size - 2, size - 1]:
        proof = inclusion_proof(index, leaves)
        assert proof == [each for _, each in path(index, leaves)]
        verify_inclusion(ENTRIES[index], index, size, proof, root)
        refused = [
            (ENTRIES[index] + b"x", index, size, proof, root),
            (leaves[index], index, size, proof, root),
            (ENTRIES[index], index, size, [*proof, bytes(32)], root),
            (ENTRIES[index], index, size, [bytes(32), *proof], root),
            (ENTRIES[index], index, size, proof, EMPTY_ROOT),
            (ENTRIES[index], size, size, proof, root),
            (ENTRIES[index], -1, size, proof, root),
        ]
        refused += [
            (ENTRIES[index], other, size, proof, root)
            for other in {index - 1, index + 1, index ^ 3} - {index}
        ]
        # a size of which the way looks the same cannot be told apart, and need not: the checkpoint signs it
        refused += [
            (ENTRIES[index], index, other, proof, root)
            for other in (size - 1, size + 1, size * 2, 0)
            if index >= other or sides(index, other) != sides(index, size)
        ]
        for at, each in enumerate(proof):
            flipped = bytes([each[0] ^ 1]) + each[1:]
            refused.append((ENTRIES[index], index, size, [*proof[:at], flipped, *proof[at + 1 :]], root))
            refused.append((ENTRIES[index], index, size, [*proof[:at], each[:-1], *proof[at + 1 :]], root))
            refused.append((ENTRIES[index], index, size, [*proof[:at], *proof[at + 1 :]], root))
        for call in refused:
            with pytest.raises(BadProof):
                verify_inclusion(*call)


@pytest.mark.parametrize("size", [*SMALL, *BOUNDARIES])
def test_consistency(size):
    leaves, root = LEAVES[:size], mth(LEAVES[:size])
    for old in range(size + 1) if size <= 70 else [0, 1, 64, 126, 127, size - 1, size]:
        old_root = mth(leaves[:old])
        proof = consistency_proof(old, leaves)
        assert proof == (subproof(old, leaves, True) if old > 0 else [])
        verify_consistency(old, size, proof, old_root, root)
        refused = [
            (old, size, [*proof, bytes(32)], old_root, root),
            (old, size, [bytes(32), *proof], old_root, root),
            (size + 1, size, proof, old_root, root),
            (-1, size, proof, old_root, root),
            (old, size, proof, bytes(32), root),
        ]
        if old:
            refused.append((old, size, proof, old_root, bytes(32)))
        if 0 < old < size:
            refused.append((old, size, [], old_root, root))
            refused.append((old, old, proof, old_root, old_root))
            refused.append((0, size, proof, EMPTY_ROOT, root))
            rewritten = [leaf_hash(b"rewritten"), *leaves[1:]]
            refused.append((old, size, consistency_proof(old, rewritten), old_root, mth(rewritten)))
        for at, each in enumerate(proof):
            flipped = each[:-1] + bytes([each[-1] ^ 1])
            refused.append((old, size, [*proof[:at], flipped, *proof[at + 1 :]], old_root, root))
            refused.append((old, size, [*proof[:at], b"", *proof[at + 1 :]], old_root, root))
            refused.append((old, size, [*proof[:at], *proof[at + 1 :]], old_root, root))
        for call in refused:
            with pytest.raises(LedgerFault):
                verify_consistency(*call)


def test_two_roots_for_one_size_are_a_fork():
    with pytest.raises(Fork) as caught:
        verify_consistency(3, 3, [], mth(LEAVES[:3]), mth(LEAVES[1:4]))
    assert caught.value.code == "ledger.fork"


def test_a_node_does_not_pass_for_an_entry():
    forged = LEAVES[0] + LEAVES[1]
    with pytest.raises(BadProof):
        verify_inclusion(forged, 0, 1, [], node_hash(LEAVES[0], LEAVES[1]))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_no_proof_outside_the_tree(index, size):
    with pytest.raises(BadProof):
        inclusion_proof(index, LEAVES[:size])


@pytest.mark.parametrize("old", [-1, 4])
def test_no_proof_from_a_larger_tree(old):
    with pytest.raises(BadProof):
        consistency_proof(old, LEAVES[:3])


def test_a_large_tree_needs_no_recursion():
    size = 200_000
    leaves = [LEAVES[n % 2100] for n in range(size)]
    root = tree_root(leaves)
    verify_inclusion(ENTRIES[(size - 1) % 2100], size - 1, size, inclusion_proof(size - 1, leaves), root)
    old = 131_073
    verify_consistency(old, size, consistency_proof(old, leaves), tree_root(leaves[:old]), root)
