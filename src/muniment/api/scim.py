"""SCIM 2.0 below ``/scim/v2``: how an identity provider keeps people, groups and agents here.

For whoever has a token that was made with the scope ``scim``; no role stands for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from muniment.api import bodies
from muniment.api.dialects import SCIM
from muniment.api.routes import Call, Plain, Routes, decoded
from muniment.core.errors import NotFound, Refused

BASE = "/scim/v2"
#: bytes; a group comes with all its members
LARGEST = 4 << 20
Document = dict[str, Any]

routes = Routes("identities")
_COMMON: dict[str, Any] = {"scope": "scim", "dialect": SCIM}
_WRITES = _COMMON | {"body": Document, "answer": Document, "largest": LARGEST, "urgent": True}
_PLURALS = {"User": "Users", "Group": "Groups", "Agent": "Agents"}


def _scim(call: Call) -> Any:
    if call.office.scim is None:
        raise NotFound("SCIM is not configured here", remedy="Add [identities.scim] to the configuration.")
    return call.office.scim


def _one(answer: Any, status: int = 200) -> Plain:
    headers = {"ETag": answer.version, "Location": answer.location}
    return Plain(
        body=msgspec.json.encode(answer.document), media_type=SCIM.media_type, headers=headers, status=status
    )


def _register(kind: str) -> None:
    """The routes of one kind of resource."""
    where, name = f"{BASE}/{_PLURALS[kind]}", kind.lower()

    def named(verb: str, words: str, run: Callable[[Call], Any], plural: str = "") -> Callable[[Call], Any]:
        run.__name__, run.__doc__ = f"scim_{verb}_{name}{plural}", words
        return run

    def find(call: Call) -> Any:
        return _scim(call).search([kind], _asked(call.query))

    def search(call: Call) -> Any:
        return _scim(call).search([kind], decoded(call.raw, Document))

    def create(call: Call) -> Plain:
        return _one(_scim(call).create(kind, call.body), status=201)

    def get(call: Call) -> Plain:
        answer = _scim(call).get(kind, call.names["ident"], _asked(call.query))
        if answer.version == call.header(b"if-none-match"):
            return Plain(body=b"", headers={"ETag": answer.version}, status=304)
        return _one(answer)

    def replace(call: Call) -> Plain:
        return _one(_scim(call).replace(kind, call.names["ident"], call.body, call.header(b"if-match")))

    def patch(call: Call) -> Plain:
        return _one(_scim(call).patch(kind, call.names["ident"], call.body, call.header(b"if-match")))

    def delete(call: Call) -> Plain:
        _scim(call).delete(kind, call.names["ident"], call.header(b"if-match"))
        return Plain(body=b"", status=204)

    said, whole = f"{where}/{{ident}}", _COMMON | {"answer": Document, "query": bodies.ScimQuery}
    routes.get(where, **whole)(named("list", f"Find {name}s, by filter and page.", find, "s"))
    routes.post(where, status=201, **_WRITES)(named("create", f"Take one more {name}.", create))
    routes.post(f"{where}/.search", **_COMMON, body=Document, answer=Document)(
        named("search", f"Find {name}s; the query is in the body.", search, "s")
    )
    part = _COMMON | {"answer": Document, "query": bodies.ScimPart}
    routes.get(said, **part)(named("get", f"Get one {name}.", get))
    routes.put(said, **_WRITES)(named("replace", f"Replace one {name}.", replace))
    routes.patch(said, **_WRITES)(
        named("patch", f"Change parts of one {name}: RFC 7644, and how Okta and Entra write it.", patch)
    )
    routes.delete(said, status=204, **_COMMON, answer=Document, urgent=True)(
        named("delete", f"Remove one {name}. What rested on it ends.", delete)
    )


for _kind in _PLURALS:
    _register(_kind)


@routes.post(f"{BASE}/.search", **_COMMON, body=Document, answer=Document)
def scim_search(call: Call) -> Any:
    """Find users, groups and agents together; the query is in the body."""
    return _scim(call).search(list(_PLURALS), decoded(call.raw, Document))


@routes.get(f"{BASE}/ServiceProviderConfig", **_COMMON, answer=Document)
def scim_config(call: Call) -> Any:
    """Get what this SCIM server can do."""
    return _scim(call).config()


@routes.get(f"{BASE}/ResourceTypes", **_COMMON, answer=Document)
def scim_resource_types(call: Call) -> Any:
    """Get which kinds of resources there are."""
    _require_unfiltered(call)
    return _listed(_scim(call).resource_types())


@routes.get(f"{BASE}/ResourceTypes/{{ident}}", **_COMMON, answer=Document)
def scim_resource_type(call: Call) -> Any:
    """Get one kind of resources."""
    return _found(_scim(call).resource_types(), call.names["ident"])


@routes.get(f"{BASE}/Schemas", **_COMMON, answer=Document)
def scim_schemas(call: Call) -> Any:
    """Get which attributes there are."""
    _require_unfiltered(call)
    return _listed(_scim(call).schemas())


@routes.get(f"{BASE}/Schemas/{{ident}}", **_COMMON, answer=Document)
def scim_schema(call: Call) -> Any:
    """Get the attributes of one schema."""
    return _found(_scim(call).schemas(), call.names["ident"])


def _require_unfiltered(call: Call) -> None:
    """RFC 7644, section 4: who filters what is on offer is refused, so that nobody takes a part for the whole."""
    if "filter" in call.parameters:
        raise Refused(
            "what is on offer is not filtered", remedy="Leave the filter out.", code="refused.scim-filter"
        )


def _listed(found: list[Document]) -> Document:
    return {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": len(found), "itemsPerPage": len(found), "startIndex": 1, "Resources": found,
    }  # fmt: skip


def _found(every: list[Document], ident: str) -> Document:
    for each in every:
        if each["id"].casefold() == ident.casefold():
            return each
    raise NotFound(f"there is no {ident!r:.100}", remedy="The list says what there is.")


def _asked(query: Any) -> Document:
    """What was given, under the protocol's own names."""
    return {name: value for name, value in msgspec.to_builtins(query).items() if value is not None}
