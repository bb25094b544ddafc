"""`policy backtest`: which tickets of the past another policy set would have decided otherwise, and how.

Every ticket's filing is read once, by processes that each take some of them in turn. Entries are read as they are
stored; whether they are the ones that were sealed is what `ledger verify` says.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial

import msgspec
from sqlalchemy import Engine

from muniment.core.errors import Refused
from muniment.core.events import PolicyDecided
from muniment.core.instants import wire
from muniment.policy.backtest import Backtest, Filed, share
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.service.ids import new_id
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
    """What came of one process's share of a chunk."""

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
    for parts in _all(url, dict(files), chunks, min(processes, len(chunks))):
        asked += sum(found.asked for found in parts)
        unknown += sum(found.unknown for found in parts)
        otherwise += sorted((each for found in parts for each in found.otherwise), key=lambda o: o.ticket)
        progress(asked, len(tickets))
    return {
        "digest": digest, "since": wire(since), "tickets": asked, "unknown": unknown,
        "same": asked - unknown - len(otherwise), "otherwise": [msgspec.to_builtins(each) for each in otherwise],
    }  # fmt: skip


def _all(
    url: str, files: Mapping[str, str], chunks: Sequence[Sequence[str]], processes: int
) -> Iterator[tuple[Found, ...]]:
    """Each chunk as its shares. Every process reads all of it and asks about the slices that are its own."""
    if processes <= 1:
        other = Backtest(files)
        yield from ((_examine(url, other, chunk, 0, 1),) for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        found = []
        for number in range(processes):
            pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(files,))
            stack.enter_context(pool)
            found.append(pool.map(partial(_examine_here, url, number, processes), chunks))
        yield from zip(*found, strict=True)


_here: list[Backtest] = []  # of a process of the pool


def _begin(files: Mapping[str, str]) -> None:
    _here.append(Backtest(files))


def _examine_here(url: str, number: int, shares: int, tickets: Sequence[str]) -> Found:
    return _examine(url, _here[0], tickets, number, shares)


def _examine(url: str, other: Backtest, tickets: Sequence[str], number: int, shares: int) -> Found:
    engine = open_engine(url)
    try:
        return _compared(other, filings.decided(engine, tickets), number, shares)
    finally:
        engine.dispose()


def _compared(other: Backtest, bodies: Iterable[tuple[str, bytes]], number: int, shares: int) -> Found:
    asked, unknown, otherwise = 0, 0, list[Otherwise]()
    for ticket, body in bodies:
        entry = _entry.decode(body)
        if entry.type != PolicyDecided.kind:
            continue
        filed = _filed.decode(entry.data)
        if share(filed, shares) != number:
            continue
        asked += 1
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
