# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment connector``: which kinds of target there are, what each can do, and whether it does what it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of
from muniment.core.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

app = group("connector", section="Run", summary="Kinds of target systems, ours and other packages'.")
groups = [app]


@command(app, "list", example="muniment connector list")
def list_(context: typer.Context) -> None:
    """List the kinds of connectors that are installed, and what each can do."""
    from muniment.connectors.kinds import load, registered

    session = of(context)
    items: list[dict[str, Any]] = []
    for name, claims in registered().items():
        item: dict[str, Any] = {
            "connector": name, "packages": [f"{each.package} {each.version}" for each in claims],
            "summary": None, "capabilities": None, "problem": None,
        }  # fmt: skip
        try:
            kind = load(name)
            item |= {"summary": kind.summary, "capabilities": msgspec.to_builtins(kind.capabilities)}
        except Misconfigured as error:
            item["problem"] = f"{error.message}. {error.remedy}"
        items.append(item)
    session.emit({"items": items, "next": None}, lambda: _listed(items))


@command(app, "show", example="muniment connector show postgresql")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help='As in connector = "NAME".')],
) -> None:
    """Say what a kind of connector takes, can do, and needs to be allowed at the target."""
    from muniment.conformance.running import grounds
    from muniment.connectors.kinds import load, registered

    session = of(context)
    kind = load(name)
    try:
        tried = sorted(grounds(name))
    except Misconfigured:
        tried = []
    document = {
        "connector": name,
        "package": registered()[name][0].package,
        "version": registered()[name][0].version,
        "summary": kind.summary,
        "settings": [
            {"name": each.encode_name, "required": each.required}
            for each in msgspec.structs.fields(kind.settings)
        ],
        "capabilities": msgspec.to_builtins(kind.capabilities),
        "least_privilege": kind.least_privilege,
        "grounds": tried,
        "emulated": kind.emulated,
    }
    session.emit(document, lambda: _shown(document))


@command(app, "test", example="muniment connector test postgresql --on postgresql-18")
def try_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help='As in connector = "NAME".')],
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="GROUND", help="Only on this one; `connector show` names them."),
    ] = None,
) -> None:
    """Try a connector on real targets, started for it in temporary folders: what every connector must do.

    Exit status 1 if a check fails, 3 if a target cannot be started here.
    """
    from muniment.cli import console
    from muniment.conformance import NotInstalled, run
    from muniment.conformance.running import grounds
    from muniment.connectors.kinds import load, registered

    session = of(context)
    kind, known = load(name), grounds(name)
    if on is not None and on not in known:
        raise Usage(f"the connector {name} has no ground {on!r:.80}", remedy=f"It has {', '.join(known)}.")
    tried: list[dict[str, Any]] = []
    for each in [on] if on else known:
        session.note(f"{name} on {each}:")
        try:
            with known[each]() as ground:
                results = []
                for result in run(ground.harness):
                    results.append(msgspec.to_builtins(result))
                    session.note(_row(result.verdict, result.check, result.message))
                tried.append({"ground": each, "version": ground.version, "checks": results})
        except NotInstalled as how:
            raise Unavailable(
                f"{each} cannot be started here", remedy=f"Install it ({how}), or choose another with --on."
            ) from how
    good = all(check["verdict"] != "failed" for ground in tried for check in ground["checks"])
    found = registered()[name][0]
    document = {
        "ok": good, "connector": name, "package": found.package, "version": found.version,
        "emulated": kind.emulated, "grounds": tried,
    }  # fmt: skip
    session.emit(document, lambda: console.lines(_summary(document)))
    if not good:
        raise typer.Exit(1)


def _row(verdict: str, check: str, message: str) -> str:
    return f"  {verdict:14} {check}" + (f": {message}" if message else "")


def _summary(document: dict[str, Any]) -> str:
    rows = []
    for each in document["grounds"]:
        verdicts = [check["verdict"] for check in each["checks"]]
        counts = ", ".join(
            f"{verdicts.count(v)} {v}" for v in ("passed", "failed", "not applicable") if v in verdicts
        )
        rows.append(f"{document['connector']} on {each['version']}: {counts}")
    return "\n".join(rows)


def _listed(items: list[dict[str, Any]]) -> RenderableType:
    from muniment.cli import console

    return console.pairs(
        [
            (
                item["connector"],
                console.line(item["problem"], console.BAD)
                if item["problem"]
                else console.line(f"{item['summary']} ({', '.join(item['packages'])})"),
            )
            for item in items
        ]
    )


def _shown(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from muniment.cli import console
    from muniment.cli.checking import CAN

    rows = [
        (
            "connector",
            console.line(f"{document['connector']}, of {document['package']} {document['version']}"),
        ),
        ("a grant", console.line(document["summary"])),
        (
            "settings",
            console.line(", ".join(s["name"] + ("" if s["required"] else "?") for s in document["settings"])),
        ),
        *(("it", console.line(CAN[name][not document["capabilities"][name]])) for name in CAN),
        ("tried on", console.line(", ".join(document["grounds"]) or "nothing")),
    ]
    parts: list[RenderableType] = [console.pairs(rows)]
    if document["least_privilege"]:
        parts += [
            Text(),
            console.line("least privilege"),
            console.lines(document["least_privilege"].rstrip()),
        ]
    return Group(*parts)
