"""Every fault the ledger finds. One root, so that a caller who read foreign bytes catches one type.

``code`` is public and stable: reports, exit messages and tests name it. The sentence says what is wrong and where,
and may be reworded at any time. A subclass stands for one decision a caller may take: an auditor treats `Fork` as an
alarm, `WrongKey` as a question about the trust file, and the rest as damaged or forged input.
"""

from __future__ import annotations

from typing import ClassVar


class LedgerFault(Exception):
    """Base of the tree: the bytes at hand are not what they claim to be."""

    code: ClassVar[str] = "ledger.fault"

    def __init__(self, message: str) -> None:
        """``message``: one sentence that says what is wrong and where."""
        super().__init__(message)
        self.message = message


class BadEntry(LedgerFault):
    """The bytes are not an entry: not canonical JSON of the event profile, or not our envelope."""

    code = "ledger.bad-entry"


class BadTree(LedgerFault):
    """A hash has a wrong length, or stored tree state is not a right edge."""

    code = "ledger.bad-tree"


class BadProof(LedgerFault):
    """An inclusion or consistency proof is malformed or leads to another root."""

    code = "ledger.bad-proof"


class Fork(LedgerFault):
    """Two roots for one size: the log showed two histories. Nothing but an alarm is right here."""

    code = "ledger.fork"


class BadNote(LedgerFault):
    """The bytes do not have the shape of a signed note."""

    code = "ledger.bad-note"


class BadSignature(LedgerFault):
    """A signature line by a key we know does not verify. The whole note is refused."""

    code = "ledger.bad-signature"


class WrongKey(LedgerFault):
    """No signature by a key we know. The note may be genuine; we cannot tell."""

    code = "ledger.wrong-key"


class BadKey(LedgerFault):
    """A verifier key, a seed or a private key file cannot be used."""

    code = "ledger.bad-key"


class BadCheckpoint(LedgerFault):
    """The note's text is not a checkpoint: origin, size and root on three lines."""

    code = "ledger.bad-checkpoint"


class WrongOrigin(LedgerFault):
    """A genuine checkpoint of another log than the one asked about."""

    code = "ledger.wrong-origin"


class BadTile(LedgerFault):
    """A tile or an entry bundle has a wrong length or content, or there is no such tile."""

    code = "ledger.bad-tile"


class BadTrust(LedgerFault):
    """The trust file is not a policy: which logs, which witnesses, and how many of them are enough."""

    code = "ledger.bad-trust"


class BadStamp(LedgerFault):
    """An RFC 3161 time-stamp is malformed, of another text, or by nobody whom the given certificates name."""

    code = "ledger.bad-stamp"
