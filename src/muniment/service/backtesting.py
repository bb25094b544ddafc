"""`policy backtest`: which tickets of the past another policy set would have decided otherwise, and how.

Every ticket's filing is read once, by processes that each take some of them in turn. Entries are read as they are
stored; whether they are the ones that were sealed is what `ledger verify` says.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import partial

import msgspec
from sqlalchemy import Engine

from muniment.core.errors import Refused
from muniment.core.events import PolicyDecided
from muniment.core.instants import wire
from muniment.policy.backtest import Backtest, Filed
from muniment.service.budgeting import new_id
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.store import filings
from muniment.store.engine import open_engine

#: tickets that a process takes at once
CHUNK = 1000


class Otherwise(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket that would have been decided otherwise."""

    ticket: str
    filed_at: str
    was: str
    how: tuple[str, ...]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one chunk."""

    asked: int
    unknown: int  # no question is on record: it was refused before policy was asked
    otherwise: tuple[Otherwise, ...]


def backtest(
    desk: Desk,
    caller: Caller,
    files: Mapping[str, str],
    *,
    since: datetime,
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Document:
    """Ask a set about every ticket that was filed since.

    Args:
        desk: the adapters.
        caller: an auditor or operator: it reads everybody's tickets.
        files: the other set.
        since: tickets filed from then on.
        processes: how many to use.
        progress: called with how many tickets are done, and how many there are.
    """
    if not {"auditor", "operator"} & set(caller.identity.roles):
        raise Refused(
            f"{caller.identity.id} may not read everybody's tickets",
            remedy="Auditors and operators may.",
            code="refused.not-an-auditor",
        )
    return compare_all(desk.store.engine, files, since=since, processes=processes, progress=progress)


def compare_all(
    engine: Engine,
    files: Mapping[str, str],
    *,
    since: datetime,
    processes: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Document:
    """As `backtest`, for whoever may."""
    digest = Backtest(files).digest  # refuses what cannot be used before anything starts
    tickets = filings.since(engine, new_id("req", since, bytes(10)))
    chunks = [tickets[at : at + CHUNK] for at in range(0, len(tickets), CHUNK)]
    asked, unknown, otherwise = 0, 0, list[Otherwise]()
    url = engine.url.render_as_string(hide_password=False)
    for found in _all(url, dict(files), chunks, min(processes, len(chunks))):
        asked, unknown = asked + found.asked, unknown + found.unknown
        otherwise += found.otherwise
        progress(asked, len(tickets))
    return {
        "digest": digest, "since": wire(since), "tickets": asked, "unknown": unknown,
        "same": asked - unknown - len(otherwise), "otherwise": [msgspec.to_builtins(each) for each in otherwise],
    }  # fmt: skip


def _all(
    url: str, files: Mapping[str, str], chunks: Sequence[Sequence[str]], processes: int
) -> Iterator[Found]:
    if processes <= 1:
        yield from map(partial(_examine, url, Backtest(files)), chunks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(files,)) as pool:
        yield from pool.map(partial(_examine_here, url), chunks)


_here: list[Backtest] = []  # of a process of the pool


def _begin(files: Mapping[str, str]) -> None:
    _here.append(Backtest(files))


def _examine_here(url: str, tickets: Sequence[str]) -> Found:
    return _examine(url, _here[0], tickets)


def _examine(url: str, other: Backtest, tickets: Sequence[str]) -> Found:
    engine = open_engine(url)
    try:
        return _compared(other, filings.decided(engine, tickets))
    finally:
        engine.dispose()


def _compared(other: Backtest, bodies: Iterable[tuple[str, bytes]]) -> Found:
    asked, unknown, otherwise = 0, 0, list[Otherwise]()
    for ticket, body in bodies:
        entry = _entry.decode(body)
        if entry.type != PolicyDecided.kind:
            continue
        asked += 1
        filed = _filed.decode(entry.data)
        how = other.otherwise(filed)
        if how is None:
            unknown += 1
        elif how:
            was = "permitted" if filed.permitted else "denied"
            otherwise.append(Otherwise(ticket=ticket, filed_at=entry.at, was=was, how=how))
    return Found(asked=asked, unknown=unknown, otherwise=tuple(otherwise))


class _Entry(msgspec.Struct, frozen=True):
    type: str
    at: str
    data: msgspec.Raw


_entry = msgspec.json.Decoder(_Entry)
_filed = msgspec.json.Decoder(Filed)
