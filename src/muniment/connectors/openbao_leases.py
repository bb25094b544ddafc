"""OpenBao (and Vault): what its engines issue, for as long as a ticket: a database's login, a certificate, a one-time password.

A privilege is a path that issues: ``database/creds/ROLE``, ``pki/issue/ROLE``, ``ssh/sign/ROLE``, ``ssh/creds/ROLE``. What
follows what, for each ticket of a batch, with lock, fence and register as in `openbao_tokens`:

1. ``confirm``, then a token of the ticket's own, which nobody else ever sees, and its accessor in the register
2. with that token each path is asked; the lease is renewed or refused, so that it lasts as long as the ticket
3. leases into the register, and what was issued sealed to the beneficiary's key. A crash before leaves what nobody was
   given, and what ends with the token: at the ticket's end
4. to revoke: each lease, for which OpenBao waits until its engine has done it; then the token; then the entry

A lease is there if OpenBao says so. One whose engine could not take it back, because a database is away, stays, and
with it the ticket. The ticket and the account are in the token's metadata and in its display name, which engines put
into names of logins and ids of keys.

What comes without a lease, as a signed SSH certificate does, nobody can take back: it is given only where the settings say
so, and counts as held until it ends by itself.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from muniment import delivery
from muniment.connectors.answering import fault, no, sealed, unknown, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.openbao import reach
from muniment.connectors.openbao_register import (
    ACCESSOR_POLICY,
    TICKET,
    Register,
    described,
    end_token,
    unfit,
)
from muniment.connectors.openbao_session import FENCE, FENCE_POLICY, ROOTS, Bao, Session, lock_policy
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.instants import parse_instant, wire
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_ISSUES = re.compile(
    r"(?!(?:sys|auth|identity|cubbyhole)/)(?:[A-Za-z0-9_-]+/)+(?:creds|issue|sign)/"
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?",
    re.ASCII,
)
_SIGNS = re.compile(r".*/sign/[^/]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FIELD = re.compile(r"\{([a-z_]+)\}")
_MAX_ACCOUNT = 255  # characters
_LONGEST = timedelta(days=365)
_ROUNDING = 5  # seconds by which engines round a lease down


def policy(lock: str, register: str, role: str, paths: Iterable[str]) -> str:
    """What we need, with lock and register in the engine ``muniment``."""
    leases = ", ".join(f'"{path}/*"' for path in paths)
    return f"""\
{FENCE_POLICY}{ACCESSOR_POLICY}path "auth/token/roles/{role}" {{ capabilities = ["read"] }}
path "auth/token/create/{role}" {{ capabilities = ["update"] }}
path "sys/leases/lookup" {{
  capabilities = ["update"]
  allowed_parameters = {{ "lease_id" = [{leases}] }}
}}
path "sys/leases/revoke" {{
  capabilities = ["update"]
  allowed_parameters = {{ "lease_id" = [{leases}], "sync" = [] }}
}}
{lock_policy("muniment", lock)}path "muniment/data/{register}/*" {{ capabilities = ["create", "read", "update"] }}
path "muniment/metadata/{register}/*" {{ capabilities = ["list", "delete"] }}
"""


def lending_policy(paths: Iterable[str]) -> str:
    """What a ticket's token needs."""
    return "".join(f'path "{path}" {{ capabilities = ["read", "update"] }}\n' for path in paths)


LEAST_PRIVILEGE = f"""\
# muniment.hcl: our own policy, with each path of the catalogue where database/creds/orders-ro stands
{policy("lock", "leases", "lending", ["database/creds/orders-ro"])}# lending.hcl: the policy of tickets' tokens
{lending_policy(["database/creds/orders-ro"])}# then
bao secrets enable -path=muniment -version=2 kv
bao policy write muniment muniment.hcl
bao policy write lending lending.hcl
bao write auth/token/roles/lending allowed_policies=lending orphan=true renewable=false token_type=service
bao auth enable approle
bao write auth/approle/role/muniment token_policies=muniment token_ttl=1m token_max_ttl=1m
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # `https://HOST:8200`; `http://` only on this machine.
    role_id: str = ""  # Whom we are there: an AppRole, with `secret_id`.
    secret_id: Secret | None = None  # Reference to the AppRole's secret.
    approle: str = "approle"  # Path of the AppRole method.
    token: Secret | None = None  # In place of an AppRole: reference to a token that somebody else renews.
    namespace: str = ""  # The namespace in which engines and tokens are.
    #: A secret in a KV engine of version 2, by which our workers keep out of each other's way.
    lock: str = "muniment/lock"
    register: str = "muniment/leases"  # Folder in a KV engine of version 2, where our tickets' leases are.
    lending: str = "lending"  # The role of tokens under which leases are issued.
    #: Variables of the beneficiary's programs, with `{username}` and the like for what was issued:
    #: `{PGUSER = "{username}", PGPASSWORD = "{password}"}`. Default: `MUNIMENT_USERNAME` and so on.
    env: dict[str, str] = {}
    #: As `env`, for what programs read from a file: the variable holds the name of one that lies in memory only.
    files: dict[str, str] = {}
    #: Whether to give what cannot be taken back before its end: SSH certificates, and others without a lease.
    unleased: bool = False
    ca: Path | None = None  # PEM file of the authority that its certificate leads to. Default: the system's.
    timeout: str = "20s"  # For each call in all; OpenBao waits for what is behind it.


class _Mount(msgspec.Struct, frozen=True, kw_only=True):
    type: str


class _Auth(msgspec.Struct, frozen=True, kw_only=True):
    client_token: str
    accessor: str


class _Issued(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's answer."""

    data: dict[str, Any] | None = None
    lease_id: str = ""
    lease_duration: int = 0  # seconds
    renewable: bool = False


class _Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was issued."""

    path: str
    resource: str | None = None
    lease: str = ""  # OpenBao's id of it; empty if there is none
    until: str = ""  # wire instant at which it ends by itself, where there is no lease


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Of one ticket."""

    account: str
    accessor: str  # of its token
    leases: tuple[_Lease, ...] = ()


class _Short(Exception):
    """What was issued does not last, or cannot be taken back."""


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    for variable in (*settings.env, *settings.files):
        if not _VARIABLE.fullmatch(variable):
            raise Misconfigured(
                f"{variable!r:.40} is no variable's name", remedy="Write it like PGUSER, in env or files."
            )
    register = Register(name, settings.register, _Entry, connector="openbao-leases")
    made = OpenBaoLeases(reach(name, settings), register, settings, catalogue=tuple(catalogue))
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class OpenBaoLeases:
    """See `muniment.ports.Connector`; an account is whom it is issued for, a privilege a path that issues.

    Only a one-time password of the SSH engine has a resource: the host's address.
    """

    capabilities = Capabilities(
        native_expiry=True,
        ends_sessions=False,  # whether a database ends them is up to its role's revocation statements
        issues_credential=True,
        needs_public_key=True,
        lists_everything=False,
        grant="login",
        separate=True,
    )

    def __init__(
        self, bao: Bao, register: Register[_Entry], settings: Settings, *, catalogue: Scope = ()
    ) -> None:
        """Signs in at each call."""
        self._bao, self._register, self._catalogue = bao, register, catalogue
        self._role, self._env, self._files = settings.lending, settings.env, settings.files
        self._unleased = settings.unleased

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        clean_name(account, "the account", limit=_MAX_ACCOUNT)
        for item in scope:
            clean_name(item.privilege, "the path")
            if not _ISSUES.fullmatch(item.privilege):
                raise Invalid(
                    "nothing is issued at such a path of OpenBao",
                    remedy="Write it like database/creds/ROLE, pki/issue/ROLE or ssh/sign/ROLE.",
                )
            if item.resource is not None and not _is_address(item.resource):
                raise Invalid(
                    "only a one-time password has a resource: the address of its host", remedy="Leave it out."
                )
        if key is not None:
            delivery.recipient(key)
            if key.startswith("age1") and any(_SIGNS.fullmatch(item.privilege) for item in scope):
                raise Invalid("OpenBao signs SSH keys, and this is age's", remedy="Give an SSH public key.")

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            with self._bao.session() as session:
                why = unfit(session, self._bao.name, self._role)
                problems = [f"{why[1]}."] if why else []
                if session.us().is_root:
                    problems.append(ROOTS)
                with (
                    session.locked() as fence
                ):  # the one way to find out that lock and fence are ours to have
                    self._register.tickets(session)
                    if why is None:
                        problems += self._barred(session, fence)
        except TargetUnavailable as error:
            return unreachable(error)
        left = (
            "What has no lease is given as well, and cannot be taken back before its end."
            if self._unleased
            else "What has no lease, as SSH certificates, is not given: unleased = true allows it."
        )
        return CheckReport(
            reachable=True,
            details=(
                "OpenBao answers, and its lock and register are ours to use.",
                "What is issued is sealed to the key in the request, and ends with a token of the ticket's own.",
                left,
            ),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. Something is held while OpenBao has its lease; or until it ends, where there is none."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        found = []
        with self._bao.session() as session:
            for ticket in self._register.tickets(session):
                entry = self._register.entry(session, ticket)
                if entry is None or (accounts is not None and entry.account not in accounts):
                    continue
                found += [
                    Holding(account=entry.account, privilege=each.path, resource=each.resource, ticket=ticket)
                    for each in entry.leases
                    if self._is_there(session, each)
                ]
        return Observation(holdings=tuple(found))

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`. What was issued for the ticket before, and perhaps never delivered, goes first."""
        if not orders:
            return []
        with self._bao.session() as session:
            why = unfit(session, self._bao.name, self._role)
            with session.locked() as fence:
                session.confirmed(confirm)
                return session.in_turn(
                    orders, lambda order: self._refusal(order, why) or self._issue(session, fence, order)
                )

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. All that the ticket has goes, also if the order names only some of it."""
        if not orders:
            return []
        with self._bao.session() as session, session.locked() as fence:
            session.confirmed(confirm)
            return session.in_turn(orders, lambda order: self._end(session, fence, order))

    # ── giving ──

    def _issue(self, session: Session, fence: str, order: Order) -> Outcome:
        old = self._register.entry(session, order.ticket)
        if (taken := self._taken(order, old)) is not None:
            return taken
        if old is not None and (stays := self._end_all(session, order, old)) is not None:
            return stays
        left = order.expires_at - datetime.now(UTC)
        if left <= timedelta(0) or left > _LONGEST:
            return no(order, "too-late", "the access is over already, or lasts for more than a year")
        seconds = math.ceil(left / timedelta(seconds=1))
        made = session.ask(
            f"auth/token/create/{quote(self._role)}",
            {
                **described(order.ticket, order.account, seconds),
                "display_name": f"{order.ticket}-{order.account}",
            },
            token=fence,
        )
        if made.status in {400, 403, 404}:
            session.require(fence)
            return no(order, "not-allowed", f"our token may not make one of {self._role}: {made.status}")
        token = session.read(made, _Auth, "auth")
        entry = _Entry(account=order.account, accessor=token.accessor)
        issued: list[_Issued] = []
        try:
            self._register.keep(session, fence, order.ticket, entry)
            for item in order.scope:
                answer = self._ask(session, token.client_token, order, item, seconds)
                if isinstance(answer, Outcome):
                    self._withdraw(session, fence, order, entry)
                    return answer
                issued.append(answer)
                entry = replace(entry, leases=(*entry.leases, _lease(order, item, answer)))
            self._register.keep(session, fence, order.ticket, entry)
            credential = self._credential(order, issued)
        except (TargetUnavailable, Invalid):
            with suppress(TargetUnavailable):  # nobody was given it, and at worst it ends with its token
                self._withdraw(session, fence, order, entry)
            raise
        return Outcome(
            ticket=order.ticket, result="done", native_expiry=order.expires_at, credential=credential
        )

    def _ask(
        self, session: Session, token: str, order: Order, item: Privilege, seconds: int
    ) -> _Issued | Outcome:
        """What is issued at a path; or why not."""
        mount = session.ask(f"sys/internal/ui/mounts/{item.privilege}", token=token)
        if mount.status in {403, 404}:
            return no(order, "not-allowed", f"tokens of {self._role} may not use {item.privilege}")
        engine = session.read(mount, _Mount).type
        body = _body(engine, order, item, seconds)
        if item.resource is not None and (body is None or "ip" not in body):
            return no(order, "rejected", f"{item.privilege} has no resource")
        answer = session.ask(item.privilege, body, token=token)
        if answer.status == 400 and b"unknown role" in answer.body.lower():
            return no(order, "no-such-privilege", f"{self._bao.name} has no {item.privilege}")
        if answer.status in {400, 403, 404, 405}:
            word = "not-allowed" if answer.status == 403 else "rejected"
            return no(
                order, word, f"{item.privilege} issues nothing for {order.account}: OpenBao answered {answer.status}"
            )  # fmt: skip
        found = _whole(session, answer)
        try:
            self._lasts(session, token, item, found, seconds)
        except _Short as why:
            return no(order, "rejected", str(why))
        return found

    def _lasts(self, session: Session, token: str, item: Privilege, found: _Issued, seconds: int) -> None:
        """Have it last as long as the ticket. Raises `_Short`."""
        if not found.lease_id:
            if not self._unleased:
                raise _Short(f"what {item.privilege} issues has no lease, and could not be taken back")
            return
        lasts = found.lease_duration
        if found.renewable:
            body = {"lease_id": found.lease_id, "increment": seconds}
            renewed = session.ask("sys/leases/renew", body, token=token)
            if renewed.status == 200:
                lasts = _whole(session, renewed).lease_duration
        if lasts < seconds - _ROUNDING:
            longest = timedelta(seconds=lasts)
            raise _Short(f"what {item.privilege} issues lasts no longer than {longest}: ask for less")

    def _credential(self, order: Order, issued: Sequence[_Issued]) -> bytes:
        """A certificate alone is no secret, and goes as it is; all else is sealed."""
        if len(issued) == 1 and isinstance(signed := (issued[0].data or {}).get("signed_key"), str):
            return signed.encode()
        env, files = dict[str, str](), dict[str, str]()
        for number, each in enumerate(issued, 1):
            fields = {key: value for key, value in (each.data or {}).items() if isinstance(value, str | int)}
            tail = "" if len(issued) == 1 else f"_{number}"
            named = {f"MUNIMENT_{key.upper()}": f"{{{key}}}" for key in fields}
            env |= _filled(self._env or ({} if self._files else named), fields, tail)
            files |= _filled(self._files, fields, tail)
        return sealed(order, "login", env, files=files)

    # ── taking ──

    def _end(self, session: Session, fence: str, order: Order) -> Outcome:
        done = Outcome(ticket=order.ticket, result="done")
        if not TICKET.fullmatch(order.ticket):
            return done  # nothing was ever made for it
        entry = self._register.entry(session, order.ticket)
        if entry is None:
            return done
        if (refused := self._taken(order, entry) or self._end_all(session, order, entry)) is not None:
            return refused
        self._register.drop(session, fence, order.ticket)
        return done

    def _end_all(self, session: Session, order: Order, entry: _Entry) -> Outcome | None:
        """None when OpenBao says that nothing is left; else what is."""
        stays = []
        for each in entry.leases:
            if self._is_there(session, each) and each.lease:
                session.ask("sys/leases/revoke", {"lease_id": each.lease, "sync": True})
            if self._is_there(session, each):
                stays.append(each)
        end_token(session, self._bao.name, order.ticket, entry.accessor)
        if leased := [each.path for each in stays if each.lease]:
            what = ", ".join(sorted(leased))
            return unknown(
                order, "still-held", f"OpenBao could not take back what {what} issued, and goes on trying"
            )
        if stays:
            until = max(each.until for each in stays)
            return no(order, "still-held", f"what has no lease cannot be taken back: it ends at {until}")
        return None

    def _withdraw(self, session: Session, fence: str, order: Order, entry: _Entry) -> None:
        """What was issued for an order that then is refused. What has no lease was given to nobody."""
        mine = replace(entry, leases=tuple(each for each in entry.leases if each.lease))
        if self._end_all(session, order, mine) is None:
            self._register.drop(session, fence, order.ticket)

    def _is_there(self, session: Session, each: _Lease) -> bool:
        if not each.lease:
            return parse_instant(each.until) > datetime.now(UTC)
        if not each.lease.startswith(f"{each.path}/"):
            return False  # nothing that we wrote
        answer = session.ask("sys/leases/lookup", {"lease_id": each.lease})
        if answer.status == 400 and b"invalid lease" in answer.body:  # another no proves nothing
            return False
        session.read(answer, dict)
        return True

    # ── refusing ──

    def _barred(self, session: Session, fence: str) -> list[str]:
        """Paths of the catalogue that a ticket's token may not use."""
        made = session.ask(f"auth/token/create/{quote(self._role)}", {"explicit_max_ttl": FENCE}, token=fence)
        if made.status != 200:
            return [f"Our token may not make one of {self._role}."]
        token = session.read(made, _Auth, "auth")
        paths = sorted({item.privilege for item in self._catalogue})
        body = {"paths": paths}
        able = session.read(
            session.ask("sys/capabilities-self", body, token=token.client_token), dict[str, Any]
        )
        return [
            f"Tokens of {self._role} may not use {path}, which is in the catalogue."
            for path in paths
            if not {"read", "update", "root"} & set(able.get(path) or ())
        ]

    def _taken(self, order: Order, entry: _Entry | None) -> Outcome | None:
        if entry is None or entry.account == order.account:
            return None
        return no(order, "name-taken", f"{self._bao.name} has leases of {order.ticket} that are for another")

    def _refusal(self, order: Order, why: tuple[str, str] | None) -> Outcome | None:
        bad = fault(self, order.account, order.scope, order.public_key or "")
        if bad is None and not TICKET.fullmatch(order.ticket):
            bad = "the ticket's id cannot stand in a path"
        if bad is not None:
            return no(order, "bad-name", bad)
        return no(order, why[0], why[1]) if why is not None else None


def _body(engine: str, order: Order, item: Privilege, seconds: int) -> dict[str, object] | None:
    """What an engine is told; None of those that are told nothing, and read."""
    if engine == "pki":
        return {"common_name": order.account, "ttl": f"{seconds}s"}
    if engine != "ssh":
        return None
    if _SIGNS.fullmatch(item.privilege):
        return {"public_key": order.public_key, "valid_principals": order.account, "ttl": f"{seconds}s"}
    return {"ip": item.resource or "", "username": order.account}


def _lease(order: Order, item: Privilege, found: _Issued) -> _Lease:
    until = (
        "" if found.lease_id else wire(order.expires_at + timedelta(seconds=1))
    )  # it is given whole seconds
    return _Lease(path=item.privilege, resource=item.resource, lease=found.lease_id, until=until)


def _whole(session: Session, answer: Any) -> _Issued:
    """The whole of an answer, not only its data."""
    body = msgspec.json.encode({"data": msgspec.Raw(answer.body or b"null")})
    return session.read(replace(answer, body=body), _Issued)


def _filled(templates: Mapping[str, str], fields: Mapping[str, object], tail: str) -> dict[str, str]:
    """Variables with what was issued in them; those that have something of it are numbered, where there are several."""
    made = {}
    for name, template in templates.items():
        text = _FIELD.sub(lambda found: str(fields.get(found[1], found[0])), template)
        made[name + (tail if _FIELD.search(template) else "")] = text
    return made


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


KIND = Kind(
    summary="a privilege is a path of an engine of OpenBao's, and what it issues lives as long as the ticket",
    settings=Settings,
    build=build,
    capabilities=OpenBaoLeases.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
