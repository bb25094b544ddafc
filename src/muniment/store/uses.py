"""What is kept of lines of targets' logs: each once, however often it was read; and how far each log was read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Engine, func, select, update

from muniment.core.errors import IntegrityError
from muniment.core.ticket import Ticket
from muniment.core.use import Use
from muniment.ports import Rejected, UseSource
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.events import decode_state
from muniment.store.use_rows import CHUNK, digest

_use = msgspec.json.Decoder(Use).decode
_source = msgspec.json.Decoder(UseSource).decode


class Pending(NamedTuple):
    """A use that nobody judged yet."""

    use: Use
    batch: str


class Counted(NamedTuple):
    """What is on file of a ticket's use in its window."""

    events: int
    first_at: str
    last_at: str
    unnamed: int  # of these, lines that do not say which privilege


class SqlUses:
    """The tables of use."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def known(self, target: str, lines: Collection[str]) -> dict[str, str | None]:
        """Which of these lines are on file, with their verdicts."""
        c, found, order = t.use_line.c, dict[str, str | None](), sorted(lines)
        with reading(self._engine) as connection:
            for start in range(0, len(order), CHUNK):
                mine = (c.target == target, c.line.in_(order[start : start + CHUNK]))
                rows = connection.execute(select(c.line, c.verdict).where(*mine))
                found |= {row.line: row.verdict for row in rows}
        return found

    def sources(self, target: str | None = None) -> list[UseSource]:
        """The logs that were read, of a target or of all."""
        query = select(t.use_source.c.state).order_by(t.use_source.c.target, t.use_source.c.source)
        if target is not None:
            query = query.where(t.use_source.c.target == target)
        with reading(self._engine) as connection:
            return [_read(_source, blob(state)) for state in connection.execute(query).scalars()]

    def pending(self, target: str, limit: int, after: str = "") -> list[Pending]:
        """Uses that nobody judged yet, behind ``after``, by their lines."""
        c = t.use_line.c
        query = select(c.body, c.batch).where(c.target == target, c.verdict.is_(None), c.line > after)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(c.line).limit(limit)).all()
        return [Pending(_read(_use, blob(body)), batch) for body, batch in rows]

    def judge(self, target: str, verdicts: Iterable[tuple[str, str, str | None]]) -> None:
        """Put verdicts and tickets to lines."""
        c = t.use_line.c
        by: dict[tuple[str, str | None], list[str]] = {}
        for line, verdict, ticket in verdicts:
            by.setdefault((verdict, ticket), []).append(line)
        with writing(self._engine) as connection:
            for (verdict, ticket), lines in by.items():
                for start in range(0, len(lines), CHUNK):
                    some = c.line.in_(lines[start : start + CHUNK])
                    connection.execute(
                        update(t.use_line)
                        .where(c.target == target, some, c.verdict.is_(None))
                        .values(verdict=verdict, ticket=ticket)
                    )

    def counted(self, tickets: Collection[str]) -> dict[str, Counted]:
        """How much use in its window is on file of each of these."""
        c, found, order = t.use_line.c, dict[str, Counted](), sorted(tickets)
        for start in range(0, len(order), CHUNK):
            query = (
                select(
                    c.ticket,
                    func.count(),
                    func.min(c.at),
                    func.max(c.at),
                    func.count() - func.count(c.privilege),
                )
                .where(c.ticket.in_(order[start : start + CHUNK]), c.verdict == "in-window")
                .group_by(c.ticket)
            )
            with reading(self._engine) as connection:
                found |= {ticket: Counted(*rest) for ticket, *rest in connection.execute(query)}
        return found

    def of_ticket(self, ticket: str, verdict: str = "in-window") -> Iterator[Use]:
        """What is on file of a ticket's use, earliest first."""
        c = t.use_line.c
        query = select(c.body).where(c.ticket == ticket, c.verdict == verdict).order_by(c.at, c.line)
        with reading(self._engine) as connection:
            for body in connection.execute(query).scalars():
                yield _read(_use, blob(body))

    def line(self, target: str, line: str) -> Use | None:
        """One line."""
        c = t.use_line.c
        with reading(self._engine) as connection:
            body = connection.execute(select(c.body).where(c.target == target, c.line == line)).scalar()
        return None if body is None else _read(_use, blob(body))

    def digest_of(self, batch: str) -> tuple[int, str]:
        """How many lines of a batch are on file, and the digest over them, as the ledger should have it."""
        c = t.use_line.c
        query = select(c.body).where(c.batch == batch).order_by(c.line)
        with reading(self._engine) as connection:
            bodies = [blob(body) for body in connection.execute(query).scalars()]
        return len(bodies), digest(bodies)

    def verdicts(self, target: str) -> dict[str, int]:
        """How many lines there are of each verdict; those that nobody judged yet are ``pending``."""
        c = t.use_line.c
        query = select(c.verdict, func.count()).where(c.target == target).group_by(c.verdict)
        with reading(self._engine) as connection:
            return {verdict or "pending": count for verdict, count in connection.execute(query)}

    def rejected(self, target: str, limit: int) -> list[Rejected]:
        """Lines of which nothing could be made, the newest batches first."""
        c = t.use_rejected.c
        query = select(c.place, c.digest, c.why).where(c.target == target)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(c.batch.desc(), c.number).limit(limit)).all()
        return [Rejected(place=place, digest=said, why=why) for place, said, why in rows]

    def tickets(
        self, target: str, accounts: Collection[str], named: Collection[str] = ()
    ) -> dict[str, Ticket]:
        """Every ticket, ended or not, that these accounts had there, and those that are named, as last folded."""
        c, found = t.ticket.c, dict[str, Ticket]()
        for column, names in ((c.account, sorted(accounts)), (c.id, sorted(named))):
            for start in range(0, len(names), CHUNK):
                query = select(c.state).where(c.target == target, column.in_(names[start : start + CHUNK]))
                with reading(self._engine) as connection:
                    states = (decode_state(blob(state)) for state in connection.execute(query).scalars())
                    found |= {ticket.id: ticket for ticket in states}
        return found


def _read(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntegrityError(
            "a row of use is damaged",
            remedy="Keep the database as it is; `muniment usage check` names the batch.",
        ) from error
