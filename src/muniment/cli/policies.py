# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment policy``: check the policies, and explain what they decided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of
from muniment.core.errors import IntegrityError

if TYPE_CHECKING:
    from rich.console import RenderableType

#: tickets of a backtest that are listed one by one; --json has all
SHOWN = 50
app = group("policy", section="Govern", summary="What may be asked for, and who decides.")
groups = [app]


FolderOption = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Another folder than that of the configuration."),
]


@command(app, "check", example="muniment policy check --dir proposed")
def check(context: typer.Context, folder: FolderOption = None) -> None:
    """Say what is wrong with the policies in the folder, without using them.

    Exit status 2 if they cannot be used at all, 1 if something must be mended before they can be adopted.
    """
    from muniment.policy.checking import examine

    session, trial = of(context), False  # of another folder, what keeps it from being adopted
    if folder is None:
        config = session.config()
        folder, trial = config.path(config.policy.dir), config.policy.single_person_trial
    document = examine(folder, trial=trial)
    session.emit(document, lambda: _checked(document))
    if not document["ok"]:
        raise typer.Exit(1)


@command(app, "test", example="muniment policy test --dir proposed")
def ask(context: typer.Context, folder: FolderOption = None) -> None:
    """Ask the rows of the *.test.toml files beside the policies, and compare the answers.

    Exit status 1 if an answer is not the one that a row wants, or if there is no row.
    """
    from muniment.policy.checking import ask_tables

    session = of(context)
    if folder is None:
        config = session.config()
        folder = config.path(config.policy.dir)
    document = ask_tables(folder)
    session.emit(document, lambda: _tested(document))
    if not document["ok"]:
        raise typer.Exit(1)


@command(app, "adopt", example='muniment policy adopt --reason "CHG-7: reports for support"')
def adopt(
    context: typer.Context,
    change: Annotated[
        str | None,
        typer.Argument(metavar="[CHANGE]", help="A proposal to agree to. Without it, one is made."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, of a proposal.")
    ] = None,
) -> None:
    """Propose what lies in the policy folder and the configuration, or agree to what somebody else proposed.

    Nothing of a proposal holds before a second person agrees. `muniment policy changes CHANGE` shows what differs.
    """
    from muniment.cli import governing

    session = of(context)
    backend = session.backend(writes=True)
    document = backend.propose(reason or "") if change is None else backend.adopt(change)
    session.emit(document, lambda: governing.render(document))


@command(app, "refuse", example='muniment policy refuse chg_01JDC… --reason "too wide"')
def refuse(
    context: typer.Context,
    change: Annotated[str, typer.Argument(metavar="CHANGE", help="The proposal.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
) -> None:
    """Say no to a proposed change, or take your own back."""
    from muniment.cli import governing

    session = of(context)
    document = session.backend(writes=True).refuse(change, reason=reason)
    session.emit(document, lambda: governing.render(document))


@command(app, "changes", example="muniment policy changes")
def proposals(
    context: typer.Context,
    change: Annotated[str | None, typer.Argument(metavar="[CHANGE]", help="One, with what differs.")] = None,
) -> None:
    """List proposed changes of policies, targets and approver groups, or show one in full."""
    from muniment.cli import governing

    session = of(context)
    document = session.backend().changes(change)
    session.emit(document, lambda: governing.render(document))


@command(app, "backtest", example="muniment policy backtest proposed --since 90d")
def backtest(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The policies to try.")],
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="How far back, like 90d.")
    ] = "90d",
    processes: Annotated[
        int | None, typer.Option("--processes", metavar="N", min=1, help="Default: one for each processor.")
    ] = None,
) -> None:
    """Say which tickets of the past other policies would have decided otherwise, and how. Records nothing."""
    import os

    from muniment.cli.progress import measuring
    from muniment.core.instants import parse_duration
    from muniment.policy.loading import read_folder
    from muniment.service import backtesting

    session = of(context)
    files = read_folder(folder)
    period = parse_duration(since)
    desk, caller = session.enter()
    with measuring(session, "tickets asked again") as advance:
        document = backtesting.backtest(
            desk,
            caller,
            files,
            since=desk.clock.now() - period,
            processes=processes or os.cpu_count() or 1,
            progress=advance,
        )
    session.emit(document, lambda: _backtested(document))


@command(app, "explain", example="muniment policy explain req_01JDC… --as human:aud@example.com")
def explain(
    context: typer.Context, ticket_id: Annotated[str, typer.Argument(metavar="ID", help="The ticket.")]
) -> None:
    """Replay what policy decided about a ticket, from the record, and say why."""
    session = of(context)
    document = session.backend().explain(ticket_id)
    session.emit(document, lambda: _explained(document))
    if not document["same"]:
        raise IntegrityError(
            f"a decision on {ticket_id} does not replay to what was recorded",
            remedy="Run `muniment ledger verify`, and look at what policy was in force then.",
        )


def _checked(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from muniment.cli import console

    rows = [(p["id"], p["effect"], ", ".join(p["actions"]), p["message"] or "") for p in document["policies"]]
    tests = document["tests"]
    parts: list[RenderableType] = [
        console.table(("policy", "effect", "on", "message"), rows, empty="No policies."),
        console.line(
            f"{tests['passed']} of {tests['asked']} tests answer as wanted",
            _colour(tests["passed"] == tests["asked"]),
        ),
    ]
    for each in document["findings"]:
        where = each["file"] + (f", {each['policy']}" if each["policy"] else "")
        colour = console.BAD if each["level"] == "error" else console.LOOK
        parts += [
            console.line(f"{each['level']}: {where}: {each['message']}", colour),
            console.line(f"  {each['remedy']}"),
        ]
    parts += [console.line(document["says"], console.LOOK)] if document["says"] else []
    parts.append(
        console.line(f"{len(rows)} policies are sound: {document['digest']}", console.GOOD)
        if document["ok"]
        else console.line("this set cannot be adopted", console.BAD)
    )
    return Group(*parts)


def _tested(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from muniment.cli import console

    rows = [
        (
            "ok" if c["ok"] else "NOT",
            c["name"],
            c["got"] if c["ok"] else f"wanted {c['wanted']}; got {c['got']}",
        )
        for c in document["cases"]
    ]
    passed = sum(c["ok"] for c in document["cases"])
    return Group(
        console.table(
            ("", "row", "answer"), rows, empty="There are no *.test.toml files beside the policies."
        ),
        console.line(f"{passed} of {len(rows)} answer as wanted", _colour(document["ok"])),
    )


def _backtested(document: dict[str, Any]) -> RenderableType:
    from collections import Counter

    from rich.console import Group

    from muniment.cli import console

    rows = [(t["ticket"], t["was"], "; ".join(t["how"])) for t in document["otherwise"]]
    total = Counter(how for _, _, how in rows)
    parts: list[RenderableType] = [console.line(f"{count} × {how}") for how, count in total.most_common(20)]
    if len(rows) <= SHOWN:
        parts.append(console.table(("ticket", "was", "would have been"), rows, empty=""))
    of_all = f"{len(rows)} of {document['tickets']} tickets would have been decided otherwise"
    left = f"; {document['unknown']} were refused before policy was asked" if document["unknown"] else ""
    return Group(*parts, console.line(of_all + left, console.STRONG))


def _colour(good: bool) -> str:
    from muniment.cli import console

    return console.GOOD if good else console.BAD


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
