"""Delegations: an approver hands their authority to another person for a period, or takes it back."""

from __future__ import annotations

from datetime import datetime, timedelta

from muniment.core.delegation import Delegation, delegate
from muniment.core.errors import Conflict, NotFound
from muniment.core.events import DelegationEnded, DelegationGiven, Event
from muniment.core.identity import parse_identity
from muniment.core.text import Disclosure
from muniment.ports import Append, Stream
from muniment.service.authority import STREAM
from muniment.service.desk import ATTEMPTS, Caller, Desk
from muniment.service.documents import Document
from muniment.service.ids import new_id


def give(
    desk: Desk,
    caller: Caller,
    *,
    to: str,
    until: datetime | None = None,
    length: timedelta | None = None,
    starts: datetime | None = None,
    reason: str,
) -> Delegation:
    """Let somebody decide on the caller's behalf, from ``starts`` (default: now) ``until`` then, or for so long.

    Raises:
        Refused, Invalid: they cannot, or the period cannot be meant; nothing was recorded.
    """
    now = desk.clock.now()
    begins = starts or now
    ends = until or max(begins, now) + (length or timedelta())
    text = desk.commit_text(reason, "the reason")
    given = delegate(
        new_id("dlg", now, desk.random.bytes(10)),
        caller.identity,
        desk.directory.get(parse_identity(to)),
        begins,
        ends,
        now,
    )
    event = DelegationGiven(delegation=given, reason=text.commitment)
    _record(desk, caller, Stream(id=STREAM + given.id, version=0, head=None), event, now, text)
    return given


def end(desk: Desk, caller: Caller, delegation: str) -> Delegation:
    """End a delegation before its time: for who gave it, who has it, and operators. Ending it twice is as good."""
    for _ in range(ATTEMPTS):
        found = desk.views.registered(STREAM + delegation).get(STREAM + delegation)
        if found is None:
            raise _none(delegation)
        stream, last = found
        given = last if isinstance(last, DelegationGiven) else _given(desk, stream.id)
        if not _may_end(given.delegation, caller):
            raise _none(delegation)
        if isinstance(last, DelegationEnded):
            return given.delegation
        try:
            _record(desk, caller, stream, DelegationEnded(delegation=delegation), desk.clock.now())
        except Conflict:
            continue
        return given.delegation
    raise Conflict(f"{delegation} is changed all the time", remedy="Try again.")


def listed(desk: Desk, caller: Caller) -> list[Document]:
    """Delegations that the caller gave or has, newest first; operators and auditors see all."""
    now, found = desk.clock.now(), []
    for stream, (_, last) in sorted(desk.views.registered(STREAM).items(), reverse=True):
        given = last if isinstance(last, DelegationGiven) else _given(desk, stream)
        if _may_see(given.delegation, caller):
            found.append(document(given.delegation, now, ended=isinstance(last, DelegationEnded)))
    return found


def document(delegation: Delegation, now: datetime, *, ended: bool = False) -> Document:
    """One delegation, as scripts read it."""
    return {
        "id": delegation.id,
        "by": delegation.by,
        "to": delegation.to,
        "starts_at": delegation.starts_at.replace(".000000Z", "Z"),
        "ends_at": delegation.ends_at.replace(".000000Z", "Z"),
        "in_force": not ended and delegation.covers(now),
        "ended": ended,
    }


def _may_see(delegation: Delegation, caller: Caller) -> bool:
    return _is_theirs(delegation, caller) or not {"operator", "auditor"}.isdisjoint(caller.identity.roles)


def _may_end(delegation: Delegation, caller: Caller) -> bool:
    """Theirs, or an operator; an auditor changes nothing of others."""
    roles = caller.identity.roles
    return _is_theirs(delegation, caller) or ("operator" in roles and "auditor" not in roles)


def _is_theirs(delegation: Delegation, caller: Caller) -> bool:
    who = caller.identity
    return not {who.id, *who.aliases}.isdisjoint((delegation.by, delegation.to))


def _given(desk: Desk, stream: str) -> DelegationGiven:
    first = desk.store.entries(stream)[0].event
    if not isinstance(first, DelegationGiven):
        raise _none(stream.removeprefix(STREAM))
    return first


def _record(
    desk: Desk, caller: Caller, stream: Stream, event: Event, now: datetime, *texts: Disclosure
) -> None:
    desk.store.append(Append(stream=stream, actor=caller.actor, events=(event,), at=now, texts=texts))


def _none(delegation: str) -> NotFound:
    return NotFound(
        f"there is no delegation {delegation!r:.60} of yours",
        remedy="`muniment delegation list` shows yours.",
    )
