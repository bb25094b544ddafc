"""OpenBao (and Vault): membership of an entity in an identity group, which carries policies.

What follows what, for a batch of orders:

1. sign in, look entities and groups up by name, take the lock and a token that lives for five seconds (`openbao_session`)
2. ``confirm``: the work is still ours
3. group by group: read, replace the list of members, read back. A crash between two leaves some done and others not;
   the caller reads back

Fencing (I19). Only the short token changes groups, so a worker that was paused between 2 and 3 is refused by the server.

OpenBao replaces the whole list and compares nothing. The lock keeps our own workers apart; of somebody else, who changes
the same group in the millisecond between our reading and our writing, the group's own count of changes tells, and the
outcome is then "unknown", with ``target.lost-update``: their change may be lost.

A policy that comes by a group is looked up at each request, so that a token that is there gains and loses it at once.
What was issued under it, such as a database's credential, lives until its own lease ends.

Who put somebody into a group OpenBao does not say: what somebody else gave as well goes with ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from muniment.connectors.answering import fault, no, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.openbao_check import LEAST_PRIVILEGE, report
from muniment.connectors.openbao_session import Bao, Group, Session
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.inventory import Nested
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.core.text import clean_name
from muniment.outbound import Http, private_base
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_LARGEST = 32 * 1024 * 1024  # bytes of an answer: a list of all entities
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*", re.ASCII)
_TRIES = 3


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # `https://HOST:8200`; `http://` only on this machine.
    role_id: str = ""  # Whom we are there: an AppRole, with `secret_id`.
    secret_id: Secret | None = None  # Reference to the AppRole's secret.
    approle: str = "approle"  # Path of the AppRole method.
    token: Secret | None = None  # In place of an AppRole: reference to a token that somebody else renews.
    namespace: str = ""  # The namespace in which groups and entities are.
    #: A secret in a KV engine of version 2, by which our workers keep out of each other's way.
    lock: str = "muniment/lock"
    ca: Path | None = None  # PEM file of the authority that its certificate leads to. Default: the system's.
    timeout: str = "10s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    made = OpenBao(reach(name, settings), catalogue=[each.privilege for each in catalogue])
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


def reach(name: str, settings: Any) -> Bao:
    """Where it is, and how we sign in there: of what both connectors of OpenBao have among their settings."""
    if (settings.token is None) is (not settings.role_id):
        raise Misconfigured(
            "either a token or an AppRole signs us in", remedy="Write role_id and secret_id, or token."
        )
    engine, _, path = settings.lock.partition("/")
    for what, value in (
        ("approle", settings.approle),
        ("lock", settings.lock),
        ("namespace", settings.namespace),
    ):
        if (value or what != "namespace") and not _PATH.fullmatch(value.removesuffix("/")):
            raise Misconfigured(
                f"{what} is no path in OpenBao", remedy="Letters, digits, _, - and / make one."
            )
    if not path:
        raise Misconfigured("lock names no secret", remedy="Write it like muniment/lock: engine, then path.")
    timeout = parse_duration(settings.timeout) / timedelta(seconds=1)
    return Bao(
        name=name, base=private_base(settings.url, f"{name}'s", setting="url"), timeout=timeout,
        http=Http(ca=settings.ca, timeout=timeout, largest=_LARGEST), namespace=settings.namespace, lock=(engine, path),
        token=settings.token, approle=settings.approle, role_id=settings.role_id, secret_id=settings.secret_id,
    )  # fmt: skip


class OpenBao:
    """See `muniment.ports.Connector`; an account is an entity's name, a privilege an internal group's.

    `observe` shows what a group lists itself, of groups of any type. `brings` says which groups a group is in, and the
    policies of all of them: as a privilege ``policy`` whose resource is the policy's name.
    """

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=True,  # at the next request of any token
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
        effective_scope=True,
    )

    def __init__(self, bao: Bao, *, catalogue: Sequence[str] = ()) -> None:
        """Signs in at each call."""
        self._bao, self._catalogue = bao, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. Names go into no path, so that OpenBao takes any."""
        del key
        for what, name in (("the account", account), *(("the group", item.privilege) for item in scope)):
            clean_name(name, what)
        if any(item.resource is not None for item in scope):
            raise Invalid("a group has no resource", remedy="Ask for the group alone.")

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            with self._bao.session() as session:
                return report(session, self._bao, self._catalogue)
        except TargetUnavailable as error:
            return unreachable(error)

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`."""
        wanted = None if accounts is None else sorted({a for a in accounts if fault(self, a, ()) is None})
        if wanted is not None and not wanted:
            return Observation(holdings=())
        with self._bao.session() as session:
            if wanted is None:
                called = session.names("entity")
                numbers = list(session.names("group"))
            else:
                entities = [found for name in wanted if (found := session.entity(name))]
                called = {entity.id: entity.name for entity in entities}
                numbers = [number for entity in entities for number in entity.direct_group_ids or ()]
            groups = [group for number in dict.fromkeys(numbers) if (group := session.group(number))]
        return Observation(
            holdings=tuple(
                Holding(account=account, privilege=name)
                for account, name in sorted(
                    (called[member], group.name)
                    for group in groups
                    for member in group.members
                    if member in called
                )
            )
        )

    def nested(self) -> tuple[Nested, ...]:
        """See `Nesting`: groups that are in groups."""
        with self._bao.session() as session:
            groups = {number: group for number in session.names("group") if (group := session.group(number))}
        return tuple(
            Nested(inner=group.name, outer=Privilege(privilege=groups[number].name))
            for group in groups.values()
            for number in group.parent_group_ids or ()
            if number in groups
        )

    def brings(self, wanted: Scope) -> Scope:
        """What else who is in these groups has: the groups that they are in, and the policies of all."""
        names = {item.privilege for item in wanted}
        with self._bao.session() as session:
            ahead = [group for name in sorted(names) if (group := session.group_named(name))]
            seen = {group.id: group for group in ahead}
            while ahead:
                for number in ahead.pop().parent_group_ids or ():
                    if number not in seen and (above := session.group(number)):
                        seen[number] = above
                        ahead.append(above)
        policies = {policy for group in seen.values() for policy in group.policies or ()}
        return scope(
            [
                *(Privilege(privilege=group.name) for group in seen.values() if group.name not in names),
                *(Privilege(privilege="policy", resource=policy) for policy in policies),
            ]
        )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        with self._bao.session() as session:
            known = _Known(session, [o for o in orders if fault(self, o.account, o.scope) is None])
            answers = {at: why for at, order in enumerate(orders) if (why := self._impossible(order, known))}
            wanted = {at: order for at, order in enumerate(orders) if at not in answers}
            answers |= self._change(session, wanted, known, confirm, give=True)
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. What is not there any more is nobody's."""
        if not orders:
            return []
        with self._bao.session() as session:
            possible = {at: o for at, o in enumerate(orders) if fault(self, o.account, o.scope) is None}
            known = _Known(session, list(possible.values()))
            answers = self._change(session, possible, known, confirm, give=False)
        return [answers.get(at) or Outcome(ticket=o.ticket, result="done") for at, o in enumerate(orders)]

    def _change(
        self, session: Session, orders: Mapping[int, Order], known: _Known, confirm: Callable[[], None], *, give: bool
    ) -> dict[int, Outcome]:  # fmt: skip
        changes: dict[str, dict[str, list[int]]] = {}
        for at, order in orders.items():
            for item in order.scope:
                group, entity = known.groups.get(item.privilege), known.entities.get(order.account)
                if group and entity:
                    changes.setdefault(item.privilege, {}).setdefault(entity, []).append(at)
        answers = {at: Outcome(ticket=order.ticket, result="done") for at, order in orders.items()}
        with session.locked() as fence:
            session.confirmed(confirm)
            for name, members in sorted(changes.items()):
                failed = self._members(session, fence, known.groups[name], set(members), give=give)
                for at in (at for ats in members.values() for at in ats):
                    if failed is not None:
                        answers[at] = msgspec.structs.replace(failed, ticket=orders[at].ticket)
        return answers

    def _members(
        self, session: Session, fence: str, group: Group, people: set[str], *, give: bool
    ) -> Outcome | None:
        """Change one group; None if it is as ordered, and nothing of anybody else's can have been lost."""
        for _ in range(_TRIES):
            now = session.group(group.id, token=fence)
            if now is None or now.name != group.name:
                return (
                    _of_group("no-such-privilege", f"there is no group {group.name} any more")
                    if give
                    else None
                )
            kept = tuple(member for member in now.members if member not in people)
            members = (*now.members, *sorted(people - set(now.members))) if give else kept
            if members == now.members:
                return None
            status = session.put_members(now, members, fence=fence)
            if status not in {200, 204}:
                session.require(fence)
                return _refused(status, group.name)
            after = session.group(group.id, token=fence)
            there = set(after.members) if after else set()
            if people <= there if give else not people & there:
                if after and after.modify_index != now.modify_index + 1 and there == set(members):
                    break
                return None
        return Outcome(
            ticket="", result="unknown", code="target.lost-update",
            message=f"somebody else changed {group.name} at the same moment, and a change may be lost",
        )  # fmt: skip

    def _impossible(self, order: Order, known: _Known) -> Outcome | None:
        """Why an order cannot be carried out, as far as can be seen beforehand."""
        if why := fault(self, order.account, order.scope):
            return no(order, "bad-name", why)
        name = self._bao.name
        if order.account not in known.entities:
            return no(order, "no-such-account", f"{name} has no entity {order.account}")
        for item in order.scope:
            group = known.groups.get(item.privilege)
            if group is None:
                return no(order, "no-such-privilege", f"{name} has no group {item.privilege}")
            if group.type != "internal":
                return no(
                    order, "not-allowed", f"who is in {item.privilege} is decided elsewhere: it is {group.type}"
                )  # fmt: skip
        return None


class _Known:
    """Entities' ids and groups, by the names that orders have."""

    def __init__(self, session: Session, orders: Sequence[Order]) -> None:
        names = {order.account for order in orders}
        privileges = {item.privilege for order in orders for item in order.scope}
        self.entities = {name: entity.id for name in sorted(names) if (entity := session.entity(name))}
        self.groups = {name: group for name in sorted(privileges) if (group := session.group_named(name))}


def _refused(status: int, name: str) -> Outcome:
    if status == 403:
        return _of_group("not-allowed", f"our token may not change who is in {name}")
    return _of_group("rejected", f"OpenBao answered {status} for {name}")


def _of_group(code: str, message: str) -> Outcome:
    """A no to all orders for a group, whichever they are."""
    return Outcome(ticket="", result="rejected", code=f"target.{code}", message=message)


KIND = Kind(
    summary="a privilege is an identity group that the entity is a member of, with the policies it carries",
    settings=Settings,
    build=build,
    capabilities=OpenBao.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
