"""``muniment disablement``: whom signals disabled, and lifting that."""

from __future__ import annotations

from typing import Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of

app = group("disablement", section="Run", summary="People whom signals of others disabled.")
groups = [app]


@command(app, "list", example="muniment disablement list --as human:ops@example.com")
def disablements(context: typer.Context) -> None:
    """Show whom signals disabled, and who proposed to lift it."""
    from muniment.cli import console  # noqa: PLC0415  imported where used, so that `muniment --help` starts fast

    session = of(context)
    items = session.backend().disablements()
    session.emit(
        {"items": items, "next": None},
        lambda: console.table(
            ("IDENTITY", "SINCE", "BY", "LIFTING PROPOSED BY", "WHY"),
            (
                (
                    each["identity"],
                    each["since"],
                    ", ".join(each["issuers"]),
                    each["proposed_by"] or "",
                    each["reason"] or "",
                )
                for each in items
            ),
            empty="No signal disables anybody.",
        ),
    )


@command(
    app,
    "lift",
    example='muniment disablement lift human:ann@example.com --reason "account checked, INC-7" --as human:ops@example.com',
)
def lift(
    context: typer.Context,
    whom: Annotated[str, typer.Argument(metavar="IDENTITY", help="Who is disabled.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why they may act again.")],
) -> None:
    """Propose that somebody is disabled no more, or agree to it. It takes two people; what was ended stays ended."""
    session = of(context)
    document = session.backend(writes=True).lift(whom, reason=reason)
    done = document["status"] == "lifted"
    session.emit(
        document,
        lambda: (
            f"{document['identity']} may act again. What was ended stays ended."
            if done
            else "Proposed. Another operator, or one of [policy] approvers, agrees with the same command."
        ),
    )
