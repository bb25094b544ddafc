"""Programs without a browser sign in, by a person's browser (RFC 8628): forms in, and OAuth's own errors out."""

from __future__ import annotations

from muniment.api import answers, bodies, pages
from muniment.api.dialects import OAUTH
from muniment.api.routes import Call, Plain, Routes
from muniment.api.signin import require_signin, session_of, show
from muniment.service import devices
from muniment.service.documents import Document
from muniment.service.sessions import csrf_token

routes = Routes("sign-in")


@routes.post(
    "/auth/device", body=bodies.DeviceBegun, form=True, answer=answers.Device, dialect=OAUTH, scope=None
)
def begin_device(call: Call) -> Document:
    """Begin: get a code to show to a person, and one to ask with. RFC 8628, section 3.1."""
    require_signin(call)
    said: bodies.DeviceBegun = call.body
    return devices.begin(call.desk, call.office.url, client=said.client_id, scope=said.scope)


@routes.post(
    "/auth/device/token",
    body=bodies.DeviceToken,
    form=True,
    answer=answers.DeviceToken,
    dialect=OAUTH,
    scope=None,
)
def fetch_token(call: Call) -> Document:
    """Get the token, once somebody said yes; until then, be told to ask again. RFC 8628, section 3.4."""
    signin = require_signin(call)
    said: bodies.DeviceToken = call.body
    return devices.fetch(
        call.desk, signin.pace, said.device_code, client=said.client_id, grant=said.grant_type
    )


@routes.get("/.well-known/oauth-authorization-server", answer=answers.AuthorizationServer, scope=None)
def describe_sign_in(call: Call) -> Document:
    """Say where programs are let in. RFC 8414."""
    require_signin(call)
    url = call.office.url
    return {
        "issuer": url, "device_authorization_endpoint": f"{url}/auth/device",
        "token_endpoint": f"{url}/auth/device/token", "token_endpoint_auth_methods_supported": ["none"],
        "grant_types_supported": [devices.GRANT], "response_types_supported": [],
        "scopes_supported": list(devices.SCOPES),
    }  # fmt: skip


@routes.get("/auth/device", query=bodies.UserCode, answer="text/html", browser=True)
def show_device(call: Call) -> Plain:
    """Show what a person says yes or no to."""
    query: bodies.UserCode = call.query
    code = devices.normal(query.user_code) if query.user_code else ""
    asks = (
        f"Does the program that you started yourself show this code? Then it will act as {call.caller.identity.id}.",
        "If somebody sent you here, or the code is another one, say no.",
    )
    return show("Let a program in", asks, _form(csrf_token(session_of(call)), code))


@routes.post("/auth/device/allow", body=bodies.Answered, form=True, answer="text/html", browser=True)
def allow_device(call: Call) -> Plain:
    """Let the program in that shows this code. For people who signed in."""
    said: bodies.Answered = call.body
    code = devices.answer(call.desk, call.caller, said.user_code, "yes")
    return show("Done", (f"The program that shows {code} is let in.", "You can close this window."))


@routes.post("/auth/device/deny", body=bodies.Answered, form=True, answer="text/html", browser=True)
def deny_device(call: Call) -> Plain:
    """Keep the program out that shows this code. For people who signed in."""
    said: bodies.Answered = call.body
    code = devices.answer(call.desk, call.caller, said.user_code, "no")
    return show("Kept out", (f"The program that shows {code} is told no.", "You can close this window."))


def _form(csrf: str, code: str) -> str:
    return f"""\
<form method="post" action="/auth/device/allow">
{pages.hidden("csrf", csrf)}
<p><label>Code <input name="user_code" value="{code}" autocomplete="off" required></label></p>
<p><button>Yes, let it in</button> <button formaction="/auth/device/deny">No, keep it out</button></p>
</form>"""
