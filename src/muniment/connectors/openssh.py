"""OpenSSH by certificates: a certificate authority in files. It needs no server and starts no program.

A grant is a user certificate (PROTOCOL.certkeys) for the beneficiary's own key. What follows what, under one lock:

1. look: revocation list (KRL) and register as they are now;
2. ``confirm``: the work is still ours;
3. sign, and write ``<serial>.cert`` into the register; only then is the certificate handed out. So none is ever in
   use that the register does not know. A crash before the write leaves nothing, since nobody saw the signature; a
   crash after it leaves a certificate that the same order finds and returns;
4. to revoke: replace the KRL by rename. Hosts obey it at the next login.

The serial follows from the ticket's id, so a ticket has one serial for ever: a retry cannot issue under a second
one, revocation needs no memory of the first, and a revoked ticket stays revoked whatever a late worker does.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization as keys

from muniment.connectors import krl as lists
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.openssh_certificates import (
    EPOCH,
    TICKET,
    Damaged,
    Issued,
    done,
    ends_at,
    foreign_handle,
    key_id,
    serial_of,
    verified,
)
from muniment.connectors.openssh_keys import (
    PrivateKey,
    PublicKey,
    check_names,
    fingerprint,
    load_authority,
    one_line,
    probe_folder,
    public_key,
    refusal,
    wire_form,
)
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_SKEW_SECONDS = 60  # a host's clock may be this far behind ours and still accept a fresh certificate
_KEPT_SECONDS = (
    86_400  # a serial stays in the KRL this long after its certificate ended: a host's clock may be wrong
)
_SWEEP = 64  # about one provisioning in this many puts ended certificates aside
_FILE = re.compile(r"([1-9][0-9]{0,19})\.cert", re.ASCII)
_EXTENSIONS = frozenset(
    f"permit-{what}" for what in ("pty", "agent-forwarding", "port-forwarding", "X11-forwarding", "user-rc")
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    #: Reference to the certificate authority's private key: ed25519, ecdsa or RSA of 3072 bits.
    ca_key: Secret
    krl: Path  # The list of revoked certificates that hosts read.
    register: Path | None = None  # Folder of what was issued. Default: `krl` with `.d` behind it.
    source_addresses: tuple[str, ...] = ()  # Networks that logins may come from. None: anywhere.
    force_command: str = ""  # The one command that a certificate allows.
    #: What a session may do: `permit-pty`, `permit-agent-forwarding`, `permit-port-forwarding`,
    #: `permit-X11-forwarding`, `permit-user-rc`.
    extensions: tuple[str, ...] = ("permit-pty",)


def build(_name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target. Raises `Invalid` or `Misconfigured`."""
    try:
        networks = ",".join(str(ipaddress.ip_network(network)) for network in settings.source_addresses)
    except ValueError as error:
        raise Invalid(str(error), remedy="Write networks like 10.0.0.0/8.") from error
    if settings.force_command:
        clean_name(settings.force_command, "force_command", limit=1000)
    check_names("any", tuple(catalogue))
    if unknown := set(settings.extensions) - _EXTENSIONS:
        raise Misconfigured(
            f"no such extension: {min(unknown)}", remedy=f"Use {', '.join(sorted(_EXTENSIONS))}."
        )
    options = {b"force-command": settings.force_command.encode(), b"source-address": networks.encode()}
    return OpenSSH(
        load_authority(f"{settings.ca_key.reveal()}\n".encode(), "ca_key"),
        krl=settings.krl,
        register=settings.register or Path(f"{settings.krl}.d"),
        options={option: value for option, value in options.items() if value},
        extensions=tuple(extension.encode() for extension in settings.extensions),
    )


class OpenSSH:
    """See `muniment.ports.Connector`; an account is a name in the certificate's key id, a privilege a principal.

    `observe` lists all that this authority issued through us, from the register. It cannot see what somebody signed
    with the same key by other means. Sessions outlive both expiry and revocation: OpenSSH asks at login only.
    """

    capabilities = Capabilities(
        native_expiry=True,
        ends_sessions=False,
        issues_credential=True,
        needs_public_key=True,
        lists_everything=True,
        usage_log=True,  # sshd writes the ticket's id at each login
        grant="certificate",
        separate=True,
    )

    def __init__(
        self,
        authority: PrivateKey,
        *,
        krl: Path,
        register: Path,
        options: Mapping[bytes, bytes] | None = None,
        extensions: Sequence[bytes] = (b"permit-pty",),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``options`` are critical options; ``clock`` decides what has expired."""
        self._key, self._public = authority, authority.public_key()
        self._authority = wire_form(self._public)
        self._krl = Path(os.path.realpath(krl))  # a rename over a link would part it from what hosts read
        self._register = register
        self._options, self._extensions, self._clock = dict(options or {}), tuple(extensions), clock

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        check_names(account, scope)
        if key is not None:
            public_key(key, self._authority)

    def check(self) -> CheckReport:
        """See `Connector.check`. Makes an empty KRL and register where there are none."""
        try:
            with lists.locked(self._krl):
                known = self._read_krl()
                self._make_register()
                if known is None:
                    self._write_krl(lists.Krl())
                for folder in (self._krl.parent, self._register):
                    probe_folder(folder)
            seen = self.observe(None)
        except TargetUnavailable as error:
            return CheckReport(reachable=False, details=(), problems=(f"{error.message}. {error.remedy}",))
        problem = f"{self._register} holds a damaged certificate: revoke its ticket, or restore the file."
        hosts = (
            f"Each host needs in sshd_config: TrustedUserCAKeys naming a file with the line `{one_line(self._public)}`; "
            f"RevokedKeys naming a current copy of {self._krl}; and AuthorizedPrincipalsFile naming a file per "
            "login name with one principal a line."
        )
        return CheckReport(
            reachable=True,
            details=(
                f"Certificates are signed by {fingerprint(self._authority)}.",
                f"{len(seen.holdings)} entitlements are in force.",
                hosts,
                "Open sessions outlive expiry and revocation.",
            ),
            problems=() if seen.complete else (problem,),
        )

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. Unless expired or revoked, a certificate holds each of its principals.

        One by another authority (an earlier key of ours, say) counts as well and names it as grantor. A file that
        does not verify makes the reading incomplete, unless its serial is revoked; so does a missing register, but for
        an authority that was never used: that has no revocation list either.
        """
        now, found = self._seconds(), {}
        listed, krl = self._listed(), self._read_krl()
        known, complete = krl or lists.Krl(), listed is not None or krl is None
        for serial in listed or ():
            try:
                issued = self._issued(serial)
            except Damaged:
                complete = complete and known.revokes(self._authority, serial)
                continue
            if issued is None or issued.until <= now or issued.revoked(known):
                continue
            if accounts is None or issued.account in accounts:
                grantor = fingerprint(issued.authority)
                for principal in issued.principals:
                    holding = Holding(
                        account=issued.account, privilege=principal, grantor=grantor, ticket=issued.ticket
                    )
                    found[holding.account, principal, grantor, issued.serial] = holding
        return Observation(holdings=tuple(found[key] for key in sorted(found)), complete=complete)

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        with lists.locked(self._krl):
            with (
                lists.answering(str(self._register)),
                suppress(FileNotFoundError),
                os.scandir(self._register),
            ):
                pass  # a register that cannot be read is no reason to reject an order: the target is not there
            known, now = self._read_krl(), self._seconds()
            plans = [self._plan(order, known or lists.Krl(), now) for order in orders]
            if not any(isinstance(plan, keys.SSHCertificateBuilder) for plan in plans):
                return [plan for plan in plans if isinstance(plan, Outcome)]
            confirm()
            self._make_register()
            if known is None:
                self._write_krl(lists.Krl())
            outcomes = [
                plan if isinstance(plan, Outcome) else self._issue(order, plan)
                for order, plan in zip(orders, plans, strict=True)
            ]
            if any(serial_of(order.ticket) % _SWEEP == 0 for order in orders):
                with suppress(TargetUnavailable):  # the next one will do
                    self._sweep(now)
        return outcomes

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. The whole certificate goes, also if the order names only some of its principals.

        One that is over by itself needs no entry in the KRL; one that the register does not know gets it all the same.
        """
        with lists.locked(self._krl):
            found, now = self._read_krl(), self._seconds()
            known, fresh, outcomes = found or lists.Krl(), dict[bytes, set[int]](), list[Outcome]()
            for order in orders:
                serial, issued, authorities = serial_of(order.ticket), None, {self._authority}
                if order.handle.get("serial", str(serial)) != str(serial):
                    outcomes.append(foreign_handle(order))
                    continue
                with suppress(Damaged):  # then its serial is all we know, and enough
                    issued = self._issued(serial)
                outcomes.append(done(order, issued.until if issued else None))
                if issued and issued.until <= now and issued.authority == self._authority:
                    continue
                if issued:
                    authorities.add(issued.authority)
                for authority in authorities:
                    if not known.revokes(authority, serial):
                        fresh.setdefault(authority, set()).add(serial)
            if fresh or found is None:
                confirm()
                self._write_krl(known.with_serials(fresh))
        return outcomes

    def _plan(self, order: Order, known: lists.Krl, now: int) -> keys.SSHCertificateBuilder | Outcome:
        """The certificate to sign, or the answer if there is nothing to sign."""
        try:
            key = self._admit(order, now)
            wanted = self._wanted(order, key)
            if known.revokes(self._authority, wanted.serial, wanted.key_id) or known.revokes_key(wanted.key):
                raise refusal("revoked", "this ticket's serial, or the public key, is revoked")
            issued = self._issued(wanted.serial)
            if issued is not None:
                if msgspec.structs.replace(issued, line=b"") != wanted:
                    raise refusal("register", "the register holds another certificate for this ticket")
                return msgspec.structs.replace(done(order, wanted.until), credential=issued.line)
        except Invalid as error:
            code = error.code if error.code.startswith("target.") else "target.bad-name"
            return Outcome(ticket=order.ticket, result="rejected", code=code, message=error.message)
        except Damaged:
            message = "this ticket's certificate in the register is damaged; a person must look"
            return Outcome(ticket=order.ticket, result="rejected", code="target.register", message=message)
        builder = keys.SSHCertificateBuilder().public_key(key).type(keys.SSHCertificateType.USER)
        builder = builder.serial(wanted.serial).key_id(wanted.key_id)
        builder = builder.valid_principals([principal.encode() for principal in wanted.principals])
        for option, value in self._options.items():
            builder = builder.add_critical_option(option, value)
        for extension in self._extensions:
            builder = builder.add_extension(extension, b"")
        return builder.valid_after(now - _SKEW_SECONDS).valid_before(wanted.until)

    def _admit(self, order: Order, now: int) -> PublicKey:
        """The key to certify. Raises `Invalid`."""
        check_names(order.account, order.scope)
        if not order.scope or not TICKET.fullmatch(order.ticket):
            raise refusal("bad-name", "the ticket's id or its scope cannot stand in a certificate")
        if ends_at(order) <= now:
            raise refusal("too-late", "the access is over already")
        return public_key(order.public_key or "", self._authority)

    def _wanted(self, order: Order, key: PublicKey) -> Issued:
        return Issued(
            serial=serial_of(order.ticket),
            key_id=key_id(order),
            principals=tuple(sorted({item.privilege for item in order.scope})),
            until=ends_at(order),
            key=wire_form(key),
            authority=self._authority,
        )

    def _issue(self, order: Order, builder: keys.SSHCertificateBuilder) -> Outcome:
        line = builder.sign(self._key).public_bytes() + b"\n"
        lists.replace_file(self._register / f"{serial_of(order.ticket)}.cert", line, 0o600)
        return msgspec.structs.replace(done(order, ends_at(order)), credential=line)

    def _sweep(self, now: int) -> None:
        """Put certificates aside that ended a day ago, and drop their serials from the KRL.

        A crash between the two steps leaves files that the next sweep moves.
        """
        ended: dict[bytes, set[int]] = {}
        for serial in self._listed() or ():
            with suppress(Damaged):
                issued = self._issued(serial)
                if issued and issued.until + _KEPT_SECONDS <= now:
                    ended.setdefault(issued.authority, set()).add(serial)
        old = new = self._read_krl() or lists.Krl()
        for authority, serials in ended.items():
            new = new.without_serials(authority, serials)
        if new != old:
            self._write_krl(new)
        with lists.answering(str(self._register)):
            for serial in set().union(*ended.values()):
                (self._register / f"{serial}.cert").replace(self._register / "ended" / f"{serial}.cert")

    def _seconds(self) -> int:
        return (self._clock() - EPOCH) // timedelta(seconds=1)

    def _read_krl(self) -> lists.Krl | None:
        """The list as it stands, None if there is none: no file, or the empty one that `touch` makes."""
        try:
            with lists.answering(str(self._krl)):
                data = self._krl.read_bytes() if self._krl.exists() else b""
            return lists.parse(data) if data else None
        except Misconfigured as error:
            # not ours to repair: sshd refuses everybody as well, until a person has restored it
            raise TargetUnavailable(f"{self._krl}: {error.message}", remedy=error.remedy) from error

    def _write_krl(self, krl: lists.Krl) -> None:
        fresh = msgspec.structs.replace(krl, version=krl.version + 1, generated=self._seconds())
        lists.replace_file(self._krl, lists.encode(fresh), 0o644)

    def _make_register(self) -> None:
        with lists.answering(str(self._register)):
            for folder in (self._register, self._register / "ended"):
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, parents=True)
                    lists.sync_folder(folder.parent)

    def _listed(self) -> list[int] | None:
        """Serials that the register names, None if there is no register."""
        with lists.answering(str(self._register)):
            try:
                names = [path.name for path in self._register.iterdir()]
            except FileNotFoundError:
                return None
        return [int(match[1]) for match in map(_FILE.fullmatch, names) if match]

    def _issued(self, serial: int) -> Issued | None:
        """What the register knows of a serial. Raises `Damaged`."""
        for folder in (self._register, self._register / "ended"):
            try:
                return verified((folder / f"{serial}.cert").read_bytes(), serial)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Damaged from error
        return None


KIND = Kind(
    summary="a privilege is a principal in a certificate for the beneficiary's key",
    settings=Settings,
    build=build,
    capabilities=OpenSSH.capabilities,
    least_privilege="""\
# the authority signs for hosts that trust it, and for nothing else
ssh-keygen -t ed25519 -N '' -f keys/ssh-ca
chmod 600 keys/ssh-ca
""",
)
