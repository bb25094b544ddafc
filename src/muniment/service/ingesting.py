"""Lines of targets' own logs: read, and put on record, batch by batch.

1. a part of a log is read, from where the last one ended; or lines are sent
2. each line that tells of use is kept once, under its stable name
3. UsageIngested, with counts, digest and what the log covers now, in the stream "usage:TARGET"

2, 3 and how far the log was read are one commit: a crash before it leaves lines that are read again, after it nothing to
do. What the lines mean is judged then (`pairing`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from muniment.core.errors import Conflict, Invalid
from muniment.core.events import ReadPart, UsageIngested
from muniment.core.instants import wire
from muniment.core.text import clean_name
from muniment.core.use import Interval, Rule, Use, World, together, use_of
from muniment.ports import Actor, Claim, Lease, Rejected, Target, UseBatch, UseSource
from muniment.service import inventories
from muniment.service.desk import Caller, Desk, append_beside
from muniment.service.ids import new_id
from muniment.settings.usage import LONGEST_SKEW, LogSettings, UsageSettings, usage_settings, zone
from muniment.store.use_rows import digest, encoded
from muniment.store.uses import SqlUses
from muniment.usage.formats import format_named
from muniment.usage.generic import mapped
from muniment.usage.reading import Format, Hints, Other, Unparsable
from muniment.usage.tailing import Part, Position, Record, parts

#: every target has a stream of its own
STREAM = "usage:"
#: lines of a batch of which nothing could be made that are kept, by place and digest
REJECTED = 100
#: how often a log that says nothing is put on record as read
QUIET = timedelta(hours=1)
#: of one worker at one target's logs
LEASE_SECONDS = 300
PAUSE, LOOKS = 0.1, 100


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that somebody sends, and does not have us read."""

    target: str
    source: str
    format: str
    lines: tuple[bytes, ...]
    covers: Interval | None = None  # the period of which these are all lines, as whoever sends them says
    mapping: dict[str, object] | None = None


def settings_for(target: Target) -> UsageSettings:
    """How the use of a target is read."""
    return usage_settings(target.usage, f"[targets.{target.id}.usage]")


def send(desk: Desk, caller: Caller, sent: Sent) -> list[UsageIngested]:
    """Take lines that somebody sends: an operator, or an owner of the target. Sent again, they change nothing."""
    target = _target(desk, caller, sent.target)
    format_ = format_named(sent.format, mapped(sent.mapping) if sent.mapping is not None else None)
    records = [Record(line, number) for number, line in enumerate(sent.lines)]
    source = clean_name(sent.source, "the log")
    with turn(desk, target.id) as lease:
        made = _Reading(desk, caller.actor, target, source, format_, lease).take(records, covers=sent.covers)
    return [] if made is None else [made]


def ingest_file(
    desk: Desk, caller: Caller, target_id: str, path: Path, log: LogSettings, *, whole: bool = True
) -> list[UsageIngested]:
    """Read a file to its end, from where it was read to before.

    Raises:
        Unavailable: there is no such file.
    """
    target = _target(desk, caller, target_id)
    clean_name(log.source, "the log")
    with turn(desk, target.id) as lease:
        return _read(_reading(desk, caller.actor, target, log, lease), path, live=not whole)


def read_log(desk: Desk, actor: Actor, target: Target, log: LogSettings) -> list[UsageIngested]:
    """Read on a log that is written to."""
    with turn(desk, target.id) as lease:
        return _read(_reading(desk, actor, target, log, lease), Path(log.path), live=True)


@contextmanager
def turn(desk: Desk, target: str) -> Iterator[Lease]:
    """One at a time reads and judges the use of a target: counts are exact, and nothing is said twice.

    Who took longer than the lease lasts finds that out when it records (`Append.fence`).
    """
    claim = Claim(key=f"usage {target}", holder=desk.random.bytes(8).hex(), seconds=LEASE_SECONDS)
    for _ in range(LOOKS):
        if (lease := desk.store.claim([claim]).get(claim.key)) is not None:
            break
        time.sleep(PAUSE)
    else:
        raise Conflict(f"somebody else reads the use of {target}", remedy="Try again in a moment.")
    try:
        yield lease
    finally:
        desk.store.release([lease])


def _target(desk: Desk, caller: Caller, target_id: str) -> Target:
    target = inventories.visible_target(desk, caller, target_id)
    inventories.require_steward(desk, caller, target)
    return target


def _reading(desk: Desk, actor: Actor, target: Target, log: LogSettings, lease: Lease) -> _Reading:
    format_ = format_named(log.format, mapped(log.mapping) if log.mapping is not None else None)
    return _Reading(desk, actor, target, log.source, format_, lease, log)


def _read(reading: _Reading, path: Path, *, live: bool) -> list[UsageIngested]:
    before = reading.known.position
    position = None if before is None else msgspec.convert(before, Position)
    taken = (
        reading.take(part.records, part=part, live=live)
        for part in parts(path, position, reading.format.framing, whole=not live)
    )
    return [each for each in taken if each is not None]


class _Reading:
    """One log of one target, batch by batch."""

    def __init__(  # noqa: PLR0917  as they are had
        self,
        desk: Desk,
        actor: Actor,
        target: Target,
        source: str,
        format_: Format,
        lease: Lease,
        log: LogSettings | None = None,
    ) -> None:
        self._desk, self._actor, self._target, self.format, self._lease = desk, actor, target, format_, lease
        settings = settings_for(target)
        self._world = World(
            target=target.id, format=format_.name, catalogue=frozenset(e.privilege for e in target.catalogue),
            rules=[
                Rule(privilege=r.privilege, resource=r.resource, action=r.action, object=r.object) for r in settings.privileges
            ],
            accounts=settings.accounts,
        )  # fmt: skip
        self._uses = SqlUses(desk.store.engine)
        self._zone = zone(log.timezone if log else "+00:00")
        known = [each for each in self._uses.sources(target.id) if each.source == source]
        self.known = known[0] if known else UseSource(target=target.id, source=source, format=format_.name)
        if self.known.format != format_.name:
            raise Invalid(
                f"the log {source!r:.60} of {target.id} was read as {self.known.format}",
                remedy="Give this one another name: --source, or name in the configuration.",
            )

    def take(
        self,
        records: Sequence[Record],
        *,
        part: Part | None = None,
        covers: Interval | None = None,
        live: bool = False,
    ) -> UsageIngested | None:
        """Keep what one batch of records tells; None if it tells nothing that is not on record."""
        now = self._desk.clock.now()
        found = _Found(self._world, self.format, Hints(now=now, zone=self._zone), self.known.source)
        for record in records:
            found.read(record)
        known = self._uses.known(self._target.id, found.uses)
        uses = tuple(found.uses[line] for line in sorted(found.uses.keys() - known.keys()))
        back = tuple(line for line, verdict in known.items() if verdict is None and found.uses[line].refused)
        counts = found.counts | {"uses": 0, "refused": 0}
        for use in uses:
            counts["refused" if use.refused else "uses"] += 1
        counts["duplicates"] = len(records) - sum(counts.values())
        covered = self._covered(found, part, covers, now=now, live=live)
        if part is None and not uses and not back and covered == self.known.covered:
            return None  # sent again
        if part is not None and not records and (not covered or wire(now - QUIET) < self.known.read_at):
            return None  # nothing was written, and that is on record for a while ago
        span = covered[-1] if covered else None
        state = msgspec.structs.replace(
            self.known, covered=covered, read_at=wire(now), lines=self.known.lines + len(records),
            position=msgspec.to_builtins(part.position) if part else self.known.position,
            unparsable=self.known.unparsable + counts["unparsable"], ahead=self.known.ahead + counts["ahead"],
            unseen=self.known.unseen + (part is not None and not part.continues),
        )  # fmt: skip
        event = UsageIngested(
            batch=new_id("use", now, self._desk.random.bytes(10)), target=self._target.id, source=self.known.source,
            format=self.format.name, lines=len(records), digest=digest(map(encoded, uses)),
            covers_from=span.begins if span else None, covers_to=span.ends if span else None,
            part=None if part is None else ReadPart(
                file=part.name[:200], begins=part.begins, ends=part.position.offset, digest=f"sha256:{part.digest}"
            ),
            **counts,
        )  # fmt: skip
        self._record(
            event,
            UseBatch(batch=event.batch, source=state, uses=uses, back=back, rejected=tuple(found.rejected)),
            now,
        )
        self.known = state
        return event

    def _covered(
        self, found: _Found, part: Part | None, covers: Interval | None, *, now: datetime, live: bool
    ) -> tuple[Interval, ...]:
        """What the log was read for by now. A line's own time begins a period only where it is the first one read."""
        before = self.known.covered
        if covers is not None:
            return together((*before, covers))
        first, last = found.first, found.last
        if part is not None and part.continues and before and self.known.position is not None:
            first = before[-1].ends if first is None else min(first, before[-1].ends)
        if live and part is not None and part.at_end and first is not None:
            last = max(last or first, wire(now - settings_for(self._target).tolerance))
        if first is None or last is None or last < first:
            return before
        return together((*before, Interval(first, last)))

    def _record(self, event: UsageIngested, batch: UseBatch, now: datetime) -> None:
        stream = STREAM + event.target
        if not append_beside(self._desk, stream, self._actor, event, now, used=batch, fence=self._lease):
            raise Conflict(f"the use of {event.target} is read all the time", remedy="Try again.")


class _Found:
    """What the records of one batch tell."""

    def __init__(self, world: World, format_: Format, hints: Hints, source: str) -> None:
        self._world, self._hints, self._source, self._read = world, hints, source, format_.read
        self._latest = hints.now + LONGEST_SKEW
        self.uses: dict[str, Use] = {}
        self.rejected: list[Rejected] = []
        self.first: str | None = None
        self.last: str | None = None
        self.counts = {"other": 0, "unparsable": 0, "ahead": 0}

    def read(self, record: Record) -> None:
        raw = record.raw
        place = f"{self._source}, byte {record.offset}"
        if raw is None:
            self._reject(b"", place, "it is too long")
            return
        raw = raw.rstrip(b"\r\n")
        if not raw:
            self.counts["other"] += 1
            return
        try:
            said = self._read(raw, self._hints)
        except Unparsable as error:
            self._reject(raw, place, str(error))
            return
        if said.at is not None and said.at > self._latest:
            self.counts["ahead"] += 1
            return
        if said.at is not None:
            at = wire(said.at)
            self.first = self.first or at
            self.last = max(self.last or at, at)
        if isinstance(said, Other):
            self.counts["other"] += 1
            return
        use = use_of(said, raw, self._world, place)
        known = self.uses.get(use.line)
        # of a line and the one that takes it back, whichever comes first, the latter counts
        if known is None or (use.refused and not known.refused):
            self.uses[use.line] = use

    def _reject(self, raw: bytes, place: str, why: str) -> None:
        self.counts["unparsable"] += 1
        if len(self.rejected) < REJECTED:
            self.rejected.append(Rejected(place=place, digest=hashlib.sha256(raw).hexdigest(), why=why))
