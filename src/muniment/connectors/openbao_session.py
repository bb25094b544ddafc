"""One call to OpenBao: our own token, the lock, and the token that fences a change.

OpenBao has no compare-and-set for groups. Two things of its own stand in for it:

- the **lock** is a secret in a KV engine of version 2, which has check-and-set. The server itself deletes it after
  ``_LOCKED``, should its holder have died;
- the **fence** is a child of our token that lives for five seconds. Only it changes groups: a worker that was paused
  longer finds it refused, whatever it had read before (I19). It ends well within the lock's own time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from muniment.connectors.answering import last_look, later, unknown
from muniment.connectors.kinds import Secret
from muniment.core.errors import Misconfigured, TargetUnavailable, Unavailable
from muniment.outbound import Answer, Http
from muniment.ports import Order, Outcome

FENCE = "5s"  # how long a token that changes groups lives; policies name it
_FENCED = 5.0
_LOCKED = 20.0  # seconds
_ONE = 1.5  # seconds of a turn that are kept for the change that was begun last
_AGAIN = 0.02  # seconds between two looks at a lock that is another's
T = TypeVar("T")
#: of our own policy: what the fence needs
FENCE_POLICY = f"""\
path "auth/token/create" {{
  capabilities = ["update"]
  required_parameters = ["explicit_max_ttl"]
  allowed_parameters = {{ "explicit_max_ttl" = ["{FENCE}"], "ttl" = ["{FENCE}"] }}
}}
"""


ROOTS = "Our token is root's, and may do everything: use an AppRole with the policy below."


class Us(msgspec.Struct, frozen=True, kw_only=True):
    """Our own token, as OpenBao shows it."""

    policies: tuple[str, ...] = ()
    identity_policies: tuple[str, ...] = ()
    display_name: str = ""
    type: str = "service"

    @property
    def is_root(self) -> bool:
        """Whether it may do everything."""
        return "root" in (*self.policies, *self.identity_policies)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """As OpenBao shows it."""

    id: str
    name: str
    type: str = "internal"
    policies: tuple[str, ...] | None = None
    member_entity_ids: tuple[str, ...] | None = None
    parent_group_ids: tuple[str, ...] | None = None
    modify_index: int = 0  # grows by one with each change

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of entities."""
        return self.member_entity_ids or ()


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """As OpenBao shows it."""

    id: str
    name: str
    direct_group_ids: tuple[str, ...] | None = None


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class _Listed(msgspec.Struct, frozen=True, kw_only=True):
    key_info: dict[str, _Named]


class _Issued(msgspec.Struct, frozen=True, kw_only=True):
    client_token: str


class _Secret(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    deletion_time: str = ""


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    metadata: _Secret
    data: dict[str, Any] | None = None


class Bao(msgspec.Struct, frozen=True, kw_only=True):
    """Where OpenBao is and how we sign in there; nothing is kept between calls."""

    name: str  # of the target
    base: str
    http: Http
    timeout: float  # seconds for a whole call
    lock: tuple[str, str]  # engine and path
    namespace: str = ""
    token: Secret | None = None
    approle: str = ""  # path of the method
    role_id: str = ""
    secret_id: Secret | None = None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Signed in for one call; a token that we were given for it is given back. Raises `TargetUnavailable`."""
        session = Session(self, time.monotonic() + self.timeout)
        if self.token is not None:
            session.token = self._usable(self.token)
            yield session
            return
        secret = self._usable(self.secret_id) if self.secret_id else ""
        body = {"role_id": self.role_id, "secret_id": secret}
        answer = session.ask(f"auth/{self.approle}/login", body)
        if answer.status in {400, 403}:
            raise TargetUnavailable(
                f"{self.name} refused our role_id or secret_id",
                remedy=f"Check role_id, and what {self.secret_id.reference if self.secret_id else 'secret_id'} holds.",
            )
        session.token = session.read(answer, _Issued, "auth").client_token
        try:
            yield session
        finally:  # its children, the fence among them, go with it
            session.until = max(session.until, time.monotonic() + 1)
            with suppress(TargetUnavailable):
                session.ask("auth/token/revoke-self", {})

    def _usable(self, secret: Secret) -> str:
        text = secret.reveal()
        if not text or not text.isascii() or not text.isprintable():
            raise Misconfigured(f"{self.name}: {secret.reference} holds nothing that OpenBao could have made")
        return text


class Session:
    """Questions until a deadline. Raises `TargetUnavailable`, from everything, with no word of the server's (I31)."""

    def __init__(self, bao: Bao, until: float) -> None:
        """Not signed in yet."""
        self._bao, self.until, self.token = bao, until, ""
        self._turn = until  # when we must have begun the last change

    def ask(
        self, path: str, body: Mapping[str, Any] | None = None, *, token: str = "", wrap: int = 0, delete: bool = False
    ) -> Answer:  # fmt: skip
        """POST with a body, else GET or DELETE. ``wrap`` has the answer kept for so many seconds, for whoever unwraps it.

        A sealed server is none.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise self._late()
        headers = {"X-Vault-Request": "true"}
        if token or self.token:
            headers["X-Vault-Token"] = token or self.token
        if self._bao.namespace:
            headers["X-Vault-Namespace"] = self._bao.namespace
        if wrap:
            headers["X-Vault-Wrap-TTL"] = f"{wrap}s"
        url = f"{self._bao.base}/v1/{path}"
        try:
            if delete:
                answer = self._bao.http.delete(url, headers, timeout=left)
            elif body is None:
                answer = self._bao.http.get(url, headers, timeout=left)
            else:
                answer = self._bao.http.post(
                    url, msgspec.json.encode(body), content_type="application/json", headers=headers, timeout=left
                )  # fmt: skip
        except (Unavailable, Misconfigured) as error:
            raise TargetUnavailable(
                f"{self._bao.name} does not answer: {error.message}", remedy=error.remedy
            ) from RuntimeError(type(error).__name__)
        if answer.status == 503:
            raise TargetUnavailable(
                f"{self._bao.name} is sealed, or has no active node", remedy="Unseal it; it is tried again."
            )
        if answer.status == 429 or answer.status >= 500:
            raise TargetUnavailable(f"{self._bao.name} answered {answer.status}", remedy="It is tried again.")
        return answer

    def read(self, answer: Answer, kind: type[T], part: str = "data") -> T:
        """What a good answer says."""
        if answer.status == 403:
            raise TargetUnavailable(
                f"{self._bao.name} refused our token",
                remedy="It is over, or may not do this: `muniment check` says what is missing.",
            )
        try:
            return msgspec.convert(msgspec.json.decode(answer.body)[part], kind)
        except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise TargetUnavailable(
                f"{self._bao.name}: what answered {answer.status} does not speak like OpenBao",
                remedy="Check url.",
            ) from RuntimeError(type(error).__name__)

    def us(self) -> Us:
        """Whose token we have."""
        return self.read(self.ask("auth/token/lookup-self"), Us)

    def entity(self, name: str) -> Entity | None:
        """The entity that is called exactly so; OpenBao itself does not tell letters by case."""
        found = self._maybe(self.ask("identity/lookup/entity", {"name": name}), Entity)
        return found if found is not None and found.name == name else None

    def group_named(self, name: str) -> Group | None:
        """The group that is called exactly so."""
        found = self._maybe(self.ask("identity/lookup/group", {"name": name}), Group)
        return found if found is not None and found.name == name else None

    def group(self, number: str, *, token: str = "") -> Group | None:
        """By id."""
        return self._maybe(self.ask(f"identity/group/id/{quote(number, safe='')}", token=token), Group)

    def names(self, what: str) -> dict[str, str]:
        """Of every "entity" or "group", by id."""
        listed = self._maybe(self.ask(f"identity/{what}/id?list=true"), _Listed)
        return {key: info.name for key, info in listed.key_info.items()} if listed else {}

    def put_members(self, group: Group, members: tuple[str, ...], *, fence: str) -> int:
        """The status of the answer. The whole list is replaced, and nothing else of the group."""
        path = f"identity/group/id/{quote(group.id, safe='')}"
        return self.ask(path, {"member_entity_ids": members}, token=fence).status

    def require(self, token: str) -> None:
        """Whether a no can have been meant: who was paused hears one as well, and then nothing is known."""
        answer = self.ask("auth/token/lookup-self", token=token)
        if answer.status != 200:
            raise self._late()

    def confirmed(self, confirm: Callable[[], None]) -> None:
        """The last moment to find out that the work is another's. The time it takes is not the target's."""
        self.until += last_look(confirm)

    def in_turn(self, orders: Sequence[Order], act: Callable[[Order], Outcome]) -> list[Outcome]:
        """Orders one after the other, as long as the fence lives; those that it is too late for are for another call."""
        outcomes: list[Outcome] = []
        for order in orders:
            if outcomes and time.monotonic() > self._turn:
                outcomes.append(later(order))
                continue
            try:
                outcomes.append(act(order))
            except TargetUnavailable as error:
                if not outcomes:
                    raise
                outcomes.append(unknown(order, error.code.removeprefix("target."), error.message))
        return outcomes

    @contextmanager
    def locked(self) -> Iterator[str]:
        """Nobody else of us changes groups here meanwhile; yields the fence's token."""
        engine, path = self._bao.lock
        where = f"{engine}/data/{path}"
        started, version = self._lock(where, f"{engine}/metadata/{path}")
        try:
            self._turn = min(self.until, time.monotonic() + _FENCED) - _ONE
            made = self.ask("auth/token/create", {"explicit_max_ttl": FENCE, "ttl": FENCE})
            if made.status == 400:
                raise TargetUnavailable(
                    f"{self._bao.name} makes no token that lives for {FENCE}",
                    remedy="Our own must be a service token.",
                )
            fence = self.read(made, _Issued, "auth").client_token
            if time.monotonic() - started > _LOCKED - 2 * _FENCED:
                raise self._late()
            yield fence
        finally:
            self.until = max(self.until, time.monotonic() + 1)
            with suppress(TargetUnavailable):  # at worst the server ends it
                self.ask(where, {"data": {"free": True}, "options": {"cas": version}})

    def _lock(self, where: str, metadata: str) -> tuple[float, int]:
        """When it was asked for, and the secret's version."""
        wait = self.until - 0.5
        while True:
            seen = self.ask(where)
            version = 0
            if seen.status != 404 or b'"metadata"' in seen.body:
                held = self.read(seen, _Held)
                version = held.metadata.version
                if held.data is not None and not held.data.get("free"):
                    self._wait(wait)
                    continue
            else:
                self._prepare(metadata)
            started = time.monotonic()
            taken = self.ask(where, {"data": {"by": "muniment"}, "options": {"cas": version}})
            if taken.status == 200:
                made = self.read(taken, _Secret)
                if made.deletion_time:
                    return started, made.version
                self._prepare(metadata)  # somebody's secret, which would be a lock for ever
                self.ask(where, {"data": {"free": True}, "options": {"cas": made.version}})
            elif taken.status != 400:
                raise TargetUnavailable(
                    f"{self._bao.name} lets us not write {where}", remedy="`muniment check` says what is missing."
                )  # fmt: skip
            self._wait(wait)

    def _prepare(self, metadata: str) -> None:
        """Versions go by themselves."""
        answer = self.ask(metadata, {"delete_version_after": f"{_LOCKED:g}s", "max_versions": 4})
        if answer.status not in {200, 204}:
            raise TargetUnavailable(
                f"{self._bao.name} lets us not prepare the lock {metadata}",
                remedy="It is a secret in a KV engine of version 2; `muniment check` says how to make one.",
            )

    def _wait(self, until: float) -> None:
        if time.monotonic() + _AGAIN > until:
            raise TargetUnavailable(
                f"another worker changes groups of {self._bao.name}", remedy="It is tried again.", code="target.busy",
            )  # fmt: skip
        time.sleep(_AGAIN)

    def _maybe(self, answer: Answer, kind: type[T]) -> T | None:
        """None of what is not there, which is said with no content, or with 404 in OpenBao's own words."""
        if answer.status == 204 or is_not_there(answer):
            return None
        return self.read(answer, kind)

    def _late(self) -> TargetUnavailable:
        return TargetUnavailable(f"{self._bao.name} did not answer in time", remedy="It is tried again.")


def lock_policy(engine: str, path: str) -> str:
    """Of our own policy: what the lock needs."""
    return f"""\
path "{engine}/data/{path}" {{ capabilities = ["create", "read", "update"] }}
path "{engine}/metadata/{path}" {{ capabilities = ["create", "update"] }}
"""


def is_not_there(answer: Answer, *also: str) -> bool:
    """Whether OpenBao says 404 in its own words, by "errors" or ``also`` these. A proxy says it, too: that proves nothing."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = msgspec.json.decode(answer.body, type=dict[str, Any])
        return answer.status == 404 and not said.keys().isdisjoint(("errors", *also))
    return False
