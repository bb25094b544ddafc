"""``GET /v1/stream``: what happens, as server-sent events, in the ledger's own order.

Each event is an entry that was taken into the tree; its id is the leaf's index, so a client that comes back with
``Last-Event-ID`` misses nothing, on whichever node. Nobody is sent what they may not see (I33), and no texts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any

import msgspec
from litestar.response import ServerSentEventMessage

from muniment.core.errors import MunimentError, Unauthenticated
from muniment.core.visibility import SEES_ALL
from muniment.ledger.entry import decode_entry
from muniment.service.desk import Caller, Desk

#: seconds between looks; entries come into the tree on the same beat
BEAT = 1.0
#: a comment so often keeps connections open that carry nothing
STILL_THERE = 15
#: entries in one look
BATCH = 500


async def events(
    desk: Desk,
    caller: Callable[[], Caller],
    start: int | None,
    executor: Executor,
    closing: Callable[[], bool],
) -> AsyncIterator[ServerSentEventMessage]:
    """What the caller may see, until the client goes, the caller may no longer call, or we close."""
    loop = asyncio.get_running_loop()
    at = start
    quiet = 0
    while not closing():
        try:
            at, found = await loop.run_in_executor(executor, _look, desk, caller, at)
        except Unauthenticated:
            return
        except MunimentError:  # the store is away: the client stays, and so does its place
            found = []
        for index, document in found:
            quiet = 0
            yield ServerSentEventMessage(data=msgspec.json.encode(document), event=document["type"], id=index)
        quiet += 1
        if quiet >= STILL_THERE:
            quiet = 0
            yield ServerSentEventMessage(data=None, comment="still there")
        if not found:
            await asyncio.sleep(BEAT)


def _look(
    desk: Desk, calling: Callable[[], Caller], at: int | None
) -> tuple[int, list[tuple[int, dict[str, Any]]]]:
    caller = calling()
    size = desk.ledger.head().size
    if at is None or at > size:
        return size, []
    upto = min(size, at + BATCH)
    entries = [(index, decode_entry(raw)) for index, raw in desk.ledger.entries(start=at, upto=upto)]
    tickets = desk.store.read_many({e.ticket for _, e in entries if e.ticket.startswith("req_")})
    found = []
    for index, entry in entries:
        known = tickets.get(entry.ticket)
        sees = SEES_ALL & set(caller.identity.roles) if known is None else desk.may_see(known[1], caller)
        if sees:
            found.append(
                (
                    index,
                    {
                        "stream": entry.ticket,
                        "seq": entry.seq,
                        "type": entry.type,
                        "at": entry.at,
                        "actor": entry.actor.id,
                    },
                )
            )
    return upto, found
