"""What is presented to say who one is, as ``PREFIX_ID_SECRET``.

``ID`` finds a row and is no secret. Of ``SECRET``, 256 bits of chance, only the SHA-256 is kept: nobody can guess it
from there, however fast he hashes. Rows are remembered for a second, and so is that there is none: whoever guesses asks
the store once a second for each id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from muniment.core.errors import Unauthenticated
from muniment.ports import Random

#: how long what is over may still be taken for good by another process
CACHE_SECONDS = 1.0
#: rows remembered at once; as many ids that have none
CACHED = 4096


class Kept(Protocol):
    """What every such row has."""

    @property
    def id(self) -> str:
        """What stands in the credential."""

    @property
    def hash(self) -> bytes:
        """Of its secret."""


R = TypeVar("R", bound=Kept)


class Credentials(Generic[R]):
    """Credentials of one kind, and their rows. Safe for use by several threads."""

    def __init__(
        self, prefix: str, get: Callable[[str, datetime], R | None], unknown: Callable[[], Unauthenticated]
    ) -> None:
        """``get`` reads a row by its id; ``unknown`` is raised where there is none, or the secret is another."""
        self.pattern = re.compile(rf"{prefix}_([0-9a-f]{{16}})_([0-9a-f]{{64}})", re.ASCII)
        self._get, self._unknown = get, unknown
        self._lock = threading.Lock()
        self._known: dict[str, tuple[datetime, R]] = {}  # by id
        self._missing: dict[str, datetime] = {}

    def find(self, credential: str, now: datetime) -> R | None:
        """The row of a credential; None if it is not of this kind.

        Raises:
            Unauthenticated: there is none, or it has another secret.
        """
        found = self.pattern.fullmatch(credential)
        if found is None:
            return None
        row = self._row(found[1], now)
        # compared also where there is no row, so that the two take the same time
        same = hmac.compare_digest(hash_of(found[2]), row.hash if row else bytes(32))
        if row is None or not same:
            raise self._unknown()
        return row

    def remembered(self, credential: str, now: datetime) -> bool:
        """Whether `find` would answer without asking the store."""
        found = self.pattern.fullmatch(credential)
        return found is None or self._fresh(found[1], now) is not None or self._is_missing(found[1], now)

    def familiar(self, credential: str) -> bool:
        """Whether it was a true one when it was last looked at, perhaps long ago: nobody guesses such a one."""
        found = self.pattern.fullmatch(credential)
        known = self._known.get(found[1]) if found else None
        return (
            found is not None and known is not None and hmac.compare_digest(hash_of(found[2]), known[1].hash)
        )

    def forget(self, row_id: str) -> None:
        """The row was changed: look at it again."""
        with self._lock:
            self._known.pop(row_id, None)

    def _is_missing(self, row_id: str, now: datetime) -> bool:
        at = self._missing.get(row_id)
        return at is not None and timedelta(0) <= now - at < timedelta(seconds=CACHE_SECONDS)

    def _fresh(self, row_id: str, now: datetime) -> R | None:
        known = self._known.get(row_id)
        if known is None or not timedelta(0) <= now - known[0] < timedelta(seconds=CACHE_SECONDS):
            return None
        return known[1]

    def _row(self, row_id: str, now: datetime) -> R | None:
        if (fresh := self._fresh(row_id, now)) is not None:
            return fresh
        if self._is_missing(row_id, now):
            return None
        row = self._get(row_id, now)
        with self._lock:
            if row is None:
                self._known.pop(row_id, None)
                if len(self._missing) >= CACHED:
                    self._missing.clear()
                self._missing[row_id] = now
                return None
            if len(self._known) >= CACHED:
                self._known.clear()
            self._known[row_id] = (now, row)
        return row


def new_credential(prefix: str, random: Random) -> tuple[str, bytes, str]:
    """A new one: its id, the hash to keep, and the whole, which stands nowhere else."""
    made, secret = random.bytes(8).hex(), random.bytes(32).hex()
    return made, hash_of(secret), f"{prefix}_{made}_{secret}"


def hash_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()
