# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment credential``: what a target issued is handed out once, so its place is made ready first."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of
from muniment.core.errors import Invalid, MunimentError

if TYPE_CHECKING:
    from collections.abc import Callable

#: bytes set aside before anything is handed out; no credential is longer
ROOM = 1 << 16

#: of whoever verifies: a ledger, a bundle
Tsa = Annotated[
    Path | None,
    typer.Option(
        "--tsa", metavar="FILE", help="Certificates (PEM) of the time-stamping authorities that you believe."
    ),
]

app = group()
groups = [app]


@command(
    app,
    "credential",
    section="Ask",
    example="muniment credential req_01JDC… --out ~/.ssh/id_ed25519-cert.pub --as human:ann@example.com",
)
def credential(
    context: typer.Context,
    ticket_id: Annotated[str, typer.Argument(metavar="ID", help="An active ticket of yours.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A new file that only you can read; else stdout."),
    ] = None,
) -> None:
    """Collect what the target issued for your ticket, once. Afterwards Muniment has it no more."""
    from muniment.cli import console

    session = of(context)
    backend = session.backend()
    if out is None:
        body = backend.credential(ticket_id)
        if session.as_json:
            console.write_json({"ticket": ticket_id, "credential": body.decode(errors="backslashreplace")})
        else:
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()
        return
    path = out.expanduser()
    store(path, lambda: backend.credential(ticket_id))
    session.emit(
        {"ticket": ticket_id, "out": str(path)}, lambda: f"Written to {path}, which only you can read."
    )


def store(path: Path, collect: Callable[[], bytes]) -> None:
    """Make a file that was not there, then collect into it.

    The file and its room on the disk are there before the credential is asked for. A crash in between leaves an
    empty file, and the credential where it was.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError as error:
        raise Invalid(
            f"{path} exists already", remedy="Name a new file; nothing was collected.", code="invalid.out"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            _reserve(path, file.fileno())
            body = collect()
            file.write(body)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _reserve(path: Path, descriptor: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, ROOM)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> MunimentError:
    return Invalid(
        f"{path} cannot be written: {error.strerror}",
        remedy="Name a file in a folder of yours; nothing was collected.",
        code="invalid.out",
    )
