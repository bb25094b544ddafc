"""Kubernetes: a token of a service account for each ticket, bound to an object that ends it.

A privilege is ``serviceaccount/NAME``, its resource the namespace. What a token may do is what others bound to that service
account. What follows what, for a batch of orders:

1. look service accounts up, and make a Secret with nothing in it for each, with the ticket's id on it, and not in force
2. ``confirm``: the work is still ours
3. what was made for the ticket before goes; each Secret is put in force, on condition that nothing changed since 1; then a
   token is asked for (TokenRequest) that is good as long as the Secret is there, and no longer than the ticket, and is
   sealed to the beneficiary's key. A crash leaves a Secret whose token nobody has, and which revoking deletes

Fencing (I19). A worker that was paused between 2 and 3 finds its Secret gone once somebody else has revoked the ticket; the
API server issues no token for an object that is not there.

Deleting the Secret ends the token. An API server believes a token that it has seen for up to ten seconds more. By itself a
token ends with the ticket, but not before ten minutes are over: Kubernetes issues none that is shorter.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from muniment import delivery
from muniment.connectors.answering import fault, no, sealed, unreachable
from muniment.connectors.bearer import Bearer, reach
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.kubernetes_config import kubeconfig
from muniment.connectors.kubernetes_rights import Rule, rule, setup
from muniment.connectors.kubernetes_session import (
    ACCOUNT,
    EXPIRES,
    MANAGED,
    TICKET,
    Meta,
    Object,
    Session,
    is_reason,
    segment,
)
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.instants import wire
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_TICKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", re.ASCII)  # a label's value
_KIND = "serviceaccount/"
_IN_FORCE = "muniment.org/in-force"  # label
_OF = "muniment.org/service-account"  # label
_SHORTEST = 600  # seconds, which the API server insists on
_LONGEST = timedelta(days=365)
#: objects without what is in them: nobody shows us the secrets of others
_BARE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def rules(catalogue: Sequence[Privilege]) -> dict[str | None, list[Rule]]:
    """What our account needs for this catalogue, by namespace."""
    lent: dict[str | None, set[str]] = {}
    for item in catalogue:
        lent.setdefault(item.resource, set()).add(item.privilege.removeprefix(_KIND))
    return {
        namespace: [
            rule("create list patch delete", "secrets", group=""),
            rule("get", "serviceaccounts", group="", names=sorted(names)),
            rule("create", "serviceaccounts/token", group="", names=sorted(names)),
        ]
        for namespace, names in lent.items()
    }


LEAST_PRIVILEGE = (
    "# Lend service accounts of a namespace that has no other secrets: our account lists and deletes all that are there.\n"
    "# For serviceaccount/deployer of the namespace lending, as a cluster's administrator:\n"
    + setup(rules([Privilege(privilege="serviceaccount/deployer", resource="lending")]))
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # `https://HOST:6443`; `http://` only on this machine. Beneficiaries are told it, too.
    token: Secret  # Reference to the token of our service account. It is read at each call, so it may be renewed.
    ca: Path | None = None  # PEM file of the cluster's authority. Default: the system's.
    timeout: str = "10s"  # For each call in all.


class _Issued(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    token: str
    expiration_timestamp: datetime


class _TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    status: _Issued


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    cluster = reach(name, settings)
    ca = settings.ca.read_bytes() if settings.ca else b""  # of which `reach` found that it can be read
    made = KubernetesTokens(cluster, ca=ca, catalogue=tuple(catalogue))
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class KubernetesTokens:
    """See `muniment.ports.Connector`; an account is whom a token is for, a privilege a service account."""

    capabilities = Capabilities(
        native_expiry=False,  # for what lasts less than ten minutes
        ends_sessions=False,  # up to ten seconds after
        issues_credential=True,
        needs_public_key=True,
        lists_everything=False,
        usage_log=False,
        grant="token",
        separate=True,
    )

    def __init__(self, cluster: Bearer, *, ca: bytes = b"", catalogue: Sequence[Privilege] = ()) -> None:
        """Connects at each call. ``ca`` is what beneficiaries are told to believe, in PEM."""
        self._cluster, self._ca, self._catalogue = cluster, ca, tuple(catalogue)
        self._namespaces = tuple(sorted({item.resource or "" for item in catalogue}))

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. Only namespaces of the catalogue are looked into."""
        clean_name(account, "the account")
        for item in scope:
            clean_name(item.privilege, "the service account")
            name = item.privilege.removeprefix(_KIND)
            if name == item.privilege or not _NAME.fullmatch(name):
                raise Invalid("this is no service account", remedy="Write serviceaccount/NAME.")
            if item.resource is None or not _NAME.fullmatch(item.resource):
                raise Invalid("a service account is in a namespace", remedy="Name it as the resource.")
            if item.resource not in self._namespaces:
                raise Invalid(
                    "nothing of this namespace is in the catalogue",
                    remedy="Ask for what is in the catalogue.",
                )
        if key is not None:
            delivery.recipient(key)

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            session = Session(self._cluster)
            problems = []
            for item in self._catalogue:
                if absent := self._absent(session, item):
                    problems.append(f"In the catalogue: {absent[1]}.")
                name = item.privilege.removeprefix(_KIND)
                if not session.may(
                    "create", "", "serviceaccounts/token", namespace=item.resource or "", name=name
                ):
                    problems.append(
                        f"Our account may not make tokens of {item.privilege} in {item.resource}."
                    )
            for namespace in self._namespaces:
                problems += [
                    f"Our account may not {verb} secrets in {namespace}."
                    for verb in ("create", "list", "patch", "delete")
                    if not session.may(verb, "", "secrets", namespace=namespace)
                ]
                foreign = [each for each in self._secrets(session, namespace) if each.ticket is None]
                if foreign:
                    problems.append(
                        f"There are other secrets in {namespace}, and our account may read them: lend service"
                        " accounts of a namespace that has none."
                    )
            if session.may("list", "", "secrets", namespace="kube-system"):
                problems.append("Our account may read secrets everywhere, which is more than it needs.")
        except TargetUnavailable as error:
            return unreachable(error)
        return CheckReport(
            reachable=True,
            details=(
                "Kubernetes answers. What a token may do is what is bound to its service account.",
                "A token ends within ten seconds after the ticket; by itself it ends with it, though never within ten minutes.",
            ),
            problems=tuple(problems), least_privilege=setup(rules(self._catalogue)),
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. A token is good as long as its Secret is there, which is what is looked at."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        session = Session(self._cluster)
        found = {
            (account, f"{_KIND}{labels[_OF]}", namespace, meta.ticket)
            for namespace in self._namespaces
            for meta in self._secrets(session, namespace)
            for labels in [meta.labels or {}]
            if meta.ticket and labels.get(_IN_FORCE) == "true" and _OF in labels
            for account in [(meta.annotations or {}).get(ACCOUNT, "")]
            if accounts is None or account in accounts
        }
        return Observation(
            holdings=tuple(
                Holding(account=account, privilege=privilege, resource=namespace, ticket=ticket)
                for account, privilege, namespace, ticket in sorted(found, key=str)
            )
        )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`. What was made for the ticket before, and perhaps never delivered, goes first."""
        if not orders:
            return []
        session = Session(self._cluster)
        answers: dict[int, Outcome] = {}
        made: dict[int, list[Meta]] = {}
        try:
            older = self._of_tickets(session, [order for order in orders if self._bad(order) is None])
            for at, order in enumerate(orders):
                made[at] = []
                if refused := self._prepare(session, order, older.get(order.ticket, ()), made[at]):
                    answers[at] = refused
                    self._drop(session, made.pop(at))
            session.confirmed(confirm)
            for at in list(made):
                self._delete(session, older.get(orders[at].ticket, ()))
                answers[at] = self._issue(session, orders[at], made[at])
                del made[at]
        finally:  # at worst revoking deletes it
            self._drop(session, [meta for metas in made.values() for meta in metas])
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. All tokens of the ticket go, also if the order names only some of its privileges."""
        if not orders:
            return []
        session = Session(self._cluster)
        there = self._of_tickets(session, orders)
        session.confirmed(confirm)
        return [self._end(session, order, there.get(order.ticket, ())) for order in orders]

    def _prepare(
        self, session: Session, order: Order, older: Sequence[Meta], made: list[Meta]
    ) -> Outcome | None:
        """Make an order's Secrets, not in force; why not, or None."""
        if why := self._bad(order):
            return no(order, "bad-name", why)
        if any((meta.annotations or {}).get(ACCOUNT) != order.account for meta in older):
            return no(order, "name-taken", f"{self._cluster.name} has tokens of {order.ticket} for another")
        left = order.expires_at - datetime.now(UTC)
        if left <= timedelta(0) or left > _LONGEST:
            return no(order, "too-late", "the access is over already, or lasts for more than a year")
        for item in order.scope:
            if absent := self._absent(session, item):
                return no(order, absent[0], absent[1])
            answer = session.create(_secrets_path(item.resource or ""), _wanted(order, item))
            if answer.status != 201:
                return no(order, "not-allowed", f"our account may not make secrets in {item.resource}")
            made.append(session.read(answer, Object, good=201).metadata)
        return None

    def _issue(self, session: Session, order: Order, made: Sequence[Meta]) -> Outcome:
        """Put each Secret in force, and have a token made that is bound to it."""
        seconds = max(_SHORTEST, math.ceil((order.expires_at - datetime.now(UTC)) / timedelta(seconds=1)))
        env = {"KUBERNETES_SERVER": self._cluster.base}
        ends, given = [], list[tuple[Privilege, str]]()
        for number, (item, meta) in enumerate(zip(order.scope, made, strict=True), 1):
            seen = {"uid": meta.uid, "resourceVersion": meta.resource_version, "labels": {_IN_FORCE: "true"}}
            path = f"{_secrets_path(item.resource or '')}/{segment(meta.name)}"
            marked = session.patch(path, {"metadata": seen})
            if is_reason(marked, "NotFound", "Conflict"):
                raise self._overtaken(order)
            session.read(marked, Object)
            bound = {"apiVersion": "v1", "kind": "Secret", "name": meta.name, "uid": meta.uid}
            body = {"spec": {"expirationSeconds": seconds, "boundObjectRef": bound}}
            answer = session.create(f"{_account_path(item)}/token", body)
            if is_reason(answer, "NotFound", "Conflict"):
                raise self._overtaken(order)
            if answer.status != 201:
                self._delete(session, made)
                return no(order, "not-allowed", f"our account may not make tokens of {item.privilege}")
            issued = session.read(answer, _TokenRequest, good=201).status
            env["KUBERNETES_TOKEN" if len(made) == 1 else f"KUBERNETES_TOKEN_{number}"] = issued.token
            given.append((item, issued.token))
            ends.append(min(issued.expiration_timestamp, order.expires_at))
        files = {"KUBECONFIG": kubeconfig(self._cluster.base, self._ca, given)}
        credential = sealed(order, "token", env, min(ends), files=files)
        return Outcome(ticket=order.ticket, result="done", credential=credential)

    def _end(self, session: Session, order: Order, there: Sequence[Meta]) -> Outcome:
        if any((meta.annotations or {}).get(ACCOUNT) != order.account for meta in there):
            return no(order, "name-taken", f"{self._cluster.name} has tokens of {order.ticket} for another")
        if not self._delete(session, there):
            return no(order, "not-allowed", "our account may not delete secrets")
        return Outcome(ticket=order.ticket, result="done")

    def _delete(self, session: Session, metas: Iterable[Meta]) -> bool:
        """Whether they are gone."""
        answers = [
            session.delete(f"{_secrets_path(meta.namespace or '')}/{segment(meta.name)}", meta)
            for meta in metas
        ]
        return all(a.status in {200, 202} or is_reason(a, "NotFound") for a in answers)

    def _drop(self, session: Session, metas: Sequence[Meta]) -> None:
        """What we made, and nobody put in force since."""
        for meta in metas:
            with suppress(TargetUnavailable):
                path = f"{_secrets_path(meta.namespace or '')}/{segment(meta.name)}"
                session.delete(path, meta, unchanged=True)

    def _of_tickets(self, session: Session, orders: Sequence[Order]) -> dict[str, list[Meta]]:
        """The Secrets of these tickets, in force or not."""
        found: dict[str, list[Meta]] = {order.ticket: [] for order in orders}
        for namespace in self._namespaces:
            for meta in self._secrets(session, namespace):
                if meta.ticket in found:
                    found[meta.ticket].append(meta)
        return found

    def _secrets(self, session: Session, namespace: str) -> list[Meta]:
        return [each.metadata for each in session.every(_secrets_path(namespace), Object, accept=_BARE)]

    def _absent(self, session: Session, item: Privilege) -> tuple[str, str] | None:
        """Why there is no such service account for us: a code, and a sentence. Our rights name those that are lent."""
        answer = session.ask("GET", _account_path(item))
        if is_reason(answer, "NotFound"):
            return "no-such-privilege", f"{self._cluster.name} has no {item.privilege} in {item.resource}"
        if is_reason(answer, "Forbidden"):
            return "not-allowed", f"our account may not look at {item.privilege} in {item.resource}"
        session.read(answer, Object)
        return None

    def _bad(self, order: Order) -> str | None:
        if why := fault(self, order.account, order.scope, order.public_key or ""):
            return why
        return None if _TICKET.fullmatch(order.ticket) else "the ticket's id cannot stand in a label"

    def _overtaken(self, order: Order) -> TargetUnavailable:
        return TargetUnavailable(
            f"a secret of {order.ticket} was changed meanwhile, and somebody else may have the work now",
            remedy="It is tried again.",
        )


def _wanted(order: Order, item: Privilege) -> dict[str, Any]:
    """A Secret with nothing in it, of a name of its own: what was made before ends with the one before."""
    name = item.privilege.removeprefix(_KIND)
    return {
        "metadata": {
            "name": f"muniment-{order.ticket.lower().replace('_', '-')}-{secrets.token_hex(6)}",
            "labels": {MANAGED: "muniment", TICKET: order.ticket, _OF: name},
            "annotations": {EXPIRES: wire(order.expires_at), ACCOUNT: order.account},
        },
        "type": "muniment.org/token",
    }


def _secrets_path(namespace: str) -> str:
    return f"api/v1/namespaces/{segment(namespace)}/secrets"


def _account_path(item: Privilege) -> str:
    name = item.privilege.removeprefix(_KIND)
    return f"api/v1/namespaces/{segment(item.resource or '')}/serviceaccounts/{segment(name)}"


KIND = Kind(
    summary="a privilege is a service account, of which the ticket gets a token that is bound to an object of its own",
    settings=Settings,
    build=build,
    capabilities=KubernetesTokens.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
