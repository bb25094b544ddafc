"""For whoever audits: every entry of the ledger by what it is about, how it goes over time, and samples of tickets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import Invalid, MunimentError
from muniment.core.events import KINDS, decode_data
from muniment.core.instants import parse_instant
from muniment.core.ticket import STATUSES
from muniment.core.visibility import SEES_ALL
from muniment.service import auditing
from muniment.service.documents import ticket_documents
from muniment.service.trends import Spread
from muniment.store.searching import Sealed, Sought
from muniment.web import charts, words
from muniment.web.lists import TICKET, ticket_row
from muniment.web.narrowing import Field, Narrowing, kept, narrowed, one_of
from muniment.web.pages import names, show
from muniment.web.taking import Row, every, file
from muniment.web.timeline import NameOf, title

routes = Routes("pages")

SHOWN, PAGE = 50, 1000
#: what is drawn unless somebody wants another number
USUAL = 25


class Wanted(Narrowing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries."""

    about: Field = ""  # a ticket, an identity, or whatever else entries are about
    kind: Field = ""
    who: Field = ""
    target: Field = ""
    since: Field = ""
    until: Field = ""

    def sought(self, limit: int, cursor: str) -> Sought:
        """As the store has it. Raises `Invalid` for what cannot be meant."""
        if self.kind and self.kind not in _names():
            raise Invalid(f"no entry is called {self.kind!r:.60}", remedy="Choose one of the list.")
        about = self.about.strip()
        return Sought(
            kinds=_names().get(self.kind, ()), actor=_actor(self.who), target=self.target or None,
            stream=(f"identity:{about}" if about.partition(":")[0] in words.KIND else about) or None,
            since=day(self.since, "the first day"), before=day(self.until, "the last day", end=True),
            after=_place(cursor), limit=limit,
        )  # fmt: skip


class Drawing(Narrowing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample, and what it is of."""

    since: Field = ""
    until: Field = ""
    target: Field = ""
    kind: Field = ""
    status: Field = ""
    count: Annotated[int, Meta(ge=0, le=100_000)] = USUAL
    seed: Field = ""

    def population(self) -> auditing.Population:
        """As the service has it."""
        status: Any = self.status or None
        return auditing.Population(
            since=day(self.since, "the first day"), before=day(self.until, "the last day", end=True),
            target=self.target or None, kind=self.kind or None, status=status,
        )  # fmt: skip


for _path, _kind in (("/audit", Wanted), ("/audit/sample", Drawing)):
    narrowed(_path, _kind)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as it is listed."""

    index: int
    at: str
    actor: str
    title: str
    kind: str
    about: str
    link: str | None


@routes.get("/audit", query=Wanted, answer="text/html", browser=True, roles=SEES_ALL)
def show_audit(call: Call) -> Plain:
    """Search every sealed entry of the ledger."""
    wanted: Wanted = call.query
    trouble, found = None, list[Sealed]()
    try:
        found = auditing.entries(call.desk, call.caller, wanted.sought(SHOWN + 1, wanted.cursor))
    except Invalid as error:
        trouble = error
    shown, name_of = found[:SHOWN], names(call)
    return show(
        call, "audit.html", wanted=wanted, lines=[line(each, name_of) for each in shown], trouble=trouble,
        next=_cursor(shown[-1]) if len(found) > SHOWN else None, kinds_of=_kinds(),
        targets=sorted(call.desk.targets), kept=kept(call),
    )  # fmt: skip


@routes.get(
    "/audit.csv", query=Wanted, answer="text/csv", browser=True, work=True, heavy=True, roles=SEES_ALL
)
def take_audit(call: Call) -> Plain:
    """Take what was found along."""
    wanted: Wanted = call.query

    def page(cursor: str | None) -> tuple[list[Row], str | None]:
        found = auditing.entries(call.desk, call.caller, wanted.sought(PAGE, cursor or ""))
        rows: list[Row] = [
            (e.index, e.entry.at, e.entry.type, e.entry.ticket, e.entry.seq, e.entry.actor.id, e.entry.actor.via)
            for e in found
        ]  # fmt: skip
        return rows, _cursor(found[-1]) if len(found) == PAGE else None

    return file("entries", ("leaf", "at", "kind", "about", "place", "actor", "via"), every(page))


@routes.get("/audit/trends", answer="text/html", browser=True, roles=SEES_ALL)
def show_trends(call: Call) -> Plain:
    """Show how it goes over time."""
    months = call.desk.trends.months()
    return show(call, "trends.html", charts=charts.of(months), any_tickets=any(m.tickets for m in months))


@routes.get("/audit/trends.csv", answer="text/csv", browser=True, roles=SEES_ALL)
def take_trends(call: Call) -> Plain:
    """Take the figures along."""
    rows: list[Row] = [
        (
            f"{m.begins:%Y-%m}", m.tickets, m.glass,
            *_spread(m.decided), *_spread(m.gone),
            m.temporary, m.standing,
        )
        for m in call.desk.trends.months()
    ]  # fmt: skip
    return file("trends", _TRENDS, rows)


@routes.get("/audit/sample", query=Drawing, answer="text/html", browser=True, roles=SEES_ALL)
def show_sample(call: Call) -> Plain:
    """Draw a sample of tickets, or show the one that was drawn by a seed."""
    wanted: Drawing = call.query
    trouble, sample = None, None
    if wanted.seed:
        try:
            sample = _drawn(call, wanted)
        except MunimentError as error:
            trouble = error
    return show(
        call, "sample.html", wanted=wanted, sample=sample, trouble=trouble, statuses=STATUSES,
        targets=sorted(call.desk.targets), seed=wanted.seed or call.desk.random.bytes(8).hex(), kept=kept(call),
    )  # fmt: skip


@routes.get(
    "/audit/sample.csv", query=Drawing, answer="text/csv", browser=True, work=True, heavy=True, roles=SEES_ALL
)
def take_sample(call: Call) -> Plain:
    """Take a sample along, with its seed and the size of its population in every row."""
    wanted: Drawing = call.query
    if not wanted.seed:
        raise Invalid("a sample is drawn by a seed", remedy="Draw it on the page, then take it along.")
    sample = _drawn(call, wanted)
    rows: list[Row] = [
        (wanted.seed, sample.size, *ticket_row(d)) for d in ticket_documents(call.desk, sample.tickets)
    ]
    return file("sample", ("seed", "population", *TICKET), rows)


def day(text: str, what: str, *, end: bool = False) -> datetime | None:
    """A day as a browser's own field has it, in UTC: its beginning, or the beginning of the next. Raises `Invalid`."""
    if not text.strip():
        return None
    begins = parse_instant(f"{text.strip()}T00:00:00Z", what)
    try:
        return begins + timedelta(days=1) if end else begins
    except OverflowError as error:
        raise Invalid(f"{what} does not exist", remedy="Write it like 2026-11-23.") from error


def _drawn(call: Call, wanted: Drawing) -> auditing.Sample:
    return auditing.drawn(call.desk, call.caller, wanted.population(), count=wanted.count, seed=wanted.seed)


def line(sealed: Sealed, name_of: NameOf) -> Line:
    """An entry as it is listed."""
    entry = sealed.entry
    link = None
    if entry.ticket.startswith("req_"):
        link = f"/requests/{entry.ticket}#event-{entry.seq}"
    elif entry.ticket.startswith("identity:"):
        link = f"/person?id={quote(entry.ticket.removeprefix('identity:'), safe='')}"
    elif entry.ticket == "policy":
        link = "/policy"
    try:
        said = title(decode_data(entry.type, bytes(entry.data)), name_of(entry.actor.id), name_of)
    except (KeyError, msgspec.MsgspecError):  # of a later version
        said = words.event(entry.type)
    return Line(
        index=sealed.index, at=entry.at, actor=entry.actor.id, title=said, kind=entry.type, about=entry.ticket, link=link
    )  # fmt: skip


def _spread(found: Spread | None) -> Row:
    return (found.count, found.median, found.slow) if found else (0, None, None)


def _names() -> dict[str, tuple[str, ...]]:
    """Kinds of entries without their versions, and with them."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in sorted(KINDS):
        name = kind.partition("/")[0]
        found[name] = (*found.get(name, ()), kind)
    return found


def _kinds() -> list[tuple[str, str]]:
    return [(name, words.event(name)) for name in _names()]


def _actor(text: str) -> str | None:
    text = text.strip()
    return text if text.startswith("system:") else one_of(text)


def _cursor(last: Sealed) -> str:
    return f"{last.entry.at}~{last.index}"


def _place(cursor: str) -> tuple[str, int] | None:
    if not cursor:
        return None
    at, _, index = cursor.partition("~")
    parse_instant(at, "the place in the list")
    if not (index.isascii() and index.isdigit() and len(index) < 16):
        raise Invalid("the place in the list is none", remedy="Begin at the newest.")
    return at, int(index)


_TRENDS = (
    "month", "tickets", "broke the glass", "decided", "seconds to decide, median", "seconds to decide, 95 of 100",
    "gone", "seconds to be gone, median", "seconds to be gone, 95 of 100", "held by tickets", "standing",
)  # fmt: skip
