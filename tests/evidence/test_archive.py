"""The container: one spelling, read by every tool, and nothing in it altered unnoticed."""

from __future__ import annotations

import io
import random
import stat
import zipfile

import pytest

from muniment.evidence import archive
from muniment.evidence.archive import MAX_FILES, BadBundle, pack, unpack

FILES = {
    "README.txt": b"read me\n",
    "verify.sh": b"exit 0\n",
    "ticket/0000.entry": b"{}",
    "ticket/0001.entry": b"",
}
PACKED = pack(FILES)


def test_other_tools_read_it() -> None:
    with zipfile.ZipFile(io.BytesIO(PACKED)) as found:
        assert found.testzip() is None
        assert {name: found.read(name) for name in found.namelist()} == FILES
        modes = {each.filename: stat.S_IMODE(each.external_attr >> 16) for each in found.infolist()}
    assert modes == {
        "README.txt": 0o644,
        "ticket/0000.entry": 0o644,
        "ticket/0001.entry": 0o644,
        "verify.sh": 0o755,
    }


def test_it_has_one_spelling() -> None:
    assert pack(dict(reversed(FILES.items()))) == PACKED
    assert unpack(PACKED) == FILES
    assert unpack(pack({})) == {}


def test_no_bit_can_be_changed() -> None:
    for at in range(len(PACKED)):
        for bit in range(8):
            changed = bytearray(PACKED)
            changed[at] ^= 1 << bit
            with pytest.raises(BadBundle):
                unpack(bytes(changed))


def test_nothing_can_be_cut_off_or_added() -> None:
    for at in range(len(PACKED)):
        with pytest.raises(BadBundle):
            unpack(PACKED[:at])
        with pytest.raises(BadBundle):
            unpack(PACKED[:at] + b"\x00" + PACKED[at:])
    for more in (PACKED + b"\n", b"\n" + PACKED, PACKED + PACKED):
        with pytest.raises(BadBundle):
            unpack(more)


def zipped(entries: list[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, content in entries:
            made.writestr(name, content)
    return buffer.getvalue()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("trust", (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (zipped([("a", b"x" * 10_000_000)], zipfile.ZIP_DEFLATED), "is compressed"),
        (zipped([("../../etc/passwd", b"x")]), "a name that is not allowed"),
        (zipped([("/etc/passwd", b"x")]), "a name that is not allowed"),
        (zipped([("a\\..\\b", b"x")]), "a name that is not allowed"),
        (zipped([(".hidden", b"x")]), "a name that is not allowed"),
        (zipped([("a/b/c", b"x")]), "a name that is not allowed"),
        (zipped([("folder/", b"")]), "a name that is not allowed"),
        (zipped([("ü", b"x")]), "not ASCII"),
        (zipped([(link(), b"/etc/passwd")]), "not a plain file"),
        (zipped([("a", b"x")]), "not a plain file"),  # mode 0600
        (PACKED.replace(b"ticket/0001", b"ticket/0000"), "two files ticket/0000.entry"),
        (b"", "does not begin as one"),
        (b"not a ZIP at all, but long enough to look at", "does not begin as one"),
        (b"PK\x05\x06" + b"\xff" * 18, "files; "),
        (PACKED[:-6] + b"\xff\xff\xff\x7f" + PACKED[-2:], "not where it says"),
    ],
)
def test_what_is_no_bundle_is_named(raw: bytes, says: str) -> None:
    with pytest.raises(BadBundle, match=says) as refused:
        unpack(raw)
    assert refused.value.code == "evidence.bad-bundle"


def test_an_altered_file_is_named() -> None:
    with pytest.raises(BadBundle, match="was altered"):
        unpack(PACKED.replace(b"read me", b"READ me"))


def test_there_are_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BUNDLE", 1000)
    with pytest.raises(BadBundle, match="larger than 1000 bytes"):
        unpack(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(BadBundle, match="larger than 1000 bytes"):
        pack({"a": bytes(990)})
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(BadBundle, match="4 files; 3 are allowed"):
        pack({str(n): b"" for n in range(4)})
    assert MAX_FILES < 65_535, "so that no ZIP64 is ever needed"


def test_noise_gives_no_traceback() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        raw = bytearray(PACKED)
        for _ in range(chance.randint(1, 12)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        if raw != PACKED:
            with pytest.raises(BadBundle):
                unpack(bytes(raw))
