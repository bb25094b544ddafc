"""What was adopted, as adapters: policies, targets and people as they hold, whatever lies on disk (I9).

Each looks before it answers whether something was adopted since, so that every process goes by the same. What takes
something away needs no second person: whoever leaves a group or is deactivated is out at once, and a target that leaves
the configuration is gone. Only what gives more waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from muniment.core.identity import Identity, IdentityId, Role
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.core.verdict import Authority, Verdict
from muniment.policy.cedar import CedarPolicy
from muniment.policy.loading import SCHEMA
from muniment.ports import CatalogueEntry, Directory, Subject, Target
from muniment.service.standing import Adopted, Files

TARGETS, GROUPS = "targets.json", "groups.json"
#: roles that a person has only once two people have agreed to it
_GOVERNED_ROLES: tuple[Role, ...] = ("operator", "auditor")


@dataclass(frozen=True, kw_only=True)
class Governed:
    """That changes take two people here, what is configured on disk, and who may agree to it."""

    adopted: Adopted
    targets: Mapping[str, Target]  # as configured
    directory: Directory  # where people come from
    adopters: tuple[str, ...] = ()  # "group:NAME" or a person, besides operators

    def settings(self, policy: CedarPolicy) -> dict[str, str]:
        """Targets and groups as they lie on disk, for a policy set."""
        return settings_of(self.targets, self.directory, policy.approver_groups())


class AdoptedPolicy:
    """`ports.Policy`: the adopted set. Before anything was adopted, the one that lies on disk."""

    def __init__(self, adopted: Adopted, read: Callable[[], Files]) -> None:
        """Load what is in force. Raises `Misconfigured` when it cannot be used."""
        self._adopted, self._read = adopted, read
        self._known: tuple[str | None, CedarPolicy] | None = None
        self.set()

    def set(self) -> CedarPolicy:
        """The set in force. The schema is always that of this version: policies are what people agree to."""
        state = self._adopted.now()
        known = self._known
        if known is None or known[0] != state.policy:
            files = {n: t for n, t in (state.files or self._read()).items() if n != SCHEMA}
            known = self._known = (state.policy, CedarPolicy(files))
        return known[1]

    @property
    def digest(self) -> str:
        """Of the set in force."""
        return self.set().digest

    def files(self) -> Mapping[str, str]:
        """Of the set in force."""
        return self.set().files()

    def named_groups(self) -> frozenset[str]:
        """Of the set in force."""
        return self.set().named_groups()

    def judge_request(
        self, terms: Terms, requester: Subject, beneficiary: Subject, target: Target
    ) -> Verdict:
        """As `ports.Policy` says."""
        return self.set().judge_request(terms, requester, beneficiary, target)

    def judge_approver(
        self, ticket: Ticket, approver: Subject, requester: Subject, beneficiary: Subject, target: Target
    ) -> Authority:
        """As `ports.Policy` says."""
        return self.set().judge_approver(ticket, approver, requester, beneficiary, target)

    def forbids(  # noqa: PLR0917  as the port
        self,
        ticket: Ticket,
        delegate: Subject,
        requester: Subject,
        beneficiary: Subject,
        target: Target,
        stages: tuple[str, ...],
    ) -> tuple[str, ...]:
        """As `ports.Policy` says."""
        return self.set().forbids(ticket, delegate, requester, beneficiary, target, stages)


class AdoptedTargets(Mapping[str, Target]):
    """The configured targets, each described as it was adopted. One that was not adopted is not there."""

    def __init__(self, adopted: Adopted, configured: Mapping[str, Target]) -> None:
        """``configured`` has the connectors, and is what holds before anything was adopted."""
        self._adopted, self.configured = adopted, configured

    def __getitem__(self, name: str) -> Target:
        """The target as it holds. Raises KeyError for one that does not."""
        target, settings = self.configured[name], self._adopted.now().settings
        if settings is None:
            return target
        agreed = _parsed(settings[TARGETS])[name]
        if agreed["connector"] != target.kind:
            raise KeyError(name)
        return _as_adopted(target, agreed)

    def __iter__(self) -> Iterator[str]:
        """Those that hold."""
        return (name for name in self.configured if name in self)

    def __len__(self) -> int:
        """How many hold."""
        return sum(1 for _ in self)


class AdoptedDirectory:
    """`ports.Directory`: approver groups and operators have only members that two people have agreed to."""

    def __init__(self, adopted: Adopted, directory: Directory) -> None:
        """``directory`` is where people come from."""
        self._adopted, self.source = adopted, directory

    @property
    def version(self) -> str:
        """The source's own."""
        return self.source.version

    def reload_if_changed(self) -> bool:
        """As `ports.Directory` says."""
        return self.source.reload_if_changed()

    @property
    def stale(self) -> str:
        """As `ports.Directory` says."""
        return self.source.stale

    def get(self, identity: IdentityId) -> Identity | None:
        """As `ports.Directory` says."""
        found = self.source.get(identity)
        return found and self._held(found)

    def members(self, group: str) -> tuple[Identity, ...]:
        """As `ports.Directory` says."""
        held = (self._held(member) for member in self.source.members(group))
        return tuple(member for member in held if group in member.groups)

    def everybody(self) -> Iterable[Identity]:
        """As `ports.Directory` says."""
        return map(self._held, self.source.everybody())

    def _held(self, identity: Identity) -> Identity:
        settings = self._adopted.now().settings
        if settings is None:
            return identity
        agreed: dict[str, list[str]] = _parsed(settings[GROUPS])
        groups = tuple(g for g in identity.groups if identity.id in agreed.get(f"group:{g}", (identity.id,)))
        roles = tuple(
            r
            for r in identity.roles
            if r not in _GOVERNED_ROLES or identity.id in agreed.get(f"role:{r}", ())
        )
        if (groups, roles) == (identity.groups, identity.roles):
            return identity
        return replace(identity, groups=groups, roles=roles)


def settings_of(targets: Mapping[str, Target], directory: Directory, groups: Iterable[str]) -> dict[str, str]:
    """Targets, and the members of groups that approve, as texts to agree to.

    ``groups`` are those that policies name as approvers; owners of targets and privileges are added.
    """
    described = {name: _described(target) for name, target in sorted(targets.items())}
    governed = {f"group:{group}" for group in groups}
    for target in targets.values():
        named = (*target.owners, *(owner for entry in target.catalogue for owner in entry.owners))
        governed |= {owner for owner in named if owner.startswith("group:")}
    members: dict[str, list[str]] = {
        group: sorted(m.id for m in directory.members(group.removeprefix("group:"))) for group in governed
    }
    for role in _GOVERNED_ROLES:
        members[f"role:{role}"] = sorted(each.id for each in directory.everybody() if role in each.roles)
    return {TARGETS: _text(described), GROUPS: _text(members)}


def _described(target: Target) -> dict[str, Any]:
    """Everything about a target that decisions rest on. How it is reached is not in it: settings may name secrets."""
    return {
        "connector": target.kind,
        "environment": target.environment,
        "owners": list(target.owners),
        "longest": None if target.longest is None else int(target.longest.total_seconds()),
        "account": target.account_template,
        "accounts": dict(target.accounts),
        "privileges": [msgspec.to_builtins(entry) for entry in target.catalogue],
    }


def _as_adopted(target: Target, agreed: Mapping[str, Any]) -> Target:
    if agreed == _described(target):
        return target
    return replace(
        target, environment=agreed["environment"], owners=tuple(agreed["owners"]), accounts=agreed["accounts"],
        longest=None if agreed["longest"] is None else timedelta(seconds=agreed["longest"]),
        account_template=agreed["account"],
        catalogue=msgspec.convert(agreed["privileges"], tuple[CatalogueEntry, ...]),
    )  # fmt: skip


@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    """Read-only: it is shared."""
    return json.loads(text)


def _text(content: Any) -> str:
    """One line an item, so that a difference can be read."""
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
