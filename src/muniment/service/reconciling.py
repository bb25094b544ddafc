"""What targets hold beside what tickets and the baseline say: one run over one target.

1. tickets that are live on it are read from their entries
2. the target's inventory is taken (`inventories`)
3. tickets that changed meanwhile are read again: neither what they give nor what they no longer give is called wrong
4. all of it is compared (`reconcile.comparing`)
5. findings that are new are raised, and those that are over resolved, each in a stream of its own

Nothing is adopted by a run: what nothing explains stays a finding until a ticket, the baseline or an exception, which
take two people, explains it, or it is gone. A crash between two steps leaves findings that the next run raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from muniment.core import drift as d
from muniment.core import reconciling as r
from muniment.core.drift import CLASSES, Drift, Observed
from muniment.core.errors import Conflict, MunimentError
from muniment.core.events import Event, ReconciliationMade
from muniment.core.instants import parse_instant, wire
from muniment.core.inventory import Item
from muniment.core.ticket import ENDS, LIVE, Ticket
from muniment.ports import Actor, Append, Stream, Target
from muniment.reconcile.baseline import Declared, parse
from muniment.reconcile.comparing import Compared, Row, compare, expected_table, held_table
from muniment.service import inventories
from muniment.service.desk import Caller, Desk, append_beside
from muniment.service.documents import Document
from muniment.service.filing import account_of
from muniment.service.inventories import Inventory
from muniment.store.findings import SqlFindings
from muniment.store.inventories import SqlInventories
from muniment.store.projecting import DRIFT
from muniment.store.views import PAGE, Filter

#: every target has a stream of its own
STREAM = "reconciliation:"
#: findings that one run raises, the worst first; more are raised by the next
MOST = 5000
#: how long an entry may take from its instant to its commit
MARGIN = timedelta(seconds=10)
#: findings in one commit
CHUNK = 200


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to."""

    made: ReconciliationMade
    inventory: Inventory
    inherited: dict[str, int]  # what accounts have through other privileges, by class
    findings: tuple[Drift, ...]  # of the target, that are not over; accepted ones too
    raised: tuple[str, ...]
    resolved: tuple[str, ...]


def reconcile_for(desk: Desk, caller: Caller, target_id: str) -> Run:
    """As `reconcile`, for operators and owners of the target."""
    target = inventories.visible_target(desk, caller, target_id)
    inventories.require_steward(desk, caller, target)
    return reconcile(desk, caller.actor, target)


def reconcile(desk: Desk, actor: Actor, target: Target) -> Run:
    """Compare a target with tickets, baseline and exceptions, and put on record what is wrong.

    Raises:
        TargetUnavailable: it did not answer; nothing is recorded.
        Misconfigured: DuckDB is not installed, or the baseline cannot be used.
    """
    declared = declared_on(desk, target.id)
    separate = target.connector.capabilities.separate
    mark, began = desk.store.last_entry(), desk.clock.now()
    before = dict(_live(desk, target.id))
    earlier = _last_complete(desk, target.id)
    reading = inventories.take(desk, actor, target)
    after = _changed(desk, target.id, mark, began, before)
    now = desk.clock.now()

    def steady(ticket: Ticket) -> bool:
        over = ticket.expiry is None or ticket.expiry <= now
        return ticket.status == "active" and ticket.id not in after and ticket.read_back and not over

    tickets, kept = {**before, **after}.values(), desk.campaigns.rulings().kept
    world = _world(desk, target, declared, now)
    expected = r.first_of(
        r.tickets_expect(tickets, steady, separate=separate),
        _declared(declared, now, lambda each: _note(desk, each, world, now, kept.get(each.digest, now))),
    )
    items = reading.items
    busy = {ticket.terms.account for ticket in after.values()}
    complete = reading.inventory.taken.complete
    found, counts = _judge(items, expected, world, earlier, separate=separate, complete=complete, busy=busy)

    def class_of(item: Item) -> d.Class | None:
        by = _explaining(expected, item, separate=separate)
        return by.klass if by else None

    made, raised, resolved = _record(
        desk, actor, reading.inventory, found, counts, complete=complete, items=items
    )
    standing = {
        name: each
        for name, each in SqlFindings(desk.store.engine).unresolved(target.id).items()
        if not each.of_use
    }
    return Run(
        made=made, inventory=reading.inventory, inherited={str(name): count for name, count in r.inherited(items, class_of).items()},
        findings=tuple(standing.values()), raised=raised, resolved=resolved,
    )  # fmt: skip


def explained(desk: Desk, target: Target, items: Sequence[Item]) -> list[r.Expected | None]:
    """What explains each of these holdings now, without comparing the whole target."""
    accounts = {(target.id, item.account) for item in items}
    tickets = [ticket for found in desk.store.sharing(accounts).values() for ticket in found]
    return _explained(desk, target, items, tickets)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a target was last seen to hold in full, what explains each of it, and what is declared there."""

    inventory: Inventory
    items: tuple[tuple[Item, r.Expected | None], ...]
    declared: tuple[Declared, ...]  # that counts now
    kept: Mapping[str, datetime]  # of its lines, until when a campaign keeps them
    world: r.World


def standing(desk: Desk, target: Target) -> Standing | None:
    """As the last complete inventory has it; None if there is none whose lines are kept."""
    inventory, now = _complete(desk, target.id), desk.clock.now()
    if inventory is None:
        return None
    items = list(inventories.items_of(desk, inventory))
    by = _explained(desk, target, items, (ticket for _, ticket in _live(desk, target.id)))
    declared = declared_on(desk, target.id)
    return Standing(
        inventory=inventory, items=tuple(zip(items, by, strict=True)),
        declared=tuple(each for each in declared if each.kind == "standing" or each.until > now),
        kept=desk.campaigns.rulings().kept, world=_world(desk, target, declared, now),
    )  # fmt: skip


def declared_on(desk: Desk, target: str) -> list[Declared]:
    """What two people declared to stand there, but for what a campaign revoked since."""
    revoked = desk.campaigns.rulings().revoked
    return [each for each in parse(desk.baseline()) if each.target == target and each.digest not in revoked]


def _explained(
    desk: Desk, target: Target, items: Sequence[Item], tickets: Iterable[Ticket]
) -> list[r.Expected | None]:
    separate, now = target.connector.capabilities.separate, desk.clock.now()
    declared = declared_on(desk, target.id)
    expected = r.first_of(
        r.tickets_expect(tickets, lambda _: False, separate=separate),
        _declared(declared, now, lambda _: None),
    )
    return [_explaining(expected, item, separate=separate) for item in items]


def document(run: Run) -> Document:
    """One run, as scripts read it."""
    made: Document = msgspec.to_builtins(run.made)
    return made | {
        "began_at": run.inventory.taken.began_at.replace(".000000Z", "Z"),
        "holdings": run.inventory.taken.holdings, "inherited": run.inherited,
    }  # fmt: skip


# ── what there is to compare ──


def _live(desk: Desk, target: str) -> Iterator[tuple[str, Ticket]]:
    """Tickets that may give something there, from their entries."""
    wanted = Filter(statuses=tuple(sorted(LIVE)), target=target, limit=PAGE)
    names = desk.views.ids(wanted)
    while names:
        for _, ticket in desk.store.read_many(names).values():
            yield ticket.id, ticket
        names = desk.views.ids(msgspec.structs.replace(wanted, before=names[-1]))


def _changed(
    desk: Desk, target: str, mark: int, began: datetime, before: Mapping[str, Ticket]
) -> dict[str, Ticket]:
    """Those that changed since, and may have given something there since."""
    _, streams = desk.store.written_since(mark)
    found = desk.store.read_many([name for name in streams if name.startswith("req_")])

    def may(ticket: Ticket) -> bool:
        # one that began and has ended since was live in between
        begun = ticket.starts_at is not None and parse_instant(ticket.starts_at) >= began - MARGIN
        return ticket.id in before or ticket.status in LIVE or begun

    return {
        ticket.id: ticket
        for _, ticket in found.values()
        if ticket.terms.target == target and before.get(ticket.id) != ticket and may(ticket)
    }


def _last_complete(desk: Desk, target: str) -> list[Item] | None:
    """What the last complete inventory listed, if its lines are there and ours."""
    last = _complete(desk, target)
    return None if last is None else list(inventories.items_of(desk, last))


def _complete(desk: Desk, target: str) -> Inventory | None:
    kept = SqlInventories(desk.store.engine).kept(target)
    every = reversed(inventories.of_target(desk, target))
    return next((x for x in every if x.taken.complete and (x.id in kept or not x.taken.holdings)), None)


def _declared(
    declared: Sequence[Declared], now: datetime, note: Callable[[Declared], r.Note | None]
) -> Iterator[r.Expected]:
    """What the files explain; ``note``: what is wrong with it all the same."""
    for each in declared:
        if each.kind == "exception" and each.until <= now:
            continue
        yield r.Expected(
            key=(each.account, each.privilege, each.resource, each.nested, None),
            klass="baseline" if each.kind == "standing" else "excepted", reference=each.reference, must=True,
            note=note(each),
        )  # fmt: skip


def _note(desk: Desk, each: Declared, world: r.World, now: datetime, kept_until: datetime) -> r.Note | None:
    owner = desk.directory.get(each.owner)
    if owner is None or not owner.active:
        return r.Note(
            type="owner-gone",
            severity="high",
            message=f"{each.owner} answers for this, and is gone: {each.reference}",
        )
    holders = world.holders.get(each.account, ())
    if holders and not each.nested and not any(holder.active for holder in holders):
        return r.Note(
            type="owner-gone",
            severity="high",
            message=f"{holders[0].id} holds this, and is gone: {each.reference}",
        )
    if each.kind == "standing" and max(each.until, kept_until) <= now:
        return r.Note(
            type="overdue", severity="medium",
            message=f"{each.owner} had to look at this again by {each.until.date()}: {each.reference}",
        )  # fmt: skip
    return None


def _world(desk: Desk, target: Target, declared: Sequence[Declared], now: datetime) -> r.World:
    holders: dict[str, tuple[r.Holder, ...]] = {}
    for who in desk.directory.everybody():
        account = account_of(target, who.id)
        holders[account] = (*holders.get(account, ()), r.Holder(id=who.id, active=who.active))
    over: dict[r.Key, str] = {
        (each.account, each.privilege, each.resource, each.nested, None): each.reference
        for each in declared
        if each.kind == "exception" and each.until <= now
    }
    return r.World(
        target=target.id, risks={entry.privilege: entry.risk for entry in target.catalogue}, holders=holders,
        over=over, ended=_ended(desk),
    )  # fmt: skip


def _ended(desk: Desk) -> Callable[[str], bool]:
    def ended(ticket_id: str) -> bool:
        try:
            ticket = desk.store.read(ticket_id)[1]
        except MunimentError:
            return False
        return ticket is not None and ticket.status in ENDS

    return ended


# ── comparing ──


def _judge(
    items: Sequence[Item], expected: Mapping[r.Key, r.Expected], world: r.World, earlier: Sequence[Item] | None,
    *, separate: bool, complete: bool, busy: set[str],
) -> tuple[list[Observed], dict[str, int]]:  # fmt: skip
    """What is wrong, and how many holdings there are of each class."""
    wanted = list(expected.values())
    compared = _compare(items, wanted, separate=separate)
    gained = r.gains(items)
    givers: dict[r.Key, list[str | None]] = {}
    for item in earlier or ():
        givers.setdefault(r.key_of(item, separate=False), []).append(item.grantor)
    found = [r.unexplained(items[at], world, gained.get(items[at].account, 0)) for at in compared.unexplained]
    for held, by in compared.looked:
        if (seen := r.wrong(items[held], wanted[by], world)) is not None:
            found.append(seen)
        elif wanted[by].klass != "ticketed" and items[held].account not in busy:
            before = givers.get(r.key_of(items[held], separate=False), [])
            if before and items[held].grantor not in before:
                found.append(r.altered(items[held], wanted[by], before, world))
    if complete:
        found += [r.missing(wanted[at], world) for at in compared.missing]
    found += r.shared(items, world)
    return list({each.id: each for each in found}.values()), compared.counts


def _compare(items: Sequence[Item], wanted: Sequence[r.Expected], *, separate: bool) -> Compared:
    """Also what stands without a ticket is returned: it is compared with how it was."""
    held = (_row(r.key_of(item, separate=separate)) for item in items)
    expected = (
        (
            _row(each.key),
            CLASSES.index(each.klass),
            each.must,
            each.note is not None or each.klass != "ticketed",
        )
        for each in wanted
    )
    return compare(held_table(held), expected_table(expected))


def _row(key: r.Key) -> Row:
    account, privilege, *rest = key
    detail = None if rest == [None, False, None] else msgspec.json.encode(rest).decode()
    return Row(account=account, privilege=privilege, detail=detail)


def _explaining(expected: Mapping[r.Key, r.Expected], item: Item, *, separate: bool) -> r.Expected | None:
    return expected.get(r.key_of(item, separate=separate))


# ── putting it on record ──


def _record(
    desk: Desk, actor: Actor, inventory: Inventory, found: Sequence[Observed], counts: Mapping[str, int],
    *, complete: bool, items: Sequence[Item],
) -> tuple[ReconciliationMade, tuple[str, ...], tuple[str, ...]]:  # fmt: skip
    target, now = inventory.taken.target, desk.clock.now()
    known = {
        name: each
        for name, each in SqlFindings(desk.store.engine).unresolved(target).items()
        if not each.of_use
    }
    worst = sorted(found, key=lambda each: (d.SEVERITIES.index(each.severity), each.id))
    new = [each for each in worst if each.id not in known or not known[each.id].stands(now)][:MOST]
    raised = append_findings(
        desk, actor, now, {each.id: each for each in new},
        lambda each, drift: d.raise_(each, drift, inventory.id, desk.sla[each.severity], now),
    )  # fmt: skip
    resolved: tuple[str, ...] = ()
    if complete:  # else what is not seen may be there all the same
        seen, held = {each.id for each in found}, {r.key_of(item, separate=False) for item in items}
        there = set(items)
        over = {
            name: drift
            for name, drift in known.items()
            if name not in seen
            and not (drift.type == "altered" and drift.item in there and drift.stands(now))
        }
        resolved = append_findings(
            desk, actor, now, over,
            lambda each, drift: d.resolve(
                drift,
                "covered" if r.key_of(each.item, separate=False) in held and each.type != "vanished" else "gone",
                inventory.id,
            ) if drift is not None else (),  # a row without entries: somebody else's
        )  # fmt: skip
    made = ReconciliationMade(
        target=target, inventory=inventory.id, complete=complete, raised=len(raised), resolved=len(resolved),
        open=len(known.keys() | set(raised)) - len(resolved), **{name: counts[name] for name in CLASSES},
    )  # fmt: skip
    _made(desk, actor, made, now)
    return made, raised, resolved


def append_findings(
    desk: Desk, actor: Actor, now: datetime, wanted: Mapping[str, Any],
    make: Callable[[Any, Drift | None], tuple[Event, ...]],
) -> tuple[str, ...]:  # fmt: skip
    """Decide on each by its entries, and append; another node that was first is as good."""
    names, done = list(wanted), []
    for start in range(0, len(names), CHUNK):
        some = names[start : start + CHUNK]
        appends = []
        for name, (stream, drift) in read_drifts(desk, some).items():
            events = make(wanted[name], drift)
            if events:
                appends.append(appending(stream, drift, actor, events, now))
        for append, result in zip(appends, desk.store.append_many(appends), strict=True):
            if not isinstance(result, MunimentError):
                done.append(append.stream.id.removeprefix(DRIFT))
            elif not isinstance(result, Conflict):
                raise result
    return tuple(done)


def read_drift(desk: Desk, name: str) -> tuple[Stream, Drift | None]:
    """A finding from its entries, and where its stream stands."""
    return read_drifts(desk, [name])[name]


def read_drifts(desk: Desk, names: Sequence[str]) -> dict[str, tuple[Stream, Drift | None]]:
    """Findings from their entries, and where their streams stand."""
    found: dict[str, tuple[Stream, Drift | None]] = {
        name: (Stream(id=DRIFT + name, version=0, head=None), None) for name in names
    }
    for start in range(0, len(names), CHUNK):
        some = [DRIFT + name for name in names[start : start + CHUNK]]
        for name, (stream, recorded) in desk.store.whole(some).items():
            drift = d.replay((each.event, each.at, each.actor) for each in recorded)
            found[name.removeprefix(DRIFT)] = stream, drift
    return found


def appending(
    stream: Stream, drift: Drift | None, actor: Actor, events: tuple[Event, ...], now: datetime, **more: Any
) -> Append:
    """Events of a finding, ready to append."""
    after = drift
    for event in events:
        after = d.evolve(after, event, wire(now), actor.id)
    return Append(stream=stream, actor=actor, events=events, at=now, drift=after, **more)


def _made(desk: Desk, actor: Actor, made: ReconciliationMade, now: datetime) -> None:
    if not append_beside(desk, STREAM + made.target, actor, made, now):
        raise Conflict(f"{made.target} is reconciled all the time", remedy="Try again.")
