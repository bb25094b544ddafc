"""Findings of drift as people see and treat them: listed, assigned, explained, accepted for a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from muniment.core import drift as d
from muniment.core.drift import PREFIX, Drift, Status
from muniment.core.errors import Conflict, Invalid, NotFound
from muniment.core.events import Event, Severity
from muniment.core.identity import Identity, parse_identity
from muniment.core.instants import shortened
from muniment.core.text import Disclosure
from muniment.core.visibility import SEES_ALL
from muniment.ports import Stream, Target
from muniment.service.desk import ATTEMPTS, Caller, Desk
from muniment.service.documents import MISSING, Document
from muniment.service.filing import account_of
from muniment.service.inventories import require_steward
from muniment.service.reconciling import appending, read_drift
from muniment.store.findings import UNRESOLVED, SqlFindings


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which findings. Every field narrows; an empty one does not."""

    target: str | None = None
    types: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    statuses: tuple[Status, ...] = ()
    account: str | None = None
    assigned_to: str | None = None
    past_due: bool = False
    resolved: bool = False
    after: str = ""
    limit: int = 100


#: none of those that are over
ALL = Wanted()


def listed(desk: Desk, caller: Caller, wanted: Wanted) -> tuple[list[Drift], str | None]:
    """Those that the caller may see, by their names, and the name to go on after."""
    targets = _targets(desk, caller, wanted.target)
    if targets is not None and not targets:
        return [], None
    statuses = wanted.statuses or (("resolved",) if wanted.resolved else UNRESOLVED)
    findings, now = SqlFindings(desk.store.engine), desk.clock.now()
    found: list[Drift] = []
    after = wanted.after
    while page := findings.page(targets=targets, statuses=statuses, after=after):
        for drift in page:
            after = drift.id
            if _wanted(drift, wanted, now):
                if len(found) == wanted.limit:
                    return found, found[-1].id
                found.append(drift)
    return found, None


def shown(desk: Desk, caller: Caller, name: str) -> Document:
    """One of them, from its entries."""
    return document(desk, visible(desk, caller, name)[1])


def assign(desk: Desk, caller: Caller, name: str, to: str) -> Document:
    """Have somebody see to it."""
    who = parse_identity(to)
    return act(desk, caller, name, lambda drift: d.assign(drift, desk.directory.get(who), who))


def explain(desk: Desk, caller: Caller, name: str, explanation: str) -> Document:
    """Say how it came to be; also for whom it is assigned to."""
    text = desk.commit_text(explanation, "the explanation")
    return act(desk, caller, name, lambda drift: d.explain(drift, text.commitment), text, assigned=True)


def accept(desk: Desk, caller: Caller, name: str, until: datetime, reason: str) -> Document:
    """Let it be until then, as a second person."""
    text = desk.commit_text(reason, "the reason")

    def make(drift: Drift) -> tuple[Event, ...]:
        holders = _holders(desk, drift)
        return d.accept(
            drift, caller.identity, holders, until=until, reason=text.commitment, now=desk.clock.now()
        )

    return act(desk, caller, name, make, text)


def chosen(
    *, types: Iterable[str], severities: Iterable[str], statuses: Iterable[str], **more: Any
) -> Wanted:
    """What somebody typed, checked. Raises `Invalid`."""
    said = tuple(types), tuple(severities), tuple(statuses)
    for words, known, what in ((said[1], d.SEVERITIES, "severity"), (said[2], d.STATUSES, "status")):
        if unknown := set(words) - set(known):
            raise Invalid(
                f"there is no {what} {unknown.pop()!r:.40}", remedy=f"Known are {', '.join(known)}."
            )
    if more.get("assigned_to") is not None:
        more["assigned_to"] = parse_identity(more["assigned_to"])
    return Wanted(types=said[0], severities=said[1], statuses=said[2], **more)  # type: ignore[arg-type]  # checked above


def documents(desk: Desk, drifts: list[Drift]) -> list[Document]:
    """As scripts read them, with the texts that their commitments stand for."""
    texts = desk.views.texts(
        c for each in drifts for c in (each.explanation, each.acceptance, each.removal) if c
    )
    return [_document(each, texts, desk.clock.now()) for each in drifts]


def document(desk: Desk, drift: Drift) -> Document:
    """One of them."""
    return documents(desk, [drift])[0]


def _document(drift: Drift, texts: dict[str, str], now: datetime) -> Document:
    item = msgspec.to_builtins(drift.item)
    named = bool(drift.item.privilege)
    return {
        "id": drift.id, "ticket": drift.reference if (drift.reference or "").startswith("req_") else None,
        "target": drift.target, "type": drift.type, "severity": drift.severity, "message": drift.message,
        "scope": [{"privilege": drift.item.privilege, "resource": drift.item.resource}] if named else [],
        "status": drift.status, "holding": item, "unexplained": d.nothing_explains(drift), "reference": drift.reference, "inventory": drift.inventory,
        "raised_at": shortened(drift.raised_at), "due_at": shortened(drift.due_at), "past_due": drift.overdue(now), "line": drift.line or None,
        "assigned_to": drift.assigned_to, "explained_by": drift.explained_by,
        "explanation": texts.get(drift.explanation, MISSING) if drift.explanation else None,
        "accepted_by": drift.accepted_by, "accepted_until": shortened(drift.accepted_until),
        "acceptance": texts.get(drift.acceptance, MISSING) if drift.acceptance else None,
        "removal_by": drift.removal_by, "removal": texts.get(drift.removal, MISSING) if drift.removal else None,
        "resolved_at": shortened(drift.resolved_at), "outcome": drift.outcome,
        "resolved_by": "system:muniment" if drift.resolved_at else None,
    }  # fmt: skip


def _wanted(drift: Drift, wanted: Wanted, now: datetime) -> bool:
    return (
        (not wanted.types or drift.type in wanted.types)
        and (not wanted.severities or drift.severity in wanted.severities)
        and wanted.account in {None, drift.item.account}
        and wanted.assigned_to in {None, drift.assigned_to}
        and (not wanted.past_due or drift.overdue(now))
    )


def _targets(desk: Desk, caller: Caller, wanted: str | None) -> list[str] | None:
    """Of which targets the caller sees findings; None: of all."""
    if SEES_ALL & set(caller.identity.roles):
        return None if wanted is None else [wanted]
    own = [target.id for target in desk.targets.values() if desk.owns(target, caller.identity)]
    return [each for each in own if wanted in {None, each}]


def responsible(desk: Desk, caller: Caller, drift: Drift) -> Target:
    """The target of a finding, of which the caller is an owner, or an operator."""
    target = desk.targets.get(drift.target)
    if target is None:
        raise Invalid(f"the target {drift.target} is not in the configuration", remedy="Put it back first.")
    require_steward(desk, caller, target)
    return target


def act(
    desk: Desk,
    caller: Caller,
    name: str,
    make: Callable[[Drift], tuple[Event, ...]],
    *texts: Disclosure,
    assigned: bool = False,
) -> Document:
    """Decide by the finding's entries and append; decide again when another writer was first."""
    for _ in range(ATTEMPTS):
        stream, drift = visible(desk, caller, name)
        if not (assigned and drift.assigned_to in _names(caller.identity)):
            responsible(desk, caller, drift)
        events = make(drift)
        if not events:
            return shown(desk, caller, name)
        append = appending(stream, drift, caller.actor, events, desk.clock.now(), texts=texts)
        try:
            desk.store.append(append)
        except Conflict:
            continue
        return shown(desk, caller, name)
    raise Conflict(f"{name} is changed all the time", remedy="Try again.")


def visible(desk: Desk, caller: Caller, name: str) -> tuple[Stream, Drift]:
    """A finding that the caller may see, from its entries, and where its stream stands."""
    stream, drift = read_drift(desk, name if name.startswith(PREFIX) else "")
    mine = drift is not None and drift.assigned_to in _names(caller.identity)
    seen = _targets(desk, caller, None)
    if drift is None or not (mine or seen is None or drift.target in seen):
        raise NotFound(
            f"there is no finding {name!r:.60} that you may see", remedy="`muniment findings` lists them."
        )
    return stream, drift


def _names(who: Identity) -> set[str]:
    return {who.id, *who.aliases}


def _holders(desk: Desk, drift: Drift) -> frozenset[str]:
    """Whose account it is, by every name."""
    target = desk.targets.get(drift.target)
    if target is None:
        return frozenset()
    mine = (who for who in desk.directory.everybody() if account_of(target, who.id) == drift.item.account)
    return frozenset(name for who in mine for name in _names(who))
