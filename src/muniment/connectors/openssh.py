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

import base64
import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as keys
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from muniment.connectors import krl as lists
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SKEW_SECONDS = 60  # a host's clock may be this far behind ours and still accept a fresh certificate
_KEPT_SECONDS = (
    86_400  # a serial stays in the KRL this long after its certificate ended: a host's clock may be wrong
)
_SWEEP = 64  # about one provisioning in this many puts ended certificates aside
_RSA_BITS = 3072
_MAX_KEY_LINE = 8192  # characters: RSA of 16384 bits, OpenSSH's limit, and a comment
_TICKET = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_KEY_ID = re.compile(rf"muniment:{_TICKET.pattern}:(.+)", re.ASCII | re.DOTALL)
_FILE = re.compile(r"([1-9][0-9]{0,19})\.cert", re.ASCII)
_EXTENSIONS = frozenset(
    f"permit-{what}" for what in ("pty", "agent-forwarding", "port-forwarding", "X11-forwarding", "user-rc")
)
#: a comma parts principals in tools; "#" cuts a line of AuthorizedPrincipalsFile, a quote or a pattern may mislead one
_UNSAFE = {"the account": ",", "the principal": ',#"*?!'}

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.NAME]`` beside what every target has."""

    ca_key: str  # a reference, such as "file:keys/ssh-ca"
    krl: str
    register: str = ""  # folder of what was issued; default "<krl>.d"
    source_addresses: tuple[str, ...] = ()  # networks that logins may come from; none: anywhere
    force_command: str = ""
    extensions: tuple[str, ...] = ("permit-pty",)


def build(
    name: str, settings: Mapping[str, object], secret: Callable[[str], str], catalogue: Sequence[Privilege]
) -> Connector:
    """Make the connector of one target. Raises `Misconfigured`."""
    try:
        chosen = msgspec.convert(dict(settings), Settings)
        networks = ",".join(str(ipaddress.ip_network(network)) for network in chosen.source_addresses)
        if chosen.force_command:
            clean_name(chosen.force_command, "force_command", limit=1000)
        _check_names("any", tuple(catalogue))
    except (msgspec.ValidationError, ValueError, Invalid) as error:
        taken = ", ".join(Settings.__struct_fields__)
        raise Misconfigured(f"target {name}: {error}", remedy=f"An openssh target takes {taken}.") from error
    if unknown := set(chosen.extensions) - _EXTENSIONS:
        raise Misconfigured(
            f"target {name}: no such extension: {min(unknown)}",
            remedy=f"Use {', '.join(sorted(_EXTENSIONS))}.",
        )
    if chosen.ca_key.startswith("file:"):
        _check_mode(name, Path(chosen.ca_key.removeprefix("file:")))
    options = {b"force-command": chosen.force_command.encode(), b"source-address": networks.encode()}
    return OpenSSH(
        _load_authority(secret(chosen.ca_key).encode(), f"target {name}"),
        krl=Path(chosen.krl),
        register=Path(chosen.register or f"{chosen.krl}.d"),
        options={option: value for option, value in options.items() if value},
        extensions=tuple(extension.encode() for extension in chosen.extensions),
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
        self._authority = _wire(self._public)
        self._krl = Path(os.path.realpath(krl))  # a rename over a link would part it from what hosts read
        self._register = register
        self._options, self._extensions, self._clock = dict(options or {}), tuple(extensions), clock

    def validate(self, account: str, scope: Scope) -> None:
        """See `Connector.validate`."""
        _check_names(account, scope)

    def check(self) -> CheckReport:
        """See `Connector.check`. Makes an empty KRL and register where there are none."""
        try:
            with lists.locked(self._krl):
                known = self._read_krl()
                self._make_register()
                if known is None:
                    self._write_krl(lists.Krl())
                for folder in (self._krl.parent, self._register):
                    _probe(folder)
            seen = self.observe(None)
        except TargetUnavailable as error:
            return CheckReport(reachable=False, details=(), problems=(f"{error.message}. {error.remedy}",))
        problem = f"{self._register} holds a damaged certificate: revoke its ticket, or restore the file."
        hosts = (
            f"Each host needs in sshd_config: TrustedUserCAKeys naming a file with the line `{_line(self._public)}`; "
            f"RevokedKeys naming a current copy of {self._krl}; and AuthorizedPrincipalsFile naming a file per "
            "login name with one principal a line."
        )
        return CheckReport(
            reachable=True,
            details=(
                f"Certificates are signed by {_fingerprint(self._authority)}.",
                f"{len(seen.holdings)} entitlements are in force.",
                hosts,
                "Open sessions outlive expiry and revocation.",
            ),
            problems=() if seen.complete else (problem,),
        )

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. Unless expired or revoked, a certificate holds each of its principals.

        One by another authority (an earlier key of ours, say) counts as well and names it as grantor. A file that
        does not verify makes the reading incomplete, unless its serial is revoked; so does a missing register.
        """
        now, found = self._seconds(), {}
        listed = self._listed()
        known, complete = self._read_krl() or lists.Krl(), listed is not None
        for serial in listed or ():
            try:
                issued = self._issued(serial)
            except _Damaged:
                complete = complete and known.revokes(self._authority, serial)
                continue
            if issued is None or issued.until <= now or issued.revoked(known):
                continue
            if accounts is None or issued.account in accounts:
                grantor = _fingerprint(issued.authority)
                for principal in issued.principals:
                    holding = Holding(account=issued.account, privilege=principal, grantor=grantor)
                    found[holding.account, principal, grantor] = holding
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
                    outcomes.append(_foreign(order))
                    continue
                with suppress(_Damaged):  # then its serial is all we know, and enough
                    issued = self._issued(serial)
                outcomes.append(_done(order, issued.until if issued else None))
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
                raise _no("revoked", "this ticket's serial, or the public key, is revoked")
            issued = self._issued(wanted.serial)
            if issued is not None:
                if msgspec.structs.replace(issued, line=b"") != wanted:
                    raise _no("register", "the register holds another certificate for this ticket")
                return msgspec.structs.replace(_done(order, wanted.until), credential=issued.line)
        except Invalid as error:
            code = error.code if error.code.startswith("target.") else "target.bad-name"
            return Outcome(ticket=order.ticket, result="rejected", code=code, message=error.message)
        except _Damaged:
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
        _check_names(order.account, order.scope)
        if not order.scope or not _TICKET.fullmatch(order.ticket):
            raise _no("bad-name", "the ticket's id or its scope cannot stand in a certificate")
        if _until(order) <= now:
            raise _no("too-late", "the access is over already")
        return _public_key(order.public_key or "", self._authority)

    def _wanted(self, order: Order, key: PublicKey) -> _Issued:
        return _Issued(
            serial=serial_of(order.ticket),
            key_id=_key_id(order),
            principals=tuple(sorted({item.privilege for item in order.scope})),
            until=_until(order),
            key=_wire(key),
            authority=self._authority,
        )

    def _issue(self, order: Order, builder: keys.SSHCertificateBuilder) -> Outcome:
        line = builder.sign(self._key).public_bytes() + b"\n"
        lists.replace_file(self._register / f"{serial_of(order.ticket)}.cert", line, 0o600)
        return msgspec.structs.replace(_done(order, _until(order)), credential=line)

    def _sweep(self, now: int) -> None:
        """Put certificates aside that ended a day ago, and drop their serials from the KRL.

        A crash between the two steps leaves files that the next sweep moves.
        """
        ended: dict[bytes, set[int]] = {}
        for serial in self._listed() or ():
            with suppress(_Damaged):
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
        return (self._clock() - _EPOCH) // timedelta(seconds=1)

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

    def _issued(self, serial: int) -> _Issued | None:
        """What the register knows of a serial. Raises `_Damaged`."""
        for folder in (self._register, self._register / "ended"):
            try:
                return _verified((folder / f"{serial}.cert").read_bytes(), serial)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _Damaged from error
        return None


# ── Certificates ─────────────────────────────────────────────────────────────


class _Damaged(Exception):
    """A file in the register is not the certificate that its name says."""


class _Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate whose signature is that of the authority it names."""

    serial: int
    key_id: bytes
    principals: tuple[str, ...]
    until: int  # seconds since 1970; sshd refuses from this second on
    key: bytes  # wire form, as is ``authority``
    authority: bytes
    line: bytes = b""

    @property
    def account(self) -> str:
        text = self.key_id.decode(errors="backslashreplace")
        match = _KEY_ID.fullmatch(text)
        return match[1] if match else text

    def revoked(self, krl: lists.Krl) -> bool:
        return krl.revokes(self.authority, self.serial, self.key_id) or any(
            map(krl.revokes_key, (self.key, self.authority))
        )


def _verified(line: bytes, serial: int) -> _Issued:
    try:
        found = keys.load_ssh_public_identity(line)
        if not isinstance(found, keys.SSHCertificate) or found.serial != serial:
            raise _Damaged
        found.verify_cert_signature()
        signer = found.signature_key()
    except (ValueError, TypeError, AssertionError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _Damaged from error
    return _Issued(
        serial=serial,
        key_id=found.key_id,
        principals=tuple(p.decode(errors="backslashreplace") for p in found.valid_principals) or ("*",),
        until=found.valid_before,
        key=_wire(found.public_key()),
        authority=_wire(signer),
        line=line,
    )


def serial_of(ticket: str) -> int:
    """The serial of a ticket's certificate: 63 bits of SHA-256, never 0, which PROTOCOL.krl cannot revoke.

    Two of ten million tickets share one with a chance under one in 100,000; the second is then refused.
    """
    digest = hashlib.sha256(b"muniment ssh serial\0" + ticket.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1 or 1


def _key_id(order: Order) -> bytes:
    return f"muniment:{order.ticket}:{order.account}".encode()


def _foreign(order: Order) -> Outcome:
    message = "the handle names another ticket's serial"
    return Outcome(ticket=order.ticket, result="rejected", code="target.foreign-handle", message=message)


def _until(order: Order) -> int:
    """The end in whole seconds, rounded up: PROTOCOL.certkeys knows no fractions, and we end it on time anyway."""
    return -((_EPOCH - order.expires_at) // timedelta(seconds=1))


def _done(order: Order, until: int | None) -> Outcome:
    handle = {"serial": str(serial_of(order.ticket)), "key_id": _key_id(order).decode()}
    ends = None if until is None else _EPOCH + timedelta(seconds=min(until, 1 << 37))
    return Outcome(ticket=order.ticket, result="done", handle=handle, native_expiry=ends)


def _no(code: str, message: str) -> Invalid:
    return Invalid(message, remedy="File a new request.", code=f"target.{code}")


# ── Names and keys ───────────────────────────────────────────────────────────


def _check_names(account: str, scope: Scope) -> None:
    for item in scope:
        if item.resource is not None:
            raise Invalid("an SSH principal has no resource", remedy="Leave the resource out.")
    for what, name in [("the account", account), *(("the principal", item.privilege) for item in scope)]:
        clean_name(name, what)
        if bad := next((c for c in name if c.isspace() or c in _UNSAFE[what]), None):
            raise Invalid(
                f"{what} holds {bad!r}, which OpenSSH's files would read otherwise", remedy="Rename it."
            )


def _public_key(text: str, authority: bytes) -> PublicKey:
    """The beneficiary's key: one line, a bare key, strong enough."""
    kind, _, rest = text.strip().partition(" ")
    body = rest.partition(" ")[0]
    if len(text) > _MAX_KEY_LINE or not text.strip().isprintable() or not text.strip():
        raise _no("bad-key", "the public key is missing, or not one line of text")
    if kind.startswith("sk-"):
        # cryptography reads them as plain keys, without the application: a certificate for that fits no token
        raise _no("bad-key", "keys of security tokens (sk-) cannot be certified")
    if kind.endswith("-cert-v01@openssh.com"):
        raise _no("bad-key", "this is a certificate, not a public key")
    try:
        base64.b64decode(body, validate=True)
        key = keys.load_ssh_public_identity(f"{kind} {body}".encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no("bad-key", "this is not one line with an OpenSSH public key") from error
    if not isinstance(key, PublicKey) or (isinstance(key, rsa.RSAPublicKey) and key.key_size < _RSA_BITS):
        raise _no("bad-key", f"the key is too weak; use ssh-ed25519, ecdsa or RSA of {_RSA_BITS} bits")
    if _wire(key) == authority:
        raise _no("bad-key", "this is the certificate authority's own key")
    return key


def _wire(key: PublicKey) -> bytes:
    return base64.b64decode(_line(key).split()[1])


def _line(key: PublicKey) -> str:
    return key.public_bytes(keys.Encoding.OpenSSH, keys.PublicFormat.OpenSSH).decode()


def _fingerprint(wire: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode().rstrip("=")


def _load_authority(text: bytes, what: str) -> PrivateKey:
    try:
        load = keys.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text else keys.load_pem_private_key
        key = load(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, PrivateKey) or (isinstance(key, rsa.RSAPrivateKey) and key.key_size < _RSA_BITS):
        raise Misconfigured(
            f"{what}: ca_key is not a private key that can sign certificates",
            remedy="Use ed25519, ecdsa or RSA of 3072 bits, without a passphrase: `ssh-keygen -t ed25519 -N ''`.",
        )
    return key


def _check_mode(name: str, path: Path) -> None:
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise Misconfigured(
            f"target {name}: the file of ca_key cannot be read: {error.strerror}",
            remedy="Make one with `muniment init` or `ssh-keygen -t ed25519 -N ''`.",
        ) from error
    if mode & 0o077:
        raise Misconfigured(
            f"target {name}: others may read the certificate authority's key (mode {mode:04o})",
            remedy=f"chmod 600 {path}",
        )


def new_ca_key() -> bytes:
    """A new authority's private key, as OpenSSH writes it. To be kept in a file of mode 0600."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.OpenSSH, keys.NoEncryption())


def public_line(key: bytes) -> str:
    """The public half of a private key, as TrustedUserCAKeys names it."""
    return _line(_load_authority(key, "the certificate authority").public_key())


def _probe(folder: Path) -> None:
    """Find out whether files can be made here: the mode alone does not tell of a full or read-only disk."""
    lists.replace_file(folder / ".muniment-probe", b"probe", 0o600)
    with lists.answering(str(folder)):
        (folder / ".muniment-probe").unlink()
