"""RabbitMQ: a user of the ticket's own, with permissions in virtual hosts or tags, and gone with it.

A privilege is what RabbitMQ calls one permission: ``read ^orders-`` in the virtual host that is the resource, likewise
``write`` and ``configure``; or ``tag monitoring``, which has no resource. The user's name holds ticket and account.

1. see that RabbitMQ answers; ``confirm``: the work is still ours
2. for each ticket: the user, without a password; its permissions; then tags and the hash of a password that is sealed to
   the beneficiary. A crash between leaves a user with whom nobody can log in, and the same order goes on from there
3. to revoke: delete the user, which refuses its next login; then end its connections, and see that none is left

The API has no lock and no compare-and-set, so a worker that was paused between 1 and 2 is not fenced (I19). What limits the
harm: it touches the user of its own ticket only. One that it makes too late has a password that nobody gets, since the
sealed one is handed out only by who still holds the work, and `observe` shows it as what no ticket gives.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from muniment import delivery
from muniment.connectors.answering import fault, later, no, sealed, unknown, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.rabbitmq_session import Rabbit, Session
from muniment.connectors.ticket_users import user_of, whose
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.core.text import clean_name
from muniment.outbound import Http, private_base
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_VERBS = ("configure", "write", "read")
_PERMISSION = re.compile(r"(configure|write|read) (\S+)")
#: what else whoever has a tag may do, by RabbitMQ's own documentation of its management plugin
_INCLUDES = {
    "administrator": ("management", "monitoring", "policymaker"),
    "monitoring": ("management",),
    "policymaker": ("management",),
}
_TAG = re.compile(r"tag ([a-z][a-z0-9_-]*)", re.ASCII)
_MAX_ACCOUNT = 90  # bytes, percent-encoded: a name on the wire has at most 255
_LARGEST = 64 * 1024 * 1024  # bytes of one answer
_ENOUGH = 1.0  # seconds that must be left for one more order
_LOOK = 0.05  # seconds between two looks at connections that end

LEAST_PRIVILEGE = """\
rabbitmqctl add_user muniment
rabbitmqctl set_user_tags muniment administrator
# and no permissions in any virtual host: managing users needs the tag, and no message is read or written
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # Of the management API, `https://HOST:15671`; `http://` only on this machine.
    user: str = "muniment"  # Our own user.
    password: Secret  # Reference to its password.
    amqp: str = ""  # `amqps://HOST:5671`: what beneficiaries are told to connect to.
    ca: Path | None = None  # PEM file of the authority that its certificate leads to. Default: the system's.
    timeout: str = "10s"  # For each call in all.


class _User(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    tags: tuple[str, ...] = ()


class _Permission(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    vhost: str
    configure: str
    write: str
    read: str


class _Connection(msgspec.Struct, frozen=True, kw_only=True):
    user: str


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class _Overview(msgspec.Struct, frozen=True, kw_only=True):
    rabbitmq_version: str


class _Failure(msgspec.Struct, frozen=True, kw_only=True):
    reason: Any = None


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    if settings.amqp and not re.fullmatch(r"amqps?://[A-Za-z0-9.:\[\]-]+", settings.amqp, re.ASCII):
        raise Invalid("amqp is no address", remedy="Write it like amqps://mq.example.com:5671.")
    timeout = parse_duration(settings.timeout) / timedelta(seconds=1)
    rabbit = Rabbit(
        name=name, base=private_base(settings.url, f"{name}'s", setting="url"), timeout=timeout,
        http=Http(ca=settings.ca, timeout=timeout, largest=_LARGEST), user=settings.user, password=settings.password,
    )  # fmt: skip
    made = RabbitMQ(rabbit, settings.amqp, catalogue=catalogue)
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class RabbitMQ:
    """See `muniment.ports.Connector`; an account is whom a user is for, a privilege a permission or a tag."""

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=True,
        issues_credential=True,
        needs_public_key=True,
        lists_everything=True,
        effective_scope=True,
        grant="login",
        separate=True,
    )

    def __init__(self, rabbit: Rabbit, amqp: str = "", *, catalogue: Sequence[Privilege] = ()) -> None:
        """Asks at each call."""
        self._rabbit, self._amqp, self._catalogue = rabbit, amqp, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. RabbitMQ has one pattern of a kind for a user in a virtual host."""
        clean_name(account, "the account")
        if len(quote(account, safe="")) > _MAX_ACCOUNT:
            raise Invalid(
                "the account is longer than the name of a user can hold", remedy="Use a shorter account."
            )
        seen: Counter[tuple[str, str | None]] = Counter()
        for item in scope:
            clean_name(item.privilege, "the privilege")
            if item.resource is None:
                if not _TAG.fullmatch(item.privilege):
                    raise Invalid(
                        f"{item.privilege} is no tag of RabbitMQ",
                        remedy="Write a tag like: tag monitoring. A permission needs its virtual host as the resource.",
                    )
                continue
            clean_name(item.resource, "the virtual host")
            verb = _PERMISSION.fullmatch(item.privilege)
            if not verb:
                raise Invalid(
                    f"{item.privilege} is no permission of RabbitMQ",
                    remedy="Write configure, write or read, and a pattern without spaces: read ^orders-.",
                )
            seen[verb[1], item.resource] += 1
            if seen[verb[1], item.resource] > 1:
                raise Invalid(
                    f"RabbitMQ has one pattern for {verb[1]} in {item.resource}, and not two",
                    remedy="Ask for one of them, or for each in a ticket of its own.",
                )
        if key is not None:
            delivery.recipient(key)

    def brings(self, wanted: Scope) -> Scope:
        """See `Bringing`: tags that include others. A permission includes nothing."""
        tags = [found[1] for item in wanted if (found := _TAG.fullmatch(item.privilege))]
        more = {Privilege(privilege=f"tag {each}") for tag in tags for each in _INCLUDES.get(tag, ())}
        return scope(more - set(wanted))

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            s = self._rabbit.session()
            me = s.get(_User, "whoami")
            version = s.get(_Overview, "overview", query="?columns=rabbitmq_version").rabbitmq_version
            hosts = {each.name for each in s.get(tuple[_Named, ...], "vhosts", query="?columns=name")}
            ours = s.get(tuple[_Permission, ...], "users", me.name, "permissions")
            users = {each.name for each in s.get(tuple[_User, ...], "users", query="?columns=name,tags")}
        except TargetUnavailable as error:
            return unreachable(error)
        wanted = sorted({each.resource for each in self._catalogue if each.resource is not None} - hosts)
        problems = [f"There is no virtual host {name}, which is in the catalogue." for name in wanted]
        if "administrator" not in me.tags:
            problems.append(
                f"{me.name} cannot make users: rabbitmqctl set_user_tags {me.name} administrator."
            )
        problems += [
            f"{me.name} may reach what is in {each.vhost}, which it does not need: "
            f"rabbitmqctl clear_permissions -p {each.vhost} {me.name}."
            for each in ours
        ]
        if "guest" in users and me.name != "guest":
            problems.append(
                "The user guest is there, whose password everybody knows: rabbitmqctl delete_user guest."
            )
        return CheckReport(
            reachable=True,
            details=(
                f"RabbitMQ {version} answers to {me.name}.",
                "A user's password is sealed to the key in the request; RabbitMQ learns its hash.",
                "An administrator, as we must be, may make anybody one: guard our password like that.",
                *(
                    f"Whoever holds {each} can keep access beyond a ticket."
                    for each in self._catalogue if each.privilege in {"tag administrator", "tag policymaker"}
                ),
            ),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. Users that somebody else made are accounts, and hold what they may do."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        s = self._rabbit.session()
        holds: list[tuple[str, Privilege]] = [
            (user.name, Privilege(privilege=f"tag {tag}"))
            for user in s.get(tuple[_User, ...], "users", query="?columns=name,tags")
            for tag in user.tags
        ]
        for each in s.get(tuple[_Permission, ...], "permissions"):
            holds += [(each.user, what) for what in _permissions(each)]
        found = [(*whose(user), what) for user, what in holds]
        return Observation(
            holdings=tuple(
                Holding(account=account, privilege=what.privilege, resource=what.resource, ticket=ticket)
                for account, ticket, what in found
                if accounts is None or account in accounts
            )
        )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        s = self._rabbit.session()
        s.get(_User, "whoami")
        s.confirmed(confirm)
        return [self._give(s, order) if s.has(_ENOUGH) else later(order) for order in orders]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. The whole user goes, also if the order names only some of its privileges."""
        if not orders:
            return []
        s = self._rabbit.session()
        s.get(_User, "whoami")
        s.confirmed(confirm)
        return [self._take(s, order) if s.has(_ENOUGH) else later(order) for order in orders]

    def _give(self, s: Session, order: Order) -> Outcome:
        user = user_of(order.ticket, order.account)
        if (why := fault(self, order.account, order.scope, order.public_key or "")) is not None:
            return no(order, "bad-name", why)
        if user is None:
            return no(order, "bad-name", "the ticket's id cannot stand in the name of a user")
        password = secrets.token_urlsafe(32)
        credential = self._sealed(order, user, password)
        self._put(s, {"password_hash": "", "tags": ""}, "users", user)
        hosts = sorted({item.resource for item in order.scope if item.resource is not None})
        for host in hosts:
            rights = dict.fromkeys(_VERBS, "")
            rights |= dict(item.privilege.split(" ", 1) for item in order.scope if item.resource == host)
            if (wrong := self._put(s, rights, "permissions", host, user)) is not None:
                s.delete("users", user)
                return no(order, "no-such-privilege", f"{self._rabbit.name} refused it in {host}: {wrong}")
        tags = ",".join(item.privilege.removeprefix("tag ") for item in order.scope if item.resource is None)
        self._put(s, {**_hashed(password), "tags": tags}, "users", user)
        return Outcome(ticket=order.ticket, result="done", handle={"user": user}, credential=credential)

    def _put(self, s: Session, body: dict[str, str], *path: str) -> str | None:
        """Why it cannot be; None if it is."""
        answer = s.put(body, *path)
        if answer.status in {201, 204}:
            return None
        reason = s.read(answer, _Failure).reason
        if answer.status != 400 or path[0] != "permissions":
            raise TargetUnavailable(
                f"{self._rabbit.name} answered {answer.status} to {path[0]}", remedy="Run `muniment check`."
            )
        return (
            "there is no such virtual host" if reason == "vhost_or_user_not_found" else "that is no pattern"
        )

    def _connections(self, s: Session, user: str) -> int:
        return len(s.get(tuple[_Connection, ...], "connections", "username", user))

    def _take(self, s: Session, order: Order) -> Outcome:
        user = user_of(order.ticket, order.account)
        if user is None or fault(self, order.account, ()) is not None:
            return Outcome(ticket=order.ticket, result="done")  # nothing was ever made for it
        before = self._connections(s, user)
        s.delete("users", user)
        while (alive := self._connections(s, user)) and s.has(_ENOUGH / 2):
            s.delete("connections", "username", user)
            time.sleep(_LOOK)
        ended = max(0, before - alive)
        if alive:
            sentence = f"{alive} sessions of {order.account} did not end in time"
            return unknown(order, "session-survives", sentence, ended=ended)
        return Outcome(ticket=order.ticket, result="done", sessions_ended=ended)

    def _sealed(self, order: Order, user: str, password: str) -> bytes:
        env = {"RABBITMQ_URL": self._rabbit.base, "RABBITMQ_USERNAME": user, "RABBITMQ_PASSWORD": password}
        hosts = sorted({item.resource for item in order.scope if item.resource is not None})
        if self._amqp and hosts:
            scheme, _, address = self._amqp.partition("://")
            where = f"{scheme}://{quote(user, safe='')}:{password}@{address}"
            env |= {
                ("AMQP_URL" if len(hosts) == 1 else f"AMQP_URL_{number}"): f"{where}/{quote(host, safe='')}"
                for number, host in enumerate(hosts, 1)
            }
        return sealed(order, "login", env)


def _permissions(said: _Permission) -> Iterator[Privilege]:
    """An empty pattern permits nothing."""
    for verb, pattern in zip(_VERBS, (said.configure, said.write, said.read), strict=True):
        if pattern:
            yield Privilege(privilege=f"{verb} {pattern}", resource=said.vhost)


def _hashed(password: str) -> dict[str, str]:
    """As RabbitMQ keeps it. Source: https://www.rabbitmq.com/docs/passwords#computing-password-hash."""
    salt = secrets.token_bytes(4)
    digest = salt + hashlib.sha256(salt + password.encode()).digest()
    return {
        "password_hash": b64encode(digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
    }


KIND = Kind(
    summary="a privilege is a permission in a virtual host, or a tag, and a user of the ticket's own has it",
    settings=Settings,
    build=build,
    capabilities=RabbitMQ.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
