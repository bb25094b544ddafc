# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment admin``: keep it running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of

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


@command(
    app,
    "rotate-key",
    example="muniment admin rotate-key file:keys/ledger-2.key --as human:ops@example.com\n"
    "muniment admin rotate-key --retire 4c2e9a01 --as human:ops@example.com",
)
def rotate_key(
    context: typer.Context,
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY",
            help="Reference to the key to announce: file:, openbao: or pkcs11:. A file that is not there is made.",
            show_default=False,
        ),
    ] = None,
    retire: Annotated[
        str | None,
        typer.Option(
            "--retire", metavar="ID", help="The key that signs no more: its id, 8 hex digits, or vkey."
        ),
    ] = None,
    ml_dsa: Annotated[
        bool,
        typer.Option(
            "--ml-dsa", help="A file that is made holds an ML-DSA-44 key, a second line beside another."
        ),
    ] = False,
) -> None:
    """Change the ledger's key: announce one, let both sign, retire the other. Without KEY, say how far that is."""
    from muniment.cli import keys
    from muniment.service import rotating
    from muniment.service.desk import operators_only

    session = of(context)
    if reference is None and retire is None:
        document = rotating.status(session.desk())
    elif reference is not None and retire is not None:
        raise Usage("announce one key, or retire one", remedy="First KEY; later --retire ID.")
    else:
        desk, caller = session.enter(writes=True)
        config = session.config()
        if reference is not None:
            operators_only(caller)
            made = keys.make(config, reference, ml_dsa=ml_dsa)
            mark = keys.own_mark(config, desk)
            document = rotating.announce(desk, caller, rotating.opened(desk, reference))
            document |= {"made": made}
            document["next"] = [*mark, *document["next"]]
        else:
            keys.require_own_mark(config)
            document = rotating.retire(desk, caller, retire or "")
    session.emit(document, lambda: keys.render(document))


@command(
    app,
    "erase",
    example="muniment admin erase req_01JDC… --as human:ops@example.com\n"
    'muniment admin erase req_01JDC… 0 --reason "request DSR-17 of the person" --as human:ops@example.com',
)
def erase(
    context: typer.Context,
    ticket_id: Annotated[str, typer.Argument(metavar="TICKET", help="The ticket.")],
    entry: Annotated[
        int | None,
        typer.Argument(
            metavar="ENTRY",
            help="The entry whose text is erased. Without it, texts are shown and nothing is erased.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why. It is kept: do not repeat what is erased."),
    ] = None,
) -> None:
    """Erase one free text of a ticket, for good. The ledger says that it was erased, by whom and why."""
    from muniment.cli import erasing as rendering
    from muniment.service import erasing

    session = of(context)
    if entry is None:
        desk, caller = session.enter()
        document = erasing.texts(desk, caller, ticket_id)
    elif reason is None:
        raise Usage("nobody says why it is erased", remedy="Add --reason.")
    else:
        desk, caller = session.enter(writes=True)
        with session.working("The text is erased from the store's files."):
            document = erasing.erase(desk, caller, ticket_id, entry, reason)
    session.emit(document, lambda: rendering.render(document))


@command(
    app,
    "unlink-login",
    example="muniment admin unlink-login human:ann@example.com --as human:ops@example.com",
)
def unlink_login(
    context: typer.Context,
    whose: Annotated[str, typer.Argument(metavar="IDENTITY", help="Whose account is another one now.")],
) -> None:
    """Forget which account of the identity provider is somebody's. The next login with another one links that."""
    from muniment.service import logins

    session = of(context)
    desk, caller = session.enter(writes=True)
    document = logins.unlink(desk, caller, whose)
    session.emit(document, lambda: f"{document['subject']} of {document['issuer']} is nobody's any more.")


def _rebuild(session: Session, desk: Desk) -> int:
    from muniment.cli.progress import counting
    from muniment.store.rebuild import rebuild as run

    with counting(session, "tickets") as advance:
        return run(desk.store, advance)
