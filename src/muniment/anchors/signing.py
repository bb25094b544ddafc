"""What signers elsewhere have in common: nothing that they answer is used before it verifies.

Ed25519 is deterministic, so a signer elsewhere and one with a key file make the same line (RFC 8032). A device that
errs, is replaced, or signs something else would otherwise publish a checkpoint that every auditor refuses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from muniment.core.errors import KeyChanged, SignerRefused
from muniment.ledger.note import Signature, Verifier, check_text
from muniment.ledger.signatures import ED25519, KEY_BYTES


class SignerElsewhere(ABC):
    """`ledger.note.Signer` for a key that another place holds. Each place says how it signs."""

    name: str  # the origin
    where: str  # how messages name the key
    verifier: Verifier

    @property
    def vkey(self) -> str:
        """The public half as text, to hand to auditors."""
        return self.verifier.vkey

    def sign(self, text: str) -> str:
        """Return the signature line over ``text``: the same as a key file would make.

        Raises:
            BadNote: the text could not be a note's text.
            SignerUnavailable: what holds the key is not there, does not answer, or is sealed.
            SignerRefused: we may not sign there any more, or the key is gone.
            KeyChanged: what came back is not a signature of the key that was read at the start.
        """
        check_text(text)
        return note_line(self.verifier, text, self._signature(text.encode()), self.where)

    @abstractmethod
    def _signature(self, message: bytes) -> bytes:
        """What comes back for ``message``; nothing is believed of it. Raises as `sign`."""


def public_half(origin: str, key: bytes, where: str) -> Verifier:
    """The verifier of the log ``origin`` for a public key that ``where`` gave.

    Raises:
        SignerRefused: it has not the length of an Ed25519 key.
    """
    if len(key) != KEY_BYTES[ED25519]:
        raise SignerRefused(
            f"{where} gave a public key of {len(key)} bytes; Ed25519 has {KEY_BYTES[ED25519]}",
            remedy="Name an Ed25519 key in [ledger] key.",
            code="signer.wrong-kind",
        )
    return Verifier(name=origin, key=key)


def note_line(verifier: Verifier, text: str, signature: bytes, where: str) -> str:
    """The signature line over ``text``, if the signature is this key's.

    Raises:
        KeyChanged: it is not.
    """
    if not verifier.verify(text, signature):
        raise KeyChanged(
            f"{where} signed with another key than {verifier.vkey}, or signed something else",
            remedy="Find out who replaced the key there, and restore it; see [ledger] key.",
        )
    return Signature(name=verifier.name, key_id=verifier.key_id, signature=signature).line()
