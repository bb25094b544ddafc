"""How a page is made: templates, who looks at it, and what a browser may do with it.

Texts are escaped where they are put in, and characters that would hide or reorder text are shown instead (I37).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from muniment.api import problems
from muniment.api.routes import Call, Plain
from muniment.api.signin import session_of
from muniment.core.errors import MunimentError, Unauthenticated
from muniment.core.events import KINDS
from muniment.core.identity import Identity, IdentityId
from muniment.core.text import visible
from muniment.core.visibility import SEES_ALL
from muniment.service.sessions import csrf_token
from muniment.web import when, words
from muniment.web.assets import asset

MEDIA_TYPE = "text/html"
#: nothing but our own files, nothing inline, forms to ourselves, and in nobody's frame
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: forms are sent with their origin, which "no-referrer" would hide from us, too
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def show(call: Call, template: str, *, status: int | None = None, **more: Any) -> Plain:
    """A page for somebody who signed in. Raises `Unauthenticated` for whoever came with a token."""
    cookie = session_of(call)
    who, now = call.caller.identity, call.desk.clock.now()
    body = _render(
        template,
        me=who,
        csrf=csrf_token(cookie),
        now=now,
        here=call.route.path,
        asks=asks(who),
        menu=menu(who),
        sees_all=bool(SEES_ALL & set(who.roles)),
        name_of=names(call),
        moment=lambda instant: when.moment(instant, now),
        kinds=" ".join(sorted(KINDS)),
        **more,
    )
    return Plain(body=body, media_type=MEDIA_TYPE, headers=HEADERS, status=status)


def plain(template: str, *, status: int | None = None, **more: Any) -> Plain:
    """A page for nobody in particular."""
    return Plain(
        body=_render(template, me=None, here="", **more),
        media_type=MEDIA_TYPE,
        headers=HEADERS,
        status=status,
    )


def problem_page(error: MunimentError) -> Plain:
    """An error as a page: what is wrong, what to do, and the code for whoever is asked for help."""
    status = problems.status_of(error)
    return plain(
        "problem.html", error=error, status_code=status.value, anonymous=error.code == Unauthenticated.code
    )


def away(path: str, *cookies: tuple[str, str, int]) -> Plain:
    """To another page, after something was done."""
    return Plain(
        body=b"", media_type=MEDIA_TYPE, headers=HEADERS | {"Location": path}, cookies=cookies, status=303
    )


def names(call: Call) -> Callable[[IdentityId], str]:
    """What people are called here, each looked up once a page."""

    @cache
    def name_of(identity: IdentityId) -> str:
        found = (
            call.desk.directory.get(identity)
            if ":" in identity and not identity.startswith("system:")
            else None
        )
        return found.name if found and found.name else short_id(identity)

    return name_of


def menu(who: Identity) -> list[tuple[str, str]]:
    """Where somebody can go, beside home."""
    found = [("/ask", "Ask")] if asks(who) else []
    found += [
        ("/tickets", "Tickets"),
        ("/grants", "Grants"),
        ("/targets", "Targets"),
        ("/findings", "Findings"),
        ("/reviews", "Reviews"),
    ]
    found += [("/people", "People")]
    if SEES_ALL & set(who.roles):
        found += [("/audit", "Audit"), ("/policy", "Policy"), ("/ledger", "Ledger")]
    return found


def asks(who: Identity) -> bool:
    """Whether somebody may ask for anything at all: auditors look, and change nothing."""
    return set(who.roles) != {"auditor"}


def short_id(identity: IdentityId) -> str:
    """An id without its kind."""
    if identity.startswith("system:"):
        return "Muniment"
    return identity.partition(":")[2] or identity


def _render(template: str, **context: Any) -> bytes:
    return templates().get_template(template).render(**context).encode()


@cache
def templates() -> jinja2.Environment:
    """The templates, read once."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("muniment.web"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False, finalize=_seen,
    )  # fmt: skip
    made.globals |= {"asset": asset, "words": words, "short_id": short_id, "count": words.count}
    made.filters |= {"spoken": when.length, "short": when.short, "kind": _kind}
    return made


def _seen(value: Any) -> Any:
    """What goes into a page. Markup of our own goes in as it is."""
    if value is None or isinstance(value, Markup):
        return value or ""
    return visible(str(value))


def _kind(identity: IdentityId) -> str:
    return words.KIND.get(identity.partition(":")[0], "")
