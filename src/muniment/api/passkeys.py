"""Passkeys: made on a page here, and used to sign approvals."""

from __future__ import annotations

import msgspec

from muniment.api import answers, bodies, pages
from muniment.api.routes import Call, Plain, Routes
from muniment.api.signin import COOKIE, require_signin, session_of, show
from muniment.service import looking, passkeys
from muniment.service.documents import Document
from muniment.service.sessions import csrf_token

routes = Routes("sign-in")

SCRIPT = b"""\
// Makes a passkey, and shows the line that goes into the identities file.
const said = document.getElementById("said");
const button = document.getElementById("make");
const post = async (path, body) => {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": button.dataset.csrf },
    body: body && JSON.stringify(body),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(`${document.detail}. ${document.remedy}`);
  return document;
};
button.addEventListener("click", async () => {
  try {
    const { state, options } = await post("/auth/passkeys/begin");
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    const made = await navigator.credentials.create({ publicKey });
    const { key } = await post("/auth/passkeys/finish", { state, answer: made.toJSON() });
    said.textContent = key;
  } catch (error) {
    said.textContent = String(error.message ?? error);
  }
});
"""
_POLICY = f"{pages.POLICY}; script-src 'self'; connect-src 'self'"


@routes.get("/auth/passkeys", answer="text/html", browser=True)
def show_passkeys(call: Call) -> Plain:
    """Show the page that makes passkeys."""
    said = (
        f"A passkey that you make here signs approvals of {call.caller.identity.id}, once its key stands in the directory.",
        "Give the line that appears to whoever keeps the identities: it belongs to your ssh_keys.",
    )
    form = (
        f'<p><button id="make" data-csrf="{csrf_token(session_of(call))}">Make a passkey</button></p>\n'
        '<p><code id="said"></code></p>\n<script src="/auth/passkeys.js" defer></script>'
    )
    return show("Passkeys", said, form, _POLICY)


@routes.get("/auth/passkeys.js", answer="text/javascript", scope=None, quick=True)
def get_passkey_script(call: Call) -> Plain:
    """Get what that page does."""
    del call
    return Plain(body=SCRIPT, media_type="text/javascript")


@routes.post("/auth/passkeys/begin", answer=answers.Making)
def begin_passkey(call: Call) -> Document:
    """Begin to make a passkey: what the browser is asked."""
    session_of(call)
    return passkeys.begin(call.desk, call.caller, call.office.url)


@routes.post("/auth/passkeys/finish", body=bodies.Passkey, answer=answers.Passkey)
def finish_passkey(call: Call) -> Document:
    """Verify the passkey that was made, and get its key: a line for the directory. Nothing is stored here."""
    said: bodies.Passkey = call.body
    session_of(call)
    return passkeys.finish(call.desk, call.caller, call.office.url, said.state, said.answer)


@routes.post("/auth/passkeys/step-up/begin", answer=answers.Making)
def begin_step_up(call: Call) -> Document:
    """Begin to show a passkey: what the browser is asked."""
    session_of(call)
    return passkeys.step_up_begin(call.desk, call.caller, call.office.url)


@routes.post("/auth/passkeys/step-up/finish", body=bodies.SteppedUp, answer=answers.SteppedUp)
def finish_step_up(call: Call) -> Plain:
    """Show a passkey: from here on the session has its assurance, and another cookie."""
    said: bodies.SteppedUp = call.body
    before, sessions = session_of(call), require_signin(call).sessions
    login = passkeys.step_up_finish(
        call.desk, call.caller, said.state, authenticator=said.passkey.authenticator_data,
        client=said.passkey.client_data, signature=said.passkey.signature,
    )  # fmt: skip
    after = sessions.stepped_up(before, login, call.desk.clock.now())
    return Plain(
        body=msgspec.json.encode({"level": login.level, "csrf": csrf_token(after)}),
        media_type="application/json",
        cookies=((COOKIE, after, int(sessions.longest.total_seconds())),),
    )


@routes.get("/v1/requests/{ticket}/assertion", answer=answers.Assertion)
def get_assertion(call: Call) -> Document:
    """Get what a browser asks a passkey to approve the ticket as it stands."""
    shown = looking.show(call.desk, call.caller, call.ticket)
    return passkeys.asked(call.desk, call.caller, shown, call.office.url)
