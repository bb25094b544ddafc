"""The format of revocation lists, with `ssh-keygen` as the judge."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.connectors import krl as lists
from muniment.connectors.krl import Krl, Revoked
from muniment.core.errors import Misconfigured

needs_ssh_keygen = pytest.mark.server("sshd")

SERIALS = st.integers(1, (1 << 64) - 1)
BLOBS = st.binary(min_size=1, max_size=40)
REVOKED = st.builds(
    Revoked,
    serials=st.frozensets(SERIALS, max_size=8),
    ranges=st.frozensets(st.tuples(SERIALS, SERIALS).map(lambda pair: (min(pair), max(pair))), max_size=4),
    key_ids=st.frozensets(BLOBS.filter(lambda blob: b"\0" not in blob), max_size=4),
)
LISTS = st.builds(
    Krl,
    version=st.integers(0, (1 << 64) - 1),
    generated=st.integers(0, (1 << 64) - 1),
    comment=st.binary(max_size=20).filter(lambda blob: b"\0" not in blob),
    certificates=st.dictionaries(st.binary(max_size=20), REVOKED, max_size=3),
    keys=st.frozensets(BLOBS, max_size=3),
    sha1=st.frozensets(st.binary(min_size=20, max_size=20), max_size=3),
    sha256=st.frozensets(st.binary(min_size=32, max_size=32), max_size=3),
)


def run(*command: str | Path, status: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == status, done
    return done.stdout


def wire(public: Path) -> bytes:
    return base64.b64decode(public.read_text().split()[1])


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with two authorities, ``ca`` and ``other``, and a user's key."""
    for name in ("ca", "other", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
    return tmp_path


def certificate(keys: Path, serial: int, key_id: str = "x", by: str = "ca") -> Path:
    run("ssh-keygen", "-q", "-s", keys / by, "-I", key_id, "-z", str(serial), "-n", "web", keys / "user.pub")
    return keys / "user-cert.pub"


def says_revoked(krl: Path, path: Path) -> bool:
    """What OpenSSH's own code answers for the key or certificate in ``path``."""
    done = subprocess.run(["ssh-keygen", "-Q", "-f", krl, path], capture_output=True, text=True, check=False)
    assert "REVOKED" in done.stdout or "ok" in done.stdout, done
    return done.returncode != 0


@given(LISTS)
def test_what_is_written_is_what_is_read(krl: Krl):
    assert lists.parse(lists.encode(krl)) == krl


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: lists.encode(Krl()) + tail))
def test_any_bytes_are_a_list_or_refused(data: bytes):
    try:
        krl = lists.parse(data)
    except Misconfigured as error:
        assert error.remedy
    else:
        assert lists.parse(lists.encode(krl)) == krl


@given(LISTS, st.data())
def test_a_changed_byte_or_a_cut_gives_a_list_or_a_refusal(krl: Krl, data: st.DataObject):
    whole = bytearray(lists.encode(krl))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    for bytes_ in (bytes(whole), bytes(whole)[: data.draw(st.integers(0, len(whole)))]):
        try:
            lists.parse(bytes_)
        except Misconfigured:
            continue


@given(LISTS, st.binary(max_size=10), st.sets(SERIALS, min_size=1, max_size=5))
def test_merging_adds_and_loses_nothing(krl: Krl, authority: bytes, serials: set[int]):
    merged = krl.with_serials({authority: serials})
    assert all(merged.revokes(authority, serial) for serial in serials)
    for known, revoked in krl.certificates.items():
        assert revoked.serials <= merged.certificates[known].serials
        assert (revoked.ranges, revoked.key_ids) == (
            merged.certificates[known].ranges,
            merged.certificates[known].key_ids,
        )
    assert (krl.keys, krl.sha1, krl.sha256) == (merged.keys, merged.sha1, merged.sha256)


HEAD = lists.encode(Krl())


def section(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(4, "big") + data


def about_certificates(kind: int, data: bytes) -> bytes:
    return HEAD + section(1, bytes(8) + section(kind, data))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "ends too early"),
        (b"ssh-ed25519 AAAA", "does not start like one"),
        (HEAD[:-1], "ends too early"),
        (HEAD[:11] + b"\2" + HEAD[12:], "format version"),
        (HEAD[:35] + b"\1" + HEAD[36:], "header"),
        (HEAD + section(4, b"key") + bytes(4), "type 4"),
        (HEAD + section(255, b"extension"), "type 255"),
        (HEAD + section(3, section(0, b"short")[1:]), "5 bytes where 20"),
        (about_certificates(0x39, b"extension"), "0x39"),
        (about_certificates(0x20, bytes(8)), "from 0 to 0"),
        (about_certificates(0x20, bytes(7)), "too early"),
        (about_certificates(0x21, (5).to_bytes(8, "big") + (4).to_bytes(8, "big")), "from 5 to 4"),
        (about_certificates(0x21, bytes(7) + b"\1" + bytes(7) + b"\1more"), "after its end"),
        (about_certificates(0x22, bytes(7) + b"\1" + b"\0\0\0\1\x80"), "negative"),
        (about_certificates(0x22, b"\xff" * 8 + b"\0\0\0\1\2"), f"to {1 << 64}"),
        (about_certificates(0x23, b"\0\0\0\2a\0"), "NUL"),
    ],
)
def test_what_we_cannot_keep_is_refused(data: bytes, sentence: str):
    with pytest.raises(Misconfigured, match=sentence):
        lists.parse(data)


@needs_ssh_keygen
def test_ssh_keygen_reads_ours(keys: Path):
    ca, other = wire(keys / "ca.pub"), wire(keys / "other.pub")
    krl = Krl(
        certificates={
            ca: Revoked(serials=frozenset({42, (1 << 63) - 1}), ranges=frozenset({(100, 200)})),
            other: Revoked(key_ids=frozenset({b"muniment:req_1:ann"})),
        }
    )
    (keys / "krl").write_bytes(lists.encode(krl))
    for by, authority in (("ca", ca), ("other", other)):
        for serial in (1, 42, 99, 100, 150, 200, 201, (1 << 63) - 2, (1 << 63) - 1):
            for key_id in ("muniment:req_1:ann", "muniment:req_2:ann"):
                path = certificate(keys, serial, key_id, by)
                expected = krl.revokes(authority, serial, key_id.encode())
                assert says_revoked(keys / "krl", path) == expected, (by, serial, key_id)


@needs_ssh_keygen
def test_ssh_keygen_reads_an_empty_list(keys: Path):
    (keys / "krl").write_bytes(HEAD)
    assert not says_revoked(keys / "krl", certificate(keys, 42))
    (keys / "krl").write_bytes(lists.encode(Krl(certificates={wire(keys / "ca.pub"): Revoked()})))
    assert not says_revoked(keys / "krl", certificate(keys, 42))


SPEC = """
serial: 1-10
serial: 100
serial: 102
serial: 104
serial: 5000-900000
serial: 99999999
serial: 1234567890123456789
id: foo
id: bar
"""


@needs_ssh_keygen
def test_we_read_theirs_and_merging_keeps_all(keys: Path):
    """Serials come as list, range and bitmap, as ssh-keygen likes; keys by themselves and by hash."""
    krl, spec, plain = keys / "krl", keys / "spec", keys / "plain"
    spec.write_text(SPEC)
    plain.write_text(f"sha1: {(keys / 'other.pub').read_text()}sha256: {(keys / 'other.pub').read_text()}")
    run("ssh-keygen", "-k", "-f", krl, "-s", keys / "ca.pub", "-z", "7", spec)
    run("ssh-keygen", "-k", "-u", "-f", krl, "-z", "8", plain)
    run("ssh-keygen", "-k", "-u", "-f", krl, "-z", "8", keys / "user.pub")
    ca, before = wire(keys / "ca.pub"), run("ssh-keygen", "-Q", "-l", "-f", krl)
    found = lists.parse(krl.read_bytes())
    assert found.version == 8
    assert found.certificates[ca].key_ids == {b"foo", b"bar"}
    held = {1, 5, 10, 100, 102, 104, 5000, 77777, 900000, 99999999, 1234567890123456789}
    assert all(found.revokes(ca, serial) for serial in held)
    assert not any(found.revokes(ca, serial) for serial in (11, 99, 101, 103, 105, 4999, 900001, 1 << 62))
    assert found.revokes_key(wire(keys / "user.pub"))
    assert found.revokes_key(wire(keys / "other.pub"))
    assert not found.revokes_key(ca)

    krl.write_bytes(lists.encode(found.with_serials({ca: [4000000000]})))
    after = run("ssh-keygen", "-Q", "-l", "-f", krl)
    facts = [{line for line in text.splitlines() if not line.startswith("#")} for text in (before, after)]
    assert facts[1] - facts[0] == {"serial: 4000000000"}
    assert not facts[0] - facts[1]
    assert says_revoked(krl, keys / "user.pub")
    assert says_revoked(krl, keys / "other.pub")
