# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""What every command has at hand: the options that all of them take, the way to the desk, and the ways out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import typer

from muniment.core.errors import MunimentError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from muniment.cli.backend import Backend
    from muniment.cli.local import LocalBackend
    from muniment.config import Config
    from muniment.service.desk import Caller, Desk
    from muniment.service.outward import Outward
    from muniment.service.sending import Sink

VIA = "local"


class Usage(MunimentError):
    """The command line itself cannot be meant."""

    code = "usage"
    exit_status = 2


class Served(Protocol):
    """A server of the API; main knows which."""

    @property
    def url(self) -> str:
        """As clients reach it."""

    def start(self) -> None:
        """Listen. Raises `Misconfigured` where that cannot be."""

    def stop(self, timeout: float) -> bool:
        """Answer what is under way, then end; say whether that was in time."""


@dataclass
class Session:
    """One run of the program. The common options fill it in, from wherever on the line they stand."""

    find_config: Callable[[str | None], Config]
    open_desk: Callable[..., Desk]
    open_api: Callable[[Config, Desk], Served]
    open_outward: Callable[[Config, Desk], Outward]
    config_file: str | None = None
    as_json: bool = False
    identity: str | None = None
    server: str | None = None
    #: what the run opened, and closes at its end
    opened: ExitStack = field(default_factory=ExitStack)

    def config(self) -> Config:
        """The configuration. Raises `Misconfigured`."""
        if (url := self.at_server()) is not None:
            raise Usage(
                f"this is not asked of a server, and {url} is one",
                remedy="Run it where the store is, with --config.",
                code="usage.local-only",
            )
        return self.find_config(self.config_file)

    def desk(self) -> Desk:
        """Every adapter. Raises `Misconfigured` or `StoreUnavailable`."""
        return self.open_desk(self.config())

    def enter(self, *, writes: bool = False) -> tuple[Desk, Caller]:
        """The desk, and who acts at it.

        ``writes``: put identities, targets and policies on record first, for the decision will rest on them.
        """
        who = self._who()
        desk = self.desk()
        caller = desk.caller(who, VIA)
        if writes:
            record(desk)
        return desk, caller

    def operating(self) -> tuple[Desk, Caller | None]:
        """The desk, for what whoever runs the store may do; None: they did not say who they are."""
        return self.enter(writes=True) if self.named else (self.desk(), None)

    def backend(self, *, writes: bool = False, by_anybody: bool = False) -> Backend:
        """The way to Muniment: the server, if one is named, else a desk here.

        ``by_anybody``: whoever runs the store need not say who they are.
        """
        if (url := self.at_server()) is not None:
            return self._server(url)
        from muniment.cli.local import LocalBackend

        if by_anybody and not self.named:
            desk, caller = self.desk(), None
        else:
            desk, caller = self.enter(writes=writes)
        return LocalBackend(desk, caller, self._certificates, self.working, self._sinks, self._policies)

    def local(self, *, writes: bool = False) -> tuple[LocalBackend, Desk, Caller]:
        """The desk here, and the same way on from it as `backend` has."""
        from muniment.cli.local import LocalBackend

        desk, caller = self.enter(writes=writes)
        return (
            LocalBackend(desk, caller, self._certificates, self.working, self._sinks, self._policies),
            desk,
            caller,
        )

    def _policies(self) -> Path:
        """The folder of policies."""
        config = self.config()
        return config.path(config.policy.dir)

    def _sinks(self, desk: Desk) -> tuple[Sink, ...]:
        """Who is told what happens."""
        return self.open_outward(self.config(), desk).sinks

    def at_server(self) -> str | None:
        """The server's URL: what stands on the line wins over the environment."""
        if self.server and self.config_file:
            raise Usage("--server and --config exclude each other", remedy="Give one of them.")
        if self.server or self.config_file:
            return self.server
        return None if os.environ.get("MUNIMENT_CONFIG") else os.environ.get("MUNIMENT_SERVER") or None

    def _server(self, url: str) -> Backend:
        from muniment.cli.remote import RemoteBackend

        if self.identity:
            raise Usage(
                "a server knows by the token who acts",
                remedy="Leave --as out, or use a token of that identity.",
            )
        from muniment.cli.keeping import Kept

        token = os.environ.get("MUNIMENT_TOKEN") or Kept.here().token(url)
        if not token:
            raise Usage(
                f"nobody says who acts at {url}",
                remedy=f"Run `muniment login --server {url}`, or set MUNIMENT_TOKEN to a token that was made there.",
                code="usage.no-token",
            )
        backend = RemoteBackend(url, token)
        self.opened.callback(backend.close)
        return backend

    def _certificates(self) -> bytes:
        """Of time-stamping authorities, for evidence."""
        from muniment.cli.files import read_file

        config = self.config()
        timestamps = config.ledger.timestamps
        return b"" if timestamps is None else read_file(config.path(timestamps.roots))

    @property
    def named(self) -> bool:
        """Whether somebody says who acts."""
        return bool(self.identity or os.environ.get("MUNIMENT_AS"))

    def _who(self) -> str:
        from muniment.core.identity import parse_identity

        who = self.identity or os.environ.get("MUNIMENT_AS")
        if not who:
            raise Usage(
                "nobody says who acts", remedy="Add --as human:you@example.com, or set MUNIMENT_AS to it."
            )
        return parse_identity(who)

    # ── ways out ──

    def emit(self, document: Any, render: Callable[[], RenderableType | str]) -> None:
        """The command's one result on stdout: the document with --json, else what a person reads."""
        from muniment.cli import console

        if self.as_json:
            console.write_json(document)
        else:
            console.write(render())

    def tell(self, *sentences: str) -> None:
        """Tell a person on stderr what they must do; also whoever asked for JSON."""
        from muniment.cli import console

        console.say(*sentences)

    def note(self, *sentences: str) -> None:
        """Tell a person on stderr how it goes. Scripts that asked for JSON are told by the document alone."""
        if not self.as_json:
            from muniment.cli import console

            console.say(*sentences)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A spinner on stderr while something takes its time; nothing where nobody watches."""
        from muniment.cli import console

        errors = console.errors()
        if self.as_json or not errors.is_terminal:
            yield
            return
        with errors.status(console.line(what)):
            yield


def record(desk: Desk) -> None:
    """Put on record what decisions rest on, as far as it changed."""
    from muniment.core.identity import SYSTEM
    from muniment.ports import Actor
    from muniment.service.registry import record_registry
    from muniment.service.witnessing import consult

    consult(desk)
    record_registry(desk, Actor(id=SYSTEM, via=VIA))


def of(context: typer.Context) -> Session:
    """The session of a command."""
    session = context.find_object(Session)
    if session is None:
        raise AssertionError("unreachable: `app.main` gives every context its session")
    return session
