"""The first page: what one has now, what one asked for, and what waits for one's decision."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from muniment.api.routes import Call, Plain, Routes
from muniment.api.signin import COOKIE, require_signin
from muniment.core.ticket import ENDS, LIVE, STATUSES, Status, Ticket
from muniment.service import looking
from muniment.service.documents import Document, ticket_documents
from muniment.service.drift import ALL
from muniment.store.views import Filter
from muniment.web.pages import away, plain, show
from muniment.web.ticket_view import Clock, countdown

routes = Routes("pages")

#: more is a list of its own
SHOWN = 20
RECENT = 6
_OPEN: tuple[Status, ...] = tuple(s for s in STATUSES if s not in ENDS)
_ENDS: tuple[Status, ...] = tuple(sorted(ENDS))


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket in few words."""

    ticket: Ticket
    clock: Clock | None
    reason: str = ""
    soon: bool = False  # its end is near


@routes.get("/", answer="text/html", browser=True)
def show_home(call: Call) -> Plain:
    """Show what concerns whoever looks."""
    desk, caller, now = call.desk, call.caller, call.desk.clock.now()
    concerned = looking.concerning(desk, caller, _OPEN)
    ended = looking.concerning(desk, caller, _ENDS, limit=RECENT)
    waiting = looking.tickets(desk, caller, Filter(limit=SHOWN), awaiting_me=True)
    reasons = {d["id"]: d["justification"] for d in ticket_documents(desk, waiting.items)}

    def card(t: Ticket) -> Card:
        clock = countdown(t, now)
        soon = t.status == "active" and clock is not None and clock.left <= timedelta(minutes=10)
        return Card(ticket=t, clock=clock, reason=reasons.get(t.id, ""), soon=soon)

    look_at: list[Document] = looking.findings_page(desk, caller, ALL, limit=SHOWN).items
    return show(
        call,
        "home.html",
        active=[card(t) for t in concerned if t.status in LIVE],
        asked=[card(t) for t in concerned if t.status not in LIVE],
        ended=[card(t) for t in ended],
        waiting=[card(t) for t in waiting.items],
        more_waiting=waiting.next is not None,
        findings=look_at,
    )


@routes.get("/signed-out", answer="text/html", scope=None, browser=True)
def show_signed_out(call: Call) -> Plain:
    """Show that the session is over, and how to end the one at the identity provider."""
    signin = require_signin(call)
    return plain("signed_out.html", there=signin.leave(call.office.url), provider=signin.provider is not None)


class Leaving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing but what shows that a page of ours asks."""

    csrf: str = ""


@routes.post("/sign-out", body=Leaving, form=True, answer="text/html", status=303, browser=True, urgent=True)
def leave(call: Call) -> Plain:
    """End the session of this browser."""
    require_signin(call).sessions.end(call.cookies.get(COOKIE, ""), call.desk.clock.now())
    return away("/signed-out", (COOKIE, "", 0))
