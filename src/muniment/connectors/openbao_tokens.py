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
from muniment.connectors.openbao_register import (
    ACCESSOR_POLICY,
    TICKET,
    Register,
    described,
    end_token,
    token_of,
    unfit,
)
from muniment.connectors.openbao_session import FENCE_POLICY, ROOTS, Bao, Session, lock_policy
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_ROLE = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_MAX_ACCOUNT = 255  # characters
_LONGEST = timedelta(days=365)


def policy(lock: str, register: str) -> str:
    """What we need beside the roles, with both in the engine ``muniment``."""
    return f"""\
{FENCE_POLICY}{ACCESSOR_POLICY}{lock_policy("muniment", lock)}path "muniment/data/{register}/*" {{ capabilities = ["create", "read", "update"] }}
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


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Of one ticket."""

    account: str
    tokens: dict[str, str]  # role to accessor


class _Wrapped(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    wrapped_accessor: str


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    register = Register(name, settings.register, _Entry, connector="openbao-tokens")
    made = OpenBaoTokens(reach(name, settings), register, catalogue=[each.privilege for each in catalogue])
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

    def __init__(self, bao: Bao, register: Register[_Entry], *, catalogue: Sequence[str] = ()) -> None:
        """Signs in at each call."""
        self._bao, self._register, self._catalogue = bao, register, tuple(catalogue)

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
                whys = (unfit(session, self._bao.name, name) for name in sorted(set(self._catalogue)))
                problems = [f"{why[1]}." for why in whys if why is not None]
                if session.us().is_root:
                    problems.append(ROOTS)
                with session.locked():  # the one way to find out that lock and fence are ours to have
                    self._register.tickets(session)
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
            for ticket in self._register.tickets(session):
                entry = self._register.entry(session, ticket)
                if entry is None or (accounts is not None and entry.account not in accounts):
                    continue
                tokens = (token_of(session, ticket, accessor) for accessor in entry.tokens.values())
                found += [
                    Holding(account=entry.account, privilege=token.role, ticket=ticket)
                    for token in tokens
                    if token is not None
                ]
        return Observation(holdings=tuple(found))

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`. What was made for the ticket before, and perhaps never delivered, goes first."""
        if not orders:
            return []
        with self._bao.session() as session:
            sound = [order for order in orders if self._bad(order) is None]
            roles = sorted({item.privilege for order in sound for item in order.scope})
            whys = {name: unfit(session, self._bao.name, name) for name in roles}
            with session.locked() as fence:
                session.confirmed(confirm)
                return session.in_turn(
                    orders, lambda order: self._refusal(order, whys) or self._issue(session, fence, order)
                )

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. All tokens of the ticket go, also if the order names only some of its privileges."""
        if not orders:
            return []
        with self._bao.session() as session, session.locked() as fence:
            session.confirmed(confirm)
            return session.in_turn(orders, lambda order: self._end(session, fence, order))

    def _issue(self, session: Session, fence: str, order: Order) -> Outcome:
        old = self._register.entry(session, order.ticket)
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
            body = described(order.ticket, order.account, seconds)
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
        try:
            self._register.keep(session, fence, order.ticket, entry)
        except TargetUnavailable:
            self._revoke_all(session, order.ticket, entry)
            raise
        if self._bao.namespace:
            env["BAO_NAMESPACE"] = self._bao.namespace
        names = tuple(name for name in env if name.startswith("BAO_TOKEN"))
        credential = sealed(order, "token", env, wrapped=names)
        return Outcome(
            ticket=order.ticket, result="done", native_expiry=order.expires_at, credential=credential
        )

    def _end(self, session: Session, fence: str, order: Order) -> Outcome:
        if not TICKET.fullmatch(order.ticket):
            return Outcome(ticket=order.ticket, result="done")  # nothing was ever made for it
        entry = self._register.entry(session, order.ticket)
        if entry is None:
            return Outcome(ticket=order.ticket, result="done")
        if entry.account != order.account:
            return no(
                order, "name-taken", f"{self._bao.name} has tokens of {order.ticket} that are for another"
            )
        ended = self._revoke_all(session, order.ticket, entry)
        self._register.drop(session, fence, order.ticket)
        return Outcome(ticket=order.ticket, result="done", sessions_ended=ended)

    def _revoke_all(self, session: Session, ticket: str, entry: _Entry | None) -> int:
        """How many were there; when it returns OpenBao says that none is.

        Of others' tokens the register may say what it likes: OpenBao knows whose they are.
        """
        accessors = entry.tokens.values() if entry else ()
        return sum(end_token(session, self._bao.name, ticket, each) for each in accessors)

    def _refusal(self, order: Order, whys: Mapping[str, tuple[str, str] | None]) -> Outcome | None:
        if (bad := self._bad(order)) is not None:
            return no(order, "bad-name", bad)
        for item in order.scope:
            if (why := whys[item.privilege]) is not None:
                return no(order, why[0], why[1])
        return None

    def _bad(self, order: Order) -> str | None:
        if (why := fault(self, order.account, order.scope, order.public_key or "")) is not None:
            return why
        return None if TICKET.fullmatch(order.ticket) else "the ticket's id cannot stand in a path"


KIND = Kind(
    summary="a privilege is a role of tokens, and a token of the ticket's own has its policies",
    settings=Settings,
    build=build,
    capabilities=OpenBaoTokens.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
