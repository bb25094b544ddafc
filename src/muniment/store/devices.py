"""Devices that somebody said yes to, until they fetch their token. What they are, is in `service.devices`.

A row is marked whole, so that one which foreign SQL wrote gives nobody a token (I11).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Engine, delete

from muniment.core.instants import parse_instant, wire
from muniment.store import tables as t
from muniment.store.engine import blob, writing
from muniment.store.marking import Marker


class SqlDevices:
    """The table of devices."""

    def __init__(self, engine: Engine, marker: Marker) -> None:
        """Share the store's engine and marker."""
        self._engine, self._marker = engine, marker

    def allow(self, code: bytes, identity: str, now: datetime, until: datetime) -> None:
        """Whoever has the code that hashes to this acts as ``identity``, if they come before ``until``."""
        values = {"hash": code, "identity": identity, "until": wire(until)}
        with writing(self._engine) as connection:
            connection.execute(
                delete(t.device).where((t.device.c.until <= wire(now)) | (t.device.c.hash == code))
            )
            connection.execute(t.device.insert().values(**values, mark=self._marker.of(_marked(values))))

    def take(self, code: bytes, now: datetime) -> str | None:
        """Whom a device acts as; once. None: nobody said yes, or it was fetched already."""
        with writing(self._engine) as connection:
            row = connection.execute(
                delete(t.device).where(t.device.c.hash == code).returning(t.device)
            ).one_or_none()
        if row is None or parse_instant(row.until) <= now:
            return None
        values = {"hash": blob(row.hash), "identity": row.identity, "until": row.until}
        return str(row.identity) if self._marker.holds(_marked(values), blob(row.mark)) else None


def _marked(values: dict[str, Any]) -> bytes:
    """The bytes that are marked. No entry begins like this: entries are JSON objects."""
    return b"muniment device mark v1\0" + msgspec.json.encode(
        [values[name] for name in ("hash", "identity", "until")]
    )
