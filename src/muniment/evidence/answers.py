"""What rules of the domain ask again and again: who has a stake, who is still to approve, what policy was asked.

Policy's questions and answers are in the entries as the engine wrote them (`policy.slices`). Read here without the
engine: that they are about these terms, and that every one of them is a yes. That the engine would answer so again is
for `policy.replay`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from muniment.core import events as e
from muniment.core.identity import is_human
from muniment.core.scope import Privilege
from muniment.core.separation import excluded
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.core.verdict import Evaluation


def stake(t: Ticket, who: str, does: str) -> str | None:
    """A person, with no stake in the ticket."""
    if not is_human(who):
        return f"{who} {does}, and is not a person"
    if who in excluded(t):
        return f"{who} {does}, and is its requester, its beneficiary or accountable for them"
    if t.terms.responders and who in t.terms.responders:
        return f"{who} {does}, and is a responder of its incident"
    return None


def missing_approval(t: Ticket) -> str | None:
    """The first stage that has not its people; each counts once, and only a yes counts."""
    for stage in t.stages if t.terms.kind != "break_glass" else ():  # whose approvals come afterwards
        people = {d.approver for d in t.decisions if d.stage == stage.name and d.decision == "approve"}
        if stage.consent is True and t.terms.requester in stage.approvers:  # asking is agreeing
            people.add(t.terms.requester)
        if len(people) < stage.needed:
            return f"stage {stage.name} needs {stage.needed} approvals and has {len(people)}"
    return None


def outside(approvers: tuple[str, ...], event: e.ApprovalRecorded | e.CounterOffered, who: str) -> bool:
    """Not in any of the stage's groups, as recorded, nor named by it; by an alias, other streams may know."""
    if who in approvers:
        return False
    uid = _person(who)
    groups = {
        f"group:{parent['id']}"
        for entity in event.entities
        if entity.get("uid") == uid
        for parent in entity.get("parents", ())
    }
    return groups.isdisjoint(approvers)


def misasked(t: Ticket, event: e.PolicyDecided | e.ProvisioningStarted) -> str | None:
    """Policy said yes, to exactly these privileges for exactly these people."""
    terms, answers = t.terms, event.evaluations
    wanted = {_privilege(terms.target, what) for what in terms.scope}
    if {a.resource for a in answers} != wanted:
        return "policy was asked about other privileges than the terms name"

    def permitted(who: str) -> bool:
        mine = [a for a in answers if a.principal == _quoted(who)]
        return {a.resource for a in mine} == wanted and all(allows(a, "request", who) for a in mine)

    people = {terms.requester, terms.beneficiary}
    for each in people:
        if not permitted(each):
            return f"policy did not permit all of it for {each}"
    for machine in (each for each in people if not is_human(each)):
        if not any(is_human(o) and permitted(o) for o in _answering(t, machine, event)):
            return "policy did not permit it for a person who answers for the machine or agent"
    return next(filter(None, (_misquoted(terms, answer.context) for answer in answers)), None)


def _misquoted(terms: Terms, context: dict[str, Any]) -> str | None:
    if (context.get("requester"), context.get("beneficiary")) != (terms.requester, terms.beneficiary):
        return "policy was asked about other people than the terms name"
    if context.get("minutes") != -(-terms.duration // 60) or context.get("account") != terms.account:
        return "policy was asked about another duration or account than the terms name"
    if context.get("break_glass") is not (terms.kind == "break_glass"):
        return "policy was asked about another kind of request than the terms are"
    if context.get("references") != sorted(terms.references):
        return "policy was asked about other references than the terms give"
    return None


def _answering(t: Ticket, machine: str, event: e.PolicyDecided | e.ProvisioningStarted) -> Iterable[str]:
    """Who answers for a machine: as recorded at filing; where it is judged again, as the directory had it by then."""
    if isinstance(event, e.PolicyDecided) and not t.reopened_at:
        return t.accountable
    own = _person(machine)
    slices = [entity["attrs"] for entity in event.entities if entity.get("uid") == own]
    if not slices:
        return t.accountable
    return [f"human:{o['id']}" for attrs in slices for o in attrs["owners"] if o["type"] == "Human"]


def allows(answer: Evaluation, action: str, who: str) -> bool:
    return (
        answer.allowed and not answer.errors and answer.action == action and answer.principal == _quoted(who)
    )


_quote = json.JSONEncoder(ensure_ascii=False).encode
_TYPES = {
    "human": "Human",
    "service_account": "ServiceAccount",
    "workload": "Workload",
    "ai_agent": "AiAgent",
}


def uid(kind: str, name: str) -> str:
    """An entity as the policy engine writes it."""
    return f"{kind}::{_quote(name)}"


def _person(who: str) -> dict[str, str]:
    kind, _, name = who.partition(":")
    return {"type": _TYPES.get(kind, kind), "id": name}


def _quoted(who: str) -> str:
    person = _person(who)
    return uid(person["type"], person["id"])


def _privilege(target: str, what: Privilege) -> str:
    parts: Iterable[str] = (target, what.privilege, *([] if what.resource is None else [what.resource]))
    return uid("Privilege", "/".join(p.replace("%", "%25").replace("/", "%2F") for p in parts))
