"""Hand a ticket's evidence out, and verify such a file: what `muniment.evidence` needs of the store, collected here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from muniment.anchors.timestamps import stamp_check
from muniment.core.errors import IntegrityError, NotFound
from muniment.core.events import (
    KINDS,
    ApprovalRecorded,
    ChangeProposed,
    CheckWaived,
    CounterOffered,
    FindingResolved,
    PolicyAdopted,
    PolicyTextRecorded,
    RequestSubmitted,
    ReviewRecorded,
    decode_data,
)
from muniment.core.identity import SYSTEM
from muniment.evidence.archive import BadBundle
from muniment.evidence.bundle import Anchored, Proved, Text, TicketEvidence, bounding, commitments, write
from muniment.evidence.checking import StampCheck
from muniment.evidence.reading import verify_bundle
from muniment.evidence.rules import ERASURE
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.entry import Entry, decode_entry
from muniment.ledger.errors import LedgerFault
from muniment.ledger.merkle import verify_consistency
from muniment.ledger.note import open_note, parse_note
from muniment.ledger.tiles import TILE, TileReader, level_hashes, tile_path
from muniment.ledger.trust import TrustPolicy
from muniment.ledger.wire import write_base64
from muniment.service.desk import KEYS, Desk
from muniment.service.documents import Document
from muniment.service.publishing import cosigned_note
from muniment.service.sealing import seal
from muniment.service.standing import POLICY_STREAM
from muniment.service.witnessing import ask
from muniment.store.checkpoints import Published

_WIDTH = TILE * 32


def export(
    desk: Desk, ticket: str, *, since: str | None = None, certificates: bytes = b""
) -> tuple[bytes, Document]:
    """Seal everything, and put all that concerns a ticket into one file.

    Args:
        desk: the adapters.
        ticket: its id.
        since: a checkpoint that the auditor kept; the file then proves that the ledger only grew from it.
        certificates: of the time-stamping authorities, in PEM, as the operator knows them.

    Returns:
        The file, and what it comes to if one believes the operator's own trust file: not everything that is recorded
        need be in order, and evidence of that is evidence too.

    Raises:
        NotFound: the ledger holds nothing of it.
        IntegrityError: what the store holds does not make proofs, or ``since`` is of another history.
        Misconfigured: this process has no log key.
    """
    seal(desk)
    if desk.witnesses:
        ask(desk)  # those that are absent are missing under the checkpoint, and every reader sees that
    indexes = desk.ledger.indexes_of(ticket)
    if not indexes:
        raise NotFound(f"the ledger holds nothing of {ticket!r:.60}", remedy="`muniment list` shows tickets.")
    published = desk.ledger.published()
    erasures = desk.ledger.indexes_of(ERASURE + ticket)
    chosen = _chosen(desk, published, max([*indexes[-1:], *erasures[-1:]]))
    tree = _tree(desk, chosen.size)
    entries = _read(desk, indexes)
    beside = _read(desk, [*erasures, *desk.ledger.indexes_of(KEYS)])
    registry = {
        index: raw for index, raw in (_registry(desk, entries) | beside).items() if index < chosen.size
    }
    evidence = TicketEvidence(
        ticket=ticket,
        checkpoint=chosen.note,
        trust=desk.trust.render(),
        entries=_proved(tree, entries),
        registry=_proved(tree, registry),
        texts=_texts(desk, [*entries.values(), *registry.values()]),
        anchors=_anchors(published, chosen, tree, indexes),
        certificates=certificates,
        since=None if since is None else _since(desk, since, chosen, tree),
    )
    raw = write(evidence)
    report = verify_bundle(
        raw,
        desk.trust,
        since=None if since is None else read_checkpoint(since),
        stamp=stamp_check(certificates) if certificates else None,
    )
    for level in ("V2", "V3"):  # what no reader could follow is not handed out
        if fault := report.levels[level].first_fault:
            raise IntegrityError(
                f"the ledger does not prove what it holds of {ticket}: {fault}",
                remedy="Keep the store as it is, and run `muniment ledger verify`.",
            )
    return raw, {
        "ticket": ticket, "size": chosen.size, "entries": len(entries), "bytes": len(raw),
        **msgspec.to_builtins({"ok": report.ok, "levels": report.levels}),
        "witnesses": sorted({each.name for each in chosen.cosignatures}), "does_not_prove": list(report.does_not_prove),
    }  # fmt: skip


def proofs(desk: Desk, ticket: str) -> Document:
    """The sealed entries of a ticket with their proofs under the newest checkpoint, for a page that verifies them itself.

    Seals nothing: what is not sealed yet is not in it.

    Raises:
        NotFound: nothing of it is sealed yet.
    """
    size = desk.ledger.kept.published_size()
    indexes = [index for index in desk.ledger.indexes_of(ticket) if index < size]
    if not indexes:
        raise NotFound(f"nothing of {ticket!r:.60} is sealed yet", remedy="Try again in a moment.")
    proved = _proved(_tree(desk, size), _read(desk, indexes))
    return {
        "ticket": ticket,
        "checkpoint": cosigned_note(desk, size),
        "entries": [
            {"index": each.index, "entry": each.raw.decode(), "hashes": list(map(write_base64, each.hashes))}
            for each in proved
        ],
    }


def verify(
    raw: bytes, trust: TrustPolicy, *, since: Checkpoint | None = None, stamp: StampCheck | None = None
) -> Document:
    """Verify a file that somebody handed out. Needs no store. A fault is in the document, whatever the file is.

    Args:
        raw: the file.
        trust: the auditor's own.
        since: what a checkpoint says that the auditor kept.
        stamp: checks RFC 3161 time-stamps; without it they are left aside, and the document says so.
    """
    try:
        report = verify_bundle(raw, trust, since=since, stamp=stamp)
    except BadBundle as fault:
        return {
            "ok": False, "levels": {}, "proves": [], "does_not_prove": ["anything: it is not an evidence bundle"],
            "refused": fault.message,
        }  # fmt: skip
    document: Document = msgspec.to_builtins(report)
    return document


def read_trust(text: str) -> TrustPolicy:
    """An auditor's trust file: C2SP tlog-policy; or verifier keys of logs alone, one a line, and no witness.

    Raises:
        BadTrust: it is neither.
    """
    lines = text.splitlines()
    if lines and all(len(line.split()) == 1 and line.count("+") >= 2 for line in lines):
        text = "".join(f"log {line.strip()}\n" for line in lines) + "quorum none\n"
    return TrustPolicy.parse(text)


def read_checkpoint(note: str) -> Checkpoint:
    """What a checkpoint says that somebody kept; nothing is verified. Raises `LedgerFault`."""
    return Checkpoint.parse(parse_note(note).text)


def _chosen(desk: Desk, published: Sequence[Published], last: int) -> Published:
    """The newest checkpoint over all of it that has its quorum; else the newest."""
    covering = [each for each in published if each.size > last]
    if not covering:
        raise IntegrityError(
            "no published checkpoint covers the ticket, although everything was sealed",
            remedy="Run `muniment ledger verify`.",
        )
    known = {witness.name for witness in desk.witnesses}
    cosigned = [e for e in covering if len({c.name for c in e.cosignatures} & known) >= max(desk.quorum, 1)]
    return (cosigned or covering)[-1]


def _tree(desk: Desk, size: int) -> TileReader:
    """From the published tiles, a few of which are read; without them, from every leaf's hash."""
    directory = desk.tiles
    if directory is not None:

        def from_files(level: int, index: int, width: int) -> bytes:
            partial = directory.read(tile_path(level, index, width))
            if partial is not None:
                return partial
            return directory.must_read(tile_path(level, index))[: width * 32]

        return TileReader(size, from_files)
    levels = [b"".join(desk.ledger.hashes(size))]
    while len(levels[-1]) >= _WIDTH:
        below = levels[-1]
        full = range(0, len(below) - len(below) % _WIDTH, _WIDTH)
        levels.append(b"".join(level_hashes(below[at : at + _WIDTH]) for at in full))
    return TileReader(size, lambda level, index, width: levels[level][index * _WIDTH :][: width * 32])


def _proved(tree: TileReader, entries: dict[int, bytes]) -> tuple[Proved, ...]:
    return tuple(
        Proved(index=index, raw=raw, hashes=tuple(tree.inclusion(index)))
        for index, raw in sorted(entries.items())
    )


def _anchors(
    published: Sequence[Published], chosen: Published, tree: TileReader, indexes: Sequence[int]
) -> tuple[Anchored, ...]:
    """Other checkpoints that somebody outside dated, as far as they bound this ticket's times."""
    dated = {e.size: e for e in published if e.size <= chosen.size and (e.cosignatures or e.stamps)}
    return tuple(
        Anchored(
            note=dated[size].note,
            consistency=tuple(tree.consistency(size)),
            stamps=tuple(stamp.token for stamp in dated[size].stamps),
        )
        for size in sorted(bounding(dated, indexes))
    )


def _since(desk: Desk, note: str, chosen: Published, tree: TileReader) -> Anchored:
    try:
        old = Checkpoint.parse(open_note(note, desk.verifiers).text)
    except LedgerFault as fault:
        raise IntegrityError(
            f"the checkpoint to start from is not one of this ledger: {fault}",
            remedy="Give the file that `muniment ledger checkpoint` printed then.",
        ) from fault
    if old.size > chosen.size:
        raise IntegrityError(
            f"the checkpoint to start from covers {old.size} entries, and this ledger has {chosen.size}",
            remedy="If this store is a restored backup, see docs/how-to/recover-the-ledger.md.",
            code="ledger.rolled-back",
        )
    new = read_checkpoint(chosen.note)
    proof = tuple(tree.consistency(old.size))
    try:
        verify_consistency(old.size, new.size, proof, old.root, new.root)
    except LedgerFault as fault:
        raise IntegrityError(
            f"this ledger did not grow from the checkpoint over {old.size} entries: {fault}",
            remedy="The ledger has two histories. Keep both checkpoints: they are evidence of it.",
            code=fault.code,
        ) from fault
    return Anchored(note=note, consistency=proof)


# ── what goes in ──


def _registry(desk: Desk, entries: dict[int, bytes]) -> dict[int, bytes]:
    """What the ticket's decisions rested on: its policy sets, the people in it and its target, as recorded."""
    first, last = min(entries), max(entries)
    streams, digests = set[str](), dict[str, int]()
    for index, raw in sorted(entries.items()):
        entry = decode_entry(raw)
        streams |= _named(entry)
        if digest := _cited(entry):
            digests.setdefault(digest, index)
    found = _policy(desk, digests)
    for stream in sorted(streams):
        places = desk.ledger.indexes_of(stream)
        before = [index for index in places if index < first]
        found |= _read(desk, [*before[-1:], *(index for index in places if first < index < last)])
    return found


def _named(entry: Entry) -> set[str]:
    """The registry streams of people and targets that an entry names."""
    if entry.type not in KINDS:
        return set()
    event = decode_data(entry.type, entry.data)
    if isinstance(event, RequestSubmitted):
        people = {event.terms.requester, event.terms.beneficiary, *event.accountable}
        return {f"target:{event.terms.target}", *(f"identity:{each}" for each in people)}
    found: set[str] = set()
    if isinstance(
        event, ApprovalRecorded | CounterOffered | ReviewRecorded | CheckWaived | FindingResolved
    ) and (entry.actor.id != SYSTEM):
        found.add(f"identity:{entry.actor.id}")
    if isinstance(event, ApprovalRecorded | CounterOffered) and event.on_behalf:
        found |= {f"delegation:{event.on_behalf.id}", f"identity:{event.on_behalf.by}"}
    return found


def _cited(entry: Entry) -> str | None:
    if entry.type not in KINDS:
        return None
    digest: str | None = getattr(decode_data(entry.type, entry.data), "policies", None) or None
    return digest


def _policy(desk: Desk, digests: dict[str, int]) -> dict[int, bytes]:
    """Each cited policy set as it was last adopted before it was cited, with its texts and who proposed it."""
    stream = _read(desk, desk.ledger.indexes_of(POLICY_STREAM))
    parts: dict[str, list[int]] = {}
    chosen: dict[str, list[int]] = {}
    proposed: dict[str, int] = {}
    agreed: dict[str, list[int]] = {}
    for index, raw in sorted(stream.items()):
        entry = decode_entry(raw)
        event = decode_data(entry.type, entry.data)
        if isinstance(event, PolicyTextRecorded):
            if event.part == 0:
                parts[event.sha256] = []
            parts.setdefault(event.sha256, []).append(index)
        elif isinstance(event, ChangeProposed):
            proposed[event.change] = index
        elif isinstance(event, PolicyAdopted) and index < digests.get(event.digest, -1):
            texts = [place for file in event.files for place in parts.get(file.sha256, [])]
            before = [proposed[event.change], *agreed.get(event.change, [])] if event.change else []
            chosen[event.digest] = [*texts, *before, index]
            if (
                event.change
            ):  # under another schema it is adopted again, and rests on what two people agreed to
                agreed.setdefault(event.change, [*texts, index])
    return {index: stream[index] for places in chosen.values() for index in places}


def _texts(desk: Desk, entries: Iterable[bytes]) -> tuple[Text, ...]:
    wanted: set[str] = set()
    for raw in entries:
        entry = decode_entry(raw)
        if entry.type in KINDS:
            wanted |= commitments(decode_data(entry.type, entry.data))
    known = desk.views.disclosures(wanted)
    return tuple(
        Text(commitment=each, salt=known[each][0], text=known[each][1])
        if each in known
        else Text(commitment=each)
        for each in sorted(wanted)
    )


def _read(desk: Desk, indexes: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for start in range(0, len(indexes), 500):
        found |= desk.ledger.bodies(indexes[start : start + 500])
    return found
