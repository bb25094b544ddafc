"""Signals that go out (SSF 1.0, CAEP 1.0): access that ended, told to whoever keeps sessions on what it was to.

Whoever runs Muniment configures who may have a stream, and about which targets. A receiver manages its own (SSF,
section 8.1): it deletes and creates it, pauses it, says which events it wants, leaves people out, and fetches it or has
it pushed to an endpoint of its own.

Each stream is a sink of the ledger's (`sending.Sink`): pushed to (RFC 8935), or fetched from and acknowledged (RFC 8936).
A token is made from the entry whenever it is sent, and is the same each time.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from msgspec.structs import replace

from muniment.core.errors import Conflict, Invalid, MunimentError, NotFound, Refused, Unavailable
from muniment.core.events import RevocationObserved
from muniment.core.identity import IdentityId, parse_identity
from muniment.core.instants import parse_instant
from muniment.service.desk import Desk
from muniment.service.pushing import NONCE, Endpoints, Push
from muniment.service.sending import Message, Never, messages
from muniment.signals.tokens import CAEP, SSF, Signer
from muniment.store.delivering import SqlDeliveries
from muniment.store.signal_streams import SqlSignalStreams, StreamState

PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
#: tokens in one answer at most
MOST = 100
#: verifications of one stream that wait to be fetched
WAITING = 20
#: people whom one stream leaves out
LEFT_OUT = 1000
#: what there is to be told of
EVENTS = (f"{CAEP}session-revoked",)
#: by whom access was ended, as CAEP has it
log = structlog.get_logger("muniment.signals")

_INITIATED = {"expired": "policy", "revoked": "admin", "returned": "user", "campaign": "admin"}


@dataclass(frozen=True, kw_only=True)
class SignalStream:
    """`sending.Sink`: one receiver."""

    name: str
    issuer: str  # ours, as tokens name us
    audience: str
    signer: Signer
    push: Push | None  # as configured
    client: IdentityId | None  # whose it is, else
    subjects: str  # how people are named
    states: SqlSignalStreams  # what its receiver made of it
    subjects_issuer: str | None = None
    targets: tuple[str, ...] = ()
    endpoints: Endpoints | None = None  # what the receiver may have it pushed to; None: nothing
    verifications: deque[str] = field(
        default_factory=lambda: deque(maxlen=WAITING)
    )  # states, to be fetched here, or pushed from here
    _verifying: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pushed(self) -> bool:
        """See `sending.Sink`. What is paused waits."""
        state = self.state
        return state.status == "enabled" and self.towards(state) is not None

    def towards(self, state: StreamState) -> Push | None:
        """Where it is pushed to; None: it is fetched."""
        if state.endpoint is not None and self.endpoints is not None:
            return self.endpoints.opened(self.stream_id, state.endpoint)
        return self.push

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
            and _is_told(self.state, ticket.terms.beneficiary)
        )

    @property
    def state(self) -> StreamState:
        """What its receiver made of it."""
        return self.states.get(self.stream_id) if self.client else StreamState()

    def send(self, message: Message, now: datetime) -> None:
        """See `sending.Sink`."""
        del now
        push = self.towards(self.state)
        if push is not None:
            push.post(self.token(message)[1])

    def push_verifications(self, now: datetime) -> None:
        """Send those that wait, one thread at a time; one that does not arrive is lost, as SSF allows."""
        while self.verifications and self._verifying.acquire(blocking=False):
            try:
                push = self.towards(self.state) if self.pushed else None
                if push is None:
                    return
                push.post(self.verification(self.verifications.popleft() or None, now)[1])
            except IndexError:  # the stream was dropped meanwhile
                return
            except MunimentError as error:
                log.warning("a verification did not arrive", stream=self.stream_id, error=error.message)
            finally:
                self._verifying.release()

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
            "add_subject_endpoint": f"{self.url}/ssf/subjects/add",
            "remove_subject_endpoint": f"{self.url}/ssf/subjects/remove",
            "critical_subject_members": [], "default_subjects": "ALL",
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
        }  # fmt: skip

    def of(self, client: IdentityId, stream_id: str) -> SignalStream:
        """One of somebody's own. Raises `NotFound` for any other (I33)."""
        for stream in self._configured(client):
            if stream.stream_id == stream_id and stream.state.there:
                return stream
        raise NotFound(f"there is no stream {stream_id!r:.60}", remedy="/ssf/streams lists yours.")

    def configurations(self, client: IdentityId) -> list[dict[str, Any]]:
        """Somebody's own streams."""
        return [self.configuration(each) for each in self._configured(client) if each.state.there]

    def _configured(self, client: IdentityId) -> list[SignalStream]:
        return [each for each in self.streams if each.client == client]

    def configuration(self, stream: SignalStream) -> dict[str, Any]:
        """One, as SSF has it."""
        state = stream.state
        requested = list(EVENTS if state.requested is None else state.requested)
        said = {"description": state.description} if state.description is not None else {}
        return {
            "stream_id": stream.stream_id, "iss": stream.issuer, "aud": stream.audience,
            "events_supported": list(EVENTS), "events_requested": requested,
            "events_delivered": [each for each in EVENTS if each in requested],
            "delivery": {"method": PUSH, "endpoint_url": state.endpoint.url} if state.endpoint else self._fetched(stream),
        } | said  # fmt: skip

    def _fetched(self, stream: SignalStream) -> dict[str, str]:
        return {"method": POLL, "endpoint_url": f"{self.url}/ssf/poll/{stream.stream_id}"}

    # ── what receivers make of theirs ──

    def create(self, client: IdentityId, wish: Mapping[str, Any]) -> dict[str, Any]:
        """A stream that is configured for the client, and that it has not now: as new.

        Raises:
            Conflict: it has all that are configured for it.
            Refused: none is configured for it.
        """
        every = self._configured(client)
        if not every:
            raise Refused(
                f"no stream is configured for {client}",
                remedy="Whoever runs Muniment adds one to [[signals.streams]].",
                code="refused.no-stream",
            )
        stream = next((each for each in every if not each.state.there), None)
        if stream is None:
            raise Conflict(
                "the stream is there already", remedy="/ssf/streams shows it.", code="conflict.stream-exists"
            )
        self._require_same(stream, wish)
        made = self._wished(stream, StreamState(), wish)
        stream.states.change(stream.stream_id, lambda _: made)
        return self.configuration(stream)

    def update(self, stream: SignalStream, wish: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
        """What it wants is changed; ``whole``: and what it does not say is as new."""
        self._require_same(stream, wish)

        def make(state: StreamState) -> StreamState:
            _require_there(state)
            before = replace(state, requested=None, description=None, endpoint=None) if whole else state
            return self._wished(stream, before, wish)

        stream.states.change(stream.stream_id, make)
        return self.configuration(stream)

    def delete(self, stream: SignalStream) -> None:
        """It is not there any more, and what waits for it is not sent."""
        stream.states.change(stream.stream_id, lambda _: StreamState(there=False))
        self._drop(stream)

    def set_status(self, stream: SignalStream, status: str, reason: str | None) -> dict[str, Any]:
        """Paused, what would be sent waits; disabled, it is not kept either (SSF, section 8.1.2)."""

        def make(state: StreamState) -> StreamState:
            _require_there(state)
            return replace(state, status=status, reason=reason)

        stream.states.change(stream.stream_id, make)
        if status == "disabled":
            self._drop(stream)
        self._push_verifications(stream)
        return self.status(stream)

    def set_subject(self, stream: SignalStream, subject: Mapping[str, Any], *, told: bool) -> None:
        """About somebody it is told, or not. Whom nobody knows here is not said (I33)."""
        who = self._meant(stream, subject)
        if who is None:
            return

        def make(state: StreamState) -> StreamState:
            _require_there(state)
            without = {*state.without, who} - ({who} if told else set())
            if len(without) > LEFT_OUT:
                raise Refused(
                    f"a stream leaves out {LEFT_OUT} people at most",
                    remedy="Leave signals about others unheeded.",
                    code="refused.too-many-subjects",
                )
            return replace(state, without=tuple(sorted(without)))

        stream.states.change(stream.stream_id, make)

    def _meant(self, stream: SignalStream, subject: Mapping[str, Any]) -> IdentityId | None:
        if subject.get("format") == "complex" and isinstance(subject.get("user"), Mapping):
            subject = subject["user"]
        match subject:
            case {"format": "email", "email": str(name)} if stream.subjects == "email":
                pass
            case {"format": "opaque", "id": str(name)} if stream.subjects == "opaque":
                pass
            case {"format": "iss_sub", "iss": stream.subjects_issuer, "sub": str(name)}:
                pass
            case {"format": str()}:
                return None
            case _:
                raise Invalid("this is no subject", remedy="Send one of RFC 9493.", code="invalid.subject")
        try:
            found = self.desk.directory.get(parse_identity(f"human:{name}"))
        except MunimentError:
            return None
        return found.id if found else None

    def _require_same(self, stream: SignalStream, wish: Mapping[str, Any]) -> None:
        """What only we say may be repeated, and not be changed."""
        known = self.configuration(stream)
        ours = ("stream_id", "iss", "aud", "events_supported", "events_delivered")
        wrong = [name for name in ours if wish.get(name) is not None and wish[name] != known[name]]
        if wrong:
            raise Invalid(
                f"only Muniment says {', '.join(wrong)}", remedy="Leave it out.", code="invalid.stream"
            )

    def _wished(self, stream: SignalStream, state: StreamState, wish: Mapping[str, Any]) -> StreamState:
        """A delivery is said whole: whoever changes it says its header again."""
        if wish.get("events_requested") is not None:
            state = replace(state, requested=tuple(wish["events_requested"]))
        if wish.get("description") is not None:
            state = replace(state, description=wish["description"])
        delivery = wish.get("delivery")
        if delivery is None:
            return state
        match delivery.get("method"):
            case "urn:ietf:rfc:8936" if delivery.get("endpoint_url") in {
                None,
                self._fetched(stream)["endpoint_url"],
            }:
                return replace(state, endpoint=None)
            case "urn:ietf:rfc:8935" if stream.endpoints is not None:
                endpoint = stream.endpoints.named(stream.stream_id, delivery, self.desk.random.bytes(NONCE))
                log.info("a stream is pushed to where its receiver says", stream=stream.stream_id)
                return replace(state, endpoint=endpoint)
            case _:
                raise Invalid(
                    "a stream is delivered in no such way",
                    remedy=f"Fetch it ({POLL}, without an endpoint_url), or have it pushed ({PUSH}).",
                    code="invalid.stream",
                )

    def _drop(self, stream: SignalStream) -> None:
        stream.verifications.clear()
        self.deliveries.drop(stream.name)

    def status(self, stream: SignalStream) -> dict[str, Any]:
        """Whether it is going."""
        progress = self.deliveries.progress(stream.name)
        closed, state = progress.closed if progress else None, stream.state
        status = "paused" if closed and state.status == "enabled" else state.status
        reason = closed if status != state.status else state.reason
        return {"stream_id": stream.stream_id, "status": status} | ({"reason": reason} if reason else {})

    def verify(self, stream: SignalStream, state: str | None) -> None:
        """Have a verification sent from the node that was asked: with what is fetched next, or pushed soon."""
        if state is not None and (not state.isprintable() or len(state) > 255):
            raise Invalid("state is not a short text", remedy="Send up to 255 printable characters.")
        stream.verifications.append(state or "")
        self._push_verifications(stream)

    def _push_verifications(self, stream: SignalStream) -> None:
        """In the background: a receiver may take its time, or ask from the thread that is to answer."""
        if stream.verifications and stream.pushed:
            now = self.desk.clock.now()
            threading.Thread(
                target=stream.push_verifications, args=(now,), name="muniment-verify", daemon=True
            ).start()

    def poll(
        self, stream: SignalStream, *, most: int, done: Sequence[str], refused: Mapping[str, str]
    ) -> dict[str, Any]:
        """Take note of what became of the last ones, and hand out more. What is not acknowledged comes again."""
        if stream.state.endpoint is not None:
            raise Invalid(
                "the stream is pushed, and not fetched",
                remedy=f"Set its delivery to {POLL} first.",
                code="invalid.stream",
            )
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
        limit = max(0, min(most, MOST)) if stream.state.status == "enabled" else 0
        while stream.verifications and len(sets) < limit:
            jti, token = stream.verification(stream.verifications.popleft() or None, now)
            sets[jti] = token
        for jti, token in left.items():
            if len(sets) < limit:
                sets[jti] = token
        more = limit > 0 and len(left) > sum(jti in left for jti in sets)
        return {"sets": sets, "moreAvailable": more}


def _is_told(state: StreamState, who: IdentityId) -> bool:
    wanted = state.requested is None or EVENTS[0] in state.requested
    return state.there and state.status != "disabled" and wanted and who not in state.without


def _require_there(state: StreamState) -> None:
    if not state.there:
        raise NotFound("there is no such stream", remedy="/ssf/streams lists yours.")
