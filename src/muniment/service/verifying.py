"""Verify a whole ledger: the store's own, or a folder that somebody exported.

A folder needs no configuration, no store and no trust in us: only the auditor's own trust file, or copy of our key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from muniment.core.errors import IntegrityError
from muniment.core.instants import wire
from muniment.evidence.progress import Progress
from muniment.evidence.scanning import LEVELS, Whole, scan
from muniment.evidence.source import NEWEST, Older
from muniment.evidence.tile_source import TileSource
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.errors import LedgerFault
from muniment.ledger.note import parse_note
from muniment.ledger.trust import TrustPolicy
from muniment.ledger.verify import Level
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.service.publishing import cosigned_note
from muniment.service.sealing import seal
from muniment.service.stamping import Check, dated, tokens_of
from muniment.service.witnessing import OPERATOR_ONLY, attendance
from muniment.store.ledger_source import StoreSource
from muniment.store.rebuild import differences
from muniment.store.tokens import SqlTokens

NO_TIMES = "claimed times were not checked: no witness and no time-stamp says when"


def verify_store(
    desk: Desk,
    *,
    trust: TrustPolicy | None = None,
    since: Sequence[Older] = (),
    stamp: Check | None = None,
    levels: Sequence[str] = LEVELS,
    processes: int = 1,
    progress: Progress | None = None,
) -> Document:
    """Verify the store's ledger from its bytes, and that what lists and controllers read is its fold.

    Args:
        desk: the adapters.
        trust: the auditor's own; without it ours is used, which proves less.
        since: checkpoints that the auditor kept.
        stamp: checks time-stamps; without it they are left aside.
        levels: which to check.
        processes: how many to use.
        progress: see `Progress`.
    """
    if desk.ledger.kept.newest() is None:
        seal(desk)
    published = desk.ledger.published()
    newest = desk.ledger.kept.newest()
    if newest is None:
        raise IntegrityError("nothing is sealed", remedy="Run `muniment ledger checkpoint` first.")
    note = cosigned_note(desk, newest.size)
    kept = [_published(each.size, each.note) for each in published if each.size <= newest.size]
    url = desk.store.engine.url.render_as_string(hide_password=False)
    tokens = tokens_of(published, newest.size)
    anchors, bad_stamp = dated(tokens, stamp) if stamp else ([], None)
    with closing(StoreSource(url, newest.size)) as source:
        whole = scan(
            source, note, [*kept, *since], trust or desk.trust, levels=levels, anchors=anchors, processes=processes, progress=progress
        )  # fmt: skip
    found = _with_stamps(whole.levels, bad_stamp)
    if "V2" in found:
        found["V2"] = _nothing_removed(desk, found["V2"])
    if "V4" in found and found["V4"].ok:
        found["V4"] = _read_models(desk, found["V4"])
    unread = 0 if stamp else len(tokens)
    return _document(
        whole, found, trust or desk.trust, unread=unread, witnesses=attendance(desk, newest.size)
    )


def verify_directory(
    folder: Path,
    trust: TrustPolicy,
    *,
    since: Sequence[Older] = (),
    stamp: Check | None = None,
    levels: Sequence[str] = LEVELS,
    processes: int = 1,
    progress: Progress | None = None,
) -> Document:
    """Verify an exported ledger: every published byte of it. Arguments as those of `verify_store`."""
    try:
        note = TileSource(folder, 0).note()
        size = Checkpoint.parse(parse_note(note).text).size
    except LedgerFault as fault:  # without it nothing else can be placed
        return _unreadable(f"{NEWEST}: {fault}", levels, trust)
    source = TileSource(folder, size)
    try:
        kept = [_published(covered, text) for covered, text in source.checkpoints()]
        tokens = [
            (covered, f"stamps/{covered}.{number}.tsr", text, token)
            for covered, text in source.checkpoints()
            for number, token in enumerate(source.stamps(covered))
        ]
    except LedgerFault as fault:
        return _unreadable(str(fault), levels, trust)
    anchors, bad_stamp = dated(tokens, stamp) if stamp else ([], None)
    whole = scan(
        source, note, [*kept, *since], trust, levels=levels, anchors=anchors, processes=processes, progress=progress
    )  # fmt: skip
    found = _with_stamps(whole.levels, bad_stamp)
    if "V1" in found and found["V1"].ok and (odd := source.proposals()):
        found["V1"] = Level(ok=False, checked=found["V1"].checked, first_fault=odd)
    if "V2" in found and found["V2"].ok and (surplus := source.surplus()):
        found["V2"] = Level(ok=False, checked=found["V2"].checked, first_fault=surplus)
    return _document(whole, found, trust, unread=0 if stamp else len(tokens))


def _with_stamps(levels: Mapping[str, Level], fault: str | None) -> dict[str, Level]:
    """A time-stamp that does not verify is a fault of V5."""
    found = dict(levels)
    if "V5" in found and fault is not None:
        found["V5"] = Level(ok=False, checked=found["V5"].checked, first_fault=fault)
    return found


def _published(size: int, note: str) -> Older:
    return Older(where=f"checkpoints/{size}", note=note, size=size)


def _unreadable(fault: str, levels: Sequence[str], trust: TrustPolicy) -> Document:
    """No level can be looked at; the first that was asked for says why."""
    first = Level(ok=False, checked=0, first_fault=fault)
    name = next(name for name in LEVELS if name in levels)
    return _document(Whole(ok=False, events=0, levels={name: first}, trusted=None), {name: first}, trust)


def _document(
    whole: Whole,
    levels: dict[str, Level],
    trust: TrustPolicy,
    *,
    unread: int = 0,
    witnesses: list[Document] | None = None,
) -> Document:
    cosigned = whole.trusted.cosigned if whole.trusted else ()
    says = []
    if not any(line.time for line in cosigned):
        says.append(OPERATOR_ONLY)
    present = {(line.name, line.key_id) for line in cosigned if line.time}
    known = {w["name"]: w["absent"] for w in witnesses or ()}
    absent = {
        w.name: known.get(w.name) or "absent: it has not cosigned this checkpoint"
        for w in trust.witnesses
        if (w.verifier.name, w.verifier.key_id) not in present
    }
    says += [f"{name} is {why}" for name, why in absent.items()]
    if "V5" in levels and levels["V5"].checked == 0:
        says.append(NO_TIMES)
    if unread:
        says.append(f"{unread} time-stamps were not checked: no certificates were given to check them with")
    return {
        "ok": all(level.ok for level in levels.values()),
        "events": whole.events,
        "levels": {name: msgspec.to_builtins(level) for name, level in levels.items()},
        "signed_by": list(whole.trusted.log_keys) if whole.trusted else [],
        "witnesses": [
            {"name": line.name, "cosigned_at": wire(datetime.fromtimestamp(line.time, UTC))}
            for line in cosigned
            if line.time
        ],
        "absent": absent,
        "quorum": {"name": trust.quorum, "met": bool(whole.trusted and whole.trusted.quorum_met)},
        "says": "; ".join(says),
    }


def _nothing_removed(desk: Desk, level: Level) -> Level:
    """Every stored entry is a leaf or waits to be one; and the head covers the leaves."""
    if not level.ok:
        return level
    stored, waiting, leaves = desk.ledger.counts()
    fault: str | None = None
    try:
        covered = desk.ledger.head().size
    except IntegrityError as error:
        covered, fault = leaves, error.message
    if stored != waiting + leaves:
        fault = f"{stored} entries are stored, {leaves} sealed and {waiting} wait: {stored - waiting - leaves} belong nowhere"
    elif covered != leaves:
        fault = f"the head covers {covered} entries, and {leaves} are sealed"
    return Level(ok=fault is None, checked=level.checked, first_fault=fault)


def _read_models(desk: Desk, level: Level) -> Level:
    """What lists and controllers read is exactly what the entries say (I24), and whom tokens let in."""
    try:
        wrong = sorted(differences(desk.store))
        tokens = sorted(SqlTokens(desk.store).faults())
    except IntegrityError as error:
        return Level(ok=False, checked=level.checked, first_fault=error.message)
    if not wrong and not tokens:
        return level
    if not wrong:
        return Level(ok=False, checked=level.checked, first_fault=f"{tokens[0]} ({len(tokens)} such)")
    fault = f"the read model of {wrong[0]} is not what its entries say ({len(wrong)} such)"
    return Level(ok=False, checked=level.checked, first_fault=fault)
