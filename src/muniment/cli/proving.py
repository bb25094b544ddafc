# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment ledger``: the checkpoint, the whole verification, the proof of one ticket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of
from muniment.core.errors import IntegrityError, Misconfigured

if TYPE_CHECKING:
    from rich.console import RenderableType

app = group("ledger", section="Govern", summary="The tamper-evident record of everything.")
groups = [app]


@command(app, "checkpoint", example="muniment ledger checkpoint > checkpoint.txt")
def checkpoint(context: typer.Context) -> None:
    """Seal what waits and print the signed checkpoint. Keep it elsewhere: it holds us to everything before it."""
    from muniment.service import ledgering

    session = of(context)
    document = ledgering.checkpoint(session.desk())
    session.emit(document, lambda: document["checkpoint"].rstrip("\n"))


@command(app, "verify", example="muniment ledger verify --vkey ledger.vkey")
def verify(
    context: typer.Context,
    vkey: Annotated[
        Path | None,
        typer.Option(
            "--vkey", metavar="FILE", help="Your own copy of the log's public key; ours proves less."
        ),
    ] = None,
) -> None:
    """Verify the whole ledger from its bytes. Exit status 1 if it does not hold."""
    from muniment.cli.progress import counting
    from muniment.service import ledgering

    session = of(context)
    key = _read_vkey(vkey) if vkey is not None else None
    desk = session.desk()
    with counting(session, "entries verified") as advance:
        document = ledgering.verify(desk, advance, key=key)
    session.emit(document, lambda: _levels(document))
    if not document["ok"]:
        faults = [
            f"{name}: {level['first_fault']}" for name, level in document["levels"].items() if not level["ok"]
        ]
        raise IntegrityError(
            f"the ledger does not verify: {'; '.join(faults)}",
            remedy="Keep the store as it is, grant nothing, and compare with kept checkpoints and backups.",
        )


@command(app, "export", example="muniment ledger export /mnt/audit")
def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one exported to before.")],
) -> None:
    """Write the whole published ledger as files (C2SP tlog-tiles), for tools that are not ours."""
    from muniment.cli.progress import counting
    from muniment.service import publishing
    from muniment.service.sealing import seal

    session = of(context)
    desk = session.desk()
    if desk.signers:
        seal(desk)
    with counting(session, "entries written") as advance:
        document = publishing.export(desk, folder.expanduser().absolute(), advance)
    session.emit(
        document,
        lambda: f"{document['size']} entries under {document['checkpoints']} checkpoints are in {document['dir']}.",
    )


@command(app, "prove", example="muniment ledger prove req_01JDC… --json")
def prove(
    context: typer.Context, ticket_id: Annotated[str, typer.Argument(metavar="ID", help="The ticket.")]
) -> None:
    """Prove that every event of a ticket is in the ledger, for tools that are not ours."""
    from muniment.service import ledgering

    session = of(context)
    document = ledgering.prove(session.desk(), ticket_id)
    session.emit(document, lambda: "\n".join(entry["proof"] for entry in document["entries"]))


def _read_vkey(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Misconfigured(
            f"the key {path} cannot be read: {why}",
            remedy="Name the file that you keep the log's vkey in; `muniment ledger checkpoint --json` shows it.",
        ) from error


#: what each level of verification says, from the ledger's design
_LEVELS = {
    "V1": "the checkpoint is signed by the log's key",
    "V2": "every entry is in the tree, none is gone",
    "V3": "every ticket's entries form one chain",
    "V4": "what lists show is what the entries say",
}


def _levels(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from muniment.cli import console

    rows = [
        (
            name,
            console.line("holds", console.GOOD)
            if level["ok"]
            else console.line("does not hold", console.BAD),
            str(level["checked"]),
            level["first_fault"] or _LEVELS.get(name, ""),
        )
        for name, level in document["levels"].items()
    ]
    verdict = ("verifies", console.GOOD) if document["ok"] else ("does not verify", console.BAD)
    parts: list[RenderableType] = [
        console.line(f"{document['events']} events: the ledger {verdict[0]}.", verdict[1]),
        console.table(("level", "", "checked", "what"), rows, empty="Nothing was verified."),
    ]
    if says := document.get("says"):
        parts.append(console.line(says, console.QUIET))
    return Group(*parts)
