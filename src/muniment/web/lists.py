"""Lists: tickets, what is held by them, targets, and what a person must look at. Each can be narrowed, linked to, and taken along."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import Invalid, NotFound
from muniment.core.ticket import STATUSES
from muniment.core.visibility import SEES_ALL
from muniment.service import looking
from muniment.service.documents import Document, ticket_documents
from muniment.service.drift import Wanted as Narrowed
from muniment.service.owing import owed
from muniment.store.views import PAGE, Filter
from muniment.web.narrowing import Field, Narrowing, kept, narrowed, one_of
from muniment.web.pages import show
from muniment.web.taking import Row, every, file

routes = Routes("pages")

#: rows of a page; tickets of a page, where they have rows
SHOWN = 50


class Wanted(Narrowing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows. Empty: all that the reader may see."""

    status: Field = ""
    target: Field = ""
    beneficiary: Field = ""

    def filter(self, limit: int) -> Filter:
        """As the service has it. Raises `Invalid` for what is no identity or status."""
        if self.status and self.status not in STATUSES:
            raise Invalid(
                f"there is no status {self.status!r:.40}", remedy=f"The statuses: {', '.join(STATUSES)}."
            )
        return Filter(
            statuses=tuple(s for s in STATUSES if s == self.status), target=self.target or None, beneficiary=self.who,
            before=self.cursor or None, limit=limit,
        )  # fmt: skip

    @property
    def who(self) -> str | None:
        """An id; a name alone is a person's."""
        return one_of(self.beneficiary)


class Found(Narrowing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which findings."""

    target: Field = ""
    resolved: bool = False

    @property
    def narrowed(self) -> Narrowed:
        """As the service has it."""
        return Narrowed(target=self.target or None, resolved=self.resolved)


for _path, _kind in (("/tickets", Wanted), ("/grants", Wanted), ("/findings", Found)):
    narrowed(_path, _kind)


@routes.get("/tickets", query=Wanted, answer="text/html", browser=True)
def show_tickets(call: Call) -> Plain:
    """List the tickets that whoever looks may see, newest first."""
    wanted: Wanted = call.query
    trouble, page = None, looking.Page(items=(), next=None)
    try:
        page = looking.tickets(call.desk, call.caller, wanted.filter(SHOWN))
    except Invalid as error:
        trouble = error
    return show(
        call,
        "tickets.html",
        wanted=wanted,
        page=page,
        trouble=trouble,
        statuses=STATUSES,
        targets=sorted(call.desk.targets),
        kept=kept(call),
    )


@routes.get("/tickets.csv", query=Wanted, answer="text/csv", browser=True, work=True, heavy=True)
def take_tickets(call: Call) -> Plain:
    """Take the list along."""
    wanted: Wanted = call.query

    def page(before: str | None) -> tuple[list[Row], str | None]:
        asked = msgspec.structs.replace(wanted, cursor=before or "").filter(PAGE)
        found = looking.tickets(call.desk, call.caller, asked)
        return [ticket_row(d) for d in ticket_documents(call.desk, found.items)], found.next

    return file("tickets", TICKET, every(page))


@routes.get("/grants", query=Wanted, answer="text/html", browser=True)
def show_grants(call: Call) -> Plain:
    """List what tickets make targets hold now."""
    wanted: Wanted = call.query
    trouble, page = None, looking.Rows(items=[], next=None)
    try:
        page = looking.grants_page(
            call.desk, call.caller, target=wanted.target or None, beneficiary=wanted.who, before=wanted.cursor or None,
            limit=SHOWN,
        )  # fmt: skip
    except Invalid as error:
        trouble = error
    return show(
        call,
        "grants.html",
        wanted=wanted,
        page=page,
        trouble=trouble,
        targets=sorted(call.desk.targets),
        kept=kept(call),
    )


@routes.get("/grants.csv", query=Wanted, answer="text/csv", browser=True, work=True, heavy=True)
def take_grants(call: Call) -> Plain:
    """Take the list along."""
    wanted: Wanted = call.query

    def page(before: str | None) -> tuple[list[Row], str | None]:
        found = looking.grants_page(
            call.desk,
            call.caller,
            target=wanted.target or None,
            beneficiary=wanted.who,
            before=before,
            limit=PAGE,
        )
        return [tuple(row[name] for name in _GRANT) for row in found.items], found.next

    return file("grants", _GRANT, every(page))


@routes.get("/findings", query=Found, answer="text/html", browser=True)
def show_findings(call: Call) -> Plain:
    """List what a person must look at."""
    wanted: Found = call.query
    page = looking.findings_page(call.desk, call.caller, wanted.narrowed, before=wanted.cursor or None, limit=SHOWN)  # fmt: skip
    return show(
        call, "findings.html", wanted=wanted, page=page, targets=sorted(call.desk.targets), kept=kept(call)
    )


@routes.get("/findings.csv", query=Found, answer="text/csv", browser=True, work=True, heavy=True)
def take_findings(call: Call) -> Plain:
    """Take the list along."""
    wanted: Found = call.query

    def page(before: str | None) -> tuple[list[Row], str | None]:
        found = looking.findings_page(call.desk, call.caller, wanted.narrowed, before=before, limit=PAGE)
        return [tuple(row[name] for name in _FINDING) for row in found.items], found.next

    return file("findings", _FINDING, every(page))


@routes.get("/targets", answer="text/html", browser=True)
def show_targets(call: Call) -> Plain:
    """List the systems on which privileges exist."""
    targets = [target for _, target in sorted(call.desk.targets.items())]
    return show(call, "targets.html", targets=targets, owed=owed(call.desk))


@routes.get("/targets/{target}", answer="text/html", browser=True)
def show_target(call: Call) -> Plain:
    """Show a target: what can be asked for there, and who holds what by a ticket."""
    target = call.desk.targets.get(call.names["target"])
    if target is None:
        raise NotFound(f"there is no target {call.names['target']!r:.60}", remedy="/targets lists them.")
    owned = call.desk.owns(target, call.caller.identity) or SEES_ALL & set(call.caller.identity.roles)
    return show(
        call, "target.html", target=target, may_list=bool(owned),
        grants=looking.grants_page(call.desk, call.caller, target=target.id, limit=SHOWN),
    )  # fmt: skip


@routes.get("/targets/{target}/holdings", answer="text/html", browser=True, work=True, heavy=True)
def show_holdings(call: Call) -> Plain:
    """Ask a target what it holds now."""
    holdings = looking.holdings(call.desk, call.caller, call.names["target"])
    return show(call, "_holdings.html", holdings=holdings)


TICKET = (
    "id", "status", "kind", "requester", "beneficiary", "target", "account", "requested", "approved", "granted",
    "justification", "filed_at", "starts_at", "duration", "expires_at", "gone_at", "closed_at",
)  # fmt: skip
_GRANT = ("ticket", "beneficiary", "target", "account", "privilege", "resource", "status", "expires_at")
_FINDING = (
    "id",
    "ticket",
    "target",
    "type",
    "severity",
    "message",
    "raised_at",
    "resolved_at",
    "resolved_by",
)


def ticket_row(d: Document) -> Row:
    """A ticket as a row of a file, under `TICKET`."""
    scopes = (_listed(d[name]) for name in ("requested", "approved", "granted"))
    gone, closed = (d["revocation"] or {}).get("observed_gone_at"), (d["closure"] or {}).get("at")
    return (
        *(d[name] for name in TICKET[:7]), *scopes, d["justification"], d["filed_at"], d["window"]["starts_at"],
        d["window"]["duration"], d["window"]["expires_at"], gone, closed,
    )  # fmt: skip


def _listed(scope: Iterable[dict[str, Any]]) -> str:
    return "; ".join(p["privilege"] + (f" ({p['resource']})" if p["resource"] else "") for p in scope)
