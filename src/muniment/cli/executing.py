# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment exec``: run a command with what a target issued, and leave nothing behind (I31).

A login goes into the command's environment and files in memory (`handing`), a certificate into an ssh-agent of the
command's own. Neither is in any argument list. A credential is handed out once, so all that can be checked is checked before it is collected; one that
then cannot be used is kept in a file, as sealed as it came.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of
from muniment.core.errors import Misconfigured, MunimentError, Refused
from muniment.core.instants import parse_instant

app = group()
groups = [app]

_AGENT_SECONDS = 5.0
_LONGEST_KEY = 1 << 16


@command(
    app,
    "exec",
    section="Ask",
    example="muniment exec req_01JDC… --as human:ann@example.com -- psql -h db.example.com orders",
)
def execute(
    context: typer.Context,
    ticket_id: Annotated[str, typer.Argument(metavar="ID", help="An active ticket of yours.")],
    command_line: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND…", help="What to run; its exit status is ours.")
    ],
    key: Annotated[
        Path,
        typer.Option("--key", metavar="FILE", help="The private key whose public half the request carried."),
    ] = Path("~/.ssh/id_ed25519"),
) -> None:
    """Run a command with the credential of your ticket: in its environment, in files in memory, or in an SSH agent of its own."""
    session = of(context)
    path = _readable(key.expanduser())
    program = shutil.which(command_line[0])
    if program is None:
        raise Usage(f"there is no program {command_line[0]!r:.80}", remedy="Nothing was collected.")
    backend = session.backend()
    until = parse_instant(backend.ticket(ticket_id)["window"]["expires_at"])
    body = backend.credential(ticket_id)
    status = run([program, *command_line[1:]], body=body, key=path, until=until, name=ticket_id)
    raise typer.Exit(status)


def run(command_line: Sequence[str], *, body: bytes, key: Path, until: datetime, name: str) -> int:
    """Run it with the credential; return its exit status, 128 and the signal's number if one ended it."""
    from muniment import delivery
    from muniment.cli import handing

    try:
        if delivery.is_sealed(body):
            issued = delivery.unseal(
                body, key.read_bytes(), lambda: getpass(f"Passphrase of {key}: ").encode()
            )
            with handing.environment(issued) as found:
                return _wait(command_line, {**os.environ, **found})
        with _agent(body, key, until) as environment:
            return _wait(command_line, {**os.environ, **environment})
    except MunimentError as error:
        kept = _keep(body, name)
        raise Refused(
            f"{error.message}; what was collected is in {kept}", remedy=error.remedy, code=error.code
        ) from error


def _readable(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            if len(file.read(_LONGEST_KEY + 1)) <= _LONGEST_KEY:
                return path
        why = "it is too long"
    except OSError as error:
        why = error.strerror or "it cannot be opened"
    raise Misconfigured(
        f"the private key {path} cannot be read: {why}",
        remedy="Name it with --key FILE. Nothing was collected.",
    )


def _wait(command_line: Sequence[str], environment: dict[str, str]) -> int:
    """As a shell would: the terminal's signals are the command's alone, and others are handed on.

    The handlers are there before the command is, so that none of these ends us and leaves it alone. They are functions,
    since the command would inherit that a signal is ignored.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, _: object) -> None:
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    def leave(_number: int, _: object) -> None:
        """The terminal has sent it to the command, too."""

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    before |= {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        process = subprocess.Popen(command_line, env=environment)
        for number in early:
            process.send_signal(number)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status


@contextmanager
def _agent(certificate: bytes, key: Path, until: datetime) -> Iterator[dict[str, str]]:
    """An ssh-agent that holds the key with its certificate until the access ends, as an environment.

    OpenSSH reads a certificate from a file beside the key only: both lie in a private folder for the moment of loading,
    the key as a link. After SIGKILL the agent lives on, and forgets the key when the access ends.
    """
    seconds = int((until - datetime.now(UTC)).total_seconds())
    if seconds <= 0:
        raise Refused("the access is over", remedy="Ask again.", code="refused.over")
    for program in ("ssh-agent", "ssh-add"):
        if shutil.which(program) is None:
            raise Misconfigured(
                f"there is no {program} on this machine", remedy="Install the OpenSSH client."
            )
    folder = Path(tempfile.mkdtemp(prefix="muniment-agent-", dir=os.environ.get("XDG_RUNTIME_DIR")))
    socket = folder / "agent"
    environment = {"SSH_AUTH_SOCK": str(socket), "SSH_AGENT_PID": ""}
    # in a group of its own: Ctrl-C in the command's terminal is not for the agent
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket), "-t", str(seconds)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _AGENT_SECONDS
        while not socket.exists():
            if agent.poll() is not None or time.monotonic() > deadline:
                raise Misconfigured("ssh-agent did not start", remedy="Check the OpenSSH client.")
            time.sleep(0.005)
        link, beside = folder / "key", folder / "key-cert.pub"
        link.symlink_to(key.resolve())
        beside.write_bytes(certificate)
        try:
            loaded = subprocess.run(
                ["ssh-add", "-q", str(link)], env={**os.environ, **environment}, check=False, timeout=120,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            link.unlink()
            beside.unlink()
        if loaded.returncode:
            raise Misconfigured(
                f"ssh-add could not load {key}", remedy="Give the private key of the certificate."
            )
        yield environment
    finally:
        agent.terminate()
        with suppress(subprocess.TimeoutExpired):
            agent.wait(_AGENT_SECONDS)
        agent.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _keep(body: bytes, name: str) -> str:
    """Put a credential that could not be used where its owner finds it; it is sealed, or no secret."""
    from muniment import delivery

    suffix = ".age" if delivery.is_sealed(body) else "-cert.pub"
    try:
        descriptor, path = tempfile.mkstemp(prefix=f"{name}-", suffix=suffix, dir=Path.cwd())
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
    except OSError as error:
        return f"no file ({error.strerror}): it is lost; give the access back and ask again"
    return path
