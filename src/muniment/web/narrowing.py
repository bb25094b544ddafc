"""Which rows of a list: what stands in its address, and filters of it that people keep under a name."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import Meta

from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import Invalid
from muniment.core.identity import parse_identity
from muniment.core.text import clean_text
from muniment.store.saved_filters import SavedFilter, SqlSavedFilters
from muniment.web.pages import away

routes = Routes("pages")

Field = Annotated[str, Meta(max_length=300)]
Cursor = Annotated[str, Meta(max_length=400)]

#: lists that can be narrowed, and what a filter of them is made of; filled by the pages themselves
NARROWED: dict[str, type[Narrowing]] = {}


class Narrowing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list's address. Empty: all that the reader may see."""

    cursor: Cursor = ""

    def link(self, path: str, **change: Any) -> str:
        """The same list, with something else."""
        given = {**msgspec.structs.asdict(self), **change}
        query = urlencode({name: _said(value) for name, value in given.items() if value})
        return f"{path}?{query}" if query else path

    @property
    def chosen(self) -> str:
        """What narrows the list, as a query without a place in it; empty if nothing does."""
        return self.link("", cursor="").removeprefix("?")


def one_of(text: str) -> str | None:
    """Somebody's id as it is typed: a name alone is a person's. Raises `Invalid` for what is none."""
    text = text.strip()
    return parse_identity(text if ":" in text else f"human:{text}") if text else None


def narrowed(path: str, kind: type[Narrowing]) -> type[Narrowing]:
    """Filters of this list can be kept."""
    NARROWED[path] = kind
    return kind


def kept(call: Call) -> list[SavedFilter]:
    """The reader's own filters of the list that they look at."""
    return _table(call).of(call.caller.identity.id, call.route.path)


class Keeping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A filter, and what it is to be called."""

    path: Field
    query: Annotated[str, Meta(max_length=2000)] = ""
    name: Annotated[str, Meta(max_length=60)] = ""
    csrf: Annotated[str, Meta(max_length=64)] = ""


@routes.post("/filters", body=Keeping, form=True, answer="text/html", status=303, browser=True)
def keep_filter(call: Call) -> Plain:
    """Keep a filter under a name, on this server, for whoever looks."""
    said: Keeping = call.body
    wanted = _read(said)
    name = clean_text(said.name, "the name")
    _table(call).keep(call.caller.identity.id, SavedFilter(name=name, path=said.path, query=wanted.chosen))
    return away(wanted.link(said.path))


@routes.post("/filters/forget", body=Keeping, form=True, answer="text/html", status=303, browser=True)
def forget_filter(call: Call) -> Plain:
    """Forget a filter."""
    said: Keeping = call.body
    wanted = _read(said)
    _table(call).forget(call.caller.identity.id, said.name)
    return away(wanted.link(said.path))


def _read(said: Keeping) -> Narrowing:
    """A filter of a list that is there. Raises `Invalid`."""
    kind = NARROWED.get(said.path)
    if kind is None:
        raise _no_filter()
    try:
        given = dict(parse_qsl(said.query, strict_parsing=bool(said.query), max_num_fields=30))
        return msgspec.convert(given, kind, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise _no_filter() from error


def _no_filter() -> Invalid:
    return Invalid("this is no filter of a list here", remedy="Narrow a list, then keep that.")


def _table(call: Call) -> SqlSavedFilters:
    return SqlSavedFilters(call.desk.store.engine)


def _said(value: object) -> str:
    return "true" if value is True else str(value)
