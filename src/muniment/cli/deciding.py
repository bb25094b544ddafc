# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""What people do to a ticket after it is filed: decide, end, review, waive; and findings to resolve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Session, Usage, of
from muniment.core.errors import Invalid

if TYPE_CHECKING:
    from muniment.cli.backend import Backend, Document
    from muniment.core.errors import MunimentError

app = group()
finding = group("finding", section="Govern", summary="Deal with findings; `muniment findings` lists them.")
groups = [app, finding]

Id = Annotated[str, typer.Argument(metavar="ID", help="The ticket.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is put on record.")]


@command(
    app,
    "approve",
    section="Decide and end",
    example="muniment approve req_01JDC… --comment checked --as human:cyd@example.com",
)
def approve(
    context: typer.Context,
    ticket_id: Id,
    comment: Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="For the record.")] = None,
    digest: Annotated[
        str | None,
        typer.Option(
            "--digest", metavar="sha256:…", help="Only if the terms have this digest, as `show` gives it."
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign",
            metavar="KEY",
            help="Sign the approval with this SSH key: a private key file, or the .pub file of one in the agent.",
        ),
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option("--signature", metavar="FILE", help="A signature that was made elsewhere."),
    ] = None,
    statement: Annotated[
        bool, typer.Option("--statement", help="Only print what is to be signed, to sign it elsewhere.")
    ] = False,
) -> None:
    """Say yes. With the last approval that is needed, access is given at once, or at its start.

    Exit status 1 if it then could not be given: the approval stands on record, and the ticket has failed.
    """
    from muniment.cli import following, signing

    session = of(context)
    if sum((sign is not None, signature is not None, statement)) > 1:
        raise Usage("--sign, --signature and --statement exclude each other", remedy="Give one of them.")
    backend = session.backend(writes=not statement)
    if statement:
        signing.hand_out(backend.statement(ticket_id))
        return
    armour = None
    if sign is not None:
        digest = digest or backend.ticket(ticket_id)["digest"]  # what is signed is what is approved
        armour = signing.sign(backend.statement(ticket_id), sign)
    elif signature is not None:
        armour = signing.read_signature(signature)
    ticket = backend.approve(ticket_id, digest=digest, comment=comment, signature=armour)
    ticket, trouble = backend.settle(ticket)
    never = ticket["failure"] or ticket["status"] in {"denied", "lapsed"}
    _show(session, backend, ticket, trouble or (following.over(backend, ticket) if never else None))


@command(
    app,
    "deny",
    section="Decide and end",
    example='muniment deny req_01JDC… --comment "not during the freeze" --as human:cyd@example.com',
)
def deny(
    context: typer.Context,
    ticket_id: Id,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why; the requester reads it.")],
) -> None:
    """Say no, which ends the ticket."""
    session = of(context)
    backend = session.backend(writes=True)
    finish(session, backend, backend.deny(ticket_id, comment=comment))


@command(
    app,
    "withdraw",
    section="Decide and end",
    example="muniment withdraw req_01JDC… --as human:ann@example.com",
)
def withdraw(context: typer.Context, ticket_id: Id) -> None:
    """Take your own request back before access begins."""
    session = of(context)
    backend = session.backend(writes=True)
    finish(session, backend, backend.withdraw(ticket_id))


@command(
    app, "return", section="Decide and end", example="muniment return req_01JDC… --as human:ann@example.com"
)
def give_back(context: typer.Context, ticket_id: Id) -> None:
    """Give access back that you no longer need."""
    session = of(context)
    backend = session.backend(writes=True)
    carry_on(session, backend, backend.give_back(ticket_id))


@command(
    app,
    "revoke",
    section="Decide and end",
    example='muniment revoke req_01JDC… --reason "laptop stolen" --as human:ops@example.com',
)
def revoke(context: typer.Context, ticket_id: Id, reason: Reason) -> None:
    """End somebody's access now: for operators, owners of the target, and who approved it."""
    session = of(context)
    backend = session.backend(writes=True)
    carry_on(session, backend, backend.revoke(ticket_id, reason=reason))


@command(
    app,
    "review",
    section="Decide and end",
    example='muniment review req_01JDC… --outcome appropriate --comment "matches INC-1" --as human:dee@example.com',
)
def review(
    context: typer.Context,
    ticket_id: Id,
    outcome: Annotated[
        Literal["appropriate", "inappropriate"], typer.Option("--outcome", help="How the access was used.")
    ],
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What it rests on.")],
) -> None:
    """Say how access was used, where a review is owed."""
    session = of(context)
    backend = session.backend(writes=True)
    finish(session, backend, backend.review(ticket_id, outcome=outcome, comment=comment))


@command(
    app,
    "waive",
    section="Decide and end",
    example='muniment waive req_01JDC… gone --reason "host was scrapped" --as human:ops@example.com',
)
def waive(
    context: typer.Context,
    ticket_id: Id,
    check: Annotated[
        str, typer.Argument(metavar="CHECK", help="The closure check; `show` names those that fail.")
    ],
    reason: Reason,
) -> None:
    """Answer for a closure check that cannot hold."""
    session = of(context)
    backend = session.backend(writes=True)
    finish(session, backend, backend.waive(ticket_id, check=check, reason=reason))


@command(
    finding,
    "resolve",
    example='muniment finding resolve req_01JDC…:1 --reason "role removed" --as human:ops@example.com',
)
def resolve(
    context: typer.Context,
    finding_id: Annotated[
        str, typer.Argument(metavar="ID", help="TICKET:NUMBER, as `muniment findings` lists it.")
    ],
    reason: Reason,
) -> None:
    """Say that a finding of a ticket was dealt with. One of drift is over when an inventory shows it."""
    from muniment.core.drift import resolved_by_nobody

    resolved_by_nobody(finding_id)
    ticket_id, colon, number = finding_id.rpartition(":")
    if not colon or not ticket_id or not number:
        raise Invalid(
            f"{finding_id!r:.80} is not a finding",
            remedy="Write TICKET:NUMBER, as `muniment findings` lists it.",
        )
    session = of(context)
    backend = session.backend(writes=True)
    finish(session, backend, backend.resolve(ticket_id, number, reason=reason))


def carry_on(session: Session, backend: Backend, ticket: Document) -> None:
    """See what comes of it now, then show the ticket."""
    _show(session, backend, *backend.settle(ticket))


def finish(session: Session, backend: Backend, ticket: Document) -> None:
    """Seal, then show the ticket."""
    _show(session, backend, *backend.sealed(ticket))


def _show(session: Session, backend: Backend, ticket: Document, trouble: MunimentError | None) -> None:
    """What was decided is on record whatever happened afterwards: the ticket first, then the trouble."""
    from muniment.cli.tickets import panel

    session.emit(ticket, lambda: panel(ticket, backend.now()))
    if trouble:
        raise trouble
