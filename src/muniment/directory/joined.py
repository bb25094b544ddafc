"""The identities file and what an identity provider keeps here, as one directory.

The file has the operator's word: roles, owners, signing keys, budgets and aliases are its alone, and so are managers
that it names. Either of the two may end what somebody is: active is who both say is, and whom the provider removed is
gone though the file still has them. Groups are those of the file and, of the provider's, those that the configuration
names. See ADR 0033.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from muniment.core.errors import Invalid
from muniment.core.identity import Identity, IdentityId, parse_group, parse_identity
from muniment.directory.file import FileDirectory
from muniment.directory.parsing import People
from muniment.directory.provisioned import Everybody, Provided, ProvisionedDirectory


class _Joined(NamedTuple):
    """What was joined, and out of which versions of the two."""

    file: People
    provided: Everybody
    people: People


class JoinedDirectory:
    """`ports.Directory` of the two."""

    def __init__(self, file: FileDirectory, provided: ProvisionedDirectory) -> None:
        """Both are read already."""
        self._file, self._provided = file, provided
        self._joined = self._join()
        self._told = self._joined

    @property
    def version(self) -> str:
        """Of both."""
        return f"{self._file.version} provisioned:{self._provided.everybody.revision}"

    @property
    def stale(self) -> str:
        """As `ports.Directory` says: the file's."""
        return self._file.stale

    def reload_if_changed(self) -> bool:
        """As `ports.Directory` says."""
        try:
            self._provided.refresh()
        finally:  # neither holds up the other
            self._file.reload_if_changed()
        now = self._now()
        changed, self._told = now is not self._told, now
        return changed

    def get(self, identity: IdentityId) -> Identity | None:
        """As `ports.Directory` says."""
        people = self._now().people
        canonical = people.canonical.get(identity)
        if canonical is None:
            try:
                canonical = people.canonical.get(parse_identity(identity))
            except Invalid:
                return None
        return None if canonical is None else people.identities[canonical]

    def members(self, group: str) -> tuple[Identity, ...]:
        """As `ports.Directory` says."""
        return self._now().people.members.get(parse_group(group), ())

    def everybody(self) -> Iterable[Identity]:
        """As `ports.Directory` says."""
        return self._now().people.identities.values()

    def _now(self) -> _Joined:
        known = self._joined
        if known.file is not self._file.people or known.provided is not self._provided.everybody:
            self._joined = known = self._join()
        return known

    def _join(self) -> _Joined:
        file, provided = self._file.people, self._provided.everybody
        return _Joined(file, provided, join(file, provided))


def join(file: People, provided: Everybody) -> People:
    """Both, as one."""
    identities, canonical = dict(file.identities), dict(file.canonical)
    for name in provided.gone:
        if (known := canonical.get(name)) is not None:
            identities[known] = replace(identities[known], active=False)
    for each in provided.people.values():
        known = canonical.get(each.id)
        if known is None:
            identities[each.id], canonical[each.id] = _new(each, file, canonical), each.id
        else:
            identities[known] = _both(identities[known], each, file, canonical)
    for name in provided.disabled:
        if (known := canonical.get(name)) is not None:
            identities[known] = replace(identities[known], active=False)
    ordered = {name: identities[name] for name in sorted(identities)}
    members: dict[str, list[Identity]] = {}
    for identity in ordered.values():
        for group in identity.groups if identity.active else ():
            members.setdefault(group, []).append(identity)
    return People(
        identities=ordered,
        canonical=canonical,
        members={group: tuple(found) for group, found in members.items()},
        within=file.within,
    )


def _new(each: Provided, file: People, canonical: dict[IdentityId, IdentityId]) -> Identity:
    return Identity(
        id=each.id, name=each.name, active=each.active, groups=_groups(each, file),
        owners=tuple(canonical.get(owner, owner) for owner in each.owners), manager=_manager(each, canonical),
    )  # fmt: skip


def _both(known: Identity, each: Provided, file: People, canonical: dict[IdentityId, IdentityId]) -> Identity:
    return replace(
        known, name=known.name or each.name, active=known.active and each.active,
        groups=tuple(sorted({*known.groups, *_groups(each, file)})), manager=known.manager or _manager(each, canonical),
    )  # fmt: skip


def _groups(each: Provided, file: People) -> tuple[str, ...]:
    return tuple(sorted(each.groups.union(*(file.within.get(group, ()) for group in each.groups))))


def _manager(each: Provided, canonical: dict[IdentityId, IdentityId]) -> IdentityId | None:
    """Nobody manages themselves, whatever a provider says."""
    manager = canonical.get(each.manager, each.manager) if each.manager else None
    return None if manager == canonical.get(each.id, each.id) else manager
