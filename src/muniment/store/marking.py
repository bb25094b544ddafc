"""The mark that tells our entries from rows that foreign SQL wrote (I11)."""

from __future__ import annotations

import hashlib
import hmac


class Marker:
    """The mark that tells our entries from rows that foreign SQL wrote (I11).

    The key never lies in the database. Anybody who has it, and the database, can still forge; the ledger's witnesses
    and the approvers' own signatures are against them.
    """

    def __init__(self, key: bytes) -> None:
        """``key``: 32 secret bytes."""
        self._key = key

    def of(self, body: bytes) -> bytes:
        """HMAC-SHA256 of an entry's bytes, which name their stream and seq."""
        return hmac.digest(self._key, body, "sha256")

    def holds(self, body: bytes, mark: bytes) -> bool:
        """Whether ``mark`` is ours."""
        return hmac.compare_digest(self.of(body), mark)


def mark_key(seed: bytes) -> bytes:
    """Derive the marker's key from another secret, so that one key file is enough to start with."""
    return hmac.digest(seed, b"muniment event mark v1", hashlib.sha256)
