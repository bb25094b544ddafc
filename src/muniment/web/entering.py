"""The way in with a link that whoever runs Muniment made: a page reads it, and one form sends it.

What lets somebody in stands behind the ``#`` and so in no log; opening the link uses nothing up, and so whatever looks
at links before people do takes nothing from them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from muniment.api import problems
from muniment.api.routes import Call, Plain, Routes
from muniment.api.signin import COOKIE, require_signin, same_origin
from muniment.core.errors import MunimentError, NotFound, Refused
from muniment.service.login_links import PATH
from muniment.web.pages import away, plain

routes = Routes("pages")

Back = Annotated[str, Meta(max_length=500)]


class Coming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where somebody wanted to go."""

    return_to: Back = "/"


class Entering(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a link holds, and where somebody wanted to go."""

    token: Annotated[str, Meta(max_length=200)] = ""
    return_to: Back = "/"


@routes.get(PATH, query=Coming, answer="text/html", scope=None, browser=True)
def show_link(call: Call) -> Plain:
    """Show the page that a link of `muniment login-link` opens."""
    return _page(call, call.query.return_to)


@routes.post(PATH, body=Entering, form=True, answer="text/html", scope=None, status=303, browser=True)
def enter_by_link(call: Call) -> Plain:
    """Sign in with a link, once."""
    said: Entering = call.body
    try:
        # nobody is signed in by another site: they would act, and be seen, as somebody else
        if not same_origin(call.office.url, call.header(b"origin"), call.header(b"sec-fetch-site")):
            raise Refused(
                "the request does not show that a page of this server asks for it",
                remedy="Open the link itself.",
                code="refused.csrf",
            )
        signin = require_signin(call)
        entered = signin.enter(said.token, said.return_to, call.cookies.get(COOKIE, ""))
    except NotFound:
        raise
    except MunimentError as error:
        return _page(call, said.return_to, error)
    seconds = int(signin.sessions.longest.total_seconds())
    return away(entered.back, (COOKIE, entered.credential, seconds))


def _page(call: Call, back: str, error: MunimentError | None = None) -> Plain:
    signin = require_signin(call)
    return plain(
        "link.html", back=back, error=error, links=signin.links, provider=signin.provider is not None,
        status=problems.status_of(error).value if error else None,
    )  # fmt: skip
