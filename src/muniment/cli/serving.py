# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment serve``: the API and the controllers, until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of, record
from muniment.core.errors import Invalid, RolledBack, Unavailable
from muniment.tracing import switch_off, switch_on

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from muniment.cli.session import Session
    from muniment.config import Config
    from muniment.service.desk import Desk

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


@command(app, "serve", section="Run", example="muniment serve\nmuniment serve --only controllers")
def serve(
    context: typer.Context,
    only: Annotated[
        Literal["controllers", "api"] | None,
        typer.Option("--only", help="Which part, where nodes are split; else both in one process."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="With --only controllers: have the credentials of this target and of no other. Repeatable.",
        ),
    ] = None,
) -> None:
    """Serve the API; give, take back and seal on time. Until SIGTERM or Ctrl-C."""
    session = of(context)
    config = session.config()
    if target and only != "controllers":
        raise Invalid(
            "--target goes with --only controllers",
            remedy="Whoever asks the API may ask it about any target.",
            code="usage.serve",
        )
    # without controllers there is nothing to sign, and so no key to lose (I32)
    desk = session.open_desk(config, signing=only != "api", only=tuple(target or ()))
    log_to_stderr()
    _trace(config)
    with suppress(
        RolledBack
    ):  # reading goes on, and what is over is taken away; `People` says so again and again
        record(desk)
    stop = _stop_on_signals()
    for sentence in SINGLE_PROCESS if config.store.url.startswith("sqlite") else ():
        session.note(sentence)
    parts, said = _parts(session, config, desk, only)
    for part in parts:
        part.start()
    session.note(*said, "SIGTERM or Ctrl-C ends it.")
    stop.wait()
    # requests first: what they recorded is sealed by the controllers' last beat
    slow = [part for part in parts if not part.stop(GRACE)]
    if slow:
        raise Unavailable(
            f"what was under way did not end within {GRACE:.0f} s",
            remedy="Nothing is lost: what it was about is due again at the next start.",
            code="unavailable.slow-stop",
        )
    switch_off()
    ended = "Stopped." if only == "api" else "Stopped; everything that was recorded is sealed."
    session.emit({"stopped": True}, lambda: ended)


class _Part(Protocol):
    def start(self) -> None: ...

    def stop(self, timeout: float) -> bool: ...


def _parts(session: Session, config: Config, desk: Desk, only: str | None) -> tuple[list[_Part], list[str]]:
    """What runs, in the order in which it ends; and what to say once it does."""
    from muniment.controllers.campaigns import CampaignLoop
    from muniment.controllers.people import People
    from muniment.controllers.runtime import Controllers
    from muniment.core.instants import parse_duration

    parts: list[_Part] = []
    said: list[str] = []
    if only != "controllers":
        server = session.open_api(config, desk)
        parts.append(server)
        said.append(f"The API is at {server.url}; `muniment token create` makes tokens for it.")
    parts.append(People(desk))
    if only != "api":
        every = parse_duration(config.ledger.checkpoint_interval)
        heartbeat = parse_duration(config.ledger.heartbeat)
        timestamps = config.ledger.timestamps
        stamp_every = parse_duration(timestamps.every) if timestamps else heartbeat
        parts.append(
            Controllers(desk, node=_node(), seal_every=every, heartbeat=heartbeat, stamp_every=stamp_every)
        )
        if config.reconcile is not None and config.reconcile.pause is not None:
            from muniment.controllers.reconcile import Reconciling
            from muniment.controllers.watching import Watcher

            reconciling = Reconciling(desk, config.reconcile.pause, _node())
            parts += [reconciling, Watcher(desk, config.reconcile.watched, reconciling)]
        parts.append(CampaignLoop(desk, _node()))
        if any(target.usage.get("logs") for target in config.targets):
            from muniment.controllers.usage import Using

            parts.append(Using(desk))
        parts += _outward(session, config, desk)
        ours = sum(each.ours for each in desk.targets.values())
        said.append(f"The controllers run, for {ours} targets.")
    return parts, said


def _trace(config: Config) -> None:
    """Traces go to a collector, where one is configured."""
    tracing = config.tracing
    if tracing is not None:
        token = (
            {}
            if tracing.token is None
            else {"Authorization": f"Bearer {config.secret(tracing.token).strip()}"}
        )
        switch_on(tracing.endpoint, headers=token, share=tracing.percent / 100)


def _outward(session: Session, config: Config, desk: Desk) -> list[_Part]:
    """Whoever is told what happens, and signals that are fetched."""
    from muniment.controllers.feeds import Feeds, Fetching

    parts: list[_Part] = []
    outward = session.open_outward(config, desk)
    if outward.sinks:
        parts.append(Feeds(desk, outward.sinks, _node()))
    if outward.signals is not None and outward.polled:
        parts.append(Fetching(outward.signals, outward.polled, desk, _node()))
    return parts


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


def log_to_stderr() -> None:
    """Log lines on stderr: for people at a terminal, else JSON."""
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
