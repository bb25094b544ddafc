"""Asking: find a privilege, see what it would take, and file. Breaking the glass is a way of its own."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from muniment.api import problems
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import MunimentError, NotFound, Unauthenticated
from muniment.core.identity import Identity
from muniment.core.instants import parse_duration, parse_instant
from muniment.core.scope import Privilege
from muniment.ports import Target
from muniment.service import filing
from muniment.web.catalogue import find
from muniment.web.pages import away, show
from muniment.web.tickets import Form
from muniment.web.when import short, typed

routes = Routes("pages")

#: what is offered without typing; anything else can be typed
LENGTHS = ("30m", "1h", "2h", "4h", "8h")
USUAL = "1h"

Name = Annotated[str, Meta(max_length=600)]
Field = Annotated[str, Meta(max_length=300)]


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words to find privileges by."""

    q: Annotated[str, Meta(max_length=200)] = ""


class Beginning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a form begins with: a link to it says the same every time."""

    privilege: tuple[Name, ...] = ()
    duration: Annotated[str, Meta(max_length=40)] = ""
    beneficiary: Field = ""
    break_glass: bool = False


class Asking(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request as it is typed."""

    privilege: tuple[Name, ...] = ()
    beneficiary: Field = ""
    duration: Annotated[str, Meta(max_length=40)] = ""
    other: Annotated[str, Meta(max_length=40)] = ""
    starts_at: Annotated[str, Meta(max_length=40)] = ""
    change: Field = ""
    incident: Field = ""
    responders: Annotated[str, Meta(max_length=4000)] = ""
    public_key: Annotated[str, Meta(max_length=20000)] = ""
    break_glass: bool = False
    key: Annotated[str, Meta(max_length=64)] = ""


@routes.get("/ask", query=Search, answer="text/html", browser=True)
def show_ask(call: Call) -> Plain:
    """Find what to ask for."""
    query: Search = call.query
    found, count = find(call.desk.targets.values(), query.q)
    part = call.header(b"hx-request") == "true"
    return show(call, "_found.html" if part else "ask.html", q=query.q, found=found, total=count)


@routes.get("/break-glass", answer="text/html", browser=True)
def show_break_glass(call: Call) -> Plain:
    """Begin to break the glass: nobody comes here by mistake."""
    return show(call, "break_glass.html", targets=[t for _, t in sorted(call.desk.targets.items())])


@routes.get("/ask/{target}", query=Beginning, answer="text/html", browser=True)
def show_ask_form(call: Call) -> Plain:
    """Ask for privileges on a target."""
    began: Beginning = call.query
    length = began.duration or USUAL
    usual = length if length in LENGTHS else ""
    said = Asking(
        privilege=began.privilege, duration=usual, other="" if usual else began.duration, beneficiary=began.beneficiary,
        break_glass=began.break_glass,
    )  # fmt: skip
    return _form(call, said)


@routes.post("/ask/{target}", body=Asking, form=True, answer="text/html", browser=True, work=True)
def file_ask(call: Call) -> Plain:
    """File a request, once for each form that was shown."""
    said: Asking = call.body
    try:
        ask = ask_of(said, _target(call))
        filed = dataclasses.replace(call, key=said.key or None).command(
            lambda caller: filing.file_request(call.desk, caller, ask)
        )
    except (NotFound, Unauthenticated):
        raise
    except MunimentError as error:
        return _form(call, said, error=error)
    return away(f"/requests/{filed['id']}?done=filed")


@routes.post(
    "/ask/{target}/preview", body=Asking, form=True, answer="text/html", scope="read", browser=True, work=True
)
def preview_ask(call: Call) -> Plain:
    """Say what would come of it, while it is being typed."""
    said: Asking = call.body
    return show(call, "_preview.html", **_previewed(call, said))


def _form(call: Call, said: Asking, *, error: MunimentError | None = None) -> Plain:
    target = _target(call)
    return show(
        call,
        "ask_form.html",
        status=problems.status_of(error).value if error else None,
        target=target,
        said=said,
        error=error,
        lengths=[(each, short(parse_duration(each))) for each in LENGTHS],
        beneficiaries=beneficiaries(call),
        needs_key=target.connector.capabilities.needs_public_key,
        key=call.desk.random.bytes(16).hex(),
        **_previewed(call, said),
    )


def _previewed(call: Call, said: Asking) -> dict[str, Any]:
    """The preview, or what is not there yet or wrong with what was typed."""
    target = _target(call)
    if not said.privilege:
        return {"preview": None, "trouble": None, "asked": (), "brings": (), "usual": None}
    try:
        ask = ask_of(said, target, preview=True)
        preview = filing.preview(call.desk, call.caller, ask)
    except MunimentError as error:
        return {"preview": None, "trouble": error, "asked": (), "brings": (), "usual": None}
    brings = [p for p in preview.effective_scope if p not in ask.scope]
    usual = call.desk.views.usual_wait(target.id)
    return {
        "preview": preview, "trouble": None, "asked": ask.scope, "brings": brings,
        "usual": None if usual is None else timedelta(seconds=usual),
    }  # fmt: skip


def ask_of(said: Asking, target: Target, *, preview: bool = False) -> filing.Ask:
    """What was typed, read. A preview does with what is there already."""
    known = {str(entry.privilege): entry.privilege for entry in target.catalogue}
    scope = tuple(known.get(name, Privilege(privilege=name)) for name in said.privilege)
    length = said.other.strip() or said.duration or ("" if not preview else USUAL)
    key = said.public_key.strip() or None
    if preview and key is None and target.connector.capabilities.needs_public_key:
        key = _ANY_KEY
    incident = said.incident.strip() or ("INC" if preview else None)
    return filing.Ask(
        target=target.id,
        scope=scope,
        justification=said.comment,
        duration=typed(length) if length else timedelta(),
        beneficiary=said.beneficiary or None,
        starts_at=_start(said.starts_at),
        references={"change": said.change.strip()} if said.change.strip() else {},
        break_glass=said.break_glass,
        incident=incident if said.break_glass else None,
        responders=tuple(said.responders.replace(",", " ").split()) if said.break_glass else (),
        public_key=key,
    )


def _start(text: str) -> Any:
    """A browser's own field has no zone: the form says that it means UTC."""
    text = text.strip()
    if not text:
        return None
    if text[-1:] not in {"Z", "z"} and "+" not in text:
        text += ":00Z" if text.count(":") == 1 else "Z"
    return parse_instant(text, "the start")


def _target(call: Call) -> Target:
    name = call.names["target"]
    if name not in call.desk.targets:
        raise NotFound(f"there is no target {name!r:.60}", remedy="/ask lists what can be asked for.")
    found: Target = call.desk.targets[name]
    return found


def beneficiaries(call: Call) -> list[Identity]:
    """Whoever looks, and every machine that they answer for."""
    who = call.caller.identity
    names = {who.id, *who.aliases}
    owned = [each for each in call.desk.directory.everybody() if each.active and names & set(each.owners)]
    return [who, *owned]


#: stands in for the key that is not typed yet: a preview records nothing
_ANY_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
