# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment ledger``: the checkpoint, the whole verification, the proof of one ticket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.collecting import Tsa
from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of
from muniment.core.errors import IntegrityError, Misconfigured

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.ledger.trust import TrustPolicy
    from muniment.service.desk import Desk
    from muniment.service.stamping import Check

app = group("ledger", section="Govern", summary="The tamper-evident record of everything.")
groups = [app]


@command(app, "checkpoint", example="muniment ledger checkpoint > checkpoint.txt")
def checkpoint(context: typer.Context) -> None:
    """Seal what waits and print the signed checkpoint. Keep it elsewhere: it holds us to everything before it."""
    session = of(context)
    document = session.backend(by_anybody=True).checkpoint()
    session.note(f"This checkpoint is {document['says']}.")
    session.emit(document, lambda: document["checkpoint"].rstrip("\n"))


@command(app, "verify", example="muniment ledger verify --dir audit --trust my-trust")
def verify(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="DIR", help="An exported ledger; needs no configuration. Else the store."
        ),
    ] = None,
    vkey: Annotated[
        Path | None,
        typer.Option(
            "--vkey", metavar="FILE", help="Your own copy of the log's public key; ours proves less."
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust", metavar="FILE", help="Your own trust file (C2SP tlog-policy), with witnesses."
        ),
    ] = None,
    since: Annotated[
        list[Path] | None,
        typer.Option(
            "--since",
            metavar="FILE",
            help="A checkpoint that you kept: the ledger must only have grown from it.",
        ),
    ] = None,
    tsa: Tsa = None,
    level: Annotated[
        list[str] | None, typer.Option("--level", metavar="V1…V5", help="Only these levels.")
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            "--processes", metavar="N", min=1, max=64, help="How many to use, for more than 130,000 entries."
        ),
    ] = os.cpu_count() or 1,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="FILE", help="Keep here what was found, and go on from it. It is believed."
        ),
    ] = None,
) -> None:
    """Verify the whole ledger from its bytes. Exit status 1 if it does not hold."""
    from muniment.cli.progress import measuring
    from muniment.evidence.progress import Progress
    from muniment.evidence.scanning import LEVELS
    from muniment.evidence.source import Older
    from muniment.service import verifying

    session = of(context)
    levels = tuple(level or LEVELS)
    if unknown := [name for name in levels if name not in LEVELS]:
        raise Usage(f"there is no level {unknown[0]!r:.20}", remedy=f"Levels are {', '.join(LEVELS)}.")
    believed = _trust(vkey, trust)
    if folder is not None and believed is None:
        raise Usage(
            "an exported ledger is verified against something of your own",
            remedy="Add --vkey FILE or --trust FILE; the ones inside the folder are the operator's proposal.",
        )
    kept = [Older(where=str(path), note=_read(path)) for path in since or ()]
    desk = session.desk() if folder is None else None
    stamp = _stamp_check(tsa, desk)
    with measuring(session, "entries") as told:
        progress = Progress(told, resume.expanduser() if resume else None)
        if desk is None and folder is not None and believed is not None:
            document = verifying.verify_directory(
                folder.expanduser(), believed, since=kept, stamp=stamp, levels=levels, processes=processes, progress=progress
            )  # fmt: skip
        elif desk is not None:
            document = verifying.verify_store(
                desk, trust=believed, since=kept, stamp=stamp, levels=levels, processes=processes, progress=progress
            )  # fmt: skip
    session.emit(document, lambda: _levels(document))
    if not document["ok"]:
        faults = [
            f"{name}: {level['first_fault']}" for name, level in document["levels"].items() if not level["ok"]
        ]
        raise IntegrityError(
            f"the ledger does not verify: {'; '.join(faults)}",
            remedy="Keep everything as it is, grant nothing, and compare with kept checkpoints and backups.",
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
        lambda: (
            f"{document['size']} entries under {document['checkpoints']} checkpoints are in {document['dir']}."
        ),
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


def _stamp_check(tsa: Path | None, desk: Desk | None) -> Check | None:
    """By the auditor's own certificates; for the store else by those that it is configured with."""
    from muniment.anchors.timestamps import stamp_check

    if tsa is not None:
        return stamp_check(_read(tsa).encode())
    return stamp_check(desk.authority.roots) if desk is not None and desk.authority is not None else None


def _trust(vkey: Path | None, trust: Path | None) -> TrustPolicy | None:
    from muniment.ledger.errors import LedgerFault
    from muniment.ledger.note import Verifier
    from muniment.ledger.trust import TrustPolicy

    if vkey is not None and trust is not None:
        raise Usage("--vkey and --trust are two ways to say whom you believe", remedy="Give one of them.")
    if (path := vkey or trust) is None:
        return None
    text = _read(path)
    try:
        if trust is not None:
            return TrustPolicy.parse(text)
        return TrustPolicy(log=tuple(Verifier.from_vkey(line) for line in text.split()))
    except LedgerFault as fault:
        raise Misconfigured(
            f"{path} cannot be used: {fault}",
            remedy="`muniment ledger checkpoint --json` shows the log's vkey.",
            code=fault.code,
        ) from fault


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Misconfigured(
            f"the file {path} cannot be read: {why}",
            remedy="Name the file that you keep it in: the log's vkey, a trust file, a checkpoint, certificates.",
        ) from error


#: what each level of verification says, from the ledger's design
_LEVELS = {
    "V1": "the checkpoint is signed by the log's key",
    "V2": "every entry is in the tree, none is gone",
    "V3": "every ticket's entries form one chain",
    "V4": "nothing was given against the rules, and lists show what entries say",
    "V5": "claimed times agree with those of witnesses and time-stamps",
}


def _levels(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from muniment.cli import console

    rows = []
    for name, level in document["levels"].items():
        what = level["first_fault"] or _LEVELS.get(name, "")
        state = ("holds", console.GOOD) if level["ok"] else ("does not hold", console.BAD)
        if name == "V5" and level["ok"] and not level["checked"]:
            state, what = ("not checked", console.QUIET), "no witness and no time-stamp says when"
        rows.append((name, console.line(*state), str(level["checked"]), what))
    verdict = ("verifies", console.GOOD) if document["ok"] else ("does not verify", console.BAD)
    parts: list[RenderableType] = [
        console.line(f"{document['events']} events: the ledger {verdict[0]}.", verdict[1]),
        console.table(("level", "", "checked", "what"), rows, empty="Nothing was verified."),
    ]
    if says := document.get("says"):
        parts.append(console.line(says, console.QUIET))
    return Group(*parts)
