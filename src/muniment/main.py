# ruff: noqa: PLC0415  adapters are imported where they are built, so that `muniment --help` starts fast
"""The composition root: the only file that builds adapters, and the program's entry."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from muniment.config import SESSIONS, Config, SigninSettings, TargetSettings, WorkloadSettings, load
from muniment.core.errors import Misconfigured, RolledBack
from muniment.core.scope import Privilege

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime
    from typing import Any

    from muniment.api.serving import ApiServer
    from muniment.core.identity import Identity
    from muniment.directory.provisioned import ProvisionedDirectory
    from muniment.ledger.note import Signer, Verifier
    from muniment.outbound import Http
    from muniment.ports import (
        Authenticator,
        Clock,
        Connector,
        Directory,
        IdentityProvider,
        Notifier,
        Policy,
        Target,
        TimestampAuthority,
        Witness,
    )
    from muniment.service.desk import Desk
    from muniment.service.in_force import Governed
    from muniment.service.outward import Outward
    from muniment.service.scim import Scim
    from muniment.service.sending import Sink
    from muniment.service.signals import Signals
    from muniment.service.signing_in import SignIn
    from muniment.service.transmitting import Transmitting
    from muniment.settings.outbound import WebhookSettings
    from muniment.settings.signals import TransmitterSettings
    from muniment.signals.transmitters import Polled
    from muniment.signin.workloads import Issuer
    from muniment.store.events import SqlStore
    from muniment.store.views import SqlViews


class SystemRandom:
    """`ports.Random` from the operating system."""

    def bytes(self, count: int) -> bytes:
        """Unpredictable bytes."""
        return secrets.token_bytes(count)


def open_desk(
    config: Config, *, clock: Clock | None = None, signing: bool = True, only: Collection[str] = ()
) -> Desk:
    """Build every adapter a process needs. ``clock`` replaces the store's own in tests.

    Without ``signing`` the process has no key of the ledger, and cannot seal; with ``only``, it resolves the secrets of
    these targets and of no others (I32).

    Raises:
        Misconfigured: a setting, key, policy or identity cannot be used; the message says which.
        StoreUnavailable: the store cannot be opened.
    """
    from muniment.anchors.signers import open_signer
    from muniment.core.drift import SLA
    from muniment.directory.references import FileReferences
    from muniment.service.desk import Desk
    from muniment.service.guarding import guard
    from muniment.store.marking import mark_key
    from muniment.store.opening import open_store
    from muniment.store.sequencer import SqlLedger
    from muniment.store.tile_directory import TileDirectory
    from muniment.store.views import SqlViews

    if unknown := set(only) - {target.id for target in config.targets}:
        raise Misconfigured(
            f"there is no target {min(unknown):.80}",
            remedy="Name targets as the configuration does: [targets.NAME].",
        )
    signers = _signers(config) if signing else ()
    store = open_store(config.store_url, config.ledger.origin, mark_key(_mark_secret(config)), clock)
    if not store.marked_by_us():
        store.engine.dispose()
        raise Misconfigured(
            "the store's entries were marked with another secret than [store] mark_key",
            remedy="Set mark_key to the one they were marked with: without it, it is the ledger's first key file."
            " If nobody changed that, somebody rewrote the store: keep it as it is.",
            code="config.mark-key",
        )
    views = SqlViews(store.engine)
    policy, directory, targets, governed = _in_force(config, store, views, only)
    desk = Desk(
        store=store,
        views=views,
        policy=policy,
        directory=directory,
        targets=targets,
        governed=governed,
        baseline=governed.declared if governed else _baseline(config) or str,
        sla=config.reconcile.within if config.reconcile else SLA,
        references=FileReferences(config.path(config.references.file)) if config.references.file else None,
        ledger=SqlLedger(store.engine, store.origin, store.marker, store.clock),
        random=SystemRandom(),
        signers=signers,
        public=() if signing else _public(config),
        open_signer=lambda reference: open_signer(config, reference),
        tiles=TileDirectory(config.path(config.ledger.tiles)) if config.ledger.tiles else None,
        notifiers=_notifiers(config),
        witnesses=_witnesses(config),
        quorum=_quorum(config),
        authority=_authority(config),
    )
    with suppress(RolledBack):  # reading goes on; whatever would write is refused with this error
        guard(desk)
    return desk


def open_api(config: Config, desk: Desk) -> ApiServer:
    """Build the HTTP server. It listens on nothing yet."""
    from muniment.api.office import Office
    from muniment.api.serving import Address, ApiServer
    from muniment.web.pages import problem_page
    from muniment.web.site import ROUTES

    server, timestamps = config.server, config.ledger.timestamps
    host, port = server.address
    office = Office(
        desk=desk, url=server.public_url, public_ledger=server.public_ledger, rate=server.rate, at_once=server.at_once,
        proxies=server.proxy_networks,
        certificates=config.path(timestamps.roots).read_bytes() if timestamps else b"",
        signin=_signin(config, desk), authenticators=_authenticators(config, desk), scim=open_scim(config, desk),
        outward=open_outward(config, desk), policies=config.path(config.policy.dir),
        access_requests=config.experimental.access_requests, site=ROUTES, problem_page=problem_page,
    )  # fmt: skip
    return ApiServer(
        office,
        Address(
            host=host, port=port,
            certificate=config.path(server.certificate) if server.certificate else None,
            key=config.path(server.key) if server.key else None,
        ),
    )  # fmt: skip


def _authenticators(config: Config, desk: Desk) -> tuple[Authenticator, ...]:
    """What counts as a bearer."""
    from muniment.service.tokens import TokenAuthenticator
    from muniment.store.tokens import SqlTokens

    tokens = TokenAuthenticator(SqlTokens(desk.store))
    if not config.workloads:
        return (tokens,)
    from muniment.signin.workloads import WorkloadAuthenticator

    issuers = tuple(_issuer(config, name, settings) for name, settings in config.workloads.items())
    return (tokens, WorkloadAuthenticator(issuers))


def _issuer(config: Config, name: str, settings: WorkloadSettings) -> Issuer:
    from muniment.core.identity import parse_identity
    from muniment.outbound import Http
    from muniment.published import fetch
    from muniment.signin.keys import Keys
    from muniment.signin.workloads import Issuer

    if "://" in settings.jwks:
        http = Http(ca=config.path(settings.ca) if settings.ca else None)
        keys = Keys(lambda _: fetch(http, settings.jwks), name)
    else:
        keys = Keys(lambda _: config.read(settings.jwks), name)
    return Issuer(
        name=name, audience=settings.audience, keys=keys, issuer=settings.issuer, trust_domain=settings.trust_domain,
        subjects={subject: parse_identity(who) for subject, who in settings.subjects.items()},
        scopes=frozenset(settings.scopes),
    )  # fmt: skip


def _signin(config: Config, desk: Desk) -> SignIn | None:
    """Where people sign in: at an identity provider, which is asked when somebody does, or with links."""
    settings, links = config.signin, config.login_links
    if settings is None and not links:
        return None
    from muniment.core.instants import parse_duration
    from muniment.service.sessions import Sessions
    from muniment.service.signing_in import SignIn
    from muniment.store.sessions import SqlSessions

    idle, longest = (settings.idle, settings.longest) if settings else SESSIONS
    sessions = Sessions(
        SqlSessions(desk.store.engine, desk.store.marker),
        desk.random,
        idle=parse_duration(idle),
        longest=parse_duration(longest),
    )
    provider = _provider(config, settings) if settings else None
    groups = settings.groups if settings else {}
    return SignIn(desk=desk, sessions=sessions, provider=provider, links=links, groups=groups)


def _provider(config: Config, settings: SigninSettings) -> IdentityProvider:
    from muniment.core.instants import parse_duration
    from muniment.outbound import Http
    from muniment.signin.oidc import OidcProvider

    reference = settings.client_secret
    if reference is not None:
        config.secret(reference)  # said now, and not when somebody signs in
    return OidcProvider(
        http=Http(ca=config.path(settings.ca) if settings.ca else None),
        issuer=settings.issuer,
        client=settings.client_id,
        secret=None if reference is None else lambda: config.secret(reference),
        callback=f"{config.server.public_url}/auth/callback",
        scopes=settings.scopes,
        levels=settings.levels,
        claim=settings.claim,
        groups=settings.groups_claim,
        longest=parse_duration(settings.longest),
    )


def open_scim(config: Config, desk: Desk) -> Scim | None:
    """The SCIM server, where identities come by it."""
    if config.identities.scim is None:
        return None
    from muniment.store.provisioned import SqlProvisioned

    try:
        from muniment.service.scim import Scim
    except ModuleNotFoundError as error:
        raise Misconfigured(
            "[identities.scim] is configured, and SCIM is not installed",
            remedy="Install it with pip install 'muniment[scim]'.",
            code="config.not-installed",
        ) from error
    rows = SqlProvisioned(desk.store.engine, desk.store.marker)
    return Scim(rows=rows, clock=desk.clock, random=desk.random, url=config.server.public_url)


def open_outward(config: Config, desk: Desk) -> Outward:
    """Whom this process tells, and whom it hears."""
    from muniment.service.outward import Outward

    signals, transmitting = open_signals(config, desk), open_transmitting(config, desk)
    sinks = (
        *open_sinks(config),
        *(transmitting.streams if transmitting else ()),
        *((signals,) if signals else ()),
    )
    return Outward(sinks=sinks, signals=signals, polled=open_polled(config), transmitting=transmitting)


def open_signals(config: Config, desk: Desk) -> Signals | None:
    """What is done about signals that come in."""
    if config.signals is None or not config.signals.transmitters:
        return None
    from muniment.service.signals import Signals, Transmitter
    from muniment.signals.tokens import Issuer, keys_of
    from muniment.signals.transmitters import RemoteKeys
    from muniment.store.provisioned import SqlProvisioned

    def keys(each: TransmitterSettings) -> Callable[[str, datetime], Any]:
        if "://" in each.jwks:
            return RemoteKeys(_guarded(config, each.ca, each.allow), each.jwks, each.issuer)
        found = keys_of(config.read(each.jwks), each.issuer)
        return lambda *_: found

    transmitters = {
        each.issuer: Transmitter(
            issuer=Issuer(
                issuer=each.issuer, audience=each.audience or config.server.public_url, algorithms=each.algorithms,
                keys=keys(each),
            ),
            subjects=each.subjects, ends=frozenset(each.ends),
        )
        for each in config.signals.transmitters
    }  # fmt: skip
    rows = SqlProvisioned(desk.store.engine, desk.store.marker)
    return Signals(desk=desk, transmitters=transmitters, rows=rows)


def open_polled(config: Config) -> dict[str, Polled]:
    """Transmitters that signals are fetched from, by issuer."""
    from muniment.signals.transmitters import LARGEST_ANSWER, Polled

    return {
        each.issuer: Polled(
            _guarded(config, each.ca, each.allow, largest=LARGEST_ANSWER),
            each.poll,
            _bearer(config, each.poll_token),
        )
        for each in (config.signals.transmitters if config.signals else ())
        if each.poll is not None
    }


def open_transmitting(config: Config, desk: Desk) -> Transmitting | None:
    """Signals that go out."""
    if config.signals is None or config.signals.key is None:
        return None
    from muniment.service.pushing import Endpoints, Push
    from muniment.service.transmitting import SignalStream, Transmitting
    from muniment.signals.tokens import Signer
    from muniment.store.delivering import SqlDeliveries
    from muniment.store.signal_streams import SqlSignalStreams

    signer = Signer(config.secret(config.signals.key))
    states = SqlSignalStreams(desk.store.engine, desk.store.marker)
    streams = tuple(
        SignalStream(
            name=f"signals:{each.name}", issuer=config.server.public_url, audience=each.audience, signer=signer,
            push=Push(
                http=_guarded(config, each.ca, each.allow), url=each.push,
                authorization=_authorization(config, each.push_token),
            ) if each.push is not None else None,
            endpoints=Endpoints(
                http=_guarded(config, each.ca, each.allow), plain=bool(each.allow), marker=desk.store.marker
            ) if each.client is not None else None,
            client=each.client, subjects=each.subjects, subjects_issuer=each.issuer, targets=each.targets,
            states=states,
        )
        for each in config.signals.streams
    )  # fmt: skip
    return Transmitting(
        desk=desk, url=config.server.public_url, signer=signer, streams=streams,
        deliveries=SqlDeliveries(desk.store.engine),
    )  # fmt: skip


def open_sinks(config: Config) -> tuple[Sink, ...]:
    """Webhooks and log stores."""
    from muniment.notify.syslog import Syslog
    from muniment.notify.webhooks import Endpoint
    from muniment.service.sinks import OcsfSink, WebhookSink, to_file, to_syslog, to_url

    found: list[Sink] = []
    for each in config.webhooks:
        endpoint = Endpoint(_guarded(config, each.ca, each.allow), each.url, _secrets(config, each))
        found.append(WebhookSink(each.name, endpoint, each.events, each.targets))
    for out in config.ocsf:
        if out.file is not None:
            put = to_file(config.path(out.file))
        elif out.syslog is not None:
            put = to_syslog(Syslog(out.syslog, config.path(out.ca) if out.ca else None))
        else:
            put = to_url(_guarded(config, out.ca, out.allow), out.url or "", _bearer(config, out.token))
        found.append(OcsfSink(out.name, out.version, put))
    return tuple(found)


def _secrets(config: Config, hook: WebhookSettings) -> Callable[[], tuple[str, ...]]:
    from muniment.notify.webhooks import read_key

    references = (hook.secret, *((hook.previous_secret,) if hook.previous_secret else ()))

    def resolved() -> tuple[str, ...]:
        return tuple(config.secret(reference) for reference in references)

    for secret in resolved():  # said now, and not when something happens
        read_key(secret)
    return resolved


def _bearer(config: Config, reference: str | None) -> Callable[[], str | None]:
    return lambda: None if reference is None else config.secret(reference).strip()


def _authorization(config: Config, reference: str | None) -> Callable[[], str | None]:
    token = _bearer(config, reference)
    return lambda: f"Bearer {held}" if (held := token()) else None


def _guarded(config: Config, ca: str | None, allow: tuple[str, ...], *, largest: int | None = None) -> Http:
    """Questions to where only public addresses are, or networks that are allowed (I39)."""
    from muniment.notify.guard import Guard
    from muniment.outbound import LARGEST, Http

    return Http(ca=config.path(ca) if ca else None, connect=Guard(allow), largest=largest or LARGEST)


def _provided(config: Config, store: SqlStore) -> ProvisionedDirectory | None:
    """Who there is by an identity provider, and of whom it was signalled that they are disabled."""
    scim, transmitters = config.identities.scim, config.signals.transmitters if config.signals else ()
    if scim is None and not transmitters:
        return None
    from muniment.directory.provisioned import ProvisionedDirectory
    from muniment.store.provisioned import SqlProvisioned

    rows = SqlProvisioned(store.engine, store.marker)
    groups, issuers = scim.groups if scim else (), [each.issuer for each in transmitters]
    return ProvisionedDirectory(rows.revision, rows.since, groups, issuers, users=scim is not None)


def _in_force(
    config: Config, store: SqlStore, views: SqlViews, only: Collection[str] = ()
) -> tuple[Policy, Directory, Mapping[str, Target], Governed | None]:
    """Policies, people and targets: as they lie on disk in a single-person trial, else as two people adopted them."""
    from muniment.directory.file import FileDirectory, Unreadable
    from muniment.directory.joined import JoinedDirectory
    from muniment.policy.cedar import CedarPolicy
    from muniment.policy.loading import read_folder
    from muniment.service.in_force import AdoptedDirectory, AdoptedPolicy, AdoptedTargets, Governed
    from muniment.service.standing import Adopted

    people, provided = config.path(config.identities.file), _provided(config, store)
    elsewhere = provided.knows if provided else _nobody
    try:
        file = FileDirectory(people, elsewhere)
    except Unreadable as trouble:  # the ledger knows who there was; what that is good for, the core says
        identities = _on_record(store, list(views.registered("identity:")))
        if not identities:
            raise
        file = FileDirectory.as_recorded(people, identities, trouble, elsewhere)
    directory: Directory = JoinedDirectory(file, provided) if provided else file
    targets = {
        settings.id: build_target(config, settings, ours=not only or settings.id in only)
        for settings in config.targets
    }
    folder = config.path(config.policy.dir)
    if config.policy.single_person_trial:
        return CedarPolicy.load(folder), directory, targets, None
    adopted = Adopted(store)
    governed = Governed(
        adopted=adopted,
        targets=targets,
        directory=directory,
        adopters=config.policy.approvers,
        baseline=_baseline(config),
    )
    return (
        AdoptedPolicy(adopted, lambda: read_folder(folder)),
        AdoptedDirectory(adopted, directory),
        AdoptedTargets(
            adopted,
            targets,
            lambda target, written: _connector(config, target, written),
        ),
        governed,
    )


def _nobody(_: str) -> bool:
    return False


def _on_record(store: SqlStore, streams: list[str]) -> list[Identity]:
    """Who there was by the last entries of these streams, checked (I11): people a query, not all in one."""
    from muniment.core.events import IdentityRecorded, decode_data
    from muniment.store.views import CHUNK

    found = []
    for start in range(0, len(streams), CHUNK):
        for _, entry in store.last(streams[start : start + CHUNK]).values():
            last = decode_data(entry.type, entry.data)
            if isinstance(last, IdentityRecorded):
                found.append(last.identity)
    return found


def _notifiers(config: Config) -> tuple[Notifier, ...]:
    from muniment.notify.lines import FileNotifier, LogNotifier

    files = [FileNotifier(config.path(config.notify.file))] if config.notify.file else []
    return (LogNotifier(), *files)


def build_target(config: Config, settings: TargetSettings, *, ours: bool = True) -> Target:
    """One target with its connector; not ``ours``: without its secrets. Reaches nothing yet."""
    from muniment.limits import Gate
    from muniment.ports import CatalogueEntry, Target

    catalogue = tuple(
        CatalogueEntry(
            privilege=Privilege(privilege=p.name, resource=p.resource),
            description=p.description,
            risk=p.risk,
            bounded=p.bounded,
            owners=p.owners,
        )
        for p in settings.privileges
    )
    templates = {p.account for p in settings.privileges if p.account} | (
        {settings.account} if settings.account else set()
    )
    if len(templates) > 1:
        raise Misconfigured(
            f"[targets.{settings.id}]: several templates for account names",
            remedy="An identity has one account on a target.",
        )
    target = Target(
        id=settings.id, kind=settings.connector, environment=settings.environment, owners=settings.owners,
        catalogue=catalogue, connector=None, accounts=settings.accounts,
        account_template=templates.pop() if templates else "{local_part}", longest=settings.longest,
        settings=settings.settings, usage=settings.usage, gate=Gate(settings.limits), ours=ours,
    )  # fmt: skip
    return replace(target, connector=_connector(config, target, settings.settings))


def _connector(config: Config, target: Target, settings: Mapping[str, Any]) -> Connector:
    """A target's connector with these settings, behind the target's gate."""
    from muniment.connectors.kinds import build_connector, load
    from muniment.limits import gated
    from muniment.service.in_force import Unusable
    from muniment.tracing import TracedConnector

    if not target.ours:
        return Unusable(
            load(target.kind).capabilities,
            "this process has no credentials there: `serve` was told its --target.",
        )
    made: Any = build_connector(
        target.kind,
        name=target.id,
        settings=settings,
        secret=config.secret,
        path=config.path,
        catalogue=[entry.privilege for entry in target.catalogue],
    )
    reached: Connector = gated(TracedConnector(made, target.id) if config.tracing else made, target.gate)
    return reached


def _mark_secret(config: Config) -> bytes:
    """What marks our rows. The ledger's key changes in time, and this does not: it is best a secret of its own."""
    reference = config.store.mark_key or config.ledger.key
    if config.store.mark_key is None and not reference.startswith(("file:", "env:")):
        raise Misconfigured(
            "[store] mark_key is missing, and the ledger's key is nowhere that a mark could be derived from",
            remedy='Add [store] mark_key = "file:keys/mark.key", with 32 random bytes as text: openssl rand -hex 32.'
            " If there are entries already, it is what they were marked with.",
            code="config.mark-key",
        )
    return config.secret(reference).encode()


def _signers(config: Config) -> tuple[Signer, ...]:
    """The log's keys; an Ed25519 key first, which is the one that witnesses ask for."""
    from muniment.anchors.signers import open_signer
    from muniment.ledger.cosignature import MlDsaSigner

    signers = tuple(open_signer(config, key) for key in (config.ledger.key, *config.ledger.also_sign))
    if isinstance(signers[0], MlDsaSigner):
        raise Misconfigured(
            "[ledger] key is an ML-DSA-44 key, which can only sign beside another",
            remedy="Put it into also_sign, and an Ed25519 key into key.",
            code="config.ledger-key",
        )
    return signers


def _public(config: Config) -> tuple[Verifier, ...]:
    """The log's public keys, for a process without the keys."""
    from muniment.ledger.errors import LedgerFault
    from muniment.ledger.note import Verifier

    origin, remedy = (
        config.ledger.origin,
        "`muniment ledger checkpoint --json` shows them, where the keys are.",
    )
    if config.ledger.witnesses and not config.ledger.vkeys:
        raise Misconfigured(
            "this node has no key of the ledger, and could not tell whether what a witness shows is this ledger's",
            remedy=f"Add [ledger] vkeys. {remedy}",
            code="config.ledger-vkeys",
        )
    try:
        public = tuple(map(Verifier.from_vkey, config.ledger.vkeys))
    except LedgerFault as fault:
        raise Misconfigured(
            f"[ledger] vkeys cannot be used: {fault}", remedy=remedy, code="config.ledger-vkeys"
        ) from fault
    if other := [each.name for each in public if each.name != origin]:
        raise Misconfigured(
            f"[ledger] vkeys has a key of {other[0]!r:.80}, and this ledger is {origin}",
            remedy=remedy,
            code="config.ledger-vkeys",
        )
    return public


def _witnesses(config: Config) -> tuple[Witness, ...]:
    if not config.ledger.witnesses:
        return ()
    from muniment.anchors.witnesses import TIMEOUT, read_witnesses
    from muniment.outbound import Http

    ca = config.path(config.ledger.witness_ca) if config.ledger.witness_ca else None
    return read_witnesses(config.ledger.witnesses, Http(ca=ca, timeout=TIMEOUT))


def _quorum(config: Config) -> int:
    """How many witnesses; 0 for none."""
    quorum = config.ledger.quorum
    if isinstance(quorum, int):
        return quorum
    return len(config.ledger.witnesses) if quorum == "all" else 0


def _baseline(config: Config) -> Callable[[], str] | None:
    """The file of access that stands without a ticket, as it lies on disk."""
    file = config.reconcile.baseline if config.reconcile else None
    if file is None:
        return None

    def read() -> str:
        path = config.path(file)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Misconfigured(
                f"[reconcile] baseline: {path} cannot be read: {why}",
                remedy="Check its path, owner and mode.",
            ) from error

    return read


def _authority(config: Config) -> TimestampAuthority | None:
    settings = config.ledger.timestamps
    if settings is None:
        return None
    from muniment.anchors.timestamps import HttpAuthority, read_roots
    from muniment.outbound import Http, split_url

    split_url(settings.url)
    roots = config.read(settings.roots)
    read_roots(roots)
    http = Http(ca=config.path(settings.ca) if settings.ca else None)
    return HttpAuthority(url=settings.url, roots=roots, http=http)


def find_config(named: str | None) -> Config:
    """Load the configuration: ``named``, else ``$MUNIMENT_CONFIG``, else ``./muniment.toml``."""
    return load(Path(named or os.environ.get("MUNIMENT_CONFIG") or "muniment.toml"))


def run() -> None:
    """The ``muniment`` program."""
    from muniment.cli.app import main

    sys.exit(main(find_config, open_desk, open_api, open_outward))
