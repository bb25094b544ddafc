"""Credentials that only their beneficiary can open: sealed with age to the public key that the request carries (I31).

A password that a target gave is sealed by its connector, before anybody else sees it: the store, the API and backups
hold an age file. age seals to SSH keys as well as to its own, so the key that people have anyway will do.
Source: https://age-encryption.org/v1 (C2SP/age.md), with the recipient types X25519, ssh-ed25519 and ssh-rsa.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pyrage
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as keys

from muniment.core.errors import Invalid, Misconfigured

#: how a sealed credential begins
MAGIC = b"age-encryption.org/v1\n"
_OURS = "AGE-SECRET-KEY-"


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """What is inside: how to use it. Never logged, stored or shown but sealed."""

    kind: str  # "login", "token"
    env: dict[str, str]  # environment in which the target's own programs find it: PGUSER, PGPASSWORD, …
    expires_at: str  # wire instant
    files: dict[
        str, str
    ] = {}  # as env, of what programs read from a file: the variable is to name one in memory
    wrapped: tuple[
        str, ...
    ] = ()  # variables that hold a wrapping token of OpenBao's, in place of what it wraps


def recipient(text: str) -> pyrage.x25519.Recipient | pyrage.ssh.Recipient:
    """The key to seal to: an OpenSSH public key in one line, or age's own. Raises `Invalid`."""
    try:
        if text.startswith("age1"):
            return pyrage.x25519.Recipient.from_str(text)
        return pyrage.ssh.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise Invalid(
            "nothing can be sealed to this public key",
            remedy="Give an ssh-ed25519 or ssh-rsa public key, or an age one (age1…).",
            code="invalid.public-key",
        ) from error


def seal(issued: Issued, to: str) -> bytes:
    """Encrypt for whoever has the private key. Raises `Invalid` for a key that cannot be sealed to."""
    body: bytes = pyrage.encrypt(msgspec.json.encode(issued), [recipient(to)])
    return body


def is_sealed(body: bytes) -> bool:
    """Whether a credential must be opened with a key; others, such as certificates, are no secret."""
    return body.startswith(MAGIC)


def unseal(body: bytes, private_key: bytes, passphrase: Callable[[], bytes]) -> Issued:
    """Open what was sealed.

    Args:
        body: the age file.
        private_key: an OpenSSH private key, or an age identity file.
        passphrase: asked only if the SSH key is protected by one.

    Raises:
        Misconfigured: the key cannot be used, or it is another one.
    """
    try:
        identity = _identity(private_key, passphrase)
        return msgspec.json.decode(pyrage.decrypt(body, [identity]), type=Issued)
    except (pyrage.IdentityError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured(
            "the private key cannot be used", remedy="Give the one whose public half the request carried."
        ) from error
    except pyrage.DecryptError as error:
        raise Misconfigured(
            "the credential was sealed to another key",
            remedy="Give the private key whose public half the request carried.",
            code="config.other-key",
        ) from error


def _identity(text: bytes, passphrase: Callable[[], bytes]) -> pyrage.x25519.Identity | pyrage.ssh.Identity:
    lines = [line for line in text.decode("ascii", "replace").splitlines() if line.startswith(_OURS)]
    if lines:
        return pyrage.x25519.Identity.from_str(lines[0])
    try:
        key = keys.load_ssh_private_key(text, None)
    except TypeError:  # it is protected
        key = keys.load_ssh_private_key(text, passphrase())
    plain = key.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.OpenSSH, keys.NoEncryption())
    return pyrage.ssh.Identity.from_buffer(plain)
