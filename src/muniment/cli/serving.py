# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment serve``: the controllers, until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of, record
from muniment.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from muniment.config import Config

#: seconds for passes under way to end
GRACE = 30.0

app = group()
groups = [app]

#: what one process with one file cannot defend against
SINGLE_PROCESS = (
    "The store is one SQLite file, so this process holds the ledger's key and every target's credentials.",
    "Whoever becomes this process, its user or root here can grant, and can forge entries;",
    "rows that others write into the database with SQL are refused.",
)


@command(app, "serve", section="Run", example="muniment serve --only controllers")
def serve(
    context: typer.Context,
    only: Annotated[
        Literal["controllers", "api"] | None,
        typer.Option("--only", help="Which part. This version has the controllers alone."),
    ] = None,
) -> None:
    """Give, take back and seal on time, until SIGTERM or Ctrl-C."""
    if only == "api":
        raise Usage(
            "this version has no API to serve",
            remedy="Run `muniment serve --only controllers`.",
            code="usage.no-api",
        )
    from muniment.controllers.runtime import Controllers
    from muniment.core.instants import parse_duration

    session = of(context)
    config = session.config()
    desk = session.desk()
    record(desk)
    _log_to_stderr()
    stop = _stop_on_signals()
    every = parse_duration(config.ledger.checkpoint_interval)
    controllers = Controllers(desk, node=_node(), seal_every=every)
    for sentence in _openings(config, only):
        session.note(sentence)
    controllers.start()
    session.note(f"The controllers run, for {len(desk.targets)} targets. SIGTERM or Ctrl-C ends them.")
    stop.wait()
    if not controllers.stop(GRACE):
        raise Unavailable(
            f"a pass did not end within {GRACE:.0f} s",
            remedy="Nothing is lost: what it was about is due again at the next start.",
            code="unavailable.slow-stop",
        )
    session.emit({"stopped": True}, lambda: "Stopped; everything that was recorded is sealed.")


def _openings(config: Config, only: str | None) -> list[str]:
    said = [] if only else ["This version serves no API and no web pages yet."]
    return [*said, *(SINGLE_PROCESS if config.store.url.startswith("sqlite") else ())]


def _node() -> str:
    """Unique among processes alive at once, and readable in leases."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"


def _stop_on_signals() -> threading.Event:
    """The first signal asks for a graceful end; the second one kills, as usual."""
    stop = threading.Event()

    def ask(number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop


def _log_to_stderr() -> None:
    import structlog

    from muniment.cli import console

    seen = console.errors()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=seen.color_system is not None and not seen.no_color)
        if seen.is_terminal
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _harmless,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _harmless(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Foreign text in a log line is shown, not obeyed (I37). A traceback keeps its lines."""
    from muniment.cli.console import one_line
    from muniment.core.text import visible

    for key, value in entry.items():
        if isinstance(value, str):
            entry[key] = visible(value) if key == "exception" else one_line(value)
    return entry
