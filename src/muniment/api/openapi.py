"""The OpenAPI 3.1 document, made from the table of routes and the types they name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from muniment.api import answers
from muniment.api.bodies import CAMPAIGN, DRIFT
from muniment.api.dialects import ACCESS_REQUESTS, SCIM
from muniment.api.routes import Route
from muniment.api.signin import COOKIE
from muniment.core.ticket import ID

_FORM = "application/x-www-form-urlencoded"
_REF = "#/components/schemas/{name}"
#: what may come instead of the answer, and when
_REFUSED = {
    400: "The body is not JSON",
    401: "No good credential",
    403: "The rules, the role or the token's scope forbid it",
    404: "Not there, or not for the caller to see: the two look the same",
    408: "The body did not come in time",
    409: "It stands otherwise than the command supposes",
    410: "Too late",
    412: "It is not the version that was named",
    413: "The body is too large",
    422: "The input cannot be meant",
    429: "Too much at once, or too often",
    502: "The target answered no",
    503: "Something needed did not answer; nothing was recorded",
}


def document(routes: Sequence[Route], url: str) -> dict[str, Any]:
    """The whole document."""
    kinds = [
        kind for r in routes for kind in (r.answer, r.body) if kind is not None and not isinstance(kind, str)
    ]
    kinds += [r.dialect.refusal for r in routes] or [answers.Problem]
    named = list({id(kind): kind for kind in kinds}.values())
    schemas, components = msgspec.json.schema_components(named, ref_template=_REF)
    by_kind = {id(kind): schema for kind, schema in zip(named, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(path_of(route), {})[route.method.lower()] = _operation(route, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Muniment",
            "version": version("muniment"),
            "summary": "Privileged access by ticket, with evidence that anyone can verify.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "A person who signed in; each change carries X-CSRF-Token as well.",
                },
            },
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(r.tag for r in routes)],
    }


def path_of(route: Route) -> str:
    """The path as OpenAPI writes it."""
    return re.sub(r"{(\w+):path}", r"{\1}", route.path)


def _operation(route: Route, by_kind: dict[int, Any]) -> dict[str, Any]:
    text = inspect.getdoc(route.run) or ""
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": text.partition("\n")[0],
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": _responses(route, by_kind),
        "security": [{"token": []}, {"session": []}] if route.scope else [],
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {_FORM if route.form else route.dialect.media_type: {"schema": by_kind[id(route.body)]}},
        }  # fmt: skip
    if route.scope:
        operation["x-scope"] = route.scope
    if route.roles:
        operation["x-roles"] = sorted(route.roles)
    if links := _links(route):
        operation["responses"][str(route.status)]["links"] = links
    return operation


def _path_parameters(route: Route) -> Iterable[dict[str, Any]]:
    patterns = {"ticket": f"^{ID}$", "finding": f"^({ID}:[0-9]+|{DRIFT})$", "campaign": CAMPAIGN}
    for name in route.names:
        schema = {"type": "string", "minLength": 1} | (
            {"pattern": patterns[name]} if name in patterns else {}
        )
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(route: Route) -> Iterable[dict[str, Any]]:
    if route.query is None:
        return
    schema = msgspec.json.schema(route.query)["$defs"][route.query.__name__]
    for name, each in schema["properties"].items():
        yield {"name": name, "in": "query", "required": False, "schema": _plain(each)}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: what is not there is left out."""
    every = [part for part in schema.get("anyOf", ()) if part != {"type": "null"}]
    return (
        every[0] if len(every) == 1 else {k: v for k, v in schema.items() if k != "default" or v is not None}
    )


def _headers(route: Route) -> Iterable[dict[str, Any]]:
    if route.keyed:
        yield {
            "name": "Idempotency-Key", "in": "header", "required": False,
            "description": "The client's own name for this command: asked again with it, it is answered again and done once.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }  # fmt: skip


def _responses(route: Route, by_kind: dict[int, Any]) -> dict[str, Any]:
    if route.status == 204:
        good: dict[str, Any] = {}
    elif isinstance(route.answer, str):
        good = {route.answer: {"schema": {"type": "string"}}}
    else:
        good = {route.dialect.media_type: {"schema": by_kind[id(route.answer)]}}
    found = {str(route.status): {"description": "Done", "content": good}}
    problem = {route.dialect.refusal_type: {"schema": by_kind[id(route.dialect.refusal)]}}
    for status in _possible(route):
        found[str(status)] = {"description": _REFUSED[status], "content": problem}
    return found


def _possible(route: Route) -> list[int]:
    found = {503}
    if route.scope:
        found |= {401, 403, 404}
    if route.scope or not route.quick:
        found |= {429}
    if route.method != "GET":
        found |= {400, 408, 409, 413, 422}
    if route.dialect is ACCESS_REQUESTS:
        found |= {404, 410}
    if route.dialect is SCIM:
        found |= {400, 412} if route.method not in {"GET", "POST"} else {400}
    if route.query is not None:
        found |= {422}
    if route.tag == "sign-in" and not (route.scope is None and route.quick):
        found |= {401, 403, 404}  # what the identity provider says, and where there is none
    if route.names:
        found |= {404, 409, 502}
    return sorted(found)


#: what one can do with what a route made: the parameter that names it, where its name stands, and the routes
_LINKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "file_request": (
        "ticket", "id",
        (
            "get_request", "list_events", "withdraw", "give_back", "revoke", "collect_credential", "get_statement",
            "explain_policy", "export_evidence", "decide",
        ),
    ),
    "give_delegation": ("delegation", "id", ("end_delegation",)),
    "propose_change": ("change", "change", ("get_change", "adopt_change", "refuse_change")),
} | {
    f"scim_create_{kind}": (
        "ident", "id", tuple(f"scim_{verb}_{kind}" for verb in ("get", "replace", "patch", "delete"))
    )
    for kind in ("user", "group", "agent")
}  # fmt: skip


def _links(route: Route) -> dict[str, Any]:
    """What one can do with what a route answers."""
    if route.name not in _LINKS:
        return {}
    parameter, member, names = _LINKS[route.name]
    links: dict[str, Any] = {
        name: {"operationId": name, "parameters": {parameter: f"$response.body#/{member}"}} for name in names
    }
    if "decide" in links:
        links["decide"]["requestBody"] = {"decision": "approve", "digest": "$response.body#/digest"}
    return links
