"""People and machines: who there is, what they answer for, what they hold, and what became of them.

Operators and auditors see everybody; everybody else themselves, and what they answer for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from muniment.core.errors import NotFound
from muniment.core.events import IdentityDeactivated, IdentityRecorded
from muniment.core.identity import Identity, parse_identity
from muniment.core.ticket import Recorded, Ticket
from muniment.core.visibility import SEES_ALL
from muniment.service import looking
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document, finding_document
from muniment.store.views import Filter

#: tickets and findings that are shown with somebody
SHOWN = 20
#: fields that an entry of somebody is compared by
FIELDS = ("name", "active", "groups", "roles", "owners", "manager", "aliases", "ssh_keys", "budget")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Whom. Every field narrows; an empty one does not."""

    words: str = ""  # each in the id, the name or a group
    kind: str = ""
    group: str = ""
    gone: bool = False  # those who left, and nobody else
    unowned: bool = False  # machines that nobody answers for
    after: str = ""
    limit: int = 50


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody, with all there is to say."""

    identity: Identity
    known: bool  # whether the directory has them
    owners: tuple[Identity, ...]
    owned: tuple[Identity, ...]  # machines they answer for
    grants: list[Document]
    tickets: tuple[Ticket, ...]
    more: bool  # whether there are more tickets
    findings: list[Document]
    history: list[Change]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry says is otherwise than before."""

    at: str
    by: str
    what: str
    details: tuple[str, ...] = ()


def visible(desk: Desk, caller: Caller) -> Iterable[Identity]:
    """Whom the caller may see, by id."""
    everybody = desk.directory.everybody()
    if SEES_ALL & set(caller.identity.roles):
        return everybody
    mine = {caller.identity.id, *caller.identity.aliases}
    return (each for each in everybody if mine & {each.id, *each.owners})


def listed(desk: Desk, caller: Caller, wanted: Wanted) -> tuple[list[Identity], str | None]:
    """Some of them, and the id after which the list goes on."""
    found: list[Identity] = []
    for each in visible(desk, caller):
        if each.id > wanted.after and _matches(each, wanted):
            found.append(each)
            if len(found) > wanted.limit:
                return found[:-1], found[-2].id
    return found, None


def _matches(each: Identity, wanted: Wanted) -> bool:
    text = " ".join((each.id, each.name, *each.groups)).lower()
    return (
        all(word in text for word in wanted.words.lower().split())
        and (not wanted.kind or each.kind == wanted.kind)
        and (not wanted.group or wanted.group in each.groups)
        and each.active != wanted.gone
        and (not wanted.unowned or (each.kind != "human" and not each.owners))
    )


def groups(desk: Desk, caller: Caller) -> list[str]:
    """Groups of those whom the caller may see."""
    return sorted({group for each in visible(desk, caller) for group in each.groups})


def shown(desk: Desk, caller: Caller, name: str) -> Person:
    """Somebody, by any of their names.

    Raises:
        NotFound: there is nobody of that name whom the caller may see.
    """
    identity, known = _found(desk, caller, parse_identity(name))
    names = (identity.id, *identity.aliases)
    everybody = list(visible(desk, caller))
    by_id = {each.id: each for each in everybody}
    tickets = looking.tickets(desk, caller, Filter(involving=identity.id, limit=SHOWN))
    troubled = looking.tickets(desk, caller, Filter(involving=identity.id, with_findings=True, limit=SHOWN))
    return Person(
        identity=identity,
        known=known,
        owners=tuple(owner for each in identity.owners if (owner := desk.directory.get(each))),
        owned=tuple(each for each in by_id.values() if set(names) & set(each.owners)),
        grants=looking.grants_page(desk, caller, beneficiary=identity.id, limit=SHOWN).items,
        tickets=tickets.items,
        more=tickets.next is not None,
        findings=[finding_document(t, f.id) for t in troubled.items for f in t.findings if not f.resolved_at],
        history=_history(desk.store.entries(f"identity:{identity.id}")),
    )


def _found(desk: Desk, caller: Caller, name: str) -> tuple[Identity, bool]:
    identity = desk.directory.get(name)
    mine = {caller.identity.id, *caller.identity.aliases}
    everything = bool(SEES_ALL & set(caller.identity.roles))
    if identity is not None and (everything or mine & {identity.id, *identity.owners}):
        return identity, True
    if identity is None and everything:  # who left the directory is on record all the same
        for recorded in reversed(desk.store.entries(f"identity:{name}")):
            if isinstance(recorded.event, IdentityRecorded):
                return msgspec.structs.replace(recorded.event.identity, active=False), False
    raise NotFound(
        f"there is nobody {name!r:.80} whom you may see",
        remedy="You see yourself and what you answer for; operators and auditors see everybody.",
    )


def _history(recorded: Iterable[Recorded]) -> list[Change]:
    """What entries say of somebody, newest first."""
    found: list[Change] = []
    before: Identity | None = None
    for each in recorded:
        match each.event:
            case IdentityRecorded(identity=identity):
                what = "First on record" if before is None else "Changed"
                found.append(
                    Change(
                        at=each.at, by=each.actor, what=what, details=tuple(_differences(before, identity))
                    )
                )
                before = identity
            case IdentityDeactivated():
                found.append(Change(at=each.at, by=each.actor, what="Gone from the directory"))
            case event:
                found.append(Change(at=each.at, by=each.actor, what=event.kind))
    return found[::-1]


def _differences(before: Identity | None, after: Identity) -> Iterable[str]:
    for name in FIELDS:
        old = getattr(before, name) if before else None
        new = getattr(after, name)
        if before is None or old == new:
            continue
        if isinstance(new, tuple) or isinstance(old, tuple):
            was, now = set(_listed(old)), set(_listed(new))
            label = name.replace("_", " ")
            yield from (f"{label}: {each} came" for each in sorted(now - was))
            yield from (f"{label}: {each} went" for each in sorted(was - now))
        else:
            yield f"{name}: {_plain(old)} → {_plain(new)}"


def _listed(value: Any) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value in {None, "", msgspec.UNSET} else str(value)
