"""Devices that somebody said yes or no to, until their code is over. What they are, is in `service.devices`.

A row is marked whole, so that one which foreign SQL wrote gives nobody a token (I11).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Connection, Engine, delete, select, update

from muniment.core.errors import Conflict
from muniment.core.instants import parse_instant, wire
from muniment.store import tables as t
from muniment.store.engine import blob, writing
from muniment.store.marking import Marker

#: what was said; "taken": yes, and the device has its token
Answer: TypeAlias = Literal["yes", "no", "taken"]


class SqlDevices:
    """The table of devices."""

    def __init__(self, engine: Engine, marker: Marker) -> None:
        """Share the store's engine and marker."""
        self._engine, self._marker = engine, marker

    def say(self, code: bytes, identity: str, answer: Answer, now: datetime, until: datetime) -> None:
        """Whoever has the code that hashes to this acts as ``identity``, or does not, if they come before ``until``.

        Raises:
            Conflict: it was answered already: by somebody else, or otherwise. The first answer stays.
        """
        values = {"hash": code, "identity": identity, "answer": answer, "until": wire(until)}
        with writing(self._engine) as connection:
            connection.execute(delete(t.device).where(t.device.c.until <= wire(now)))
            row = self._row(connection, code)
            if row is None:
                connection.execute(delete(t.device).where(t.device.c.hash == code))  # one that is not ours
                connection.execute(t.device.insert().values(**values, mark=self._mark(values)))
            elif (row["identity"], row["answer"]) != (identity, answer):
                raise Conflict(
                    "this code was answered already",
                    remedy="Begin again: run the program anew, and compare its new code.",
                    code="conflict.device-answered",
                )

    def take(self, code: bytes, now: datetime) -> tuple[Answer, str] | None:
        """What was said, and by whom. After a yes it is taken: who asks next is told so. None: nobody said anything."""
        with writing(self._engine) as connection:
            row = self._row(connection, code)
            if row is None or parse_instant(row["until"]) <= now:
                return None
            if row["answer"] == "yes":
                taken = row | {"answer": "taken"}
                moved = connection.execute(
                    update(t.device)
                    .where(t.device.c.hash == code, t.device.c.answer == "yes")
                    .values(answer="taken", mark=self._mark(taken))
                )
                if moved.rowcount != 1:  # another of its questions was faster
                    return "taken", row["identity"]
            return row["answer"], row["identity"]

    def _row(self, connection: Connection, code: bytes) -> dict[str, Any] | None:
        """A row, if it is ours."""
        row = connection.execute(select(t.device).where(t.device.c.hash == code)).one_or_none()
        if row is None:
            return None
        values = {"hash": blob(row.hash), "identity": row.identity, "answer": row.answer, "until": row.until}
        return values if self._marker.holds(_marked(values), blob(row.mark)) else None

    def _mark(self, values: dict[str, Any]) -> bytes:
        return self._marker.of(_marked(values))


def _marked(values: dict[str, Any]) -> bytes:
    """The bytes that are marked. No entry begins like this: entries are JSON objects."""
    return b"muniment device mark v2\0" + msgspec.json.encode(
        [values[name] for name in ("hash", "identity", "answer", "until")]
    )
