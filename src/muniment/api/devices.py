"""Programs without a browser sign in, by a person's browser. After RFC 8628, in the API's own JSON."""

from __future__ import annotations

from muniment.api import answers, bodies, pages
from muniment.api.routes import Call, Plain, Routes
from muniment.api.signin import require_signin, session_of, show
from muniment.service import devices
from muniment.service.documents import Document
from muniment.service.sessions import csrf_token

routes = Routes("sign-in")


@routes.post("/auth/device", answer=answers.Device, scope=None)
def begin_device(call: Call) -> Document:
    """Begin: get a code to show to a person, and one to ask with."""
    require_signin(call)
    return devices.begin(call.desk, call.office.url)


@routes.post("/auth/device/token", body=bodies.DeviceToken, answer=answers.Token, scope=None)
def fetch_token(call: Call) -> Document:
    """Get the token, once somebody said yes; until then, be told to ask again."""
    said: bodies.DeviceToken = call.body
    require_signin(call)
    return devices.fetch(call.desk, said.device_code)


@routes.get("/auth/device", query=bodies.UserCode, answer="text/html", browser=True)
def show_device(call: Call) -> Plain:
    """Show what a person says yes to."""
    query: bodies.UserCode = call.query
    code = devices.normal(query.user_code) if query.user_code else ""
    asks = (
        f"Does the program that you started yourself show this code? Then it will act as {call.caller.identity.id}.",
        "If somebody sent you here, or the code is another one, close this window.",
    )
    return show("Let a program in", asks, _form(csrf_token(session_of(call)), code))


@routes.post("/auth/device/allow", body=bodies.Allowed, form=True, answer="text/html", browser=True)
def allow_device(call: Call) -> Plain:
    """Let the program in that shows this code. For people who signed in."""
    said: bodies.Allowed = call.body
    code = devices.allow(call.desk, call.caller, said.user_code)
    return show("Done", (f"The program that shows {code} is let in.", "You can close this window."))


def _form(csrf: str, code: str) -> str:
    return f"""\
<form method="post" action="/auth/device/allow">
{pages.hidden("csrf", csrf)}
<p><label>Code <input name="user_code" value="{code}" autocomplete="off" required></label></p>
<p><button>Yes, let it in</button></p>
</form>"""
