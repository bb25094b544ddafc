"""OpenBao (and Vault): a token of the ticket's own, and every lease that was issued under it.

A privilege is a role of the token method, which says what policies its tokens have. What follows what:

1. sign in, read the roles, take the lock and a token that lives for five seconds (`openbao_session`)
2. ``confirm``: the work is still ours
3. for each ticket: make its tokens, each wrapped, so that we see none; then record their accessors in a register, which is
   a secret in a KV engine. A crash between leaves a token that nobody can unwrap, and that ends by itself
4. to revoke: the accessors' tokens, which OpenBao does with all their leases and children; then the register's entry

Fencing (I19). Only the short token makes tokens and writes the register, so a worker that was paused between 2 and 3 is
refused by the server.

The ticket's id is in each token's metadata, and so in OpenBao's own audit log at each use. The register says only where to
look: what a token is, and that it is there, OpenBao says of its accessor. What others issue is not seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import msgspec

from muniment import delivery
from muniment.connectors.answering import fault, no, sealed, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.openbao import reach
from muniment.connectors.openbao_session import FENCE_POLICY, ROOTS, Bao, Session, is_not_there, lock_policy
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_ROLE = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_TICKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)+", re.ASCII)
_MAX_ACCOUNT = 255  # characters
_LONGEST = timedelta(days=365)


def policy(lock: str, register: str) -> str:
    """What we need beside the roles, with both in the engine ``muniment``."""
    return f"""\
{FENCE_POLICY}path "auth/token/lookup-accessor" {{ capabilities = ["update"] }}
path "auth/token/revoke-accessor" {{ capabilities = ["update"] }}
{lock_policy("muniment", lock)}path "muniment/data/{register}/*" {{ capabilities = ["create", "read", "update"] }}
path "muniment/metadata/{register}/*" {{ capabilities = ["list", "delete"] }}
"""


def role_policy(role: str) -> str:
    """What we need for one role."""
    return f"""\
path "auth/token/roles/{role}" {{ capabilities = ["read"] }}
path "auth/token/create/{role}" {{ capabilities = ["update"] }}
"""


LEAST_PRIVILEGE = f"""\
# muniment.hcl: our own policy
{policy("lock", "tokens")}# for each role in the catalogue
{role_policy("db-admins")}
# then
bao secrets enable -path=muniment -version=2 kv
bao policy write muniment muniment.hcl
bao auth enable approle
bao write auth/approle/role/muniment token_policies=muniment token_ttl=1m token_max_ttl=1m
bao write auth/token/roles/db-admins allowed_policies=db-admins orphan=true renewable=false token_type=service
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # `https://HOST:8200`; `http://` only on this machine. Beneficiaries are told it, too.
    role_id: str = ""  # Whom we are there: an AppRole, with `secret_id`.
    secret_id: Secret | None = None  # Reference to the AppRole's secret.
    approle: str = "approle"  # Path of the AppRole method.
    token: Secret | None = None  # In place of an AppRole: reference to a token that somebody else renews.
    namespace: str = ""  # The namespace in which roles and tokens are.
    #: A secret in a KV engine of version 2, by which our workers keep out of each other's way.
    lock: str = "muniment/lock"
    register: str = "muniment/tokens"  # Folder in a KV engine of version 2, where our tokens' accessors are.
    ca: Path | None = None  # PEM file of the authority that its certificate leads to. Default: the system's.
    timeout: str = "10s"  # For each call in all.


class _Role(msgspec.Struct, frozen=True, kw_only=True):
    orphan: bool = False
    token_type: str = ""


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Of one ticket."""

    account: str
    tokens: dict[str, str]  # role to accessor


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    data: _Entry | None = None


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[str, ...]


class _Wrapped(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    wrapped_accessor: str


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    meta: dict[str, str] | None = None
    role: str = ""


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    if not _PATH.fullmatch(settings.register):
        raise Misconfigured(
            "register names no folder", remedy="Write it like muniment/tokens: engine, then path."
        )
    made = OpenBaoTokens(
        reach(name, settings), settings.register, catalogue=[each.privilege for each in catalogue]
    )
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class OpenBaoTokens:
    """See `muniment.ports.Connector`; an account is whom a token is for, a privilege a role of the token method."""

    capabilities = Capabilities(
        native_expiry=True,
        ends_sessions=True,
        issues_credential=True,
        needs_public_key=True,
        lists_everything=False,
        usage_log=True,
        grant="token",
        separate=True,
    )

    def __init__(self, bao: Bao, register: str, *, catalogue: Sequence[str] = ()) -> None:
        """Signs in at each call."""
        self._bao, self._catalogue = bao, tuple(catalogue)
        self._engine, _, self._folder = register.partition("/")

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        clean_name(account, "the account", limit=_MAX_ACCOUNT)
        for item in scope:
            clean_name(item.privilege, "the role")
            if not _ROLE.fullmatch(item.privilege):
                raise Invalid(
                    "the role has a name that OpenBao gives none",
                    remedy="Letters, digits and . _ - make one.",
                )
            if item.resource is not None:
                raise Invalid("a role has no resource", remedy="Ask for the role alone.")
        if key is not None:
            delivery.recipient(key)

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            with self._bao.session() as session:
                unfit = (self._unfit(session, name) for name in sorted(set(self._catalogue)))
                problems = [f"{why[1]}." for why in unfit if why is not None]
                if session.us().is_root:
                    problems.append(ROOTS)
                with session.locked():  # the one way to find out that lock and fence are ours to have
                    self._tickets(session)
        except TargetUnavailable as error:
            return unreachable(error)
        return CheckReport(
            reachable=True,
            details=(
                "OpenBao answers, and its lock and register are ours to use.",
                "A token is wrapped where it is made, and sealed to the key in the request; we never see it.",
                "Revoking it revokes all leases and tokens that were issued under it.",
            ),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. A token is there if OpenBao says so of its accessor, and is what OpenBao says."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        found = []
        with self._bao.session() as session:
            for ticket in self._tickets(session):
                entry = self._entry(session, ticket)
                if entry is None or (accounts is not None and entry.account not in accounts):
                    continue
                for accessor in entry.tokens.values():
                    token = self._token(session, accessor)
                    if token and (token.meta or {}).get("ticket") == ticket:
                        found.append(Holding(account=entry.account, privilege=token.role, ticket=ticket))
        return Observation(holdings=tuple(found))

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`. What was made for the ticket before, and perhaps never delivered, goes first."""
        if not orders:
            return []
        with self._bao.session() as session:
            sound = [order for order in orders if self._bad(order) is None]
            roles = sorted({item.privilege for order in sound for item in order.scope})
            why = {name: self._unfit(session, name) for name in roles}
            plans = [self._refusal(order, why) for order in orders]
            with session.locked() as fence:
                session.confirmed(confirm)
                return [
                    refused or self._issue(session, fence, order)
                    for order, refused in zip(orders, plans, strict=True)
                ]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. All tokens of the ticket go, also if the order names only some of its privileges."""
        if not orders:
            return []
        with self._bao.session() as session, session.locked() as fence:
            session.confirmed(confirm)
            return [self._end(session, fence, order) for order in orders]

    def _issue(self, session: Session, fence: str, order: Order) -> Outcome:
        old = self._entry(session, order.ticket)
        if old is not None and old.account != order.account:
            return no(
                order, "name-taken", f"{self._bao.name} has tokens of {order.ticket} that are for another"
            )
        self._revoke_all(session, order.ticket, old)
        left = order.expires_at - datetime.now(UTC)
        if left <= timedelta(0) or left > _LONGEST:
            return no(order, "too-late", "the access is over already, or lasts for more than a year")
        seconds = math.ceil(left / timedelta(seconds=1))
        env, tokens = {"BAO_ADDR": self._bao.base}, dict[str, str]()
        for number, item in enumerate(order.scope, 1):
            body = {
                "meta": {"ticket": order.ticket, "account": order.account}, "display_name": order.ticket,
                "explicit_max_ttl": f"{seconds}s", "ttl": f"{seconds}s", "renewable": False,
            }  # fmt: skip
            made = session.ask(f"auth/token/create/{quote(item.privilege)}", body, token=fence, wrap=seconds)
            if made.status in {400, 403, 404}:
                session.require(fence)
                self._revoke_all(session, order.ticket, _Entry(account=order.account, tokens=tokens))
                return no(
                    order, "not-allowed", f"our token may not make one of {item.privilege}: {made.status}"
                )
            wrapped = session.read(made, _Wrapped, "wrap_info")
            tokens[item.privilege] = wrapped.wrapped_accessor
            env["BAO_TOKEN" if len(order.scope) == 1 else f"BAO_TOKEN_{number}"] = wrapped.token
        entry = _Entry(account=order.account, tokens=tokens)
        kept = session.ask(self._at("data", order.ticket), {"data": _data_of(entry)}, token=fence)
        if kept.status != 200:
            self._revoke_all(session, order.ticket, entry)
            raise self._withheld(session, fence)
        credential = sealed(order, "token", env)
        return Outcome(
            ticket=order.ticket, result="done", native_expiry=order.expires_at, credential=credential
        )

    def _end(self, session: Session, fence: str, order: Order) -> Outcome:
        if not _TICKET.fullmatch(order.ticket):
            return Outcome(ticket=order.ticket, result="done")  # nothing was ever made for it
        entry = self._entry(session, order.ticket)
        if entry is None:
            return Outcome(ticket=order.ticket, result="done")
        if entry.account != order.account:
            return no(
                order, "name-taken", f"{self._bao.name} has tokens of {order.ticket} that are for another"
            )
        ended = self._revoke_all(session, order.ticket, entry)
        gone = session.ask(self._at("metadata", order.ticket), token=fence, delete=True)
        if gone.status not in {200, 204}:
            raise self._withheld(session, fence)
        return Outcome(ticket=order.ticket, result="done", sessions_ended=ended)

    def _withheld(self, session: Session, fence: str) -> TargetUnavailable:
        """The register is, from us; or another error is raised, if our turn was over when OpenBao said no."""
        session.require(fence)
        return TargetUnavailable(
            f"{self._bao.name} keeps {self._engine}/{self._folder} from us",
            remedy="`muniment connector show openbao-tokens` prints the policy that we need.",
        )

    def _revoke_all(self, session: Session, ticket: str, entry: _Entry | None) -> int:
        """How many were there; when it returns OpenBao says that none is.

        Of others' tokens the register may say what it likes: OpenBao knows whose they are.
        """
        ended = 0
        for accessor in entry.tokens.values() if entry else ():
            if not self._is_ours(session, ticket, accessor):
                continue
            session.ask("auth/token/revoke-accessor", {"accessor": accessor})
            if self._is_ours(session, ticket, accessor):
                raise TargetUnavailable(
                    f"{self._bao.name} keeps a token that we revoked", remedy="It is tried again."
                )
            ended += 1
        return ended

    def _is_ours(self, session: Session, ticket: str, accessor: str) -> bool:
        token = self._token(session, accessor)
        return token is not None and (token.meta or {}).get("ticket") == ticket

    def _token(self, session: Session, accessor: str) -> _Token | None:
        answer = session.ask("auth/token/lookup-accessor", {"accessor": accessor})
        if answer.status == 400 and b"invalid accessor" in answer.body:  # another no proves nothing
            return None
        return session.read(answer, _Token)

    def _entry(self, session: Session, ticket: str) -> _Entry | None:
        answer = session.ask(self._at("data", ticket))
        if is_not_there(answer, "data"):
            return None
        return session.read(answer, _Stored).data

    def _tickets(self, session: Session) -> list[str]:
        answer = session.ask(f"{self._engine}/metadata/{self._folder}/?list=true")
        if is_not_there(answer, "data"):
            return []
        return [key for key in session.read(answer, _Keys).keys if _TICKET.fullmatch(key)]

    def _at(self, what: str, ticket: str) -> str:
        return f"{self._engine}/{what}/{self._folder}/{quote(ticket, safe='')}"

    def _unfit(self, session: Session, role: str) -> tuple[str, str] | None:
        """Why no token of this role can be made, or taken back."""
        answer = session.ask(f"auth/token/roles/{quote(role)}")
        if is_not_there(answer, "data"):
            return "no-such-privilege", f"{self._bao.name} has no role {role} of tokens"
        if answer.status == 403:
            session.require(session.token)
            return "not-allowed", f"our token may not use the role {role}"
        found = session.read(answer, _Role)
        if not found.orphan:
            return "not-allowed", f"tokens of {role} would end with our own: set orphan=true"
        if found.token_type not in {"service", "default-service"}:
            return "not-allowed", f"tokens of {role} cannot be revoked: set token_type=service"
        return None

    def _refusal(self, order: Order, unfit: Mapping[str, tuple[str, str] | None]) -> Outcome | None:
        if (bad := self._bad(order)) is not None:
            return no(order, "bad-name", bad)
        for item in order.scope:
            if (why := unfit[item.privilege]) is not None:
                return no(order, why[0], why[1])
        return None

    def _bad(self, order: Order) -> str | None:
        if (why := fault(self, order.account, order.scope, order.public_key or "")) is not None:
            return why
        return None if _TICKET.fullmatch(order.ticket) else "the ticket's id cannot stand in a path"


def _data_of(entry: _Entry) -> dict[str, object]:
    """As the register keeps it: nothing of it opens anything."""
    return {"account": entry.account, "tokens": entry.tokens}


KIND = Kind(
    summary="a privilege is a role of tokens, and a token of the ticket's own has its policies",
    settings=Settings,
    build=build,
    capabilities=OpenBaoTokens.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
