"""What a route is.

The table of all of them is data: authorisation, limits, the OpenAPI document, the reference page and the tests of who
may call what are all made from it.

A handler is a plain function from a `Call` to what it answers. It runs in a thread, like everything that reads the
store; one that is ``quick`` only looks into memory, and runs at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import msgspec

from muniment.api.dialects import PLAIN, Dialect
from muniment.core.errors import Invalid
from muniment.core.identity import Role
from muniment.core.ticket import Ticket
from muniment.ports import Scoped
from muniment.service.answering import once
from muniment.service.desk import Caller, Desk, ticket_id
from muniment.service.documents import Document

Handler = TypeVar("Handler", bound=Callable[..., Any])

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

#: bytes; the longest sound request is far smaller
MAX_BODY = 1 << 16
#: fields of a form
FIELDS = 100
#: scopes that no role stands for, and that a token has only if it was made for them
APART: frozenset[Scoped] = frozenset({"scim", "signals", "login"})


@dataclass(frozen=True, kw_only=True)
class Plain:
    """An answer that is not JSON."""

    body: bytes
    media_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[tuple[str, str, int], ...] = ()  # name, value, seconds; 0 takes it away
    status: int | None = None  # else the route's


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """One way in. It is itself and no other, however alike: metrics look one up with every request."""

    method: Method
    path: str  # with {names}
    run: Callable[[Call], Any]
    answer: Any  # the type of what it answers, or a media type where that is not JSON
    scope: Scoped | None  # what a narrowed token must be good for; None: anybody may call it
    roles: frozenset[Role] = frozenset()  # one of these; empty: any
    body: Any = None
    query: Any = None
    status: int = 200
    keyed: bool = False  # takes an Idempotency-Key
    urgent: bool = False  # takes access away: never shed, never held up (I40)
    work: bool = False  # brings new work: shed first
    heavy: bool = False  # takes long: few of them at once
    quick: bool = False  # answers from memory, on the event loop
    form: bool = False  # its body is a form, not JSON
    browser: bool = False  # a person's browser asks: errors are pages, if it wants pages
    tag: str = ""
    dialect: Dialect = PLAIN
    largest: int = MAX_BODY  # bytes of a body

    @property
    def name(self) -> str:
        """Unique, and stable for generated clients."""
        return self.run.__name__

    @property
    def names(self) -> list[str]:
        """What stands in braces in the path."""
        return re.findall(r"{(\w+)(?::path)?}", self.path)


class Routes:
    """A part of the table, filled by decorators."""

    def __init__(self, tag: str) -> None:
        """``tag`` groups them in documents."""
        self.tag, self.table = tag, list[Route]()

    def get(self, path: str, **more: Any) -> Callable[[Handler], Handler]:
        """A route that changes nothing (F7)."""
        return self._add("GET", path, {"scope": "read"} | more)

    def post(self, path: str, **more: Any) -> Callable[[Handler], Handler]:
        """A route that does something."""
        return self._add("POST", path, {"scope": "write"} | more)

    def put(self, path: str, **more: Any) -> Callable[[Handler], Handler]:
        """A route that replaces something."""
        return self._add("PUT", path, {"scope": "write"} | more)

    def patch(self, path: str, **more: Any) -> Callable[[Handler], Handler]:
        """A route that changes parts of something."""
        return self._add("PATCH", path, {"scope": "write"} | more)

    def delete(self, path: str, **more: Any) -> Callable[[Handler], Handler]:
        """A route that takes something away."""
        return self._add("DELETE", path, {"scope": "write"} | more)

    def _add(self, method: Method, path: str, more: dict[str, Any]) -> Callable[[Handler], Handler]:
        def take(run: Handler) -> Handler:
            self.table.append(Route(method=method, path=path, run=run, tag=self.tag, **more))
            return run

        return take

    def __iter__(self) -> Iterator[Route]:
        """In the order in which they were written."""
        return iter(self.table)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, as a handler sees it."""

    route: Route
    desk: Desk
    caller: Caller
    scopes: frozenset[str]
    names: Mapping[str, str]  # from the path
    parameters: Mapping[str, Iterable[str]]  # from the query
    raw: bytes
    key: str | None = None
    cookies: Mapping[str, str] = field(default_factory=dict)  # ours: `signin.cookies_of`
    header: Callable[[bytes], str | None] = lambda _: None  # by its name in lower case
    office: Any = None  # what the process has beside the desk: `app.Office`

    @property
    def body(self) -> Any:
        """The body, as the route's type says. Strict: what nobody knows is refused, and nothing is converted."""
        return filled(self.raw, self.route.body) if self.route.form else decoded(self.raw, self.route.body)

    @property
    def query(self) -> Any:
        """The query, as the route's type says."""
        return asked(self.parameters, self.route.query)

    @property
    def ticket(self) -> str:
        """The ticket's id in the path. What cannot be one is not there; it never reaches the store."""
        return ticket_id(self.names["ticket"])

    def command(self, act: Callable[[Caller], Ticket]) -> Document:
        """Run a command, once for each key that the client gives."""
        digest = hashlib.sha256(self.route.method.encode())
        for part in (self.route.path, *self.names.values()):
            digest.update(b"\0" + part.encode())
        digest.update(b"\0" + self.raw)
        return once(self.desk, self.caller, self.key, digest.hexdigest(), act)


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decoded(raw: bytes, kind: Any) -> Any:
    """JSON of a known shape."""
    try:
        return _decoder(kind).decode(raw)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"the body is not what belongs here: {error!s:.300}",
            remedy="/openapi.json says what does.",
            code="invalid.body",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(
            f"the body is not JSON: {error!s:.200}", remedy="Send one JSON object.", code="invalid.json"
        ) from error
    except RecursionError as error:
        raise Invalid(
            "the body is nested too deep", remedy="/openapi.json says what belongs here.", code="invalid.json"
        ) from error


def filled(raw: bytes, kind: Any) -> Any:
    """A form of a known shape."""
    given: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=FIELDS
        ):
            given.setdefault(name, []).append(value)
    except ValueError as error:
        raise Invalid(
            "the body is not a form", remedy="Send application/x-www-form-urlencoded.", code="invalid.form"
        ) from error
    try:
        return asked(given, kind)
    except Invalid as error:
        raise Invalid(
            error.message.replace("the query", "the form"), remedy=error.remedy, code="invalid.form"
        ) from error


@cache
def _types(kind: Any) -> dict[str, Any]:
    """Of each name that a query may have. Reading annotations takes longer than reading the query."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def asked(parameters: Mapping[str, Iterable[str]], kind: Any) -> Any:
    """A query of a known shape: each name once, unless it is a list."""
    types = _types(kind)
    lists = {name for name, each in types.items() if "tuple" in str(each)}
    given: dict[str, Any] = {}
    for name, values in parameters.items():
        every = list(values)
        if name not in lists and len(every) != 1:
            raise Invalid(
                f"{name!r:.40} is there more than once", remedy="Give it once.", code="invalid.query"
            )
        given[name] = every if name in lists else every[0]
    try:
        for name, value in given.items():
            # a word like any other, and no way to leave something out
            if value == "null" and name in types:
                msgspec.convert("null", types[name])
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"the query is not what belongs here: {error!s:.300}",
            remedy="/openapi.json says what does.",
            code="invalid.query",
        ) from error
