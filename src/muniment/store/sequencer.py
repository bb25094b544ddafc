"""From the outbox into the tree, and the signed checkpoint over it.

1. In one transaction: take entries that have no leaf, in id order; write their leaves; move the head by
   compare-and-set. The compare-and-set is the fence: two sequencers cannot both move it.
2. After that commit: sign the committed head and keep the note. A crash in between signs it later; of two signers at
   one size the first one's note is kept. Signing before the commit could fork the log.
3. What is signed must have grown from what was signed before: the last signed tree's right edge, extended by the
   entries that came since, hashed again from their bytes, gives the head. So a head or a leaf that somebody wrote
   into the database is never signed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from sqlalchemy import Engine, bindparam, func, select, text, update

from muniment.core.errors import IntegrityError
from muniment.ledger.checkpoint import Checkpoint, sign_checkpoint
from muniment.ledger.errors import LedgerFault
from muniment.ledger.merkle import Frontier, leaf_hash
from muniment.ledger.note import Signer, Verifier, open_note
from muniment.ports import Clock
from muniment.store import tables as t
from muniment.store.checkpoints import Kept, Published, SqlCheckpoints
from muniment.store.engine import blob, reading, writing
from muniment.store.marking import Marker
from muniment.store.rows import Into, listed, one_of, put, run
from muniment.store.searching import searchable

#: entries taken up in one transaction
BATCH = 512
_LOCK = 0x6D756E69  # "muni": PostgreSQL's advisory lock that saves two sequencers the same work


class SqlLedger:
    """The ledger's side of the store: leaves, head and checkpoints."""

    def __init__(self, engine: Engine, origin: str, marker: Marker, clock: Clock) -> None:
        """Share the store's engine, origin, marker and clock."""
        self._engine, self._origin, self._marker, self._clock = engine, origin, marker, clock
        self.kept = SqlCheckpoints(engine)

    def integrate(self) -> int:
        """Take up one batch of waiting entries; return how many.

        Raises:
            IntegrityError: an entry was not written by us. Nothing is taken up past it: fail closed, and loudly.
        """
        dialect = self._engine.dialect.name
        with writing(self._engine) as connection:
            if dialect == "postgresql":
                free = connection.execute(
                    text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}
                ).scalar()
                if not free:
                    return 0
            waiting = connection.execute(_WAITING, {"limit": BATCH}).scalars().all()
            if not waiting:
                return 0
            rows = run(connection, _ENTRIES[dialect], {"ids": listed(dialect, waiting)}).all()
            if len(rows) != len(waiting):
                raise IntegrityError(
                    f"{len(waiting) - len(rows)} entries that waited for the ledger were removed",
                    remedy="Somebody wrote to the database directly. Keep it as it is and find out who.",
                )
            size, edge = connection.execute(_HEAD.with_for_update()).one()
            frontier = _frontier(edge, size)
            leaves = []
            for offset, row in enumerate(rows):
                body = blob(row.body)
                if not self._marker.holds(body, blob(row.mark)):
                    raise IntegrityError(
                        f"entry {row.seq} of {row.stream} was not written by Muniment",
                        remedy="Somebody wrote to the database directly. Keep it as it is and find out who.",
                    )
                leaves.append({"idx": size + offset, "event_id": row.id, "hash": leaf_hash(body)})
            frontier = frontier.extend(leaf["hash"] for leaf in leaves)
            facts = searchable(connection, [(size + at, row.stream, row.body) for at, row in enumerate(rows)])
            put(connection, Into(t.leaf, leaves), Into(t.fact, facts))
            run(connection, _TAKEN_UP[dialect], {"ids": listed(dialect, waiting)})
            moved = connection.execute(
                _MOVE,
                {
                    "b_size": size,
                    "b_edge": blob(edge),
                    "new_size": size + len(rows),
                    "new_edge": frontier.to_bytes(),
                },
            )
            if moved.rowcount != 1:
                raise IntegrityError(
                    "another sequencer moved the ledger's head", remedy="Nothing to do; it is tried again."
                )
            return len(rows)

    def head(self) -> Checkpoint:
        """The committed head, signed or not."""
        with reading(self._engine) as connection:
            size, edge = connection.execute(_HEAD).one()
        frontier = _frontier(edge, size)
        return Checkpoint(origin=self._origin, size=frontier.size, root=frontier.root())

    def sign(
        self,
        signers: Sequence[Signer] | Callable[[Checkpoint], Sequence[Signer]],
        known: Sequence[Verifier] = (),
    ) -> Kept:
        """Sign the committed head and keep the note; return the newest one. Idempotent.

        Args:
            signers: the log's keys; or which of them, for a head.
            known: other keys by which the newest checkpoint may be signed.

        Raises:
            IntegrityError: the head did not grow from what was signed last. Nothing is signed.
        """
        last = self.kept.newest()  # first: another signer may sign a larger head in between
        head = self.head()
        if last is not None and last.size > head.size:  # signing it would be a second history
            raise _second_history(
                f"the ledger has {head.size} entries, and a checkpoint over {last.size} was signed"
            )
        signers = signers(head) if callable(signers) else signers
        grown = self._grown(last, head.size, [*(signer.verifier for signer in signers), *known])
        if grown.root() != head.root:
            raise _second_history(f"the ledger's head over {head.size} entries is not what its entries make")
        if last is not None and last.size == head.size and last.frontier is not None:
            return last
        note = sign_checkpoint(head, signers)
        return self.kept.keep(head.size, note, grown.to_bytes(), self._clock.now())

    def _grown(self, last: Kept | None, size: int, known: Sequence[Verifier]) -> Frontier:
        """The right edge of the tree that was signed last, extended by the entries that came since."""
        edge, start = Frontier(), 0
        if last is not None and last.frontier is not None:
            edge, start = _frontier(last.frontier, last.size), last.size
            try:
                signed = Checkpoint.parse(open_note(last.note, known).text)
            except LedgerFault as fault:
                raise _second_history(f"the checkpoint over {start} entries is not ours: {fault}") from fault
            if (edge.size, edge.root()) != (signed.size, signed.root):
                raise _second_history(f"what is kept of the checkpoint over {start} entries was changed")
        return edge.extend(leaf_hash(body) for _, body in self.entries(start=start, upto=size))

    def published(self) -> list[Published]:
        """Every published checkpoint with its cosignatures and stamps, smallest first."""
        return self.kept.published()

    def sealed(self, streams: Collection[str]) -> dict[str, int | None]:
        """How many entries a checkpoint must cover to cover all of a stream's; None: some have no leaf yet."""
        query = (
            select(t.event.c.stream, func.count(), func.count(t.leaf.c.idx), func.max(t.leaf.c.idx))
            .outerjoin(t.leaf, t.leaf.c.event_id == t.event.c.id)
            .where(t.event.c.stream.in_(streams))
            .group_by(t.event.c.stream)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return {stream: last + 1 if entries == leaves else None for stream, entries, leaves, last in rows}

    def entries(self, *, start: int = 0, upto: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Index and bytes of every leaf from ``start``, in order, page by page so that memory stays flat."""
        while True:
            with reading(self._engine) as connection:
                rows = connection.execute(_LEAVES, {"start": start, "limit": 4096}).all()
            for index, body in rows:
                if upto is not None and index >= upto:
                    return
                yield index, blob(body or b"")
            if not rows:
                return
            start = rows[-1][0] + 1

    def waiting(self) -> list[bytes]:
        """Entries that no leaf holds yet, oldest first."""
        with reading(self._engine) as connection:
            return [blob(body) for (body,) in connection.execute(WAITING)]

    def bodies(self, indexes: Sequence[int]) -> dict[int, bytes]:
        """The entries at these places."""
        query = (
            select(t.leaf.c.idx, t.event.c.body)
            .join(t.event, t.event.c.id == t.leaf.c.event_id)
            .where(t.leaf.c.idx.in_(indexes))
        )
        with reading(self._engine) as connection:
            return {index: blob(body) for index, body in connection.execute(query)}

    def hashes(self, upto: int) -> list[bytes]:
        """Leaf hashes of the first ``upto`` entries, as sequenced."""
        query = select(t.leaf.c.hash).where(t.leaf.c.idx < upto).order_by(t.leaf.c.idx)
        with reading(self._engine) as connection:
            return [blob(each) for (each,) in connection.execute(query)]

    def indexes_of(self, stream: str) -> list[int]:
        """Where the ledger holds a stream's entries."""
        query = (
            select(t.leaf.c.idx)
            .join(t.event, t.event.c.id == t.leaf.c.event_id)
            .where(t.event.c.stream == stream)
            .order_by(t.leaf.c.idx)
        )
        with reading(self._engine) as connection:
            return [index for (index,) in connection.execute(query)]

    def backlog(self) -> int:
        """Entries that no leaf holds yet: few, unless nothing seals."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.count()).select_from(t.outbox)).scalar_one())

    def counts(self) -> tuple[int, int, int]:
        """Entries stored, entries waiting, leaves: the first is the sum of the others, or something was removed."""
        with reading(self._engine) as connection:
            stored, waiting, leaves = connection.execute(_COUNTS).one()
        return stored, waiting, leaves


def _second_history(message: str) -> IntegrityError:
    return IntegrityError(
        message,
        remedy="Something was removed, changed or put back. Keep the database as it is and find out what.",
    )


def _frontier(stored: bytes, size: int) -> Frontier:
    remedy = "Nothing is sealed any more. Keep the database as it is, and compare it with a backup."
    try:
        frontier = Frontier.from_bytes(blob(stored))
    except LedgerFault as fault:
        raise IntegrityError(f"the ledger's head is damaged: {fault}", remedy=remedy) from fault
    if frontier.size != size:
        raise IntegrityError(
            f"the ledger's head is damaged: it says {size} entries, and its edge is that of {frontier.size}",
            remedy=remedy,
        )
    return frontier


#: entries that no leaf holds yet, oldest first
WAITING = (
    select(t.event.c.body).join(t.outbox, t.outbox.c.event_id == t.event.c.id).order_by(t.outbox.c.event_id)
)
# which ones first, then those by their ids: asked for at once, PostgreSQL may walk through all events ever recorded
_WAITING = select(t.outbox.c.event_id).order_by(t.outbox.c.event_id).limit(bindparam("limit"))
_ENTRIES = {
    dialect: select(t.event.c.id, t.event.c.stream, t.event.c.seq, t.event.c.body, t.event.c.mark)
    .where(chosen)
    .order_by(t.event.c.id)
    for dialect, chosen in one_of(t.event.c.id, "ids").items()
}
_TAKEN_UP = {
    dialect: t.outbox.delete().where(chosen) for dialect, chosen in one_of(t.outbox.c.event_id, "ids").items()
}
_COUNTS = select(
    *(select(func.count()).select_from(table).scalar_subquery() for table in (t.event, t.outbox, t.leaf))
)
_HEAD = select(t.head.c.size, t.head.c.frontier).where(t.head.c.id == 1)
_MOVE = (
    update(t.head)
    .where(t.head.c.id == 1, t.head.c.size == bindparam("b_size"), t.head.c.frontier == bindparam("b_edge"))
    .values(size=bindparam("new_size"), frontier=bindparam("new_edge"))
)
_LEAVES = (
    select(t.leaf.c.idx, t.event.c.body)
    .outerjoin(t.event, t.event.c.id == t.leaf.c.event_id)
    .where(t.leaf.c.idx >= bindparam("start"))
    .order_by(t.leaf.c.idx)
    .limit(bindparam("limit"))
)
