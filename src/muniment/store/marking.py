"""The mark that tells our entries from rows that foreign SQL wrote (I11)."""

from __future__ import annotations

import hashlib
import hmac
import re


class Marker:
    """The mark that tells our entries from rows that foreign SQL wrote (I11).

    The key never lies in the database. Anybody who has it, and the database, can still forge; the ledger's witnesses
    and the approvers' own signatures are against them.
    """

    def __init__(self, key: bytes) -> None:
        """``key``: 32 secret bytes."""
        self._key = key

    def file(self) -> bytes:
        """What `mark_key` reads as this marker's key."""
        return mark_file(self._key)

    def of(self, body: bytes) -> bytes:
        """HMAC-SHA256 of an entry's bytes, which name their stream and seq."""
        return hmac.digest(self._key, body, "sha256")

    def holds(self, body: bytes, mark: bytes) -> bool:
        """Whether ``mark`` is ours."""
        return hmac.compare_digest(self.of(body), mark)


def mark_key(secret: bytes) -> bytes:
    """The marker's key: what `mark_file` wrote, or derived from another secret, so that one key file is enough."""
    kind, _, given = secret.partition(b" ")
    if kind == _OWN and _HEX.fullmatch(given.strip()):
        return bytes.fromhex(given.decode())
    return hmac.digest(secret, b"muniment event mark v1", hashlib.sha256)


def mark_file(key: bytes) -> bytes:
    """A secret of its own for the marker: it outlives the ledger's keys, which change in time."""
    return _OWN + b" " + key.hex().encode() + b"\n"


_OWN = b"muniment-mark/1"
_HEX = re.compile(rb"[0-9a-f]{64}")
