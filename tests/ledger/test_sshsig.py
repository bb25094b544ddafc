"""SSHSIG read and verified as strictly as OpenSSH does, with ``ssh-keygen`` beside it as the judge."""

from __future__ import annotations

import base64
import hashlib
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from muniment.ledger.errors import BadKey, BadSignature
from muniment.ledger.sshsig import armoured, fingerprint, parse, read_key

TEXT = b'{"approver":"human:cyd@example.com","ticket":"req_1"}'
KEYS = (("ed25519", ()), ("ecdsa", ("-b", "256")), ("ecdsa", ("-b", "521")), ("rsa", ("-b", "2048")))

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="apt-get install openssh-client")


def keygen(*words: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *words], input=text, capture_output=True, check=False)


def signed(key: Path, text: bytes = TEXT, namespace: str = "muniment-approval", *more: str) -> str:
    done = keygen("-Y", "sign", "-n", namespace, "-f", str(key), *more, text=text)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def openssh_takes(
    tmp_path: Path, armour: str, text: bytes = TEXT, namespace: str = "muniment-approval"
) -> bool:
    file = tmp_path / "judged.sig"
    file.write_text(armour)
    return not keygen("-Y", "check-novalidate", "-n", namespace, "-s", str(file), text=text).returncode


@pytest.fixture
def key(tmp_path: Path) -> Path:
    assert not keygen("-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")).returncode
    return tmp_path / "key"


@pytest.mark.parametrize(("kind", "options"), KEYS)
def test_every_kind_of_key_that_openssh_signs_with(
    tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    path = tmp_path / "key"
    assert not keygen("-q", "-t", kind, *options, "-N", "", "-f", str(path)).returncode
    for more in ((), ("-O", "hashalg=sha256")):
        found = parse(signed(path, TEXT, "muniment-approval", *more))
        found.verify(TEXT)
        assert found.namespace == "muniment-approval"
        assert found.key_line == read_key(path.with_suffix(".pub").read_text())
        assert fingerprint(found.key_line).encode() in keygen("-l", "-f", f"{path}.pub").stdout
        with pytest.raises(BadSignature, match="not one of this text"):
            found.verify(TEXT + b" ")


def test_every_single_flipped_bit_is_refused(tmp_path: Path, key: Path) -> None:
    raw = base64.b64decode("".join(signed(key).splitlines()[1:-1]))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((BadSignature, BadKey)):
            parse(armoured(bytes(changed))).verify(TEXT)


def test_another_spelling_is_refused(tmp_path: Path, key: Path) -> None:
    armour = signed(key)
    raw = base64.b64decode("".join(armour.splitlines()[1:-1]))
    assert armoured(raw) == armour, "our armour is not OpenSSH's"
    lines = armour.splitlines(keepends=True)
    one_line = lines[0] + "".join(lines[1:-1]).replace("\n", "") + "\n" + lines[-1]
    for other in (
        " " + armour, armour + "\n", armour + "x", armour.replace("\n", "\r\n"), one_line, lines[0] + lines[-1],
        armoured(raw + b"\0"), armoured(raw[:-1]), armour.rstrip("\n"), "", armour * 2, armour.replace("SSH", "PGP"),
        "\ud800" + armour, armour + "=" * 20000,
    ):  # fmt: skip
        with pytest.raises((BadSignature, BadKey)):
            parse(other)


def test_a_weak_hash_is_refused(key: Path) -> None:
    raw = base64.b64decode("".join(signed(key).splitlines()[1:-1]))
    weak = raw.replace(struct.pack(">I", 6) + b"sha512", struct.pack(">I", 4) + b"sha1")
    with pytest.raises(BadSignature, match="only sha256 and sha512"):
        parse(armoured(weak))


def packed(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(f)) + f for f in fields)


def by_a_token(kind: str, flags: int) -> str:
    """What a security token answers, made with a key in memory: PROTOCOL.u2f."""
    namespace, application = b"muniment-approval", b"ssh:"
    inner = b"SSHSIG" + packed(namespace, b"", b"sha512", hashlib.sha512(TEXT).digest())
    rest = bytes([flags]) + struct.pack(">I", 7)
    message = hashlib.sha256(application).digest() + rest + hashlib.sha256(inner).digest()
    if kind == "sk-ssh-ed25519@openssh.com":
        private = ed25519.Ed25519PrivateKey.generate()
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        key, signature = packed(kind.encode(), raw, application), private.sign(message)
    else:
        token = ec.generate_private_key(ec.SECP256R1())
        point = token.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        key = packed(kind.encode(), b"nistp256", point, application)
        signature = packed(
            *(_mpint(n) for n in decode_dss_signature(token.sign(message, ec.ECDSA(SHA256()))))
        )
    body = packed(kind.encode(), signature) + rest
    return armoured(b"SSHSIG" + struct.pack(">I", 1) + packed(key, namespace, b"", b"sha512", body))


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)


@pytest.mark.parametrize("kind", ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"])
def test_a_security_token_counts_when_somebody_touched_it(tmp_path: Path, kind: str) -> None:
    touched = by_a_token(kind, 0x01)
    assert openssh_takes(tmp_path, touched), "OpenSSH does not take what this test makes"
    parse(touched).verify(TEXT)
    with pytest.raises(BadSignature, match="not one of this text"):
        parse(touched).verify(TEXT + b" ")
    with pytest.raises(BadSignature, match="present"):
        parse(by_a_token(kind, 0x00)).verify(TEXT)


@pytest.mark.parametrize(
    "line",
    ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3MAAAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==",
     "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\nssh-ed25519 AAAA",
     "ssh-ed25519-cert-v01@openssh.com AAAA", 'command="x" ssh-ed25519 AAAA', "x" * 20000],
)  # fmt: skip
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(BadKey):
        read_key(line)


def test_a_comment_is_left_out(key: Path) -> None:
    line = key.with_suffix(".pub").read_text()
    assert line.split()[2:], "ssh-keygen writes a comment"
    assert read_key(line).split() == line.split()[:2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, ...]]:
    """Real signatures of each kind, as their fields: key, namespace, reserved, hash, algorithm, body."""
    folder, found = tmp_path_factory.mktemp("shapes"), []
    for kind, options in KEYS[1:2] + KEYS[3:] + KEYS[:1]:
        path = folder / kind
        assert not keygen("-q", "-t", kind, *options, "-N", "", "-f", str(path)).returncode
        read = parse(signed(path))
        found.append((read.key, read.namespace.encode(), b"", read.hash, read.algorithm, read.body))
    return found


def _field(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def _put_together(fields: Sequence[bytes]) -> str:
    *front, algorithm, body = fields
    head = b"SSHSIG" + struct.pack(">I", 1) + b"".join(map(_field, front))
    return armoured(head + _field(_field(algorithm) + body))


def test_an_rsa_key_does_not_sign_with_sha1(shapes: list[tuple[bytes, ...]]) -> None:
    """The key's own name, ``ssh-rsa``, is that of an algorithm too: one with SHA-1."""
    rsa = next(each for each in shapes if each[4].startswith(b"rsa-"))
    parse(_put_together(rsa)).verify(TEXT)
    with pytest.raises(BadSignature, match="does not sign as b'ssh-rsa'"):
        parse(_put_together((*rsa[:4], b"ssh-rsa", rsa[5]))).verify(TEXT)


NAMES = [
    b"ssh-rsa", b"rsa-sha2-256", b"rsa-sha2-512", b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521", b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com", b"ssh-dss", b"sha256",
    b"sha512", b"sha1", b"",
]  # fmt: skip


@given(data=st.data())
def test_whatever_is_wrong_with_a_signature_it_is_refused_and_no_traceback(
    shapes: list[tuple[bytes, ...]], data: st.DataObject
) -> None:
    fields = list(data.draw(st.sampled_from(shapes)))
    at = data.draw(st.integers(0, 5))
    before = fields[at]
    fields[at] = data.draw(
        st.sampled_from(NAMES)
        | st.binary(max_size=80)
        | st.sampled_from([each[at] for each in shapes])
        | st.builds(lambda cut: before[:cut], st.integers(0, len(before)))
        | st.builds(lambda name: _field(name) + before, st.sampled_from(NAMES))
        | st.builds(
            lambda name: _field(name) + before[4 + int.from_bytes(before[:4]) :], st.sampled_from(NAMES)
        )
    )
    try:
        parse(_put_together(fields)).verify(TEXT)
    except (BadSignature, BadKey):
        return
    assert fields[at] == before, "a signature that nobody made"
