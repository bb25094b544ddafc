# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment login``: a token for a server, by the browser of whoever runs the program."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of

if TYPE_CHECKING:
    from muniment.cli.remote import RemoteBackend

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
    asked = backend.begin_device()
    session.tell(f"Open {asked['verification_uri_complete']}", f"and compare the code: {asked['user_code']}")
    with session.working("Waiting for your yes in the browser."):
        made = _fetched(backend, asked)
    kept.keep(url, made["token"], made["expires_at"])
    document = {"server": url, "identity": made["identity"], "expires_at": made["expires_at"]}
    session.emit(document, lambda: f"You are {made['identity']} at {url} until {made['expires_at']}.")


def _fetched(backend: RemoteBackend, asked: dict[str, Any]) -> dict[str, Any]:
    """The token, once the person said yes."""
    from muniment.core.errors import MunimentError, Unavailable

    for _ in range(max(1, asked["expires_in"] // asked["interval"])):
        try:
            return backend.fetch_token(asked["device_code"])
        except MunimentError as error:
            if error.code != "conflict.authorization-pending":
                raise
        time.sleep(asked["interval"])
    raise Unavailable(
        "nobody said yes in the browser in time",
        remedy="Run `muniment login` again.",
        code="unavailable.no-yes",
    )
