"""Show every published checkpoint to the witnesses, and keep what they answer.

A signature of ours says that we said so. A witness says that what we say now has grown from what we said before; a
quorum of them that nobody was shown anything else. One that does not answer is absent, which every report shows, and
holds up nothing but tickets whose policy demands it.

A witness's word that it has seen more of this ledger halts nothing: it could be lying. Its copy of a checkpoint that
our key signed does, if the store does not hold that history (I26).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue

from muniment.core.errors import MunimentError, Unavailable, WitnessRefused
from muniment.core.instants import wire
from muniment.ledger.checkpoint import Checkpoint, with_lines
from muniment.ledger.cosignature import cosignatures
from muniment.ledger.errors import LedgerFault
from muniment.ledger.merkle import consistency_proof
from muniment.ledger.note import open_note
from muniment.ledger.tiles import TileReader, tile_path
from muniment.ports import Cosigned, Objection, Witness
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.service.guarding import compare, guard
from muniment.service.publishing import refresh
from muniment.store.checkpoints import CosignatureLine

#: what a report says of a checkpoint that no witness has cosigned
OPERATOR_ONLY = "operator-signed only: no witness has confirmed that others were shown the same ledger"
#: seconds that a witness's clock may differ from ours; beyond that its cosignature would date entries falsely
CLOCKS = 3600

Answers = SimpleQueue[tuple[Witness, "Cosigned | Objection | MunimentError"]]


def ask(
    desk: Desk, *, at_least_every: timedelta | None = None, only_quorum: bool = False
) -> dict[str, MunimentError]:
    """Ask those witnesses that have not seen the newest published checkpoint; return those that are absent, and why.

    All are asked at once, and each answer is kept as it comes.

    Args:
        desk: the adapters.
        at_least_every: ask again for a checkpoint that was cosigned longer ago than this, so that whoever sees it
            can tell a quiet ledger from one that somebody freezes.
        only_quorum: come back as soon as a quorum has answered. Who answers later is asked again the next time.

    Raises:
        RolledBack: a witness has a newer or another ledger of this name, signed by our key; the store is halted.
    """
    size = desk.ledger.kept.published_size()
    kept = desk.ledger.kept.at(size) if desk.witnesses else None
    if kept is None:
        return {}
    guard(desk)
    missing = _missing(desk, size, at_least_every)
    if not missing:
        return _absent_of(desk, size)
    seen = {name: last for name, (last, _) in _last(desk).items()}
    answers: Answers = SimpleQueue()
    for witness in missing:
        _start(
            witness,
            lambda w: w.cosign(kept.note, seen.get(w.name, 0), lambda old: proof(desk, old, size)),
            answers,
        )
    cosigned = False
    for _ in missing:
        witness, answer = answers.get()
        cosigned = _take(desk, witness, answer, size) or cosigned
        if only_quorum and cosigned and witnessed_size(desk) >= size:
            break
    if cosigned:
        refresh(desk, size)
    return _absent_of(desk, size)


def consult(desk: Desk) -> None:
    """Ask what the witnesses have seen of this ledger, once in a process, and before it signs or records anything.

    A store that was restored together with its published files knows nothing of what came after. A witness does.

    Raises:
        RolledBack: a witness has a newer or another ledger of this name, signed by our key; the store is halted.
    """
    now = desk.clock.now()
    unheard = [
        w for w in desk.witnesses if not desk.attention.heard(w.name) and desk.attention.ready(w.name, now)
    ]
    answers: Answers = SimpleQueue()
    for witness in unheard:
        _start(witness, lambda w: Objection(message="", note=w.latest(desk.store.origin)), answers)
    for _ in unheard:
        witness, answer = answers.get()
        if isinstance(answer, MunimentError):
            desk.attention.absent(witness.name, answer, desk.clock.now())
            continue
        if isinstance(answer, Objection) and answer.note is not None:
            try:
                _hold_against(desk, witness, answer.note)
            except Unavailable:  # what holds our key does not answer, so it is not known whether this is ours
                continue
        desk.attention.answered(witness.name, desk.clock.now())


def witnessed_size(desk: Desk) -> int:
    """How many entries a quorum of the witnesses has seen; 0 where none is configured.

    Signatures are verified once more: a row that somebody wrote into the database lets nothing begin.
    """
    if not desk.quorum:
        return 0
    last = sorted(_last(desk).values(), key=lambda each: each[0], reverse=True)
    counted = 0
    for size, line in last:
        counted += _genuine(desk, size, line)
        if counted >= desk.quorum:
            return size
    return 0


def attendance(desk: Desk, size: int) -> list[Document]:
    """Of each witness: whether it has cosigned the checkpoint over ``size`` entries, and if not, since when not."""
    last = _last(desk)
    times: dict[str, int] = {}
    for each in desk.ledger.kept.cosignatures(size):
        times.setdefault(each.name, each.time)
    absences = desk.attention.absences()
    return [
        {
            "name": w.name, "url": w.url,
            "cosigned_at": _instant(times[w.name]) if w.name in times else None,
            "absent": None if w.name in times else _why(absences.get(w.name), last.get(w.name)),
            "last_cosigned": {"size": last[w.name][0], "at": _instant(last[w.name][1].time)} if w.name in last else None,
        }
        for w in desk.witnesses
    ]  # fmt: skip


def standing(witnesses: list[Document]) -> str:
    """One sentence on whose word a checkpoint is, for every report that shows one."""
    absent = [f"{w['name']} is {w['absent']}" for w in witnesses if w["absent"]]
    present = [w["name"] for w in witnesses if not w["absent"]]
    said = f"cosigned by {', '.join(present)}" if present else OPERATOR_ONLY
    return "; ".join([said, *absent])


def proof(desk: Desk, old: int, size: int) -> list[bytes]:
    """Consistency of the tree of the first ``old`` entries with that of ``size``: a few tiles, or every leaf hash."""
    if desk.tiles is None:
        return consistency_proof(old, desk.ledger.hashes(size))
    directory = desk.tiles

    def read(level: int, index: int, width: int) -> bytes:
        partial = directory.read(tile_path(level, index, width))
        return partial if partial is not None else directory.must_read(tile_path(level, index))[: width * 32]

    return TileReader(size, read).consistency(old)


def _missing(desk: Desk, size: int, at_least_every: timedelta | None) -> list[Witness]:
    """Those to ask now."""
    now = desk.clock.now()
    fresh = now - at_least_every if at_least_every else None
    known: dict[str, int] = {}
    for each in desk.ledger.kept.cosignatures(size):  # newest first
        known.setdefault(each.name, each.time)

    def done(name: str) -> bool:
        if name not in known or fresh is None:
            return name in known
        return known[name] >= fresh.timestamp() or desk.attention.shown_since(name, size, fresh)

    return [w for w in desk.witnesses if not done(w.name) and desk.attention.ready(w.name, now)]


def _take(desk: Desk, witness: Witness, answer: Cosigned | Objection | MunimentError, size: int) -> bool:
    """Keep one answer; return whether it is a cosignature. Raises `RolledBack`."""
    now = desk.clock.now()
    if isinstance(answer, Objection):
        answer = _judge(desk, witness, answer)
    elif isinstance(answer, Cosigned) and abs(answer.time - now.timestamp()) > CLOCKS:
        answer = WitnessRefused(
            f"the witness {witness.name} says that it cosigned at {_instant(answer.time)}; here it is {wire(now)}",
            remedy="One of the two clocks is wrong. Set it by NTP.",
            code="witness.wrong-clock",
        )
    if isinstance(answer, MunimentError):
        desk.attention.absent(witness.name, answer, now)
        return False
    line = CosignatureLine(name=witness.name, key_id=answer.key_id, time=answer.time, line=answer.line)
    desk.ledger.kept.add_cosignatures(size, [line])
    desk.attention.answered(witness.name, now, size)
    return True


def _judge(desk: Desk, witness: Witness, objection: Objection) -> MunimentError:
    """A witness will not sign. Halt if it shows why; else it is absent."""
    if objection.note is not None and _hold_against(desk, witness, objection.note):
        what = "although the checkpoint that it has is part of this ledger"
    else:
        what = f"and shows nothing that our key has signed: {objection.message}"
    return WitnessRefused(
        f"the witness {witness.name} refuses to cosign, {what}",
        remedy="Find out from its operator what it has seen. If this store is a restored backup, stop every node.",
        code="witness.unproven",
    )


def _hold_against(desk: Desk, witness: Witness, note: str) -> bool:
    """Compare with a checkpoint that a witness has; return whether it is one of ours. Raises `RolledBack`."""
    try:
        theirs = Checkpoint.parse(open_note(note, desk.verifiers).text)
    except LedgerFault:
        return False
    if theirs.origin != desk.store.origin:
        return False
    compare(desk, theirs, f"the witness {witness.name}")
    return True


def _last(desk: Desk) -> dict[str, tuple[int, CosignatureLine]]:
    return desk.ledger.kept.last_cosigned([w.name for w in desk.witnesses])


def _genuine(desk: Desk, size: int, line: CosignatureLine) -> bool:
    kept = desk.ledger.kept.at(size)
    verifiers = [w.verifier for w in desk.witnesses if w.name == line.name]
    if kept is None:
        return False
    try:
        return bool(cosignatures(with_lines(kept.note, line.line), verifiers))
    except LedgerFault:
        return False


def _absent_of(desk: Desk, size: int) -> dict[str, MunimentError]:
    present = {each.name for each in desk.ledger.kept.cosignatures(size)}
    return {name: error for name, error in desk.attention.absences().items() if name not in present}


def _why(error: MunimentError | None, last: tuple[int, CosignatureLine] | None) -> str:
    since = f"since {_instant(last[1].time)}" if last else "it has never cosigned this ledger"
    return f"absent, {since}" + (f": {error.message}" if error else "")


def _instant(seconds: int) -> str:
    return wire(datetime.fromtimestamp(seconds, UTC))


def _start(witness: Witness, question: Callable[[Witness], Cosigned | Objection], answers: Answers) -> None:
    """Ask in a thread that holds up nobody, also not the end of the process. Each witness has time-outs of its own."""

    def run() -> None:
        try:
            answers.put((witness, question(witness)))
        except MunimentError as error:
            answers.put((witness, error))
        except LedgerFault as fault:  # the published tiles do not make the proof
            answers.put((witness, WitnessRefused(f"the witness {witness.name} was not asked: {fault}")))

    threading.Thread(target=run, name=f"muniment-witness-{witness.name}", daemon=True).start()
