"""How commands are made: each takes the common options, before or after its name, and shows an example in its help."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from muniment.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])

#: sections of `muniment --help`, in order
SECTIONS = ("Begin", "Ask", "Decide and end", "Look", "Govern", "Run")


def _take(name: str) -> Callable[[typer.Context, Any], Any]:
    def callback(context: typer.Context, value: Any) -> Any:
        session = context.find_object(Session)
        if session is not None and value:  # what stands later on the line wins
            setattr(session, name, value)
        return value

    return callback


def _common(
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The configuration. Default: $MUNIMENT_CONFIG, else ./muniment.toml.",
            callback=_take("config_file"),
            expose_value=False,
            is_eager=True,
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="A server to ask instead, with $MUNIMENT_TOKEN. Default: $MUNIMENT_SERVER.",
            callback=_take("server"),
            expose_value=False,
            is_eager=True,
        ),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="IDENTITY",
            help="Who acts, like human:ann@example.com. Default: $MUNIMENT_AS.",
            callback=_take("identity"),
            expose_value=False,
            is_eager=True,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One JSON document on stdout, and errors as JSON on stderr.",
            callback=_take("as_json"),
            expose_value=False,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Never called: a signature to make options from."""


@cache
def _options() -> list[Any]:
    only = typer.Typer(add_completion=False)
    only.command()(_common)
    return list(get_command(only).params)


class Command(TyperCommand):
    """A command that takes the common options after its own."""

    def __init__(self, *args: Any, params: Iterable[Any] | None = None, **kwargs: Any) -> None:
        """As its base."""
        super().__init__(*args, params=[*(params or ()), *_options()], **kwargs)


class Group(TyperGroup):
    """A group of commands that takes the common options, and lists its commands by section."""

    section: str | None = None  # where the program's own help lists it

    def __init__(self, *args: Any, params: Iterable[Any] | None = None, **kwargs: Any) -> None:
        """As its base."""
        super().__init__(*args, params=[*(params or ()), *_options()], **kwargs)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List commands under the headings of `SECTIONS`."""
        known = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        for section in (*SECTIONS, None):
            rows = [
                (name, (command.help or "").strip().partition("\n")[0])
                for name, command in known
                if command and not command.hidden and _section(command) == section
            ]
            if rows:
                with formatter.section(section or "Commands"):
                    formatter.write_dl(rows)

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which they were made, which is that of a ticket's life."""
        del ctx
        return list(self.commands)


def _section(command: Any) -> str | None:
    found: str | None = getattr(command, "section", None) or getattr(command, "rich_help_panel", None)
    return found


def group(name: str | None = None, *, section: str | None = None, summary: str | None = None) -> typer.Typer:
    """A group of commands; without a name its commands belong to the program itself."""
    return typer.Typer(
        name=name,
        cls=Group if section is None else type("Group", (Group,), {"section": section}),
        help=summary,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def command(app: typer.Typer, name: str, *, example: str, section: str | None = None) -> Callable[[F], F]:
    """Make a function a command. Its docstring is the help; ``example`` is shown below the options."""
    epilog = "\b\nExample:\n" + "\n".join(f"  {row}" for row in example.splitlines())
    decorate: Callable[[F], F] = app.command(name, cls=Command, epilog=epilog, rich_help_panel=section)
    return decorate
