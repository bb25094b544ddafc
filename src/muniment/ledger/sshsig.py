"""SSHSIG: a person's own signature over a text, made by ``ssh-keygen -Y sign`` with a key file, an agent or a token.

    "SSHSIG" · version · public key · namespace · reserved · hash · signature      what is stored, armoured
    "SSHSIG" · namespace · reserved · hash · H(text)                               what the key signs

`parse` reads strictly, so that one signature has one spelling: nothing before, between or after, and armour as
OpenSSH writes it. It verifies nothing. `SshSignature.verify` says whether the key that stands in it signed a text;
whose key that is, and whether the namespace is the wanted one, is for the caller.

Keys: ssh-ed25519, ecdsa-sha2-nistp256/384/521, ssh-rsa of 2048 bits or more with SHA-2, and both kinds of security
token (sk-), which must say that somebody was present. A passkey is such a token: a browser has it sign what is to be
signed as its challenge, which OpenSSH reads, too; it must say besides that it knows who was present.

Source: OpenSSH, PROTOCOL.sshsig and PROTOCOL.u2f; WebAuthn 2, sections 5.8.1 and 6.1; RFC 4253, RFC 5656, RFC 8332, RFC 8709. No library reads it as strictly
(sshsig 0.3.1 accepts cut strings, trailing bytes and any hash), so the bytes are read here and `cryptography` verifies.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
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
#: how a passkey signs
_WEBAUTHN = b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"
_PRESENT, _VERIFIED = 0x01, 0x04  # the token's flags: somebody touched it; and it knows who
_ATTESTED, _EXTENDED = 0x40, 0x80  # more follows the counter


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
        try:
            _verify(self.key, self.algorithm, self.body, signed_data(text, self.namespace, self.hash))
        except (InvalidSignature, ValueError) as error:
            raise BadSignature("the signature is not one of this text by the key that it names") from error


def signed_data(text: bytes, namespace: str, hashed: bytes = b"sha512") -> bytes:
    """What a key signs: for a passkey, its challenge."""
    digest = _HASHES[hashed](text).digest()
    return _MAGIC + b"".join(map(_packed, (namespace.encode(), b"", hashed, digest)))


def by_passkey(line: str, namespace: str, *, authenticator: bytes, client: bytes, signature: bytes) -> str:
    """What a browser returns for a passkey's signature, as the armoured signature of the key in ``line``.

    Args:
        line: the passkey's public key, as `passkey_line` makes it.
        namespace: that of the challenge.
        authenticator: the authenticator's data.
        client: the browser's own, JSON.
        signature: over both, in DER.

    Raises:
        BadSignature: these are none. Nothing is verified: that is for `SshSignature.verify`.
    """
    try:
        r, s = decode_dss_signature(signature)
        origin = msgspec.json.decode(client, type=_Client).origin
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadSignature("this is not what a browser returns for a passkey") from error
    if len(authenticator) < 37 or min(r, s) < 1 or max(r, s).bit_length() > 256:
        raise BadSignature("this is not what a browser returns for a passkey")
    numbers = _packed(b"".join(_packed(n.to_bytes(n.bit_length() // 8 + 1)) for n in (r, s)))
    rest = _packed(origin.encode()) + _packed(client) + _packed(authenticator[37:])
    body = _packed(_WEBAUTHN) + numbers + authenticator[32:37] + rest
    key = base64.b64decode(line.split(" ")[1])
    parts = (key, namespace.encode(), b"", b"sha512", body)
    return armoured(_MAGIC + struct.pack(">I", 1) + b"".join(map(_packed, parts)))


def passkey_line(point: bytes, site: str) -> str:
    """A passkey's public key in OpenSSH's one-line form: a point of P-256, and the site (RP ID) that it is for."""
    raw = b"".join(map(_packed, (_SK_ECDSA, b"nistp256", point, site.encode())))
    return read_key(f"{_SK_ECDSA.decode()} {write_base64(raw)}")


def site_of(line: str) -> str | None:
    """The site that a passkey is for; None for any other key."""
    raw = base64.b64decode(line.split(" ")[1])
    kind, fields = _string(raw, "the key")
    return _load(kind, raw, fields)[1].decode("utf-8", "replace") if kind == _SK_ECDSA else None


class _Client(msgspec.Struct):
    origin: str


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
    if algorithm == _WEBAUTHN and kind == _SK_ECDSA:
        signed = _by_browser(application, rest, signed)
    elif algorithm not in _RSA if kind == b"ssh-rsa" else algorithm != kind:
        raise BadSignature(f"a {kind!r:.40} key does not sign as {algorithm!r:.40}")
    elif kind in {_SK_ED25519, _SK_ECDSA}:
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


def _by_browser(application: bytes, rest: bytes, signed: bytes) -> bytes:
    """What a passkey signs over, if a page of its own site asked for just this. As OpenSSH has it, and stricter."""
    flags, counter = rest[:1], rest[1:5]
    origin, rest = _string(rest[5:], "the origin")
    client, rest = _string(rest, "the browser's data")
    extensions, rest = _string(rest, "the extensions")
    _nothing(rest)
    if not flags or flags[0] & _ATTESTED or bool(flags[0] & _EXTENDED) != bool(extensions):
        raise BadSignature("the passkey's data does not fit its flags")
    if ~flags[0] & (_PRESENT | _VERIFIED):
        raise BadSignature("the passkey does not say that it knows who was present")
    host = re.fullmatch(rb"https?://([^/:\"@\\]+)(:[0-9]+)?", origin)
    if host is None or not (host[1] == application or host[1].endswith(b"." + application)):
        raise BadSignature("the passkey was asked by another site than its own")
    challenge = base64.urlsafe_b64encode(signed).rstrip(b"=")
    begin = b'{"type":"webauthn.get","challenge":"' + challenge + b'","origin":"' + origin + b'"'
    if not client.startswith(begin) or client[len(begin) : len(begin) + 1] not in {b",", b"}"}:
        raise BadSignature("the passkey was asked for something else")
    return (
        hashlib.sha256(application).digest() + flags + counter + extensions + hashlib.sha256(client).digest()
    )


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
