"""Signals that go out (SSF 1.0, CAEP 1.0): access that ended, told to whoever keeps sessions on what it was to.

Each stream is a sink of the ledger's (`sending.Sink`): pushed to (RFC 8935), or fetched from and acknowledged (RFC 8936).
A token is made from the entry whenever it is sent, and is the same each time.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from muniment.core.errors import Invalid, NotFound, Unavailable
from muniment.core.events import RevocationObserved
from muniment.core.identity import IdentityId
from muniment.core.instants import parse_instant
from muniment.outbound import Http
from muniment.service.desk import Desk
from muniment.service.sending import Later, Message, Never, messages
from muniment.signals.tokens import CAEP, MEDIA_TYPE, SSF, Signer
from muniment.store.delivering import SqlDeliveries

PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
#: tokens in one answer at most
MOST = 100
#: verifications of one stream that wait to be fetched
WAITING = 20
#: by whom access was ended, as CAEP has it
_INITIATED = {"expired": "policy", "revoked": "admin", "returned": "user", "campaign": "admin"}


@dataclass(frozen=True, kw_only=True)
class Push:
    """Where tokens of a stream are posted to."""

    http: Http
    url: str
    authorization: Callable[[], str | None]  # resolved anew for each

    def post(self, token: str) -> None:
        """Raises `Later` or `Never`."""
        held = self.authorization()
        headers = {"Authorization": f"Bearer {held}"} if held else {}
        answer = self.http.post(self.url, token.encode(), content_type=MEDIA_TYPE, headers=headers)
        if answer.status == 400:  # RFC 8935: this token is not taken, and never will be
            raise Never(f"the receiver refuses the token: {answer.body[:200].decode(errors='replace')!r}")
        if not 200 <= answer.status < 300:
            raise Later(f"the receiver answered {answer.status}")


@dataclass(frozen=True, kw_only=True)
class SignalStream:
    """`sending.Sink`: one receiver."""

    name: str
    issuer: str  # ours, as tokens name us
    audience: str
    signer: Signer
    push: Push | None
    client: IdentityId | None  # who fetches
    subjects: str  # how people are named
    subjects_issuer: str | None = None
    targets: tuple[str, ...] = ()
    verifications: deque[str] = field(
        default_factory=lambda: deque(maxlen=WAITING)
    )  # states, to be fetched here

    @property
    def pushed(self) -> bool:
        """See `sending.Sink`."""
        return self.push is not None

    @property
    def stream_id(self) -> str:
        """As the protocol names it."""
        return self.name.partition(":")[2]

    def wants(self, message: Message) -> bool:
        """People's access that ended."""
        ticket = message.ticket
        return (
            message.entry.type == RevocationObserved.kind
            and ticket is not None
            and ticket.terms.beneficiary.startswith("human:")
            and (not self.targets or ticket.terms.target in self.targets)
        )

    def send(self, message: Message, now: datetime) -> None:
        """See `sending.Sink`."""
        del now
        if self.push is not None:
            self.push.post(self.token(message)[1])

    def token(self, message: Message) -> tuple[str, str]:
        """Its jti, and the token."""
        ticket, entry = message.ticket, message.entry
        if ticket is None:
            raise Never(f"leaf {message.index} is no ticket's")
        cause = ticket.revocation.cause if ticket.revocation else "revoked"
        at = int(parse_instant(entry.at).timestamp())
        event = {
            "event_timestamp": at, "initiating_entity": _INITIATED.get(cause, "system"),
            "reason_admin": {"en": f"{cause}: {ticket.id}"},
        }  # fmt: skip
        subject = {
            "format": "complex", "user": self._user(ticket.terms.beneficiary),
            "application": {"format": "opaque", "id": ticket.terms.target},
        }  # fmt: skip
        return self._signed(f"{entry.log}#{message.index}", at, f"{CAEP}session-revoked", subject, event)

    def verification(self, state: str | None, now: datetime) -> tuple[str, str]:
        """A token that says only that the stream works."""
        event = {} if state is None else {"state": state}
        subject = {"format": "opaque", "id": self.stream_id}
        stamp = int(now.timestamp())
        return self._signed(f"verify {state} {now.isoformat()}", stamp, f"{SSF}verification", subject, event)

    def _signed(
        self, named: str, at: int, kind: str, subject: Mapping[str, Any], event: Mapping[str, Any]
    ) -> tuple[str, str]:
        jti = hashlib.sha256(f"{self.name}\0{named}".encode()).hexdigest()[:40]
        claims = {
            "iss": self.issuer, "jti": jti, "iat": at, "aud": self.audience, "sub_id": subject, "events": {kind: event},
        }  # fmt: skip
        return jti, self.signer.token(claims)

    def _user(self, identity: IdentityId) -> dict[str, str]:
        name = identity.partition(":")[2]
        match self.subjects:
            case "iss_sub":
                return {"format": "iss_sub", "iss": self.subjects_issuer or "", "sub": name}
            case "opaque":
                return {"format": "opaque", "id": name}
            case _:
                return {"format": "email", "email": name}


@dataclass(frozen=True, kw_only=True)
class Transmitting:
    """All streams, for whoever asks about theirs."""

    desk: Desk
    url: str  # of Muniment
    signer: Signer
    streams: Sequence[SignalStream]
    deliveries: SqlDeliveries
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def metadata(self) -> dict[str, Any]:
        """What there is (``/.well-known/ssf-configuration``)."""
        return {
            "spec_version": "1_0", "issuer": self.url, "jwks_uri": f"{self.url}/ssf/jwks.json",
            "delivery_methods_supported": [PUSH, POLL], "configuration_endpoint": f"{self.url}/ssf/streams",
            "status_endpoint": f"{self.url}/ssf/status", "verification_endpoint": f"{self.url}/ssf/verify",
            "critical_subject_members": [], "default_subjects": "ALL",
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
        }  # fmt: skip

    def of(self, client: IdentityId, stream_id: str) -> SignalStream:
        """One of somebody's own. Raises `NotFound` for any other (I33)."""
        for stream in self.streams:
            if stream.client == client and stream.stream_id == stream_id:
                return stream
        raise NotFound(f"there is no stream {stream_id!r:.60}", remedy="/ssf/streams lists yours.")

    def configurations(self, client: IdentityId) -> list[dict[str, Any]]:
        """Somebody's own streams."""
        return [self.configuration(each) for each in self.streams if each.client == client]

    def configuration(self, stream: SignalStream) -> dict[str, Any]:
        """One, as SSF has it."""
        events = [f"{CAEP}session-revoked"]
        return {
            "stream_id": stream.stream_id, "iss": stream.issuer, "aud": stream.audience, "events_supported": events,
            "events_requested": events, "events_delivered": events,
            "delivery": {"method": POLL, "endpoint_url": f"{self.url}/ssf/poll/{stream.stream_id}"},
        }  # fmt: skip

    def status(self, stream: SignalStream) -> dict[str, Any]:
        """Whether it is going."""
        progress = self.deliveries.progress(stream.name)
        closed = progress.closed if progress else None
        found = {"stream_id": stream.stream_id, "status": "paused" if closed else "enabled"}
        return found | ({"reason": closed} if closed else {})

    def verify(self, stream: SignalStream, state: str | None) -> None:
        """Have a verification sent: with what is fetched next, from the node that was asked."""
        if state is not None and (not state.isprintable() or len(state) > 255):
            raise Invalid("state is not a short text", remedy="Send up to 255 printable characters.")
        stream.verifications.append(state or "")

    def poll(
        self, stream: SignalStream, *, most: int, done: Sequence[str], refused: Mapping[str, str]
    ) -> dict[str, Any]:
        """Take note of what became of the last ones, and hand out more. What is not acknowledged comes again."""
        now = self.desk.clock.now()
        sets: dict[str, str] = {}
        if self.deliveries.progress(stream.name) is None:
            raise Unavailable("the stream has not begun yet", remedy="It begins when controllers run.")
        with self._lock:
            waiting = self.deliveries.due(stream.name, now, MOST * 2)
            tokens = {}
            for each in messages(self.desk, [each.index for each in waiting]):
                jti, token = stream.token(each)
                tokens[jti] = (each.index, token)
            over = [tokens[jti][0] for jti in done if jti in tokens]
            self.deliveries.arrived(stream.name, over)
            for jti, why in refused.items():
                if jti in tokens:
                    self.deliveries.failed(stream.name, tokens[jti][0], why, None)
            left = {jti: token for jti, (_, token) in tokens.items() if jti not in {*done, *refused}}
        limit = max(0, min(most, MOST))
        while stream.verifications and len(sets) < limit:
            jti, token = stream.verification(stream.verifications.popleft() or None, now)
            sets[jti] = token
        for jti, token in left.items():
            if len(sets) < limit:
                sets[jti] = token
        return {"sets": sets, "moreAvailable": len(left) > sum(jti in left for jti in sets)}
