# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment token`` and ``login-link``: what the API is called with, and a way in for people. For whoever runs the store."""

from __future__ import annotations

from typing import Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of

app = group("token", section="Run", summary="Tokens that the API is called with.")
top = group()
groups = [app, top]


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


@command(top, "login-link", section="Run", example="muniment login-link human:ann@example.com")
def login_link(
    context: typer.Context,
    whose: Annotated[
        str | None,
        typer.Argument(metavar="[IDENTITY]", help="Who signs in with it. Without it, whoever --as names."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="DURATION", help="How long it is good for; at most 1h.")
    ] = "10m",
) -> None:
    """Make a link that signs a person in at the pages, once, without an identity provider.

    Whoever has it comes in as that person: give it to nobody else. The ledger has who made it and that it was used.
    """
    from muniment.core.errors import Misconfigured
    from muniment.core.instants import parse_duration
    from muniment.service import login_links

    session = of(context)
    config = session.config()
    if not config.login_links:
        raise Misconfigured(
            "links let nobody in here",
            remedy="Set [server] login_links = true, or sign in with the identity provider.",
            code="config.login-links",
        )
    lasts = parse_duration(expires)
    desk, maker = session.operating()
    identity = whose or (maker.identity.id if maker else "")
    document = login_links.make(desk, maker, identity, config.server.public_url, lasts)
    session.emit(document, lambda: str(document["link"]))
    session.note(
        f"It signs {document['identity']} in once, until {document['expires_at']}; `muniment serve` must run."
    )
