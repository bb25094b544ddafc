"""The whole verification of a log: signature, tree, entries, rules and times, over several processes.

1. V1: the checkpoint, and every kept one, is signed as the trust file asks. Without a quorum that says so: what is
   verified is then the operator's word.
2. V2, by ranges of 65,536 entries, in any order: entries are hashed, tiles compared. Put together, they must make the
   root of the checkpoint, and of every kept one at its size.
3. V3 to V5, by streams: each process reads all entries, and looks into those whose stream falls to it. A ticket is
   whole in one process, so nothing needs to be put together but what was found.

What was found of a part is a few hundred bytes, and is kept in the file that `Progress` is given: a verification that
was interrupted goes on where it was. That file is believed; it belongs on the machine of whoever verifies.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, Protocol, Self

import msgspec

from muniment.evidence.progress import Progress
from muniment.evidence.rules import Found, TicketRules, combine
from muniment.evidence.times import Anchor, TimeBounds, combine_times
from muniment.ledger.chains import Chains
from muniment.ledger.errors import LedgerFault
from muniment.ledger.head import Checkpoint
from muniment.ledger.note import parse_note
from muniment.ledger.scan import RANGE, Combined, RangeFound
from muniment.ledger.trust import Trusted, TrustPolicy
from muniment.ledger.verify import Level

LEVELS = ("V1", "V2", "V3", "V4", "V5")
#: entries that one process reads in a pass over its streams, at most: more passes keep less in memory, and resume finer
PASS = 4_000_000
_BEAT = 0.2  # seconds between looks at how far the processes are


class Source(Protocol):
    """A log to read. It is sent to other processes."""

    @property
    def name(self) -> str:
        """What it is, for a verification that goes on later."""

    @property
    def size(self) -> int:
        """Entries under the checkpoint."""

    def hash_range(self, start: int, sizes: Sequence[int]) -> RangeFound:
        """Hash one range, and compare with what is stored of it."""

    def higher_levels(self, tree: Combined) -> str | None:
        """Compare what is stored above the ranges."""

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Every entry, those that no checkpoint covers yet last. Raises `LedgerFault` if one cannot be read."""


class StreamsFound(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in some of the streams."""

    checked: int
    at: int | None  # index of the first fault in form or chain
    fault: str | None
    rules: Found
    times: tuple[int, tuple[int, str] | None]


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    ok: bool
    events: int
    levels: dict[str, Level]
    trusted: Trusted | None  # who vouches for the newest checkpoint; None if nobody does


def scan(
    source: Source,
    note: str,
    kept: Sequence[tuple[int, str]],
    trust: TrustPolicy,
    *,
    levels: Sequence[str] = LEVELS,
    anchors: Sequence[Anchor] = (),
    processes: int = 1,
    progress: Progress | None = None,
) -> Whole:
    """Verify a log. A fault is in what is returned, never an exception.

    Args:
        source: the entries.
        note: the newest checkpoint.
        kept: size and note of older ones.
        trust: whom to believe.
        levels: which of `LEVELS`.
        anchors: times by others beside the cosignatures in the notes.
        processes: how many to use.
        progress: told how far it is; keeps what was found, if it has a file.
    """
    progress = progress or Progress()
    found: dict[str, Level] = {}
    trusted, heads, first = _signatures(note, kept, trust)
    if "V1" in levels:
        found["V1"] = first
    witnessed = (
        [each.checkpoint.size for each in heads if each.quorum_met] if trust.quorum != "none" else None
    )
    times = [*anchors, *_anchors(heads)]
    progress.begin(
        _identity(source, note, kept, trust),
        source.size * (("V2" in levels) + bool(set(levels) & set(LEVELS[2:]))),
    )
    workers = _Workers(processes if source.size > RANGE else 1, progress)
    with workers:
        if "V2" in levels:
            found["V2"] = _tree(source, note, kept, workers)
        if set(levels) & set(LEVELS[2:]):
            found |= _streams(source, _origin(trust), (witnessed, times), workers)
    found = {name: found[name] for name in LEVELS if name in levels}
    return Whole(
        ok=all(each.ok for each in found.values()), events=source.size, levels=found, trusted=trusted
    )


def _signatures(
    note: str, kept: Sequence[tuple[int, str]], trust: TrustPolicy
) -> tuple[Trusted | None, list[Trusted], Level]:
    heads: list[Trusted] = []
    for checked, (size, text) in enumerate([*kept, (None, note)], start=1):
        where = "checkpoint" if size is None else f"checkpoints/{size}"
        try:
            judged = trust.judge(text)
        except LedgerFault as fault:
            return None, heads, Level(ok=False, checked=checked, first_fault=f"{where}: {fault}")
        if size is not None and judged.checkpoint.size != size:
            wrong = f"{where}: it covers {judged.checkpoint.size} entries"
            return None, heads, Level(ok=False, checked=checked, first_fault=wrong)
        heads.append(judged)
    newest = heads[-1]
    if trust.quorum != "none" and not newest.quorum_met:
        few = f"checkpoint: {len(newest.cosigned)} witnesses cosigned it, which is not the quorum {trust.quorum}"
        return newest, heads, Level(ok=False, checked=len(heads), first_fault=few)
    return newest, heads, Level(ok=True, checked=len(heads))


def _anchors(heads: Sequence[Trusted]) -> list[Anchor]:
    return [
        Anchor(size=each.checkpoint.size, time=line.time, source=f"cosigned by {line.name}")
        for each in heads
        for line in each.cosigned
        if line.time
    ]


def _tree(source: Source, note: str, kept: Sequence[tuple[int, str]], workers: _Workers) -> Level:
    """V2. What the notes claim is compared whether they are signed or not: that is V1's question."""
    claims: dict[int, bytes] = {}
    for where, text in [*((f"checkpoints/{size}", text) for size, text in kept), ("checkpoint", note)]:
        try:
            head = Checkpoint.parse(parse_note(text).text)
        except LedgerFault as fault:
            wrong = f"{where}: no size and root to compare the entries with: {fault}"
            return Level(ok=False, checked=0, first_fault=wrong)
        if claims.setdefault(head.size, head.root) != head.root:
            return Level(
                ok=False, checked=0, first_fault=f"{where}: two roots are claimed for {head.size} entries"
            )
    newest = head
    beyond = [size for size in claims if size > newest.size]
    if beyond:
        wrong = f"checkpoints/{beyond[0]}: it covers more than the newest checkpoint, which has {newest.size} entries"
        return Level(ok=False, checked=0, first_fault=wrong)
    tree = Combined()
    tasks = [
        (
            f"range {start}",
            _hash_range,
            (source, start, [s for s in claims if start < s <= start + RANGE]),
            RangeFound,
        )
        for start in range(0, newest.size, RANGE)
    ]
    for part in workers.run(tasks):
        if part.fault is not None:
            return Level(ok=False, checked=tree.size + part.count, first_fault=part.fault)
        tree.add(part)
    differs = _compare(tree, newest, claims) or source.higher_levels(tree)
    return Level(ok=differs is None, checked=tree.size, first_fault=differs)


def _compare(tree: Combined, newest: Checkpoint, claims: dict[int, bytes]) -> str | None:
    if tree.size < newest.size:
        return (
            f"leaf {tree.size} is missing: the checkpoint covers {newest.size} leaves, {tree.size} are there"
        )
    roots = {0: Combined().root(), **tree.roots}
    for size in sorted(claims):
        if roots[size] != claims[size]:
            where = "checkpoint" if size == newest.size else f"checkpoints/{size}"
            return (
                f"{where}: leaves 0 to {size - 1} are not those it covers:"
                f" their root is {roots[size].hex()}, it says {claims[size].hex()}"
            )
    return None


def _streams(
    source: Source, origin: str, context: tuple[list[int] | None, list[Anchor]], workers: _Workers
) -> dict[str, Level]:
    """V3 to V5."""
    parts = max(workers.processes, -(-source.size // PASS))
    tasks = [
        (f"streams {part} of {parts}", _read_streams, (source, origin, part, parts, context), StreamsFound)
        for part in range(parts)
    ]
    found: list[StreamsFound] = list(workers.run(tasks))
    first = min((each for each in found if each.at is not None), key=lambda each: each.at or 0, default=None)
    times = combine_times(each.times for each in found)
    if times.ok and not context[1]:
        times = Level(ok=True, checked=0, first_fault=None)
    return {
        "V3": Level(ok=first is None, checked=sum(e.checked for e in found), first_fault=first.fault if first else None),
        "V4": combine(each.rules for each in found),
        "V5": times,
    }  # fmt: skip


def _hash_range(source: Source, start: int, sizes: Sequence[int]) -> RangeFound:
    found = source.hash_range(start, sizes)
    _advance(found.count)
    return found


def _read_streams(
    source: Source, origin: str, part: int, parts: int, context: tuple[list[int] | None, list[Anchor]]
) -> StreamsFound:
    """Look into the entries of those streams that fall to ``part``."""
    witnessed, anchors = context
    chains, rules, times = Chains(origin), TicketRules(witnessed=witnessed), TimeBounds(anchors)
    seen = 0
    try:
        for index, raw in source.entries():
            seen += 1
            if seen % 4096 == 0:
                _advance(4096 // parts)
            if parts > 1 and _part_of(raw, parts) != part:
                continue
            entry = chains.feed(index, raw)
            if entry is not None:
                rules.feed(index, raw, entry)
                times.feed(index, raw, entry)
    except LedgerFault as fault:
        chains.fault, chains.at = chains.fault or str(fault), chains.at if chains.at is not None else seen
    return StreamsFound(
        checked=chains.checked, at=chains.at, fault=chains.fault, rules=rules.found(), times=times.found()
    )


def _part_of(raw: bytes, parts: int) -> int:
    """Which process looks into an entry: by the bytes of its stream's name, which canonical form puts last but two."""
    name = raw[raw.rfind(b'"ticket":"') + 10 :].partition(b'"')[0]
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest()) % parts


class _Workers:
    """Runs tasks in this process or in others, and gives back what they found, in order."""

    def __init__(self, processes: int, progress: Progress) -> None:
        self.processes, self._progress = max(1, processes), progress
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        global _counter  # noqa: PLW0603  one a process: the pool hands it to each
        if self.processes > 1:
            context = multiprocessing.get_context("spawn")
            self._counter = context.Value("Q", 0)
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=context, initializer=_share, initargs=(self._counter,)
            )
        else:
            _counter = self._progress.advance
        return self

    def __exit__(self, *_: object) -> None:
        global _counter  # noqa: PLW0603
        _counter = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, tasks: Sequence[tuple[str, Callable[..., Any], tuple[Any, ...], type]]) -> Iterator[Any]:
        """(name, function, arguments, type of what it finds) of each. What was found before is not looked for again."""
        if self._pool is None:
            for name, function, arguments, kind in tasks:
                yield self._progress.known(name, kind) or self._progress.keep(name, function(*arguments))
            return
        known = {name: self._progress.known(name, kind) for name, _, _, kind in tasks}
        futures: dict[str, Future[Any]] = {
            name: self._pool.submit(function, *arguments)
            for name, function, arguments, _ in tasks
            if known[name] is None
        }
        open_ = set(futures.values())
        names = {future: name for name, future in futures.items()}
        for name, *_ in tasks:
            while known[name] is None:
                done, open_ = wait(open_, timeout=_BEAT, return_when=FIRST_COMPLETED)
                self._progress.at(self._counter.value)
                for future in done:
                    known[names[future]] = self._progress.keep(names[future], future.result())
            yield known.pop(name)


_counter: Callable[[int], None] | None = None


def _share(counter: Any) -> None:
    """In a process of the pool: count together with the others."""
    global _counter  # noqa: PLW0603

    def add(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    _counter = add


def _advance(count: int) -> None:
    if _counter is not None:
        _counter(count)


def _origin(trust: TrustPolicy) -> str:
    return trust.log[0].name


def _identity(source: Source, note: str, kept: Sequence[tuple[int, str]], trust: TrustPolicy) -> str:
    """What a kept result belongs to: another log, checkpoint or trust file makes it worthless."""
    parts = [source.name, note, trust.render(), *(f"{size} {text}" for size, text in kept)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
