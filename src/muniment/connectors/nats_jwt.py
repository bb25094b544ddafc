"""NATS's keys and the tokens they sign: text in base 32 with a prefix and a checksum, and JSON Web Tokens by Ed25519.

Source: https://github.com/nats-io/nkeys and https://github.com/nats-io/jwt, whose claims are of version 2.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b32decode, b32encode, urlsafe_b64decode, urlsafe_b64encode
from binascii import crc_hqx
from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as z
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from muniment.core.errors import Invalid

Kind = Literal["operator", "account", "user"]
_PREFIX: dict[Kind, int] = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_SEED = 18 << 3
_HEADER = b'{"typ":"JWT","alg":"ed25519-nkey"}'


class Key:
    """One that signs. Printing it shows its public half."""

    def __init__(self, private: Ed25519PrivateKey, kind: Kind) -> None:
        self._private, self._kind = private, kind
        raw = private.public_key().public_bytes(z.Encoding.Raw, z.PublicFormat.Raw)
        self.public = _encoded(bytes([_PREFIX[kind]]) + raw)

    @property
    def seed(self) -> str:
        """The private half, as NATS writes it."""
        raw = self._private.private_bytes(z.Encoding.Raw, z.PrivateFormat.Raw, z.NoEncryption())
        prefix = _PREFIX[self._kind]
        return _encoded(bytes([_SEED | prefix >> 5, (prefix & 31) << 3]) + raw)

    def sign(self, data: bytes) -> str:
        """As text."""
        return _web(self._private.sign(data))

    def __repr__(self) -> str:
        return f"Key({self.public})"


def key_of(seed: str, kind: Kind) -> Key:
    """The key with this seed. Raises `Invalid`, which does not repeat it."""
    try:
        raw = _decoded(seed)
    except ValueError:
        raw = b""
    if len(raw) != 34 or raw[0] & 0xF8 != _SEED or (raw[0] & 7) << 5 | raw[1] >> 3 != _PREFIX[kind]:
        raise Invalid(
            f"this is no seed of a key of an {kind}",
            remedy="It is one line that begins with S, as `nsc generate nkey` prints.",
        )
    return Key(Ed25519PrivateKey.from_private_bytes(raw[2:]), kind)


def new_key(kind: Kind) -> Key:
    """Nobody else's."""
    return Key(Ed25519PrivateKey.generate(), kind)


def is_public(text: str, kind: Kind) -> bool:
    """Whether it is the public half of a key of this kind."""
    try:
        raw = _decoded(text)
    except ValueError:
        return False
    return len(raw) == 33 and raw[0] == _PREFIX[kind]


def token(key: Key, claims: Mapping[str, Any]) -> str:
    """These claims, signed now. What it was issued by and when, and its id, are made anew."""
    said = {name: value for name, value in claims.items() if name != "jti"}
    said |= {"iss": key.public, "iat": int(claims.get("iat", time.time()))}
    digest = hashlib.sha256(msgspec.json.encode(said, order="deterministic")).digest()
    said["jti"] = b32encode(digest).decode().rstrip("=")
    signed = f"{_web(_HEADER)}.{_web(msgspec.json.encode(said))}"
    return f"{signed}.{key.sign(signed.encode())}"


def claims_of(text: str, subject: str, trusted: Collection[str]) -> dict[str, Any]:
    """What a token says of ``subject``. Raises `ValueError` unless one of the trusted keys signed it."""
    try:
        signed, _, signature = text.rpartition(".")
        claims = msgspec.json.decode(_unweb(signed.partition(".")[2]), type=dict[str, Any])
        if claims["sub"] != subject or claims["iss"] not in trusted or not isinstance(claims["nats"], dict):
            raise ValueError("it is about somebody else, or by somebody else")
        public = Ed25519PublicKey.from_public_bytes(_decoded(claims["iss"])[1:])
        public.verify(_unweb(signature), signed.encode())
    except (InvalidSignature, msgspec.MsgspecError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(type(error).__name__) from None
    return claims


def credentials(text: str, key: Key) -> str:
    """A user's token and seed in one text, as NATS's own programs read it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{text}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n"
    )


def _encoded(raw: bytes) -> str:
    return b32encode(raw + crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """Raises `ValueError`."""
    raw = b32decode(text + "=" * (-len(text) % 8))
    body, checksum = raw[:-2], raw[-2:]
    if crc_hqx(body, 0).to_bytes(2, "little") != checksum:
        raise ValueError("the checksum is wrong")
    return body


def _web(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _unweb(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
