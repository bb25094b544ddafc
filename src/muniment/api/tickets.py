"""Tickets: ask, look, decide, end, review."""

from __future__ import annotations

import json
from typing import Any

from muniment.api import answers, bodies
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import Invalid
from muniment.core.identity import parse_identity
from muniment.core.instants import parse_duration, parse_instant
from muniment.core.scope import Privilege
from muniment.service import deciding, evidencing, extending, filing, looking, reviews
from muniment.service.documents import Document, preview_document, ticket_document, ticket_documents
from muniment.service.filing import Ask
from muniment.service.passkeys import signature_of
from muniment.service.signing import statement
from muniment.store.views import Filter

routes = Routes("tickets")


@routes.post("/v1/requests", body=bodies.Request, answer=answers.Ticket, status=201, keyed=True, work=True)
def file_request(call: Call) -> Document:
    """File a ticket. What policy denies is on record too, and comes back denied."""
    ask = _ask(call.body)
    return call.command(lambda caller: filing.file_request(call.desk, caller, ask))


@routes.post("/v1/bundles", body=bodies.Bundle, answer=answers.Tickets, status=201, work=True)
def file_bundle(call: Call) -> Document:
    """File several tickets together, all or none. Each is judged, approved and ended by itself."""
    asked: bodies.Bundle = call.body
    filed = filing.file_bundle(call.desk, call.caller, [_ask(each) for each in asked.requests])
    return {"items": ticket_documents(call.desk, filed), "next": None}


@routes.post("/v1/preview", body=bodies.Preview, answer=answers.Preview, scope="read", work=True)
def preview(call: Call) -> Document:
    """Say what would come of a request: verdict, approvals, scope. Records nothing."""
    return preview_document(filing.preview(call.desk, call.caller, _ask(call.body)))


@routes.get("/v1/requests", query=bodies.Tickets, answer=answers.Tickets)
def list_requests(call: Call) -> Document:
    """List the tickets that the caller may see, newest first."""
    query: bodies.Tickets = call.query
    wanted = Filter(
        statuses=query.status,
        beneficiary=parse_identity(query.beneficiary) if query.beneficiary is not None else None,
        target=query.target,
        before=query.cursor,
        limit=query.limit,
    )
    page = looking.tickets(call.desk, call.caller, wanted, awaiting_me=query.awaiting_me)
    return {"items": ticket_documents(call.desk, page.items), "next": page.next}


@routes.get("/v1/requests/{ticket}", answer=answers.Ticket)
def get_request(call: Call) -> Document:
    """Show a ticket."""
    return ticket_document(call.desk, looking.show(call.desk, call.caller, call.ticket))


@routes.get("/v1/requests/{ticket}/events", answer=answers.Events)
def list_events(call: Call) -> Document:
    """List everything that happened to a ticket, in order."""
    return {"items": looking.history(call.desk, call.caller, call.ticket), "next": None}


@routes.post(
    "/v1/requests/{ticket}/decisions", body=bodies.Decision, answer=answers.Ticket, status=201, keyed=True
)
def decide(call: Call) -> Document:
    """Approve or deny exactly the terms with this digest."""
    said: bodies.Decision = call.body
    ticket, desk = call.ticket, call.desk
    if said.decision == "approve":
        signature = _signature(call, said)
        return call.command(
            lambda caller: deciding.approve(
                desk, caller, ticket, digest=said.digest, comment=said.comment, signature=signature
            )
        )
    if said.signature is not None or said.passkey is not None:
        raise Invalid(
            "only approvals are signed", remedy="Leave the signature out.", code="invalid.signature"
        )
    if said.comment is None:
        raise Invalid("a denial needs a comment", remedy="Say why; the requester reads it.")
    comment = said.comment
    return call.command(
        lambda caller: deciding.deny(desk, caller, ticket, comment=comment, digest=said.digest)
    )


@routes.post("/v1/requests/{ticket}/offers", body=bodies.Offer, answer=answers.Ticket, status=201, keyed=True)
def offer(call: Call) -> Document:
    """Offer to agree to less. Nothing changes before the requester accepts; then all approvals begin anew."""
    said: bodies.Offer = call.body
    duration = parse_duration(said.duration) if said.duration is not None else None
    scope = _scope(said.scope) if said.scope is not None else None
    return call.command(
        lambda caller: deciding.counter(
            call.desk,
            caller,
            call.ticket,
            digest=said.digest,
            duration=duration,
            scope=scope,
            comment=said.comment,
        )
    )


@routes.post("/v1/requests/{ticket}/accept", body=bodies.Acceptance, answer=answers.Ticket, keyed=True)
def accept(call: Call) -> Document:
    """Take an approver's offer: its terms are the request from here on."""
    said: bodies.Acceptance = call.body
    return call.command(lambda caller: deciding.accept(call.desk, caller, call.ticket, offer=said.digest))


@routes.post(
    "/v1/requests/{ticket}/extensions",
    body=bodies.Extension,
    answer=answers.Ticket,
    status=201,
    keyed=True,
    work=True,
)
def extend(call: Call) -> Document:
    """Ask for access that is there to go on: a new ticket, that begins when the old one ends."""
    said: bodies.Extension = call.body
    return call.command(
        lambda caller: extending.extend(
            call.desk,
            caller,
            call.ticket,
            duration=parse_duration(said.duration),
            reason=said.justification,
            scope=_scope(said.scope),
            references=said.references,
            public_key=said.public_key,
        )
    )


@routes.post("/v1/requests/{ticket}/withdraw", answer=answers.Ticket, keyed=True)
def withdraw(call: Call) -> Document:
    """Take one's own request back before access begins."""
    return call.command(lambda caller: deciding.withdraw(call.desk, caller, call.ticket))


@routes.post("/v1/requests/{ticket}/return", answer=answers.Ticket, keyed=True, urgent=True)
def give_back(call: Call) -> Document:
    """Give access back."""
    return call.command(lambda caller: deciding.give_back(call.desk, caller, call.ticket))


@routes.post(
    "/v1/requests/{ticket}/revoke", body=bodies.Reason, answer=answers.Ticket, keyed=True, urgent=True
)
def revoke(call: Call) -> Document:
    """End somebody's access now."""
    why: bodies.Reason = call.body
    return call.command(lambda caller: deciding.revoke(call.desk, caller, call.ticket, reason=why.reason))


@routes.post(
    "/v1/requests/{ticket}/reviews", body=bodies.Review, answer=answers.Ticket, status=201, keyed=True
)
def review(call: Call) -> Document:
    """Say how access was used, where a review is owed."""
    said: bodies.Review = call.body
    return call.command(
        lambda caller: deciding.review(
            call.desk, caller, call.ticket, outcome=said.outcome, comment=said.comment
        )
    )


@routes.post(
    "/v1/requests/{ticket}/waivers", body=bodies.Waiver, answer=answers.Ticket, status=201, keyed=True
)
def waive(call: Call) -> Document:
    """Answer for a closure check that cannot hold."""
    said: bodies.Waiver = call.body
    return call.command(
        lambda caller: deciding.waive(call.desk, caller, call.ticket, check=said.check, reason=said.reason)
    )


@routes.get("/v1/requests/{ticket}/statement", answer="text/plain")
def get_statement(call: Call) -> Plain:
    """Get what the caller signs to approve the ticket as it stands."""
    shown = looking.show(call.desk, call.caller, call.ticket)
    return Plain(body=statement(call.desk, call.caller, shown), media_type="text/plain; charset=utf-8")


@routes.get("/v1/requests/{ticket}/credential", answer=answers.Credential, scope="write")
def collect_credential(call: Call) -> Document:
    """Collect what the target issued, once: it is gone from here with this answer."""
    body = looking.collect(call.desk, call.caller, call.ticket)
    return {"ticket": call.ticket, "credential": body.decode(errors="backslashreplace")}


@routes.get("/v1/requests/{ticket}/evidence", answer="application/zip", work=True, heavy=True)
def export_evidence(call: Call) -> Plain:
    """Get one file that proves the ticket, to be verified anywhere."""
    looking.show(call.desk, call.caller, call.ticket)
    raw, document = evidencing.export(call.desk, call.ticket, certificates=call.office.certificates)
    headers = {
        "Content-Disposition": f'attachment; filename="{call.ticket}.zip"',
        "Muniment-Evidence": json.dumps(document),  # what it comes to, in ASCII
    }
    return Plain(body=raw, media_type="application/zip", headers=headers)


@routes.get("/v1/reviews", query=bodies.Reviews, answer=answers.Reviews)
def list_reviews(call: Call) -> Document:
    """List looks back that are owed, overdue or done, each with what there is to judge it by."""
    query: bodies.Reviews = call.query
    who = parse_identity(query.beneficiary) if query.beneficiary is not None else None
    wanted = reviews.Wanted(
        state=query.state, target=query.target, beneficiary=who, kind=query.kind, outcome=query.outcome,
        mine=query.mine, before=query.cursor, limit=query.limit,
    )  # fmt: skip
    page = reviews.listed(call.desk, call.caller, wanted)
    return {"items": page.items, "next": page.next}


@routes.get("/v1/grants", query=bodies.Grants, answer=answers.Grants)
def list_grants(call: Call) -> Document:
    """List what tickets make targets hold now. A page ends after ``limit`` tickets."""
    query: bodies.Grants = call.query
    page = looking.grants_page(
        call.desk,
        call.caller,
        target=query.target,
        beneficiary=parse_identity(query.beneficiary) if query.beneficiary is not None else None,
        before=query.cursor,
        limit=query.limit,
    )
    return {"items": page.items, "next": page.next}


def _ask(body: bodies.Request) -> Ask:
    given: dict[str, Any] = {
        "scope": _scope(body.scope),
        "duration": parse_duration(body.duration),
        "starts_at": parse_instant(body.starts_at, "the start") if body.starts_at is not None else None,
    }
    return Ask(
        target=body.target,
        justification=body.justification,
        beneficiary=body.beneficiary,
        references=body.references,
        break_glass=body.break_glass,
        incident=body.incident,
        responders=body.responders,
        public_key=body.public_key,
        **given,
    )


def _signature(call: Call, said: bodies.Decision) -> str | None:
    """The approver's own, by whichever of their keys."""
    if said.passkey is None:
        return said.signature
    if said.signature is not None:
        raise Invalid("two signatures are one too many", remedy="Send one of them.", code="invalid.signature")
    who = call.caller.identity
    return signature_of(
        call.desk, who, looking.show(call.desk, call.caller, call.ticket), said.digest,
        authenticator=said.passkey.authenticator_data, client=said.passkey.client_data, signature=said.passkey.signature,
    )  # fmt: skip


def _scope(asked: tuple[bodies.Privilege, ...]) -> tuple[Privilege, ...]:
    return tuple(Privilege(privilege=p.privilege, resource=p.resource) for p in asked)
