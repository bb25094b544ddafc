"""``muniment deliveries``: what is on its way to others, and what did not get there."""

from __future__ import annotations

from typing import Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of
from muniment.core.instants import parse_instant

app = group(
    "deliveries", section="Run", summary="Events on their way to webhooks, log stores and signal receivers."
)
groups = [app]


@command(app, "list", example="muniment deliveries list")
def deliveries(context: typer.Context) -> None:
    """Show how far each sink is, and what was given up."""
    session = of(context)
    document = session.backend(by_anybody=True).deliveries()

    def words() -> str:
        lines = []
        for each in document["items"]:
            state = f"closed: {each['closed']}" if each["closed"] else f"{each['waiting']} on their way"
            lines.append(f"{each['sink']}: at {each['next']}, {state}, {each['lost']} given up")
        return "\n".join(lines) or "Nobody is told anything: see [[webhooks]], [[ocsf]] and [signals]."

    session.emit(document, words)


@command(app, "replay", example="muniment deliveries replay webhook:ops --since 2026-11-23T10:00:00Z")
def replay(
    context: typer.Context,
    sink: Annotated[str, typer.Argument(metavar="SINK", help="As `deliveries list` names it.")],
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Everything from then on; else what was given up."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="And before then.")] = None,
) -> None:
    """Send again. Whoever receives it knows by its id what it has already."""
    session = of(context)
    document = session.backend(by_anybody=True).replay(
        sink,
        since=parse_instant(since, "since") if since is not None else None,
        until=parse_instant(until, "until") if until is not None else None,
    )
    session.emit(document, lambda: f"{document['replayed']} are on their way to {document['sink']} again.")
