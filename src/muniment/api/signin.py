"""Signing in with an identity provider, and out again.

The session is a cookie that scripts cannot read and other sites cannot send with a change: a change also carries what
`/auth/session` says as ``csrf``, in ``X-CSRF-Token`` (`app` looks at both).
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import msgspec

from muniment.api import answers, bodies, pages
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import Invalid, NotFound, Refused, Repeated, Unauthenticated
from muniment.core.instants import parse_instant
from muniment.core.login import FRESH
from muniment.service.documents import Document
from muniment.service.login_links import PATH
from muniment.service.sessions import csrf_token
from muniment.service.signing_in import PATIENCE, SignIn, is_path

routes = Routes("sign-in")

#: bound to this host, path / and TLS by its name alone
COOKIE, NOTE = "__Host-muniment", "__Host-muniment-signin"
DONE = "/auth/done"


@routes.get("/auth/login", query=bodies.Login, answer="text/html", scope=None, status=302, browser=True)
def sign_in(call: Call) -> Plain:
    """Go to the identity provider and sign in; with a level, again, and with at least that assurance."""
    query: bodies.Login = call.query
    signin = require_signin(call)
    if signin.provider is None and signin.links:
        back = query.return_to if query.return_to and is_path(query.return_to) else DONE
        return _away(f"{PATH}?{urlencode({'return_to': back})}")
    url, note = signin.begin(back=query.return_to or DONE, level=query.level)
    return _away(url, (NOTE, note, int(PATIENCE.total_seconds())))


@routes.get("/auth/callback", query=bodies.Callback, answer="text/html", scope=None, status=302, browser=True)
def come_back(call: Call) -> Plain:
    """Come back from the identity provider. Only good in the browser that went there."""
    query: bodies.Callback = call.query
    signin = require_signin(call)
    given = {
        name: value
        for name in ("code", "state", "iss", "error", "error_description")
        if (value := getattr(query, name)) is not None
    }
    entered = signin.finish(call.cookies.get(NOTE, ""), given, call.cookies.get(COOKIE, ""))
    seconds = int(signin.sessions.longest.total_seconds())
    return _away(entered.back, (COOKIE, entered.credential, seconds), (NOTE, "", 0))


@routes.get("/auth/session", answer=answers.Session)
def get_session(call: Call) -> Document:
    """Say who is signed in and how, and what a page sends with each change (``csrf``)."""
    login, who, cookie = call.caller.login, call.caller.identity, session_of(call)
    if login is None:
        raise no_session()
    return {
        "identity": who.id, "name": who.name, "roles": list(who.roles), "groups": list(who.groups),
        "issuer": login.issuer, "subject": login.subject, "level": login.level, "acr": login.acr,
        "signed_in_at": parse_instant(login.at).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "fresh": call.desk.clock.now() - parse_instant(login.at) <= FRESH, "csrf": csrf_token(cookie),
    }  # fmt: skip


@routes.get("/auth/done", answer="text/html", browser=True)
def show_done(call: Call) -> Plain:
    """Show who is signed in."""
    who = call.caller.identity
    said = (f"You are signed in as {who.name or who.id} ({who.id}).", "You can close this window.")
    return show("Signed in", said)


@routes.post("/auth/logout", answer=answers.LoggedOut, urgent=True)
def sign_out(call: Call) -> Plain:
    """End the session here. The answer says where to go to sign out at the identity provider as well."""
    if call.caller.login is None:
        raise Refused("this is no session", remedy="Tokens end with `muniment token revoke`.")
    signin = require_signin(call)
    signin.sessions.end(call.cookies.get(COOKIE, ""), call.desk.clock.now())
    return Plain(
        body=msgspec.json.encode({"signed_out": True, "continue_at": signin.leave(call.office.url)}),
        media_type="application/json",
        cookies=((COOKIE, "", 0),),
    )


@routes.post(
    "/auth/backchannel-logout",
    body=bodies.LogoutToken,
    form=True,
    answer=answers.Ended,
    scope=None,
)
def end_sessions(call: Call) -> Document:
    """Hear from the identity provider that somebody signed out there. OpenID Connect Back-Channel Logout 1.0."""
    said: bodies.LogoutToken = call.body
    try:
        return {"ended": require_signin(call).signed_out(said.logout_token)}
    except (Unauthenticated, Repeated) as error:
        raise Invalid(error.message, remedy=error.remedy, code="invalid.logout-token") from error


@routes.get("/auth/style.css", answer="text/css", scope=None, quick=True)
def get_style(call: Call) -> Plain:
    """Get what the pages look like."""
    del call
    return Plain(body=pages.STYLE, media_type="text/css")


def session_of(call: Call) -> str:
    """The credential of the caller's session. Raises `Unauthenticated` where they came with a token."""
    if call.caller.login is None:
        raise no_session()
    return call.cookies[COOKIE]


def no_session() -> Unauthenticated:
    """Only a person who signed in can have this."""
    return Unauthenticated(
        "nobody is signed in here", remedy="Sign in: /auth/login.", code="unauthenticated.no-session"
    )


def require_signin(call: Call) -> SignIn:
    """What people sign in at. Raises `NotFound` where there is nothing."""
    found: SignIn | None = call.office.signin
    if found is None:
        raise NotFound(
            "nobody can sign in here: no identity provider is configured",
            remedy="An operator adds [signin] to the configuration; tokens go on working.",
            code="not-found.sign-in",
        )
    return found


def _away(url: str, *cookies: tuple[str, str, int]) -> Plain:
    return Plain(body=b"", media_type=pages.MEDIA_TYPE, headers={"Location": url}, cookies=cookies)


def show(title: str, said: tuple[str, ...], form: str = "", policy: str = pages.POLICY) -> Plain:
    """A page."""
    return pages.plain(pages.page(title, said, form), policy)


def same_origin(url: str, origin: str | None, fetched: str | None) -> bool:
    """Whether a change comes from a page of ours, as the browser says: nobody but it can write these headers."""
    ours = urlsplit(url)
    if origin is not None:
        return origin == f"{ours.scheme}://{ours.netloc}"
    return fetched == "same-origin"


def cookies_of(header: str | None) -> dict[str, str]:
    """The cookies of ours in a header; of several with one name none, since one of them is not ours."""
    found: dict[str, list[str]] = {}
    for part in (header or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name in {COOKIE, NOTE}:
            found.setdefault(name, []).append(value)
    return {name: values[0] for name, values in found.items() if len(values) == 1}
