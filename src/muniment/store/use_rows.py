"""The rows of batches of use, as they are written with the entry that says what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, update

from muniment.core.use import Use
from muniment.ports import UseBatch
from muniment.store import tables as t
from muniment.store.rows import Into

#: names in one question to the database
CHUNK = 400

_encode = msgspec.json.Encoder(order="sorted").encode


def encoded(use: Use) -> bytes:
    """A use as it is kept, and as the ledger's digest is over it."""
    return _encode(use)


def digest(bodies: Iterable[bytes]) -> str:
    """``sha256:…`` over uses in the order of their lines, each with a line feed."""
    whole = hashlib.sha256()
    for body in bodies:
        whole.update(body + b"\n")
    return f"sha256:{whole.hexdigest()}"


def into(batches: Sequence[UseBatch]) -> Iterator[Into]:
    """The rows of batches."""
    lines = [_row(each, use) for each in batches for use in each.uses]
    yield Into(t.use_line, lines, "keep")
    yield Into(
        t.use_source,
        [{"target": b.source.target, "source": b.source.source, "state": _encode(b.source)} for b in batches],
        "replace",
    )
    rejected = [
        {
            "batch": b.batch, "number": n, "target": b.source.target, "place": r.place, "digest": r.digest, "why": r.why
        }
        for b in batches
        for n, r in enumerate(b.rejected)
    ]  # fmt: skip
    yield Into(t.use_rejected, rejected)


def take_back(connection: Connection, batches: Sequence[UseBatch]) -> None:
    """Lines that were read before, and that another line says did not come to be."""
    c = t.use_line.c
    for each in batches:
        for start in range(0, len(each.back), CHUNK):
            mine = (
                c.target == each.source.target,
                c.line.in_(each.back[start : start + CHUNK]),
                c.verdict.is_(None),
            )
            connection.execute(update(t.use_line).where(*mine).values(verdict="refused"))


def _row(batch: UseBatch, use: Use) -> dict[str, Any]:
    return {
        "target": batch.source.target, "line": use.line, "at": use.at, "account": use.account, "privilege": use.privilege, "batch": batch.batch,
        "body": encoded(use), "verdict": "refused" if use.refused else None, "ticket": None,
    }  # fmt: skip
