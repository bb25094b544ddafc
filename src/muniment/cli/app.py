# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""The program ``muniment``: its commands, and what becomes of every error.

Exit status: 0 done, 1 the answer is no, 2 wrong usage or configuration, 3 something needed did not answer, 130
interrupted. An error is one sentence, what to do about it and a stable code, on stderr; never a traceback, unless
MUNIMENT_DEBUG is set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from muniment.cli import (
    administering,
    agreeing,
    asking,
    beginning,
    campaigns,
    collecting,
    connectors,
    deciding,
    deliveries,
    disablements,
    evidence,
    executing,
    inventories,
    linking,
    looking,
    policies,
    proving,
    reconciling,
    serving,
    signing_in,
    tokens,
    usage,
    witness,
)
from muniment.cli.commands import group
from muniment.cli.session import Served, Session
from muniment.core.errors import MunimentError

if TYPE_CHECKING:
    from muniment.config import Config
    from muniment.service.desk import Desk
    from muniment.service.outward import Outward

INTERRUPTED = 130
INTERNAL = 1


def build() -> Any:
    """The program, as the command tree that documentation is generated from, too."""
    app = group(summary="Privileged access by ticket, with evidence that anyone can verify.")
    app.callback(invoke_without_command=True)(_program)
    for part in (
        beginning,
        asking,
        linking,
        deciding,
        agreeing,
        collecting,
        executing,
        looking,
        inventories,
        reconciling,
        campaigns,
        usage,
        policies,
        proving,
        evidence,
        serving,
        connectors,
        tokens,
        signing_in,
        deliveries,
        disablements,
        witness,
        administering,
    ):
        for each in part.groups:
            app.add_typer(each)
    return get_command(app)


def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say the version, and no more.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        number = installed("muniment")
        session = context.find_object(Session)
        sys.stdout.write(
            f'{{"version": "{number}"}}\n' if session and session.as_json else f"muniment {number}\n"
        )
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(2)


def main(
    find_config: Callable[[str | None], Config],
    open_desk: Callable[..., Desk],
    open_api: Callable[[Config, Desk], Served],
    open_outward: Callable[[Config, Desk], Outward],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the program and return its exit status. ``arguments`` are the process's own by default."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    session = Session(
        find_config=find_config, open_desk=open_desk, open_api=open_api, open_outward=open_outward
    )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character shows its number
            stream.reconfigure(errors="backslashreplace")
    try:
        with session.opened:
            status = _run(session, given)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read has gone. What the interpreter still wants to flush goes nowhere, without a complaint
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL
    return status


def _run(session: Session, given: list[str]) -> int:
    try:
        result = build().main(given, prog_name="muniment", standalone_mode=False, obj=session)
    except MunimentError as error:
        return _fail(session, error.message, error.remedy, error.code, error.exit_status)
    except typer.TyperException as error:
        # parsing ended before the options were taken in, perhaps
        session.as_json = session.as_json or "--json" in given
        remedy = f"`{_path(error)} --help` shows what it takes."
        return _fail(session, error.format_message().rstrip("."), remedy, "usage", 2)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, typer.Exit, typer.Abort):
        raise
    except Exception as error:  # noqa: BLE001  the last place that can turn it into a sentence
        return _unexpected(session, error)
    return result if isinstance(result, int) else 0


def _path(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "muniment"


def _unexpected(session: Session, error: Exception) -> int:
    if os.environ.get("MUNIMENT_DEBUG"):
        raise error
    from muniment.ledger.errors import LedgerFault

    if isinstance(error, LedgerFault):
        remedy = "Keep the store as it is, and tell whoever keeps copies of its checkpoints."
        return _fail(session, error.message, remedy, error.code, 1)
    return _fail(
        session,
        f"something went wrong that should not: {type(error).__name__}",
        "Run it again with MUNIMENT_DEBUG=1 for the details, and report them.",
        "internal",
        INTERNAL,
    )


def _fail(session: Session, message: str, remedy: str, code: str, status: int) -> int:
    from muniment.cli import console

    console.report(message, remedy, code, as_json=session.as_json)
    return status
