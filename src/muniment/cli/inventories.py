# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment inventory``: targets are asked for everything that they hold, and what they said is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of
from muniment.core.errors import MunimentError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.backend import Document

app = group("inventory", section="Look", summary="Everything that targets hold, asked for and put on record.")
groups = [app]

Target = Annotated[str, typer.Argument(metavar="TARGET", help="Which target.")]


@command(
    app,
    "take",
    example="muniment inventory take --as human:ops@example.com\nmuniment inventory take bastion --as human:ops@example.com",
)
def take(
    context: typer.Context,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET…", help="Which targets. Default: all of them.")
    ] = None,
) -> None:
    """Ask targets for everything that they hold, and put it on record."""
    session = of(context)
    backend = session.backend(writes=True)
    found, trouble = [], []
    for target in targets or [each["id"] for each in backend.targets()]:
        try:
            found.append(backend.take_inventory(target))
        except MunimentError as error:
            if len(targets or ()) == 1:
                raise
            trouble.append(error)
            session.note(f"{target}: {error.message}")
    session.emit({"items": found, "next": None}, lambda: _table(found))
    if trouble:  # said of each already; the status is the worst of them
        raise max(trouble, key=lambda error: error.exit_status)


@command(app, "list", example="muniment inventory list bastion --as human:aud@example.com")
def listed(context: typer.Context, target: Target) -> None:
    """List the inventories of a target, newest first."""
    session = of(context)
    found = session.backend().inventories(target)
    session.emit({"items": found, "next": None}, lambda: _table(found))


@command(
    app, "show", example="muniment inventory show pg-prod --privilege orders_rw --as human:aud@example.com"
)
def show(
    context: typer.Context,
    target: Target,
    inventory: Annotated[
        str | None, typer.Argument(metavar="ID", help="Which inventory. Default: the newest.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="ACCOUNT", help="Only what this account holds.")
    ] = None,
    privilege: Annotated[
        str | None, typer.Option("--privilege", metavar="PRIVILEGE", help="Only who holds this privilege.")
    ] = None,
) -> None:
    """Show what an inventory found, after checking it against the digest in the ledger."""
    from rich.console import Group
    from rich.text import Text

    from muniment.cli import console

    session = of(context)
    found = session.backend().inventory(target, inventory, account=account, privilege=privilege)

    def render() -> RenderableType:
        rows = (
            (
                f"everybody in {item['account']}" if item["nested"] else item["account"],
                item["privilege"]
                if item["resource"] is None
                else f"{item['privilege']} ({item['resource']})",
                item["grantor"] or "",
                item["ticket"] or "",
            )
            for item in found["items"]
        )
        empty = "Nothing." if found["kept"] else "Its lines are kept no more; the ledger has their digest."
        head = ("account", "holds", "given by", "for")
        return Group(_table([found]), Text(), console.table(head, rows, empty=empty))

    session.emit(found, render)


def _table(found: list[Document]) -> RenderableType:
    from muniment.cli import console

    rows = (
        (
            i["inventory"], i["target"], i["at"], str(i["holdings"]), str(i["accounts"]),
            console.line("yes", console.GOOD) if i["complete"] else console.line("no", console.BAD),
        )
        for i in found
    )  # fmt: skip
    head = ("inventory", "target", "at", "holdings", "accounts", "complete")
    return console.table(head, rows, empty="No inventories.")
