"""Findings, of tickets and of drift; and runs that raise those of drift."""

from __future__ import annotations

from muniment.api import answers, bodies
from muniment.api.routes import Call, Routes
from muniment.core.drift import resolved_by_nobody
from muniment.core.instants import parse_instant
from muniment.service import deciding, drift, looking, reconciling, removing
from muniment.service.desk import ticket_id
from muniment.service.documents import Document

routes = Routes("findings")


@routes.get("/v1/findings", query=bodies.Findings, answer=answers.Findings)
def list_findings(call: Call) -> Document:
    """List what a person must look at: drift first, then what tickets have. A page ends after ``limit`` of each."""
    query: bodies.Findings = call.query
    wanted = drift.chosen(
        target=query.target, types=query.type, severities=query.severity, statuses=query.status, account=query.account,
        assigned_to=query.assigned_to, past_due=query.past_due, resolved=query.resolved,
    )  # fmt: skip
    page = looking.findings_page(call.desk, call.caller, wanted, before=query.cursor, limit=query.limit)
    return {"items": page.items, "next": page.next}


@routes.get("/v1/findings/{finding}", answer=answers.Finding)
def get_finding(call: Call) -> Document:
    """Show one finding."""
    return looking.finding(call.desk, call.caller, call.names["finding"])


@routes.post("/v1/findings/{finding}/resolve", body=bodies.Reason, answer=answers.Ticket, keyed=True)
def resolve_finding(call: Call) -> Document:
    """Say that a finding of a ticket was dealt with. One of drift is over when an inventory shows it."""
    resolved_by_nobody(call.names["finding"])
    why: bodies.Reason = call.body
    ticket, _, number = call.names["finding"].rpartition(":")
    return call.command(
        lambda caller: deciding.resolve(
            call.desk, caller, ticket_id(ticket), finding=number, reason=why.reason
        )
    )


@routes.post("/v1/findings/{finding}/assign", body=bodies.Assignment, answer=answers.Finding)
def assign_finding(call: Call) -> Document:
    """Have somebody see to a finding of drift."""
    said: bodies.Assignment = call.body
    return drift.assign(call.desk, call.caller, call.names["finding"], said.to)


@routes.post("/v1/findings/{finding}/explain", body=bodies.Explanation, answer=answers.Finding)
def explain_finding(call: Call) -> Document:
    """Say how drift came to be."""
    said: bodies.Explanation = call.body
    return drift.explain(call.desk, call.caller, call.names["finding"], said.explanation)


@routes.post("/v1/findings/{finding}/accept", body=bodies.Leave, answer=answers.Finding)
def accept_finding(call: Call) -> Document:
    """Let drift that somebody else explained be, for a time."""
    said: bodies.Leave = call.body
    until = parse_instant(said.until, "the end")
    return drift.accept(call.desk, call.caller, call.names["finding"], until, said.reason)


@routes.post(
    "/v1/findings/{finding}/remove", body=bodies.Reason, answer=answers.Finding, heavy=True, urgent=True
)
def remove_finding(call: Call) -> Document:
    """Have what nothing explains taken away from the target, and look whether it is gone."""
    why: bodies.Reason = call.body
    return removing.remove(call.desk, call.caller, call.names["finding"], why.reason)


@routes.post("/v1/targets/{target}/reconcile", answer=answers.Reconciliation, work=True, heavy=True)
def reconcile_target(call: Call) -> Document:
    """Compare what a target holds with tickets and the baseline; raise what is wrong, and resolve what is over."""
    run = reconciling.reconcile_for(call.desk, call.caller, call.names["target"])
    return {
        "targets": [reconciling.document(run)], "findings": drift.documents(call.desk, list(run.findings))
    }  # fmt: skip
