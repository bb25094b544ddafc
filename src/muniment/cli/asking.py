# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment request`` and ``muniment preview``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of
from muniment.core.errors import Invalid
from muniment.core.instants import parse_duration, parse_instant

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.backend import Document
    from muniment.core.scope import Privilege
    from muniment.service.filing import Ask

#: characters; the longest real one, RSA of 16384 bits, has under 3000
MAX_KEY_FILE = 16384

app = group()
groups = [app]

_NARROWED = re.compile(r"(.+) \((.+)\)", re.DOTALL)

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="On which target; `muniment targets` lists them.")
]
Privileges = Annotated[
    list[str],
    typer.Argument(
        metavar="PRIVILEGE",
        help='What, in the target\'s own words; with a resource, "edit (payments)".',
        show_default=False,
    ),
]
Duration = Annotated[str, typer.Option("--for", metavar="DURATION", help="How long: 90m, 2h, 1d or PT1H30M.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; approvers and auditors read it.")]
Beneficiary = Annotated[
    str | None, typer.Option("--beneficiary", metavar="IDENTITY", help="Who would get it, if not who asks.")
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start", metavar="TIME", help="When, like 2026-11-23T10:00:00Z; else once it is approved."
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option("--reference", metavar="KIND=ID", help="What it belongs to: change=CHG-7. Repeatable."),
]
BreakGlass = Annotated[
    bool, typer.Option("--break-glass", help="An emergency: access at once, and reviewed afterwards.")
]
Incident = Annotated[
    str | None, typer.Option("--incident", metavar="ID", help="The incident that breaks the glass.")
]
Responders = Annotated[
    list[str] | None,
    typer.Option(
        "--responder",
        metavar="IDENTITY",
        help="Who else works on the incident, and so does not review. Repeatable.",
    ),
]
PublicKey = Annotated[
    Path | None,
    typer.Option("--public-key", metavar="FILE", help="The beneficiary's OpenSSH key, for certificates."),
]


@command(
    app,
    "request",
    section="Ask",
    example='muniment request bastion web-admin --for 1h --reason "rotate the logs" \\\n'
    "    --public-key ~/.ssh/id_ed25519.pub --as human:ann@example.com",
)
def request(
    context: typer.Context,
    *,
    target: Target,
    privileges: Privileges,
    duration: Duration,
    reason: Reason,
    beneficiary: Beneficiary = None,
    start: Start = None,
    references: References = None,
    break_glass: BreakGlass = False,
    incident: Incident = None,
    responders: Responders = None,
    public_key: PublicKey = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Come back when there is access, or never will be.")
    ] = False,
) -> None:
    """File a ticket: ask for privileges on a target, for a time and a reason.

    What policy allows without approval is given at once. A denial by policy is on record too.
    """
    from muniment.cli import following
    from muniment.cli.tickets import panel

    session = of(context)
    ask = make_ask(
        target=target,
        privileges=privileges,
        duration=duration,
        reason=reason,
        beneficiary=beneficiary,
        start=start,
        references=references,
        break_glass=break_glass,
        incident=incident,
        responders=responders,
        public_key=public_key,
    )
    backend = session.backend(writes=True)
    ticket = backend.file(ask)
    session.note(f"filed {ticket['id']}")
    if wait:
        ticket, trouble = following.wait(session, backend, ticket)
    else:
        ticket, trouble = backend.settle(ticket)
        trouble = trouble or following.over(backend, ticket)
    session.emit(ticket, lambda: panel(ticket, backend.now()))
    if trouble:
        raise trouble


@command(
    app,
    "preview",
    section="Ask",
    example="muniment preview bastion web-admin --for 1h --public-key ~/.ssh/id_ed25519.pub",
)
def preview(
    context: typer.Context,
    *,
    target: Target,
    privileges: Privileges,
    duration: Duration,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="As in request; not needed here.")
    ] = "",
    beneficiary: Beneficiary = None,
    start: Start = None,
    references: References = None,
    break_glass: BreakGlass = False,
    incident: Incident = None,
    responders: Responders = None,
    public_key: PublicKey = None,
) -> None:
    """Say what would come of a request: verdict, approvals, scope. Records nothing."""
    session = of(context)
    ask = make_ask(
        target=target,
        privileges=privileges,
        duration=duration,
        reason=reason,
        beneficiary=beneficiary,
        start=start,
        references=references,
        break_glass=break_glass,
        incident=incident,
        responders=responders,
        public_key=public_key,
    )
    document = session.backend().preview(ask)
    session.emit(document, lambda: _render(document))


def make_ask(
    *,
    target: str,
    privileges: list[str],
    duration: str,
    reason: str,
    beneficiary: str | None,
    start: str | None,
    references: list[str] | None,
    break_glass: bool = False,
    incident: str | None = None,
    responders: list[str] | None = None,
    public_key: Path | None,
) -> Ask:
    """What was typed, not yet checked against anything."""
    from muniment.service.filing import Ask

    return Ask(
        target=target,
        scope=tuple(map(parse_privilege, privileges)),
        justification=reason,
        duration=parse_duration(duration),
        beneficiary=beneficiary,
        starts_at=parse_instant(start, "the start") if start is not None else None,
        references=parse_references(references or []),
        break_glass=break_glass,
        incident=incident,
        responders=tuple(responders or ()),
        public_key=read_key(public_key) if public_key is not None else None,
    )


def parse_privilege(text: str) -> Privilege:
    """``NAME`` or ``NAME (RESOURCE)``: as `muniment targets` prints it."""
    from muniment.core.scope import Privilege

    narrowed = _NARROWED.fullmatch(text)
    if narrowed:
        return Privilege(privilege=narrowed[1], resource=narrowed[2])
    return Privilege(privilege=text)


def parse_references(given: list[str]) -> dict[str, str]:
    """``KIND=ID``, each kind once."""
    found: dict[str, str] = {}
    for text in given:
        kind, equals, value = text.partition("=")
        if not equals:
            raise Invalid(f"the reference {text!r:.60} has no value", remedy="Write it like change=CHG-7.")
        if kind in found:
            raise Invalid(f"the reference {kind!r:.60} is there twice", remedy="Give each kind once.")
        found[kind] = value
    return found


def read_key(path: Path) -> str:
    """The text of a public key's file. Raises `Invalid`."""
    code = "invalid.public-key"
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(MAX_KEY_FILE + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Invalid(
            f"the public key {path} cannot be read: {why}",
            remedy="Name the .pub file; `ssh-keygen -t ed25519` makes one.",
            code=code,
        ) from error
    if "PRIVATE KEY" in text:
        raise Invalid(
            f"{path} is a private key", remedy=f"Keep it to yourself, and name {path}.pub.", code=code
        )
    if len(content) > MAX_KEY_FILE:
        raise Invalid(f"{path} is too long for a public key", remedy="Name the .pub file.", code=code)
    return text


def _render(document: Document) -> RenderableType:
    from muniment.cli import console
    from muniment.cli.tickets import duration_words, scope_words

    permitted = document["permitted"]
    verdict = ("permitted", console.GOOD) if permitted else ("denied by policy", console.BAD)
    rows: list[tuple[str, RenderableType]] = [("verdict", console.line(*verdict))]
    rows += [("because" if not permitted else "note", console.line(reason)) for reason in document["reasons"]]
    for stage in document["stages"]:
        who = ", ".join(stage["approvers"])
        rows.append(("approval", console.line(f"{stage['name']}: {stage['needed']} of {who}")))
    if document["stages"]:
        people = ", ".join(document["possible_approvers"]) or "nobody"
        rows.append(("could approve", console.line(people)))
    elif permitted:
        rows.append(("approval", console.line("none needed")))
    rows.append(("would hold", console.line(scope_words(document["effective_scope"]))))
    if document["longest_duration"]:
        rows.append(("at most", console.line(duration_words(document["longest_duration"]))))
    return console.pairs(rows)
