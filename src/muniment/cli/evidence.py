# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment evidence``: one file that proves one ticket, to be verified anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.collecting import Tsa, store
from muniment.cli.commands import command, group
from muniment.cli.files import read_file
from muniment.cli.session import of
from muniment.core.errors import IntegrityError, Misconfigured

if TYPE_CHECKING:
    from rich.console import RenderableType


app = group("evidence", section="Govern", summary="One file that proves one ticket, to be verified anywhere.")
groups = [app]

_LEVELS = {
    "V1": "the checkpoint is signed by those whom you trust",
    "V2": "every entry is in the ledger, unaltered, at its place",
    "V3": "the ticket's entries follow each other without a gap",
    "V4": "the rules were kept; texts are those committed to",
    "V5": "times agree with those of witnesses and time-stamps",
}
_UNDATED = "not checked: no independent time"


@command(app, "export", example="muniment evidence export req_01JDC… --out evidence.zip")
def export(
    context: typer.Context,
    ticket_id: Annotated[str, typer.Argument(metavar="ID", help="The ticket.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="A new file, a ZIP; only you can read it.")
    ],
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            metavar="FILE",
            help="The auditor's last checkpoint: prove that nothing before it changed.",
        ),
    ] = None,
) -> None:
    """Put everything that proves a ticket into one file. It holds the texts, too: hand it to whom they concern."""
    session = of(context)
    kept = None if since is None else _read_text(since, "the checkpoint")
    backend = session.backend(by_anybody=True)
    path = out.expanduser()
    found: dict[str, Any] = {}

    def collect() -> bytes:
        raw, document = backend.evidence(ticket_id, since=kept)
        found.update(document)
        return raw

    with session.working(f"collecting the evidence of {ticket_id}"):
        store(path, collect)
    session.emit(found | {"out": str(path)}, lambda: _exported(found, path))


@command(app, "verify", example="muniment evidence verify evidence.zip --trust trust")
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `evidence export` wrote.")],
    trust: Annotated[
        Path,
        typer.Option(
            "--trust", metavar="FILE", help="Whose signatures count (C2SP tlog-policy): your own copy."
        ),
    ],
    since: Annotated[
        Path | None,
        typer.Option(
            "--since", metavar="FILE", help="A checkpoint you kept: the ledger must have grown from it."
        ),
    ] = None,
    tsa: Tsa = None,
) -> None:
    """Verify a ticket's evidence, without any store or network. Exit status 1 if it does not hold."""
    from muniment.anchors.timestamps import stamp_check
    from muniment.ledger.errors import LedgerFault
    from muniment.service import evidencing

    session = of(context)
    reading, kept = trust, None
    try:
        policy = evidencing.read_trust(_read_text(trust, "the trust file"))
        if since is not None:
            reading = since
            kept = evidencing.read_checkpoint(_read_text(since, "the checkpoint"))
    except LedgerFault as fault:
        raise Misconfigured(
            f"{reading} cannot be used: {fault.message}",
            remedy="See docs/how-to/hand-evidence-to-an-auditor.md for what it has to look like.",
            code=fault.code,
        ) from fault
    stamp = stamp_check(read_file(tsa)) if tsa is not None else None
    document = evidencing.verify(read_file(file), policy, since=kept, stamp=stamp)
    session.emit(document, lambda: _report(document))
    if refused := document.get("refused"):
        raise IntegrityError(
            f"{file} is no evidence: {refused}",
            remedy="Ask for the file again, and keep this one: it was cut off, or altered.",
            code="evidence.bad-bundle",
        )
    if not document["ok"]:
        faults = [
            f"{name}: {level['first_fault']}" for name, level in document["levels"].items() if not level["ok"]
        ]
        raise IntegrityError(
            f"the evidence does not verify: {'; '.join(faults)}",
            remedy="Keep the file, and ask whoever handed it out.",
            code="evidence.does-not-verify",
        )


def _read_text(path: Path, what: str) -> str:
    try:
        return read_file(path).decode()
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{what} {path} is not text", remedy="Name the right file.") from error


def _exported(document: dict[str, Any], path: Path) -> str:
    said = f"{document['entries']} entries of {document['ticket']}, under a checkpoint of {document['size']}: {path}"
    faults = [
        f"{name}: {level['first_fault']}" for name, level in document["levels"].items() if not level["ok"]
    ]
    return said + ("" if document["ok"] else f"\nWhat it shows is not in order. {'; '.join(faults)}")


def _report(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from muniment.cli import console

    rows = [
        (
            name,
            console.line("holds", console.GOOD)
            if level["ok"]
            else console.line("does not hold", console.BAD),
            str(level["checked"]),
            level["first_fault"] or (_UNDATED if name == "V5" and not level["checked"] else _LEVELS[name]),
        )
        for name, level in document["levels"].items()
    ]
    said = ("verifies", console.GOOD) if document["ok"] else ("does not verify", console.BAD)
    parts: list[RenderableType] = [
        console.line(f"{document.get('ticket', 'The file')}: the evidence {said[0]}.", said[1]),
        console.table(("level", "", "checked", "what"), rows, empty="Nothing was verified."),
    ]
    for heading, sentences in (
        ("It proves", document["proves"]),
        ("It does not prove", document["does_not_prove"]),
    ):
        if sentences:
            parts.append(console.line(heading))
            parts += [console.line(f"  {sentence}", console.QUIET) for sentence in sentences]
    return Group(*parts)
