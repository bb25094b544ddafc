"""Signed notes: a text and who signed it, readable by people and by other tools.

The bytes: UTF-8 without control characters but newline. The text ends in a newline; an empty line follows, then one
line per signature: ``— <key name> <base64(key id || signature)>``. Text and signatures part at the *last* empty
line. The signed bytes are the text with its final newline.

Reading, in this order:

1. Refuse what is not such a note, over `MAX_NOTE` bytes or over `MAX_SIGNATURES` lines.
2. Skip lines by keys we do not know: other witnesses, other algorithms (`signatures` lists those we read).
3. A line that names a key we know, by name *and* id, must verify, or the whole note is refused.
4. At least one line must verify. Only then is the text worth reading.

Source: c2sp.org/signed-note v1.0.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from muniment.ledger.errors import BadKey, BadNote, BadSignature, WrongKey
from muniment.ledger.signatures import ED25519, KEY_BYTES, MAX_ML_DSA_NAME, ML_DSA_44, genuine, signature_time
from muniment.ledger.wire import good_name, read_base64, read_text, write_base64

#: bytes of a note at most: room for sixteen ML-DSA-44 signature lines
MAX_NOTE = 64 * 1024
#: signature lines at most; the specification wants 16 accepted, and a cap
MAX_SIGNATURES = 64

_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+(.+)")
_DASH = "— "  # U+2014 and a space


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature line, not yet verified."""

    name: str  # key name
    key_id: bytes  # 4 bytes: with the name, which key this claims to be by
    signature: bytes  # what follows the id; its shape depends on the type of the key

    def line(self) -> str:
        """The line as it stands in a note, with its newline."""
        return f"{_DASH}{self.name} {write_base64(self.key_id + self.signature)}\n"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A note taken apart. That it has this shape says nothing about who signed it: `open_note` does."""

    text: str  # with its final newline
    signatures: tuple[Signature, ...]


class Signer(Protocol):
    """A key that signs notes: the log's own in this process, or one that lies in a device elsewhere."""

    @property
    def name(self) -> str:
        """The key name; the origin, if it is a log's key."""

    @property
    def verifier(self) -> Verifier:
        """The public half, by which others tell this key's signatures."""

    def sign(self, text: str) -> str:
        """Return the signature line over ``text``.

        Of an Ed25519 key it is always the same line for the same text; of an ML-DSA-44 key it is not.
        """


class Verifier(msgspec.Struct, frozen=True, kw_only=True):
    """A public key one trusts under a name. It comes from the auditor's own files, never from the note."""

    name: str
    key: bytes  # 32 bytes of Ed25519, 1312 of ML-DSA-44
    kind: int = ED25519  # signature type, of those in `signatures`

    def __post_init__(self) -> None:
        """Refuse a name or key that no note could carry."""
        check_name(self.name)
        wanted = KEY_BYTES.get(self.kind)
        if wanted is None:
            raise BadKey(
                f"the verifier key of {self.name!r:.60} has type 0x{self.kind:02x}; only Ed25519 (0x01, as"
                " cosignature 0x04) and ML-DSA-44 (0x06) are read"
            )
        if len(self.key) != wanted:
            raise BadKey(f"the public key of {self.name!r:.60} has {len(self.key)} bytes, not {wanted}")
        if self.kind == ML_DSA_44 and len(self.name.encode()) > MAX_ML_DSA_NAME:
            raise BadKey(
                f"the name of an ML-DSA-44 key has {MAX_ML_DSA_NAME} bytes at most: {self.name!r:.60}"
            )

    @classmethod
    def from_vkey(cls, vkey: str) -> Verifier:
        """Read ``<name>+<8 hex digits of the key id>+<base64(type || public key)>``.

        Raises:
            BadKey: it has another shape, a type we do not read, or an id that does not belong to the key.
        """
        parts = _VKEY.fullmatch(vkey)
        if parts is None:
            raise BadKey(f"a verifier key is <name>+<8 hex digits>+<base64>, not {vkey!r:.80}")
        name, hex_id, encoded = parts.groups()
        data = read_base64(encoded, what=f"the key in the verifier key of {name!r:.60}", fault=BadKey)
        if not data:
            raise BadKey(f"the verifier key of {name!r:.60} holds no key")
        verifier = cls(name=name, key=data[1:], kind=data[0])
        if verifier.key_id.hex() != hex_id:
            raise BadKey(
                f"the verifier key of {name!r:.60} says id {hex_id}; name and key make {verifier.key_id.hex()}"
            )
        return verifier

    @property
    def vkey(self) -> str:
        """The text form, for trust files."""
        return f"{self.name}+{self.key_id.hex()}+{write_base64(bytes([self.kind]) + self.key)}"

    @property
    def key_id(self) -> bytes:
        """Four bytes that, with the name, say which key a signature line is by."""
        return key_id(self.name, self.kind, self.key)

    def verify(self, text: str, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``text``, of its type and with all that the type asks for.

        Raises:
            BadKey: the type of the key cannot be checked on this machine.
        """
        return genuine(self.kind, self.name, self.key, text, signature)

    def time(self, signature: bytes) -> int | None:
        """The time in a signature, seconds since 1970, UTC; 0 or None if it says none. Worth its `verify`."""
        return signature_time(self.kind, signature)


class Ed25519Signer(msgspec.Struct, frozen=True, kw_only=True):
    """A log's key in this process. `keys` reads and writes its file."""

    name: str  # the origin
    key: Ed25519PrivateKey

    def __post_init__(self) -> None:
        """Refuse a name that no note could carry."""
        check_name(self.name)

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        return Verifier(name=self.name, key=self.key.public_key().public_bytes_raw())

    @property
    def vkey(self) -> str:
        """The public half as text, to hand to auditors."""
        return self.verifier.vkey

    def sign(self, text: str) -> str:
        """Return the signature line over ``text``. Source: RFC 8032; deterministic.

        Raises:
            BadNote: the text could not be a note's text.
        """
        check_text(text)
        line = Signature(name=self.name, key_id=self.verifier.key_id, signature=self.key.sign(text.encode()))
        return line.line()


def check_name(name: str) -> None:
    """Refuse what cannot name a key.

    Raises:
        BadKey: it is empty or has a space, a plus or a control character.
    """
    if not good_name(name):
        raise BadKey(f"the key name is empty or has a space, a plus or a control character: {name!r:.60}")


def key_id(name: str, kind: int, key: bytes) -> bytes:
    """``SHA-256(name || 0x0A || type || public key)[:4]``. Source: c2sp.org/signed-note, "Signatures"."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]


def sign_note(text: str, signers: Sequence[Signer]) -> str:
    """Return the note: ``text``, an empty line, and a line by each signer in turn.

    Raises:
        BadNote: the text does not end in a newline, or has control characters, or nobody signs.
    """
    if not signers:
        raise BadNote("a note without a signature is not a note")
    check_text(text)
    note = text + "\n" + "".join(signer.sign(text) for signer in signers)
    parse_note(note)  # what we would not read, we do not hand out
    return note


def parse_note(raw: str | bytes) -> Note:
    """Take a note apart without verifying anything.

    Raises:
        BadNote: says which part has not the shape of a note.
    """
    note = read_text(raw, limit=MAX_NOTE, what="the note", fault=BadNote)
    split = note.rfind("\n\n")
    if split < 0:
        raise BadNote("the note has no empty line between text and signatures")
    text, lines = note[: split + 1], note[split + 2 :]
    if not lines:
        raise BadNote("the note has no signature line")
    if not lines.endswith("\n"):
        raise BadNote("the last signature line does not end in a newline")
    # not splitlines(): it would split at U+2028 and others as well
    signatures = lines[:-1].split("\n")
    if len(signatures) > MAX_SIGNATURES:
        raise BadNote(f"the note has {len(signatures)} signature lines; {MAX_SIGNATURES} are allowed")
    return Note(
        text=text, signatures=tuple(_parse_line(at, line) for at, line in enumerate(signatures, start=1))
    )


def open_note(raw: str | bytes, verifiers: Iterable[Verifier]) -> Note:
    """Verify a note; return its text and the signatures by known keys.

    Args:
        raw: the note.
        verifiers: the keys one trusts.

    Raises:
        BadNote: it is not a note.
        BadSignature: a line by a known key does not verify.
        WrongKey: no line is by a known key.
    """
    note = parse_note(raw)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified = []
    for signature in note.signatures:
        verifier = known.get((signature.name, signature.key_id))
        if verifier is None:
            continue
        if not verifier.verify(note.text, signature.signature):
            raise BadSignature(
                f"the signature by {signature.name!r:.60} ({signature.key_id.hex()}) does not verify"
            )
        verified.append(signature)
    if not verified:
        trusted = ", ".join(sorted(f"{name!r} ({ident.hex()})" for name, ident in known)) or "no key"
        signed = ", ".join(f"{each.name!r} ({each.key_id.hex()})" for each in note.signatures[:4])
        raise WrongKey(f"the note is signed by {signed:.200}; we trust {trusted:.200}")
    return Note(text=note.text, signatures=tuple(verified))


def _parse_line(at: int, line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise BadNote(f"signature line {at} is not a dash, a name and base64: {line!r:.60}")
    if not good_name(name):
        raise BadNote(
            f"signature line {at} has a key name that is empty or has a space or a plus: {name!r:.60}"
        )
    data = read_base64(encoded, what=f"the signature on line {at}", fault=BadNote)
    if len(data) < 5:  # four bytes of key id, and something
        raise BadNote(
            f"the signature on line {at} has {len(data)} bytes: too few for a key id and a signature"
        )
    return Signature(name=name, key_id=data[:4], signature=data[4:])


def check_text(text: str) -> None:
    """Refuse what could not be the text of a note. Whoever signs elsewhere asks before sending anything there.

    Raises:
        BadNote: it is too long, has control characters, or does not end in a newline.
    """
    read_text(text, limit=MAX_NOTE, what="the text to sign", fault=BadNote)
    if not text.endswith("\n"):
        raise BadNote("the text to sign does not end in a newline")
