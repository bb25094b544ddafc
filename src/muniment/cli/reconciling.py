# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment reconcile``, ``findings`` and ``finding``: what targets hold against what they should, and who sees to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.deciding import finding
from muniment.cli.session import of
from muniment.core.errors import MunimentError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.backend import Document
    from muniment.cli.session import Session

app = group()
baseline = group("baseline", section="Govern", summary="Access that stands without a ticket.")
groups = [app, baseline]

Id = Annotated[str, typer.Argument(metavar="ID", help="The finding, as `muniment findings` lists it.")]
Several = Annotated[list[str] | None, typer.Argument(metavar="TARGET…", help="Which targets. Default: all.")]


@command(app, "reconcile", section="Look", example="muniment reconcile bastion --as human:ops@example.com")
def reconcile(context: typer.Context, targets: Several = None) -> None:
    """Compare what targets hold with tickets and the baseline. Exit status 1 if anything is wrong."""
    from muniment.cli import console

    session = of(context)
    backend = session.backend(writes=True)
    runs: list[Document] = []
    found: list[Document] = []
    trouble: list[MunimentError] = []
    for target in targets or [each["id"] for each in backend.targets()]:
        try:
            document = backend.reconcile(target)
        except MunimentError as error:
            if len(targets or ()) == 1:
                raise
            trouble.append(error)
            session.note(f"{target}: {error.message}")
        else:
            runs += document["targets"]
            found += document["findings"]

    def render() -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        classes = ("ticketed", "excepted", "baseline", "unexplained")
        head = ("target", "holdings", *classes, "complete")
        rows = (
            (
                each["target"], str(each["holdings"]), *(str(each[name]) for name in classes),
                console.line("yes", console.GOOD) if each["complete"] else console.line("no", console.BAD),
            )
            for each in runs
        )  # fmt: skip
        return Group(console.table(head, rows, empty="No targets."), Text(), _table(found))

    session.emit({"targets": runs, "findings": found}, render)
    if trouble:
        raise max(trouble, key=lambda error: error.exit_status)
    if any(each["status"] != "accepted" for each in found):
        raise typer.Exit(1)


@command(
    app,
    "findings",
    section="Look",
    example="muniment findings --as human:ops@example.com\nmuniment findings --severity critical --past-due --as human:ops@example.com",
)
def findings(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Option("--target", metavar="TARGET", help="Only on this target.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only this: orphan, excess, vanished, … Repeatable."),
    ] = None,
    severity: Annotated[
        list[str] | None,
        typer.Option("--severity", metavar="S", help="Only this: critical, high, medium, low. Repeatable."),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="S",
            help="Only drift in this: open, explained, accepted, resolved. Repeatable.",
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="ACCOUNT", help="Only drift of this account.")
    ] = None,
    assigned_to: Annotated[
        str | None, typer.Option("--assigned-to", metavar="IDENTITY", help="Only what they are to see to.")
    ] = None,
    past_due: Annotated[
        bool, typer.Option("--past-due", help="Only what nobody has seen to in time.")
    ] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Those that were dealt with, instead.")
    ] = False,
) -> None:
    """List what a person must look at: drift on targets, then what tickets have."""
    from muniment.cli.backend import Looked

    session = of(context)
    backend = session.backend()
    found = backend.findings(
        Looked(
            target=target, types=tuple(kind or ()), severities=tuple(severity or ()), statuses=tuple(status or ()),
            account=account, assigned_to=assigned_to, past_due=past_due, resolved=resolved,
        )
    )  # fmt: skip
    session.emit({"items": found, "next": None}, lambda: _table(found))


@command(finding, "show", example="muniment finding show fnd_abc… --as human:ops@example.com")
def show(context: typer.Context, finding_id: Id) -> None:
    """Show a finding: what was found where, which holding proves it, and what people did about it."""
    session = of(context)
    _one(session, session.backend().finding(finding_id))


@command(
    finding,
    "assign",
    example="muniment finding assign fnd_abc… --to human:cyd@example.com --as human:ops@example.com",
)
def assign(
    context: typer.Context,
    finding_id: Id,
    to: Annotated[str, typer.Option("--to", metavar="IDENTITY", help="Who is to see to it.")],
) -> None:
    """Have somebody see to a finding of drift."""
    session = of(context)
    _one(session, session.backend(writes=True).assign_finding(finding_id, to))


@command(
    finding,
    "explain",
    example='muniment finding explain fnd_abc… --reason "given by hand in INC-7" --as human:cyd@example.com',
)
def explain(
    context: typer.Context,
    finding_id: Id,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="How it came to be.")],
) -> None:
    """Say how drift came to be. It stays a finding until it is gone, or somebody else accepts it."""
    session = of(context)
    _one(session, session.backend(writes=True).explain_finding(finding_id, reason))


@command(
    finding,
    "accept",
    example='muniment finding accept fnd_abc… --for 7d --reason "removed with the old host" --as human:ops@example.com',
)
def accept(
    context: typer.Context,
    finding_id: Id,
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="For how long, 90d at most.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it may stay so long.")],
) -> None:
    """Let drift be for a time, as another person than the one who explained it."""
    from muniment.core.instants import parse_duration

    session = of(context)
    backend = session.backend(writes=True)
    until = backend.now() + parse_duration(length)
    _one(session, backend.accept_finding(finding_id, until, reason))


@command(
    finding,
    "remove",
    example='muniment finding remove fnd_abc… --reason "nobody knows it" --as human:ops@example.com',
)
def remove(
    context: typer.Context,
    finding_id: Id,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is taken away.")],
) -> None:
    """Take away what nothing explains, whoever gave it, and look whether it is gone."""
    session = of(context)
    _one(session, session.backend(writes=True).remove_finding(finding_id, reason))


@command(
    baseline,
    "draft",
    example='muniment baseline draft pg-prod --owner human:oda@example.com --recertify-by 2027-06-30 --reason "as found" --as human:ops@example.com',
)
def draft(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Which target.")],
    owner: Annotated[str, typer.Option("--owner", metavar="IDENTITY", help="Who answers for it.")],
    recertify_by: Annotated[
        str, typer.Option("--recertify-by", metavar="DAY", help="When it must be looked at again.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it stands.")],
) -> None:
    """Write what would declare everything that nothing explains now. Nothing holds by that: two people adopt it."""
    import msgspec

    from muniment.cli.backend import Looked
    from muniment.core.inventory import Item
    from muniment.reconcile.baseline import drafted, parse

    session = of(context)
    found = session.backend().findings(Looked(target=target, statuses=("open", "explained", "accepted")))
    items = [msgspec.convert(each["holding"], Item) for each in found if each["unexplained"]]
    text = drafted(items, target, owner=owner, until=recertify_by, reason=reason)
    parse(text)  # what is written can be read
    session.emit({"baseline": text, "entitlements": len(items)}, lambda: text or "# Everything is explained.")


def _table(found: list[Document]) -> RenderableType:
    from muniment.cli import console

    cells = (
        (
            f["id"],
            console.line(f["severity"], console.BAD),
            f["target"],
            console.line(f.get("status", "open") + (", past due" if f.get("past_due") else "")),
            f["message"],
        )
        for f in found
    )
    return console.table(("finding", "severity", "target", "status", "what"), cells, empty="No findings.")


def _one(session: Session, document: Document) -> None:
    from muniment.cli import console

    names = (
        "id", "target", "type", "severity", "status", "message", "reference", "inventory", "raised_at", "due_at",
        "assigned_to", "explained_by", "explanation", "accepted_by", "accepted_until", "acceptance", "removal_by", "removal", "resolved_at",
        "resolved_by", "outcome",
    )  # fmt: skip
    words = [(name.replace("_", " "), document[name]) for name in names if document.get(name)]
    held = document.get("holding")
    if held:
        said = ", ".join(f"{name} {value}" for name, value in held.items() if value)
        words.append(("holding", said))
    session.emit(document, lambda: console.pairs((name, console.line(value)) for name, value in words))
