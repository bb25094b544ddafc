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
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from muniment.core.errors import Unavailable
from muniment.evidence.progress import Progress
from muniment.evidence.rules import KEYS, Found, TicketRules, combine
from muniment.evidence.succession import KeyEvent, explained, key_event, key_events, misused
from muniment.evidence.times import Anchor, TimeBounds, combine_times
from muniment.ledger.chains import Chains
from muniment.ledger.errors import LedgerFault, WrongKey
from muniment.ledger.head import Checkpoint
from muniment.ledger.note import parse_note
from muniment.ledger.scan import RANGE, Combined, RangeFound
from muniment.ledger.trust import Trusted, TrustPolicy
from muniment.ledger.verify import Level

LEVELS = ("V1", "V2", "V3", "V4", "V5")
#: entries that one process reads in a pass over its streams, at most: more passes keep less in memory, and resume finer
PASS = 4_000_000
#: how faults call the checkpoint that is verified
NEWEST = "checkpoint"
#: entries below which one process is as fast: another takes a second to start
ALONE = 2 * RANGE
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


class Older(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint beside the newest: one that was published, or that the auditor kept."""

    where: str  # how faults call it: checkpoints/42, or the auditor's own file
    note: str
    size: int | None = None  # what it must cover, where its name says so


class StreamsFound(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in some of the streams."""

    checked: int
    at: int | None  # index of the first fault in form or chain
    fault: str | None
    rules: Found
    times: tuple[int, tuple[int, str] | None]
    keys: tuple[KeyEvent, ...]  # what the log says of its own keys


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    ok: bool
    events: int
    levels: dict[str, Level]
    trusted: Trusted | None  # who vouches for the newest checkpoint; None if nobody does


def scan(
    source: Source,
    note: str,
    kept: Sequence[Older],
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
        kept: older ones. The entries must make their roots as well, so a fork or a rollback shows.
        trust: whom to believe.
        levels: which of `LEVELS`.
        anchors: times by others beside the cosignatures in the notes.
        processes: how many to use.
        progress: told how far it is; keeps what was found, if it has a file.
    """
    progress = progress or Progress()
    found: dict[str, Level] = {}
    trusted, heads, first = _signatures(source, note, kept, trust)
    if "V1" in levels:
        found["V1"] = first
    witnessed = (
        [each.checkpoint.size for each in heads if each.quorum_met] if trust.quorum != "none" else None
    )
    times = [*anchors, *_anchors(heads)]
    progress.begin(
        _identity(source, note, kept, trust, anchors),
        source.size * (("V2" in levels) + bool(set(levels) & set(LEVELS[2:]))),
    )
    workers = _Workers(processes if source.size > ALONE else 1, progress)
    with workers:
        if "V2" in levels:
            found["V2"] = _tree(source, note, kept, workers)
        if set(levels) & set(LEVELS[2:]):
            more, keys = _streams(source, _origin(trust), (witnessed, times), workers)
            found |= more
            if "V1" in found and found["V1"].ok and (wrong := misused(heads, keys)):
                found["V1"] = Level(ok=False, checked=found["V1"].checked, first_fault=wrong)
    found = {name: found[name] for name in LEVELS if name in levels}
    return Whole(
        ok=all(each.ok for each in found.values()), events=source.size, levels=found, trusted=trusted
    )


def _signatures(
    source: Source, note: str, kept: Sequence[Older], trust: TrustPolicy
) -> tuple[Trusted | None, list[Trusted], Level]:
    heads: list[Trusted] = []
    for checked, each in enumerate([*kept, Older(where=NEWEST, note=note)], start=1):
        try:
            judged = trust.judge(each.note)
        except LedgerFault as fault:
            why = (
                explained(each.note, trust, heads, key_events(source.entries()))
                if isinstance(fault, WrongKey)
                else ""
            )
            return None, heads, Level(ok=False, checked=checked, first_fault=f"{each.where}: {fault}{why}")
        if each.size is not None and judged.checkpoint.size != each.size:
            wrong = f"{each.where}: it covers {judged.checkpoint.size} entries"
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


def _tree(source: Source, note: str, kept: Sequence[Older], workers: _Workers) -> Level:
    """V2. What the notes claim is compared whether they are signed or not: that is V1's question."""
    claims: dict[int, tuple[str, bytes]] = {}
    for each in [*kept, Older(where=NEWEST, note=note)]:
        try:
            head = Checkpoint.parse(parse_note(each.note).text)
        except LedgerFault as fault:
            wrong = f"{each.where}: no size and root to compare the entries with: {fault}"
            return Level(ok=False, checked=0, first_fault=wrong)
        where, root = claims.setdefault(head.size, (each.where, head.root))
        if root != head.root:
            wrong = f"{each.where}: two roots are claimed for {head.size} entries, the other one in {where}"
            return Level(ok=False, checked=0, first_fault=wrong)
    newest = head
    beyond = [(where, size) for size, (where, _) in sorted(claims.items()) if size > newest.size]
    if beyond:
        where, size = beyond[0]
        wrong = f"{where}: it covers {size} entries, and the newest checkpoint {newest.size}: the ledger was rolled back"
        return Level(ok=False, checked=0, first_fault=wrong)
    tree = Combined()
    tasks = [
        _Task(
            f"range {start}",
            _hash_range,
            (source, start, [s for s in claims if start < s <= start + RANGE]),
            RangeFound,
            min(RANGE, newest.size - start),
        )
        for start in range(0, newest.size, RANGE)
    ]
    for part in workers.run(tasks):
        if part.fault is not None:
            return Level(ok=False, checked=tree.size + part.count, first_fault=part.fault)
        tree.add(part)
    differs = _compare(tree, newest, claims) or source.higher_levels(tree)
    return Level(ok=differs is None, checked=tree.size, first_fault=differs)


def _compare(tree: Combined, newest: Checkpoint, claims: dict[int, tuple[str, bytes]]) -> str | None:
    if tree.size < newest.size:
        return (
            f"leaf {tree.size} is missing: the checkpoint covers {newest.size} leaves, {tree.size} are there"
        )
    roots = {0: Combined().root(), **tree.roots}
    for size, (where, root) in sorted(claims.items()):
        if roots[size] != root:
            return (
                f"{where}: leaves 0 to {size - 1} are not those it covers:"
                f" their root is {roots[size].hex()}, it says {root.hex()}"
            )
    return None


def _streams(
    source: Source, origin: str, context: tuple[list[int] | None, list[Anchor]], workers: _Workers
) -> tuple[dict[str, Level], list[KeyEvent]]:
    """V3 to V5, and what the log says of its keys."""
    parts = max(workers.processes, -(-source.size // PASS))
    tasks = [
        _Task(
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
    seen = told = 0
    keys: list[KeyEvent] = []
    try:
        for index, raw in source.entries():
            seen += 1
            if seen % 4096 == 0:  # each entry is read once by every part
                _advance(seen // parts - told)
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
    _advance(max(0, source.size // parts - told))
    return StreamsFound(
        checked=chains.checked, at=chains.at, fault=chains.fault, rules=rules.found(), times=times.found(),
        keys=tuple(keys),
    )  # fmt: skip


def _part_of(raw: bytes, parts: int) -> int:
    """Which process looks into an entry: by the bytes of its stream's name, which canonical form puts last but two."""
    name = raw[raw.rfind(b'"ticket":"') + 10 :].partition(b'"')[0]
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest()) % parts


class _Task(NamedTuple):
    name: str  # of the part, in the file of `Progress`
    look: Callable[..., Any]
    arguments: tuple[Any, ...]
    finds: type
    entries: int  # how many it reads, for the progress


class _Workers:
    """Runs tasks in this process or in others, and gives back what they found, in order."""

    def __init__(self, processes: int, progress: Progress) -> None:
        self.processes, self._progress = max(1, processes), progress
        self._pool: ProcessPoolExecutor | None = None
        self._before = 0  # entries that need not be read: what was found of them is known

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

    def run(self, tasks: Sequence[_Task]) -> Iterator[Any]:
        """What each finds. What was found before is not looked for again."""
        if self._pool is None:
            for task in tasks:
                found: Any = self._progress.known(task.name, task.finds)
                if found is None:
                    found = self._progress.keep(task.name, task.look(*task.arguments))
                else:
                    self._progress.advance(task.entries)
                yield found
            return
        known: dict[str, Any] = {task.name: self._progress.known(task.name, task.finds) for task in tasks}
        self._before += sum(task.entries for task in tasks if known[task.name] is not None)
        names: dict[Future[Any], str] = {
            self._pool.submit(task.look, *task.arguments): task.name
            for task in tasks
            if known[task.name] is None
        }
        open_ = set(names)
        for task in tasks:
            while known[task.name] is None:
                done, open_ = wait(open_, timeout=_BEAT, return_when=FIRST_COMPLETED)
                self._progress.at(self._before + self._counter.value)
                for future in done:
                    known[names[future]] = self._progress.keep(names[future], _result(future))
            yield known.pop(task.name)


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise Unavailable(
            "a process of the verification was killed, or ran out of memory",
            remedy="Use fewer --processes. With --resume FILE it goes on where it was.",
            code="verification.interrupted",
        ) from error


_counter: Callable[[int], None] | None = None


def _share(counter: Any) -> None:
    """In a process of the pool: count together with the others, and end silently where somebody interrupts all."""
    global _counter  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def add(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    _counter = add


def _advance(count: int) -> None:
    if _counter is not None:
        _counter(count)


def _origin(trust: TrustPolicy) -> str:
    return trust.log[0].name


def _identity(
    source: Source, note: str, kept: Sequence[Older], trust: TrustPolicy, anchors: Sequence[Anchor]
) -> str:
    """What a kept result belongs to: another log, checkpoint, trust file or time makes it worthless."""
    parts = [source.name, note, trust.render(), *(f"{each.where} {each.note}" for each in kept)]
    parts += [f"{each.size} {each.time} {each.source}" for each in anchors]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
