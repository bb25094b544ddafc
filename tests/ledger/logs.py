"""A small log to check and to damage. Everything follows from fixed seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from hypothesis import HealthCheck, settings

from muniment.ledger import canonical
from muniment.ledger.checkpoint import Checkpoint, sign_checkpoint
from muniment.ledger.entry import Actor, Entry, entry_ref
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.merkle import leaf_hash, tree_root
from muniment.ledger.note import Ed25519Signer

ORIGIN = "ledger.example.org/muniment"
SIGNER = signer_from_seed(ORIGIN, bytes(range(32)))
STRANGER = signer_from_seed(ORIGIN, b"\x07" * 32)  # the right name, another key
VERIFIER = SIGNER.verifier

#: the same examples in every run
steady = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)


def entry(**changes: object) -> Entry:
    """A sound entry, with some fields changed."""
    fields = {
        "log": ORIGIN,
        "ticket": "req_1",
        "seq": 0,
        "prev": None,
        "type": "request-submitted/1",
        "actor": Actor(id="human:ann@example.com", via="local"),
        "at": "2026-11-23T10:00:00.000000Z",
        "data": msgspec.Raw(canonical.encode({"target": "pg-prod", "note": "é\u2028\x7f"})),
    }
    return Entry(**(fields | changes))  # type: ignore[arg-type]


def build(order: Iterable[str], origin: str = ORIGIN) -> list[bytes]:
    """One entry per ticket named, in that order, each continuing its ticket."""
    made: list[bytes] = []
    last: dict[str, tuple[int, str]] = {}
    for place, ticket in enumerate(order):
        seq, prev = last.get(ticket, (-1, None))
        data = msgspec.Raw(canonical.encode({"place": place, "reason": "maintenance"}))
        raw = entry(log=origin, ticket=ticket, seq=seq + 1, prev=prev, data=data).encode()
        last[ticket] = (seq + 1, entry_ref(raw))
        made.append(raw)
    return made


def head(entries: Sequence[bytes], origin: str = ORIGIN) -> Checkpoint:
    """The head of the tree over ``entries``."""
    return Checkpoint(origin=origin, size=len(entries), root=tree_root(map(leaf_hash, entries)))


def seal(entries: Sequence[bytes], signer: Ed25519Signer = SIGNER) -> str:
    """A signed checkpoint over ``entries``."""
    return sign_checkpoint(head(entries, signer.name), [signer])
