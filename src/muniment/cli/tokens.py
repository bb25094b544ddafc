# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment token``: what programs and people call the API with. For whoever runs the store."""

from __future__ import annotations

from typing import Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of

app = group("token", section="Run", summary="Tokens that the API is called with.")
groups = [app]


@command(app, "create", example="muniment token create --identity human:ann@example.com --expires 30d")
def create(
    context: typer.Context,
    whose: Annotated[str, typer.Option("--identity", metavar="IDENTITY", help="Who acts with it.")],
    expires: Annotated[
        str, typer.Option("--expires", metavar="DURATION", help="How long it lasts: 12h, 30d; at most 366d.")
    ] = "30d",
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="Good for this alone: read, write, check, ledger, metrics, scim or signals. Repeatable; else for "
            "all that the identity may. With check, its holder asks about everybody; scim and signals are for "
            "identity providers, and no token is good for them that was not made for them.",
        ),
    ] = None,
) -> None:
    """Make a token. It is shown this once; Muniment keeps a hash of it. The ledger has who made it: say so with --as."""
    from muniment.core.instants import parse_duration
    from muniment.service import tokens

    session = of(context)
    lasts = parse_duration(expires)
    desk, maker = session.operating()
    document = tokens.create(desk, maker, whose, lasts=lasts, scopes=tuple(scopes or ()))
    session.emit(document, lambda: str(document["token"]))
    session.note(
        f"It acts as {document['identity']} until {document['expires_at']}; its id is {document['id']}."
    )


@command(app, "revoke", example="muniment token revoke 0f1e2d3c4b5a6978")
def revoke(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or all of it.")],
) -> None:
    """End a token now; a server takes note of it within a second. The ledger has who did: say so with --as."""
    from muniment.service import tokens

    session = of(context)
    desk, caller = session.operating()
    document = tokens.revoke(desk, caller, token)
    session.emit(document, lambda: f"{document['id']} is good for nothing any more.")
    if "recorded" in document:
        session.tell("The ledger could not record that now. Revoke it again later, and it will.")
