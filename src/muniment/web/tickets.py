"""The page of a ticket, and what people do there: decide, take back, give back, end, review, collect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from muniment.api import problems
from muniment.api.routes import Call, Plain, Routes
from muniment.core.approving import stale
from muniment.core.errors import Invalid, MunimentError, NotFound, Unauthenticated
from muniment.core.scope import Privilege
from muniment.core.ticket import LIVE, Ticket, Use
from muniment.ports import Bringing
from muniment.service import deciding, evidencing, explaining, extending, looking, past_use
from muniment.service.documents import Document
from muniment.service.looking import Story
from muniment.service.possible import possible
from muniment.store.views import Filter
from muniment.web import words
from muniment.web.pages import away, names, show
from muniment.web.ticket_view import changes, columns, countdown, first_terms, steps
from muniment.web.timeline import timeline
from muniment.web.when import typed

routes = Routes("pages")

#: tickets that an approver is shown beside the one they decide
BESIDE = 5

Text = Annotated[str, Meta(max_length=8000)]


class Looked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a ticket's page says beside the ticket."""

    done: Annotated[str, Meta(max_length=20)] = ""
    seen: Annotated[str, Meta(max_length=80)] = ""  # the digest of what a page showed before


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every form here has: what shows that a page of ours asks, the terms that were shown, and a text."""

    csrf: Annotated[str, Meta(max_length=64)] = ""
    digest: Annotated[str, Meta(max_length=80)] = ""
    comment: Text = ""


class Offering(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Less than was asked."""

    duration: Annotated[str, Meta(max_length=40)] = ""
    scope: tuple[Annotated[str, Meta(max_length=600)], ...] = ()  # places in the scope that was shown


class Reviewing(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How access was used."""

    outcome: Literal["appropriate", "inappropriate"]


@routes.get("/requests/{ticket}", query=Looked, answer="text/html", browser=True)
def show_ticket(call: Call) -> Plain:
    """Show a ticket from ask to closure."""
    looked: Looked = call.query
    if looked.seen:
        ticket = looking.show(call.desk, call.caller, call.ticket)
        error = stale(ticket) if looked.seen != ticket.digest else None
        return _shown(call, error=error, said=Form(digest=looked.seen))
    return _shown(call, done=words.DONE.get(looked.done))


@routes.get("/requests/{ticket}/proof", answer="application/json", browser=True)
def prove_ticket(call: Call) -> Plain:
    """Get what a browser verifies the ticket with: its sealed entries, their proofs, and the checkpoint over them."""
    looking.show(call.desk, call.caller, call.ticket)
    body = msgspec.json.encode(evidencing.proofs(call.desk, call.ticket))
    return Plain(body=body, media_type="application/json")


@routes.post("/requests/{ticket}/approve", body=Form, form=True, answer="text/html", browser=True)
def approve_ticket(call: Call) -> Plain:
    """Approve exactly the terms that were shown."""
    said: Form = call.body
    return _act(
        call, said, "approve",
        lambda: deciding.approve(
            call.desk, call.caller, call.ticket, digest=_digest(said), comment=said.comment.strip() or None
        ),
    )  # fmt: skip


@routes.post("/requests/{ticket}/deny", body=Form, form=True, answer="text/html", browser=True)
def deny_ticket(call: Call) -> Plain:
    """Say no, and why."""
    said: Form = call.body
    return _act(
        call, said, "deny",
        lambda: deciding.deny(call.desk, call.caller, call.ticket, comment=said.comment, digest=_digest(said)),
    )  # fmt: skip


@routes.post("/requests/{ticket}/offer", body=Offering, form=True, answer="text/html", browser=True)
def offer_less(call: Call) -> Plain:
    """Offer to agree to less."""
    said: Offering = call.body

    def offer() -> Ticket:
        asked = looking.show(call.desk, call.caller, call.ticket).terms
        duration = typed(said.duration) if said.duration.strip() else None
        return deciding.counter(
            call.desk, call.caller, call.ticket, digest=_digest(said), comment=said.comment,
            duration=None if duration == asked.length else duration, scope=_chosen(said.scope, asked.scope),
        )  # fmt: skip

    return _act(call, said, "offer", offer)


@routes.post("/requests/{ticket}/accept", body=Form, form=True, answer="text/html", browser=True)
def accept_offer(call: Call) -> Plain:
    """Take the offer that was shown."""
    said: Form = call.body
    return _act(
        call,
        said,
        "accept",
        lambda: deciding.accept(call.desk, call.caller, call.ticket, offer=_digest(said)),
    )


@routes.post("/requests/{ticket}/withdraw", body=Form, form=True, answer="text/html", browser=True)
def withdraw_ticket(call: Call) -> Plain:
    """Take a request back."""
    return _act(call, call.body, "withdraw", lambda: deciding.withdraw(call.desk, call.caller, call.ticket))


@routes.post("/requests/{ticket}/return", body=Form, form=True, answer="text/html", browser=True, urgent=True)
def give_ticket_back(call: Call) -> Plain:
    """Give access back."""
    return _act(call, call.body, "return", lambda: deciding.give_back(call.desk, call.caller, call.ticket))


@routes.post("/requests/{ticket}/revoke", body=Form, form=True, answer="text/html", browser=True, urgent=True)
def revoke_ticket(call: Call) -> Plain:
    """End somebody's access."""
    said: Form = call.body
    return _act(
        call,
        said,
        "revoke",
        lambda: deciding.revoke(call.desk, call.caller, call.ticket, reason=said.comment),
    )


@routes.post("/requests/{ticket}/review", body=Reviewing, form=True, answer="text/html", browser=True)
def review_ticket(call: Call) -> Plain:
    """Say how access was used."""
    said: Reviewing = call.body
    return _act(
        call, said, "review",
        lambda: deciding.review(call.desk, call.caller, call.ticket, outcome=said.outcome, comment=said.comment),
    )  # fmt: skip


@routes.post(
    "/requests/{ticket}/extend", body=Offering, form=True, answer="text/html", browser=True, work=True
)
def extend_ticket(call: Call) -> Plain:
    """Ask for access that is there to go on: a new ticket, that begins when this one ends."""
    said: Offering = call.body
    filed: list[Ticket] = []

    def extend() -> Ticket:
        duration = typed(said.duration)
        filed.append(
            extending.extend(call.desk, call.caller, call.ticket, duration=duration, reason=said.comment)
        )
        return filed[0]

    answer = _act(call, said, "extend", extend)
    return away(f"/requests/{filed[0].id}?done=filed") if filed else answer


@routes.post("/requests/{ticket}/collect", body=Form, form=True, answer="text/html", browser=True)
def collect_here(call: Call) -> Plain:
    """Show what the target issued, once."""
    try:
        body = looking.collect(call.desk, call.caller, call.ticket)
    except (NotFound, Unauthenticated):
        raise
    except MunimentError as error:
        return _shown(call, error=error)
    return show(
        call, "credential.html", ticket=call.ticket, credential=body.decode(errors="backslashreplace")
    )


def _act(call: Call, said: Form, name: str, act: Callable[[], Ticket]) -> Plain:
    """Do it, then show the ticket; or say on the ticket's own page why not, with what was typed still there."""
    try:
        act()
    except (NotFound, Unauthenticated):
        raise
    except MunimentError as error:
        return _shown(call, error=error, said=said, tried=name)
    return away(f"/requests/{call.ticket}?done={name}")


def _shown(
    call: Call,
    *,
    done: str | None = None,
    error: MunimentError | None = None,
    said: Form | None = None,
    tried: str = "",
) -> Plain:
    desk, caller = call.desk, call.caller
    story = looking.story(desk, caller, call.ticket)
    t, now = story.ticket, desk.clock.now()
    can = possible(desk, caller, t)
    way = way_to_approve(can.get("approve"))
    decides = bool(way) or any(act in can and can[act] is None for act in ("approve", "deny", "review"))
    outdated = said is not None and error is not None and error.code == "refused.stale-approval"
    target = desk.targets.get(t.terms.target)
    return show(
        call,
        "ticket.html",
        status=problems.status_of(error).value if error else None,
        t=t,
        document=story.document,
        steps=steps(t),
        rows=columns(
            msgspec.structs.replace(t, use=_used(story.document)),
            first_terms(story.recorded),
            read=bool(target and target.usage),
        ),
        clock=countdown(t, now),
        entries=timeline(story.recorded, story.texts, names(call)),
        can={act for act, refusal in can.items() if refusal is None},
        cannot={act: refusal for act, refusal in can.items() if refusal is not None},
        catalogue={e.privilege: e for e in target.catalogue} if target else {},
        target=target,
        way=way,
        passkeys=bool(call.caller.identity.signing_keys),
        beside=_beside(call, story) if decides else None,
        done=done,
        error=error,
        said=said,
        tried=tried,
        stale=changes(story.recorded, said.digest, t) if outdated and said else None,
    )


def way_to_approve(refusal: MunimentError | None) -> str:
    """How somebody may approve who may, but not by a button alone: by a passkey, or after a stronger login."""
    ways = {"refused.signature-required": "sign", "refused.assurance-required": "step-up"}
    return ways.get(refusal.code, "") if refusal else ""


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever decides wants to know of the beneficiary, as far as they may see it."""

    holds: tuple[Ticket, ...]  # gives access now
    rules: dict[str, str]  # the policies that ask for the decision, as the ledger has them
    brings: tuple[Privilege, ...]  # what the scope brings with it, where the target can say
    unasked: str  # why the target could not say
    before: tuple[Ticket, ...]  # other tickets on the same target, newest first
    used: dict[str, str]  # how what these gave was used, in words


def _beside(call: Call, story: Story) -> Beside:
    t = story.ticket
    now = Filter(beneficiary=t.terms.beneficiary, statuses=tuple(sorted(LIVE)), limit=BESIDE)
    same = Filter(beneficiary=t.terms.beneficiary, target=t.terms.target, limit=BESIDE + 1)
    holds = tuple(x for x in looking.tickets(call.desk, call.caller, now).items if x.id != t.id)
    shown = {t.id, *(x.id for x in holds)}
    earlier = tuple(x for x in looking.tickets(call.desk, call.caller, same).items if x.id not in shown)
    brings, unasked = _brings(call, t)
    return Beside(
        holds=holds,
        before=earlier[:BESIDE],
        used={j.ticket: words.used(j) for j in past_use.judged(call.desk, earlier[:BESIDE])},
        rules=explaining.rules(call.desk, t),
        brings=brings,
        unasked=unasked,
    )


def _brings(call: Call, t: Ticket) -> tuple[tuple[Privilege, ...], str]:
    """What else somebody has by the scope. A target that does not answer holds no decision up."""
    target = call.desk.targets.get(t.terms.target)
    if target is None or not isinstance(target.connector, Bringing):
        return (), ""
    try:
        return target.connector.brings(t.terms.scope), ""
    except MunimentError as error:
        return (), error.message


def _used(document: Document) -> Use | None:
    """All use that is on record, also what was read after the ticket had ended."""
    return None if document["used"] is None else msgspec.convert(document["used"], Use)


def _digest(said: Form) -> str:
    """Of what was shown. Nobody decides on a page about what that page did not show."""
    if not said.digest:
        raise Invalid(
            "the page does not say which terms it showed", remedy="Load the page again, then decide."
        )
    return said.digest


def _chosen(places: tuple[str, ...], asked: tuple[Privilege, ...]) -> tuple[Privilege, ...] | None:
    """The privileges at these places; None for all of them."""
    wanted = {int(each) for each in places if each.isascii() and each.isdigit() and len(each) < 4}
    chosen = tuple(privilege for place, privilege in enumerate(asked) if place in wanted)
    return None if chosen == asked else chosen
