# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment admin``: keep it running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import of

if TYPE_CHECKING:
    from muniment.cli.session import Session
    from muniment.service.desk import Desk

app = group("admin", section="Run", summary="Keep it running.")
groups = [app]


@command(app, "rebuild", example="muniment admin rebuild")
def rebuild(context: typer.Context) -> None:
    """Make the read models again from the events. Safe while everything runs."""
    session = of(context)
    count = _rebuild(session, session.desk())
    session.emit({"tickets": count}, lambda: f"{count} tickets were folded again from their events.")


@command(app, "recover", example="muniment admin recover")
def recover(context: typer.Context) -> None:
    """Put back what was published and is missing here, as after restoring an old backup. Stop every node first."""
    from muniment.cli.progress import counting
    from muniment.service import recovering

    session = of(context)
    desk = session.desk()
    with counting(session, "published entries read") as advance:
        document = recovering.recover(desk, advance)
    session.emit(
        document,
        lambda: (
            f"{document['put_back']} entries were put back; the store holds all {document['entries']} that were published."
        ),
    )


def _rebuild(session: Session, desk: Desk) -> int:
    from muniment.cli.progress import counting
    from muniment.store.rebuild import rebuild as run

    with counting(session, "tickets") as advance:
        return run(desk.store, advance)
