"""SSHSIG: a person's own signature over a text, made by ``ssh-keygen -Y sign`` with a key file, an agent or a token.

    "SSHSIG" · version · public key · namespace · reserved · hash · signature      what is stored, armoured
    "SSHSIG" · namespace · reserved · hash · H(text)                               what the key signs

`parse` reads strictly, so that one signature has one spelling: nothing before, between or after, and armour as
OpenSSH writes it. It verifies nothing. `SshSignature.verify` says whether the key that stands in it signed a text;
whose key that is, and whether the namespace is the wanted one, is for the caller.

Keys: ssh-ed25519, ecdsa-sha2-nistp256/384/521, ssh-rsa of 2048 bits or more with SHA-2, and both kinds of security
token (sk-), which must say that somebody was present.

Source: OpenSSH, PROTOCOL.sshsig and PROTOCOL.u2f; RFC 4253, RFC 5656, RFC 8332, RFC 8709. No library reads it as strictly
(sshsig 0.3.1 accepts cut strings, trailing bytes and any hash), so the bytes are read here and `cryptography` verifies.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from muniment.ledger.errors import BadKey, BadSignature, LedgerFault
from muniment.ledger.wire import read_base64, read_text, write_base64

#: characters: RSA of 16384 bits has about 6000
MAX_ARMOUR = 16384
#: characters of a public key's line, without its comment
MAX_KEY = 8192
MIN_RSA_BITS = 2048

_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
_WIDTH = 70
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_KEY_LINE = re.compile(r"[a-z0-9@.-]{1,64} [A-Za-z0-9+/]+={0,2}", re.ASCII)

_ECDSA = {
    b"ecdsa-sha2-nistp256": hashes.SHA256(),
    b"ecdsa-sha2-nistp384": hashes.SHA384(),
    b"ecdsa-sha2-nistp521": hashes.SHA512(),
}
_RSA = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
_SK_ED25519, _SK_ECDSA = b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"
_PRESENT = 0x01  # the token's flag: somebody touched it


class SshSignature(NamedTuple):
    """A signature taken apart, and not verified."""

    key: bytes  # the signer's public key, in SSH's binary form
    namespace: str
    hash: bytes  # "sha256" or "sha512"
    algorithm: bytes
    body: bytes  # what follows the algorithm's name
    armour: str  # as OpenSSH writes it

    @property
    def key_line(self) -> str:
        """The signer's public key as one line without a comment."""
        kind, _ = _string(self.key, "the key")
        return f"{kind.decode('ascii', 'replace')} {write_base64(self.key)}"

    def verify(self, text: bytes) -> None:
        """Raise `BadSignature` unless this key signed ``text`` in this namespace."""
        digest = _HASHES[self.hash](text).digest()
        signed = _MAGIC + b"".join(map(_packed, (self.namespace.encode(), b"", self.hash, digest)))
        try:
            _verify(self.key, self.algorithm, self.body, signed)
        except (InvalidSignature, ValueError) as error:
            raise BadSignature("the signature is not one of this text by the key that it names") from error


def parse(text: str | bytes) -> SshSignature:
    """Read an armoured signature. Raises `BadSignature`, saying what is wrong with its form."""
    text = read_text(text, limit=MAX_ARMOUR, what="the signature", fault=BadSignature)
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise BadSignature("it does not begin and end as an SSH signature does")
    body = text[len(_BEGIN) : -len(_END)].replace("\n", "")
    raw = read_base64(body, what="the signature", fault=BadSignature)
    if armoured(raw) != text:
        raise BadSignature("its lines are not as OpenSSH writes them")
    if raw[:10] != _MAGIC + struct.pack(">I", 1):
        raise BadSignature("it is not an SSH signature of version 1")
    key, rest = _string(raw[10:], "the key")
    namespace, rest = _string(rest, "the namespace")
    reserved, rest = _string(rest, "the reserved field")
    hashed, rest = _string(rest, "the hash")
    signature, rest = _string(rest, "the signature")
    algorithm, body_ = _string(signature, "the algorithm")
    if rest or reserved:
        raise BadSignature("it holds more than a signature does")
    if hashed not in _HASHES:
        raise BadSignature(f"it uses the hash {hashed!r:.40}, and only sha256 and sha512 count")
    if not namespace.isascii():
        raise BadSignature("its namespace is not ASCII")
    found = SshSignature(key, namespace.decode(), hashed, algorithm, body_, text)
    read_key(found.key_line)
    return found


def armoured(raw: bytes) -> str:
    """As OpenSSH writes it: lines of 70 characters."""
    body = write_base64(raw)
    lines = (body[at : at + _WIDTH] + "\n" for at in range(0, len(body), _WIDTH))
    return _BEGIN + "".join(lines) + _END


def read_key(line: str) -> str:
    """A public key in OpenSSH's one-line form, without its comment. Raises `BadKey` for one that cannot sign here."""
    kind, _, rest = line.strip().partition(" ")
    body = rest.lstrip(" ").partition(" ")[0]
    plain = f"{kind} {body}"
    if len(line.splitlines()) != 1 or len(plain) > MAX_KEY or not _KEY_LINE.fullmatch(plain):
        raise BadKey("this is not one line with an OpenSSH public key")
    raw = read_base64(body, what="the key", fault=BadKey)
    try:
        named, fields = _string(raw, "the key")
        if named != kind.encode():
            raise BadKey(f"the key calls itself {named!r:.60}, and its line {kind!r:.60}")
        _load(named, raw, fields)
    except (ValueError, UnsupportedAlgorithm, LedgerFault) as error:
        if isinstance(error, BadKey):
            raise
        raise BadKey(f"the key cannot be read: {error}") from error
    return plain


def fingerprint(line: str) -> str:
    """``SHA256:…``, as ``ssh-keygen -l`` says it."""
    raw = base64.b64decode(line.split(" ")[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


_Key = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def _load(kind: bytes, raw: bytes, fields: bytes) -> tuple[_Key, bytes]:
    """The key, and for a security token the application that it is for."""
    if kind == _SK_ED25519:
        point, rest = _string(fields, "the key")
        application, rest = _string(rest, "the application")
        _nothing(rest)
        return ed25519.Ed25519PublicKey.from_public_bytes(point), application
    if kind == _SK_ECDSA:
        curve, rest = _string(fields, "the curve")
        point, rest = _string(rest, "the point")
        application, rest = _string(rest, "the application")
        _nothing(rest)
        if curve != b"nistp256":
            raise BadKey("the key is on another curve than it says")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point), application
    if kind not in {b"ssh-ed25519", b"ssh-rsa", *_ECDSA}:
        raise BadKey(
            f"keys of the type {kind!r:.60} do not sign here: use ssh-ed25519, ecdsa, rsa or a security token"
        )
    key = load_ssh_public_key(kind + b" " + base64.b64encode(raw))
    if not isinstance(key, _Key):
        raise BadKey("keys of this type do not sign here")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise BadKey(f"the RSA key has fewer than {MIN_RSA_BITS} bits")
    return key, b""


def _verify(raw: bytes, algorithm: bytes, body: bytes, signed: bytes) -> None:
    kind, fields = _string(raw, "the key")
    key, application = _load(kind, raw, fields)
    signature, rest = _string(body, "the signature")
    # "ssh-rsa" names RSA keys; as the name of an algorithm it means SHA-1, which does not count
    if algorithm not in _RSA if kind == b"ssh-rsa" else algorithm != kind:
        raise BadSignature(f"a {kind!r:.40} key does not sign as {algorithm!r:.40}")
    if kind in {_SK_ED25519, _SK_ECDSA}:
        if len(rest) != 5 or not rest[0] & _PRESENT:
            raise BadSignature("the security token does not say that somebody was present")
        # PROTOCOL.u2f: the token signs over application, flags, counter and message
        signed = hashlib.sha256(application).digest() + rest + hashlib.sha256(signed).digest()
    else:
        _nothing(rest)
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, signed)
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), _RSA[algorithm])
    else:
        r, s = _integers(signature)
        size = hashes.SHA256() if kind == _SK_ECDSA else _ECDSA[kind]
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(size))


def _integers(signature: bytes) -> tuple[int, int]:
    first, rest = _string(signature, "r")
    second, rest = _string(rest, "s")
    _nothing(rest)
    return int.from_bytes(first), int.from_bytes(second)


def _string(raw: bytes, what: str) -> tuple[bytes, bytes]:
    """The string that ``raw`` begins with, and what follows it."""
    length = int.from_bytes(raw[:4])
    if len(raw) < 4 or len(raw) - 4 < length:
        raise BadSignature(f"{what} is cut off")
    return raw[4 : 4 + length], raw[4 + length :]


def _packed(field: bytes) -> bytes:
    return struct.pack(">I", len(field)) + field


def _nothing(rest: bytes) -> None:
    if rest:
        raise BadSignature("something stands where nothing belongs")
