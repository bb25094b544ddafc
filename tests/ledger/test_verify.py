"""A whole log: sound ones pass, and each way to damage one is caught, at the level and the place named."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import ORIGIN, SIGNER, STRANGER, VERIFIER, build, entry, head, seal, steady
from muniment.ledger.checkpoint import Checkpoint, sign_checkpoint
from muniment.ledger.entry import Entry, decode_entry, entry_ref
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.verify import Level, Report, verify_log

#                0    1    2    3    4    5    6    7    8    9
LOG = build(["a", "b", "a", "a", "b", "c", "a", "b", "c", "a"])
NOTE = seal(LOG)
OTHER = signer_from_seed("ledger.example.org/other", bytes(range(32)))


def check(entries=None, note=NOTE, *, origin=ORIGIN, verifier=VERIFIER, **options) -> Report:
    return verify_log(
        enumerate(LOG if entries is None else entries), note, verifier, origin=origin, **options
    )


def test_a_sound_log():
    report = check()
    assert msgspec.to_builtins(report) == {
        "ok": True,
        "events": 10,
        "levels": {
            "V1": {"ok": True, "checked": 1, "first_fault": None},
            "V2": {"ok": True, "checked": 10, "first_fault": None},
            "V3": {"ok": True, "checked": 10, "first_fault": None},
        },
    }


def test_an_empty_log():
    assert check([], seal([])) == Report(
        ok=True,
        events=0,
        levels={
            "V1": Level(ok=True, checked=1),
            "V2": Level(ok=True, checked=0),
            "V3": Level(ok=True, checked=0),
        },
    )


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1023, 1024, 1025, 2048, 2500])
def test_sound_logs_of_many_sizes(size):
    entries = build(f"req_{n % 37}" for n in range(size))
    seen: list[int] = []
    report = check(entries, seal(entries), progress=seen.append)
    assert report.ok
    assert report.events == size
    assert report.levels["V2"].checked == report.levels["V3"].checked == size
    assert seen == [*range(1024, size, 1024), size]


def test_entries_that_are_not_sealed_yet_are_checked_by_form_alone():
    note = seal(LOG[:6])
    assert check(note=note).levels["V2"] == Level(ok=True, checked=6)
    assert check(note=note).levels["V3"] == Level(ok=True, checked=10)
    broken = check([*LOG[:8], LOG[8].replace(b"maintenance", b"Maintenance"), LOG[8]], note)
    assert broken.levels["V2"].ok
    assert not broken.levels["V3"].ok


def edit(index: int, **changes: object) -> Callable[[list[bytes]], list[bytes]]:
    """Change fields of one entry, in canonical form and without the checks of `Entry.encode`."""

    def damage(entries: list[bytes]) -> list[bytes]:
        old = decode_entry(entries[index])
        fields = {name: getattr(old, name) for name in old.__struct_fields__} | changes
        return splice(index, msgspec.json.encode(Entry(**fields), order="sorted"))(entries)

    return damage


def splice(index: int, *new: bytes, drop: int = 1) -> Callable[[list[bytes]], list[bytes]]:
    return lambda entries: [*entries[:index], *new, *entries[index + drop :]]


def swap(one: int, two: int) -> Callable[[list[bytes]], list[bytes]]:
    def damage(entries: list[bytes]) -> list[bytes]:
        entries = list(entries)
        entries[one], entries[two] = entries[two], entries[one]
        return entries

    return damage


class Damage(NamedTuple):
    """How to damage the log, and what V3 has to say; None where only the tree can show it."""

    how: Callable[[list[bytes]], list[bytes]]
    v3: str | None
    v3_checked: int = 10
    count: int = 10


ACTOR = decode_entry(LOG[0]).actor
CHANGED = msgspec.structs.replace(ACTOR, id="human:eve@example.com")
CHAIN = "prev is not the leaf hash of seq"
DAMAGE = {
    # a field of entry 2 (ticket a, seq 1); its successor in the ticket is entry 3
    "v": Damage(edit(2, v=2), "leaf 2: the bytes are not an entry", 3),
    "log": Damage(edit(2, log="ledger.example.org/munimenu"), "leaf 2, ticket 'a', seq 1: it belongs to the log", 3),
    "ticket to a new one": Damage(edit(2, ticket="z"), "leaf 2, ticket 'z', seq 1: the ticket begins here: seq 0", 3),
    "ticket to another": Damage(edit(2, ticket="b"), f"leaf 2, ticket 'b', seq 1: {CHAIN} 0", 3),
    "seq up": Damage(edit(2, seq=2), "leaf 2, ticket 'a', seq 2: seq 1 was to come", 3),
    "seq down": Damage(edit(2, seq=0), "leaf 2, ticket 'a', seq 0: prev is 'sha256:", 3),
    "seq down, prev too": Damage(edit(2, seq=0, prev=None), "leaf 2, ticket 'a', seq 0: the ticket is at seq 0", 3),
    "prev": Damage(edit(2, prev="sha256:" + "0" * 64), f"leaf 2, ticket 'a', seq 1: {CHAIN} 0", 3),
    "prev to another entry": Damage(edit(2, prev=entry_ref(LOG[1])), f"leaf 2, ticket 'a', seq 1: {CHAIN} 0", 3),
    "prev to the entry itself": Damage(edit(3, prev=entry_ref(LOG[3])), f"leaf 3, ticket 'a', seq 2: {CHAIN} 1", 4),
    "prev null": Damage(edit(2, prev=None), "leaf 2, ticket 'a', seq 1: prev is not sha256:", 3),
    "type": Damage(edit(2, type="request-submitted/2"), f"leaf 3, ticket 'a', seq 2: {CHAIN} 1", 4),
    "actor": Damage(edit(2, actor=CHANGED), f"leaf 3, ticket 'a', seq 2: {CHAIN} 1", 4),
    "at": Damage(edit(2, at="2026-11-23T10:00:00.000001Z"), f"leaf 3, ticket 'a', seq 2: {CHAIN} 1", 4),
    "at, no instant": Damage(edit(2, at="2026-11-23T10:60:00.000000Z"), "leaf 2, ticket 'a', seq 1: at is not", 3),
    "data": Damage(edit(2, data=msgspec.Raw(b"{}")), f"leaf 3, ticket 'a', seq 2: {CHAIN} 1", 4),
    "sig added": Damage(edit(2, sig={"a": "b"}), f"leaf 3, ticket 'a', seq 2: {CHAIN} 1", 4),
    "data of a ticket's last entry": Damage(edit(9, data=msgspec.Raw(b"{}")), None),
    "first entry of all": Damage(edit(0, data=msgspec.Raw(b"{}")), f"leaf 2, ticket 'a', seq 1: {CHAIN} 0", 3),
    # another spelling of the same entry
    "space": Damage(splice(4, LOG[4].replace(b'"seq":', b'"seq": ')), "leaf 4, ticket 'b', seq 1: the envelope is not", 5),
    "key twice": Damage(
        splice(4, LOG[4].replace(b'"place":', b'"place":0,"place":')), "leaf 4, ticket 'b', seq 1: data has the key 'place'", 5
    ),
    "float": Damage(splice(4, LOG[4].replace(b'"place":4', b'"place":4.0')), "leaf 4, ticket 'b', seq 1: data holds 4.0", 5),
    "not JSON": Damage(splice(4, b"\x00"), "leaf 4: the bytes are not an entry", 5),
    "nothing": Damage(splice(4, b""), "leaf 4: the bytes are not an entry", 5),
    "far too long": Damage(splice(4, b"[" * 100_000), "leaf 4: the entry has 100000 bytes", 5),
    # whole entries
    "deletion in a ticket": Damage(splice(3), "leaf 5, ticket 'a', seq 3: seq 2 was to come", 6, 9),
    "deletion of a ticket's first": Damage(splice(5), "leaf 7, ticket 'c', seq 1: the ticket begins here: seq 0", 8, 9),
    "deletion of a ticket's last": Damage(splice(8), None, 9, 9),
    "deletion of the last of all": Damage(splice(9), None, 9, 9),
    "deletion of everything": Damage(lambda _: [], None, 0, 0),
    "repetition": Damage(splice(3, LOG[3], LOG[3]), "leaf 4, ticket 'a', seq 2: the ticket is at seq 2 already", 5, 11),
    "repetition far away": Damage(splice(9, LOG[0], LOG[9]), "leaf 9, ticket 'a', seq 0: the ticket is at seq 3", 10, 11),
    "swap in a ticket": Damage(swap(2, 3), "leaf 2, ticket 'a', seq 2: seq 1 was to come", 3),
    "swap of the first two of a ticket": Damage(swap(1, 4), "leaf 1, ticket 'b', seq 1: the ticket begins here", 2),
    "swap across tickets": Damage(swap(4, 5), None),
    "everything reversed": Damage(lambda entries: entries[::-1], "leaf 0, ticket 'a', seq 4: the ticket begins here", 1),
    "insertion of a new ticket": Damage(splice(4, entry(ticket="z").encode(), LOG[4]), None, 11, 11),
    "insertion into a ticket": Damage(
        splice(4, entry(ticket="a", seq=3, prev=entry_ref(LOG[3])).encode(), LOG[4]),
        "leaf 7, ticket 'a', seq 3: the ticket is at seq 3 already",
        8,
        11,
    ),
    "an entry of another log": Damage(
        splice(5, build(["c"], "ledger.example.org/other")[0]), "leaf 5, ticket 'c', seq 0: it belongs to the log", 6
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_under_the_old_checkpoint_shows_in_the_tree(name):
    how, v3, v3_checked, count = DAMAGE[name]
    damaged = how(LOG)
    report = check(damaged)
    assert not report.ok
    assert report.events == count == len(damaged)
    assert report.levels["V1"] == Level(ok=True, checked=1)
    v2 = report.levels["V2"]
    assert not v2.ok
    assert v2.checked == min(count, 10)
    missing = (
        f"leaf {count} is missing, and all that follow: the checkpoint covers 10 leaves, {count} are there"
    )
    assert (v2.first_fault or "").startswith(
        missing if count < 10 else "leaves 0 to 9 are not those the checkpoint covers"
    )
    assert_v3(report.levels["V3"], v3, v3_checked)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_that_the_log_key_signed_anew_shows_in_the_chains(name):
    how, v3, v3_checked, _ = DAMAGE[name]
    damaged = how(LOG)
    report = check(damaged, seal(damaged))
    assert report.levels["V1"].ok
    assert report.levels["V2"] == Level(ok=True, checked=len(damaged))
    assert_v3(report.levels["V3"], v3, v3_checked)
    # what only an older checkpoint, kept by somebody else, can show is not found here: witnesses are for that
    assert report.ok == (v3 is None)


def assert_v3(level: Level, sentence: str | None, checked: int) -> None:
    assert level.checked == checked
    assert level.ok == (sentence is None)
    assert (level.first_fault or "").startswith(sentence or "")


HEAD = head(LOG)
SIGNATURES = {
    "by another key": (seal(LOG, STRANGER), "the note is signed by"),
    "altered signature": (NOTE[:-9] + ("A" if NOTE[-9] != "A" else "B") + NOTE[-8:], "does not verify"),
    "another log's checkpoint": (seal(LOG, OTHER), "the note is signed by"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_bad_signature_shows_at_v1_alone(name):
    note, sentence = SIGNATURES[name]
    report = check(note=note)
    assert not report.ok
    assert not report.levels["V1"].ok
    assert sentence in (report.levels["V1"].first_fault or "")
    assert (report.levels["V1"].first_fault or "").startswith("checkpoint: ")
    assert report.levels["V2"].ok
    assert report.levels["V3"].ok


def test_a_sound_log_that_is_not_the_expected_one():
    entries = build(["a", "b"], OTHER.name)
    report = check(entries, seal(entries, OTHER), verifier=OTHER.verifier)
    assert not report.levels["V1"].ok
    assert "ledger.example.org/other" in (report.levels["V1"].first_fault or "")
    assert report.levels["V2"].ok
    assert (report.levels["V3"].first_fault or "").startswith(
        "leaf 0, ticket 'a', seq 0: it belongs to the log"
    )


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (Checkpoint(origin=ORIGIN, size=9, root=HEAD.root), "leaves 0 to 8 are not those"),
        (Checkpoint(origin=ORIGIN, size=11, root=HEAD.root), "leaf 10 is missing, and all that follow"),
        (Checkpoint(origin=ORIGIN, size=10, root=bytes(32)), "leaves 0 to 9 are not those"),
        (Checkpoint(origin=ORIGIN, size=2**62, root=HEAD.root), "leaf 10 is missing"),
    ],
)
def test_another_size_or_root_shows_at_v2_alone(head, sentence):
    report = check(note=sign_checkpoint(head, [SIGNER]))
    assert report.levels["V1"].ok
    assert (report.levels["V2"].first_fault or "").startswith(sentence)
    assert report.levels["V3"].ok


@pytest.mark.parametrize("note", ["", "nonsense", b"\xff", f"{ORIGIN}\n010\nAAAA\n\n— a YWJjZGU=\n"])
def test_without_a_readable_checkpoint_there_is_nothing_to_compare_with(note):
    report = check(note=note)
    assert not report.levels["V1"].ok
    assert report.levels["V2"].checked == 0
    assert "no size and root" in (report.levels["V2"].first_fault or "")
    assert report.levels["V3"] == Level(ok=True, checked=10)


@pytest.mark.parametrize(
    ("indexes", "checked", "sentence"),
    [
        ([0, 1, 2, 4, 5], 3, "leaf 3 is missing: leaf 4 comes in its place"),
        ([1, 2, 3], 0, "leaf 0 is missing: leaf 1 comes in its place"),
        ([0, 1, 1, 2], 2, "leaf 1 comes again where leaf 2 belongs"),
        ([0, 2, 1], 1, "leaf 1 is missing: leaf 2 comes in its place"),
    ],
)
def test_leaves_out_of_order_show_at_v2(indexes, checked, sentence):
    pairs = [(index, LOG[index]) for index in indexes]
    report = verify_log(pairs, NOTE, VERIFIER, origin=ORIGIN, levels=["V2"])
    assert report.levels == {"V2": Level(ok=False, checked=checked, first_fault=sentence)}


def test_only_the_levels_asked_for_are_checked():
    broken = [b"junk", *LOG[1:]]
    assert check(broken, levels=["V1"]) == Report(ok=True, events=0, levels={"V1": Level(ok=True, checked=1)})
    assert not check(broken, levels=["V2"]).ok
    assert list(check(broken, levels=["V3", "V1"]).levels) == ["V1", "V3"]
    junk = [b"junk", b"more"]
    assert check(junk, seal(junk), levels=["V1", "V2"]).ok


@pytest.mark.parametrize("levels", [[], ["V4"], ["V1", "v2"]])
def test_a_level_that_does_not_exist(levels):
    with pytest.raises(ValueError, match="levels are some of"):
        check(levels=levels)


@steady
@given(st.integers(0, len(LOG) - 1), st.data())
def test_no_altered_byte_goes_unseen(index, data):
    at = data.draw(st.integers(0, len(LOG[index]) - 1))
    flip = data.draw(st.integers(1, 255))
    raw = bytearray(LOG[index])
    raw[at] ^= flip
    report = check([*LOG[:index], bytes(raw), *LOG[index + 1 :]])
    assert report.levels["V1"].ok
    assert not report.levels["V2"].ok
    if index not in (7, 8, 9):  # the last of each ticket: nothing names their hashes
        assert not report.levels["V3"].ok


def test_names_that_could_mislead_are_escaped_in_a_report():
    hostile = msgspec.json.encode(entry(ticket="a\u202e\x1b[31m\n"), order="sorted")
    fault = check([hostile]).levels["V3"].first_fault or ""
    assert fault.isprintable()
    assert "leaf 0, ticket 'a\\u202e\\x1b[31m\\n', seq 0: ticket is not" in fault


def test_memory_does_not_grow_with_the_log():
    covering_all = sign_checkpoint(Checkpoint(origin=ORIGIN, size=2**62, root=HEAD.root), [SIGNER])

    def one_ticket(count: int):
        prev = None
        for index in range(count):
            raw = entry(seq=index, prev=prev).encode()
            prev = entry_ref(raw)
            yield index, raw

    peaks = []
    for count in (2_048, 8_192):
        tracemalloc.start()
        report = verify_log(one_ticket(count), covering_all, VERIFIER, origin=ORIGIN)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.levels["V2"].checked == report.levels["V3"].checked == count
    assert peaks[1] < peaks[0] * 1.1
