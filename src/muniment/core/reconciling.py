"""What a target should hold, and what is wrong where it differs. The join over all of it is elsewhere; this is the meaning.

An entitlement is explained by the first of: a ticket that may give it now, an exception that is not over, the baseline.
What nothing explains is a finding; so is what is explained and wrong all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from muniment.core.drift import CLASSES, SEVERITIES, Class, Observed
from muniment.core.events import DriftType, Severity
from muniment.core.inventory import Item
from muniment.core.scope import Privilege
from muniment.core.ticket import Ticket

#: account or inner privilege, privilege, resource, nested, and the ticket where each ticket's grant is a thing of its own
Key: TypeAlias = tuple[str, str, str | None, bool, str | None]
#: what is at stake with a privilege that nobody described
UNKNOWN: Severity = "medium"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong with an entitlement although it is explained."""

    type: DriftType
    severity: Severity
    message: str


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """An entitlement that something explains."""

    key: Key
    klass: Class
    reference: str
    must: bool  # it is missing if it is not there
    note: Note | None = None

    @property
    def item(self) -> Item:
        """The line that an inventory would have of it."""
        account, privilege, resource, nested, ticket = self.key
        return Item(account=account, privilege=privilege, resource=resource, nested=nested, ticket=ticket)


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose account it is."""

    id: str
    active: bool


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What else there is to know about a target."""

    target: str
    risks: Mapping[Privilege, Severity]
    holders: Mapping[str, tuple[Holder, ...]]  # by account
    over: Mapping[Key, str]  # exceptions that explain nothing any more
    ended: Callable[[str], bool]  # whether a ticket has ended


def key_of(item: Item, *, separate: bool) -> Key:
    """What tells one entitlement from another; who gave it does not."""
    return (item.account, item.privilege, item.resource, item.nested, item.ticket if separate else None)


def tickets_expect(
    tickets: Iterable[Ticket], steady: Callable[[Ticket], bool], *, separate: bool
) -> Iterator[Expected]:
    """What tickets may give now.

    Args:
        tickets: that are live, or were while the target was read.
        steady: whether a ticket gives access all the while; what it gives must be there.
        separate: each ticket's grant is a thing of its own.
    """
    for ticket in tickets:
        for what in ticket.approved:
            yield Expected(
                key=(
                    ticket.terms.account, what.privilege, what.resource, False, ticket.id if separate else None
                ),
                klass="ticketed", reference=ticket.id, must=steady(ticket),
            )  # fmt: skip


def first_of(*sources: Iterable[Expected]) -> dict[Key, Expected]:
    """Each entitlement once, as its best explanation has it; it must be there if any that is as good says so."""
    found: dict[Key, Expected] = {}
    for each in (expected for source in sources for expected in source):
        known = found.get(each.key)
        rank = CLASSES.index(each.klass)
        if (
            known is None
            or rank < CLASSES.index(known.klass)
            or (known.klass == each.klass and each.must and not known.must)
        ):
            found[each.key] = each
    return found


# ── what is wrong ──


def unexplained(item: Item, world: World, gained: int) -> Observed:
    """A holding that nothing explains. ``gained``: of nested ones, how many accounts hold the inner privilege."""
    what = str(item.what)
    if item.nested:
        return _observed(
            world, item, "excess", world.risks.get(item.what, UNKNOWN), None,
            f"everybody who holds {item.account} has {what} by that ({_accounts(gained)}), and nothing explains it",
        )  # fmt: skip
    severity = world.risks.get(item.what, UNKNOWN)
    holders = world.holders.get(item.account, ())
    if (over := world.over.get(key_of(item, separate=False))) is not None:
        said = f"{item.account} holds {what}, and the exception for it is over"
        return _observed(world, item, "overdue", _high_at_least(severity), over, said)
    if item.ticket is not None and world.ended(item.ticket):
        said = f"{item.account} holds {what} by {item.ticket}, which has ended"
        return _observed(world, item, "overdue", _high_at_least(severity), item.ticket, said)
    if not holders:
        said = f"{item.account} holds {what}: nothing explains it, and nobody is behind the account"
        return _observed(world, item, "orphan", _high_at_least(severity), None, said)
    if not any(holder.active for holder in holders):
        said = f"{item.account} holds {what}: nothing explains it, and {holders[0].id} is gone"
        return _observed(world, item, "owner-gone", _high_at_least(severity), None, said)
    given = f", given by {item.grantor}" if item.grantor else ""
    said = f"{item.account} ({holders[0].id}) holds {what}{given}, and nothing explains it"
    return _observed(world, item, "excess", severity, None, said)


def missing(expected: Expected, world: World) -> Observed:
    """Something that must be there and is not."""
    item, what = expected.item, str(expected.item.what)
    if expected.klass == "ticketed":
        said = f"{item.account} no longer holds {what}, which {expected.reference} gives it"
        return _observed(world, item, "vanished", "high", expected.reference, said)
    said = (
        f"{item.account} does not hold {what}, which is declared: whoever gives it now is explained by that"
    )
    return _observed(world, item, "vanished", "low", expected.reference, said)


def wrong(item: Item, expected: Expected, world: World) -> Observed | None:
    """An entitlement that is explained and wrong all the same."""
    if expected.note is not None:
        note = expected.note
        return _observed(
            world, item, note.type, note.severity, expected.reference, note.message, explained=True
        )
    return None


def altered(item: Item, expected: Expected, before: Sequence[str | None], world: World) -> Observed:
    """One that stands without a ticket, and that somebody else has given since."""
    was = ", ".join(sorted(each or "nobody named" for each in before))
    said = (
        f"{item.account} holds {item.what!s}, now given by {item.grantor or 'nobody named'}, before by {was}"
    )
    return _observed(world, item, "altered", "medium", expected.reference, said, explained=True)


def shared(items: Iterable[Item], world: World) -> Iterator[Observed]:
    """Accounts that are several people's, and hold something: nobody can say who used it. One finding an account."""
    seen: set[str] = set()
    for item in items:
        active = [holder.id for holder in world.holders.get(item.account, ()) if holder.active]
        if item.nested or len(active) < 2 or item.account in seen:
            continue
        seen.add(item.account)
        about = replace(item, privilege="", resource=None, grantor=None, ticket=None)
        said = f"the account {item.account} is that of {', '.join(active)}"
        yield _observed(world, about, "duplicate-identity", "high", None, said, explained=True)


def gains(items: Iterable[Item]) -> dict[str, int]:
    """How many accounts hold each privilege, through whatever it is in as well."""
    direct: dict[str, set[str]] = {}
    inner: dict[str, set[str]] = {}  # by the outer one
    for item in items:
        if item.nested:
            inner.setdefault(item.privilege, set()).add(item.account)
        else:
            direct.setdefault(item.privilege, set()).add(item.account)
    found = {}
    for privilege in direct.keys() | inner.keys() | {name for names in inner.values() for name in names}:
        below, ahead = {privilege}, [privilege]
        while ahead:
            for name in inner.get(ahead.pop(), set()) - below:
                below.add(name)
                ahead.append(name)
        found[privilege] = len(set().union(*(direct.get(name, set()) for name in below)))
    return found


def inherited(items: Iterable[Item], explained: Callable[[Item], Class | None]) -> dict[Class, int]:
    """How many entitlements accounts have through others, by class: as bad as the worst step on the way.

    They are consequences, not holdings: the step that nothing explains is the finding.
    """
    items = list(items)
    steps: dict[str, list[Item]] = {}
    for item in items:
        if item.nested:
            steps.setdefault(item.account, []).append(item)
    counts: dict[Class, int] = dict.fromkeys(CLASSES, 0)
    if not steps:
        return counts
    best: dict[tuple[str, Privilege], int] = {}
    for item in items:
        if item.nested or item.privilege not in steps:
            continue
        begin = CLASSES.index(explained(item) or "unexplained")
        ahead = [(item.privilege, begin)]
        worst: dict[str, int] = {item.privilege: begin}
        while ahead:
            at, rank = ahead.pop()
            for step in steps.get(at, ()):
                now = rank if explained(step) else CLASSES.index("unexplained")
                place = (item.account, step.what)
                best[place] = min(now, best.get(place, now))
                if now < worst.get(step.privilege, now + 1):
                    worst[step.privilege] = now
                    ahead.append((step.privilege, now))
    for rank in best.values():
        counts[CLASSES[rank]] += 1
    return counts


def _observed(  # noqa: PLR0917  as it is read
    world: World, item: Item, type: DriftType, severity: Severity, reference: str | None, message: str,  # noqa: A002
    *, explained: bool = False,
) -> Observed:  # fmt: skip
    return Observed(
        target=world.target, type=type, severity=severity, item=item, reference=reference, message=message,
        explained=explained or type == "vanished",
    )  # fmt: skip


def _high_at_least(severity: Severity) -> Severity:
    return min(severity, "high", key=SEVERITIES.index)


def _accounts(count: int) -> str:
    return "1 account" if count == 1 else f"{count} accounts"
