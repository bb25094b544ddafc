"""`pkcs11:` URIs: which object, in which token, through which module. Source: RFC 7512.

Of the attributes we take those that pick one key; an unknown one is refused, since leaving it out could pick another
key. A PIN does not belong into a URI (RFC 7512, section 4): it would be printed with the configuration.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import msgspec

from muniment.core.errors import Misconfigured

SCHEME = "pkcs11:"

#: characters that may stand unescaped in a value: RFC 7512, pk11-pchar and pk11-qchar
_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/?|]|%[0-9A-Fa-f]{2})*", re.ASCII)
_TEXT = ("token", "object", "serial", "manufacturer", "model")
_MAX = 2000  # characters


class KeyUri(msgspec.Struct, frozen=True, kw_only=True):
    """A private key in a token. At least a token and a key are named."""

    module: str  # absolute path of the library that speaks to the token
    token: str | None = None  # label
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    object: str | None = None  # label of the key
    id: bytes | None = None  # of the key

    @classmethod
    def parse(cls, uri: str) -> KeyUri:
        """Read a URI like ``pkcs11:token=muniment;object=ledger?module-path=/usr/lib/softhsm/libsofthsm2.so``.

        Raises:
            Misconfigured: it is none, holds a PIN, has an attribute that is not known, or says too little.
        """
        if len(uri) > _MAX or not uri.startswith(SCHEME):
            raise _wrong("it is not a pkcs11: URI")
        path, _, query = uri.removeprefix(SCHEME).partition("?")
        found = _attributes(path, ";") | {f"?{k}": v for k, v in _attributes(query, "&").items()}
        if found.keys() & {"?pin-value", "?pin-source", "pin-value", "pin-source"}:
            raise _wrong(
                "it holds a PIN or where to find one",
                'Take it out, and write [ledger] pin = "file:keys/pin" or "env:NAME".',
            )
        if found.pop("type", b"private") != b"private":
            raise _wrong("its type is not private")
        known = {*_TEXT, "id", "?module-path"}
        if unknown := sorted(found.keys() - known):
            raise _wrong(f"the attribute {unknown[0].lstrip('?')!r:.40} is not known here")
        try:
            module = found["?module-path"].decode()
            text = {name: found[name].decode() for name in _TEXT if name in found}
        except KeyError:
            raise _wrong(
                "it has no module-path", "Add ?module-path=… with the vendor's PKCS#11 library."
            ) from None
        except UnicodeDecodeError:
            raise _wrong("a value is not UTF-8") from None
        if not module.startswith("/") or "\0" in module:
            raise _wrong("its module-path is not an absolute path")
        if not {"token", "serial"} & text.keys() or not ("object" in text or "id" in found):
            raise _wrong("it does not name a token and a key", "Name both: pkcs11:token=…;object=…?….")
        return cls(module=module, id=found.get("id"), **text)

    def __str__(self) -> str:
        """How messages name it."""
        key = self.object if self.object is not None else (self.id or b"").hex()
        return f"the key {key!r:.60} in the token {self.token or self.serial!r:.60}"


def _attributes(text: str, separator: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"[a-z0-9_-]+", name, re.ASCII) or not _VALUE.fullmatch(value):
            raise _wrong("a part of it is not name=value, percent-encoded")
        if name in found:
            raise _wrong(f"the attribute {name!r:.40} is there twice")
        found[name] = unquote_to_bytes(value)
    return found


def _wrong(
    why: str, remedy: str = "Write it like pkcs11:token=muniment;object=ledger?module-path=/usr/lib/….so."
) -> Misconfigured:
    # without the URI: it may hold a PIN
    return Misconfigured(
        f"the pkcs11: URI in [ledger] key cannot be used: {why}", remedy=remedy, code="config.ledger-key"
    )
