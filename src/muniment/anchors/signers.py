"""The log's keys by reference: in a file or the environment, in OpenBao, in a PKCS#11 token.

A key file is read at once. What holds a key elsewhere is first asked when something is to be signed: a process starts,
and takes away what is over, also while OpenBao is sealed or a token is not there. Nothing is sealed meanwhile, so
nothing is given; sealing goes on by itself when the signer answers again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from muniment.anchors import pkcs11_uri, transit
from muniment.config import Config
from muniment.core.errors import Misconfigured
from muniment.ledger.errors import LedgerFault
from muniment.ledger.keys import log_signer_from_pem
from muniment.ledger.note import Signer, Verifier
from muniment.outbound import Http


class LateSigner:
    """`ledger.note.Signer` that is opened when it is first needed, and asked again until it answers.

    Raises, from everything but `name`: what opening it raises.
    """

    def __init__(self, name: str, where: str, open_it: Callable[[], Signer]) -> None:
        """``where`` names the key in messages."""
        self.name, self.where = name, where
        self._open_it = open_it
        self._lock = threading.Lock()
        self._signer: Signer | None = None

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        return self._opened().verifier

    def sign(self, text: str) -> str:
        """Return the signature line over ``text``."""
        return self._opened().sign(text)

    def _opened(self) -> Signer:
        with self._lock:
            if self._signer is None:
                self._signer = self._open_it()
            return self._signer


def open_signer(config: Config, reference: str) -> Signer:
    """The key that ``reference`` names: ``file:``, ``env:``, ``openbao:`` or ``pkcs11:``.

    Raises:
        Misconfigured: it names none, or a setting that it needs is missing.
    """
    if reference.startswith(transit.SCHEME):
        return _in_openbao(config, reference)
    if reference.startswith(pkcs11_uri.SCHEME):
        return _in_token(config, reference)
    try:
        return log_signer_from_pem(config.ledger.origin, config.secret(reference).encode())
    except LedgerFault as error:
        raise Misconfigured(
            f"[ledger] key is not an Ed25519 key: {error}",
            remedy="Restore the key file from its backup.",
            code="config.ledger-key",
        ) from error


def _in_openbao(config: Config, reference: str) -> Signer:
    settings, name = config.ledger, transit.KeyName.parse(reference)
    address, token = settings.openbao_address, settings.openbao_token
    if address is None or token is None:
        raise Misconfigured(
            f"[ledger] {reference!r:.80} needs openbao_address and openbao_token",
            remedy='Add both, like openbao_token = "file:keys/openbao-token".',
            code="config.ledger-key",
        )
    transit.checked_address(address)
    http = Http(ca=config.path(settings.openbao_ca) if settings.openbao_ca else None)
    origin = settings.origin
    return LateSigner(
        origin,
        str(name),
        lambda: transit.TransitSigner(
            origin, name, address=address, token=lambda: config.secret(token), http=http
        ),
    )


def _in_token(config: Config, reference: str) -> Signer:
    settings, uri = config.ledger, pkcs11_uri.KeyUri.parse(reference)
    pin, origin = settings.pin, settings.origin
    if pin is None:
        raise Misconfigured(
            "[ledger] key lies in a PKCS#11 token, and there is no pin",
            remedy='Add [ledger] pin = "file:keys/pin" or "env:NAME".',
            code="config.ledger-key",
        )

    def open_it() -> Signer:
        from muniment.anchors.pkcs11 import Pkcs11Signer  # noqa: PLC0415  an extra

        return Pkcs11Signer(origin, uri, pin=lambda: config.secret(pin))

    return LateSigner(origin, str(uri), open_it)
