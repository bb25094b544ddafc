"""Settings from `muniment.toml`, read once, checked whole, with one sentence for what is wrong.

Relative paths are relative to the configuration file. Secrets are references (``env:NAME``, ``file:PATH``) and are
resolved only where they are used, so that printing a configuration never prints one (I31).
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import IdentityId, is_human, parse_group, parse_identity
from muniment.core.instants import parse_duration
from muniment.core.text import clean_name
from muniment.settings.experimental import ExperimentalSettings
from muniment.settings.limits import LimitSettings, check_limits
from muniment.settings.outbound import OcsfSettings, WebhookSettings, check_outbound
from muniment.settings.plaintext import require_no_plaintext, require_no_userinfo
from muniment.settings.reconcile import ReconcileSettings, check_reconcile
from muniment.settings.scim import ScimSettings, check_scim
from muniment.settings.section import Section as _Section
from muniment.settings.signals import SignalSettings, check_signals
from muniment.settings.tracing import TracingSettings, check_tracing
from muniment.settings.usage import usage_settings

DEFAULT_FILE = "muniment.toml"

_TARGET_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_ORIGIN = re.compile(r"[a-z0-9][a-z0-9./_-]{0,254}", re.ASCII)
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}", re.ASCII)
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", re.ASCII)
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(:|/|$)", re.ASCII)
T = TypeVar("T")


#: after which a session is over: without use, and with it
SESSIONS = "30m", "12h"


class StoreSettings(_Section, frozen=True, kw_only=True):
    """``[store]``."""

    url: str
    mark_key: str | None = None  # a secret; without it, it is derived from the ledger's key file


class TimestampSettings(_Section, frozen=True, kw_only=True):
    """``[ledger.timestamps]``: an RFC 3161 authority that says when a checkpoint was there."""

    url: str
    roots: str  # PEM file of the certificates it must lead to
    every: str = "1h"
    ca: str | None = None  # PEM file for https, if not the system's


class LedgerSettings(_Section, frozen=True, kw_only=True):
    """``[ledger]``."""

    origin: str
    key: str  # "file:…", "openbao:transit/keys/…" or "pkcs11:…"
    also_sign: tuple[str, ...] = ()  # other keys that sign too, while one replaces another
    vkeys: tuple[str, ...] = ()  # its public keys, for nodes that have no key
    pin: str | None = None  # of a PKCS#11 token; a secret
    openbao_address: str | None = None
    openbao_token: str | None = None  # a secret
    openbao_ca: str | None = None
    tiles: str | None = None
    checkpoint_interval: str = "1s"
    witnesses: tuple[str, ...] = ()  # "<vkey> <url>", and the URL of its monitoring if that differs
    witness_ca: str | None = None  # PEM file for https, if not the system's
    quorum: int | Literal["all", "none"] = "none"  # how many witnesses make a checkpoint as good as it can be
    heartbeat: str = "1h"  # how old the newest cosignature may become
    timestamps: TimestampSettings | None = None


class ServerSettings(_Section, frozen=True, kw_only=True):
    """``[server]``."""

    listen: str = "127.0.0.1:8642"
    url: str | None = None  # as clients reach it, if not by the address it listens on
    certificate: str | None = None  # PEM files, for https
    key: str | None = None
    public_ledger: bool = False
    login_links: bool | None = (
        None  # whether `muniment login-link` lets people in; None: on this machine alone
    )
    rate: int = 200
    at_once: int = 64
    proxies: tuple[str, ...] = ()  # in front of it; what they say of who asks is believed

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Their addresses. Raises ValueError for what is none."""
        return tuple(map(ip_network, self.proxies))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def public_url(self) -> str:
        """Without a slash at its end."""
        if self.url:
            return self.url.rstrip("/")
        return f"{'https' if self.certificate else 'http'}://{self.listen}"


class SigninSettings(_Section, frozen=True, kw_only=True):
    """``[signin]``: an OpenID provider that people sign in with."""

    issuer: str
    client_id: str
    client_secret: str | None = None  # a secret; without it, PKCE alone protects the login
    ca: str | None = None  # PEM file for https, if not the system's
    scopes: tuple[str, ...] = ("openid", "email")
    claim: str = "email"
    levels: dict[str, int] = {}  # noqa: RUF012  msgspec copies it
    groups_claim: str | None = None
    groups: dict[str, str] = {}  # noqa: RUF012  msgspec copies it
    idle: str = SESSIONS[0]
    longest: str = SESSIONS[1]


class WorkloadSettings(_Section, frozen=True, kw_only=True):
    """``[workloads.NAME]``: an issuer of tokens that programs sign in with."""

    issuer: str | None = None
    trust_domain: str | None = None
    audience: str
    jwks: str
    ca: str | None = None  # PEM file for https, if not the system's
    subjects: dict[str, str] = {}  # noqa: RUF012  msgspec copies it
    scopes: tuple[Literal["read", "write", "check", "ledger", "metrics"], ...] = ()


class IdentitySettings(_Section, frozen=True, kw_only=True):
    """``[identities]``."""

    file: str
    scim: ScimSettings | None = None


class PolicySettings(_Section, frozen=True, kw_only=True):
    """``[policy]``."""

    dir: str
    #: one person changes policies, targets and approver groups, by editing files: for trying Muniment out, and said
    #: wherever it matters. Without it, what is changed is in force once two people adopted it
    single_person_trial: bool = False
    approvers: tuple[str, ...] = ()  # who may agree to a change, besides operators: "group:NAME" or a person


class NotifySettings(_Section, frozen=True, kw_only=True):
    """``[notify]``."""

    file: str | None = None


class ReferenceSettings(_Section, frozen=True, kw_only=True):
    """``[references]``: where changes, incidents and cases are looked up."""

    file: str | None = None


class PrivilegeSettings(_Section, frozen=True, kw_only=True):
    """``[[targets.ID.privileges]]``."""

    name: str
    resource: str | None = None
    description: str = ""
    risk: Literal["low", "medium", "high", "critical"] = "medium"
    bounded: bool = False  # it reaches one narrow thing and cannot widen itself
    owners: tuple[str, ...] = ()  # its own, besides the target's
    accounts: dict[str, str] = {}  # noqa: RUF012  msgspec copies it
    account: str | None = None


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[targets.ID]``: what every target has; ``settings`` is the connector's own."""

    id: str
    connector: str
    environment: str
    owners: tuple[str, ...]
    privileges: tuple[PrivilegeSettings, ...]
    account: str | None
    accounts: Mapping[IdentityId, str]
    longest: timedelta | None
    settings: Mapping[str, Any]
    limits: LimitSettings = LimitSettings()
    usage: Mapping[str, Any] = {}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in the file."""

    base: Path  # the folder of the file
    store: StoreSettings
    ledger: LedgerSettings
    server: ServerSettings
    signin: SigninSettings | None = None
    workloads: Mapping[str, WorkloadSettings] = {}
    identities: IdentitySettings
    policy: PolicySettings
    notify: NotifySettings = NotifySettings()
    references: ReferenceSettings = ReferenceSettings()
    signals: SignalSettings | None = None
    webhooks: tuple[WebhookSettings, ...] = ()
    ocsf: tuple[OcsfSettings, ...] = ()
    tracing: TracingSettings | None = None
    experimental: ExperimentalSettings = ExperimentalSettings()
    reconcile: ReconcileSettings | None = None
    targets: tuple[TargetSettings, ...]

    def path(self, name: str) -> Path:
        """A path from the file, made absolute."""
        return (self.base / Path(name).expanduser()).resolve()

    def read(self, name: str) -> bytes:
        """A small file that the configuration names, and that is no secret. Raises `Misconfigured`."""
        path = self.path(name)
        try:
            with path.open("rb") as file:
                return file.read(1 << 20)
        except OSError as error:
            raise Misconfigured(
                f"{path} cannot be read: {error.strerror}", remedy="Check its path, owner and mode."
            ) from error

    @property
    def login_links(self) -> bool:
        """Whether `muniment login-link` lets people in: unless the file says so, where nobody else can reach us."""
        if self.server.login_links is not None:
            return self.server.login_links
        return self.signin is None and bool(_LOOPBACK.match(self.server.public_url))

    @property
    def store_url(self) -> str:
        """The store's URL with an absolute path."""
        scheme, _, name = self.store.url.partition(":///")
        if scheme == "sqlite" and name and name != ":memory:":
            return f"sqlite:///{self.path(name)}"
        return self.store.url

    def secret(self, reference: str) -> str:
        """Resolve ``env:NAME`` or ``file:PATH``.

        Raises:
            Misconfigured: no such secret, or a file that others can read. The message never holds the secret.
        """
        kind, _, name = reference.partition(":")
        if kind == "env" and name:
            if name not in os.environ:
                raise Misconfigured(
                    f"the environment variable {name} is not set", remedy=f"Set {name}, then try again."
                )
            return os.environ[name]
        if kind == "file" and name:
            return read_secret_file(self.path(name))
        raise Misconfigured(
            "a secret is not a reference",
            remedy="Write env:NAME or file:PATH; secrets do not belong into the configuration.",
        )


def read_secret_file(path: Path) -> str:
    """Read a file that only its owner may read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(1 << 20)
    except OSError as error:
        raise Misconfigured(
            f"the secret file {path} cannot be read: {error.strerror}",
            remedy="Check its path, owner and mode.",
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"the secret file {path} can be read by others", remedy=f"Run: chmod 600 {path}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Misconfigured(
            f"the secret file {path} is not text", remedy="Check that it is the right file."
        ) from error


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        Misconfigured: it is missing, not TOML, or says something that cannot be meant; the message names the key.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Misconfigured(
            f"there is no configuration at {path}",
            remedy="Run `muniment init DIR`, or name one with --config.",
            code="config.missing",
        ) from error
    except OSError as error:
        raise Misconfigured(
            f"{path} cannot be read: {error.strerror}", remedy="Check its owner and mode."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not TOML: {error}", remedy="Mend the line it names.") from error
    known = {
        "store", "ledger", "server", "signin", "workloads", "identities", "policy", "notify", "references", "signals", "webhooks", "ocsf", "tracing", "experimental",
        "reconcile", "targets",
    }  # fmt: skip
    for key in raw.keys() - known:
        raise Misconfigured(
            f"{path} has an unknown section [{key}]", remedy=f"Known are {', '.join(sorted(known))}."
        )
    _check_plaintext(raw)
    config = Config(
        base=path.resolve().parent,
        store=_section(raw, "store", StoreSettings),
        ledger=_section(raw, "ledger", LedgerSettings),
        server=_section(raw, "server", ServerSettings, default={}),
        signin=_section(raw, "signin", SigninSettings) if "signin" in raw else None,
        workloads={
            name: _converted(body, f"[workloads.{name:.80}]", WorkloadSettings)
            for name, body in _table(raw, "workloads").items()
        },
        identities=_section(raw, "identities", IdentitySettings),
        policy=_section(raw, "policy", PolicySettings),
        notify=_section(raw, "notify", NotifySettings, default={}),
        references=_section(raw, "references", ReferenceSettings, default={}),
        signals=_section(raw, "signals", SignalSettings) if "signals" in raw else None,
        webhooks=_converted(raw.get("webhooks", ()), "[[webhooks]]", tuple[WebhookSettings, ...]),
        tracing=_section(raw, "tracing", TracingSettings) if "tracing" in raw else None,
        experimental=_section(raw, "experimental", ExperimentalSettings, default={}),
        reconcile=_section(raw, "reconcile", ReconcileSettings) if "reconcile" in raw else None,
        ocsf=_converted(raw.get("ocsf", ()), "[[ocsf]]", tuple[OcsfSettings, ...]),
        targets=tuple(_target(name, body) for name, body in _table(raw, "targets").items()),
    )
    if not _ORIGIN.fullmatch(config.ledger.origin):
        raise Misconfigured(
            "[ledger] origin is not a name", remedy="Write it like ledger.example.com/muniment."
        )
    _check_server(config.server)
    _check_signin(config.signin, config.server)
    _check_workloads(config.workloads)
    check_scim(config.identities.scim)
    check_signals(config.signals)
    check_tracing(config.tracing)
    check_reconcile(config.reconcile)
    check_outbound(config.webhooks, config.ocsf)
    _checked(parse_duration, config.ledger.checkpoint_interval, "[ledger] checkpoint_interval")
    _checked(parse_duration, config.ledger.heartbeat, "[ledger] heartbeat")
    if config.ledger.timestamps:
        _checked(parse_duration, config.ledger.timestamps.every, "[ledger.timestamps] every")
    if isinstance(config.ledger.quorum, int) and not 1 <= config.ledger.quorum <= len(
        config.ledger.witnesses
    ):
        raise Misconfigured(
            f"[ledger] quorum is {config.ledger.quorum}, of {len(config.ledger.witnesses)} witnesses",
            remedy='Write a number that they can reach, "all", or "none".',
        )
    for approver in config.policy.approvers:
        _checked(
            parse_group if approver.startswith("group:") else parse_identity, approver, "[policy] approvers"
        )
    if "://" not in config.store.url:
        raise Misconfigured("[store] url is not a URL", remedy="Write sqlite:///path or postgresql://…")
    return config


def _check_plaintext(raw: Mapping[str, Any]) -> None:
    # each target is looked through as such; the store's URL is in no ledger, and `muniment check` warns of a password
    for key, body in raw.items():
        if key not in {"targets", "store"}:
            require_no_userinfo(body, f"[{key}]")


def _check_server(server: ServerSettings) -> None:
    if not _LISTEN.fullmatch(server.listen) or not 0 < server.address[1] < 65536:
        raise Misconfigured(
            "[server] listen is not an address and a port", remedy='Write "127.0.0.1:8642" or "[::1]:8642".'
        )
    if (server.certificate is None) != (server.key is None):
        raise Misconfigured(
            "[server] certificate and key go together", remedy="Name both PEM files, or neither."
        )
    if server.url is not None and not _URL.fullmatch(server.url):
        raise Misconfigured(
            "[server] url is not a URL", remedy='Write it like "https://muniment.example.com".'
        )
    if server.login_links and not _private(server.public_url):
        raise Misconfigured(
            "people cannot sign in at an address without TLS: [server] url is not https",
            remedy="Set [server] url to the https address that browsers use, or leave login_links out.",
        )
    try:
        networks = server.proxy_networks
    except ValueError as error:
        raise Misconfigured(
            f"[server] proxies: {error!s:.100}",
            remedy='Write addresses or networks: ["10.1.2.3", "fd00:1::/64"].',
        ) from error
    if any(network.prefixlen == 0 for network in networks):
        raise Misconfigured(
            "[server] proxies trusts every address, so anybody could say who asks",
            remedy="Name the proxies alone.",
        )
    if server.rate < 1 or server.at_once < 1:
        raise Misconfigured(
            "[server] rate and at_once are at least 1", remedy="Leave them out for the defaults."
        )


def _check_signin(signin: SigninSettings | None, server: ServerSettings) -> None:
    if signin is None:
        return
    if not _private(signin.issuer):
        raise Misconfigured(
            "[signin] issuer is not an https URL", remedy='Write it like "https://idp.example.com".'
        )
    if not _private(server.public_url):
        raise Misconfigured(
            "people cannot sign in at an address without TLS: [server] url is not https",
            remedy="Set [server] url to the https address that browsers use.",
        )
    if "openid" not in signin.scopes or not signin.claim or not signin.client_id:
        raise Misconfigured(
            "[signin] scopes, claim or client_id cannot be used",
            remedy='scopes holds "openid"; the others say something.',
        )
    if not all(1 <= level <= 3 for level in signin.levels.values()):
        raise Misconfigured(
            "[signin.levels] has a level that is not 1, 2 or 3", remedy='Write it like "phr" = 2.'
        )
    if bool(signin.groups) != (signin.groups_claim is not None):
        raise Misconfigured("[signin] groups_claim and groups go together", remedy="Say both, or neither.")
    for ours in signin.groups.values():
        _checked(parse_group, ours, "[signin.groups]")
    idle = _checked(parse_duration, signin.idle, "[signin] idle")
    longest = _checked(parse_duration, signin.longest, "[signin] longest")
    if not idle <= longest <= timedelta(days=7):
        raise Misconfigured(
            "[signin] idle is longer than longest, or that is longer than 7 days",
            remedy="Leave them out for the defaults.",
        )


def _check_workloads(workloads: Mapping[str, WorkloadSettings]) -> None:
    for name, settings in workloads.items():
        _check_workload(f"[workloads.{name:.80}]", settings)


def _check_workload(where: str, settings: WorkloadSettings) -> None:
    if settings.issuer is None and settings.trust_domain is None:
        raise Misconfigured(
            f"{where}: nobody says whose tokens these are",
            remedy="Write issuer, or the trust_domain of SPIFFE.",
        )
    if settings.issuer is not None and not _private(settings.issuer):
        raise Misconfigured(
            f"{where}: issuer is not an https URL", remedy="Write what its tokens have as iss."
        )
    if settings.trust_domain is not None and not _TRUST_DOMAIN.fullmatch(settings.trust_domain):
        raise Misconfigured(
            f"{where}: trust_domain is not one", remedy="Write it like example.com, in small letters."
        )
    if not settings.audience:
        raise Misconfigured(
            f"{where}: no audience", remedy="Write what tokens for Muniment have as aud, and no others."
        )
    if "://" in settings.jwks and not _private(settings.jwks):
        raise Misconfigured(f"{where}: jwks is not an https URL", remedy="Write one, or the path of a file.")
    for who in settings.subjects.values():
        if is_human(_checked(parse_identity, who, f"{where} subjects")):
            raise Misconfigured(
                f"{where}: {who} is a person", remedy="People sign in by themselves; see [signin]."
            )


def _private(url: str) -> bool:
    """https, or on this machine alone."""
    return bool(_URL.fullmatch(url)) and (url.startswith("https://") or bool(_LOOPBACK.match(url)))


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = raw.get(key, {})
    if not isinstance(table, dict):
        raise Misconfigured(f"{key} is not a table", remedy=f"Write [{key}.…] with its settings below.")
    return table


def _section(raw: Mapping[str, Any], key: str, kind: type[T], default: Any = None) -> T:
    body = raw.get(key, default)
    if body is None:
        raise Misconfigured(
            f"the section [{key}] is missing", remedy="Compare with what `muniment init` writes."
        )
    return _converted(body, f"[{key}]", kind)


def _converted(body: Any, where: str, kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise Misconfigured(
            f"{where}: {error}", remedy="Compare with what `muniment init` writes."
        ) from error


def _checked(parse: Any, value: str, where: str) -> Any:
    try:
        return parse(value)
    except Invalid as error:
        raise Misconfigured(f"{where}: {error.message}", remedy=error.remedy) from error


class _TargetTable(msgspec.Struct, frozen=True, kw_only=True):
    connector: str
    environment: str
    owners: tuple[str, ...]
    privileges: tuple[PrivilegeSettings, ...] = ()
    account: str | None = None
    accounts: dict[str, str] = {}
    longest: str | None = None
    limits: LimitSettings = LimitSettings()
    usage: dict[str, Any] = {}


def _target(name: str, body: Any) -> TargetSettings:
    where = f"[targets.{name:.80}]"
    if not _TARGET_ID.fullmatch(name):
        raise Misconfigured(
            f"{where}: not a name for a target", remedy="Use a-z 0-9 . _ - and at most 63 of them."
        )
    table = _converted(body, where, _TargetTable)
    if not table.owners:
        raise Misconfigured(
            f"{where}: no owners", remedy='Name at least one, like owners = ["group:dba-leads"].'
        )
    for owner in table.owners:
        _checked(parse_group if owner.startswith("group:") else parse_identity, owner, f"{where} owners")
    seen: set[tuple[str, str | None]] = set()
    for privilege in table.privileges:
        _checked(lambda text: clean_name(text, "the privilege"), privilege.name, where)
        if (privilege.name, privilege.resource) in seen:
            raise Misconfigured(
                f"{where}: the privilege {privilege.name} is there twice", remedy="Remove one."
            )
        seen.add((privilege.name, privilege.resource))
        if privilege.bounded and privilege.risk == "critical":
            raise Misconfigured(
                f"{where}: the privilege {privilege.name} is critical and bounded",
                remedy="What is bounded reaches one narrow thing: lower the risk, or leave bounded out.",
            )
        for owner in privilege.owners:
            _checked(parse_group if owner.startswith("group:") else parse_identity, owner, f"{where} owners")
    check_limits(f"[targets.{name}.limits]", table.limits)
    settings = {key: value for key, value in body.items() if key not in _TargetTable.__struct_fields__}
    require_no_plaintext(settings, where)
    usage_settings(table.usage, f"[targets.{name}.usage]")
    return TargetSettings(
        id=name, connector=table.connector, environment=table.environment, owners=table.owners,
        privileges=table.privileges, account=table.account, settings=settings,
        accounts=_accounts(where, table), usage=table.usage,
        longest=_checked(parse_duration, table.longest, f"{where} longest") if table.longest else None,
        limits=table.limits,
    )  # fmt: skip


def _accounts(where: str, table: _TargetTable) -> dict[IdentityId, str]:
    """Names on the target, from the target's own table and from its privileges'; an identity has one."""
    found: dict[IdentityId, str] = {}
    for named in (table.accounts, *(privilege.accounts for privilege in table.privileges)):
        for who, account in named.items():
            identity = _checked(parse_identity, who, f"{where} accounts")
            if found.setdefault(identity, account) != account:
                raise Misconfigured(
                    f"{where}: {identity} is both {found[identity]} and {account}",
                    remedy="An identity has one account on a target.",
                )
    return found
