# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment policy``: check the policies, and explain what they decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of
from muniment.core.errors import IntegrityError

if TYPE_CHECKING:
    from rich.console import RenderableType

app = group("policy", section="Govern", summary="What may be asked for, and who decides.")
groups = [app]


@command(app, "check", example="muniment policy check")
def check(context: typer.Context) -> None:
    """Read and validate the policies without using them."""
    from muniment.policy.engine import Engine
    from muniment.policy.loading import read_folder

    session = of(context)
    config = session.config()
    folder = config.path(config.policy.dir)
    engine = Engine(read_folder(folder))
    document = {
        "ok": True,
        "digest": engine.digest,
        "policies": [
            {
                "id": rule.id, "file": rule.file, "effect": "permit" if rule.permits else "forbid",
                "actions": list(rule.actions), "message": rule.message,
            }
            for rule in engine.rules.values()
        ],
    }  # fmt: skip
    session.emit(document, lambda: _rules(document))


@command(app, "explain", example="muniment policy explain req_01JDC… --as human:aud@example.com")
def explain(
    context: typer.Context, ticket_id: Annotated[str, typer.Argument(metavar="ID", help="The ticket.")]
) -> None:
    """Replay what policy decided about a ticket, from the record, and say why."""
    from muniment.service import explaining

    session = of(context)
    desk, caller = session.enter()
    document = explaining.explain(desk, caller, ticket_id)
    session.emit(document, lambda: _explained(document))
    if not document["same"]:
        raise IntegrityError(
            f"a decision on {ticket_id} does not replay to what was recorded",
            remedy="Run `muniment ledger verify`, and look at what policy was in force then.",
        )


def _rules(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from muniment.cli import console

    rows = [(p["id"], p["effect"], ", ".join(p["actions"]), p["message"] or "") for p in document["policies"]]
    return Group(
        console.line(f"{len(rows)} policies are sound: {document['digest']}", console.GOOD),
        console.table(("policy", "effect", "on", "message"), rows, empty="No policies."),
    )


def _explained(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from muniment.cli import console
    from muniment.cli.tickets import moment, person

    parts: list[RenderableType] = [
        console.line(f"{document['ticket']}  {document['status']}", console.STRONG)
    ]
    parts += [console.line(f"policy says: {reason}") for reason in document["reasons"]]
    for decision in document["decisions"]:
        same = (
            ("replays to the same", console.GOOD) if decision["same"] else ("replays otherwise", console.BAD)
        )
        heading = console.line(
            f"{decision['event']} at {moment(decision['at'])} by {person(decision['by'])}: "
        )
        parts += [console.line(""), heading.append_text(console.line(*same))]
        parts += [console.line(f"  {_answer(question)}") for question in decision["questions"]]
    return Group(*parts)


def _answer(question: dict[str, Any]) -> str:
    """One question that was put to the engine, and what answered it."""
    said = "yes" if question["allowed"] else "no"
    by = ", ".join(question["determining"]) or "no policy"
    errors = f" ({'; '.join(question['errors'])})" if question["errors"] else ""
    return f"{said}, by {by}: {question['principal']} {question['action']} {question['resource']}{errors}"
