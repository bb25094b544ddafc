# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""Look: tickets, grants, targets, what targets hold, and who one is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of

app = group()
groups = [app]

Target = Annotated[str | None, typer.Option("--target", metavar="TARGET", help="Only on this target.")]


@command(app, "list", section="Look", example="muniment list --awaiting-me --as human:cyd@example.com")
def tickets(
    context: typer.Context,
    *,
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="Only in this status. Repeatable.")
    ] = None,
    beneficiary: Annotated[
        str | None, typer.Option("--beneficiary", metavar="IDENTITY", help="Only for this identity.")
    ] = None,
    target: Target = None,
    awaiting_me: Annotated[
        bool, typer.Option("--awaiting-me", help="Only what you could decide or review now.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many.")
    ] = 100,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="ID", help="Go on where a list ended: its `next`.")
    ] = None,
) -> None:
    """List the tickets that you may see, newest first."""
    from muniment.cli.backend import Wanted
    from muniment.cli.tickets import rows

    session = of(context)
    backend = session.backend()
    page = backend.tickets(
        Wanted(
            statuses=tuple(status or ()),
            beneficiary=beneficiary,
            target=target,
            awaiting_me=awaiting_me,
            limit=limit,
            cursor=cursor,
        )
    )
    session.emit(page, lambda: rows(page["items"], backend.now()))
    if page["next"]:
        session.note(f"There are more: --cursor {page['next']}")


@command(app, "show", section="Look", example="muniment show req_01JDC… --watch --as human:ann@example.com")
def show(
    context: typer.Context,
    ticket_id: Annotated[str, typer.Argument(metavar="ID", help="The ticket.")],
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended, or Ctrl-C.")] = False,
    events: Annotated[bool, typer.Option("--events", help="Everything that happened to it, too.")] = False,
) -> None:
    """Show a ticket: who, what, until when, what it waits for and why, and what came of it."""
    from muniment.cli import watching
    from muniment.cli.tickets import panel

    session = of(context)
    backend = session.backend()
    document = backend.ticket(ticket_id)
    if watch:
        document = watching.watch(session, backend, document, with_events=events)
    history = backend.events(ticket_id) if events else None
    if history is not None:
        document["history"] = history
    session.emit(document, lambda: panel(document, backend.now(), history))


@command(app, "whoami", section="Look", example="muniment whoami --as human:ann@example.com")
def whoami(context: typer.Context) -> None:
    """Say who you are here: roles, groups, owners."""
    from muniment.cli import console

    session = of(context)
    document = who = session.backend().whoami()
    words = [("identity", who["id"]), ("name", who["name"]), ("roles", ", ".join(who["roles"]))]
    words += [("groups", ", ".join(who["groups"])), ("manager", who["manager"] or "")]
    words += [("owners", ", ".join(who["owners"])), ("also", ", ".join(who["aliases"]))]
    session.emit(
        document, lambda: console.pairs((name, console.line(value)) for name, value in words if value)
    )


@command(
    app,
    "reviews",
    section="Look",
    example="muniment reviews --mine --as human:cyd@example.com\nmuniment reviews --state overdue --as human:aud@example.com",
)
def reviews(
    context: typer.Context,
    *,
    state: Annotated[
        str, typer.Option("--state", metavar="S", help="owed, overdue, or done. Default: owed.")
    ] = "owed",
    target: Target = None,
    beneficiary: Annotated[
        str | None, typer.Option("--beneficiary", metavar="IDENTITY", help="Only of this identity's access.")
    ] = None,
    break_glass: Annotated[bool, typer.Option("--break-glass", help="Only of broken glass.")] = False,
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", metavar="O", help="Of those done: appropriate, or inappropriate."),
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only what you could review now.")] = False,
) -> None:
    """List reviews that are owed, overdue or done, each with what there is to judge it by."""
    from muniment.cli import console
    from muniment.core.identity import parse_identity
    from muniment.service.reviews import Wanted as Looks

    session = of(context)
    who = parse_identity(beneficiary) if beneficiary is not None else None
    wanted = Looks(
        state=state, target=target, beneficiary=who, kind="break_glass" if break_glass else None, outcome=outcome,
        mine=mine,
    )  # fmt: skip
    found = session.backend().reviews(wanted)

    def judged(row: dict[str, Any]) -> str:
        said = "not asked" if row["used"] is None else f"{row['used']['events']} uses"
        more = len(row["comparison"]["excess"]) if row["comparison"] else 0
        extra = f", {more} more than approved" if more else ""
        return f"{len(row['granted'])} given, {said}, {row['sessions_ended']} sessions ended{extra}"

    def table() -> Any:
        cells = (
            (
                row["ticket"], row["beneficiary"], row["target"], judged(row),
                console.line(
                    row["outcome"] or f"due {row['due_at']}" + (", overdue" if row["past_due"] else ""),
                    console.BAD if row["past_due"] or row["outcome"] == "inappropriate" else "",
                ),
                row["reviewer"] or ("you can" if row["yours"] else ""),
            )
            for row in found
        )  # fmt: skip
        return console.table(
            ("ticket", "whose", "target", "what is known", "review", "by"), cells, empty="No reviews."
        )

    session.emit({"items": found, "next": None}, table)


@command(app, "grants", section="Look", example="muniment grants --target bastion --as human:ops@example.com")
def grants(
    context: typer.Context,
    target: Target = None,
    beneficiary: Annotated[
        str | None, typer.Option("--beneficiary", metavar="IDENTITY", help="Only for this identity.")
    ] = None,
) -> None:
    """List what tickets make targets hold now."""
    from muniment.cli import console
    from muniment.cli.tickets import person, scope_words, status_text

    session = of(context)
    found = session.backend().grants(target=target, beneficiary=beneficiary)
    cells = (
        (
            g["ticket"],
            status_text(g["status"]),
            f"{person(g['beneficiary'])}: {scope_words([g])} on {g['target']}, as {g['account']}",
        )
        for g in found
    )
    session.emit(
        _page(found), lambda: console.table(("ticket", "status", "who and what"), cells, empty="No grants.")
    )


@command(app, "targets", section="Look", example="muniment targets --as human:ann@example.com")
def targets(context: typer.Context) -> None:
    """List targets and the privileges that can be asked for."""
    from muniment.cli import console
    from muniment.cli.tickets import scope_words

    session = of(context)
    found = session.backend().targets()
    cells = (
        (t["id"], t["environment"], scope_words([p]), p["risk"], p["description"])
        for t in found
        for p in (
            t["privileges"] or [{"privilege": "nothing", "resource": None, "risk": "", "description": ""}]
        )
    )
    session.emit(
        _page(found),
        lambda: console.table(
            ("target", "environment", "privilege", "risk", "description"), cells, empty="No targets."
        ),
    )
    session.note(*(words for target in found for words in _owed(target)))


def _owed(target: dict[str, Any]) -> list[str]:
    """Sentences on a target that does not answer, or where access is overdue."""
    state, debt, said = target["state"], target["debt"], []
    if state["reach"] == "held":
        why = f": {state['why']}" if state["why"] else ""
        said.append(
            f"{target['id']} has not answered since {state['since']}{why}. It is tried again at {state['again_at']}."
        )
    if debt and (debt["overdue"] or debt["ends_within_hour"]):
        seconds = debt["worked_off_in_seconds"]
        done = "nobody can say when that is done" if seconds is None else f"done in about {seconds} s"
        said.append(
            f"{target['id']}: access of {debt['overdue']} tickets is over and not seen gone, {done}; that of"
            f" {debt['ends_within_hour']} ends within an hour."
        )
    return said


@command(app, "holdings", section="Look", example="muniment holdings bastion --as human:ops@example.com")
def holdings(
    context: typer.Context, target: Annotated[str, typer.Argument(metavar="TARGET", help="Which target.")]
) -> None:
    """Ask a target what it holds now, and say what explains each holding: a ticket, the baseline, an exception."""
    from muniment.cli import console
    from muniment.cli.tickets import scope_words

    session = of(context)
    found = session.backend().holdings(target)
    cells = (
        (
            h["account"],
            scope_words([h]),
            h["grantor"] or "",
            h["ticket"] or console.line(h["class"], console.BAD if h["class"] == "unexplained" else ""),
        )
        for h in found
    )
    session.emit(
        _page(found),
        lambda: console.table(
            ("account", "holds", "given by", "explained by"), cells, empty="It holds nothing."
        ),
    )


def _page(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"items": items, "next": None}
