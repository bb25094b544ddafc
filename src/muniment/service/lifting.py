"""Lift a disablement that signals made, where its transmitter does not: one operator proposes, another person agrees.

Whoever is disabled approves nothing, so lifting it can make an approver, which takes two people like every change of who
approves (I9). A new signal voids what was proposed before it. What was ended stays ended.

    propose ──LiftProposed──> lift, by somebody else ──DisablementLifted──> the rows of `signals` are removed

A crash between the last two leaves the person disabled; it is lifted again, by two people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from muniment.core.errors import NotFound, Refused
from muniment.core.events import DisablementLifted, LiftProposed
from muniment.core.identity import IdentityId, is_human, parse_identity
from muniment.core.instants import wire
from muniment.core.ticket import Recorded
from muniment.directory.provisioned import DISABLED, Disabled
from muniment.ports import Append, Provisioned, Stream
from muniment.service.changes import has_say, same_person
from muniment.service.desk import Caller, Desk
from muniment.service.documents import ERASED, Document
from muniment.service.standing import current
from muniment.store.provisioned import SqlProvisioned

STREAM = "lift:"


def listed(desk: Desk, caller: Caller) -> list[Document]:
    """Whom signals disabled, and whether somebody proposed to lift it. For operators, auditors and who may agree."""
    if not ({"operator", "auditor"} & set(caller.identity.roles) or has_say(desk, caller.identity)):
        raise Refused(
            f"{caller.identity.id} may not see who is disabled",
            remedy="Operators and auditors may.",
            code="refused.not-an-operator",
        )
    return [_document(desk, who, rows) for who, rows in sorted(_disabled(desk).items())]


def lift(desk: Desk, caller: Caller, identity: str, reason: str) -> Document:
    """Propose it, or agree to what somebody else proposed.

    Raises:
        NotFound: no signal disabled them, or it was lifted.
        Refused: the caller may neither propose nor agree, or proposed it.
    """
    found = desk.directory.get(parse_identity(identity))
    rows = _disabled(desk).get(found.id if found else "", ())
    if found is None or not rows:
        raise NotFound(
            f"no signal disabled {identity:.80}",
            remedy="`muniment disablement list` shows whom signals disabled.",
        )
    who, text = caller.identity, desk.commit_text(reason, "the reason")
    if not is_human(who.id) or {who.id, *who.aliases} & {found.id, *found.aliases}:
        raise Refused(
            f"{who.id} cannot lift the disablement of {found.id}",
            remedy="Ask an operator who is somebody else.",
            code="refused.self-approval",
        )
    stream, proposed = _proposed(desk, found.id, rows)
    issuers = tuple(sorted(_issuers(rows)))
    event: LiftProposed | DisablementLifted
    if _alone(desk) or (proposed and not same_person(desk, proposed.actor, who)):
        _require_say(desk, caller)
        event = DisablementLifted(
            identity=found.id, issuers=issuers, proposed_by=proposed.actor if proposed else msgspec.UNSET
        )
    elif "operator" not in who.roles:
        raise Refused(
            f"{who.id} is not an operator, and only operators propose to lift a disablement",
            remedy="Ask an operator to propose it.",
            code="refused.not-an-operator",
        )
    elif proposed:
        raise Refused(
            f"{who.id} proposed it, and somebody else must agree",
            remedy="Ask another operator, or one of [policy] approvers.",
            code="refused.self-approval",
        )
    else:
        event = LiftProposed(identity=found.id, issuers=issuers, reason=text.commitment)
    texts = (text,) if isinstance(event, LiftProposed) else ()
    now = desk.clock.now()
    desk.store.append(Append(stream=stream, actor=caller.actor, events=(event,), at=now, texts=texts))
    if isinstance(event, DisablementLifted):
        provisioned = _rows(desk)
        for row in rows:
            provisioned.remove(row, now)
        desk.directory.reload_if_changed()
        return {
            "identity": found.id, "status": "lifted", "issuers": list(issuers),
            "since": wire(min(row.created_at for row in rows)),
            "proposed_by": proposed.actor if proposed else None, "proposed_at": proposed.at if proposed else None,
            "reason": None,
        }  # fmt: skip
    return _document(desk, found.id, rows)


def _alone(desk: Desk) -> bool:
    """Whether one person lifts it: in a trial of a ledger that was never run otherwise, as V4 judges it by the record."""
    return desk.governed is None and current(desk.store).settings is None


def _document(desk: Desk, who: IdentityId, rows: Sequence[Provisioned]) -> Document:
    _, proposed = _proposed(desk, who, rows)
    reason = None
    if proposed and isinstance(proposed.event, LiftProposed):
        reason = desk.views.texts([proposed.event.reason]).get(proposed.event.reason, ERASED)
    return {
        "identity": who, "status": "proposed" if proposed else "disabled", "issuers": sorted(_issuers(rows)),
        "since": wire(min(row.created_at for row in rows)), "proposed_by": proposed.actor if proposed else None,
        "proposed_at": proposed.at if proposed else None, "reason": reason,
    }  # fmt: skip


def _proposed(desk: Desk, who: IdentityId, rows: Sequence[Provisioned]) -> tuple[Stream, Recorded | None]:
    """What an active operator proposed after the newest signal, and nobody agreed to yet; and where the stream stands."""
    name = STREAM + who
    if name not in (found := desk.store.whole([name])):
        return Stream(id=name, version=0, head=None), None
    stream, entries = found[name]
    last = entries[-1]
    if not isinstance(last.event, LiftProposed):
        return stream, None
    proposer = desk.directory.get(last.actor)
    sound = proposer is not None and proposer.active and "operator" in proposer.roles
    newest = wire(max(row.created_at for row in rows))
    covered = set(last.event.issuers) == set(_issuers(rows))
    return stream, last if sound and covered and last.at > newest else None


def _require_say(desk: Desk, caller: Caller) -> None:
    if not has_say(desk, caller.identity):
        raise Refused(
            f"{caller.identity.id} has no say in this",
            remedy="Operators, and those of [policy] approvers, agree to it.",
            code="refused.not-an-approver",
        )


def _disabled(desk: Desk) -> Mapping[IdentityId, tuple[Provisioned, ...]]:
    """The rows, by whom they disable."""
    found: dict[IdentityId, tuple[Provisioned, ...]] = {}
    for row in _rows(desk).of(DISABLED):
        who = msgspec.json.decode(row.body, type=Disabled).identity
        found[who] = (*found.get(who, ()), row)
    return found


def _issuers(rows: Sequence[Provisioned]) -> set[str]:
    return {msgspec.json.decode(row.body, type=Disabled).issuer for row in rows}


def _rows(desk: Desk) -> SqlProvisioned:
    return SqlProvisioned(desk.store.engine, desk.store.marker)
