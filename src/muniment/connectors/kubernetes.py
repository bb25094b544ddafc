"""Kubernetes: a RoleBinding or ClusterRoleBinding for each ticket, with the ticket's id and its end on it.

A privilege is ``clusterrole/NAME`` or ``role/NAME``, its resource the namespace; a cluster role without one is given
everywhere. What follows what, for a batch of orders:

1. look roles up, and make each binding **without anybody in it**: the API server says here whether we may give that role
2. ``confirm``: the work is still ours
3. binding by binding: put the account in, on condition that nothing of it changed since 1. A crash between leaves empty
   bindings, which give nothing, and which revoking deletes

Fencing (I19). A worker that was paused between 2 and 3 finds its binding gone or changed once somebody else has revoked
the ticket, and the API server refuses. A binding is deleted by its uid, so who comes late deletes no other.

The name of a binding follows from the ticket and what is given, so that repeating makes no second. Kubernetes ends none by
itself: the end stands there for people to read.

It knows no users either: a binding for a name that nobody has gives nothing to nobody, and is made all the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from muniment.connectors.answering import fault, no, unreachable
from muniment.connectors.bearer import Bearer, reach
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.kubernetes_rights import GROUP, Rule, rule, setup
from muniment.connectors.kubernetes_session import (
    ACCOUNT,
    EXPIRES,
    MANAGED,
    TICKET,
    Meta,
    Object,
    Session,
    is_escalation,
    is_reason,
    segment,
)
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.instants import wire
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.core.text import clean_name
from muniment.outbound import Answer
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_API = f"apis/{GROUP}/v1"
_KINDS = {"clusterrole": "ClusterRole", "role": "Role"}
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_TICKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", re.ASCII)  # a label's value
_GROUPS = "Group/"  # before a group's name, where it is shown as an account
_NOBODY = "muniment-check"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # `https://HOST:6443`; `http://` only on this machine.
    token: Secret  # Reference to the token of our service account. It is read at each call, so it may be renewed.
    ca: Path | None = None  # PEM file of the cluster's authority. Default: the system's.
    timeout: str = "10s"  # For each call in all.


class _Ref(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    kind: str
    name: str


class _Subject(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    kind: str
    name: str
    namespace: str | None = None

    @property
    def account(self) -> str:
        """A service account by the name that it has as a user; a group by a name that no account of ours can have."""
        if self.kind == "ServiceAccount":
            return f"system:serviceaccount:{self.namespace}:{self.name}"
        return f"{_GROUPS}{self.name}" if self.kind == "Group" else self.name


class Binding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As the API server shows it."""

    metadata: Meta
    role_ref: _Ref
    subjects: tuple[_Subject, ...] | None = None

    @property
    def accounts(self) -> frozenset[str]:
        """Who is in it."""
        return frozenset(subject.account for subject in self.subjects or ())

    @property
    def privilege(self) -> Privilege:
        """What it gives."""
        return Privilege(
            privilege=f"{self.role_ref.kind.lower()}/{self.role_ref.name}", resource=self.metadata.namespace
        )


class _Selector(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[dict[str, Any], ...] = ()


class _Aggregation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    cluster_role_selectors: tuple[_Selector, ...] = ()


class _Role(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    metadata: Meta
    aggregation_rule: _Aggregation | None = None


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    made = Kubernetes(reach(name, settings), catalogue=tuple(catalogue))
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class Kubernetes:
    """See `muniment.ports.Connector`; an account is a user's name as the API server sees it.

    A service account is ``system:serviceaccount:NAMESPACE:NAME``. `observe` also shows groups, as ``Group/NAME``. `brings`
    says of which other cluster roles an aggregated one is made.
    """

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=True,  # at the next request
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
        effective_scope=True,
        usage_log=True,  # its audit log names the binding that let somebody do something
        separate=True,
    )

    def __init__(self, cluster: Bearer, *, catalogue: Sequence[Privilege] = ()) -> None:
        """Connects at each call."""
        self._cluster, self._catalogue = cluster, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. A group is nobody's account."""
        del key
        clean_name(account, "the account")
        if account.startswith(_GROUPS):
            raise Invalid("the account is shown as a group", remedy="Ask for a user or a service account.")
        for item in scope:
            clean_name(item.privilege, "the role")
            kind, _, name = item.privilege.partition("/")
            if kind not in _KINDS or not name or name in {".", ".."} or "/" in name or "%" in name:
                raise Invalid(
                    "this is no name of a role",
                    remedy="Write clusterrole/NAME, or role/NAME with its namespace.",
                )
            if item.resource is None and kind == "role":
                raise Invalid("a role is in a namespace", remedy="Name the namespace as the resource.")
            if item.resource is not None and not _NAMESPACE.fullmatch(item.resource):
                raise Invalid(
                    "the resource is no name of a namespace", remedy="Small letters, digits and - make one."
                )

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            session = Session(self._cluster)
            version = session.read(session.ask("GET", "version"), dict[str, Any]).get("gitVersion")
            problems = [*self._about_roles(session), *self._about_us(session)]
        except TargetUnavailable as error:
            return unreachable(error)
        return CheckReport(
            reachable=True,
            details=(
                f"Kubernetes {str(version)[:40] if str(version).isprintable() else 'of unknown version'} answers.",
                "It asks at each request what somebody may do, some milliseconds behind a change.",
                "It ends no binding by itself: the end is written on it for people to read.",
                "Our account may delete others' bindings where it may delete at all: RBAC cannot tell them apart.",
            ),
            problems=tuple(problems), least_privilege=setup(rules(self._catalogue)),
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. One reading of all bindings, however many accounts are asked about."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        found = {
            (account, item.privilege, item.resource, _ours(binding, account))
            for binding in self._bindings(Session(self._cluster))
            for item in [binding.privilege]
            for account in binding.accounts
            if accounts is None or account in accounts
        }
        ordered = sorted(found, key=lambda each: tuple(part or "" for part in each))
        return Observation(
            holdings=tuple(
                Holding(account=account, privilege=privilege, resource=resource, ticket=ticket)
                for account, privilege, resource, ticket in ordered
            )
        )

    def brings(self, wanted: Scope) -> Scope:
        """What else who has these has: the cluster roles that the aggregated ones among them are made of."""
        session = Session(self._cluster)
        ahead, seen = list(wanted), set(wanted)
        while ahead:
            item = ahead.pop()
            kind, _, name = item.privilege.partition("/")
            role = (
                session.get(f"{_API}/clusterroles/{segment(name)}", _Role) if kind == "clusterrole" else None
            )
            for selector in (
                role.aggregation_rule.cluster_role_selectors if role and role.aggregation_rule else ()
            ):
                for each in session.every(f"{_API}/clusterroles", Object, selector=_written(selector)):
                    part = Privilege(privilege=f"clusterrole/{each.metadata.name}", resource=item.resource)
                    if part not in seen:
                        seen.add(part)
                        ahead.append(part)
        return scope(seen - set(wanted))

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        session = Session(self._cluster)
        answers: dict[int, Outcome] = {}
        made: dict[int, list[Binding]] = {}
        try:
            there: dict[Privilege, bool] = {}
            for at, order in enumerate(orders):
                made[at] = []
                if refused := self._prepare(session, order, there, made[at]):
                    answers[at] = refused
                    self._drop(session, made.pop(at))
            session.confirmed(confirm)
            for at in list(made):
                answers[at] = self._fill(session, orders[at], made[at])
                del made[at]
        finally:  # what nobody was put into gives nothing; at worst revoking deletes it
            self._drop(session, [binding for bindings in made.values() for binding in bindings])
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. What nobody could be given is not there to be taken."""
        if not orders:
            return []
        session = Session(self._cluster)
        there = {(b.metadata.namespace, b.metadata.name): b for b in self._bindings(session)}
        session.confirmed(confirm)
        return [self._end(session, order, there) for order in orders]

    def _prepare(
        self, session: Session, order: Order, there: dict[Privilege, bool], made: list[Binding]
    ) -> Outcome | None:
        """Make an order's bindings, with nobody in them; why not, or None."""
        if why := self._bad(order):
            return no(order, "bad-name", why)
        for item in order.scope:
            if item not in there:
                there[item] = session.get(_role_path(item), Object) is not None
            if not there[item]:
                return no(order, "no-such-privilege", f"{self._cluster.name} has no {_shown(item)}")
            wanted = _wanted(order, item)
            answer = session.create(_collection(item), wanted)
            if is_reason(answer, "AlreadyExists"):
                found = session.get(f"{_collection(item)}/{wanted['metadata']['name']}", Binding)
                if found is None or found.privilege != item or found.metadata.ticket != order.ticket:
                    return no(
                        order, "name-taken", f"somebody else's binding has the name of {order.ticket}'s"
                    )
                made.append(found)
            elif answer.status == 201:
                made.append(session.read(answer, Binding, good=201))
            else:
                return self._refused(order, item, answer)
        return None

    def _fill(self, session: Session, order: Order, made: Sequence[Binding]) -> Outcome:
        """Put the account into its bindings, each as it was when we last saw it."""
        subject = {"kind": "User", "name": order.account, "apiGroup": GROUP}
        for binding in made:
            if binding.accounts == {order.account}:
                continue
            item, meta = binding.privilege, binding.metadata
            seen = {"uid": meta.uid, "resourceVersion": meta.resource_version}
            answer = session.patch(
                f"{_collection(item)}/{segment(meta.name)}", {"metadata": seen, "subjects": [subject]}
            )
            if is_reason(answer, "NotFound", "Conflict"):
                raise TargetUnavailable(
                    f"a binding of {order.ticket} was changed meanwhile, and somebody else may have the work now",
                    remedy="It is tried again.",
                )
            if answer.status != 200:
                self._drop(session, made)
                return self._refused(order, item, answer)
        return Outcome(ticket=order.ticket, result="done")

    def _end(
        self, session: Session, order: Order, there: Mapping[tuple[str | None, str], Binding]
    ) -> Outcome:
        if self._bad(order):
            return Outcome(ticket=order.ticket, result="done")
        for item in order.scope:
            binding = there.get((item.resource, _name(order.ticket, order.account, item)))
            if binding is None:
                continue
            if binding.privilege != item:
                return no(order, "name-taken", f"somebody else's binding has the name of {order.ticket}'s")
            answer = session.delete(f"{_collection(item)}/{segment(binding.metadata.name)}", binding.metadata)
            if answer.status == 403:
                return no(order, "not-allowed", f"our account may not delete bindings{_where(item)}")
            if answer.status not in {200, 202} and not is_reason(answer, "NotFound"):
                return no(
                    order, "rejected", f"the API server answered {answer.status} for {binding.metadata.name}"
                )
        return Outcome(ticket=order.ticket, result="done")

    def _refused(self, order: Order, item: Privilege, answer: Answer) -> Outcome:
        if is_escalation(answer):
            return no(
                order, "not-allowed",
                f"our account has neither the rights of {item.privilege} nor the verb bind on it,"
                " and the API server lets nobody give more than that",
            )  # fmt: skip
        if answer.status == 403:
            return no(order, "not-allowed", f"our account may not make bindings{_where(item)}")
        if is_reason(answer, "NotFound"):
            return no(order, "no-such-privilege", f"{self._cluster.name} has no {_shown(item)}")
        return no(order, "rejected", f"the API server answered {answer.status} for {item.privilege}")

    def _drop(self, session: Session, bindings: Sequence[Binding]) -> None:
        """Delete what we made, if nobody was put into it since."""
        for binding in bindings:
            if not binding.accounts:
                with suppress(TargetUnavailable):
                    path = f"{_collection(binding.privilege)}/{segment(binding.metadata.name)}"
                    session.delete(path, binding.metadata, unchanged=True)

    def _bindings(self, session: Session) -> list[Binding]:
        return [
            binding
            for what in ("rolebindings", "clusterrolebindings")
            for binding in session.every(f"{_API}/{what}", Binding)
        ]

    def _bad(self, order: Order) -> str | None:
        if why := fault(self, order.account, order.scope):
            return why
        return None if _TICKET.fullmatch(order.ticket) else "the ticket's id cannot stand in a label"

    def _about_roles(self, session: Session) -> Iterator[str]:
        for item in self._catalogue:
            if session.get(_role_path(item), Object) is None:
                yield f"There is no {_shown(item)}, which is in the catalogue."
            kind, _, name = item.privilege.partition("/")
            where = (item.resource or "") if kind == "role" else ""
            if not session.may("bind", GROUP, f"{kind}s", namespace=where, name=name):
                yield f"Our account has not the verb bind on {item.privilege}, and can give it only if it has its rights."
        for item in {item.resource: item for item in self._catalogue}.values():  # one of each namespace
            for verb in ("create", "patch", "delete"):
                if not session.may(verb, GROUP, _bindings_of(item), namespace=item.resource or ""):
                    yield f"Our account may not {verb} bindings{_where(item)}."

    def _about_us(self, session: Session) -> Iterator[str]:
        everywhere = any(item.resource is None for item in self._catalogue)
        for verb, group, resource, what in (
            ("bind", GROUP, "clusterroles", "give any role to anybody"),
            ("escalate", GROUP, "clusterroles", "write rights into roles that it has not itself"),
            ("impersonate", "", "users", "act as anybody"),
            ("get", "", "secrets", "read secrets everywhere"),
            ("create", "", "pods", "run programs everywhere"),
            *(() if everywhere else (("create", GROUP, "clusterrolebindings", "give roles everywhere"),)),
        ):
            if session.may(verb, group, resource, name=_NOBODY if verb != "create" else ""):
                yield f"Our account may {what}, which is more than it needs."


def _bindings_of(item: Privilege) -> str:
    return "clusterrolebindings" if item.resource is None else "rolebindings"


def rules(catalogue: Sequence[Privilege]) -> dict[str | None, list[Rule]]:
    """What our account needs for this catalogue: everywhere (None), and in namespaces."""
    reading = [rule("get list", "roles", "clusterroles"), rule("list", "rolebindings", "clusterrolebindings")]
    found: dict[str | None, list[Rule]] = {None: reading}
    for item in catalogue:
        kind, _, name = item.privilege.partition("/")
        here = found.setdefault(item.resource, [])
        there = reading if kind == "clusterrole" else here
        changing = rule("create get patch delete", _bindings_of(item))
        bound = rule("bind", f"{kind}s", names=[name])
        here += [changing] if changing not in here else []
        there += [bound] if bound not in there else []
    return found


LEAST_PRIVILEGE = (
    "# Kubernetes lets an account give only what it holds itself, or has the verb bind on: so name the roles.\n"
    "# For clusterrole/db-operator in the namespace pay, as a cluster's administrator:\n"
    + setup(rules([Privilege(privilege="clusterrole/db-operator", resource="pay")]))
)


def _written(selector: _Selector) -> str:
    """A label selector as a query has it. An empty one matches everything, as it does for the aggregation."""
    parts = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    for each in selector.match_expressions:
        key, values = each.get("key", ""), ",".join(each.get("values") or ())
        parts.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(
                each.get("operator", ""), f"!{key}"
            )
        )
    return ",".join(parts)


def _wanted(order: Order, item: Privilege) -> dict[str, Any]:
    """A binding with nobody in it yet."""
    kind, _, name = item.privilege.partition("/")
    return {
        "metadata": {
            "name": _name(order.ticket, order.account, item),
            "labels": {MANAGED: "muniment", TICKET: order.ticket},
            "annotations": {EXPIRES: wire(order.expires_at), ACCOUNT: order.account},
        },
        "roleRef": {"apiGroup": GROUP, "kind": _KINDS[kind], "name": name},
        "subjects": [],
    }


def _name(ticket: str, account: str, item: Privilege) -> str:
    """Of a ticket's binding. Names are small letters by custom, and the mark tells those apart that only differ in case."""
    mark = hashlib.sha256(msgspec.json.encode((ticket, account, item.privilege, item.resource))).hexdigest()[
        :12
    ]
    return f"muniment-{ticket.lower().replace('_', '-')}-{mark}"


def _ours(binding: Binding, account: str) -> str | None:
    """The ticket that gave it. What only says that it is a ticket's, and has not its name, is somebody else's."""
    ticket = binding.metadata.ticket
    if ticket and binding.metadata.name == _name(ticket, account, binding.privilege):
        return ticket
    return None


def _collection(item: Privilege) -> str:
    where = "" if item.resource is None else f"namespaces/{segment(item.resource)}/"
    return f"{_API}/{where}{_bindings_of(item)}"


def _role_path(item: Privilege) -> str:
    kind, _, name = item.privilege.partition("/")
    where = f"namespaces/{segment(item.resource or '')}/" if kind == "role" else ""
    return f"{_API}/{where}{kind}s/{segment(name)}"


def _where(item: Privilege) -> str:
    return " everywhere" if item.resource is None else f" in {item.resource}"


def _shown(item: Privilege) -> str:
    return item.privilege if item.resource is None else f"{item.privilege}, or no namespace {item.resource}"


KIND = Kind(
    summary="a privilege is a role, in a namespace or everywhere, that a binding of the ticket's own gives to the account",
    settings=Settings,
    build=build,
    capabilities=Kubernetes.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
