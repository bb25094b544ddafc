"""Redis: a user of the ticket's own, with what its privileges allow, and gone with it. Version 7 or later.

A privilege is commands, on keys and channels: ``+@read -keys (~orders:*)``. Each is a selector of its own, since commands
of one must not reach the keys of another. The user's name holds ticket and account, so that nothing else need be kept.

1. take the lock; ``confirm``: the work is still ours
2. ACL SETUSER for each ticket, and ACL SAVE, in one transaction that the server refuses whoever has lost the lock. Redis
   learns only the hash of a password, which is sealed to the beneficiary. A crash leaves a user whose password nobody
   knows: the same order sets another
3. to revoke: CLIENT KILL, ACL DELUSER and ACL SAVE, likewise; then see that no connection is left

What is not saved comes back when Redis starts again. So without ACL SAVE nothing is given, and nothing is called gone:
it is saved also when there was nothing to delete, because what deleted it may have died before it saved.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from redis import Connection, SSLConnection
from redis.exceptions import NoPermissionError, ResponseError

from muniment import delivery
from muniment.connectors import redis_rules as r
from muniment.connectors.answering import fault, no, sealed, unknown, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.redis_session import LOCK, Session, session
from muniment.connectors.ticket_users import user_of, whose
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_MAX_ACCOUNT = 200  # bytes
_LOCAL = {"localhost", "127.0.0.1", "::1"}
#: commands that we need, and no others
_NEEDED = frozenset({
    "acl|whoami", "acl|cat", "acl|users", "acl|getuser", "acl|setuser", "acl|deluser", "acl|save",
    "client|kill", "client|list", "info", "set", "get", "del", "watch", "multi", "exec",
})  # fmt: skip
#: with one of these somebody can stay, or become anybody
_WIDENING = frozenset({
    "acl|setuser", "acl|load", "config|set", "config|rewrite", "module|load", "module|loadex", "replicaof",
    "slaveof", "debug",
})  # fmt: skip

LEAST_PRIVILEGE = f"""\
ACL SETUSER muniment reset on >… ~{LOCK} -@all {" ".join(f"+{name}" for name in sorted(_NEEDED))}
ACL SAVE
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    host: str  # Its name or address: of one server, since users are not replicated.
    port: int = 6379  # Its port.
    user: str = "muniment"  # Our own user.
    password: Secret  # Reference to its password.
    #: PEM file of the authority that its certificate leads to; without it there is no TLS.
    ca: Path | None = None
    timeout: str = "10s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    if settings.ca is None and settings.host not in _LOCAL:
        raise Invalid("passwords would cross the network in clear", remedy="Name the server's authority: ca.")
    timeout = parse_duration(settings.timeout) / timedelta(seconds=1)
    made = Redis(name, settings, timeout=timeout, catalogue=catalogue)
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class Redis:
    """See `muniment.ports.Connector`; an account is whom a user is for, a privilege commands on keys and channels."""

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=True,
        issues_credential=True,
        needs_public_key=True,
        lists_everything=True,
        grant="login",
        separate=True,
    )

    def __init__(
        self, name: str, settings: Settings, *, timeout: float, catalogue: Sequence[Privilege] = ()
    ) -> None:
        """Connects at each call. ``timeout`` is in seconds."""
        self._name, self._settings, self._timeout, self._catalogue = name, settings, timeout, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        clean_name(account, "the account", limit=_MAX_ACCOUNT)
        for item in scope:
            clean_name(item.privilege, "the privilege")
            r.require_rules(item)
        if key is not None:
            delivery.recipient(key)

    def check(self) -> CheckReport:
        """See `Connector.check`. Saves, since only that tells whether it can be done."""
        try:
            with self._session() as s:
                with s.locked(lambda: None):
                    [saved] = s.change([("ACL", "SAVE")])
                me = s.ask("ACL", "WHOAMI").decode()
                ours, everybody = s.ask_all([("ACL", "GETUSER", me), ("ACL", "GETUSER", "default")])
                categories = _categories(s)
                info = dict(line.split(":", 1) for line in s.ask("INFO").decode().splitlines() if ":" in line)
        except TargetUnavailable as error:
            return unreachable(error)
        problems = [*self._of_catalogue(categories), *_too_much(me, ours, categories)]
        if isinstance(saved, ResponseError):
            problems.append(f"Nothing can be given: {_unsaved(saved)}. Set aclfile in redis.conf.")
        if everybody and {b"on", b"nopass"} <= set(_fields(everybody)["flags"]):
            problems.append("Anybody may connect as default, without a password: ACL SETUSER default off.")
        if info.get("connected_slaves", "0") != "0":
            problems.append("Its replicas have users of their own: nobody is given anything there.")
        return CheckReport(
            reachable=True,
            details=(
                f"Redis {info.get('redis_version', '')} answers to {me}.",
                "A user's password is sealed to the key in the request; Redis learns its hash.",
                "Whoever may make users, as we must, may become anybody: guard our password like an administrator's.",
                *self._widening(categories),
            ),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. Users that somebody else made are accounts, and hold what they may do."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        with self._session() as s:
            users = [(name.decode(errors="replace"), name) for name in s.ask("ACL", "USERS")]
            wanted = [
                (*whose(user), raw) for user, raw in users if accounts is None or whose(user)[0] in accounts
            ]
            found = s.ask_all([("ACL", "GETUSER", raw) for *_, raw in wanted])
            names = self._names(_categories(s)) if wanted else lambda *_: None
        holdings = [
            Holding(account=account, privilege=what.privilege, resource=what.resource, ticket=ticket)
            for (account, ticket, _), user in zip(wanted, found, strict=True)
            for what in _held(user, names, ours=ticket is not None)
        ]
        return Observation(holdings=tuple(holdings))

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        answers: dict[int, Outcome] = {}
        made: dict[int, tuple[str, bytes]] = {}
        commands: list[tuple[str, ...]] = []
        for at, order in enumerate(orders):
            user = user_of(order.ticket, order.account)
            if (why := fault(self, order.account, order.scope, order.public_key or "")) is not None:
                answers[at] = no(order, "bad-name", why)
            elif user is None:
                answers[at] = no(order, "bad-name", "the ticket's id cannot stand in the name of a user")
            else:
                password = secrets.token_urlsafe(32)
                made[at] = user, self._sealed(order, user, password)
                digest = hashlib.sha256(password.encode()).hexdigest()
                allowed = [r.selector(item) for item in order.scope]
                commands.append(("ACL", "SETUSER", user, "reset", "on", f"#{digest}", *allowed))
        with self._session() as s, s.locked(confirm):
            *set_up, saved = s.change([*commands, ("ACL", "SAVE")])
            if isinstance(saved, ResponseError):
                s.change([("ACL", "DELUSER", user) for user, _ in made.values()])
        for (at, (user, credential)), said in zip(made.items(), set_up, strict=True):
            order = orders[at]
            if isinstance(said, ResponseError):
                code = "not-allowed" if isinstance(said, NoPermissionError) else "no-such-privilege"
                answers[at] = no(order, code, f"{self._name} has no such commands: {said}")
            elif isinstance(saved, ResponseError):
                answers[at] = no(order, "not-saved", f"it was taken back, because {_unsaved(saved)}")
            else:
                answers[at] = Outcome(
                    ticket=order.ticket, result="done", handle={"user": user}, credential=credential
                )
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. The whole user goes, also if the order names only some of its privileges."""
        if not orders:
            return []
        users = {
            at: user for at, order in enumerate(orders) if (user := user_of(order.ticket, order.account))
        }
        commands = [
            command for user in users.values()
            for command in (("CLIENT", "KILL", "USER", user, "SKIPME", "no"), ("ACL", "DELUSER", user))
        ]  # fmt: skip
        with self._session() as s, s.locked(confirm):
            *ends, saved = s.change([*commands, ("ACL", "SAVE")])
            alive = _sessions(s.ask("CLIENT", "LIST").decode(errors="replace"))
        answers = [Outcome(ticket=order.ticket, result="done") for order in orders]
        for (at, user), killed, deleted in zip(users.items(), ends[::2], ends[1::2], strict=True):
            answers[at] = self._ended(orders[at], alive[user], killed, deleted)
        if isinstance(saved, ResponseError):
            sentence = f"it would be back when Redis starts again, because {_unsaved(saved)}"
            return [unknown(order, "not-saved", sentence) for order in orders]
        return answers

    def _ended(self, order: Order, alive: int, killed: Any, deleted: Any) -> Outcome:
        if isinstance(deleted, ResponseError):
            return no(order, "not-allowed", f"the user cannot be deleted: {deleted}")
        ended = killed if isinstance(killed, int) else 0  # else there was no such user
        if alive:
            sentence = f"{alive} sessions of {order.account} did not end"
            return unknown(order, "session-survives", sentence, ended=ended)
        return Outcome(ticket=order.ticket, result="done", sessions_ended=ended)

    def _sealed(self, order: Order, user: str, password: str) -> bytes:
        env = {
            "REDIS_HOST": self._settings.host, "REDIS_PORT": str(self._settings.port), "REDIS_USERNAME": user,
            "REDIS_PASSWORD": password, "REDISCLI_AUTH": password,
        }  # fmt: skip
        return sealed(order, "login", env)

    def _names(self, categories: r.Categories) -> Callable[[str, str], Privilege | None]:
        """What the catalogue calls commands on patterns."""
        known = {r.allowed(_text(each), categories): each for each in reversed(self._catalogue)}

        @cache  # many tickets are for the same
        def name(commands: str, patterns: str) -> Privilege | None:
            what = r.allowed(r.written(commands, patterns), categories)
            if not what.commands:
                return None
            return known.get(what) or r.privilege_of(commands, patterns)

        return name

    def _of_catalogue(self, categories: r.Categories) -> Iterator[str]:
        seen: dict[r.Rules, Privilege] = {}
        for each in self._catalogue:
            if words := r.unknown_words(each.privilege, categories):
                yield f"There is no {words[0]}, which is in the catalogue."
            what = r.allowed(_text(each), categories)
            if not what.commands:
                yield f"{each} allows nothing."
            elif (first := seen.setdefault(what, each)) != each:
                yield f"{first} and {each} allow the same: keep one of them in the catalogue."

    def _widening(self, categories: r.Categories) -> Iterator[str]:
        for each in self._catalogue:
            if found := sorted(r.allowed(each.privilege, categories).commands & _WIDENING):
                yield f"Whoever holds {each} can keep access beyond a ticket, by {', '.join(found)}."

    def _session(self) -> AbstractContextManager[Session]:
        settings, until = self._settings, time.monotonic() + self._timeout
        options: dict[str, Any] = {"ssl_ca_certs": str(settings.ca)} if settings.ca else {}
        connection = (SSLConnection if settings.ca else Connection)(
            host=settings.host, port=settings.port, username=settings.user, password=settings.password.reveal(),
            socket_timeout=self._timeout, socket_connect_timeout=self._timeout, protocol=2, driver_info=None,
            **options,
        )  # fmt: skip
        return session(connection, self._name, settings.password.reference, until)


def _text(item: Privilege) -> str:
    return r.written(item.privilege, item.resource or "")


def _unsaved(error: ResponseError) -> str:
    return f"Redis cannot save its users: {error}".rstrip(".")


def _categories(s: Session) -> r.Categories:
    names = [each.decode() for each in s.ask("ACL", "CAT")]
    answers = s.ask_all([("ACL", "CAT", name) for name in names])
    return {
        name: frozenset(each.decode() for each in commands)
        for name, commands in zip(names, answers, strict=True)
    }


def _fields(said: Sequence[Any]) -> dict[str, Any]:
    """Names and values in turn, as Redis answers them."""
    return {name.decode(): value for name, value in zip(said[::2], said[1::2], strict=True)}


def _selectors(user: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Commands, and patterns of keys and channels: of the user itself, and of each selector."""
    for each in (user, *(_fields(said) for said in user["selectors"])):
        commands, keys, channels = (
            each[name].decode(errors="replace") for name in ("commands", "keys", "channels")
        )
        yield commands, r.written(keys, channels)


def _held(said: Any, names: Callable[[str, str], Privilege | None], *, ours: bool) -> Iterator[Privilege]:
    """What a user may do; of one that a ticket made also what lets another in."""
    if said is None or isinstance(said, ResponseError):  # it went meanwhile
        return
    user = _fields(said)
    for commands, patterns in _selectors(user):
        if (what := names(commands, patterns)) is not None:
            yield what
    if ours and (b"nopass" in user["flags"] or len(user["passwords"]) > 1):
        yield Privilege(privilege="a login with another password, or none")


def _too_much(me: str, said: Any, categories: r.Categories) -> Iterator[str]:
    """What our own user can do beyond what it must, or cannot."""
    rules = [r.allowed(r.written(*each), categories) for each in _selectors(_fields(said))]
    may = frozenset[str]().union(*(each.commands for each in rules))
    if missing := sorted(_NEEDED - may):
        yield f"{me} lacks commands that it needs: {', '.join(missing)}."
    if more := sorted(may - _NEEDED):
        few = ", ".join(more[:5]) + (f" and {len(more) - 5} more" if len(more) > 5 else "")
        yield f"{me} may do more than it needs: {few}."
    keys = {pattern for each in rules for pattern, _ in each.keys} - {LOCK}
    if keys or any(each.channels for each in rules):
        yield f"{me} may reach more than the key {LOCK}, which is all it needs."


def _sessions(clients: str) -> Counter[str]:
    """Connections of each user. Source: CLIENT LIST."""
    fields = (line.split(" ") for line in clients.splitlines())
    return Counter(each.removeprefix("user=") for line in fields for each in line if each.startswith("user="))


KIND = Kind(
    summary="a privilege is commands on keys, and a user of the ticket's own may use them",
    settings=Settings,
    build=build,
    capabilities=Redis.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
