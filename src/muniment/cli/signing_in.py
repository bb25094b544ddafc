# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment login``: a token for a server, by the browser of whoever runs the program."""

from __future__ import annotations

from typing import Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of

app = group()
groups = [app]


@command(app, "login", section="Run", example="muniment login --server https://muniment.example.com")
def login(
    context: typer.Context,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget the token of that server instead.")
    ] = False,
) -> None:
    """Sign in at a server, in a browser. Its token is kept here, for you alone, and is good for half a day."""
    from muniment.cli import device_grant
    from muniment.cli.keeping import Kept
    from muniment.cli.remote import RemoteBackend

    session = of(context)
    url = session.at_server()
    if url is None:
        raise Usage(
            "no server is named",
            remedy="Add --server https://…, or set MUNIMENT_SERVER.",
            code="usage.no-server",
        )
    kept = Kept.here()
    if forget:
        session.emit(
            {"server": url, "forgotten": kept.forget(url)}, lambda: f"The token of {url} is forgotten."
        )
        return
    backend = RemoteBackend(url, "")
    session.opened.callback(backend.close)
    asked = device_grant.begin(backend)
    session.tell(
        f"Open {asked.verification_uri_complete or asked.verification_uri}",
        f"and compare the code: {asked.user_code}",
    )
    with session.working("Waiting for your yes in the browser."):
        made = device_grant.wait(backend, asked)
    kept.keep(url, made.access_token, made.expires_at)
    document = {"server": url, "identity": made.identity, "expires_at": made.expires_at}
    session.emit(document, lambda: f"You are {made.identity} at {url} until {made.expires_at}.")
