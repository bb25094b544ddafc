"""V3 to V5, by streams: each process reads all entries, and looks into those whose stream falls to it.

A ticket is whole in one process, so nothing needs to be put together but what was found.
"""

from __future__ import annotations

import hashlib

import msgspec

from muniment.evidence.rules import KEYS, Found, TicketRules, combine
from muniment.evidence.source import Source
from muniment.evidence.succession import KeyEvent, key_event
from muniment.evidence.times import Anchor, TimeBounds, combine_times
from muniment.evidence.workers import Task, Workers, advance
from muniment.ledger.chains import Chains
from muniment.ledger.errors import LedgerFault
from muniment.ledger.verify import Level

#: entries that one process reads in a pass over its streams, at most: more passes keep less in memory, and resume finer
PASS = 4_000_000


class StreamsFound(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in some of the streams."""

    checked: int
    at: int | None  # index of the first fault in form or chain
    fault: str | None
    rules: Found
    times: tuple[int, tuple[int, str] | None]
    keys: tuple[KeyEvent, ...]  # what the log says of its own keys


def all_streams(
    source: Source, origin: str, context: tuple[list[int] | None, list[Anchor]], workers: Workers
) -> tuple[dict[str, Level], list[KeyEvent]]:
    """The levels, and what the log says of its keys."""
    parts = max(workers.processes, -(-source.size // PASS))
    tasks = [
        Task(
            f"streams {part} of {parts}",
            _read_streams,
            (source, origin, part, parts, context),
            StreamsFound,
            source.size // parts,
        )
        for part in range(parts)
    ]
    found: list[StreamsFound] = list(workers.run(tasks))
    first = min((each for each in found if each.at is not None), key=lambda each: each.at or 0, default=None)
    times = combine_times(each.times for each in found)
    if times.ok and not context[1]:
        times = Level(ok=True, checked=0, first_fault=None)
    levels = {
        "V3": Level(ok=first is None, checked=sum(e.checked for e in found), first_fault=first.fault if first else None),
        "V4": combine(each.rules for each in found),
        "V5": times,
    }  # fmt: skip
    return levels, sorted((key for each in found for key in each.keys), key=lambda key: key.index)


def _read_streams(
    source: Source, origin: str, part: int, parts: int, context: tuple[list[int] | None, list[Anchor]]
) -> StreamsFound:
    """Look into the entries of those streams that fall to ``part``."""
    witnessed, anchors = context
    chains, rules, times = Chains(origin), TicketRules(witnessed=witnessed), TimeBounds(anchors)
    seen = told = 0
    keys: list[KeyEvent] = []
    try:
        for index, raw in source.entries():
            seen += 1
            if seen % 4096 == 0:  # each entry is read once by every part
                advance(seen // parts - told)
                told = seen // parts
            if parts > 1 and _part_of(raw, parts) != part:
                continue
            entry = chains.feed(index, raw)
            if entry is not None:
                rules.feed(index, raw, entry)
                times.feed(index, raw, entry)
                if entry.ticket == KEYS and (key := key_event(index, entry)):
                    keys.append(key)
    except LedgerFault as fault:
        if chains.at is None:
            chains.at, chains.fault = seen, f"leaf {seen}: {fault}"
    advance(max(0, source.size // parts - told))
    return StreamsFound(
        checked=chains.checked, at=chains.at, fault=chains.fault, rules=rules.found(), times=times.found(),
        keys=tuple(keys),
    )  # fmt: skip


def _part_of(raw: bytes, parts: int) -> int:
    """Which process looks into an entry: by the bytes of its stream's name, which canonical form puts last but two."""
    name = raw[raw.rfind(b'"ticket":"') + 10 :].partition(b'"')[0]
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest()) % parts
