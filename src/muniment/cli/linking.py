# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""Tickets that belong together: ``muniment extend`` and ``muniment bundle``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from muniment.cli.asking import Duration, PublicKey, Reason, References, make_ask, parse_references, read_key
from muniment.cli.commands import command, group
from muniment.cli.deciding import Id, carry_on
from muniment.cli.session import of
from muniment.core.errors import Invalid
from muniment.core.instants import parse_duration

if TYPE_CHECKING:
    from muniment.service.filing import Ask

#: bytes of a file that names a bundle
MAX_FILE = 1 << 20

app = group()
groups = [app]


class _Row(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """One ticket of a bundle, as written."""

    target: str
    privileges: list[str]
    for_: str | None = msgspec.field(default=None, name="for")
    reason: str | None = None
    beneficiary: str | None = None
    start: str | None = None
    references: dict[str, str] = {}
    public_key: str | None = None


class _Bundle(msgspec.Struct, forbid_unknown_fields=True):
    """What all of them share, and each by itself."""

    tickets: list[_Row]
    for_: str | None = msgspec.field(default=None, name="for")
    reason: str | None = None
    references: dict[str, str] = {}


@command(
    app,
    "extend",
    section="Ask",
    example='muniment extend req_01JDC… --for 2h --reason "the import takes longer" --as human:ann@example.com',
)
def extend(
    context: typer.Context,
    ticket_id: Id,
    *,
    duration: Duration,
    reason: Reason,
    privileges: Annotated[
        list[str] | None,
        typer.Option("--privilege", metavar="PRIVILEGE", help="Only this of what it gives. Repeatable."),
    ] = None,
    references: References = None,
    public_key: PublicKey = None,
) -> None:
    """Ask for access that is there to go on: a new ticket, decided by itself, that begins when the old one ends."""
    from muniment.cli.asking import parse_privilege
    from muniment.cli.backend import Extension

    session = of(context)
    backend = session.backend(writes=True)
    how = Extension(
        duration=parse_duration(duration),
        reason=reason,
        scope=tuple(map(parse_privilege, privileges or ())),
        references=parse_references(references) if references else None,
        public_key=read_key(public_key) if public_key is not None else None,
    )
    ticket = backend.extend(ticket_id, how)
    session.note(f"filed {ticket['id']}")
    carry_on(session, backend, ticket)


@command(
    app,
    "bundle",
    section="Ask",
    example="muniment bundle release.toml --as human:ann@example.com\n\n"
    '  # release.toml\n  for = "2h"\n  reason = "release 17"\n'
    '  [[tickets]]\n  target = "pg-prod"\n  privileges = ["orders_rw"]\n'
    '  [[tickets]]\n  target = "bastion"\n  privileges = ["web-admin"]\n  public-key = "id_ed25519.pub"',
)
def bundle(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML: what to ask for, ticket by ticket.")],
) -> None:
    """File several tickets together. Each is judged, approved and ended by itself."""
    from muniment.cli.tickets import rows

    session = of(context)
    asks = _asks(file)
    backend = session.backend(writes=True)
    documents, trouble = [], None
    for ticket in backend.file_bundle(asks):
        session.note(f"filed {ticket['id']}")
        document, late = backend.settle(ticket)
        trouble = trouble or late
        documents.append(document)
    session.emit({"items": documents, "next": None}, lambda: rows(documents, backend.now()))
    if trouble:
        raise trouble


def _asks(file: Path) -> list[Ask]:
    try:
        with file.expanduser().open("rb") as source:
            content = source.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise Invalid(f"{file} is too long for a bundle", remedy="File fewer tickets.")
        written = msgspec.convert(tomllib.loads(content.decode()), _Bundle)
    except (OSError, ValueError) as error:  # TOML, UTF-8 and shape are all ValueErrors
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Invalid(
            f"{file} cannot be used as a bundle: {why}", remedy="`muniment bundle --help` shows one."
        ) from error
    return [_ask(written, row, number) for number, row in enumerate(written.tickets, 1)]


def _ask(written: _Bundle, row: _Row, number: int) -> Ask:
    duration, reason = row.for_ or written.for_, row.reason or written.reason
    if duration is None or reason is None:
        raise Invalid(
            f"ticket {number} does not say {'why' if duration else 'for how long'}",
            remedy=f"Add {'reason' if duration else 'for'}, to it or on top for all.",
        )
    references = [f"{kind}={value}" for kind, value in {**written.references, **row.references}.items()]
    return make_ask(
        target=row.target,
        privileges=row.privileges,
        duration=duration,
        reason=reason,
        beneficiary=row.beneficiary,
        start=row.start,
        references=references,
        public_key=Path(row.public_key) if row.public_key is not None else None,
    )
