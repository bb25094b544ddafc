"""Tiles against their definition, and proofs from tiles against proofs from all leaves."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import steady
from muniment.ledger.errors import BadProof, BadTile
from muniment.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from muniment.ledger.tiles import (
    MAX_BUNDLED,
    TILE,
    TileReader,
    TileWriter,
    bundle_path,
    changed,
    decode_bundle,
    encode_bundle,
    layout,
    level_hashes,
    tile_path,
    tile_width,
)

LARGEST = 70_000
ENTRIES = [b"entry %d" % n for n in range(LARGEST)]
LEAVES = [leaf_hash(each) for each in ENTRIES]
SIZES = [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, LARGEST]


def tile(level, index, width):
    """The definition: hash i is MTH(D[(256n + i) * 256**l : (256n + i + 1) * 256**l])."""
    span = 256**level
    first = index * 256
    return b"".join(
        tree_root(LEAVES[at * span : (at + 1) * span]) for at in range(first, first + width)
    )  # fmt: skip


def written(*sizes):
    """The files of a log that published checkpoints of these sizes, in the order in which they were yielded."""
    writer, files, before = TileWriter(), [], 0
    for size in sizes:
        files += writer.extend(ENTRIES[before:size])
        files += writer.partials()
        before = size
    return writer, files


ALL = dict(written(*SIZES)[1])


def read(level, index, width):
    path = tile_path(level, index, width)
    return ALL[path] if path in ALL else ALL[tile_path(level, index)][: 32 * width]


def reader(size):
    """Whatever the size: from the files of the largest tree, cut where the smaller one ends."""

    def cut(level, index, width):
        for wide in (width, tile_width(LARGEST, level, index)):
            if (path := tile_path(level, index, wide)) in ALL:
                return ALL[path][: 32 * width]
        raise AssertionError(path)

    return TileReader(size, cut)


@pytest.mark.parametrize(
    ("index", "path"),
    [
        (0, "000"), (5, "005"), (999, "999"), (1000, "x001/000"), (1234, "x001/234"), (999_999, "x999/999"),
        (1_000_000, "x001/x000/000"), (1_234_067, "x001/x234/067"), (2**63, "x009/x223/x372/x036/x854/x775/808"),
    ],
)  # fmt: skip
def test_paths(index, path):
    assert tile_path(0, index) == f"tile/0/{path}"
    assert tile_path(63, index, 1) == f"tile/63/{path}.p/1"
    assert tile_path(1, index, 256) == f"tile/1/{path}"
    assert bundle_path(index) == f"tile/entries/{path}"
    assert bundle_path(index, 255) == f"tile/entries/{path}.p/255"


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_there_are_no_other_tiles(level, index, width):
    with pytest.raises(BadTile) as caught:
        tile_path(level, index, width)
    assert caught.value.code == "ledger.bad-tile"
    if not level:
        with pytest.raises(BadTile):
            bundle_path(index, width)


def test_the_example_of_the_specification():
    found = list(layout(70_000))
    assert found[:273] == [(0, n, 256) for n in range(273)]
    assert found[273:] == [(0, 273, 112), (1, 0, 256), (1, 1, 17), (2, 0, 1)]
    assert list(layout(256)) == [(0, 0, 256), (1, 0, 1)]
    assert list(layout(0)) == []
    assert list(layout(1)) == [(0, 0, 1)]


@steady
@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_growing_adds_what_the_old_tree_had_not(one, other):
    old, new = sorted((one, other))
    before = set(layout(old))
    assert list(changed(old, new)) == [each for each in layout(new) if each not in before]
    for level, index, width in layout(new):
        assert tile_width(new, level, index) == width
    assert tile_width(new, 0, new // 256 + 1) == 0


def test_a_huge_tree_is_laid_out_without_counting_its_tiles():
    assert list(changed(2**63 - 2, 2**63 - 1)) == [(0, 2**55 - 1, 255)]
    assert next(layout(2**63 - 1)) == (0, 0, 256)
    for old, new in [(-1, 0), (2, 1), (0, 2**63)]:
        with pytest.raises(BadTile):
            changed(old, new)


def test_bundles_round_trip_whatever_is_in_them():
    for entries in [[b""], [b"", b"", b"x"], [b"\x00\x01" * 300] * 256, [bytes(MAX_BUNDLED)]]:
        raw = encode_bundle(entries)
        assert len(raw) == sum(map(len, entries)) + 2 * len(entries)
        assert decode_bundle(raw, len(entries)) == entries
    assert encode_bundle([b"ab", b"", b"\xff"]) == b"\x00\x02ab\x00\x00\x00\x01\xff"


@steady
@given(st.lists(st.binary(max_size=700), min_size=1, max_size=20), st.integers(0, 40), st.integers(-2, 2))
def test_another_length_or_count_is_refused(entries, cut, off):
    raw = encode_bundle(entries)
    assert decode_bundle(raw, len(entries)) == entries
    if cut:
        with pytest.raises(BadTile):
            decode_bundle(raw[:-cut], len(entries))
        with pytest.raises(BadTile):
            decode_bundle(raw + bytes(cut), len(entries))
    if off and len(entries) + off > 0:
        with pytest.raises(BadTile):
            decode_bundle(raw, len(entries) + off)


@pytest.mark.parametrize(
    ("raw", "count", "sentence"),
    [
        (b"", 1, "ends before entry 0 of 1"),
        (b"\x00", 1, "ends before entry 0 of 1"),
        (b"\x00\x01", 1, "entry 0 of the bundle is cut off: 0 bytes are there, 1 were to come"),
        (b"\x00\x01a\x00", 2, "ends before entry 1 of 2"),
        (b"\x00\x01a\xff\xffb", 2, "entry 1 of the bundle is cut off"),
        (b"\x00\x01a\x00", 1, "1 bytes after the last of its 1 entries"),
        (b"", 0, "1 to 256 entries, not 0"),
        (bytes(514), 257, "1 to 256 entries, not 257"),
    ],
)
def test_the_fault_names_the_entry(raw, count, sentence):
    with pytest.raises(BadTile) as caught:
        decode_bundle(raw, count)
    assert sentence in str(caught.value)


def test_entries_that_are_too_long_are_refused():
    with pytest.raises(BadTile) as caught:
        encode_bundle([b"", bytes(MAX_BUNDLED + 1)])
    assert "entry 1 of the bundle has 65536 bytes" in str(caught.value)
    raw = encode_bundle([b"", bytes(32 * 1024), bytes(32 * 1024 + 1)])
    assert len(decode_bundle(raw, 3)) == 3
    with pytest.raises(BadTile) as caught:
        decode_bundle(raw, 3, limit=32 * 1024, what="tile/entries/000.p/3")
    assert "entry 2 of tile/entries/000.p/3 has 32769 bytes; 32768 are allowed" in str(caught.value)
    for entries in ([], [b""] * 257):
        with pytest.raises(BadTile):
            encode_bundle(entries)
    with pytest.raises(BadTile) as caught:
        list(TileWriter().extend([b"", bytes(MAX_BUNDLED + 1)]))
    assert "entry 1 has 65536 bytes" in str(caught.value)


def test_the_hash_of_a_full_tile():
    assert level_hashes(b"".join(LEAVES[:256])) == tree_root(LEAVES[:256])
    for raw in [b"", b"".join(LEAVES[:255]), b"".join(LEAVES[:257])]:
        with pytest.raises(BadTile):
            level_hashes(raw)


def test_every_file_is_the_one_that_the_definition_gives():
    for size in SIZES:
        for level, index, width in layout(size):
            assert ALL.get(tile_path(level, index, width), b"") == tile(level, index, width)
            if level == 0:
                bundle = decode_bundle(ALL[bundle_path(index, width)], width)
                assert bundle == ENTRIES[index * 256 : index * 256 + width]


@pytest.mark.parametrize(
    ("old", "new"), [*pairwise(SIZES), (0, 257), (1, 255), (100, 70_000), (256, 256), (300, 300)]
)
def test_going_on_gives_the_files_that_changed(old, new):
    before = dict(written(old)[1])
    writer = TileWriter(old, before.__getitem__)
    assert writer.root() == tree_root(LEAVES[:old])
    files = [*writer.extend(ENTRIES[old:new]), *writer.partials()]
    wanted = [tile_path(*each) for each in changed(old, new)]
    wanted += [bundle_path(index, width) for level, index, width in changed(old, new) if level == 0]
    assert sorted(path for path, _ in files) == sorted(wanted)
    assert list(writer.partials()) == []
    assert dict(files).items() <= dict(written(old, new)[1]).items()
    assert (writer.size, writer.root()) == (new, tree_root(LEAVES[:new]))


def test_no_file_comes_before_what_it_hashes():
    seen = set()
    for path, _ in written(*SIZES)[1]:
        seen.add(path)
        for level, index, width in ((1, 0, 256), (1, 1, 17), (2, 0, 1)):
            if path == tile_path(level, index, width):
                below = range(index * 256, index * 256 + width)
                assert all(tile_path(level - 1, at) in seen for at in below)


def test_a_damaged_edge_is_not_continued():
    good = dict(written(65_537 + 3)[1])
    for path in [tile_path(0, 256, 4), tile_path(1, 1, 1), tile_path(2, 0, 1), bundle_path(256, 4)]:
        if path not in good:
            continue
        for damage in (good[path][:-1], good[path] + b"x", b""):
            with pytest.raises(BadTile):
                TileWriter(65_540, (good | {path: damage}).__getitem__)
    other = {bundle_path(256, 4): encode_bundle([b"a", b"b", b"c", b"d"])}
    with pytest.raises(BadTile) as caught:
        TileWriter(65_540, (good | other).__getitem__)
    assert "holds other entries" in str(caught.value)
    for size in (1, -1, 2**63):
        with pytest.raises(BadTile):
            TileWriter(size)


@pytest.mark.parametrize("size", SIZES)
def test_roots_and_proofs_at_the_boundaries(size):
    leaves, tiles = LEAVES[:size], TileReader(size, read)
    root = tree_root(leaves)
    assert tiles.root() == root
    for index in sorted({0, 1, size // 2, size - 257, size - 256, size - 2, size - 1} & set(range(size))):
        proof = tiles.inclusion(index)
        verify_inclusion(ENTRIES[index], index, size, proof, root)
        if size < 1000 or index == size - 1:
            assert proof == inclusion_proof(index, leaves)
    for old in [each for each in (*SIZES, 65_000) if each <= size]:
        assert tiles.root(old) == tree_root(leaves[:old])
        proof = tiles.consistency(old)
        verify_consistency(old, size, proof, tree_root(leaves[:old]), root)
        if size < 1000:
            assert proof == consistency_proof(old, leaves)


@pytest.mark.parametrize("size", [*range(1, 40), 255, 256, 257, 258, 300])
def test_every_proof_of_a_small_tree(size):
    tiles, leaves = reader(size), LEAVES[:size]
    assert [tiles.inclusion(at) for at in range(size)] == [inclusion_proof(at, leaves) for at in range(size)]
    assert [tiles.consistency(at) for at in range(size + 1)] == [
        consistency_proof(at, leaves) for at in range(size + 1)
    ]


@steady
@given(st.data(), st.integers(1, 3000))
def test_proofs_are_those_made_from_all_leaves(data, size):
    tiles, leaves = reader(size), LEAVES[:size]
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    assert tiles.root() == tree_root(leaves)
    assert tiles.root(old) == tree_root(leaves[:old])
    assert tiles.inclusion(index) == inclusion_proof(index, leaves)
    assert tiles.consistency(old) == consistency_proof(old, leaves)


@steady
@given(st.data(), st.integers(60_000, LARGEST))
def test_proofs_of_large_trees_verify(data, size):
    tiles = reader(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    root = tiles.root()
    verify_inclusion(ENTRIES[index], index, size, tiles.inclusion(index), root)
    verify_consistency(old, size, tiles.consistency(old), tiles.root(old), root)


def test_a_proof_reads_few_tiles():
    asked = []

    def counting(level, index, width):
        asked.append((level, index, width))
        return read(level, index, width)

    TileReader(LARGEST, counting).inclusion(12_345)
    assert len(asked) == len(set(asked))
    assert set(asked) <= set(layout(LARGEST))
    assert len(asked) <= 5  # one for each level on the way, and the right edge


def test_an_altered_tile_gives_no_proof_that_verifies():
    def altered(level, index, width):
        raw = read(level, index, width)
        return raw[:32] + bytes(32) + raw[64:] if (level, index) == (1, 0) else raw

    tiles, root = TileReader(LARGEST, altered), tree_root(LEAVES)
    assert tiles.root() == root  # from the right edge alone: it says nothing of the rest
    with pytest.raises(BadProof):
        verify_inclusion(ENTRIES[600], 600, LARGEST, tiles.inclusion(600), root)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda _: b""])
def test_a_tile_of_another_length_is_refused(damage):
    tiles = TileReader(300, lambda level, index, width: damage(read(level, index, width)))
    for ask in (tiles.root, lambda: tiles.inclusion(0), lambda: tiles.consistency(3)):
        with pytest.raises(BadTile):
            ask()


def test_no_proof_outside_the_tree():
    tiles = reader(300)
    for ask in (tiles.inclusion, tiles.consistency, tiles.root):
        for at in (-1, 301):
            with pytest.raises(BadProof):
                ask(at)
    with pytest.raises(BadProof):
        tiles.inclusion(300)
    assert reader(0).root() == EMPTY_ROOT
    for size in (-1, 2**63):
        with pytest.raises(BadTile):
            TileReader(size, read)


def test_the_root_of_the_writer_is_that_of_the_frontier():
    writer, frontier = TileWriter(), Frontier()
    for size in range(600):
        assert writer.root() == frontier.root()
        full = [path for path, _ in writer.extend(ENTRIES[size : size + 1])]
        assert full == (
            [bundle_path(size // TILE), tile_path(0, size // TILE)] if (size + 1) % TILE == 0 else []
        )
        frontier = frontier.append(LEAVES[size])
