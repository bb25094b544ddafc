"""Uses are paired with tickets and judged; what is wrong is raised, and what is right is the ticket's, on record.

1. uses that nobody judged yet, and every ticket that their accounts had, or that they name
2. all of them are joined (`usage.joining`); the baseline explains what no ticket does
3. findings that are new are raised, each with the line that proves it
4. each ticket's use: UseObserved in the ticket; in a stream beside it, if it has ended
5. the verdicts are kept with the lines

A crash between two steps leaves lines that are judged again, to the same end: findings have names, and of use only what is
more than on record is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from muniment.core import commands as c
from muniment.core import drift as d
from muniment.core.drift import Observed
from muniment.core.errors import Conflict, MunimentError, Refused
from muniment.core.events import LateUseObserved, Severity
from muniment.core.identity import is_human
from muniment.core.instants import parse_instant, shortened, wire
from muniment.core.inventory import Item
from muniment.core.scope import Privilege, Scope, scope
from muniment.core.ticket import Ticket
from muniment.core.use import Use, Verdict, ticket_in, window_of
from muniment.ports import Actor, Append, Stream, Target
from muniment.reconcile.baseline import parse
from muniment.service.desk import ATTEMPTS, Desk
from muniment.service.filing import account_of
from muniment.service.ingesting import STREAM, settings_for
from muniment.service.past_use import LATE, late_uses
from muniment.service.reconciling import append_findings
from muniment.settings.usage import UsageSettings
from muniment.store.findings import SqlFindings
from muniment.store.use_rows import digest, encoded
from muniment.store.uses import Pending, SqlUses
from muniment.usage.joining import GrantRow, UseRow, grants_table, join, uses_table

#: uses judged at once
PAGE = 50_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORSE: tuple[Severity, ...] = ("critical", "high", "medium", "low")


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """What judging came to."""

    verdicts: dict[str, int]
    raised: tuple[str, ...] = ()  # findings
    tickets: tuple[str, ...] = ()  # whose use is on record now


class Judged(NamedTuple):
    """One use, judged."""

    use: Use
    batch: str
    verdict: Verdict
    ticket: str | None


class Standing(NamedTuple):
    """What an account holds without a ticket, as declared."""

    what: Privilege
    until: datetime | None  # None: no end

    def explains(self, use: Use) -> bool:
        """Whether a use was of this, and before its end."""
        return use.what in {None, self.what} and (self.until is None or parse_instant(use.at) < self.until)


class People(NamedTuple):
    """Whose accounts there are on a target."""

    holders: Mapping[str, tuple[str, ...]]  # by account

    def machine(self, account: str) -> bool:
        """Whether an account is that of machines alone."""
        mine = self.holders.get(account, ())
        return bool(mine) and not any(map(is_human, mine))

    def person(self, account: str) -> bool:
        """Whether an account is somebody's who is a person."""
        return any(map(is_human, self.holders.get(account, ())))


def pair(desk: Desk, actor: Actor, target: Target) -> Pairing:
    """Judge what nobody judged yet. The caller has the target's turn (`ingesting.turn`)."""
    uses, verdicts = SqlUses(desk.store.engine), dict[str, int]()
    raised: list[str] = []
    tickets: list[str] = []
    after = ""
    while pending := uses.pending(target.id, PAGE, after):
        after = pending[-1].use.line
        judged, known = _judge(desk, target, pending, uses)
        for each in judged:
            verdicts[each.verdict] = verdicts.get(each.verdict, 0) + 1
        raised += _raise(desk, actor, target, judged, known)
        tickets += _record(desk, actor, judged, uses)
        uses.judge(target.id, ((j.use.line, j.verdict, j.ticket) for j in judged))
    _let_pass(desk, actor, target)
    return Pairing(verdicts=verdicts, raised=tuple(raised), tickets=tuple(dict.fromkeys(tickets)))


# ── judging ──


def _judge(
    desk: Desk, target: Target, pending: Sequence[Pending], uses: SqlUses
) -> tuple[list[Judged], dict[str, Ticket]]:
    """Those that can be judged now, with the tickets that they were held against."""
    settings = settings_for(target)
    accounts = {each.use.account for each in pending}
    named = {each.use.ticket for each in pending if each.use.ticket}
    known = uses.tickets(target.id, accounts, named)
    found = join(
        uses_table(_use_row(each.use, known) for each in pending),
        grants_table(row for ticket in known.values() for row in _grant_rows(ticket, settings.tolerance)),
    )
    standing = _standing(desk, target)
    judged = []
    for each, (verdict, ticket) in zip(pending, found, strict=True):
        if ticket is not None and known[ticket].status == "provisioning":
            continue  # what it gives is not seen yet: the next look judges it
        said = _verdict(each.use, verdict, settings, standing.get(each.use.account, ()))
        judged.append(
            Judged(each.use, each.batch, said, ticket if said in {"in-window", "outside"} else None)
        )
    return judged, known


def _standing(desk: Desk, target: Target) -> dict[str, list[Standing]]:
    """What the baseline has there, by account. A line that a campaign revoked explains use until that was signed."""
    revoked = desk.campaigns.rulings().revoked
    found: dict[str, list[Standing]] = {}
    for each in parse(desk.baseline()):
        if each.target == target.id and not each.nested:
            ends = [
                *([each.until] if each.kind == "exception" else []),
                *filter(None, [revoked.get(each.digest)]),
            ]
            what = Privilege(privilege=each.privilege, resource=each.resource)
            found.setdefault(each.account, []).append(Standing(what, min(ends, default=None)))
    return found


def _verdict(use: Use, paired: str, settings: UsageSettings, standing: Sequence[Standing]) -> Verdict:
    if paired == "in-window":
        return "in-window"
    governed = use.what is not None or use.ticket is not None or settings.every_line
    if not governed:
        return "ordinary"
    if use.ticket is None and any(each.explains(use) for each in standing):
        return "standing"
    return "outside" if paired == "outside" else "ungranted"


def _use_row(use: Use, known: Mapping[str, Ticket]) -> UseRow:
    named = use.ticket
    if named is not None and (ticket := known.get(named)) is not None:
        # a line in which somebody else has the ticket's name is not the ticket's
        mine = use.account == ticket.terms.account or ticket_in(use.account)[0] == named
        named = named if mine else f"{named} of another"
    return UseRow(ticket=named, key=_key(use.account, use.what), at=_micros(parse_instant(use.at)))


def _grant_rows(ticket: Ticket, tolerance: timedelta) -> Iterable[GrantRow]:
    """The ways to find a ticket by: its account, and that with each privilege."""
    window = window_of(ticket)
    if window is None:
        return
    begins, ends = _micros(window[0] - tolerance), _micros(window[1] + tolerance)
    account = ticket.terms.account
    for what in (None, *(ticket.granted or ticket.approved)):
        yield GrantRow(ticket=ticket.id, key=_key(account, what), begins=begins, ends=ends)


def _key(account: str, what: Privilege | None) -> str:
    """Names as they are kept have no NUL."""
    return account if what is None else f"{account}\0{what.privilege}\0{what.resource or ''}"


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


# ── what is wrong ──


def _raise(
    desk: Desk, actor: Actor, target: Target, judged: Sequence[Judged], known: Mapping[str, Ticket]
) -> tuple[str, ...]:
    people = People(_holders(desk, target))
    risks = {entry.privilege: entry.risk for entry in target.catalogue}
    found: dict[str, tuple[Observed, str]] = {}
    # the earliest line is the proof, whatever order they were read in
    for each in sorted(judged, key=lambda j: (j.use.at, j.use.line)):
        for seen in _wrong(target, each, known, people, risks):
            found.setdefault(seen.id, (seen, each.batch))
    now = desk.clock.now()
    return append_findings(
        desk, actor, now, found,
        lambda each, drift: d.raise_(each[0], drift, each[1], desk.sla[each[0].severity], now),
    )  # fmt: skip


def _wrong(
    target: Target,
    judged: Judged,
    known: Mapping[str, Ticket],
    people: People,
    risks: Mapping[Privilege, Severity],
) -> Iterable[Observed]:
    use, verdict, ticket_id = judged.use, judged.verdict, judged.ticket
    ticket = known.get(ticket_id) if ticket_id else None
    at, what = shortened(use.at), str(use.what) if use.what else (use.action or "something")
    worst: Severity = min(risks.get(use.what, "medium") if use.what else "medium", "high", key=_WORSE.index)
    item = Item(account=use.account, privilege=use.privilege or "", resource=use.resource)
    if verdict == "outside" and ticket is not None:
        yield Observed(
            target=target.id, type="used-outside", severity=worst, reference=ticket.id, explained=True, line=use.line,
            item=msgspec.structs.replace(item, ticket=ticket.id),
            message=f"{use.account} used {what} at {at}, {_beside(use, ticket)} ({use.place})",
        )  # fmt: skip
    elif verdict == "ungranted":
        named = (
            f", naming {use.ticket}, which is not its ticket"
            if use.ticket
            else ", and no ticket gave it that"
        )
        yield Observed(
            target=target.id, type="used-ungranted", severity=worst, reference=use.ticket, explained=True, line=use.line,
            item=item, message=f"{use.account} used {what} at {at}{named} ({use.place})",
        )  # fmt: skip
    machine, why = _person(use, ticket, people)
    if machine is not None:
        yield Observed(
            target=target.id, type="used-by-person", severity="high", reference=ticket_id, explained=True, line=use.line,
            item=Item(account=machine, privilege=""),
            message=f"a person used the account {machine}, which is a machine's, at {at}: {why} ({use.place})",
        )  # fmt: skip


def _person(use: Use, ticket: Ticket | None, people: People) -> tuple[str | None, str]:
    """The account of a machine that a person used, and what says so."""
    if use.becomes and people.machine(use.becomes) and not people.machine(use.account):
        return use.becomes, f"{use.account} did, by sudo"
    mine = people.machine(use.account) or (ticket is not None and not is_human(ticket.terms.beneficiary))
    if mine and use.by and people.person(use.by):
        return use.account, f"{use.by} did, under its name"
    if mine and use.person:
        return use.account, use.person
    return None, ""


def _beside(use: Use, ticket: Ticket) -> str:
    window = window_of(ticket)
    if window is None:
        return f"and {ticket.id} never gave it"
    begins, ends = (shortened(wire(each)) for each in window)
    if parse_instant(use.at) < window[0]:
        return f"before {ticket.id} gave it, from {begins} on"
    return f"after {ticket.id} gave it, until {ends}"


def _holders(desk: Desk, target: Target) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for who in desk.directory.everybody():
        account = account_of(target, who.id)
        found[account] = (*found.get(account, ()), who.id)
    return found


def _let_pass(desk: Desk, actor: Actor, target: Target) -> None:
    """What was accepted until a date, and did not happen again by then, is a thing of the past."""
    now = desk.clock.now()
    over = {
        name: drift
        for name, drift in SqlFindings(desk.store.engine).unresolved(target.id).items()
        if drift.of_use and drift.status == "accepted" and not drift.stands(now)
    }
    append_findings(
        desk, actor, now, over,
        lambda each, drift: d.resolve(drift, "past", each.inventory)
        if drift is not None and drift.status == "accepted" and not drift.stands(now) else (),
    )  # fmt: skip


# ── whose use it is ──


def _record(desk: Desk, actor: Actor, judged: Sequence[Judged], uses: SqlUses) -> list[str]:
    """Put each ticket's use on record, as far as it is not."""
    mine: dict[str, list[Use]] = {}
    for each in judged:
        if each.verdict == "in-window" and each.ticket is not None:
            mine.setdefault(each.ticket, []).append(each.use)
    before = uses.counted(mine)
    done = []
    for name, found in mine.items():
        total = len(found) + (before[name].events if name in before else 0)
        if _observe(desk, actor, name, found, total):
            done.append(name)
    return done


def _observe(desk: Desk, actor: Actor, name: str, found: Sequence[Use], total: int) -> bool:
    ordered = sorted(found, key=lambda use: use.line)
    said = {
        "digest": digest(map(encoded, ordered)), "first_at": min(use.at for use in found),
        "last_at": max(use.at for use in found), "privileges": scope(u.what for u in found if u.what),
    }  # fmt: skip
    for _ in range(ATTEMPTS):
        stream, ticket = desk.store.read(name)
        if ticket is None:
            return False
        late = late_uses(desk, [name]).get(name)
        more = total - (ticket.use.events if ticket.use else 0) - (late[1].events if late else 0)
        if more <= 0:
            return False
        try:
            if ticket.ended:
                _late(desk, actor, name, more, said, late)
                return True
            command = c.RecordUse(source=f"{STREAM}{ticket.terms.target}", events=more, **said)  # type: ignore[arg-type]
            append = desk.appending(ticket, (command,), desk.facts(ticket, None), stream)
            result = desk.store.append_many([append])[0]
            if isinstance(result, MunimentError):
                raise result
        except (Conflict, Refused):
            continue
        if append.ticket is not None:
            desk.tell(append.ticket, append.events)
        return True
    raise Conflict(f"{name} is changed all the time", remedy="Try again.")


def _late(  # noqa: PLR0917  as they are had
    desk: Desk,
    actor: Actor,
    name: str,
    more: int,
    said: Mapping[str, object],
    late: tuple[Stream, LateUseObserved] | None,
) -> None:
    first, last, privileges = str(said["first_at"]), str(said["last_at"]), _scope(said["privileges"])
    known = late[1] if late else None
    event = LateUseObserved(
        ticket=name, digest=str(said["digest"]), events=more + (known.events if known else 0),
        first_at=min(first, known.first_at) if known else first, last_at=max(last, known.last_at) if known else last,
        privileges=scope((*privileges, *known.privileges)) if known else privileges,
    )  # fmt: skip
    stream = late[0] if late else Stream(id=LATE + name, version=0, head=None)
    desk.store.append(Append(stream=stream, actor=actor, events=(event,), at=desk.clock.now()))


def _scope(found: object) -> Scope:
    return msgspec.convert(found, Scope)
