"""The log's key in a PKCS#11 token: a hardware security module, a smart card, or SoftHSM for tests.

The signature is made by ``CKM_EDDSA`` without parameters: plain Ed25519 of RFC 8032. The library that speaks to the
token belongs to its vendor and is not safe in two threads of ours at a time, so one lock stands before all of them.

A session is lost when the token is pulled, its server restarts, or another signer begins anew. The next signature
then opens another one, and the module anew if that is not enough; the caller notices nothing but the time.

Source: PKCS#11 3.0, sections 2.3.14 (``CKM_EDDSA``) and 2.3.5 (keys); RFC 7512 for `pkcs11_uri`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from muniment.anchors.pkcs11_uri import SCHEME, KeyUri
from muniment.anchors.signing import SignerElsewhere, public_half
from muniment.core.errors import KeyChanged, Misconfigured, MunimentError, SignerRefused, SignerUnavailable

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["SCHEME", "KeyUri", "Pkcs11Signer"]

#: curve parameters of Ed25519: its object identifier, and the name that some tokens write instead
_ED25519 = {bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519"}
#: DER's OCTET STRING of 32 bytes; some tokens leave it out
_OCTETS_32 = b"\x04\x20"

#: of the whole process: C_Initialize and C_Finalize are, and two signers may use one module
_LOCK = threading.RLock()


class Pkcs11Signer(SignerElsewhere):
    """The key in a token. Safe to share between threads."""

    def __init__(self, origin: str, uri: KeyUri, *, pin: Callable[[], str]) -> None:
        """Open a session and read the public key.

        Args:
            origin: the log's name.
            uri: which key.
            pin: gives the PIN, whenever a session is opened.

        Raises:
            Misconfigured: python-pkcs11 is not installed, or there is no such module.
            SignerUnavailable: the token is not there, or failed.
            SignerRefused: the PIN is wrong, or there is no such key, or it is not one of Ed25519.
        """
        self.name = origin
        self.where = str(uri)
        self._uri, self._pin = uri, pin
        self._api = _library()
        self._session: Any = None
        self._key: Any = None
        self._public: bytes | None = None
        self._wrong_pin: str | None = None
        with _LOCK:
            public = self._open()
        self.verifier = public_half(origin, public, self.where)

    def close(self) -> None:
        """End the session. The next signature opens another."""
        with _LOCK, suppress(self._api.PKCS11Error):
            session, self._session, self._key = self._session, None, None
            if session is not None:
                session.close()

    def _signature(self, message: bytes) -> bytes:
        with _LOCK:
            return self._sign(message)

    def _sign(self, message: bytes) -> bytes:
        mechanism = self._api.Mechanism.EDDSA
        if self._key is not None:
            with suppress(self._api.PKCS11Error):
                return bytes(self._key.sign(message, mechanism=mechanism))
        # whatever it was, a new session is worth one try; what is wrong for good is wrong again
        self.close()
        self._open()
        try:
            return bytes(self._key.sign(message, mechanism=mechanism))
        except self._api.PKCS11Error as error:
            raise self._translated(error) from error

    def _open(self) -> bytes:
        """Have a session and the key in it; with the module begun anew if it does not know the token any more."""
        try:
            try:
                return self._log_in(again=False)
            except (self._api.NoSuchToken, *self._lost()):
                return self._log_in(again=True)
        except self._api.PKCS11Error as error:
            self.close()
            raise self._translated(error) from error
        except MunimentError:
            self.close()
            raise

    def _lost(self) -> tuple[type[Exception], ...]:
        api = self._api
        return (
            api.DeviceRemoved, api.DeviceError, api.TokenNotPresent, api.SessionHandleInvalid, api.SessionClosed,
            api.SlotIDInvalid, api.GeneralError, api.FunctionFailed,
        )  # fmt: skip

    def _log_in(self, *, again: bool) -> bytes:
        module = self._module()
        if again:
            module.reinitialize()  # sessions of other signers on this module end, and are opened again by them
        wanted = self._uri
        tokens = [
            token
            for token in module.get_tokens()
            if wanted.token in {None, token.label}
            and wanted.serial in {None, token.serial.decode(errors="replace").strip()}
            and wanted.manufacturer in {None, token.manufacturer_id}
            and wanted.model in {None, token.model}
        ]
        if not tokens:
            raise self._api.NoSuchToken
        if len(tokens) > 1:
            raise self._api.MultipleTokensReturned
        pin = self._pin().strip()
        # sealing asks every second, and a token locks itself after a few wrong ones
        if pin == self._wrong_pin:
            raise self._api.PinIncorrect
        try:
            self._session = tokens[0].open(user_pin=pin)
        except self._api.UserAlreadyLoggedIn:  # by another signer of this process: it is the token's state
            self._session = tokens[0].open()
        except (self._api.PinIncorrect, self._api.PinInvalid, self._api.PinLenRange):
            self._wrong_pin = pin
            raise
        return self._find_key()

    def _module(self) -> Any:
        try:
            return self._api.lib(self._uri.module)
        except self._api.PKCS11Error as error:
            if type(error) is not self._api.PKCS11Error:
                raise
            raise Misconfigured(
                f"the PKCS#11 module {self._uri.module} cannot be loaded: {error}",
                remedy="Install the token's library, and check module-path in [ledger] key.",
                code="config.ledger-key",
            ) from error

    def _find_key(self) -> bytes:
        """Take up both halves of the key; return the public one."""
        api = self._api
        public = self._one(api.ObjectClass.PUBLIC_KEY)
        if public[api.Attribute.EC_PARAMS] not in _ED25519:
            raise SignerRefused(
                f"{self.where} is not on the curve edwards25519",
                remedy="Make one with pkcs11-tool --keypairgen --key-type EC:edwards25519.",
                code="signer.wrong-kind",
            )
        point = bytes(public[api.Attribute.EC_POINT])
        found = point[2:] if len(point) == 34 and point.startswith(_OCTETS_32) else point
        if self._public not in {None, found}:
            raise KeyChanged(
                f"{self.where} is another key than at the start of this process",
                remedy="Find out who replaced it, and restore it; or announce the new one.",
            )
        self._key, self._public = self._one(api.ObjectClass.PRIVATE_KEY), found
        return found

    def _one(self, kind: Any) -> Any:
        api, wanted = self._api, dict[Any, Any]()
        if self._uri.object is not None:
            wanted[api.Attribute.LABEL] = self._uri.object
        if self._uri.id is not None:
            wanted[api.Attribute.ID] = self._uri.id
        # EC as well: tokens older than PKCS#11 3.0 know no other name for curves
        found = [
            each
            for each in self._session.get_objects({api.Attribute.CLASS: kind, **wanted})
            if each.key_type in {api.KeyType.EC_EDWARDS, api.KeyType.EC}
        ]
        if len(found) != 1:
            half = "public" if kind == api.ObjectClass.PUBLIC_KEY else "private"
            raise SignerRefused(
                f"{self.where}: {len(found) or 'no'} {half} halves of an Edwards key have this name",
                remedy="Name one key, by object and id; the token must hold both halves of it.",
                code="signer.no-key",
            )
        return found[0]

    def _translated(self, error: Exception) -> SignerRefused | SignerUnavailable:
        api = self._api
        if isinstance(
            error, api.PinIncorrect | api.PinInvalid | api.PinLenRange | api.PinExpired | api.PinLocked
        ):
            locked = isinstance(error, api.PinLocked)
            return SignerRefused(
                f"{self.where} cannot be used: the PIN is {'locked' if locked else 'not right'}",
                remedy="Check [ledger] pin; a token locks itself after a few wrong ones.",
                code="signer.denied",
            )
        if isinstance(error, api.MultipleTokensReturned):
            return SignerRefused(
                f"{self.where}: several tokens have this name",
                remedy="Add serial=… to [ledger] key.",
                code="signer.no-key",
            )
        if isinstance(error, api.NoSuchToken | api.TokenNotPresent | api.DeviceRemoved):
            return SignerUnavailable(
                f"{self.where} cannot be used: the token is not there",
                remedy="Connect it, or check token=… in [ledger] key.",
            )
        if isinstance(error, api.MechanismInvalid | api.FunctionNotSupported):
            return SignerRefused(
                f"{self.where} cannot be used: the token does not sign with CKM_EDDSA",
                remedy="Update the token's firmware and library, or keep the key elsewhere.",
                code="signer.wrong-kind",
            )
        return SignerUnavailable(
            f"{self.where} cannot be used: the token said {type(error).__name__}",
            remedy="Look at the token and its library.",
        )


def _library() -> ModuleType:
    try:
        import pkcs11  # noqa: PLC0415  an extra: most keys lie in files
    except ImportError as error:
        raise Misconfigured(
            "[ledger] key lies in a PKCS#11 token, and python-pkcs11 is not installed",
            remedy="Install the extra: pip install 'muniment[pkcs11]'.",
            code="config.extra-missing",
        ) from error
    return pkcs11
