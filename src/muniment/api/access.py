"""OpenID AuthZEN 1.0: does this subject hold an active grant for this now? Answered from observed grants.

A subject is an identity, ``{"type": "human", "id": "ann@example.com"}``; "user" is a human, too. The resource is a
target, ``{"type": "target", "id": "pg-prod"}``; the action is the privilege. Everybody may ask about themselves. About
others: auditors, operators, and whoever has a token that was made for it (scope ``check``).
"""

from __future__ import annotations

from typing import Any

from muniment.api import access_requests, answers, bodies
from muniment.api.routes import Call, Routes, decoded
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.identity import Identity, IdentityId, parse_identity
from muniment.core.scope import Privilege
from muniment.core.visibility import SEES_ALL
from muniment.service.documents import Document

routes = Routes("access")
PREFIX = "/access/v1"


@routes.post(
    f"{PREFIX}/evaluation", body=bodies.Evaluation, answer=answers.Decided, scope="check", quick=True
)
def evaluate(call: Call) -> Document:
    """Does this subject hold this privilege on this target now?"""
    asked: bodies.Evaluation = call.body
    return _decide(call, asked)


@routes.post(
    f"{PREFIX}/evaluations", body=bodies.Evaluations, answer=answers.Evaluations, scope="check", quick=True
)
def evaluate_many(call: Call) -> Document:
    """Several questions at once; members at the top are the defaults. Without a list it is one question."""
    asked: bodies.Evaluations = call.body
    if not asked.evaluations:
        single: bodies.Evaluation = decoded(call.raw, bodies.Evaluation)
        return _decide(call, single)
    found: list[Document] = []
    until = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(
        asked.options.evaluations_semantic
    )
    for each in asked.evaluations:
        subject, action = each.subject or asked.subject, each.action or asked.action
        resource = each.resource or asked.resource
        if subject is None or action is None or resource is None:
            found.append(_error(400, "subject, action or resource is missing"))
        else:
            try:
                found.append(
                    _decide(call, bodies.Evaluation(subject=subject, action=action, resource=resource))
                )
            except MunimentError as error:
                found.append(_error(403 if isinstance(error, Refused) else 400, error.message))
        if found[-1]["decision"] is until:
            break
    return {"evaluations": found}


@routes.post(f"{PREFIX}/search/subject", body=bodies.SubjectSearch, answer=answers.Found, scope="check")
def search_subjects(call: Call) -> Document:
    """Who holds this privilege on this target now?"""
    asked: bodies.SubjectSearch = call.body
    _may_ask(call, None)
    target, what = _resource(asked.resource, asked.action)
    kind = "human" if asked.subject.type == "user" else asked.subject.type
    everybody = call.office.holdings.holders(target, what, call.desk.clock.now()) if target else []
    names = [
        who.removeprefix(f"{kind}:")
        for who in everybody
        if who.startswith(f"{kind}:") and _is_active(call.desk.directory.get(who))
    ]
    return _page([{"type": asked.subject.type, "id": name} for name in names], asked.page)


@routes.post(f"{PREFIX}/search/resource", body=bodies.ResourceSearch, answer=answers.Found, scope="check")
def search_resources(call: Call) -> Document:
    """On which targets does this subject hold this privilege now?"""
    asked: bodies.ResourceSearch = call.body
    who = _subject(call, asked.subject)
    what = Privilege(privilege=asked.action.name, resource=_narrowed(asked.resource.properties))
    known = who is not None and asked.resource.type == "target"
    found = call.office.holdings.targets(who, what, call.desk.clock.now()) if known else []
    return _page([{"type": "target", "id": target} for target in found], asked.page)


@routes.post(f"{PREFIX}/search/action", body=bodies.ActionSearch, answer=answers.Found, scope="check")
def search_actions(call: Call) -> Document:
    """What does this subject hold on this target now?"""
    asked: bodies.ActionSearch = call.body
    who = _subject(call, asked.subject)
    known = who is not None and asked.resource.type == "target"
    found = call.office.holdings.privileges(who, asked.resource.id, call.desk.clock.now()) if known else []
    narrowed = _narrowed(asked.resource.properties)
    return _page([{"name": p.privilege} for p in found if p.resource == narrowed], asked.page)


@routes.get("/.well-known/authzen-configuration", answer=answers.Metadata, scope=None, quick=True)
def describe(call: Call) -> Document:
    """Say where the decision point's endpoints are."""
    base = call.office.url
    more = (
        {
            "access_request_endpoint": f"{base}{PREFIX}/requests",
            "capabilities": ["urn:openid:authzen:capability:access-request"],
        }
        if call.office.access_requests
        else {}
    )
    return more | {
        "policy_decision_point": base,
        "access_evaluation_endpoint": f"{base}{PREFIX}/evaluation",
        "access_evaluations_endpoint": f"{base}{PREFIX}/evaluations",
        "search_subject_endpoint": f"{base}{PREFIX}/search/subject",
        "search_resource_endpoint": f"{base}{PREFIX}/search/resource",
        "search_action_endpoint": f"{base}{PREFIX}/search/action",
    }


def _decide(call: Call, asked: bodies.Evaluation) -> Document:
    who = _subject(call, asked.subject)
    target, what = _resource(asked.resource, asked.action)
    held = None
    if who is not None and target is not None:
        held = call.office.holdings.check(who, target, what, call.desk.clock.now())
    if held is None:
        requestable = access_requests.denial(call, asked) if call.office.access_requests else None
        return {"decision": False, "context": requestable or {"reason": "no_active_grant"}}
    expires = held.until.isoformat().replace("+00:00", "Z")
    return {"decision": True, "context": {"ticket": held.ticket, "expires_at": expires}}


def _subject(call: Call, subject: bodies.Subject) -> IdentityId | None:
    """The identity, under its own id; None for what nobody here can be."""
    kind = "human" if subject.type == "user" else subject.type
    try:
        named = parse_identity(f"{kind}:{subject.id}")
    except Invalid:
        _may_ask(call, None)
        return None
    known = call.desk.directory.get(named)
    who = known.id if known else named
    _may_ask(call, who)
    return who if _is_active(known) else None


def _is_active(known: Identity | None) -> bool:
    """Somebody who is gone from the directory holds nothing, whatever is still there to be taken away."""
    return known is not None and known.active


def _may_ask(call: Call, who: IdentityId | None) -> None:
    if who == call.caller.identity.id or "check" in call.scopes or SEES_ALL & set(call.caller.identity.roles):
        return
    raise Refused(
        "you may ask about yourself alone",
        remedy="Enforcement points have a token with the scope check.",
        code="refused.not-yours",
    )


def _resource(resource: bodies.Resource, action: bodies.Action) -> tuple[str | None, Privilege]:
    what = Privilege(privilege=action.name, resource=_narrowed(resource.properties))
    return (resource.id if resource.type == "target" else None), what


def _narrowed(properties: dict[str, Any] | None) -> str | None:
    narrowed = (properties or {}).get("resource")
    return narrowed if isinstance(narrowed, str) else None


def _error(status: int, message: str) -> Document:
    return {"decision": False, "context": {"error": {"status": status, "message": message}}}


def _page(results: list[dict[str, str]], page: bodies.SearchPage) -> Document:
    start = 0
    if page.token:
        if not page.token.isascii() or not page.token.isdigit() or len(page.token) > 9:
            raise Invalid("the page token is not ours", remedy="Use next_token of the page before.")
        start = int(page.token)
    part = results[start : start + page.limit]
    more = start + len(part) < len(results)
    return {
        "page": {
            "next_token": str(start + len(part)) if more else "",
            "count": len(part),
            "total": len(results),
        },
        "results": part,
    }
