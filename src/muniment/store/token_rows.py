"""Rows of API tokens, and the mark over all that each lets somebody do: what foreign SQL wrote lets nobody in (I11).

There are two marks. A row with the first is older than entries of tokens, and nothing is asked of the ledger but whether
it was revoked. No such row is written any more, so whoever has no key can make none; a row with the second is good only
with the entry that says who made it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Connection, select, update

from muniment.core.instants import parse_instant, wire
from muniment.ports import TokenRow
from muniment.store import tables as t
from muniment.store.engine import blob
from muniment.store.marking import Marker

#: how the streams of tokens begin, whose id follows
TOKEN = "token:"  # noqa: S105  no secret

#: "ours"; "before": ours, and older than entries of tokens; "none": older than marks; "foreign": somebody else's
Mark: TypeAlias = Literal["ours", "before", "none", "foreign"]

_NAMES = ("id", "hash", "identity", "scopes", "created_at", "expires_at", "revoked_at")


def token_row(token: TokenRow, marker: Marker) -> dict[str, Any]:
    """A row as it is written."""
    values = {
        "id": token.id, "hash": token.hash, "identity": token.identity, "scopes": " ".join(token.scopes),
        "created_at": wire(token.created_at), "expires_at": wire(token.expires_at),
        "revoked_at": wire(token.revoked_at) if token.revoked_at else None,
    }  # fmt: skip
    return values | {"mark": marker.of(_marked(values))}


def read_row(row: Any, marker: Marker) -> tuple[TokenRow, Mark]:
    """A row as it stands in the table, with columns called ``token_…``."""
    values = {name: getattr(row, f"token_{name}") for name in _NAMES}
    values["hash"] = blob(values["hash"])
    token = TokenRow(
        id=values["id"], hash=values["hash"], identity=values["identity"], scopes=tuple(values["scopes"].split()),
        created_at=parse_instant(values["created_at"]), expires_at=parse_instant(values["expires_at"]),
        revoked_at=parse_instant(values["revoked_at"]) if values["revoked_at"] else None,
        marked=row.token_mark is not None,
    )  # fmt: skip
    if row.token_mark is None:
        return token, "none"
    mark = blob(row.token_mark)
    if marker.holds(_marked(values), mark):
        return token, "ours"
    return token, "before" if marker.holds(_marked_before(values), mark) else "foreign"


def end_row(connection: Connection, marker: Marker, token_id: str, at: datetime) -> bool:
    """Write into a row that its token is over, if it does not say so; return whether there is one.

    Marked anew also where the mark was not ours: what is revoked lets nobody in, whoever wrote it.
    """
    row = connection.execute(select(t.token).where(t.token.c.id == token_id)).one_or_none()
    if row is None:
        return False
    values = {name: getattr(row, name) for name in _NAMES} | {"hash": blob(row.hash), "revoked_at": wire(at)}
    connection.execute(
        update(t.token)
        .where(t.token.c.id == token_id, t.token.c.revoked_at.is_(None))
        .values(revoked_at=values["revoked_at"], mark=marker.of(_marked(values)))
    )
    return True


def _marked(values: dict[str, Any]) -> bytes:
    """The bytes that are marked. No entry begins like this: entries are JSON objects."""
    return b"muniment token mark v2\0" + msgspec.json.encode([values[name] for name in _NAMES])


def _marked_before(values: dict[str, Any]) -> bytes:
    """As they were, before the ledger had who made a token."""
    names = ("id", "hash", "identity", "scopes", "expires_at", "revoked_at")
    return b"muniment token mark v1\0" + msgspec.json.encode([values[name] for name in names])
