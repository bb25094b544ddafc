"""People, groups and agents that an identity provider keeps here, as far as access goes by them.

Read with the least that is needed, and loosely: what the protocol demands was checked when it came in
(`service.scim`). A user is ``human:`` with the userName, an agent ``ai_agent:`` with the agentUserName. Of groups only
those count that the configuration names: a group of the provider's makes nobody an approver by bearing a name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import msgspec
from msgspec import field

from muniment.core.errors import Invalid
from muniment.core.identity import IdentityId, parse_identity
from muniment.ports import Provisioned

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


class _Reference(msgspec.Struct, frozen=True):
    value: str | None = None
    ref: str | None = field(default=None, name="$ref")


class _Name(msgspec.Struct, frozen=True):
    formatted: str | None = None


class _Enterprise(msgspec.Struct, frozen=True):
    manager: _Reference | None = None


class _User(msgspec.Struct, frozen=True, rename="camel"):
    user_name: str
    active: bool | None = None
    display_name: str | None = None
    name: _Name | None = None
    enterprise: _Enterprise | None = field(default=None, name=ENTERPRISE)


class _Agent(msgspec.Struct, frozen=True, rename="camel"):
    agent_user_name: str
    active: bool | None = None
    display_name: str | None = None
    owners: tuple[_Reference, ...] | None = None


class _Group(msgspec.Struct, frozen=True, rename="camel"):
    display_name: str
    members: tuple[_Reference, ...] | None = None


class Provided(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says of one identity."""

    id: IdentityId
    name: str
    active: bool
    groups: frozenset[str]  # those that count, nested ones included
    manager: IdentityId | None = None
    owners: tuple[IdentityId, ...] = ()  # the whole chain, nearest first


class Everybody(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of it all. Immutable."""

    revision: int
    people: Mapping[IdentityId, Provided]
    gone: frozenset[IdentityId]  # whom the provider removed, and did not bring back
    disabled: frozenset[IdentityId] = frozenset()  # of whom somebody signalled that their account is


class Disabled(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody's account is disabled, as a transmitter of signals said."""

    identity: IdentityId
    issuer: str


#: the kind of row that says it
DISABLED = "Disabled"


def identity_of(kind: str, body: bytes) -> IdentityId | None:
    """Whom a user or agent is; None for anything else. Raises `Invalid` for a name that no identity can have."""
    if kind == "User":
        return parse_identity(f"human:{_decode_user(body).user_name}")
    return parse_identity(f"ai_agent:{_decode_agent(body).agent_user_name}") if kind == "Agent" else None


class ProvisionedDirectory:
    """Takes up rows as they change. Safe for several threads."""

    def __init__(
        self,
        revision: Callable[[], int],
        since: Callable[[int], list[Provisioned]],
        groups: Iterable[str],
        issuers: Iterable[str] = (),
        *,
        users: bool = True,
    ) -> None:
        """Read it all.

        Args:
            revision: of what is there now.
            since: what changed after a revision.
            groups: names that count, as policies write them.
            issuers: whose signals count.
            users: whether people, groups and agents count, or signals alone.
        """
        self._users = users
        self._revision, self._since, self._issuers = revision, since, frozenset(issuers)
        self._groups = {group.casefold(): group for group in groups}
        self._lock = threading.Lock()
        self._rows: dict[str, Provisioned] = {}
        self.everybody = Everybody(revision=0, people={}, gone=frozenset())
        self.refresh()

    def refresh(self) -> None:
        """Take up what changed. Raises `StoreUnavailable`, and keeps what it has."""
        with self._lock:
            before = self.everybody.revision
            if self._revision() == before:
                return
            changed = self._since(before)
            self._rows |= {row.id: row for row in changed}
            revision = max((row.revision for row in changed), default=before)
            found = _everybody(revision, self._rows if self._users else {}, self._groups)
            self.everybody = msgspec.structs.replace(found, disabled=self._disabled())

    def _disabled(self) -> frozenset[IdentityId]:
        """By transmitters that are configured: who takes one out, takes back what it said."""
        said = (
            _decode_disabled(row.body)
            for row in self._rows.values()
            if row.kind == DISABLED and row.removed_at is None
        )
        return frozenset(each.identity for each in said if each.issuer in self._issuers)

    def knows(self, identity: IdentityId) -> bool:
        """Whether the provider ever told of somebody."""
        return identity in self.everybody.people or identity in self.everybody.gone


_decode_user = msgspec.json.Decoder(_User).decode
_decode_agent = msgspec.json.Decoder(_Agent).decode
_decode_disabled = msgspec.json.Decoder(Disabled).decode
_decode_group = msgspec.json.Decoder(_Group).decode


def _everybody(revision: int, rows: Mapping[str, Provisioned], counting: Mapping[str, str]) -> Everybody:
    names: dict[str, IdentityId] = {}  # ids of rows to identities
    gone: set[IdentityId] = set()
    there = [row for row in rows.values() if row.removed_at is None]
    for row in rows.values():
        try:
            identity = identity_of(row.kind, row.body)
        except Invalid:
            continue  # refused when it came; nobody can be meant by it
        if identity is None:
            continue
        if row.removed_at is None:
            names[row.id] = identity
        else:
            gone.add(identity)
    groups = _memberships({row.id: _decode_group(row.body) for row in there if row.kind == "Group"}, counting)
    owners: dict[str, list[str]] = {}
    people: dict[IdentityId, Provided] = {}
    for row in there:
        if row.id not in names:
            continue
        manager = None
        if row.kind == "User":
            user = _decode_user(row.body)
            name = user.display_name or (user.name.formatted if user.name else None) or ""
            above = user.enterprise.manager if user.enterprise else None
            manager = names.get(above.value or "") if above else None
            active = user.active is not False
        else:
            agent = _decode_agent(row.body)
            name, active = agent.display_name or "", agent.active is not False
            owners[row.id] = [_id_of(reference) for reference in agent.owners or ()]
        people[names[row.id]] = Provided(
            id=names[row.id],
            name=name,
            active=active,
            groups=groups.get(row.id, frozenset()),
            manager=manager,
        )
    for ident in owners:
        answers = tuple(names[each] for each in _reached(ident, owners) if each in names)
        people[names[ident]] = msgspec.structs.replace(people[names[ident]], owners=answers)
    return Everybody(revision=revision, people=people, gone=frozenset(gone - people.keys()))


def _memberships(groups: Mapping[str, _Group], counting: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Ids of members to the groups that count which they are in, also through others."""
    leads: dict[str, list[str]] = {}
    for ident, group in groups.items():
        for member in group.members or ():
            leads.setdefault(_id_of(member), []).append(ident)
    found: dict[str, frozenset[str]] = {}
    for start in leads:
        reached = (groups[each].display_name.casefold() for each in _reached(start, leads))
        found[start] = frozenset(counting[name] for name in reached if name in counting)
    return found


def _reached(start: str, leads: Mapping[str, list[str]]) -> list[str]:
    """Everything that one leads to, nearest first. A circle leads nowhere new."""
    found: dict[str, None] = {}
    waiting = list(leads.get(start, ()))
    while waiting:
        each = waiting.pop(0)
        if each not in found and each != start:
            found[each] = None
            waiting.extend(leads.get(each, ()))
    return list(found)


def _id_of(reference: _Reference) -> str:
    """A reference may have the id, or a URL that ends in it."""
    return reference.value or (reference.ref or "").rstrip("/").rpartition("/")[2]
