"""Inventories: a target is asked for everything that it holds, and what it said is put on record.

1. the target is asked; nothing is recorded if it does not answer
2. the lines are written beside the ledger
3. InventoryTaken, with their digest, in the stream "inventory:TARGET"
4. lines of older inventories are deleted

A crash leaves lines that no entry speaks of; the next inventory of that target deletes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from muniment.core.errors import Conflict, IntegrityError, NotFound, Refused
from muniment.core.events import InventoryTaken
from muniment.core.instants import wire
from muniment.core.inventory import Item, counts, digest, lines, read
from muniment.core.visibility import SEES_ALL
from muniment.ports import Actor, Nesting, Target
from muniment.service.desk import Caller, Desk, append_beside
from muniment.service.documents import Document
from muniment.service.ids import new_id
from muniment.store.inventories import SqlInventories
from muniment.store.views import PAGE

#: every target has a stream of its own
STREAM = "inventory:"
#: complete inventories of a target whose lines are kept
KEPT = 2


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """One that is on record."""

    taken: InventoryTaken
    at: str  # when it was recorded
    by: str

    @property
    def id(self) -> str:
        """Its name."""
        return self.taken.inventory


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One that was just taken, with what it lists."""

    inventory: Inventory
    items: list[Item]


# ── taking one ──


def take(desk: Desk, actor: Actor, target: Target) -> Reading:
    """Ask a target for everything that it holds, and record that.

    Raises:
        TargetUnavailable: it did not answer; nothing is recorded.
    """
    kept = SqlInventories(desk.store.engine)
    began = desk.clock.now()
    found = target.connector.observe(None)
    nested = target.connector.nested() if isinstance(target.connector, Nesting) else ()
    ordered = lines(found.holdings, nested)
    items = [read(line) for line in ordered]  # as whoever reads it later sees them
    accounts, brought = counts(items)
    now = desk.clock.now()
    event = InventoryTaken(
        inventory=new_id("inv", now, desk.random.bytes(10)), target=target.id, began_at=wire(began),
        # a target that never tells of everything has no complete inventory, however well it answered
        complete=found.complete and target.connector.capabilities.lists_everything,
        holdings=len(ordered), accounts=accounts, nested=brought, digest=digest(ordered),
    )  # fmt: skip
    kept.keep(target.id, event.inventory, ordered)
    # another inventory of the same target: both stand
    if not append_beside(desk, STREAM + target.id, actor, event, now):
        raise Conflict(f"inventories of {target.id} are taken all the time", remedy="Try again.")
    complete = [each.id for each in of_target(desk, target.id) if each.taken.complete]
    kept.forget(target.id, {*complete[-KEPT:], event.inventory})
    return Reading(inventory=Inventory(taken=event, at=wire(now), by=actor.id), items=items)


def take_for(desk: Desk, caller: Caller, target_id: str) -> Inventory:
    """As `take`, for operators and owners of the target."""
    target = visible_target(desk, caller, target_id)
    require_steward(desk, caller, target)
    return take(desk, caller.actor, target).inventory


# ── looking at them ──


def listed(desk: Desk, caller: Caller, target_id: str) -> list[Document]:
    """Those of a target, newest first."""
    target = visible_target(desk, caller, target_id)
    kept = SqlInventories(desk.store.engine).kept(target.id)
    return [document(each, kept=each.id in kept) for each in reversed(of_target(desk, target.id))]


def shown(
    desk: Desk,
    caller: Caller,
    target_id: str,
    inventory: str | None = None,
    *,
    account: str | None = None,
    privilege: str | None = None,
    after: int = 0,
    limit: int = PAGE,
) -> Document:
    """One of them, or the newest, with its items from ``after`` on; only those of an account or a privilege, if given.

    Raises:
        NotFound: there is no such inventory.
        IntegrityError: its lines are not those that were recorded.
    """
    target = visible_target(desk, caller, target_id)
    found = _named(desk, target.id, inventory)
    kept = SqlInventories(desk.store.engine)
    items: list[Document] = []
    more = None
    if found.id in kept.kept(target.id) or not found.taken.holdings:
        for place, item in enumerate(items_of(desk, found)):
            if (
                place < after
                or (account is not None and item.account != account)
                or (privilege is not None and item.privilege != privilege)
            ):
                continue
            if len(items) < limit:
                items.append(_item(item))
            elif more is None:
                more = str(place)  # and on to the end: the digest is over all of them
    return {**document(found, kept=found.id in kept.kept(target.id)), "items": items, "next": more}


def require_steward(desk: Desk, caller: Caller, target: Target) -> None:
    """Raise `Refused` unless the caller is an operator or an owner of the target."""
    if "operator" not in caller.identity.roles and not desk.owns(target, caller.identity):
        raise Refused(
            f"{caller.identity.id} may look at {target.id}, and not have it asked or changed",
            remedy="An operator or one of its owners can.",
            code="refused.not-responsible",
        )


def items_of(desk: Desk, inventory: Inventory) -> Iterator[Item]:
    """Its items. Raises `IntegrityError` at the end if they are not those that were recorded."""
    seen: list[bytes] = []
    for line in SqlInventories(desk.store.engine).lines(inventory.id):
        seen.append(line)
        try:
            yield read(line)
        except msgspec.MsgspecError as error:
            raise _altered(inventory) from error
    if digest(seen) != inventory.taken.digest:
        raise _altered(inventory)


def visible_target(desk: Desk, caller: Caller, target_id: str) -> Target:
    """A target that the caller may look into: operators, auditors and its owners may."""
    target = desk.targets.get(target_id)
    if target is None or not (SEES_ALL & set(caller.identity.roles) or desk.owns(target, caller.identity)):
        raise NotFound(
            f"there is no target {target_id!r:.60} that you may list",
            remedy="Its owners, operators and auditors can list its holdings.",
        )
    return target


def newest(desk: Desk) -> dict[str, InventoryTaken]:
    """The newest inventory of each target that has one."""
    return {
        event.target: event
        for _, event in desk.views.registered(STREAM).values()
        if isinstance(event, InventoryTaken)
    }


def document(inventory: Inventory, *, kept: bool) -> Document:
    """One inventory, as scripts read it."""
    made: dict[str, Any] = msgspec.to_builtins(inventory.taken)
    made["began_at"] = made["began_at"].replace(".000000Z", "Z")
    return made | {"at": inventory.at.replace(".000000Z", "Z"), "by": inventory.by, "kept": kept}


def of_target(desk: Desk, target_id: str) -> list[Inventory]:
    """Those of a target on record, oldest first."""
    return [
        Inventory(taken=recorded.event, at=recorded.at, by=recorded.actor)
        for recorded in desk.store.entries(STREAM + target_id)
        if isinstance(recorded.event, InventoryTaken)
    ]


def _named(desk: Desk, target_id: str, inventory: str | None) -> Inventory:
    known = of_target(desk, target_id)
    found = next((each for each in reversed(known) if inventory in {None, each.id}), None)
    if found is None:
        raise NotFound(
            f"there is no inventory {inventory!r:.60} of {target_id}"
            if inventory
            else f"no inventory of {target_id} was taken yet",
            remedy=f"`muniment inventory take {target_id}` takes one; `muniment inventory list` shows those there are.",
        )
    return found


def _item(item: Item) -> Document:
    made: Document = msgspec.to_builtins(item)
    return made


def _altered(inventory: Inventory) -> IntegrityError:
    return IntegrityError(
        f"the lines kept of {inventory.id} are not those that were recorded",
        remedy="Keep the database as it is, and take another inventory of the target.",
    )
