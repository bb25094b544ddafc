"""What was adopted, as adapters: policies, targets and people as they hold, whatever lies on disk (I9).

Each looks before it answers whether something was adopted since, so that every process goes by the same. What takes
something away needs no second person: whoever leaves a group or is deactivated is out at once, and a target that leaves
the configuration is gone. Only what gives more waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from muniment.core.errors import MunimentError, TargetUnavailable
from muniment.core.identity import Identity, IdentityId, Role
from muniment.core.scope import Scope
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.core.verdict import Authority, Verdict
from muniment.policy.cedar import CedarPolicy
from muniment.policy.loading import SCHEMA
from muniment.ports import (
    Capabilities,
    CatalogueEntry,
    CheckReport,
    Connector,
    Directory,
    Observation,
    Order,
    Outcome,
    Subject,
    Target,
)
from muniment.reconcile.baseline import parse
from muniment.service.standing import Adopted, Files
from muniment.settings.plaintext import require_no_plaintext

TARGETS, GROUPS, BASELINE = "targets.json", "groups.json", "baseline.toml"
#: among the groups: who may agree to changes, besides operators
ADOPTERS = "policy:approvers"
#: roles that a person has only once two people have agreed to it
_GOVERNED_ROLES: tuple[Role, ...] = ("operator", "auditor")


@dataclass(frozen=True, kw_only=True)
class Governed:
    """That changes take two people here, what is configured on disk, and who may agree to it."""

    adopted: Adopted
    targets: Mapping[str, Target]  # as configured
    directory: Directory  # where people come from
    adopters: tuple[str, ...] = ()  # as configured: "group:NAME" or a person, besides operators
    baseline: Callable[[], str] | None = None  # as it lies on disk; None: there is none

    def approvers(self) -> tuple[str, ...]:
        """Who may agree to a change, besides operators. Who is new among them waits for two people, too."""
        settings = self.adopted.now().settings
        agreed = None if settings is None else _parsed(settings[GROUPS]).get(ADOPTERS)
        return tuple(each for each in self.adopters if agreed is None or each in agreed)

    def settings(self, policy: CedarPolicy) -> dict[str, str]:
        """Targets and groups as they lie on disk, for a policy set."""
        found = settings_of(self.targets, self.directory, policy.approver_groups(), self.adopters)
        if self.baseline is not None:
            text = self.baseline()
            parse(text)  # what cannot be used is not proposed
            found[BASELINE] = text
        return found

    def declared(self) -> str:
        """The baseline in force. Before anything was adopted, what lies on disk; later, nothing that nobody agreed to."""
        settings = self.adopted.now().settings
        if settings is None:
            return self.baseline() if self.baseline else ""
        return settings.get(BASELINE, "")


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
    """The configured targets, each described and reached as it was adopted. One that was not adopted is not there."""

    def __init__(
        self,
        adopted: Adopted,
        configured: Mapping[str, Target],
        build: Callable[[Target, Mapping[str, Any]], Connector],
    ) -> None:
        """``configured`` is what holds before anything was adopted; ``build`` makes a connector of other settings."""
        self._adopted, self.configured, self._build = adopted, configured, build
        self._built: dict[str, tuple[Mapping[str, Any], Connector]] = {}
        #: by which settings, and what was made of them: whoever lists targets asks for each many times
        self._held: tuple[Mapping[str, str] | None, dict[str, Target]] = (None, {})

    def __getitem__(self, name: str) -> Target:
        """The target as it holds. Raises KeyError for one that does not."""
        target, settings = self.configured[name], self._adopted.now().settings
        if settings is None:
            return target
        by, held = self._held
        if by is not settings:  # the same object as long as nothing was adopted
            held = {}
            self._held = settings, held
        if name not in held:
            agreed = _parsed(settings[TARGETS])[name]
            if agreed["connector"] != target.kind:
                raise KeyError(name)
            held[name] = _as_adopted(target, agreed, self._connector(target, agreed))
        return held[name]

    def __iter__(self) -> Iterator[str]:
        """Those that hold."""
        return (name for name in self.configured if name in self)

    def __len__(self) -> int:
        """How many hold."""
        return sum(1 for _ in self)

    def _connector(self, target: Target, agreed: Mapping[str, Any]) -> Connector:
        """The configured one, or one with the settings that two people agreed to."""
        settings = agreed.get("settings")
        configured: Connector = target.connector
        if (
            settings is None or settings == target.settings
        ):  # None: adopted by a version that did not record them
            return configured
        known = self._built.get(target.id)
        if known is None or known[0] != settings:
            try:
                made = self._build(target, settings)
            except MunimentError as error:
                made = Unusable(configured.capabilities, f"{error.message} {error.remedy or ''}".strip())
            known = self._built[target.id] = settings, made
        return known[1]


class Unusable:
    """`ports.Connector` with adopted settings that cannot be used here: its target is down, and holds up no other."""

    def __init__(self, capabilities: Capabilities, why: str) -> None:
        """``why`` is a sentence, with what to do."""
        self.capabilities, self._why = capabilities, why

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """As `ports.Connector` says."""
        del account, scope, key
        raise self._down()

    def check(self) -> CheckReport:
        """As `ports.Connector` says."""
        return CheckReport(reachable=False, details=(), problems=(self._down().message,))

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """As `ports.Connector` says."""
        del accounts
        raise self._down()

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """As `ports.Connector` says."""
        del orders, confirm
        raise self._down()

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """As `ports.Connector` says."""
        del orders, confirm
        raise self._down()

    def _down(self) -> TargetUnavailable:
        return TargetUnavailable(
            f"the settings that were adopted cannot be used here: {self._why}",
            remedy="Have others adopted, or mend what they refer to.",
        )


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


def settings_of(
    targets: Mapping[str, Target], directory: Directory, groups: Iterable[str], adopters: Iterable[str] = ()
) -> dict[str, str]:
    """Targets, and the members of groups that approve, as texts to agree to.

    ``groups`` are those that policies name as approvers; owners of targets and privileges, and ``adopters``, who agree
    to changes like this one, are added.

    Raises:
        Misconfigured: a secret itself stands in a target's settings. What is agreed to is in the ledger for ever.
    """
    for name, target in targets.items():
        require_no_plaintext(target.settings, f"target {name}:")
    described = {name: _described(target) for name, target in sorted(targets.items())}
    governed = {f"group:{group}" for group in groups} | {a for a in adopters if a.startswith("group:")}
    for target in targets.values():
        named = (*target.owners, *(owner for entry in target.catalogue for owner in entry.owners))
        governed |= {owner for owner in named if owner.startswith("group:")}
    members: dict[str, list[str]] = {
        group: sorted(m.id for m in directory.members(group.removeprefix("group:"))) for group in governed
    }
    members[ADOPTERS] = sorted(adopters)
    for role in _GOVERNED_ROLES:
        members[f"role:{role}"] = sorted(each.id for each in directory.everybody() if role in each.roles)
    return {TARGETS: _text(described), GROUPS: _text(members)}


def _described(target: Target) -> dict[str, Any]:
    """Everything about a target that decisions rest on, and where it is. Secrets are in it by reference alone."""
    return {
        "connector": target.kind,
        "environment": target.environment,
        "owners": list(target.owners),
        "longest": None if target.longest is None else int(target.longest.total_seconds()),
        "account": target.account_template,
        "accounts": dict(target.accounts),
        "privileges": [msgspec.to_builtins(entry) for entry in target.catalogue],
        "settings": msgspec.to_builtins(dict(target.settings)),
        # not there where there is none, as in what was adopted before there was such a thing
        **({"usage": msgspec.to_builtins(dict(target.usage))} if target.usage else {}),
    }


def _as_adopted(target: Target, agreed: Mapping[str, Any], connector: Connector) -> Target:
    if agreed == _described(target):
        return target
    return replace(
        target, environment=agreed["environment"], owners=tuple(agreed["owners"]), accounts=agreed["accounts"],
        longest=None if agreed["longest"] is None else timedelta(seconds=agreed["longest"]),
        account_template=agreed["account"],
        catalogue=msgspec.convert(agreed["privileges"], tuple[CatalogueEntry, ...]),
        connector=connector, settings=agreed.get("settings", target.settings), usage=agreed.get("usage", {}),
    )  # fmt: skip


@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    """Read-only: it is shared."""
    return json.loads(text)


def _text(content: Any) -> str:
    """One line an item, so that a difference can be read."""
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
