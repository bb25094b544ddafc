"""The log's key in OpenBao's transit engine: it signs there and never leaves.

What the token may do is what a thief of our process may do: ask for signatures, as long as the token lasts. A policy
with two paths is enough: read ``<mount>/keys/<key>``, update ``<mount>/sign/<key>``.

One *version* of the key is the log's key, for good. OpenBao's ``rotate`` makes another version, which is another key
to every auditor; it is taken up only by naming it (``?version=2``), and announced first.

Source: OpenBao's HTTP API of the transit engine, "Read key" and "Sign data".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from muniment.anchors.signing import SignerElsewhere, public_half
from muniment.core.errors import KeyChanged, Misconfigured, SignerRefused, SignerUnavailable, Unavailable
from muniment.outbound import Answer, Http, private_base

SCHEME = "openbao:"

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_REFERENCE = re.compile(
    rf"openbao:(?P<mount>{_PART}(?:/{_PART})*)/keys/(?P<key>{_PART})(?:\?version=(?P<version>[1-9][0-9]{{0,8}}))?"
)
#: "vault:" is what OpenBao still writes
_SIGNATURE = re.compile(r"vault:v([1-9][0-9]*):([A-Za-z0-9+/=]+)")
_SEALED = 503
T = TypeVar("T")


class KeyName(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one key in one transit engine."""

    mount: str  # path of the engine
    key: str
    version: int = 1  # the first, unless another is named: what rotating there makes is another key

    @classmethod
    def parse(cls, reference: str) -> KeyName:
        """Read ``openbao:<mount>/keys/<key>``, with ``?version=<n>`` for another version than the first.

        Raises:
            Misconfigured: it has another shape.
        """
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise Misconfigured(
                f"{reference!r:.120} does not name a key in OpenBao",
                remedy="Write it like openbao:transit/keys/muniment, or …/muniment?version=2.",
                code="config.ledger-key",
            )
        return cls(mount=found["mount"], key=found["key"], version=int(found["version"] or 1))

    def __str__(self) -> str:
        """How messages name it."""
        return f"version {self.version} of OpenBao's key {self.mount}/keys/{self.key}"


class _Version(msgspec.Struct, frozen=True):
    public_key: str


class _Key(msgspec.Struct, frozen=True):
    type: str
    keys: dict[str, _Version | int]  # symmetric keys have a time here
    latest_version: int
    derived: bool = False


class _Signed(msgspec.Struct, frozen=True):
    signature: str


class TransitSigner(SignerElsewhere):
    """The key in OpenBao. Safe to share between threads, if ``http`` is."""

    def __init__(
        self, origin: str, name: KeyName, *, address: str, token: Callable[[], str], http: Http
    ) -> None:
        """Read the public key.

        Args:
            origin: the log's name.
            name: which key.
            address: of OpenBao, like ``https://bao.example.com:8200``.
            token: gives the token, for each request anew, since what renews it may replace it.
            http: the client, with the certificates to trust.

        Raises:
            Misconfigured: the address is not one that a token may be sent to, or the token is none.
            SignerUnavailable: OpenBao does not answer or is sealed.
            SignerRefused: the token may not read the key, or there is no such key or version of it.
        """
        self.name = origin
        self.where = str(name)
        self._key, self._token, self._http = name, token, http
        self._base = f"{checked_address(address)}/v1/{name.mount}"
        self.verifier = public_half(origin, self._public_key(), self.where)

    def _signature(self, message: bytes) -> bytes:
        body = {
            "input": base64.b64encode(message).decode(),
            "key_version": self._key.version,
        }
        signed = self._data(
            self._call(f"{self._base}/sign/{self._key.key}", json.dumps(body).encode()), _Signed
        )
        found = _SIGNATURE.fullmatch(signed.signature)
        if found is None or int(found[1]) != self._key.version:
            raise KeyChanged(
                f"{self.where} answered a signature of another version: {signed.signature!r:.20}",
                remedy="Find out what changed in OpenBao. Another version is another key.",
            )
        return self._decoded(found[2])

    def _public_key(self) -> bytes:
        key = self._data(self._call(f"{self._base}/keys/{self._key.key}"), _Key)
        if key.type != "ed25519" or key.derived:
            raise SignerRefused(
                f"{self.where} is {'derived' if key.derived else f'of type {key.type!r:.40}'}",
                remedy=f"Make one: bao write -f {self._key.mount}/keys/NAME type=ed25519",
                code="signer.wrong-kind",
            )
        version = key.keys.get(str(self._key.version))
        if not isinstance(version, _Version):
            raise SignerRefused(
                f"{self.where} is not there; versions there are {', '.join(sorted(key.keys)):.80}",
                remedy="Name a version that is there: …?version=N.",
                code="signer.no-key",
            )
        return self._decoded(version.public_key)

    def _call(self, url: str, body: bytes | None = None) -> Answer:
        token = self._token().strip()
        if not token or not token.isascii() or not token.isprintable():
            raise Misconfigured(
                "OpenBao's token is empty or not a token", remedy="Check [ledger] openbao_token."
            )
        headers = {"X-Vault-Token": token}
        try:
            if body is None:
                answer = self._http.get(url, headers=headers)
            else:
                answer = self._http.post(url, body, content_type="application/json", headers=headers)
        except Unavailable as error:
            raise SignerUnavailable(
                f"{self.where} cannot be reached: {error.message}",
                remedy="Check that OpenBao runs, and [ledger] openbao_address and openbao_ca.",
            ) from error
        if answer.status != 200:
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: Answer) -> SignerRefused | SignerUnavailable:
        said = _reasons(answer.body)
        match answer.status:
            case 403:
                return SignerRefused(
                    f"{self.where} may not be used with this token: {said}",
                    remedy=f"Renew the token, or let its policy read {self._key.mount}/keys/{self._key.key} and"
                    f" update {self._key.mount}/sign/{self._key.key}.",
                    code="signer.denied",
                )
            case 404:
                return SignerRefused(
                    f"{self.where} is not there: {said}",
                    remedy="Check the name in [ledger] key. A deleted key cannot be brought back: restore OpenBao.",
                    code="signer.no-key",
                )
            case 503:
                return SignerUnavailable(
                    f"{self.where} cannot be used: OpenBao is sealed or has no active node",
                    remedy="Unseal OpenBao; sealing of the ledger then goes on by itself.",
                    code="signer.sealed",
                )
            case 400:
                return SignerRefused(
                    f"{self.where} cannot sign: {said}",
                    remedy="Check min_encryption_version and the versions of the key in OpenBao.",
                )
        return SignerUnavailable(
            f"{self.where} cannot be used: OpenBao answered HTTP {answer.status}: {said}",
            remedy="Look into OpenBao's log, and at min_encryption_version of the key.",
        )

    def _data(self, answer: Answer, kind: type[T]) -> T:
        try:
            return msgspec.convert(msgspec.json.decode(answer.body)["data"], kind)
        except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise SignerUnavailable(
                f"{self.where}: what answered does not speak like OpenBao's transit engine",
                remedy="Check [ledger] openbao_address.",
            ) from error

    def _decoded(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise SignerUnavailable(
                f"{self.where}: what answered does not speak like OpenBao's transit engine",
                remedy="Check [ledger] openbao_address.",
            ) from error


def checked_address(address: str) -> str:
    """The address without a final slash. Without TLS only on this machine: a token goes along.

    Raises:
        Misconfigured: it is not such an address.
    """
    return private_base(address, "OpenBao's", setting="[ledger] openbao_address")


def _reasons(body: bytes) -> str:
    """What OpenBao gives as its reasons: one line of printable text, cut."""
    try:
        errors = msgspec.json.decode(body, type=dict[str, list[str]])["errors"]
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError):
        errors = []
    said = "; ".join(" ".join(each.split()) for each in errors) or "it gives no reason"
    return "".join(c if c.isprintable() else "?" for c in said)[:200]
