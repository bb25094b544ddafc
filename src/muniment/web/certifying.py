"""Looks back on access that ended, and campaigns over what stands: lists, a campaign, and deciding in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from muniment.api import problems
from muniment.api.routes import Call, Plain, Routes
from muniment.core.campaign import STATUSES
from muniment.core.errors import Invalid, MunimentError, NotFound, Unauthenticated
from muniment.core.visibility import SEES_ALL
from muniment.service import campaign_documents as documents
from muniment.service import certifying, reviews
from muniment.service.certifying import Where
from muniment.service.documents import Document
from muniment.service.reviews import STATES
from muniment.web.lists import SHOWN
from muniment.web.pages import away, show

routes = Routes("pages")

Field = Annotated[str, Meta(max_length=300)]
#: what is said after somebody did something
DONE = {
    "decided": "It is recorded. The last word on an item counts, until somebody signs the campaign off.",
    "left": "It is recorded. Some of them have to be decided one by one, and are left.",
    "close": "You signed it off. What was revoked is taken away now, and the campaign closes once that is seen.",
}


class Looks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which reviews."""

    state: Annotated[str, Meta(max_length=20)] = "owed"
    target: Field = ""
    cursor: Annotated[str, Meta(max_length=60)] = ""


class Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which campaigns."""

    status: Annotated[str, Meta(max_length=20)] = ""
    cursor: Annotated[str, Meta(max_length=80)] = ""


class Items(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items of a campaign, and what the page says beside them."""

    mine: bool = False
    decision: Annotated[str, Meta(max_length=20)] = ""
    target: Field = ""
    privilege: Field = ""
    account: Field = ""
    after: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    done: Annotated[str, Meta(max_length=20)] = ""

    @property
    def where(self) -> Where:
        """As the service has it."""
        return Where(
            decision=self.decision or None, target=self.target or None, privilege=self.privilege or None,
            account=self.account or None,
        )  # fmt: skip

    def link(self, path: str, **change: Any) -> str:
        """The same items, with something else."""
        given = {**msgspec.structs.asdict(self), "done": "", **change}
        query = urlencode({name: str(value).lower() for name, value in given.items() if value})
        return f"{path}?{query}" if query else path


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shows that a page of ours asks, and a text."""

    csrf: Annotated[str, Meta(max_length=64)] = ""
    comment: Annotated[str, Meta(max_length=8000)] = ""


class Deciding(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to become of the items that are ticked; or of all of one's own that the page's filter finds."""

    decision: Literal["keep", "revoke", "change"]
    item: tuple[Annotated[str, Meta(max_length=10)], ...] = ()
    every: bool = False
    target: Field = ""
    privilege: Field = ""
    account: Field = ""


@routes.get("/reviews", query=Looks, answer="text/html", browser=True)
def show_reviews(call: Call) -> Plain:
    """List the looks back that are owed, overdue or done."""
    wanted: Looks = call.query
    trouble, page = None, reviews.Page(items=[], next=None)
    asked = reviews.Wanted(
        state=wanted.state, target=wanted.target or None, before=wanted.cursor or None, limit=SHOWN
    )
    try:
        page = reviews.listed(call.desk, call.caller, asked)
    except Invalid as error:
        trouble = error
    return show(
        call, "reviews.html", wanted=wanted, page=page, trouble=trouble, states=STATES,
        targets=sorted(call.desk.targets), link=lambda **more: _link("/reviews", wanted, more),
    )  # fmt: skip


@routes.get("/reviews/campaigns", query=Listed, answer="text/html", browser=True)
def show_campaigns(call: Call) -> Plain:
    """List the campaigns that whoever looks may see."""
    wanted: Listed = call.query
    trouble, found, more = None, list[Document](), None
    statuses = (wanted.status,) if wanted.status else ()
    try:
        found, more = documents.listed(call.desk, call.caller, statuses, after=wanted.cursor, limit=SHOWN)
    except Invalid as error:
        trouble = error
    return show(
        call, "campaigns.html", wanted=wanted, items=found, next=more, trouble=trouble, statuses=STATUSES,
        link=lambda **more: _link("/reviews/campaigns", wanted, more),
    )  # fmt: skip


@routes.get("/reviews/campaigns/{campaign}", query=Items, answer="text/html", browser=True)
def show_campaign(call: Call) -> Plain:
    """Show a campaign, and decide in it."""
    wanted: Items = call.query
    return _shown(call, wanted, done=DONE.get(wanted.done))


@routes.post(
    "/reviews/campaigns/{campaign}/decide", body=Deciding, form=True, answer="text/html", browser=True
)
def decide_items(call: Call) -> Plain:
    """Say what is to become of items, and why."""
    said: Deciding = call.body
    if said.every:
        where = Where(
            decision="none",
            target=said.target or None,
            privilege=said.privilege or None,
            account=said.account or None,
        )
    else:
        where = Where(items=",".join(said.item) or None)
    back = Items(mine=True, target=said.target, privilege=said.privilege, account=said.account)

    def decide() -> str:
        if not said.every and not said.item:
            raise Invalid("no items are ticked", remedy="Tick those that you mean.", code="invalid.no-items")
        made = certifying.decide(
            call.desk, call.caller, call.names["campaign"], where, decision=said.decision, reason=said.comment
        )  # fmt: skip
        return "left" if made.left else "decided"

    return _act(call, said, back, decide)


@routes.post("/reviews/campaigns/{campaign}/close", body=Form, form=True, answer="text/html", browser=True)
def sign_off_campaign(call: Call) -> Plain:
    """Stand for what was decided."""
    said: Form = call.body

    def sign() -> str:
        certifying.sign_off(call.desk, call.caller, call.names["campaign"], said.comment)
        return "close"

    return _act(call, said, Items(), sign)


def _act(call: Call, said: Form, back: Items, act: Callable[[], str]) -> Plain:
    """Do it, then show the campaign; or say on its page why not, with what was typed still there."""
    try:
        done = act()
    except (NotFound, Unauthenticated):
        raise
    except MunimentError as error:
        return _shown(call, back, error=error, said=said)
    return away(back.link(f"/reviews/campaigns/{call.names['campaign']}", done=done))


def _shown(
    call: Call, wanted: Items, *, done: str | None = None, error: MunimentError | None = None,
    said: Form | None = None,
) -> Plain:  # fmt: skip
    _, campaign = certifying.visible(call.desk, call.caller, call.names["campaign"])
    found, more = documents.items(
        call.desk, call.caller, campaign, wanted.where, mine=wanted.mine, after=wanted.after, limit=SHOWN
    )
    where = f"/reviews/campaigns/{campaign.name}"
    signs = campaign.status == "decided" and bool(SEES_ALL & set(call.caller.identity.roles))
    return show(
        call, "campaign.html", status=problems.status_of(error).value if error else None,
        c=documents.document(call.desk, call.caller, campaign), items=found, wanted=wanted, done=done, error=error,
        said=said, ticked=set(said.item) if isinstance(said, Deciding) else set(), signs=signs,
        yours=set(documents.yours(call.desk, call.caller, campaign)), where=where,
        first=wanted.link(where, after=0) if wanted.after else "",
        further_on=wanted.link(where, after=more) if more is not None else "",
    )  # fmt: skip


def _link(path: str, wanted: msgspec.Struct, change: dict[str, str]) -> str:
    given = {**msgspec.structs.asdict(wanted), **change}
    query = urlencode({name: value for name, value in given.items() if value})
    return f"{path}?{query}" if query else path
