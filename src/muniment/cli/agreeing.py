# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""Coming to terms: counter-offers, and deciding on behalf of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.deciding import Id, Reason, carry_on, finish
from muniment.cli.session import Usage, of
from muniment.core.instants import parse_duration, parse_instant

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.service.documents import Document

app = group()
delegation = group("delegation", section="Decide and end", summary="Who decides on whose behalf.")
groups = [app, delegation]


@command(
    app,
    "counter",
    section="Decide and end",
    example='muniment counter req_01JDC… --for 1h --comment "an hour is enough" --as human:cyd@example.com',
)
def counter(
    context: typer.Context,
    ticket_id: Id,
    *,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="For a shorter time, like 1h.")
    ] = None,
    privileges: Annotated[
        list[str] | None,
        typer.Option("--privilege", metavar="PRIVILEGE", help="Only this of what was asked. Repeatable."),
    ] = None,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why; the requester reads it.")],
    digest: Annotated[
        str | None,
        typer.Option(
            "--digest", metavar="sha256:…", help="Only if the terms have this digest, as `show` gives it."
        ),
    ] = None,
) -> None:
    """Offer to agree to less: nothing changes before the requester accepts, and then all approvals begin anew."""
    from muniment.cli.asking import parse_privilege

    session = of(context)
    backend = session.backend(writes=True)
    ticket = backend.counter(
        ticket_id,
        digest=digest,
        duration=parse_duration(duration) if duration is not None else None,
        scope=tuple(map(parse_privilege, privileges)) if privileges else None,
        comment=comment,
    )
    finish(session, backend, ticket)


@command(
    app,
    "accept",
    section="Decide and end",
    example="muniment accept req_01JDC… --as human:ann@example.com",
)
def accept(
    context: typer.Context,
    ticket_id: Id,
    offer: Annotated[
        str | None,
        typer.Option(
            "--digest", metavar="sha256:…", help="Only if the offer has this digest, as `show` gives it."
        ),
    ] = None,
) -> None:
    """Take an approver's offer: its terms are your request from here on, to be approved as they are."""
    session = of(context)
    backend = session.backend(writes=True)
    carry_on(session, backend, backend.accept(ticket_id, offer=offer))


@command(
    app,
    "delegate",
    section="Decide and end",
    example="muniment delegate human:dee@example.com --for 14d --reason holidays --as human:cyd@example.com",
)
def delegate(
    context: typer.Context,
    to: Annotated[str, typer.Argument(metavar="IDENTITY", help="Who decides on your behalf.")],
    *,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Its end, like 2026-12-07T08:00:00Z.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Or how long, like 14d.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Its beginning; else now.")
    ] = None,
    reason: Reason,
) -> None:
    """Hand your authority to approve to somebody for a period; it cannot be handed on."""
    if (until is None) == (duration is None):
        raise Usage("a delegation has one end", remedy="Give --until TIME or --for DURATION.")
    session = of(context)
    document = session.backend(writes=True).delegate(
        to,
        until=parse_instant(until, "the end") if until is not None else None,
        length=parse_duration(duration) if duration is not None else None,
        starts=parse_instant(start, "the start") if start is not None else None,
        reason=reason,
    )
    session.emit(document, lambda: _table([document]))


@command(delegation, "list", example="muniment delegation list --as human:cyd@example.com")
def listed(context: typer.Context) -> None:
    """List the delegations that you gave or have; operators and auditors see all."""
    session = of(context)
    found = session.backend().delegations()
    session.emit({"items": found, "next": None}, lambda: _table(found))


@command(delegation, "end", example="muniment delegation end dlg_01JDC… --as human:cyd@example.com")
def end(
    context: typer.Context,
    delegation_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `muniment delegation list` gives it.")
    ],
) -> None:
    """End a delegation before its time."""
    session = of(context)
    document = session.backend(writes=True).end_delegation(delegation_id)
    session.emit(document, lambda: _table([document]))


def _table(found: list[Document]) -> RenderableType:
    from muniment.cli import console
    from muniment.cli.tickets import moment, person

    cells = (
        (
            d["id"],
            "in force" if d["in_force"] else "ended" if d["ended"] else "not now",
            f"{person(d['to'])} for {person(d['by'])}",
            f"{moment(d['starts_at'])} to {moment(d['ends_at'])}",
        )
        for d in found
    )
    return console.table(("delegation", "", "who for whom", "when"), cells, empty="No delegations.")
