# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment campaign``: people say which standing access is still needed, and what is not is taken away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muniment.cli.backend import Document
    from muniment.cli.session import Session
    from muniment.service.certifying import Where

app = group(
    "campaign",
    section="Govern",
    summary="Recertification: which standing access is still needed, and what is not.",
)
groups = [app]

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The campaign, as `muniment campaign list` shows it.")
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why. It is recorded with the decision.")
]
Items = Annotated[
    str | None, typer.Option("--items", metavar="RANGES", help="These, by their numbers: 0-99,105.")
]
Target = Annotated[str | None, typer.Option("--target", metavar="TARGET", help="Only on this target.")]
Account = Annotated[str | None, typer.Option("--account", metavar="ACCOUNT", help="Only of this account.")]
Privilege = Annotated[
    str | None, typer.Option("--privilege", metavar="PRIVILEGE", help="Only this privilege.")
]
Standing = Annotated[
    str | None, typer.Option("--class", metavar="CLASS", help="Only baseline, excepted or unexplained.")
]
Subject = Annotated[
    str | None,
    typer.Option("--subject", metavar="S", help="Only entitlement, declaration, identity or membership."),
]
Whose = Annotated[str | None, typer.Option("--identity", metavar="IDENTITY", help="Only what is theirs.")]
Reviewer = Annotated[
    str | None,
    typer.Option("--asked", metavar="WHO", help="Only what they are asked about: a person, group:NAME."),
]


@command(
    app,
    "open",
    example='muniment campaign open 2026-q4 --target pg-prod --for 14d --reason "each quarter" --as human:ops@example.com\n'
    'muniment campaign open overdue --due-before 2027-01-01 --reason "dates of the baseline" --preview --as human:ops@example.com',
)
def open_(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is to be called, like 2026-q4-postgres.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is held.")],
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="TARGET", help="Only there. Repeatable.")
    ] = None,
    environment: Annotated[
        list[str] | None, typer.Option("--environment", metavar="E", help="Only targets of it. Repeatable.")
    ] = None,
    privilege: Annotated[
        list[str] | None, typer.Option("--privilege", metavar="P", help="Only this one. Repeatable.")
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            metavar="S",
            help="Only entitlement, declaration, identity or membership. Repeatable.",
        ),
    ] = None,
    standing: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="C", help="Only baseline, excepted or unexplained. Repeatable."),
    ] = None,
    identities: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only of humans, service_accounts, … Repeatable."),
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--group", metavar="GROUP", help="Only memberships of it. Repeatable.")
    ] = None,
    due_before: Annotated[
        str | None,
        typer.Option(
            "--due-before", metavar="DAY", help="Only what must be looked at again, or is over, before it."
        ),
    ] = None,
    reviewer: Annotated[
        list[str] | None,
        typer.Option(
            "--reviewer",
            metavar="RULE",
            help="Who is asked: owner, manager, target-owner, a person or group:NAME; the first that can. Repeatable.",
        ),
    ] = None,
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long it is open.")] = "14d",
    unanswered: Annotated[
        str, typer.Option("--unanswered", metavar="WHAT", help="Without an answer: revoke, or escalate.")
    ] = "escalate",
    escalate_to: Annotated[
        str,
        typer.Option(
            "--escalate-to", metavar="WHO", help="Who is asked where no rule names anybody, and then."
        ),
    ] = "role:operator",
    valid_for: Annotated[
        str,
        typer.Option(
            "--valid-for", metavar="DURATION", help="How long what is kept need not be looked at again."
        ),
    ] = "180d",
    sample: Annotated[
        int, typer.Option("--sample", metavar="PERCENT", help="So many, by chance, are kept one by one.")
    ] = 5,
    singly_from: Annotated[
        str, typer.Option("--singly-from", metavar="RISK", help="From this risk on, too; none: not for that.")
    ] = "critical",
    preview: Annotated[
        bool, typer.Option("--preview", help="Say what it would be about. Records nothing.")
    ] = False,
) -> None:
    """Open a campaign over what stands without a ticket. Its list of items is fixed by that."""
    import msgspec

    from muniment.core.campaign_items import Selection
    from muniment.core.instants import parse_duration, wire
    from muniment.service.certifying import DEFAULT_RULES, Opening

    given: dict[str, Any] = {
        "subjects": subject or (), "targets": target or (), "environments": environment or (),
        "privileges": privilege or (), "classes": standing or (), "identities": identities or (),
        "groups": groups or (), "due_before": wire(_day(due_before)) if due_before else None,
    }  # fmt: skip
    try:
        selection = msgspec.convert(given, Selection)
    except msgspec.ValidationError as error:
        raise Usage(
            f"that selects nothing known: {error}", remedy="`muniment campaign open --help`."
        ) from error
    asked = Opening(
        name=name, reason=reason, selection=selection, rules=tuple(reviewer or DEFAULT_RULES),
        length=parse_duration(length), unanswered=unanswered, escalate_to=escalate_to,
        valid_for=parse_duration(valid_for), sample=sample, alone=None if singly_from == "none" else singly_from,
    )  # fmt: skip
    session = of(context)
    made = session.backend(writes=True).open_campaign(asked, preview=preview)
    session.emit(made, lambda: _previewed(made) if preview else _shown(made))


@command(app, "list", example="muniment campaign list --status open --as human:cyd@example.com")
def listed(
    context: typer.Context,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", metavar="S", help="Only open, decided, removing, closed, cancelled. Repeatable."
        ),
    ] = None,
) -> None:
    """List campaigns: all, to operators and auditors; to others those in which they are asked."""
    from muniment.cli import console

    session = of(context)
    found = session.backend().campaigns(tuple(status or ()))
    head = ("campaign", "status", "due", "items", "open", "kept", "revoked", "to change", "not yet gone")

    def rows() -> RenderableType:
        cells = (
            (
                each["name"], console.line(each["status"] + (", overdue" if each["overdue"] else "")), each["due_at"],
                *(str(each[n]) for n in ("items", "undecided", "kept", "revoked", "changed", "unsettled")),
            )
            for each in found
        )  # fmt: skip
        return console.table(head, cells, empty="No campaigns.")

    session.emit({"items": found, "next": None}, rows)


@command(
    app,
    "show",
    example="muniment campaign show 2026-q4 --mine --as human:cyd@example.com\nmuniment campaign show 2026-q4 --json --as human:aud@example.com",
)
def show(
    context: typer.Context,
    name: Name,
    mine: Annotated[bool, typer.Option("--mine", help="Only what waits for you.")] = False,
    undecided: Annotated[bool, typer.Option("--undecided", help="Only what nobody has decided.")] = False,
    decision: Annotated[
        str | None,
        typer.Option(
            "--decision",
            metavar="D",
            help="Only what is to be kept, revoked or changed: keep, revoke, change.",
        ),
    ] = None,
    unsettled: Annotated[
        bool, typer.Option("--unsettled", help="Only what was not kept and is not yet seen to be gone.")
    ] = False,
    items: Items = None,
    target: Target = None,
    account: Account = None,
    privilege: Privilege = None,
    standing: Standing = None,
    subject: Subject = None,
    whose: Whose = None,
    asked: Reviewer = None,
) -> None:
    """Show a campaign with its items, what was decided, and how."""
    from rich.console import Group
    from rich.text import Text

    session = of(context)
    where = _where(
        items=items, target=target, account=account, privilege=privilege, standing=standing, subject=subject,
        identity=whose, reviewer=asked, decision="none" if undecided else decision, unsettled=unsettled,
    )  # fmt: skip
    backend = session.backend()
    made, found = backend.campaign(name), backend.campaign_items(name, where, mine=mine)
    session.emit({**made, "list": found}, lambda: Group(_shown(made), Text(), _items(found)))


@command(
    app,
    "decide",
    example='muniment campaign decide 2026-q4 keep --privilege orders_ro --reason "reporting reads it daily" --as human:cyd@example.com\n'
    'muniment campaign decide 2026-q4 revoke --items 17,40-44 --reason "left the team" --as human:cyd@example.com',
)
def decide(
    context: typer.Context,
    name: Name,
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="keep, revoke or change.")],
    reason: Reason,
    items: Items = None,
    target: Target = None,
    account: Account = None,
    privilege: Privilege = None,
    standing: Standing = None,
    subject: Subject = None,
    whose: Whose = None,
    undecided: Annotated[bool, typer.Option("--undecided", help="Only what nobody has decided.")] = False,
) -> None:
    """Say what is to become of items: those named by numbers, all or none; else those of yours that the filters find."""
    from muniment.core.campaign import DECISIONS

    chosen = next((each for each in DECISIONS if each == decision), None)
    if chosen is None:
        raise Usage(f"{decision!r:.40} is no decision", remedy="Say keep, revoke or change.")
    where = _where(
        items=items, target=target, account=account, privilege=privilege, standing=standing, subject=subject,
        identity=whose, decision="none" if undecided else None,
    )  # fmt: skip
    session = of(context)
    _decided(session, session.backend(writes=True).decide_campaign(name, where, chosen, reason))


@command(
    app,
    "reassign",
    example='muniment campaign reassign 2026-q4 --to human:dee@example.com --asked human:cyd@example.com --reason "on leave" --as human:ops@example.com',
)
def reassign(
    context: typer.Context,
    name: Name,
    to: Annotated[
        str, typer.Option("--to", metavar="WHO", help="Who is asked instead: a person or group:NAME.")
    ],
    reason: Reason,
    items: Items = None,
    asked: Reviewer = None,
    target: Target = None,
    account: Account = None,
    privilege: Privilege = None,
    undecided: Annotated[bool, typer.Option("--undecided", help="Only what nobody has decided.")] = False,
) -> None:
    """Have others asked. Operators do; and a reviewer hands on what is theirs."""
    where = _where(
        items=items, reviewer=asked, target=target, account=account, privilege=privilege,
        decision="none" if undecided else None,
    )  # fmt: skip
    session = of(context)
    _decided(session, session.backend(writes=True).reassign_campaign(name, where, to, reason))


@command(
    app,
    "explain",
    example='muniment campaign explain 2026-q4 --items 17 --reason "goes with the old host in May" --as human:ops@example.com',
)
def explain(
    context: typer.Context,
    name: Name,
    items: Annotated[str, typer.Option("--items", metavar="RANGES", help="Which, by their numbers.")],
    reason: Reason,
) -> None:
    """Say what became of items that were not kept, and that nobody can see to be gone."""
    session = of(context)
    made = session.backend(writes=True).explain_campaign(name, items, reason)
    session.emit(made, lambda: _shown(made))


@command(
    app,
    "close",
    example='muniment campaign close 2026-q4 --comment "looked at the sample" --as human:aud@example.com',
)
def close(
    context: typer.Context,
    name: Name,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What you looked at.")],
) -> None:
    """Sign a campaign off, as somebody who had no part in it; then have what was revoked taken away, and look.

    Exit status 1 while something is not yet seen to be gone. Asked again, it goes on.
    """
    from muniment.cli.progress import measuring

    session = of(context)
    with measuring(session, "seen gone") as progress:
        made = session.backend(writes=True).close_campaign(name, comment, progress)
    session.emit(made, lambda: _shown(made))
    if made["status"] != "closed":
        raise typer.Exit(1)


@command(
    app,
    "cancel",
    example='muniment campaign cancel 2026-q4 --reason "wrong target" --as human:ops@example.com',
)
def cancel(context: typer.Context, name: Name, reason: Reason) -> None:
    """Give a campaign up before it is signed off. Nothing that was decided in it counts."""
    session = of(context)
    made = session.backend(writes=True).cancel_campaign(name, reason)
    session.emit(made, lambda: _shown(made))


@command(app, "export", example="muniment campaign export 2026-q4 --out q4.zip --as human:aud@example.com")
def export(
    context: typer.Context,
    name: Name,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to put it.")],
) -> None:
    """Write one file with the items, a CSV of all decisions, and proofs that the ledger has them."""
    from muniment.cli.collecting import store

    session, path = of(context), out.expanduser()
    backend = session.backend()
    with session.working(f"collecting what there is of {name}"):
        store(path, lambda: backend.export_campaign(name))
    session.emit({"campaign": name, "out": str(path)}, lambda: str(path))


def _day(text: str) -> Any:
    """A day alone begins at midnight, UTC."""
    from muniment.core.instants import parse_instant

    return parse_instant(text if "T" in text else f"{text}T00:00:00Z", "the day")


def _where(**given: Any) -> Where:
    from muniment.core.identity import parse_identity
    from muniment.service.certifying import Where

    if given.get("identity"):
        given["identity"] = parse_identity(given["identity"])
    return Where(**given)


def _decided(session: Session, made: Document) -> None:
    from rich.console import Group
    from rich.text import Text

    def render() -> RenderableType:
        said = f"{made['decided']} items." + (
            f" Left, to be looked at one by one: {made['left']}." if made["left"] else ""
        )
        return Group(_shown(made["campaign"]), Text(), Text(said))

    session.emit(made, render)


def _shown(made: Document) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from muniment.cli import console

    names = (
        "name", "status", "reason", "opened_by", "opened_at", "due_at", "unanswered", "escalate_to", "valid_for",
        "signed_by", "signed_at", "comment", "closed_at", "cancelled_at", "valid_until",
    )  # fmt: skip
    words = [(name.replace("_", " "), console.line(made[name])) for name in names if made[name]]
    if made["overdue"]:
        words.append(("overdue", console.line("yes", console.BAD)))
    counts = ", ".join(
        f"{made[name]} {said}"
        for name, said in (
            ("undecided", "not decided"), ("kept", "kept"), ("revoked", "revoked"), ("changed", "to be changed"),
            ("unsettled", "not yet seen gone"),
        )
    )  # fmt: skip
    words.append(("items", console.line(f"{made['items']}: {counts}")))
    if made["yours"]:
        words.append(
            (
                "for you",
                console.line(f"{made['yours']} items: `muniment campaign show {made['name']} --mine`"),
            )
        )
    if made["left_out"]:
        words.append(("left out", console.line(", ".join(made["left_out"]))))
    if not made["pace"]:
        return console.pairs(words)
    head = ("reviewer", "items", "kept", "at once", "seconds", "look at")
    paces = (
        (
            p["reviewer"], str(p["items"]), str(p["kept"]), str(p["largest"]), str(p["seconds"]),
            console.line(", ".join(p["signs"]), console.BAD),
        )
        for p in made["pace"]
    )  # fmt: skip
    return Group(console.pairs(words), Text(), console.table(head, paces, empty=""))


def _items(found: list[Document]) -> RenderableType:
    from muniment.cli import console

    rows = (
        (
            str(each["number"]) + (" alone" if each["singly"] else ""), each["what"],
            each["standing"] or each["subject"], each["reviewer"],
            console.line(" ".join(filter(None, (each["decision"], each["outcome"])))), each["reason"] or "",
        )
        for each in found
    )  # fmt: skip
    return console.table(("item", "what", "class", "asked", "decision", "reason"), rows, empty="No items.")


def _previewed(made: Document) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from muniment.cli import console

    said = f"{made['items']} items, {made['singly']} of them to be kept one by one."
    rows = ((each["reviewer"], str(each["items"])) for each in made["reviewers"])
    return Group(Text(said), Text(), console.table(("asked", "items"), rows, empty="Nobody."))
