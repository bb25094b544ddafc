# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment usage``: logs of targets are read, and held against what tickets gave."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.backend import Document
    from muniment.settings.usage import LogSettings

app = group("usage", section="Look", summary="How access was used, by the targets' own logs.")
groups = [app]

#: seconds between looks at a log that is followed
PAUSE = 2.0
#: bytes of lines that one request to a server holds at most, and how many
SENT, SENT_LINES = 1 << 20, 5000


@command(
    app,
    "ingest",
    example=(
        "muniment usage ingest postgresql.json --format postgresql-json --target pg-prod --as human:ops@example.com\n"
        "muniment usage ingest /var/log/auth.log --format sshd --target bastion --follow --as human:ops@example.com"
    ),
)
def ingest(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The log.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="F",
            help="postgresql-json, postgresql-csv, sshd, sudo, openbao, kubernetes, cloudtrail, ocsf, events or generic.",
        ),
    ],
    target: Annotated[str, typer.Option("--target", metavar="T", help="The target whose log it is.")],
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Which of its logs. Default: as the format."),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", metavar="FILE", help="For generic: which field is what, as TOML."),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="OFFSET", help="Of a log that writes none.")
    ] = "+00:00",
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on as long as it is written to, over rotations.")
    ] = False,
) -> None:
    """Read a log from where it was read to before. Exit status 1 if it shows use that is wrong."""
    from muniment.settings.usage import LogSettings, zone
    from muniment.usage.formats import format_named
    from muniment.usage.generic import mapped, parse_mapping

    zone(timezone)
    written: dict[str, Any] | None = None
    if mapping is not None:
        import tomllib

        text = _text(mapping)
        parse_mapping(text)
        written = tomllib.loads(text)
    format_named(format_, mapped(written) if written is not None else None)
    session = of(context)
    backend = session.backend(writes=True)
    log = LogSettings(format=format_, path=str(file), name=source, timezone=timezone, mapping=written)
    path = file.resolve()
    found = backend.ingest_usage(target, path, log, whole=not follow)
    try:
        while follow:
            if found["items"]:
                session.note(_line(found))
            time.sleep(PAUSE)
            more = backend.ingest_usage(target, path, log, whole=False)
            found = more | {"findings": [*found["findings"], *more["findings"]]}
    except KeyboardInterrupt:
        pass
    session.emit(found, lambda: _ingested(found))
    if found["findings"]:
        raise typer.Exit(1)


@command(
    app,
    "report",
    example=(
        "muniment usage report --target pg-prod --as human:aud@example.com\n"
        "muniment usage report --right-size --as human:dee@example.com"
    ),
)
def report(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Option("--target", metavar="TARGET", help="Only this target.")
    ] = None,
    beneficiary: Annotated[
        str | None, typer.Option("--beneficiary", metavar="IDENTITY", help="Only tickets for them.")
    ] = None,
    judgement: Annotated[
        list[str] | None,
        typer.Option(
            "--judgement",
            metavar="J",
            help="Only tickets that were: used, narrower, never-used, not-covered. Repeatable.",
        ),
    ] = None,
    right_size: Annotated[
        bool, typer.Option("--right-size", help="What would have served, where that is less than was given.")
    ] = False,
) -> None:
    """Show what logs cover, how tickets were used, and what use was wrong."""
    if unknown := set(judgement or ()) - {"used", "narrower", "never-used", "not-covered"}:
        raise Usage(
            f"there is no judgement {unknown.pop()!r:.20}",
            remedy="It is used, narrower, never-used or not-covered.",
        )
    session = of(context)
    found = session.backend().usage_report(target=target, beneficiary=beneficiary, judgements=judgement or ())
    session.emit(found, lambda: _right_sized(found) if right_size else _reported(found))


@command(app, "check", example="muniment usage check pg-prod --as human:aud@example.com")
def check(
    context: typer.Context, target: Annotated[str, typer.Argument(metavar="TARGET", help="Which target.")]
) -> None:
    """Check what is kept of lines against the digests in the ledger. Exit status 1 if it is not the same."""
    session = of(context)
    found = session.backend().check_usage(target)
    said = f"{found['lines']} lines of {found['batches']} batches are what the ledger says."
    altered = f"Altered: {', '.join(found['altered'])}"
    session.emit(found, lambda: said if found["ok"] else altered)
    if not found["ok"]:
        raise typer.Exit(1)


def pieces(path: Path, log: LogSettings, position: Any, *, whole: bool) -> Iterable[tuple[list[str], Any]]:
    """A file's lines in such portions as a server takes, and how far that is: whoever reads it is not the server."""
    from muniment.core.errors import Invalid
    from muniment.usage.formats import format_named
    from muniment.usage.generic import mapped
    from muniment.usage.tailing import parts

    if log.timezone != "+00:00":
        raise Invalid(
            "a server reads lines in UTC alone",
            remedy="Have the log written in UTC, or read it where the store is.",
        )
    framing = format_named(log.format, mapped(log.mapping) if log.mapping is not None else None).framing
    for part in parts(path, position, framing, whole=whole):
        lines: list[str] = []
        size = 0
        for record in part.records:
            line = (record.raw or b"").decode("utf-8", "backslashreplace").rstrip("\r\n")
            if not line:
                continue
            if size + len(line) > SENT or len(lines) == SENT_LINES:
                yield lines, None
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        yield lines, part.position


def together(documents: Iterable[Document]) -> Document:
    """Several answers as one."""
    found: Document = {"items": [], "verdicts": {}, "findings": [], "tickets": []}
    for each in documents:
        for name in ("items", "findings", "tickets"):
            found[name] += [one for one in each[name] if one not in found[name]]
        for name, count in each["verdicts"].items():
            found["verdicts"][name] = found["verdicts"].get(name, 0) + count
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Usage(f"{path} cannot be read: {why}", remedy="Check the path.") from error


def _line(found: Document) -> str:
    read = sum(each["lines"] for each in found["items"])
    said = ", ".join(f"{count} {name}" for name, count in sorted(found["verdicts"].items()))
    return f"{read} lines read{': ' + said if said else ''}"


def _ingested(found: Document) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from muniment.cli import console

    head = ("batch", "lines", "uses", "other", "known", "unparsable", "ahead", "covers until")
    rows = (
        (
            e["batch"], str(e["lines"]), str(e["uses"]), str(e["other"] + e["refused"]), str(e["duplicates"]),
            str(e["unparsable"]), str(e["ahead"]), e["covers_to"] or "nothing",
        )
        for e in found["items"]
    )  # fmt: skip
    said = _line(found)
    trouble = (
        f"{len(found['findings'])} findings are new: `muniment findings` lists them."
        if found["findings"]
        else ""
    )
    return Group(
        console.table(head, rows, empty="Nothing that is not on record."), Text(), Text(said), Text(trouble)
    )


def _reported(found: Document) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from muniment.cli import console

    logs = (
        (
            target["target"], log["source"],
            ", ".join(f"{i['begins']} to {i['ends']}" for i in log["covered"]) or "nothing",
            str(log["lines"]), str(log["unparsable"]), str(log["gaps"]),
        )
        for target in found["targets"]
        for log in target["logs"]
    )  # fmt: skip
    items = (
        (
            i["ticket"], i["target"], i["account"], i["judgement"], str(i["events"]), _scope(i["used"]) or "–",
            _scope(i["unused"]) or "–",
        )
        for i in found["items"]
    )  # fmt: skip
    wrong = ((f["id"], f["severity"], f["message"]) for f in found["findings"])
    return Group(
        console.table(
            ("target", "log", "covers", "lines", "unparsable", "gaps"), logs, empty="No log was read."
        ),
        Text(),
        console.table(
            ("ticket", "target", "account", "judgement", "uses", "used", "unused"), items, empty="No tickets."
        ),
        Text(),
        console.table(("finding", "severity", "what"), wrong, empty="No use is wrong."),
    )


def _right_sized(found: Document) -> RenderableType:
    from muniment.cli import console

    rows = (
        (each["target"], each["beneficiary"], each["sentence"], _scope(each["unused"]) or "–")
        for each in found["right_size"]
    )
    return console.table(
        ("target", "beneficiary", "what would have served", "never used"),
        rows,
        empty="Nobody was given more than served.",
    )


def _scope(found: list[Mapping[str, str | None]]) -> str:
    return ", ".join(
        f"{p['privilege']} ({p['resource']})" if p["resource"] else str(p["privilege"]) for p in found
    )
