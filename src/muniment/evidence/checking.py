"""What is looked at in a bundle, level by level. `reading` says what the levels are, and what they come to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

from muniment.core.events import KINDS, IdentityRecorded, PolicyAdopted, TextErased, decode_data
from muniment.core.separation import excluded
from muniment.core.ticket import Recorded, Ticket, evolve
from muniment.evidence.archive import BadBundle
from muniment.evidence.bundle import commitments
from muniment.evidence.contents import Contents, Leaf, Tie, read_consistency
from muniment.evidence.rules import ERASURE, KEYS, TICKET, TicketRules
from muniment.evidence.succession import explained, key_event
from muniment.evidence.times import Anchor, TimeBounds
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.entry import Entry, decode_entry, entry_ref
from muniment.ledger.errors import BadEntry, BadProof, LedgerFault, WrongKey, WrongOrigin
from muniment.ledger.merkle import verify_consistency, verify_inclusion
from muniment.ledger.note import parse_note
from muniment.ledger.proof import Proof
from muniment.ledger.trust import Trusted, TrustPolicy
from muniment.ledger.verify import Level

#: the streams that decisions rest on
_REGISTRIES = ("policy", "identity:", "target:", "delegation:", ERASURE, KEYS)

#: checks one RFC 3161 response over a text; returns its time in POSIX seconds and who made it, or raises LedgerFault
StampCheck: TypeAlias = Callable[[bytes, bytes], tuple[int, str]]


class Checker:
    """One bundle. Each level is an iterator over what it looks at, and raises at its first fault."""

    def __init__(
        self,
        contents: Contents,
        trust: TrustPolicy,
        since: Checkpoint | None,
        stamp: StampCheck | None,
        skew: int,
    ) -> None:
        self.contents, self.trust, self.stamp, self.skew = contents, trust, stamp, skew
        self.kept = since
        self.head = _head(contents.checkpoint, "checkpoint")
        self.judged: dict[str, Trusted] = {}  # checkpoints by their file, once their signatures were verified
        self.tied: set[str] = set()  # those that are proved to be of the same log
        self.placed = [(leaf, _index(leaf)) for leaf in contents.entries]
        self.alone: list[str] = []  # policy sets that were put in force without a second person
        self.registry = [(leaf, _index(leaf)) for leaf in contents.registry]
        first = _entry(contents.entries[0])
        self.ticket = first.ticket if first is not None else "?"
        self.state: Ticket | None = None
        self.anchors: list[Anchor] = []
        self.erased: dict[str, Recorded] = {}  # by commitment: who erased it, and when

    def level(self, looked_at: Callable[[], Iterator[None]]) -> Level:
        checked = 0
        steps = looked_at()
        while True:
            try:
                next(steps)
            except StopIteration:
                return Level(ok=True, checked=checked)
            except LedgerFault as fault:
                return Level(ok=False, checked=checked + 1, first_fault=fault.message)
            checked += 1

    # ── V1 ──

    def signatures(self) -> Iterator[None]:
        with _named("checkpoint"):
            try:
                trusted = self.trust.judge(self.contents.checkpoint)
            except WrongKey as fault:
                raise WrongKey(f"{fault}{self._succession()}") from None
        self.judged["checkpoint"] = trusted
        if not trusted.quorum_met:
            names = ", ".join(each.name for each in trusted.cosigned) or "no witness"
            raise BadProof(
                f"checkpoint: it is cosigned by {names}; your trust file asks for {self.trust.quorum}"
            )
        yield
        for tie in self.contents.ties:
            with _named(f"{tie.name}.checkpoint"):
                self.judged[tie.name] = self.trust.judge(tie.note)
            yield

    def _succession(self) -> str:
        """Why nobody whom one trusts has signed it, if what is proved here of the log's keys says why."""
        events = []
        for leaf, index in self.registry:
            with suppress(LedgerFault):
                self._in_tree(leaf)
                if found := key_event(index, decode_entry(leaf.raw)):
                    events.append(found)
        older = []
        for tie in self.contents.ties:
            with suppress(LedgerFault):
                self._tie(tie)
                older.append(self.trust.judge(tie.note))
        older.sort(key=lambda each: each.checkpoint.size)
        return explained(self.contents.checkpoint, self.trust, older, events)

    # ── V2 ──

    def tree(self) -> Iterator[None]:
        for leaf, _ in (*self.placed, *self.registry):
            self._in_tree(leaf)
            yield
        for tie in self.contents.anchors:
            if tie.name != f"anchors/{_head(tie.note, tie.name).size}":
                raise BadProof(
                    f"{tie.name}.checkpoint: it covers another number of entries than its name says"
                )
            self._tie(tie)
            yield
        if self.contents.since is not None:
            self._tie(self.contents.since)
            yield
        if self.kept is not None:
            self._continues(self.kept)
            yield

    def _in_tree(self, leaf: Leaf) -> None:
        with _named(f"{leaf.name}.tlog-proof"):
            proof = Proof.parse(leaf.proof)
            if proof.extra or proof.checkpoint.encode() != self.contents.checkpoint:
                raise BadProof(
                    "it leads to another checkpoint than the bundle's, or carries more than a proof"
                )
            verify_inclusion(leaf.raw, proof.index, self.head.size, proof.hashes, self.head.root)

    def _tie(self, tie: Tie) -> None:
        name = f"{tie.name}.consistency"
        old = _head(tie.note, f"{tie.name}.checkpoint")
        proof = read_consistency(tie.consistency, name)
        if proof.old != old.size or proof.checkpoint.encode() != self.contents.checkpoint:
            raise BadProof(f"{name}: it does not lead from {tie.name}.checkpoint to checkpoint")
        if old.origin != self.head.origin:
            raise WrongOrigin(f"{tie.name}.checkpoint: it is of the log {old.origin!r:.80}")
        with _named(name):
            verify_consistency(old.size, self.head.size, proof.hashes, old.root, self.head.root)
        self.tied.add(tie.name)

    def _continues(self, kept: Checkpoint) -> None:
        """From the auditor's own checkpoint; the one in the bundle is only a copy of it."""
        if kept.origin != self.head.origin:
            raise WrongOrigin(f"your checkpoint is of the log {kept.origin!r:.80}, the bundle's is not")
        if (kept.size, kept.root) == (self.head.size, self.head.root):
            return
        tie = self.contents.since
        if tie is None or _head(tie.note, "since.checkpoint") != kept:
            raise BadProof(
                f"the bundle does not prove that the log grew from your checkpoint over {kept.size} entries:"
                " ask for one that was exported with --since and that checkpoint"
            )

    # ── V3 ──

    def form(self) -> Iterator[None]:
        before: tuple[int, str] | None = None
        for seq, (leaf, index) in enumerate(self.placed):
            entry = self._canonical(leaf)
            prev = before[1] if before is not None else None
            if entry.ticket != self.ticket or not entry.ticket.startswith(TICKET):
                raise BadEntry(
                    f"{leaf.name}.entry: it is of {entry.ticket!r:.80}, not of the ticket {self.ticket!r:.80}"
                )
            if entry.seq != seq or entry.prev != prev:
                raise BadEntry(
                    f"{leaf.name}.entry: it is entry {entry.seq} of its ticket where {seq} was to come, or names another"
                    " than the one before it: something is missing or was changed"
                )
            if before is not None and index <= before[0]:
                raise BadEntry(f"{leaf.name}.entry: it stands in the log before the entry that it follows")
            before = (index, entry_ref(leaf.raw))
            yield
        last = -1
        for leaf, index in self.registry:
            entry = self._canonical(leaf)
            if not entry.ticket.startswith(_REGISTRIES):
                raise BadEntry(f"{leaf.name}.entry: it is of {entry.ticket!r:.80}, which is no registry")
            if index <= last:
                raise BadEntry(f"{leaf.name}.entry: it is there twice, or not in the order of the log")
            last = index
            yield

    def _canonical(self, leaf: Leaf) -> Entry:
        with _named(f"{leaf.name}.entry"):
            entry = decode_entry(leaf.raw, strict=True)
        if entry.log != self.head.origin:
            raise WrongOrigin(f"{leaf.name}.entry: it belongs to the log {entry.log!r:.80}")
        return entry

    # ── V4 ──

    def rules(self) -> Iterator[None]:
        rules = TicketRules(witnessed=self._witnessed())
        people: dict[str, tuple[str, ...]] = {}
        wanted: set[str] = set()
        for leaf, index in sorted((*self.registry, *self.placed), key=lambda each: each[1]):
            with _named(f"{leaf.name}.entry"):
                entry = decode_entry(leaf.raw)
            rules.feed(index, leaf.raw, entry)
            found = rules.found()
            if found.fault is not None:
                raise BadEntry(f"{leaf.name}.entry: {found.fault.fault}")
            event = decode_data(entry.type, entry.data) if entry.type in KINDS else None
            if isinstance(event, IdentityRecorded):
                people[event.identity.id] = event.identity.aliases
            elif isinstance(event, PolicyAdopted) and not event.change:
                self.alone.append(event.digest)
            elif isinstance(event, TextErased):
                self._erased(leaf, entry, event)
                wanted |= commitments(event)
            elif event is not None and leaf.name.startswith("ticket/"):
                record = Recorded(
                    seq=entry.seq, at=entry.at, actor=entry.actor.id, via=entry.actor.via, event=event
                )
                self._another_name(leaf, record, people)
                self.state = evolve(self.state, record, entry.ticket)
                wanted |= commitments(event)
            yield
        if fault := rules.result().first_fault:  # a policy set that is not in the bundle
            raise BadEntry(fault)
        yield from self._texts(wanted)

    def _another_name(self, leaf: Leaf, record: Recorded, people: dict[str, tuple[str, ...]]) -> None:
        """Nobody decides under another name on what is his own, as the directory was recorded."""
        event = record.event
        who = getattr(event, "approver", None) or getattr(event, "reviewer", None)
        if who is None or self.state is None:
            return
        given = getattr(event, "on_behalf", None) or None
        voters = {who, given.by} if given else {who}
        names = voters.union(*(people.get(each, ()) for each in voters))
        terms, stage = self.state.terms, getattr(event, "stage", None)
        consent = not given and any(s.consent is True and s.name == stage for s in self.state.stages)
        # owners agree in a stage for just that
        own = {terms.requester, terms.beneficiary} if consent else excluded(self.state)
        if names & own:
            raise BadEntry(
                f"{leaf.name}.entry: {who} is, under another name, requester, beneficiary or accountable"
            )
        if stage is not None and any(not (names - voters).isdisjoint(d.voters) for d in self.state.decisions):
            raise BadEntry(f"{leaf.name}.entry: {who} has decided already, under another name")

    def _erased(self, leaf: Leaf, entry: Entry, event: TextErased) -> None:
        if event.ticket != self.ticket or entry.ticket != ERASURE + self.ticket:
            raise BadEntry(f"{leaf.name}.entry: it says what was erased of another ticket")
        if self.contents.texts.get(event.commitment) is not None:
            raise BadEntry(f"{leaf.name}.entry: it says that a text was erased, and the bundle holds it")
        self.erased[event.commitment] = Recorded(
            seq=entry.seq, at=entry.at, actor=entry.actor.id, via=entry.actor.via, event=event
        )

    def _texts(self, wanted: set[str]) -> Iterator[None]:
        for commitment in sorted(wanted):
            name = f"texts/{commitment.removeprefix('sha256:')}"
            if commitment not in self.contents.texts:
                raise BadBundle(f"{name}.txt is missing in the bundle, and nothing says that it was erased")
            disclosed = self.contents.texts[commitment]
            if disclosed is not None and hashlib.sha256(b"".join(disclosed)).hexdigest() != commitment[7:]:
                raise BadBundle(f"{name}.txt: it is not the text that the entry commits to")
            yield
        if extra := sorted(self.contents.texts.keys() - wanted):
            raise BadBundle(f"texts/{extra[0].removeprefix('sha256:')}: no entry of the ticket commits to it")

    def _witnessed(self) -> list[int] | None:
        if self.trust.operator_only:
            return None
        ties = [t for t in self.contents.anchors if t.name in self.tied and t.name in self.judged]
        return [self.judged[t.name].checkpoint.size for t in ties if self.judged[t.name].quorum_met]

    # ── V5 ──

    def times(self) -> Iterator[None]:
        self.anchors = self._bounding()
        bounds = TimeBounds(self.anchors, skew=self.skew)
        if not bounds.anchored:
            return
        for leaf, index in self.placed:
            with _named(f"{leaf.name}.entry"):
                bounds.feed(index, leaf.raw, decode_entry(leaf.raw))
            if fault := bounds.result().first_fault:
                raise BadEntry(f"{leaf.name}.entry: {fault}")
            yield

    def _bounding(self) -> list[Anchor]:
        """Times of checkpoints by those whom one trusts; only of checkpoints that are proved to be of this log."""
        known = [Tie(name="checkpoint", note=self.contents.checkpoint, consistency=b"")]
        known += [tie for tie in self.contents.anchors if tie.name in self.tied]
        anchors = []
        for tie in known:
            trusted = self.judged.get(tie.name)
            if trusted is None:  # V1 has said so
                continue
            name, note, stamps = tie.name, tie.note, tie.stamps
            size = trusted.checkpoint.size
            anchors += [
                Anchor(size=size, time=each.time, source=f"cosigned by {each.name}")
                for each in trusted.cosigned
                if each.time
            ]
            if self.stamp is None:
                continue
            for at, token in enumerate(stamps):
                with _named(f"{name}.{at}.tsr"):
                    time, authority = self.stamp(token, parse_note(note).text.encode())
                anchors.append(Anchor(size=size, time=time, source=f"stamped by {authority}"))
        return anchors


@contextmanager
def _named(name: str) -> Iterator[None]:
    """A fault says in which file."""
    try:
        yield
    except LedgerFault as fault:
        raise type(fault)(f"{name}: {fault}") from None


def _head(note: str | bytes, what: str) -> Checkpoint:
    try:
        return Checkpoint.parse(parse_note(note).text)
    except LedgerFault as fault:
        raise BadBundle(f"{what}: {fault}") from None


def _index(leaf: Leaf) -> int:
    try:
        return Proof.parse(leaf.proof).index
    except LedgerFault as fault:
        raise BadBundle(f"{leaf.name}.tlog-proof: {fault}") from None


def _entry(leaf: Leaf) -> Entry | None:
    try:
        return decode_entry(leaf.raw)
    except LedgerFault:
        return None
