"""Ids of what we make. They sort by time."""

from __future__ import annotations

from datetime import datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str, now: datetime, chance: bytes) -> str:
    """An id that sorts by time: 48 bits of milliseconds and 80 of chance, in Crockford's base 32 (as ULID)."""
    number = int(now.timestamp() * 1000) << 80 | int.from_bytes(chance, "big")
    digits = "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{digits}"
