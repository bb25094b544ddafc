"""What Cedar is told: one question each, and the small slice of entities all of them rest on.

The slice holds the principals, their owners, the target, its privileges or the request, and nothing else. It is what
gets recorded, so it is made once, in one order, of JSON that the ledger can hold. Names are data: they enter as JSON
strings, never as policy text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from muniment.core.identity import Identity, IdentityId, Kind, is_human, kind_of
from muniment.core.scope import Privilege
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.ports import CatalogueEntry, Subject, Target

Entity: TypeAlias = dict[str, Any]
Ref: TypeAlias = dict[str, str]

_TYPES: dict[Kind, str] = {
    "human": "Human",
    "service_account": "ServiceAccount",
    "workload": "Workload",
    "ai_agent": "AiAgent",
}
_KINDS = {name: kind for kind, name in _TYPES.items()}
_quote = json.JSONEncoder(ensure_ascii=False).encode
_ANY_UID: Ref = {"type": "Request", "id": "any"}
_ANY = 'Request::"any"'
_RISKS = ("low", "medium", "high", "critical")


class Question(NamedTuple):
    """One question to the engine, as `Evaluation` records it."""

    principal: str
    action: str
    resource: str
    context: dict[str, Any]


def write_uid(uid: Ref) -> str:
    """As Cedar writes it: ``Human::"ann@example.com"``."""
    return f"{uid['type']}::{_quote(uid['id'])}"


def read_uid(text: str) -> Ref:
    """What `write_uid` wrote."""
    kind, _, name = text.partition("::")
    return {"type": kind, "id": json.loads(name)}


def identity_uid(identity: IdentityId) -> Ref:
    """The entity that an identity is."""
    kind = kind_of(identity)
    return {"type": _TYPES[kind], "id": identity[len(kind) + 1 :]}


def identity_of(uid: Ref) -> IdentityId:
    """The identity that an entity is."""
    return f"{_KINDS[uid['type']]}:{uid['id']}"


def privilege_uid(target: str, what: Privilege) -> Ref:
    """The entity that a privilege on a target is. Two privileges never share one, whatever their names hold."""
    parts = [target, what.privilege] + ([] if what.resource is None else [what.resource])
    return {"type": "Privilege", "id": "/".join(p.replace("%", "%25").replace("/", "%2F") for p in parts)}


def answering_for(subject: Subject) -> tuple[IdentityId, ...]:
    """A person, or the people accountable for a machine or an agent, nearest first."""
    identity = subject.identity
    if is_human(identity.id):
        return (identity.id,)
    return tuple(dict.fromkeys(o for o in (*identity.owners, *(o.id for o in subject.owners)) if is_human(o)))


def relation(requester: Subject, beneficiary: Subject) -> str:
    """How the requester stands to the beneficiary: self, owner of it, owned by it, or other."""
    asks, gets = requester.identity, beneficiary.identity
    if asks.id == gets.id:
        return "self"
    if asks.id in (*gets.owners, *(o.id for o in beneficiary.owners)):
        return "owner"
    if gets.id in (*asks.owners, *(o.id for o in requester.owners)):
        return "owned"
    return "other"


def parts(requester: Subject, beneficiary: Subject) -> list[tuple[str, Subject]]:
    """Everybody who must be permitted, and as what.

    Whoever is not a person has no more than a person who answers for it (I38): unless such a person asks, the nearest
    active one is judged as well, as "owner".
    """
    same = requester.identity.id == beneficiary.identity.id
    found = [("both", beneficiary)] if same else [("requester", requester), ("beneficiary", beneficiary)]
    owners: dict[IdentityId, Subject] = {}
    for subject in (requester, beneficiary):
        if is_human(subject.identity.id) or requester.identity.id in answering_for(subject):
            continue
        owner = next((o for o in subject.owners if o.active and is_human(o.id)), None)
        if owner is not None:
            owners[owner.id] = Subject(identity=owner, managers=subject.managers)
    known = {subject.identity.id for _, subject in found}
    return found + [("owner", owner) for ident, owner in owners.items() if ident not in known]


def minutes(terms: Terms) -> int:
    """The duration in minutes, rounded up: nobody gets a second more than a policy's number says."""
    return -(-terms.duration // 60)


def request_slice(
    terms: Terms,
    requester: Subject,
    beneficiary: Subject,
    target: Target,
    entries: Mapping[Privilege, CatalogueEntry],
) -> tuple[list[Question], list[Entity]]:
    """The questions of one request, privilege by privilege, and their slice. ``entries`` has every privilege."""
    people = parts(requester, beneficiary)
    asked = {
        "minutes": minutes(terms), "break_glass": terms.kind == "break_glass", "has_start": terms.starts_at is not None,
        "requester": terms.requester, "beneficiary": terms.beneficiary, "relation": relation(requester, beneficiary),
        "account": terms.account, "references": sorted(terms.references),
    }  # fmt: skip
    questions = [
        Question(
            write_uid(identity_uid(subject.identity.id)),
            "request",
            write_uid(privilege_uid(target.id, what)),
            {**asked, "part": part},
        )
        for what in terms.scope
        for part, subject in people
    ]
    entities = [_target(target)]
    entities += [_privilege(target.id, entries[what]) for what in terms.scope]
    for _, subject in people:
        entities += _subject(subject)
    return questions, _sorted(entities)


def approval_slice(
    ticket: Ticket,
    approver: Subject,
    requester: Subject,
    beneficiary: Subject,
    target: Target,
    *,
    stages: tuple[str, ...],
) -> tuple[list[Question], list[Entity]]:
    """One question for each stage that the approver is in, and their slice."""
    terms = ticket.terms
    entries = catalogued(target, terms.scope)
    risks = [entries[p].risk if p in entries else "critical" for p in terms.scope]
    request = {
        "uid": {"type": "Request", "id": ticket.id},
        "attrs": {
            "requester": terms.requester, "beneficiary": terms.beneficiary,
            "requesters": [identity_uid(i) for i in sorted(answering_for(requester))],
            "beneficiaries": [identity_uid(i) for i in sorted(answering_for(beneficiary))],
            "break_glass": terms.kind == "break_glass", "minutes": minutes(terms),
            "references": sorted(terms.references),
            "risk": max(risks, key=_RISKS.index, default="critical"),
            "target": {"type": "Target", "id": target.id},
        },
        "parents": [{"type": "Target", "id": target.id}],
    }  # fmt: skip
    principal, resource = write_uid(identity_uid(approver.identity.id)), write_uid(request["uid"])  # type: ignore[arg-type]  # the dict is ours
    questions = [
        Question(principal, "approve", resource, {"stage": stage, "stages": list(stages)}) for stage in stages
    ]
    return questions, _sorted([_target(target), request, *_subject(approver)])


def anonymous(
    questions: Iterable[Question], entities: Iterable[Entity]
) -> tuple[list[Question], list[Entity]]:
    """What `approval_slice` made, without which request it is."""
    return (
        [question._replace(resource=_ANY) for question in questions],
        [{**e, "uid": _ANY_UID} if e["uid"]["type"] == "Request" else e for e in entities],
    )


def catalogued(target: Target, wanted: Iterable[Privilege]) -> dict[Privilege, CatalogueEntry]:
    """The entry of each wanted privilege that is in the catalogue, exactly as it stands there."""
    catalogue: dict[Privilege, CatalogueEntry] = {entry.privilege: entry for entry in target.catalogue}
    return {what: catalogue[what] for what in wanted if what in catalogue}


def _subject(subject: Subject) -> list[Entity]:
    identity = subject.identity
    if is_human(identity.id):
        return [_human(identity, subject)]
    people = answering_for(subject)
    attrs = {
        "owner": identity_uid(people[0]),
        "owners": [identity_uid(p) for p in sorted(people)],
        "roles": sorted(identity.roles),
    }
    machine = {"uid": identity_uid(identity.id), "attrs": attrs, "parents": _groups(identity)}
    return [machine, *(_human(owner, subject) for owner in subject.owners if is_human(owner.id))]


def _human(identity: Identity, subject: Subject) -> Entity:
    attrs: Entity = {"roles": sorted(identity.roles)}
    if identity.manager is not None:
        attrs["manager"] = identity_uid(identity.manager)
    if above := subject.managers.get(identity.id):
        attrs["managers"] = [identity_uid(m) for m in sorted(above)]
    return {"uid": identity_uid(identity.id), "attrs": attrs, "parents": _groups(identity)}


def _groups(identity: Identity) -> list[Ref]:
    return [{"type": "Group", "id": group} for group in sorted(set(identity.groups))]


def _target(target: Target) -> Entity:
    capabilities = getattr(target.connector, "capabilities", None)
    attrs: Entity = {
        "kind": target.kind, "environment": target.environment, "owners": sorted(set(target.owners)),
        "native_expiry": bool(getattr(capabilities, "native_expiry", False)),
        "ends_sessions": bool(getattr(capabilities, "ends_sessions", False)),
    }  # fmt: skip
    if target.longest is not None:
        attrs["longest"] = int(target.longest.total_seconds())
    uid = {"type": "Target", "id": target.id}
    return {"uid": uid, "attrs": attrs, "parents": [{"type": "Environment", "id": target.environment}]}


def _privilege(target: str, entry: CatalogueEntry) -> Entity:
    uid, what = {"type": "Target", "id": target}, entry.privilege
    attrs: Entity = {"name": what.privilege, "risk": entry.risk, "bounded": entry.bounded, "target": uid}
    if entry.owners:
        attrs["owners"] = sorted(set(entry.owners))
    if what.resource is not None:
        attrs["resource"] = what.resource
    return {"uid": privilege_uid(target, what), "attrs": attrs, "parents": [uid]}


def _sorted(entities: Iterable[Entity]) -> list[Entity]:
    """Each entity once. Two that differ under one uid both stay, and Cedar refuses them."""
    found: dict[tuple[str, str], list[Entity]] = {}
    for entity in entities:
        same = found.setdefault((entity["uid"]["type"], entity["uid"]["id"]), [])
        if entity not in same:
            same.append(entity)
    return [entity for _, same in sorted(found.items()) for entity in same]
