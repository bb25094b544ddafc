# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""Begin: the demo, a folder to start with, and whether everything is in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.starting import Made

app = group()
groups = [app]


@command(app, "demo", section="Begin", example="muniment demo\nmuniment demo --serve")
def demo(
    context: typer.Context,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Leave the pages open on the result, with a link for each of the people, until Ctrl-C.",
        ),
    ] = False,
) -> None:
    """See the whole life of a ticket on this machine, on a real target, in a minute."""
    from muniment.demo import story

    session = of(context)
    raise typer.Exit(story.tell(session.as_json, session.open_desk, session.open_api if serve else None))


@command(app, "init", section="Begin", example="muniment init access\ncd access && muniment check")
def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one to put it into.")],
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin", metavar="NAME", help="The ledger's name for ever, like ledger.example.com/muniment."
        ),
    ] = None,
) -> None:
    """Write a configuration that works: policies, identities, keys, and a target that needs no server."""
    from muniment.cli import starting

    session = of(context)
    made = starting.start(folder, origin)
    document = {
        "dir": str(made.folder),
        "origin": made.origin,
        "created": made.created,
        "next": made.commands,
    }
    session.emit(document, lambda: _welcome(made))


@command(app, "check", section="Begin", example="muniment check --json")
def check(context: typer.Context) -> None:
    """Check the configuration, the store and every target, and say what connectors may and can do.

    Exit status 1 if the store is older than what was published, 2 if something is configured wrongly, 3 if a target or the store does not answer.
    """
    from muniment.cli import checking

    session = of(context)
    config = session.config()
    desk = session.desk()
    with session.working("targets are asked"):
        document = checking.examine(config, desk)
    session.emit(document, lambda: checking.render(document))
    if (rolled_back := desk.store.halted) is not None:
        raise rolled_back
    silent = [target["id"] for target in document["targets"] if not target["reachable"]]
    if silent:
        from muniment.core.errors import TargetUnavailable

        raise TargetUnavailable(
            f"{', '.join(silent)} did not answer",
            remedy="Nothing is given there, and nothing can be taken back, until it does.",
        )


def _welcome(made: Made) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from muniment.cli import console

    return Group(
        console.line(f"Made in {made.folder}:"),
        console.pairs((f"  {name}", console.line(what)) for name, what in made.created.items()),
        Text(),
        console.line("Try:", console.STRONG),
        *(Text(f"  {console.one_line(each)}", overflow="ignore", no_wrap=True) for each in made.commands),
    )
