"""The log's Ed25519 key as bytes: from a seed, to PKCS#8 PEM and back.

Nothing here reads a file or draws randomness: the caller brings 32 bytes of the system's randomness and keeps the
PEM where only the signing process can read it. PKCS#8 (RFC 8410) is what ``openssl genpkey -algorithm ed25519``
writes, so a key can be made and inspected without Muniment.

No message here quotes the bytes: they are the secret.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from muniment.ledger.errors import BadKey
from muniment.ledger.note import Ed25519Signer

#: bytes of a seed: the private key of RFC 8032
SEED = 32
#: bytes of a PEM file at most; a real one has about 120
MAX_PEM = 16 * 1024

_BEGIN = b"-----BEGIN "
_PRIVATE = b"-----BEGIN PRIVATE KEY-----"
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


def signer_from_seed(origin: str, seed: bytes) -> Ed25519Signer:
    """Make the key of the log ``origin`` from 32 random bytes.

    Raises:
        BadKey: the seed has another length, or the origin cannot name a key.
    """
    if len(seed) != SEED:
        raise BadKey(f"the seed of {origin!r:.60} has {len(seed)} bytes, not {SEED}")
    return Ed25519Signer(name=origin, key=Ed25519PrivateKey.from_private_bytes(seed))


def signer_to_pem(signer: Ed25519Signer) -> bytes:
    """The private key as unencrypted PKCS#8 PEM. It does not hold the origin. Source: RFC 8410, section 7."""
    return signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signer_from_pem(origin: str, pem: bytes) -> Ed25519Signer:
    """Read the key of the log ``origin``.

    Args:
        origin: the log's name, from the configuration.
        pem: content of the key file: one unencrypted PKCS#8 private key.

    Raises:
        BadKey: it is not a PEM file, not a private key, encrypted, damaged, or not Ed25519.
    """
    if len(pem) > MAX_PEM:
        raise BadKey(f"the key file of {origin!r:.60} has {len(pem)} bytes: too many for a key")
    if pem.count(_BEGIN) != 1 or not pem.lstrip().startswith((_PRIVATE, _ENCRYPTED)):
        raise BadKey(f"the key file of {origin!r:.60} is not one PEM block that begins {_PRIVATE.decode()}")
    if _ENCRYPTED in pem:
        raise BadKey(
            f"the key file of {origin!r:.60} is encrypted; a log signs unattended, so its key is not"
        )
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # without the cause: it may quote what it could not read
        raise BadKey(f"the key file of {origin!r:.60} is damaged: it does not hold a private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(
            f"the key file of {origin!r:.60} holds {type(key).__name__.lstrip('_')}; Ed25519 is needed"
        )
    return Ed25519Signer(name=origin, key=key)
