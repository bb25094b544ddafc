"""Who decides for whom, and what is in force: delegations, and changes that take two people."""

from __future__ import annotations

from muniment.api import answers, bodies
from muniment.api.routes import Call, Routes
from muniment.core.errors import NotFound
from muniment.core.instants import parse_duration, parse_instant
from muniment.service import changing, delegating, explaining
from muniment.service.documents import Document

routes = Routes("governing")


@routes.get("/v1/delegations", answer=answers.Delegations)
def list_delegations(call: Call) -> Document:
    """List delegations that the caller gave or has; operators and auditors see all."""
    return {"items": delegating.listed(call.desk, call.caller), "next": None}


@routes.post("/v1/delegations", body=bodies.Delegation, answer=answers.Delegation, status=201)
def give_delegation(call: Call) -> Document:
    """Hand one's authority to approve to somebody for a period; it cannot be handed on."""
    asked: bodies.Delegation = call.body
    given = delegating.give(
        call.desk, call.caller, to=asked.to, reason=asked.reason,
        until=parse_instant(asked.until, "the end") if asked.until is not None else None,
        length=parse_duration(asked.duration) if asked.duration is not None else None,
        starts=parse_instant(asked.starts_at, "the start") if asked.starts_at is not None else None,
    )  # fmt: skip
    return delegating.document(given, call.desk.clock.now())


@routes.post("/v1/delegations/{delegation}/end", answer=answers.Delegation, urgent=True)
def end_delegation(call: Call) -> Document:
    """End a delegation before its time."""
    ended = delegating.end(call.desk, call.caller, call.names["delegation"])
    return delegating.document(ended, call.desk.clock.now(), ended=True)


@routes.get("/v1/requests/{ticket}/policy", answer=answers.Explained, heavy=True)
def explain_policy(call: Call) -> Document:
    """Replay what policy decided about a ticket, from the record, and say why."""
    return explaining.explain(call.desk, call.caller, call.ticket)


@routes.get("/v1/policy/changes", answer=answers.Changes)
def list_changes(call: Call) -> Document:
    """List proposed changes of policies, targets and approver groups, newest first."""
    return {"items": changing.listed(call.desk, call.caller), "next": None}


@routes.get("/v1/policy/changes/{change}", answer=answers.Change)
def get_change(call: Call) -> Document:
    """Show one change, with what differs."""
    return changing.shown(call.desk, call.caller, call.names["change"])


@routes.post("/v1/policy/changes", body=bodies.Proposal, answer=answers.Proposed, status=201)
def propose_change(call: Call) -> Document:
    """Propose what lies in the server's policy folder and configuration. Nothing of it holds before somebody agrees."""
    if call.office.policies is None:
        raise NotFound("this server has no policy folder", remedy="Propose where the files are.")
    asked: bodies.Proposal = call.body
    return changing.propose(call.desk, call.caller, call.office.policies, asked.reason)


@routes.post("/v1/policy/changes/{change}/adopt", answer=answers.Proposed)
def adopt_change(call: Call) -> Document:
    """Agree to a change that somebody else proposed; it holds at once."""
    return changing.adopt(call.desk, call.caller, call.names["change"])


@routes.post("/v1/policy/changes/{change}/refuse", body=bodies.Reason, answer=answers.Change)
def refuse_change(call: Call) -> Document:
    """Say no to a change, or take one's own back."""
    asked: bodies.Reason = call.body
    return changing.refuse(call.desk, call.caller, call.names["change"], asked.reason)
