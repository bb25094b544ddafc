"""From an identities file to people, groups and owners, checked as a whole.

One subject has one entry: ids are canonical, aliases lead to them, and what differs only in letter case is the same.
Chains (owners, managers, nested groups) end, and owners end in people. Everything is linear in the size of the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import (
    ROLES,
    Budget,
    Identity,
    IdentityId,
    Role,
    is_human,
    kind_of,
    parse_group,
    parse_identity,
)
from muniment.core.instants import parse_duration
from muniment.core.text import clean_name
from muniment.ledger.errors import LedgerFault
from muniment.ledger.sshsig import read_key

#: owners, managers and groups nest less deep than this in any organisation; more is a mistake
MAX_DEPTH = 32
#: no budget is larger; whoever needs more needs none
MAX_BUDGET = 1_000_000


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One identity, as written."""

    name: str = ""
    groups: list[str] = []
    roles: list[Role] = msgspec.field(default_factory=lambda: ["member"])
    manager: str | None = None
    owner: str | None = None
    owners: list[str] = []
    aliases: list[str] = []
    ssh_keys: list[str] = []
    budget: Any = None
    active: bool = True


class _Budget(msgspec.Struct, forbid_unknown_fields=True):
    """What a service account, workload or agent may ask for and hold, as written."""

    requests_per_hour: int | None = None
    concurrent_grants: int | None = None
    longest: str | None = None


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    """One group, as written: who is in it besides those whose own entry says so."""

    members: list[str]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    identities: dict[str, Any]
    groups: dict[str, Any] = {}


class People(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one version of the file. Immutable."""

    identities: Mapping[IdentityId, Identity]  # canonical id to identity, sorted
    canonical: Mapping[IdentityId, IdentityId]  # ids and aliases to canonical ids
    members: Mapping[str, tuple[Identity, ...]]  # group to active identities, nested ones included
    within: Mapping[str, tuple[str, ...]] = {}  # group to the groups it is in, at any depth


def parse(text: str, where: str, elsewhere: Callable[[IdentityId], bool] = lambda _: False) -> People:
    """Read a file's text. ``elsewhere``: whether another source knows somebody, who may own and manage then, too.

    Raises:
        Misconfigured: it cannot be used; the message names ``where`` and the key.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _wrong(
            f"{where}: {error}", "Correct the TOML there; names with @ or : are written in quotes."
        ) from error
    document = _convert(raw, _Document, where)
    return _Reading(document, where, elsewhere).people()


def recorded(identities: Iterable[Identity]) -> People:
    """What was read before, put together again."""
    known = {each.id: each for each in sorted(identities, key=lambda each: each.id)}
    members: dict[str, list[Identity]] = {}
    for identity in known.values():
        for group in identity.groups if identity.active else ():
            members.setdefault(group, []).append(identity)
    return People(
        identities=known,
        canonical={name: each.id for each in known.values() for name in (each.id, *each.aliases)},
        members={group: tuple(found) for group, found in members.items()},
    )


class _Reading:
    """One pass over one file; holds what the steps share."""

    def __init__(self, document: _Document, where: str, elsewhere: Callable[[IdentityId], bool]) -> None:
        self._where, self._elsewhere = where, elsewhere
        self._entries: dict[IdentityId, _Entry] = {}
        self._canonical: dict[IdentityId, IdentityId] = {}
        self._folded: dict[str, str] = {}
        self._signers: dict[str, IdentityId] = {}
        for key, raw in document.identities.items():
            self._add(key, raw)
        for ident, entry in self._entries.items():
            self._add_aliases(ident, entry)
        self._direct = {i: self._own_groups(i, entry) for i, entry in self._entries.items()}
        self._nested = self._nest(document.groups)

    def people(self) -> People:
        """Resolve every reference, then make the identities."""
        owners = {i: self._owners(i, entry) for i, entry in self._entries.items()}
        managers = {i: self._manager(i, entry) for i, entry in self._entries.items()}
        owned_by = self._closure(owners, "owners")
        self._closure({i: [m] for i, m in managers.items() if m}, "managers")
        within = self._closure(self._nested, "groups")
        identities: dict[IdentityId, Identity] = {}
        members: dict[str, list[Identity]] = {}
        for ident in sorted(self._entries):
            entry = self._entries[ident]
            direct = self._direct[ident]
            groups = tuple(sorted(direct.union(*(within.get(g, ()) for g in direct))))
            identities[ident] = identity = Identity(
                id=ident, name=entry.name, active=entry.active, groups=groups,
                roles=tuple(role for role in ROLES if role in entry.roles),
                owners=owned_by.get(ident, ()), manager=managers[ident],
                aliases=tuple(sorted(parse_identity(a) for a in entry.aliases)),
                ssh_keys=self._keys(ident, entry), budget=self._budget(ident, entry),
            )  # fmt: skip
            for group in groups if identity.active else ():
                members.setdefault(group, []).append(identity)
        return People(
            identities=identities,
            canonical=self._canonical,
            members={group: tuple(found) for group, found in members.items()},
            within=within,
        )

    def _add(self, key: str, raw: Any) -> None:
        at = f'{self._where}: identities."{key}"'
        ident = self._checked(parse_identity, key, at)
        entry = _convert(raw, _Entry, at)
        self._claim(ident, ident, at)
        self._entries[ident] = entry
        if entry.name:
            self._checked(lambda name: clean_name(name, "the name"), entry.name, at)
        if "approver" in entry.roles and not is_human(ident):
            raise _wrong(f"{at}: only people approve", 'Leave "approver" out of its roles.')

    def _add_aliases(self, ident: IdentityId, entry: _Entry) -> None:
        at = f'{self._where}: identities."{ident}".aliases'
        for text in entry.aliases:
            alias = self._checked(parse_identity, text, at)
            if kind_of(alias) != kind_of(ident):
                raise _wrong(f"{at}: {alias} is another kind of identity", "An alias is of the same kind.")
            self._claim(alias, ident, at)

    def _claim(self, name: IdentityId, ident: IdentityId, at: str) -> None:
        taken = self._folded.setdefault(name.casefold(), ident)
        if taken != ident or name in self._canonical:
            raise _wrong(
                f"{at}: {name} is taken already, by {taken}",
                "One subject has one entry; write its other names into aliases. Letter case makes no difference.",
            )
        self._canonical[name] = ident

    def _own_groups(self, ident: IdentityId, entry: _Entry) -> set[str]:
        at = f'{self._where}: identities."{ident}".groups'
        return {self._group(text, at) for text in entry.groups}

    def _group(self, text: str, at: str) -> str:
        group = self._checked(parse_group, text, at)
        spelled = self._folded.setdefault(f"group {group.casefold()}", group)
        if spelled != group:
            raise _wrong(f"{at}: the group {group} is spelled {spelled} elsewhere", "Spell it one way.")
        return group

    def _nest(self, groups: Mapping[str, Any]) -> dict[str, list[str]]:
        """Groups to the groups they are directly in; people named as members get the group themselves."""
        known = {group for direct in self._direct.values() for group in direct}
        nested: dict[str, list[str]] = {}
        for key in groups:
            known.add(self._group(key, f'{self._where}: groups."{key}"'))
        for key, raw in groups.items():
            at = f'{self._where}: groups."{key}"'
            for member in _convert(raw, _Group, at).members:
                if not member.startswith("group:"):
                    self._direct[self._reference(member, f"{at}.members")].add(parse_group(key))
                    continue
                inner = self._group(member, f"{at}.members")
                if inner not in known:
                    raise _wrong(
                        f"{at}.members: there is no group {inner}",
                        f"Declare it as [groups.{inner}], or put somebody in it; it may be a slip of the pen.",
                    )
                nested.setdefault(inner, []).append(parse_group(key))
        return nested

    def _owners(self, ident: IdentityId, entry: _Entry) -> list[IdentityId]:
        at = f'{self._where}: identities."{ident}"'
        named = [*([entry.owner] if entry.owner is not None else []), *entry.owners]
        if is_human(ident):
            if named:
                raise _wrong(f"{at}: a person has no owner", "Use manager for whom they report to.")
            return []
        if not named:
            raise _wrong(f"{at} has no owner", 'Say who answers for it: owner = "human:…".')
        return list(dict.fromkeys(self._reference(text, f"{at}.owner") for text in named))

    def _manager(self, ident: IdentityId, entry: _Entry) -> IdentityId | None:
        at = f'{self._where}: identities."{ident}".manager'
        if entry.manager is None:
            return None
        manager = self._reference(entry.manager, at)
        if not (is_human(ident) and is_human(manager)):
            raise _wrong(
                f"{at}: only people have managers, and are managers", "Use owner for who answers for it."
            )
        return manager

    def _keys(self, ident: IdentityId, entry: _Entry) -> tuple[str, ...] | msgspec.UnsetType:
        at = f'{self._where}: identities."{ident}".ssh_keys'
        if entry.ssh_keys and not is_human(ident):
            raise _wrong(f"{at}: only people sign approvals", "Leave ssh_keys out here.")
        found = []
        for text in entry.ssh_keys:
            try:
                key = read_key(text)
            except LedgerFault as error:
                raise _wrong(f"{at}: {error.message}", "Copy the line of the .pub file.") from error
            if (other := self._signers.setdefault(key, ident)) != ident:
                raise _wrong(
                    f"{at}: this key is {other}'s already", "Each person signs with keys of their own."
                )
            found.append(key)
        return tuple(sorted(set(found))) or msgspec.UNSET

    def _budget(self, ident: IdentityId, entry: _Entry) -> Budget | msgspec.UnsetType:
        at = f'{self._where}: identities."{ident}".budget'
        if entry.budget is None:
            return msgspec.UNSET
        if is_human(ident):
            raise _wrong(f"{at}: a person has no budget", "Policy says what people may ask for.")
        wanted = _convert(entry.budget, _Budget, at)
        for name in ("requests_per_hour", "concurrent_grants"):
            number = getattr(wanted, name)
            if number is not None and not 0 <= number <= MAX_BUDGET:
                raise _wrong(f"{at}.{name} is {number}", f"Write a number from 0 to {MAX_BUDGET}.")
        longest = None
        if wanted.longest is not None:
            try:
                longest = int(parse_duration(wanted.longest).total_seconds())
            except Invalid as error:
                raise _wrong(f"{at}.longest: {error.message}", error.remedy) from error
        return Budget(
            requests_per_hour=wanted.requests_per_hour,
            concurrent_grants=wanted.concurrent_grants,
            longest=longest,
        )

    def _reference(self, text: str, at: str) -> IdentityId:
        named = self._checked(parse_identity, text, at)
        ident = self._canonical.get(named)
        if ident is None and self._elsewhere(named):
            return named
        if ident is None:
            raise _wrong(
                f"{at}: there is no identity {text!r:.80}", "Add it to the file, or correct the name."
            )
        return ident

    def _checked(self, parser: Callable[[str], str], text: str, at: str) -> str:
        try:
            return parser(text)
        except Invalid as error:
            raise _wrong(f"{at}: {error.message}", error.remedy) from error

    def _closure(self, edges: Mapping[str, Collection[str]], what: str) -> dict[str, tuple[str, ...]]:
        """For each node everything it leads to, nearest first. Refuses circles, and chains beyond any reason."""
        leads = {node: list(to) for node, to in edges.items() if to}
        done: dict[str, tuple[str, ...]] = {}
        depth: dict[str, int] = {}
        for start in leads:
            path: dict[str, None] = {}
            stack = [start]
            while stack:
                node = stack[-1]
                if node in done:
                    path.pop(stack.pop(), None)
                    continue
                path[node] = None
                waiting = [n for n in leads[node] if n in leads and n not in done]
                circle = next((n for n in waiting if n in path), None)
                if circle is not None:
                    raise self._circle(what, [*path, circle])
                if waiting:
                    stack.append(waiting[0])
                    continue
                depth[node] = 1 + max(depth.get(n, 0) for n in leads[node])
                if depth[node] > MAX_DEPTH:
                    raise _wrong(
                        f"{self._where}: {what} of {node} are nested over {MAX_DEPTH} deep", "Flatten them."
                    )
                far = (f for n in leads[node] for f in done.get(n, ()))
                done[node] = tuple(dict.fromkeys((*leads[node], *far)))
        return done

    def _circle(self, what: str, path: list[str]) -> Misconfigured:
        circle = " → ".join(path[path.index(path[-1]) :])
        return _wrong(f"{self._where}: {what} run in a circle: {circle:.300}", "Remove one of them.")


def _convert(raw: Any, wanted: Any, at: str) -> Any:
    try:
        return msgspec.convert(raw, wanted)
    except msgspec.ValidationError as error:
        raise _wrong(
            f"{at}: {error}", f"It may have {', '.join(wanted.__struct_fields__)}; check spelling and type."
        ) from error


def _wrong(message: str, remedy: str) -> Misconfigured:
    return Misconfigured(message, remedy=remedy, code="config.identities")
