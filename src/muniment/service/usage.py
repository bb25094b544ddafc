"""Use as people look at it: what logs cover, how tickets were used, what would have served, and whether lines are ours."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

import msgspec

from muniment.core.drift import OF_USE
from muniment.core.errors import Invalid, NotFound
from muniment.core.events import UsageIngested
from muniment.core.instants import iso_duration, parse_instant, shortened, wire
from muniment.core.ticket import Status, Ticket
from muniment.core.use import Interval, Judged, right_size
from muniment.ports import Target, UseSource
from muniment.service import drift as drifts
from muniment.service import ingesting, inventories
from muniment.service.desk import CONTROLLER, Caller, Desk
from muniment.service.documents import Document, right_size_document
from muniment.service.ingesting import STREAM, Sent, turn
from muniment.service.pairing import Pairing, pair
from muniment.service.past_use import judged
from muniment.settings.usage import LogSettings
from muniment.store.uses import SqlUses
from muniment.store.views import Filter

Judgement = Literal["used", "narrower", "never-used", "not-covered"]
#: statuses of tickets that gave something, and can be judged by its use
GAVE: tuple[Status, ...] = ("active", "revoking", "revoked", "closed", "failed")
#: lines of which nothing could be made that a report shows
SHOWN = 20


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a report."""

    target: str | None = None
    beneficiary: str | None = None
    judgements: tuple[Judgement, ...] = ()  # any of these; none: all
    after: str | None = None  # the ticket that ended the last page
    limit: int = 100


# ── taking lines ──


def send(desk: Desk, caller: Caller, sent: Sent) -> Document:
    """Take lines that somebody sends, and judge them."""
    made = ingesting.send(desk, caller, sent)
    return _ingested(made, _paired(desk, desk.targets[sent.target]))


def ingest(
    desk: Desk, caller: Caller, target_id: str, path: Path, log: LogSettings, *, whole: bool
) -> Document:
    """Read a file to its end, and judge what it tells."""
    made = ingesting.ingest_file(desk, caller, target_id, path, log, whole=whole)
    return _ingested(made, _paired(desk, desk.targets[target_id]))


def look(desk: Desk, target: Target) -> tuple[list[UsageIngested], Pairing]:
    """Read on every log of a target that is configured, and judge. What cannot be read holds up no other log."""
    made, trouble = list[UsageIngested](), None
    for log in ingesting.settings_for(target).logs:
        try:
            made += ingesting.read_log(desk, CONTROLLER, target, log)
        except Exception as error:  # noqa: BLE001  raised once the others were read
            trouble = error
    found = _paired(desk, target)
    if trouble is not None:
        raise trouble
    return made, found


def _paired(desk: Desk, target: Target) -> Pairing:
    with turn(desk, target.id):
        return pair(desk, CONTROLLER, target)


def _ingested(made: list[UsageIngested], found: Pairing) -> Document:
    return {
        "items": [_batch(each) for each in made], "verdicts": found.verdicts, "findings": list(found.raised),
        "tickets": list(found.tickets),
    }  # fmt: skip


def period(begins: str, ends: str) -> Interval:
    """A period that somebody says a log covers. Raises `Invalid`."""
    found = Interval(wire(parse_instant(begins, "the beginning")), wire(parse_instant(ends, "the end")))
    if found.ends < found.begins:
        raise Invalid("the period ends before it begins", remedy="Say the earlier time first.")
    return found


# ── looking ──


def report(desk: Desk, caller: Caller, wanted: Wanted) -> Document:
    """What the logs of targets cover, how tickets were used, and what would have served. Of targets the caller may look into."""
    targets = _visible(desk, caller, wanted.target)
    found, more = _tickets(desk, targets, wanted)
    at = {ticket.id: ticket.terms.target for ticket in found}
    items = [
        each for each in judged(desk, found) if not wanted.judgements or each.judgement in wanted.judgements
    ]
    uses = SqlUses(desk.store.engine)
    listed = drifts.Wanted(target=wanted.target, types=tuple(sorted(OF_USE)))
    return {
        "targets": [_target(uses, target) for target in targets],
        "items": [_judged(each, at[each.ticket]) for each in items],
        "right_size": _suggestions(items, at),
        "findings": drifts.documents(desk, drifts.listed(desk, caller, listed)[0]),
        "next": more,
    }


def check(desk: Desk, caller: Caller, target_id: str) -> Document:
    """Whether what is kept of lines is what the ledger has the digests of."""
    target = inventories.visible_target(desk, caller, target_id)
    uses, altered, lines, batches = SqlUses(desk.store.engine), list[str](), 0, 0
    for recorded in desk.store.entries(STREAM + target.id):
        if isinstance(recorded.event, UsageIngested):
            count, said = uses.digest_of(recorded.event.batch)
            batches, lines = batches + 1, lines + count
            if said != recorded.event.digest:
                altered.append(recorded.event.batch)
    return {"target": target.id, "ok": not altered, "batches": batches, "lines": lines, "altered": altered}


def _visible(desk: Desk, caller: Caller, named: str | None) -> list[str]:
    if named is not None:
        return [inventories.visible_target(desk, caller, named).id]
    seen = []
    for name in sorted(desk.targets):
        try:
            seen.append(inventories.visible_target(desk, caller, name).id)
        except NotFound:
            continue
    return seen


def _tickets(desk: Desk, targets: list[str], wanted: Wanted) -> tuple[list[Ticket], str | None]:
    """Of these targets, newest first."""
    found = []
    for target in targets:
        chosen = Filter(
            statuses=GAVE,
            target=target,
            beneficiary=wanted.beneficiary,
            before=wanted.after,
            limit=wanted.limit + 1,
        )
        found += desk.views.tickets(chosen)
    found.sort(key=lambda ticket: ticket.id, reverse=True)
    page = found[: wanted.limit]
    return page, page[-1].id if len(found) > len(page) else None


def _target(uses: SqlUses, target: str) -> Document:
    return {
        "target": target, "logs": [_log(each) for each in uses.sources(target)], "verdicts": uses.verdicts(target),
        "rejected": msgspec.to_builtins(uses.rejected(target, SHOWN)),
    }  # fmt: skip


def _log(source: UseSource) -> Document:
    return {
        "source": source.source, "format": source.format,
        "covered": [{"begins": shortened(i.begins), "ends": shortened(i.ends)} for i in source.covered],
        "read_at": shortened(source.read_at or None), "lines": source.lines, "unparsable": source.unparsable,
        "ahead": source.ahead, "gaps": source.unseen,
    }  # fmt: skip


def _judged(each: Judged, target: str) -> Document:
    return {
        "ticket": each.ticket, "target": target, "beneficiary": each.beneficiary, "account": each.account,
        "judgement": each.judgement, "covered": each.covered, "granted": msgspec.to_builtins(each.granted),
        "used": msgspec.to_builtins(each.used), "unused": msgspec.to_builtins(each.unused), "events": each.events,
        "unnamed": each.unnamed, "first_at": shortened(each.first_at), "last_at": shortened(each.last_at),
        "starts_at": shortened(each.starts_at), "ends_at": shortened(each.ends_at),
        "needed": None if each.needed is None else iso_duration(timedelta(seconds=-(-each.needed // timedelta(seconds=1)))),
    }  # fmt: skip


def _suggestions(items: list[Judged], at: dict[str, str]) -> list[Document]:
    """For each account that asked for more than served, what would have."""
    by: dict[tuple[str, str, str], list[Judged]] = {}
    for each in items:
        by.setdefault((at[each.ticket], each.account, each.beneficiary), []).append(each)
    found = []
    for (target, account, beneficiary), past in by.items():
        wanted = tuple(sorted({p for each in past for p in each.granted}, key=str))
        said = right_size_document(right_size(past, wanted))
        if said is not None:
            found.append({"target": target, "account": account, "beneficiary": beneficiary, **said})
    return found


def _batch(event: UsageIngested) -> Document:
    made: Document = msgspec.to_builtins(event)
    return made | {"covers_from": shortened(event.covers_from), "covers_to": shortened(event.covers_to)}
