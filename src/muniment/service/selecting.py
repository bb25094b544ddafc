"""What a campaign is about, as the newest complete inventories, the baseline and the directory have it; and who is asked.

Who is asked about an item is the first, by the campaign's rules, who is a person, is there, and has no stake in it: is not
whose it is, and does not report to them. Of a group or a role, one such person is enough; which of them may decide is
looked at again when they do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TypeAlias

import msgspec

from muniment.core import campaign_items as ci
from muniment.core.campaign import asked
from muniment.core.campaign_items import CampaignItem, Risk, Selection, SubjectKind
from muniment.core.errors import Invalid, Refused
from muniment.core.events import CampaignSource
from muniment.core.identity import Identity, IdentityId, is_human, parse_group, parse_identity
from muniment.core.instants import wire
from muniment.core.inventory import Item
from muniment.core.reconciling import UNKNOWN, Expected
from muniment.ports import Target
from muniment.reconcile.baseline import Declared
from muniment.service import reconciling
from muniment.service.desk import Desk

#: rules that say who is asked, beside a person's or a group's name
RULES = ("owner", "manager", "target-owner")
#: account, privilege, resource, nested
Key: TypeAlias = tuple[str, str, str | None, bool]


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The list, and what it was made of."""

    lines: list[bytes]
    singly: int
    sources: tuple[CampaignSource, ...]
    left_out: tuple[str, ...]  # targets that cannot list what they hold


def select(
    desk: Desk,
    selection: Selection,
    rules: tuple[str, ...],
    last: str,
    *,
    sample: int,
    alone: Risk | None,
) -> Selected:
    """Make the list.

    Args:
        desk: the adapters.
        selection: what is looked for.
        rules: who is asked, the first that can.
        last: who is asked where no rule names anybody.
        sample: percent of the items, drawn by chance, that are kept one by one.
        alone: items of this risk and worse are, too; None: none for that.

    Raises:
        Refused: a target has no complete inventory, or nobody can be asked about an item.
    """
    chooser = Chooser(desk, rules, last)
    sources: list[CampaignSource] = []
    left_out: list[str] = []
    found: list[CampaignItem] = []
    for target in _targets(desk, selection):
        if not target.connector.capabilities.lists_everything:
            left_out.append(target.id)
            continue
        standing = reconciling.standing(desk, target)
        if standing is None:
            raise Refused(
                f"no complete inventory of {target.id} is kept, so nobody can say what stands there",
                remedy=f"`muniment inventory take {target.id}` takes one; then open the campaign.",
                code="refused.no-inventory",
            )
        taken = standing.inventory.taken
        sources.append(CampaignSource(target=target.id, inventory=taken.inventory, digest=taken.digest))
        found += (chooser.given(each, target) for each in _of_target(standing, target, selection))
    found += (chooser.given(each, None) for each in _of_directory(desk, selection))
    seed = desk.random.bytes(16)
    worst = ci.RISKS[: ci.RISKS.index(alone) + 1] if alone else ()

    def singly(item: CampaignItem) -> bool:
        drawn = hashlib.sha256(seed + msgspec.json.encode(item)).digest()
        return item.risk in worst or int.from_bytes(drawn[:4], "big") * 100 < sample << 32

    lines, count = ci.lines((item, singly(item)) for item in found)
    return Selected(lines=lines, singly=count, sources=tuple(sources), left_out=tuple(left_out))


def rule(text: str) -> str:
    """One that says who is asked: a word of `RULES`, a person or a group. Raises `Invalid`."""
    if text in RULES:
        return text
    return somebody(text)


def somebody(text: str) -> str:
    """A person, ``group:NAME``, or ``role:operator``. Raises `Invalid`."""
    if text.startswith("group:"):
        return f"group:{parse_group(text)}"
    if text in {"role:operator", "role:auditor"}:
        return text
    who = parse_identity(text)
    if not is_human(who):
        raise Invalid(f"{who} is no person, and only people decide", remedy="Name a person, or group:NAME.")
    return who


class Chooser:
    """Who is asked about an item. Looks each person up once."""

    def __init__(self, desk: Desk, rules: tuple[str, ...], last: str) -> None:
        """Remember how it is to be found out."""
        self._desk, self._rules, self._last = desk, (*rules, last), last
        self._can: dict[tuple[str, tuple[IdentityId, ...]], bool] = {}
        self._above: dict[IdentityId, frozenset[IdentityId]] = {}

    def given(self, item: CampaignItem, target: Target | None) -> CampaignItem:
        """The item with its reviewer. Raises `Refused` if there is nobody."""
        for each in self._rules:
            for reviewer in self._named(each, item, target):
                if self.can(reviewer, item.holders):
                    return msgspec.structs.replace(item, reviewer=reviewer)
        raise Refused(
            f"nobody can be asked about this: {item.what}",
            remedy=f"Whoever is {self._last} is gone, or has a stake in it: name others with --escalate-to.",
            code="refused.no-reviewer",
        )

    def can(self, reviewer: str, holders: tuple[IdentityId, ...]) -> bool:
        """Whether somebody who is meant could decide on what is theirs."""
        key = (reviewer, holders)
        if key not in self._can:
            self._can[key] = any(self._independent(who, holders) for who in self._people(reviewer))
        return self._can[key]

    def _named(self, each: str, item: CampaignItem, target: Target | None) -> Iterator[str]:
        if each == "owner":
            yield from item.owners
        elif each == "target-owner":
            yield from target.owners if target else ()
        elif each == "manager":
            for holder in item.holders:
                found = self._desk.directory.get(holder)
                people = found.owners if found and not is_human(found.id) else (holder,)
                for person in people:
                    known = self._desk.directory.get(person)
                    if known and known.manager:
                        yield known.manager
        else:
            yield each

    def _people(self, reviewer: str) -> Iterable[Identity]:
        kind, _, name = reviewer.partition(":")
        if kind == "group":
            return self._desk.directory.members(name)
        if kind == "role":
            return self._with_role(reviewer)
        found = self._desk.directory.get(reviewer)
        return () if found is None else (found,)

    def _with_role(self, reviewer: str) -> list[Identity]:
        return [who for who in self._everybody if asked(reviewer, who)]

    @cached_property
    def _everybody(self) -> tuple[Identity, ...]:
        return tuple(self._desk.directory.everybody())

    def _independent(self, who: Identity, holders: tuple[IdentityId, ...]) -> bool:
        if not who.active or not is_human(who.id):
            return False
        if who.id not in self._above:
            self._above[who.id] = frozenset(self._desk.superiors(who))
        names = {who.id, *who.aliases}
        return not any(holder in names or holder in self._above[who.id] for holder in holders)


# ── what there is ──


def _targets(desk: Desk, wanted: Selection) -> list[Target]:
    if unknown := sorted(set(wanted.targets) - set(desk.targets)):
        raise Invalid(f"there is no target {unknown[0]!r:.80}", remedy="`muniment targets` lists them.")
    if not _wants(wanted, "entitlement", "declaration") or wanted.groups:
        return []
    return [
        target
        for _, target in sorted(desk.targets.items())
        if (not wanted.targets or target.id in wanted.targets)
        and (not wanted.environments or target.environment in wanted.environments)
    ]


def _wants(wanted: Selection, *subjects: SubjectKind) -> bool:
    return not wanted.subjects or not set(subjects).isdisjoint(wanted.subjects)


def _of_target(standing: reconciling.Standing, target: Target, wanted: Selection) -> Iterator[CampaignItem]:
    declared: dict[tuple[str, Key], Declared] = {(each.kind, each.key): each for each in standing.declared}
    held = set()
    seen = set()
    for item, by in standing.items:
        key = (item.account, item.privilege, item.resource, item.nested)
        held.add(key)
        if (by is not None and by.klass == "ticketed") or (key, item.ticket) in seen:
            continue
        seen.add((key, item.ticket))
        line = _line(declared, by, key)
        if _wants(wanted, "entitlement"):
            made = _entitlement(standing, target, item, line)
            if _matches(wanted, made):
                yield made
    if _wants(wanted, "declaration"):
        for each in standing.declared:
            made = _declaration(standing, target, each)
            if each.key not in held and _matches(wanted, made):
                yield made


def _line(declared: dict[tuple[str, Key], Declared], by: Expected | None, key: Key) -> Declared | None:
    if by is None:
        return None
    return declared.get(("exception" if by.klass == "excepted" else "standing", key))


def _entitlement(
    standing: reconciling.Standing, target: Target, item: Item, line: Declared | None
) -> CampaignItem:
    holders = () if item.nested else tuple(h.id for h in standing.world.holders.get(item.account, ()))
    return CampaignItem(
        subject="entitlement", reviewer="", risk=standing.world.risks.get(item.what, UNKNOWN), target=target.id,
        account=item.account, privilege=item.privilege, resource=item.resource, nested=item.nested,
        grantor=item.grantor, ticket=item.ticket, holders=holders,
        standing="unexplained" if line is None else "excepted" if line.kind == "exception" else "baseline",
        owners=() if line is None else (line.owner,),
        until=None if line is None else wire(max(line.until, standing.kept.get(line.digest, line.until))),
        line=None if line is None else line.digest,
    )  # fmt: skip


def _declaration(standing: reconciling.Standing, target: Target, line: Declared) -> CampaignItem:
    item = Item(account=line.account, privilege=line.privilege, resource=line.resource, nested=line.nested)
    made = _entitlement(standing, target, item, line)
    return msgspec.structs.replace(made, subject="declaration")


def _of_directory(desk: Desk, wanted: Selection) -> Iterator[CampaignItem]:
    if wanted.targets or wanted.environments or wanted.privileges or wanted.classes or wanted.due_before:
        return
    for who in desk.directory.everybody():
        if not who.active or (wanted.identities and who.kind not in wanted.identities):
            continue
        risk: Risk = "high" if {"operator", "approver"} & set(who.roles) else "medium"
        base = CampaignItem(
            subject="identity", reviewer="", risk=risk, identity=who.id, holders=(who.id,), owners=owners_of(desk, who)
        )  # fmt: skip
        if not is_human(who.id) and _wants(wanted, "identity") and not wanted.groups:
            yield base
        if _wants(wanted, "membership"):
            for group in who.groups:
                if not wanted.groups or group in wanted.groups:
                    yield msgspec.structs.replace(base, subject="membership", group=group)


def owners_of(desk: Desk, who: Identity) -> tuple[IdentityId, ...]:
    """People who answer for it, nearest first."""
    known: Callable[[str], Identity | None] = desk.directory.get
    return tuple(x.id for each in who.owners if (x := known(each)) and is_human(x.id) and x.active)


def _matches(wanted: Selection, item: CampaignItem) -> bool:
    kinds = {holder.partition(":")[0] for holder in item.holders}
    return (
        (not wanted.privileges or item.privilege in wanted.privileges)
        and (not wanted.classes or item.standing in wanted.classes)
        and (not wanted.identities or not kinds.isdisjoint(wanted.identities))
        and (wanted.due_before is None or (item.until is not None and item.until < wanted.due_before))
    )
