"""Keys of logs and witnesses as bytes: from a seed, to PKCS#8 PEM and back. Ed25519 and ML-DSA-44.

Nothing here reads a file or draws randomness: the caller brings 32 bytes of the system's randomness and keeps the
PEM where only the signing process can read it. PKCS#8 (RFC 8410; RFC 9881 with the seed) is what ``openssl genpkey
-algorithm ed25519`` writes, so a key can be made and inspected without Muniment. The file does not say what the key
is for: the caller does, by the function it reads with.

No message here quotes the bytes: they are the secret.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from muniment.ledger.cosignature import Cosigner, MlDsaSigner
from muniment.ledger.errors import BadKey
from muniment.ledger.note import Ed25519Signer

#: bytes of a seed: the private key of RFC 8032, and of FIPS 204 the number from which both halves are made
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
    _check_seed(origin, seed)
    return Ed25519Signer(name=origin, key=Ed25519PrivateKey.from_private_bytes(seed))


def ml_dsa_from_seed(origin: str, seed: bytes) -> MlDsaSigner:
    """Make the second key of the log ``origin`` from 32 random bytes. Source: FIPS 204, algorithm 6.

    Raises:
        BadKey: the seed has another length, the origin cannot name a key, or this machine has no ML-DSA-44.
    """
    return MlDsaSigner(name=origin, key=_ml_dsa(origin, seed))


def cosigner_from_seed(name: str, seed: bytes, *, ml_dsa: bool = False) -> Cosigner:
    """Make a witness's key from 32 random bytes, of Ed25519 or of ML-DSA-44.

    Raises:
        BadKey: the seed has another length, the name cannot name a key, or this machine has no ML-DSA-44.
    """
    if ml_dsa:
        return Cosigner(name=name, key=_ml_dsa(name, seed))
    _check_seed(name, seed)
    return Cosigner(name=name, key=Ed25519PrivateKey.from_private_bytes(seed))


def signer_to_pem(signer: Ed25519Signer | MlDsaSigner | Cosigner) -> bytes:
    """The private key as unencrypted PKCS#8 PEM. It does not hold the name.

    Source: RFC 8410, section 7; RFC 9881, section 6, the form with the seed alone.
    """
    return signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signer_from_pem(origin: str, pem: bytes) -> Ed25519Signer:
    """Read the key of the log ``origin``.

    Args:
        origin: the log's name, from the configuration.
        pem: content of the key file: one unencrypted PKCS#8 private key.

    Raises:
        BadKey: it is not a PEM file, not a private key, encrypted, damaged, or not Ed25519.
    """
    key = _read_pem(origin, pem)
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"the key file of {origin!r:.60} holds {_type(key)}; Ed25519 is needed")
    return Ed25519Signer(name=origin, key=key)


def log_signer_from_pem(origin: str, pem: bytes) -> Ed25519Signer | MlDsaSigner:
    """Read a key of the log ``origin`` of either kind, as `signer_from_pem` does.

    Raises:
        BadKey: it is not a PEM file, not a private key, encrypted, damaged, or of another kind.
    """
    key = _read_pem(origin, pem)
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519Signer(name=origin, key=key)
    if isinstance(key, MLDSA44PrivateKey):
        return MlDsaSigner(name=origin, key=key)
    raise BadKey(f"the key file of {origin!r:.60} holds {_type(key)}; Ed25519 or ML-DSA-44 is needed")


def ml_dsa_from_pem(origin: str, pem: bytes) -> MlDsaSigner:
    """Read the second key of the log ``origin``, as `signer_from_pem` does.

    Raises:
        BadKey: it is not a PEM file, not a private key, encrypted, damaged, or not ML-DSA-44.
    """
    key = _read_pem(origin, pem)
    if not isinstance(key, MLDSA44PrivateKey):
        raise BadKey(f"the key file of {origin!r:.60} holds {_type(key)}; ML-DSA-44 is needed")
    return MlDsaSigner(name=origin, key=key)


def cosigner_from_pem(name: str, pem: bytes) -> Cosigner:
    """Read a witness's key, Ed25519 or ML-DSA-44, as `signer_from_pem` does.

    Raises:
        BadKey: it is not a PEM file, not a private key, encrypted, damaged, or of another kind.
    """
    key = _read_pem(name, pem)
    if not isinstance(key, Ed25519PrivateKey | MLDSA44PrivateKey):
        raise BadKey(f"the key file of {name!r:.60} holds {_type(key)}; Ed25519 or ML-DSA-44 is needed")
    return Cosigner(name=name, key=key)


def _read_pem(name: str, pem: bytes) -> PrivateKeyTypes:
    if len(pem) > MAX_PEM:
        raise BadKey(f"the key file of {name!r:.60} has {len(pem)} bytes: too many for a key")
    if pem.count(_BEGIN) != 1 or not pem.lstrip().startswith((_PRIVATE, _ENCRYPTED)):
        raise BadKey(f"the key file of {name!r:.60} is not one PEM block that begins {_PRIVATE.decode()}")
    if _ENCRYPTED in pem:
        raise BadKey(f"the key file of {name!r:.60} is encrypted; it signs unattended, so it cannot be")
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # without the cause: it may quote what it could not read
        raise BadKey(f"the key file of {name!r:.60} is damaged: it does not hold a private key") from None


def _check_seed(name: str, seed: bytes) -> None:
    if len(seed) != SEED:
        raise BadKey(f"the seed of {name!r:.60} has {len(seed)} bytes, not {SEED}")


def _ml_dsa(name: str, seed: bytes) -> MLDSA44PrivateKey:
    _check_seed(name, seed)
    try:
        return MLDSA44PrivateKey.from_seed_bytes(seed)
    except UnsupportedAlgorithm:
        raise BadKey(f"the cryptographic library here has no ML-DSA-44 for the key of {name!r:.60}") from None


def _type(key: PrivateKeyTypes) -> str:
    return type(key).__name__.lstrip("_")
