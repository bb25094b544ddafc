"""Groups of any service that speaks SCIM 2.0 (RFC 7643, RFC 7644). A grant is a member of a group.

What follows what, for a batch of orders:

1. look accounts and groups up by name, exactly as it is written, with the groups' versions
2. ``confirm``: the work is still ours
3. one PATCH a group, with all its members. A crash between two groups leaves some orders done and others not, and the
   caller reads back

Fencing (I19). Where a group has a version (an entity tag), the PATCH names the one that was read before ``confirm``: a
worker that was paused meanwhile is refused by the service as soon as anybody changed the group. Where it has none, a
worker that was paused between 2 and 3 for more than ``PAUSE`` finds out and changes nothing; one that is paused between
that look and the PATCH can still change the group afterwards, once, and reconciliation finds it.

A person who was renamed there meanwhile is found by the id that the order carries since provisioning. If a crash lost it,
the old name finds nobody, and reconciliation shows the membership under the new name.

Who gave a membership no service says: what somebody else gave as well goes with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from muniment.connectors.answering import fault, no, unreachable
from muniment.connectors.bearer import Bearer, reach
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.scim_session import (
    Group,
    Session,
    User,
    equals,
    is_not_there,
    scim_type,
)
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.core.text import clean_name
from muniment.outbound import Answer
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_MEMBERS = 500  # people in one PATCH
_FILTERS = 50
_AGAIN = 0.02  # seconds until a group is read again that somebody else was faster to change
_NOBODY = str(UUID(int=0))

LEAST_PRIVILEGE = """\
# A token of its own for Muniment, with no more scopes than the service has for
#   reading users, reading groups, changing who is in a group
# SCIM has no rights of its own: what such a token may do besides is the service's to say. If it may change accounts as
# well, `muniment check` says so.
# Of another Muniment, for example, it is
muniment token create --identity service_account:muniment --scope scim --expires 90d
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # Base of SCIM: `https://HOST/scim/v2`; `http://` only on this machine.
    token: Secret  # Reference to a bearer token.
    account_attribute: Literal["userName", "externalId"] = "userName"  # What an account is called by.
    group_attribute: Literal["displayName", "externalId"] = "displayName"  # What a privilege is called by.
    #: `filter` asks for groups by `members.value`; `groups` reads all groups with their members, for a service that does
    #: not know that filter.
    memberships: Literal["filter", "groups"] = "filter"
    filters: int = 1  # Comparisons in one filter, joined by `or`, where many names are looked up.
    #: How a member is taken out: `path` names it in a filter, as RFC 7644 does; `value` names it beside the path, as
    #: Entra ID does. A service that keeps to the RFC takes `value` for an order to remove everybody.
    remove: Literal["path", "value"] = "path"
    etags: bool = True  # Name a group's version when changing it, if it has one.
    ca: Path | None = None  # PEM file of the authority that its certificate leads to. Default: the system's.
    timeout: str = "20s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    if not 1 <= settings.filters <= _FILTERS:
        raise Misconfigured(f"filters is {settings.filters}", remedy=f"Write a number from 1 to {_FILTERS}.")
    made = Scim(reach(name, settings), settings, catalogue=[each.privilege for each in catalogue])
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class Scim:
    """See `muniment.ports.Connector`; an account is a user, a privilege a group, each by the attribute that is configured.

    `observe` shows what a group lists itself. `brings` says which groups a group is in, and who is in it is in, too.
    """

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=False,
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
        effective_scope=True,
    )

    def __init__(self, service: Bearer, settings: Settings, *, catalogue: Sequence[str] = ()) -> None:
        """Connects at each call."""
        self._service, self._settings, self._catalogue = service, settings, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. Names go into filters as JSON, and into no path."""
        del key
        for what, name in (("the account", account), *(("the group", item.privilege) for item in scope)):
            clean_name(name, what)
        if any(item.resource is not None for item in scope):
            raise Invalid("a group has no resource", remedy="Ask for the group alone.")

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            session = Session(self._service)
            can = session.abilities()
            groups = self._groups(session, self._catalogue)
            problems = [
                *self._about_groups(groups),
                *self._about_asking(session, [found[0] for found in groups.values() if found]),
            ]
            if can is not None and not can.patch.supported:
                problems.append("The service says that it knows no PATCH, so nothing can be changed.")
            if session.may_change_people(_NOBODY):
                problems.append(
                    "Our token may change accounts as well, which is more than it needs: look for narrower scopes there."
                )
            versioned = self._settings.etags and any(
                group.meta and group.meta.version for found in groups.values() for group in found
            )
        except TargetUnavailable as error:
            return unreachable(error)
        fence = (
            "Groups have versions: who comes late with a change is refused."
            if versioned
            else "Groups have no versions that we use: a worker that is held up at the wrong moment may come late."
        )
        return CheckReport(
            reachable=True,
            details=(
                "The service answers like SCIM 2.0.",
                f"{sum(map(bool, groups.values()))} of {len(groups)} groups in the catalogue exist.",
                fence,
                "Sessions that somebody has at the service it does not end: see how long it lets them live.",
            ),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. A member that is no user known there is shown by its id."""
        wanted = None if accounts is None else sorted({a for a in accounts if fault(self, a, ()) is None})
        if wanted is not None and not wanted:
            return Observation(holdings=())
        session = Session(self._service)
        if wanted is None:
            called = {user.id: self._name(user) or user.id for user in session.users()}
            groups = session.groups()
            inner = {group.id for group in groups}
            called |= {i: i for group in groups for i in group.ids if i not in called and i not in inner}
        else:
            found = self._users(session, wanted)
            called = {user.id: name for name, users in found.items() for user in users}
            groups = self._containing(session, called)
        held = {
            (called[member], name)
            for group in groups
            for member in group.ids & called.keys()
            if (name := self._group_name(group))
        }
        return Observation(holdings=tuple(Holding(account=a, privilege=p) for a, p in sorted(held)))

    def brings(self, wanted: Scope) -> Scope:
        """What else who is in these groups is in: the groups that they are in themselves, as the service is now."""
        names = {item.privilege for item in wanted}
        session = Session(self._service)
        ahead = {group.id for found in self._groups(session, names).values() for group in found}
        seen: dict[str, str | None] = dict.fromkeys(ahead)
        while ahead:
            above = {group.id: self._group_name(group) for group in self._containing(session, ahead)}
            ahead = above.keys() - seen.keys()
            seen |= above
        return scope(Privilege(privilege=name) for name in seen.values() if name and name not in names)

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        session = Session(self._service)
        known = self._lookup(session, orders)
        answers = {at: why for at, order in enumerate(orders) if (why := self._impossible(order, known))}
        wanted = {at: order for at, order in enumerate(orders) if at not in answers}
        session.confirmed(confirm)
        answers |= self._change(session, wanted, known, give=True)
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. What is not there any more is nobody's."""
        if not orders:
            return []
        session = Session(self._service)
        possible = {at: o for at, o in enumerate(orders) if fault(self, o.account, o.scope) is None}
        known = self._lookup(session, possible.values())
        session.confirmed(confirm)
        answers = self._change(session, possible, known, give=False)
        return [answers.get(at) or Outcome(ticket=o.ticket, result="done") for at, o in enumerate(orders)]

    def _change(
        self, session: Session, orders: Mapping[int, Order], known: _Known, *, give: bool
    ) -> dict[int, Outcome]:
        """Group by group: all who come or go at once, and one by one where the service says no."""
        changes: dict[str, dict[str, list[int]]] = {}
        groups: dict[str, Group] = {}
        for at, order in orders.items():
            people = {user.id for user in known.people.get(order.account, ())}
            people |= set() if give else {order.handle["user"]} if "user" in order.handle else set()
            for item in order.scope:
                for group in known.groups.get(item.privilege, ()):
                    groups[group.id] = group
                    for person in sorted(people):
                        changes.setdefault(group.id, {}).setdefault(person, []).append(at)
        answers = {
            at: Outcome(ticket=order.ticket, result="done", handle=known.handle(order) if give else {})
            for at, order in orders.items()
        }
        for number, members in sorted(changes.items()):
            for chunk in _chunks(list(members), _MEMBERS):
                for person, (code, words) in self._members(session, groups[number], chunk, give=give).items():
                    for at in members[person]:
                        answers[at] = no(orders[at], code, words)
        return answers

    def _members(
        self, session: Session, group: Group, people: Sequence[str], *, give: bool
    ) -> dict[str, tuple[str, str]]:
        """Change one group; who could not be served, with a code and a sentence."""
        name = self._group_name(group)
        answer = self._patch(session, group, people, give=give)
        if answer is None or answer.status in {200, 204}:
            return {}
        if is_not_there(answer):
            gone = ("no-such-privilege", f"there is no group {name} any more")
            return dict.fromkeys(people, gone) if give else {}
        if answer.status == 403:
            return dict.fromkeys(people, ("not-allowed", f"our token may not change who is in {name}"))
        now = session.group(group.id) or _bare(group)
        missing = [person for person in people if (person in now.ids) is not give]
        if len(people) > 1:
            alone = (
                self._members(session, session.group(group.id) or now, (each,), give=give) for each in missing
            )
            return {person: why for refused in alone for person, why in refused.items()}
        # some services say no to what is so already
        return {
            each: ("rejected", f"the service answered {scim_type(answer)} for {name}") for each in missing
        }

    def _patch(self, session: Session, group: Group, people: Sequence[str], *, give: bool) -> Answer | None:
        """What the service says to the group as it is now; None of one to be taken from that is gone."""
        now: Group | None = group
        while now is not None:
            answer = session.change(
                now if self._settings.etags else _bare(now), self._operations(people, give=give)
            )
            if answer.status != 412:
                return answer
            before, now = now, session.group(group.id)
            if now is not None and now.meta == before.meta:
                raise TargetUnavailable(
                    f"{self._service.name} refuses the version that it gave for {self._group_name(group)}",
                    remedy="Set etags = false for this target.",
                )
            session.pause(_AGAIN)
        return session.change(_bare(group), self._operations(people, give=give)) if give else None

    def _operations(self, people: Sequence[str], *, give: bool) -> list[dict[str, object]]:
        values = [{"value": person} for person in people]
        if give:
            return [{"op": "add", "path": "members", "value": values}]
        if self._settings.remove == "value":
            return [{"op": "remove", "path": "members", "value": values}]
        return [{"op": "remove", "path": f"members[{equals('value', person)}]"} for person in people]

    def _impossible(self, order: Order, known: _Known) -> Outcome | None:
        """Why an order cannot be carried out, as far as can be seen beforehand."""
        if why := fault(self, order.account, order.scope):
            return no(order, "bad-name", why)
        name, users = self._service.name, known.people.get(order.account, ())
        if len(users) != 1:
            return no(order, "no-such-account", f"{name} has no user {order.account}, or several")
        if not users[0].is_active:
            return no(order, "no-such-account", f"{name} has {order.account} as not active")
        for item in order.scope:
            if len(known.groups.get(item.privilege, ())) != 1:
                return no(order, "no-such-privilege", f"{name} has no group {item.privilege}, or several")
        return None

    def _lookup(self, session: Session, orders: Iterable[Order]) -> _Known:
        sound = [order for order in orders if fault(self, order.account, order.scope) is None]
        return _Known(
            people=self._users(session, {order.account for order in sound}),
            groups=self._groups(session, {item.privilege for order in sound for item in order.scope}),
        )

    def _users(self, session: Session, names: Iterable[str]) -> dict[str, list[User]]:
        found: dict[str, list[User]] = {name: [] for name in sorted(names)}
        for condition in self._conditions(self._settings.account_attribute, found):
            for user in session.users(condition):
                if (
                    name := self._name(user)
                ) in found:  # letters are told apart by case, which most services do not do
                    found[name].append(user)
        return found

    def _groups(self, session: Session, names: Iterable[str]) -> dict[str, list[Group]]:
        found: dict[str, list[Group]] = {name: [] for name in sorted(set(names))}
        for condition in self._conditions(self._settings.group_attribute, found):
            for group in session.groups(condition, members=False):
                if (name := self._group_name(group)) in found:
                    found[name].append(group)
        return found

    def _containing(self, session: Session, numbers: Collection[str]) -> list[Group]:
        """Groups that list one of these users or groups. What a service gives beside them does not count."""
        if self._settings.memberships == "groups":
            found = {group.id: group for group in session.groups()} if numbers else {}
        else:
            found = {
                group.id: group
                for condition in self._conditions("members.value", sorted(numbers))
                for group in session.groups(condition)
            }
        found |= {number: _shown(session, group) for number, group in found.items() if group.members is None}
        return [group for group in found.values() if group.ids & set(numbers)]

    def _conditions(self, attribute: str, values: Iterable[str]) -> Iterator[str]:
        for chunk in _chunks(list(values), self._settings.filters):
            yield " or ".join(equals(attribute, value) for value in chunk)

    def _name(self, user: User) -> str | None:
        return user.user_name if self._settings.account_attribute == "userName" else user.external_id

    def _group_name(self, group: Group) -> str | None:
        return group.display_name if self._settings.group_attribute == "displayName" else group.external_id

    def _about_groups(self, groups: Mapping[str, list[Group]]) -> Iterator[str]:
        for name, found in groups.items():
            if len(found) != 1:
                yield f"There is no group {name}, which is in the catalogue, or there are several."

    def _about_asking(self, session: Session, groups: Sequence[Group]) -> Iterator[str]:
        """Whether the service finds by a filter what is there, and nothing else: absence is believed of it."""
        if self._settings.memberships == "filter":
            shown = (_shown(session, group) for group in groups)
            pair = next(((g, m) for g in shown for m in sorted(g.ids)), None)
            try:
                if session.groups(equals("members.value", _NOBODY)) or (
                    pair and pair[0].id not in {g.id for g in self._containing(session, {pair[1]})}
                ):
                    yield 'Groups are not found by who is in them: set memberships = "groups".'
            except TargetUnavailable as error:
                yield f'Groups cannot be asked for by who is in them: {error.message}. Set memberships = "groups".'
        if self._settings.filters > 1:
            some = session.some_users(self._settings.filters)
            names = [name for user in some if (name := self._name(user))]
            if not all(self._users(session, names).values()):
                yield "Several names in one filter are not all found: set filters = 1."


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What orders name. A name that several have is nobody's."""

    people: Mapping[str, list[User]]
    groups: Mapping[str, list[Group]]

    def handle(self, order: Order) -> dict[str, str]:
        """Who it is, should they be called otherwise by the end."""
        return {"user": self.people[order.account][0].id}


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _bare(group: Group) -> Group:
    return msgspec.structs.replace(group, meta=None)


def _shown(session: Session, group: Group) -> Group:
    """With its members. Who is not shown any is told so by the caller's reading none."""
    return session.group(group.id) or group


KIND = Kind(
    summary="a privilege is a group of a SCIM service that the user is a member of",
    settings=Settings,
    build=build,
    capabilities=Scim.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
