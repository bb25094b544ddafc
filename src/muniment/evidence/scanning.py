"""The whole verification of a log: signature, tree, entries, rules and times, over several processes.

1. V1: the checkpoint, and every kept one, is signed as the trust file asks. Without a quorum that says so: what is
   verified is then the operator's word.
2. V2, by ranges of entries (`tree`).
3. V3 to V5, by streams (`streams`).

What was found of a part is a few hundred bytes, and is kept in the file that `Progress` is given: a verification that
was interrupted goes on where it was. That file is believed; it belongs on the machine of whoever verifies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from muniment.evidence.progress import Progress
from muniment.evidence.source import NEWEST, Older, Source
from muniment.evidence.streams import all_streams
from muniment.evidence.succession import explained, key_events, misused
from muniment.evidence.times import Anchor
from muniment.evidence.tree import whole_tree
from muniment.evidence.workers import Workers
from muniment.ledger.errors import LedgerFault, WrongKey
from muniment.ledger.scan import RANGE
from muniment.ledger.trust import Trusted, TrustPolicy
from muniment.ledger.verify import Level

LEVELS = ("V1", "V2", "V3", "V4", "V5")
#: entries below which one process is as fast: another takes a third of a second to start
ALONE = 2 * RANGE


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
    workers = Workers(processes if source.size > ALONE else 1, progress)
    if "V2" in levels:
        found["V2"] = whole_tree(source, note, kept, workers)
    if set(levels) & set(LEVELS[2:]):
        more, keys = all_streams(source, _origin(trust), (witnessed, times), workers)
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


def _origin(trust: TrustPolicy) -> str:
    return trust.log[0].name


def _identity(
    source: Source, note: str, kept: Sequence[Older], trust: TrustPolicy, anchors: Sequence[Anchor]
) -> str:
    """What a kept result belongs to: another log, checkpoint, trust file or time makes it worthless."""
    parts = [source.name, note, trust.render(), *(f"{each.where} {each.note}" for each in kept)]
    parts += [f"{each.size} {each.time} {each.source}" for each in anchors]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
