"""What others signal about people: put on record once, then acted upon, as often as it takes.

    token ──receive──> SignalReceived in the ledger ──act──> what rests on it ends

A transmitter is answered once its signal is durable; acting follows the ledger, like every delivery does, so a crash
between the two loses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import structlog

from muniment.core import commands as c
from muniment.core.errors import Conflict, Invalid, NotFound
from muniment.core.events import SignalReceived, decode_data
from muniment.core.identity import IdentityId, parse_identity
from muniment.core.ticket import Ticket
from muniment.directory.provisioned import DISABLED, Disabled
from muniment.ports import Actor, Append, Stream
from muniment.service.desk import ATTEMPTS, CONTROLLER, Desk
from muniment.service.logins import linked
from muniment.service.sending import Message
from muniment.signals.tokens import MAX_CLAIM, RISC, Issuer, read
from muniment.store.delivering import SqlDeliveries
from muniment.store.provisioned import SqlProvisioned
from muniment.store.sessions import SqlSessions
from muniment.store.views import PAGE, Filter

STREAM = "signal:"
#: the account is no more, or nobody knows who uses it
_DISABLING = frozenset(
    {f"{RISC}{name}" for name in ("account-disabled", "account-purged", "credential-compromise")}
)
_ENABLING = f"{RISC}account-enabled"
#: claims that are put on record; everything else of a signal stays with its issuer
_KEPT = (
    "event_timestamp", "initiating_entity", "credential_type", "change_type", "namespace", "current_level",
    "previous_level", "change_direction", "current_status", "previous_status", "principal", "reason",
)  # fmt: skip

log = structlog.get_logger("muniment.signals")


class Transmitter(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signals are heeded, and what they may do."""

    issuer: Issuer
    subjects: tuple[str, ...]  # formats by which people are known
    ends: frozenset[str] = (
        frozenset()
    )  # signals that end everything somebody holds, besides those that always do


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Receives and acts."""

    desk: Desk
    transmitters: Mapping[str, Transmitter]  # by issuer
    rows: SqlProvisioned
    name: str = field(default="signals", init=False)
    pushed: bool = field(default=True, init=False)
    _begun: list[bool] = field(default_factory=list, init=False)

    def receive(self, raw: bytes, via: str) -> None:
        """Put a signal on record, durably; one that is on record already is as good.

        Raises:
            BadToken: it is none that anything may be done on.
            Unavailable: it cannot be checked or recorded now; whoever sends it tries again.
        """
        issuers = {name: each.issuer for name, each in self.transmitters.items()}
        event = read(raw, issuers, self.desk.clock.now())
        named = hashlib.sha256(f"{event.issuer}\0{event.jti}".encode()).hexdigest()[:40]
        recorded = SignalReceived(
            issuer=event.issuer, jti=event.jti, type=event.type,
            subject=self._known(event.subject, self.transmitters[event.issuer]),
            claims=_claims(event.claims), digest="sha256:" + hashlib.sha256(raw.strip()).hexdigest(),
        )  # fmt: skip
        self._begin()
        stream = Stream(id=STREAM + named, version=0, head=None)
        try:
            self.desk.store.append(
                Append(
                    stream=stream,
                    actor=Actor(id=CONTROLLER.id, via=via),
                    events=(recorded,),
                    at=self.desk.clock.now(),
                )
            )
        except Conflict:
            return  # it came before
        log.info("signal", type=event.type, issuer=event.issuer, subject=recorded.subject)

    def _begin(self) -> None:
        """Acting begins before the first signal, also where no controller ran yet."""
        if not self._begun:
            SqlDeliveries(self.desk.store.engine).begin(self.name, self.desk.ledger.head().size)
            self._begun.append(True)

    # ── acting: a sink of the ledger's (`sending.Sink`) ──

    def wants(self, message: Message) -> bool:
        """Signals."""
        return message.entry.type == SignalReceived.kind

    def send(self, message: Message, now: datetime) -> None:
        """Do what a signal asks for. Doing it again changes nothing."""
        event = decode_data(message.entry.type, message.entry.data)
        if not isinstance(event, SignalReceived) or event.subject is None:
            return
        transmitter = self.transmitters.get(event.issuer)
        if transmitter is None:
            return  # it is heeded no more
        who, name = event.subject, event.type.rpartition("/")[2]
        if (
            name == "session-revoked"
            or event.type in _DISABLING
            or _ends_everything(name, event.claims)
            or _weakens(name, event.claims)
        ):
            SqlSessions(self.desk.store.engine, self.desk.store.marker).end_of(who, now)
        if event.type in _DISABLING:
            self._disable(who, event.issuer)
        elif event.type == _ENABLING:
            self._enable(who, event.issuer)
        elif _ends_everything(name, event.claims) or name in transmitter.ends:
            end_all(self.desk, who)
            void_approvals(self.desk, who)
        elif _weakens(name, event.claims):
            void_approvals(self.desk, who)

    def _disable(self, who: IdentityId, issuer: str) -> None:
        """Whoever is disabled is gone, as a leaver is (`offboarding`), until the same transmitter says otherwise."""
        name, body = f"{who} {issuer}", msgspec.json.encode(Disabled(identity=who, issuer=issuer))
        with suppress(Conflict):  # another node was first
            if not self.rows.of(DISABLED, name=name):
                self.rows.add(self.desk.random.bytes(16).hex(), DISABLED, name, body, self.desk.clock.now())

    def _enable(self, who: IdentityId, issuer: str) -> None:
        for row in self.rows.of(DISABLED, name=f"{who} {issuer}"):
            self.rows.remove(row, self.desk.clock.now())

    # ── who is meant ──

    def _known(self, subject: Mapping[str, Any], transmitter: Transmitter) -> IdentityId | None:
        named = subject.get("format")
        if named == "complex":
            user = subject.get("user")
            return (
                self._known(user, transmitter)
                if isinstance(user, dict) and user.get("format") != "complex"
                else None
            )
        if named not in transmitter.subjects:
            return None
        match subject:
            case {"format": "email", "email": str(email)}:
                return self._person(email)
            case {"format": "iss_sub", "iss": transmitter.issuer.issuer, "sub": str(sub)}:
                return self._signed_in(sub, transmitter) or self._provided(sub) or self._person(sub)
            case {"format": "opaque", "id": str(ident)}:
                return self._provided(ident)
            case _:
                return None

    def _signed_in(self, sub: str, transmitter: Transmitter) -> IdentityId | None:
        """Who has signed in here with this account of the transmitter's."""
        who = linked(self.desk, transmitter.issuer.issuer, sub)
        found = self.desk.directory.get(who) if who else None
        return found.id if found else None

    def _person(self, name: str) -> IdentityId | None:
        try:
            found = self.desk.directory.get(parse_identity(f"human:{name}"))
        except Invalid:
            return None
        return found.id if found else None

    def _provided(self, ident: str) -> IdentityId | None:
        """Whom an identity provider keeps here under this id, ours or its own."""
        for row in self.rows.of("User"):
            said = msgspec.json.decode(row.body)
            if ident in {row.id, said.get("externalId")}:
                return self._person(str(said["userName"]))
        return None


def end_all(desk: Desk, who: IdentityId) -> list[Ticket]:
    """End everything that somebody holds by a ticket, because of a signal."""
    return _each(desk, desk.views.open_of({who}), {"provisioning", "active"}, c.End(cause="signal"), who)


def void_approvals(desk: Desk, who: IdentityId) -> list[Ticket]:
    """Approvals of theirs that wait are void: nobody knows whether they were theirs."""
    person = desk.directory.get(who)
    names = (who, *(person.aliases if person else ()))
    found: set[str] = set()
    wanted = Filter(statuses=("pending", "approved"), limit=PAGE)
    while True:
        page = desk.views.tickets(wanted)
        found |= {t.id for t in page if any(not set(names).isdisjoint(d.voters) for d in t.decisions)}
        if len(page) < PAGE:
            break
        wanted = Filter(statuses=wanted.statuses, limit=PAGE, before=page[-1].id)
    return _each(desk, found, {"pending", "approved"}, c.Offboard(gone=names, reason="signalled"), None)


def _each(
    desk: Desk,
    tickets: Iterable[str],
    statuses: Collection[str],
    command: c.Command,
    holder: IdentityId | None,
) -> list[Ticket]:
    changed = []
    for ident in sorted(tickets):
        for _ in range(ATTEMPTS):
            stream, ticket = desk.store.read(ident)
            if ticket is None or ticket.status not in statuses:
                break
            if holder is not None and ticket.terms.beneficiary != holder:
                break
            append = desk.appending(ticket, (command,), desk.facts(ticket, None), stream)
            if not append.events:
                break
            try:
                desk.store.append(append)
            except Conflict:
                continue
            if append.ticket is not None:
                desk.tell(append.ticket, append.events)
                changed.append(append.ticket)
            break
        else:
            raise Conflict(f"{ident} is changed all the time", remedy="It is tried again.")
    return changed


def _ends_everything(name: str, claims: Mapping[str, str]) -> bool:
    return name == "risk-level-change" and claims.get("current_level", "").upper() == "HIGH"


def _weakens(name: str, claims: Mapping[str, str]) -> bool:
    """Whether what somebody approved with may have been somebody else's."""
    if name == "credential-change":
        return claims.get("change_type") in {"revoke", "delete"}
    return name == "assurance-level-change" and claims.get("change_direction") != "increase"


def _claims(claims: Mapping[str, Any]) -> dict[str, str]:
    """Those that count, as short texts; no prose."""
    found = {}
    for name in _KEPT:
        value = claims.get(name)
        if isinstance(value, str) and value.isascii() and value.isprintable():
            found[name] = value[:MAX_CLAIM]
        elif isinstance(value, int) and not isinstance(value, bool):
            found[name] = str(value)[:MAX_CLAIM]
    return found


def not_configured() -> NotFound:
    """Raised where nobody's signals are heeded, or sent."""
    return NotFound("signals are not configured here", remedy="Add [signals] to the configuration.")
