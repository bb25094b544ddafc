"""Keys and names of an OpenSSH authority: what may stand in a certificate, and what signs it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as keys
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from muniment.connectors import krl as lists
from muniment.core.errors import Invalid, Misconfigured
from muniment.core.scope import Scope
from muniment.core.text import clean_name

_RSA_BITS = 3072
_MAX_KEY_LINE = 8192  # characters: RSA of 16384 bits, OpenSSH's limit, and a comment
#: a comma parts principals in tools; "#" cuts a line of AuthorizedPrincipalsFile, a quote or a pattern may mislead one
_UNSAFE = {"the account": ",", "the principal": ',#"*?!'}

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def refusal(code: str, message: str) -> Invalid:
    return Invalid(message, remedy="File a new request.", code=f"target.{code}")


def check_names(account: str, scope: Scope) -> None:
    for item in scope:
        if item.resource is not None:
            raise Invalid("an SSH principal has no resource", remedy="Leave the resource out.")
    for what, name in [("the account", account), *(("the principal", item.privilege) for item in scope)]:
        clean_name(name, what)
        if bad := next((c for c in name if c.isspace() or c in _UNSAFE[what]), None):
            raise Invalid(
                f"{what} holds {bad!r}, which OpenSSH's files would read otherwise", remedy="Rename it."
            )


def public_key(text: str, authority: bytes) -> PublicKey:
    """The beneficiary's key: one line, a bare key, strong enough."""
    kind, _, rest = text.strip().partition(" ")
    body = rest.partition(" ")[0]
    if len(text) > _MAX_KEY_LINE or not text.strip().isprintable() or not text.strip():
        raise refusal("bad-key", "the public key is missing, or not one line of text")
    if kind.startswith("sk-"):
        # cryptography reads them as plain keys, without the application: a certificate for that fits no token
        raise refusal("bad-key", "keys of security tokens (sk-) cannot be certified")
    if kind.endswith("-cert-v01@openssh.com"):
        raise refusal("bad-key", "this is a certificate, not a public key")
    try:
        base64.b64decode(body, validate=True)
        key = keys.load_ssh_public_identity(f"{kind} {body}".encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refusal("bad-key", "this is not one line with an OpenSSH public key") from error
    if not isinstance(key, PublicKey) or (isinstance(key, rsa.RSAPublicKey) and key.key_size < _RSA_BITS):
        raise refusal("bad-key", f"the key is too weak; use ssh-ed25519, ecdsa or RSA of {_RSA_BITS} bits")
    if wire_form(key) == authority:
        raise refusal("bad-key", "this is the certificate authority's own key")
    return key


def wire_form(key: PublicKey) -> bytes:
    return base64.b64decode(one_line(key).split()[1])


def one_line(key: PublicKey) -> str:
    return key.public_bytes(keys.Encoding.OpenSSH, keys.PublicFormat.OpenSSH).decode()


def fingerprint(wire: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode().rstrip("=")


def load_authority(text: bytes, what: str) -> PrivateKey:
    try:
        load = keys.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text else keys.load_pem_private_key
        key = load(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, PrivateKey) or (isinstance(key, rsa.RSAPrivateKey) and key.key_size < _RSA_BITS):
        raise Misconfigured(
            f"{what} is not a private key that can sign certificates",
            remedy="Use ed25519, ecdsa or RSA of 3072 bits, without a passphrase: `ssh-keygen -t ed25519 -N ''`.",
        )
    return key


def new_ca_key() -> bytes:
    """A new authority's private key, as OpenSSH writes it. To be kept in a file of mode 0600."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.OpenSSH, keys.NoEncryption())


def public_line(key: bytes) -> str:
    """The public half of a private key, as TrustedUserCAKeys names it."""
    return one_line(load_authority(key, "the authority's key").public_key())


def probe_folder(folder: Path) -> None:
    """Find out whether files can be made here: the mode alone does not tell of a full or read-only disk."""
    lists.replace_file(folder / ".muniment-probe", b"probe", 0o600)
    with lists.answering(str(folder)):
        (folder / ".muniment-probe").unlink()
