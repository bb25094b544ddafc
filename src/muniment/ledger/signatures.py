"""The three types of signature under a note: what bytes each covers, and whether it is genuine.

- ``0x01`` Ed25519 over the text. A log's first line.
- ``0x04`` Ed25519 with a time, over two lines and the text: ``cosignature/v1``, ``time <seconds>``. A witness's. The
  message does not name the cosigner, so each cosigner needs a key of its own.
- ``0x06`` ML-DSA-44 with a time, over cosigner, time, origin, size and root. A witness's, or a log's second line.
  Safe against quantum computers.

Both times stand before the signature as eight bytes, and are whole seconds since 1970 in UTC. Time 0 says nothing of
when: a log signs that way, and a witness never does. A time is the cosigner's claim.

Source: c2sp.org/signed-note v1.0.0, "Signature types"; c2sp.org/tlog-cosignature v1.0.1.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from muniment.ledger.errors import BadCheckpoint, BadKey, LedgerFault
from muniment.ledger.head import Checkpoint
from muniment.ledger.wire import MAX_NUMBER

#: signature type: Ed25519 over the text
ED25519 = 0x01
#: signature type: Ed25519 cosignature, with a time
ED25519_COSIGNATURE = 0x04
#: signature type: ML-DSA-44 cosignature, with a time
ML_DSA_44 = 0x06

#: bytes of the public key of each type
KEY_BYTES = {ED25519: 32, ED25519_COSIGNATURE: 32, ML_DSA_44: 1312}
#: bytes of a signature of each type, its time included
SIGNATURE_BYTES = {ED25519: 64, ED25519_COSIGNATURE: 8 + 64, ML_DSA_44: 8 + 2420}
#: types that carry a time
TIMED = frozenset({ED25519_COSIGNATURE, ML_DSA_44})
#: the latest time that a signature may carry; the earliest is 0
MAX_TIME = MAX_NUMBER
#: bytes of a name in the message of an ML-DSA-44 cosignature at most
MAX_ML_DSA_NAME = 255

_LABEL = b"subtree/v1\n\0"


def cosignature_message(text: str, time: int) -> bytes:
    """The bytes that an Ed25519 cosignature signs.

    Args:
        text: of the checkpoint, with its final newline.
        time: seconds since 1970, UTC.

    Source: c2sp.org/tlog-cosignature, "Ed25519 signed message".
    """
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def subtree_message(name: str, text: str, time: int) -> bytes:
    """The bytes that an ML-DSA-44 cosignature of a whole tree signs.

    Args:
        name: of the cosigner's key; the origin, if the log itself signs.
        text: of the checkpoint, with its final newline.
        time: seconds since 1970, UTC; 0 for none.

    Raises:
        BadCheckpoint: the text is not a checkpoint, or a name is longer than `MAX_ML_DSA_NAME` bytes.

    Source: c2sp.org/tlog-cosignature, "ML-DSA-44 signed message".
    """
    head = Checkpoint.parse(text)
    names = []
    for each in (name, head.origin):
        raw = each.encode()
        if len(raw) > MAX_ML_DSA_NAME:
            raise BadCheckpoint(f"a name under an ML-DSA-44 signature has {len(raw)} bytes: {each!r:.60}")
        names.append(len(raw).to_bytes(1, "big") + raw)
    cosigner, origin = names
    return b"".join(
        (_LABEL, cosigner, _u64(time), origin, _u64(0), _u64(head.size), head.root)  # from leaf 0 to all
    )


def signature_time(kind: int, signature: bytes) -> int | None:
    """The time that a signature of a `TIMED` type claims, in seconds since 1970, UTC; None if it has none.

    Nothing is verified here.
    """
    if kind not in TIMED or len(signature) != SIGNATURE_BYTES[kind]:
        return None
    time = int.from_bytes(signature[:8], "big")
    return time if time <= MAX_TIME else None


def genuine(kind: int, name: str, key: bytes, text: str, signature: bytes) -> bool:
    """Whether ``signature`` of type ``kind`` over ``text`` is by ``key``, under ``name``.

    Raises:
        BadKey: ML-DSA-44 is missing in the cryptographic library of this machine.
    """
    try:
        if kind == ED25519:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, text.encode())
            return True
        time = signature_time(kind, signature)
        if time is None:
            return False
        if kind == ED25519_COSIGNATURE:
            Ed25519PublicKey.from_public_bytes(key).verify(signature[8:], cosignature_message(text, time))
        else:
            message = subtree_message(name, text, time)
            MLDSA44PublicKey.from_public_bytes(key).verify(signature[8:], message)
    except UnsupportedAlgorithm:
        raise BadKey(
            f"the cryptographic library here has no ML-DSA-44, which the key of {name!r:.60} needs"
        ) from None
    except (InvalidSignature, ValueError, LedgerFault):  # ValueError: the bytes are no point of the curve
        return False
    return True


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")
