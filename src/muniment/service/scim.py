"""A SCIM 2.0 server (RFC 7643, RFC 7644): what an identity provider does to the people, groups and agents it keeps here.

What it writes is a fact about the directory, like a change of the identities file: `controllers.people` takes it up,
puts it on record and ends what rests on whoever is gone. Nothing here touches a ticket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from pydantic import ValidationError
from scim2_models import (
    Context,
    Error,
    ListResponse,
    Meta,
    PatchOp,
    ResponseParameters,
    SCIMException,
    SearchRequest,
)
from scim2_models.path.expressions import CompareOperator, Comparison

from muniment.core.errors import Conflict, Invalid, NotFound
from muniment.directory.provisioned import identity_of
from muniment.directory.scim_models import LARGEST_PAGE, MODELS, NAMES, POLICY, PROVIDER
from muniment.ports import Clock, Provisioned, Random
from muniment.store.provisioned import SqlProvisioned

BASE = "/scim/v2"
#: without a count, so many in a page
PAGE = 100
#: how often a change is made again because another writer was first
ATTEMPTS = 4
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

T = TypeVar("T")
Document = dict[str, Any]


class BadScim(Invalid):
    """What a SCIM client sent cannot be meant, or cannot be done."""

    code = "invalid.scim"

    def __init__(self, detail: str, scim_type: str | None = None) -> None:
        """``scim_type``: as RFC 7644, section 3.12 has it."""
        super().__init__(detail, remedy="See RFC 7644, section 3.12.")
        self.scim_type = scim_type


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One resource, as it is answered."""

    document: Document
    location: str
    version: str  # an entity tag


@dataclass(frozen=True, kw_only=True)
class Scim:
    """The server over one store."""

    rows: SqlProvisioned
    clock: Clock
    random: Random
    url: str  # of Muniment, without a slash at its end

    # ── resources ──

    def create(self, kind: str, payload: Any) -> Answer:
        """Take one more."""
        with _translated():
            resource = MODELS[kind].model_validate(payload, scim_ctx=Context.RESOURCE_CREATION_REQUEST)
            name, body = _kept(kind, resource)
        ident = str(UUID(bytes=self.random.bytes(16), version=4))
        return self._answer(self.rows.add(ident, kind, name, body, self.clock.now()))

    def get(self, kind: str, ident: str, query: Mapping[str, Any]) -> Answer:
        """One."""
        with _translated():
            wanted = _parameters(ResponseParameters, kind, query)
        return self._answer(self._row(kind, ident), wanted)

    def replace(self, kind: str, ident: str, payload: Any, match: str | None) -> Answer:
        """Take a resource in place of another (PUT)."""

        def change(before: Any) -> Any:
            after = MODELS[kind].model_validate(payload, scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST)
            after.replace(before)
            return after

        return self._changed(kind, ident, match, change)

    def patch(self, kind: str, ident: str, payload: Any, match: str | None) -> Answer:
        """Change parts (PATCH). All operations, or none."""

        def change(resource: Any) -> Any:
            asking: Any = PatchOp.__class_getitem__(MODELS[kind])
            asking.model_validate(payload, scim_ctx=Context.RESOURCE_PATCH_REQUEST).patch(resource)
            return resource

        return self._changed(kind, ident, match, change)

    def delete(self, kind: str, ident: str, match: str | None) -> None:
        """It is gone. The ledger keeps what is recorded of it."""

        def once() -> None:
            row = self._row(kind, ident)
            _require_match(row, match)
            self.rows.remove(row, self.clock.now())

        _again(once)

    def search(self, kinds: Iterable[str], query: Mapping[str, Any]) -> Document:
        """Those that a query matches, in pages."""
        every = list(kinds)
        with _translated():
            models = [MODELS[kind] for kind in every]
            bound: Any = models[0]
            for model in models[1:]:
                bound |= model
            asking: Any = SearchRequest.__class_getitem__(bound)
            request = asking.model_validate(dict(query))
            found = [pair for kind in every for pair in self._matching(kind, request)]
            found = _sorted(found, request)
            start = request.start_index_0 or 0
            count = min(PAGE if request.count is None else request.count, LARGEST_PAGE)
            page = found[start : start + count]
            groups = self._groups() if any(row.kind == "User" for row, _ in page) else {}
            answering: Any = ListResponse.__class_getitem__(bound)
            listed = answering(
                total_results=len(found), start_index=start + 1, items_per_page=len(page),
                resources=[self._dressed(row, resource, groups) for row, resource in page],
            )  # fmt: skip
            document: Document = listed.model_dump(
                scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=request, scim_provider=PROVIDER
            )
            return document

    # ── discovery ──

    def config(self) -> Document:
        """What this server can do."""
        assert PROVIDER.config is not None  # noqa: S101  it was given
        found = PROVIDER.config.model_copy()
        found.meta = Meta(
            resource_type="ServiceProviderConfig", location=f"{self.url}{BASE}/ServiceProviderConfig"
        )
        document: Document = found.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)
        return document

    def resource_types(self) -> list[Document]:
        """Which kinds there are."""
        return [self._described(each, "ResourceType") for each in PROVIDER.resource_types]

    def schemas(self) -> list[Document]:
        """Which attributes they have."""
        return [self._described(each, "Schema") for each in PROVIDER.schemas]

    def _described(self, each: Any, kind: str) -> Document:
        found = each.model_copy()
        found.meta = Meta(resource_type=kind, location=f"{self.url}{BASE}/{kind}s/{found.id}")
        document: Document = found.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)
        return document

    # ── how ──

    def _row(self, kind: str, ident: str) -> Provisioned:
        row = self.rows.get(kind, ident) if _UUID.fullmatch(ident) else None
        if row is None:
            raise NotFound(f"there is no {kind} {ident!r:.80}", remedy="It may have been removed.")
        return row

    def _changed(self, kind: str, ident: str, match: str | None, change: Callable[[Any], Any]) -> Answer:
        def once() -> Answer:
            row = self._row(kind, ident)
            _require_match(row, match)
            with _translated():
                after = change(_resource(row))
                name, body = _kept(kind, after)
            if body == row.body:
                return self._answer(row)
            return self._answer(self.rows.change(row, name, body, self.clock.now()))

        return _again(once)

    def _answer(self, row: Provisioned, wanted: ResponseParameters[Any] | None = None) -> Answer:
        with _translated():
            groups = self._groups() if row.kind == "User" else {}
            dressed = self._dressed(row, _resource(row), groups)
            document = dressed.model_dump(
                scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=wanted, scim_provider=PROVIDER
            )
        return Answer(document=document, location=self._location(row), version=_version(row))

    def _dressed(self, row: Provisioned, resource: Any, groups: Mapping[str, list[Document]]) -> Any:
        """A resource with what only the server says of it."""
        resource.id = row.id
        resource.meta = Meta(
            resource_type=row.kind, created=row.created_at, last_modified=row.changed_at,
            location=self._location(row), version=_version(row),
        )  # fmt: skip
        if row.kind == "User" and row.id in groups:
            resource.groups = groups[row.id]
        return resource

    def _location(self, row: Provisioned) -> str:
        return f"{self.url}{BASE}/{row.kind}s/{row.id}"

    def _groups(self) -> dict[str, list[Document]]:
        """Ids of members to the groups that name them."""
        found: dict[str, list[Document]] = {}
        for row in self.rows.of("Group"):
            group = msgspec.json.decode(row.body)
            said = {
                "value": row.id,
                "$ref": self._location(row),
                "display": group["displayName"],
                "type": "direct",
            }
            for member in group.get("members") or ():
                found.setdefault(member.get("value") or "", []).append(said)
        return found

    def _matching(self, kind: str, request: Any) -> Iterator[tuple[Provisioned, Any]]:
        """Rows that the filter lets through. What providers ask before each change goes by the name's index."""
        named = _name_asked(kind, request.filter)
        for row in self.rows.of(kind, name=named):
            resource = _resource(row)
            resource.id = row.id
            resource.meta = Meta(resource_type=kind, created=row.created_at, last_modified=row.changed_at)
            if request.filter is None or request.filter.match(resource):
                yield row, resource


def _kept(kind: str, resource: Any) -> tuple[str, bytes]:
    """The name and the JSON that are stored: without what the server says itself, and a name that can be an identity."""
    resource.id = resource.meta = None
    if kind == "User":
        resource.groups = None
    name = getattr(resource, NAMES[kind])
    with POLICY:
        body = resource.model_dump_json(scim_ctx=Context.DEFAULT).encode()
    try:
        identity_of(kind, body)
    except Invalid as error:
        raise BadScim(error.message, "invalidValue") from error
    return name, body


def _resource(row: Provisioned) -> Any:
    with POLICY:
        return MODELS[row.kind].model_validate_json(row.body, scim_ctx=None)


def _parameters(kind: Any, of: str, query: Mapping[str, Any]) -> Any:
    return kind.__class_getitem__(MODELS[of]).model_validate(dict(query))


def _name_asked(kind: str, asked: Any) -> str | None:
    """What the name is compared with, where that is all that a filter does."""
    node = asked.ast if asked is not None else None
    if not isinstance(node, Comparison) or node.op != CompareOperator.eq or not isinstance(node.value, str):
        return None
    attribute = {"User": "username", "Group": "displayname", "Agent": "agentusername"}[kind]
    path = node.attr_path
    plain = path.uri is None and path.sub_attr is None and path.attr.lower() == attribute
    return node.value if plain else None


def _sorted(found: list[tuple[Provisioned, Any]], request: Any) -> list[tuple[Provisioned, Any]]:
    if request.sort_by is None:
        return found
    rows = {id(resource): row for row, resource in found}
    return [(rows[id(resource)], resource) for resource in request.sort(resource for _, resource in found)]


def _version(row: Provisioned) -> str:
    return f'W/"{row.revision}"'


def _require_match(row: Provisioned, match: str | None) -> None:
    if match is not None and match.strip() != "*":
        if _version(row) in [each.strip() for each in match.split(",")]:
            return
        raise Conflict(
            "it is not the version that If-Match names", remedy="Read it again.", code="conflict.scim-version"
        )


def _again(change: Callable[[], T]) -> T:
    """Make a change; make it again from what is there by then, when another writer was first."""
    for _ in range(ATTEMPTS - 1):
        try:
            return change()
        except Conflict as error:
            if error.code != "conflict":
                raise
    return change()


@contextmanager
def _translated() -> Iterator[None]:
    """Foreign errors, where they enter. Everything in the block goes by what providers mean, not by the letter."""
    try:
        with POLICY:
            yield
    except ValidationError as error:
        said = Error.from_validation_error(error.errors()[0])
        raise BadScim(_shortened(said.detail), said.scim_type) from error
    except SCIMException as error:
        raise BadScim(_shortened(str(error)), getattr(error, "scim_type", None) or None) from error
    except RecursionError as error:
        raise BadScim("it is nested too deep", "invalidSyntax") from error


def _shortened(text: str | None) -> str:
    return (text or "it cannot be meant")[:300]
