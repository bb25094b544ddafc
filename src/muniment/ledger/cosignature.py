"""Cosignatures: others than the log say which head they saw, and when. And a log's own second signature.

A witness that signed this head has seen the log only grow until then, and signs no other history. So cosignatures by
those whom one trusts show that everybody was shown the same log; the log's signature alone cannot show that.

`Cosigner` is a witness's key, which always states a time; `MlDsaSigner` is a log's second key, which never does.

Source: c2sp.org/tlog-cosignature v1.0.1; c2sp.org/tlog-witness v1.0.0, "add-checkpoint".
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from muniment.ledger.errors import BadNote
from muniment.ledger.head import Checkpoint
from muniment.ledger.note import Signature, Verifier, open_note
from muniment.ledger.signatures import (
    ED25519_COSIGNATURE,
    MAX_TIME,
    ML_DSA_44,
    TIMED,
    cosignature_message,
    subtree_message,
)


class Cosigned(msgspec.Struct, frozen=True, kw_only=True):
    """A cosignature that was verified: whose, and the time its cosigner claims."""

    name: str  # key name of the cosigner
    key_id: bytes  # 4 bytes
    time: int  # seconds since 1970, UTC; 0 if it states none


class Cosigner(msgspec.Struct, frozen=True, kw_only=True):
    """A witness's key in this process. `keys` reads and writes its file."""

    name: str  # key name, such as witness.example.org/w1
    key: Ed25519PrivateKey | MLDSA44PrivateKey

    def __post_init__(self) -> None:
        """Refuse a name that no note could carry."""
        _ = self.verifier

    @property
    def verifier(self) -> Verifier:
        """The public half, of type 0x04 or 0x06."""
        kind = ED25519_COSIGNATURE if isinstance(self.key, Ed25519PrivateKey) else ML_DSA_44
        return Verifier(name=self.name, key=self.key.public_key().public_bytes_raw(), kind=kind)

    @property
    def vkey(self) -> str:
        """The public half as text, for logs, auditors and policies."""
        return self.verifier.vkey

    def sign(self, text: str, time: int) -> str:
        """Return the cosignature line over a checkpoint.

        Whether the log only grew is for the caller to have checked, and to have made durable.

        Args:
            text: of the checkpoint, with its final newline.
            time: now, in whole seconds since 1970, UTC; 1 at least, since a witness never leaves it out.

        Raises:
            BadCheckpoint: the text is not a checkpoint; nothing else is signed.
            BadNote: there is no such time.
        """
        Checkpoint.parse(text)
        if not 0 < time <= MAX_TIME:
            raise BadNote(f"a cosignature states a time from 1 to 2^63-1 in seconds since 1970, not {time}")
        if isinstance(self.key, Ed25519PrivateKey):
            signature = self.key.sign(cosignature_message(text, time))
        else:
            signature = self.key.sign(subtree_message(self.name, text, time))
        return _line(self.verifier, time, signature)


class MlDsaSigner(msgspec.Struct, frozen=True, kw_only=True):
    """A log's second key in this process: ML-DSA-44, against the day when Ed25519 falls.

    Its line comes below that of the Ed25519 key, which public witnesses ask for. The library draws randomness for
    each signature, so two lines over one text differ, and both are genuine.
    """

    name: str  # the origin
    key: MLDSA44PrivateKey

    def __post_init__(self) -> None:
        """Refuse a name that no note could carry."""
        _ = self.verifier

    @property
    def verifier(self) -> Verifier:
        """The public half, of type 0x06."""
        return Verifier(name=self.name, key=self.key.public_key().public_bytes_raw(), kind=ML_DSA_44)

    @property
    def vkey(self) -> str:
        """The public half as text, to hand to auditors."""
        return self.verifier.vkey

    def sign(self, text: str) -> str:
        """Return the signature line over a checkpoint, with time 0: the log states none.

        Raises:
            BadCheckpoint: the text is not a checkpoint; this type signs nothing else.
        """
        return _line(self.verifier, 0, self.key.sign(subtree_message(self.name, text, 0)))


def cosignatures(note: str | bytes, verifiers: Iterable[Verifier]) -> tuple[Cosigned, ...]:
    """Verify the cosignatures in a note; return those by known cosigners, in the order of their lines.

    Args:
        note: the signed checkpoint, or its text and an empty line with what a witness answered.
        verifiers: the cosigners one trusts, of types 0x04 and 0x06. Others are passed over.

    Raises:
        BadNote: it is not a note.
        BadSignature: a line by a known cosigner does not verify.
        WrongKey: no line is by a known cosigner.
    """
    known = {(each.name, each.key_id): each for each in verifiers if each.kind in TIMED}
    found = []
    for line in open_note(note, known.values()).signatures:
        time = known[line.name, line.key_id].time(line.signature)
        if time is not None:  # never None: it has been verified
            found.append(Cosigned(name=line.name, key_id=line.key_id, time=time))
    return tuple(found)


def _line(verifier: Verifier, time: int, signature: bytes) -> str:
    stamped = time.to_bytes(8, "big") + signature
    return Signature(name=verifier.name, key_id=verifier.key_id, signature=stamped).line()
