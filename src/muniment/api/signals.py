"""Shared signals: tokens that come in, and streams that go out. For tokens of ours with the scope ``signals``."""

from __future__ import annotations

from typing import Any

from muniment.api import answers, bodies
from muniment.api.dialects import SIGNALS
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import NotFound
from muniment.service.documents import Document

routes = Routes("signals")
_COMMON: dict[str, Any] = {"scope": "signals"}


def _none() -> NotFound:
    return NotFound("signals are not configured here", remedy="Add [signals] to the configuration.")


def _receiving(call: Call) -> Any:
    if call.office.outward.signals is None:
        raise _none()
    return call.office.outward.signals


def _transmitting(call: Call) -> Any:
    if call.office.outward.transmitting is None:
        raise _none()
    return call.office.outward.transmitting


@routes.post(
    "/ssf/events",
    **_COMMON,
    dialect=SIGNALS,
    body=str,
    answer="application/secevent+jwt",
    status=202,
    urgent=True,
)
def receive_signal(call: Call) -> Plain:
    """Take a security event token (RFC 8935). It is on record before the answer comes."""
    _receiving(call).receive(call.raw, "push")
    return Plain(body=b"", media_type=SIGNALS.media_type)


@routes.get("/.well-known/ssf-configuration", answer=answers.SignalMetadata, scope=None)
def describe_signals(call: Call) -> Document:
    """Say where the transmitter's endpoints are."""
    found: Document = _transmitting(call).metadata()
    return found


@routes.get("/ssf/jwks.json", answer=answers.KeySet, scope=None)
def signal_keys(call: Call) -> Document:
    """Get the public keys that signals are signed with."""
    found: Document = _transmitting(call).signer.jwks
    return found


@routes.get(
    "/ssf/streams",
    **_COMMON,
    query=bodies.WhichStream,
    answer=list[answers.SignalStream] | answers.SignalStream,
)
def list_streams(call: Call) -> list[Document] | Document:
    """List the caller's streams; with ``stream_id``, that one."""
    transmitting, who = _transmitting(call), call.caller.identity.id
    if call.query.stream_id:
        one: Document = transmitting.configuration(transmitting.of(who, call.query.stream_id))
        return one
    found: list[Document] = transmitting.configurations(who)
    return found


@routes.post("/ssf/streams", **_COMMON, body=bodies.NewStream, answer=answers.SignalStream, status=201)
def create_stream(call: Call) -> Document:
    """Create the stream that whoever runs Muniment configured for the caller. SSF 1.0, section 8.1.1.1."""
    asked: bodies.NewStream = call.body
    found: Document = _transmitting(call).create(call.caller.identity.id, asked.wish)
    return found


@routes.patch("/ssf/streams", **_COMMON, body=bodies.ChangedStream, answer=answers.SignalStream)
def update_stream(call: Call) -> Document:
    """Change what a stream of the caller's is about. SSF 1.0, section 8.1.1.3."""
    return _updated(call, whole=False)


@routes.put("/ssf/streams", **_COMMON, body=bodies.ChangedStream, answer=answers.SignalStream)
def replace_stream(call: Call) -> Document:
    """Say anew what a stream of the caller's is about. SSF 1.0, section 8.1.1.4."""
    return _updated(call, whole=True)


def _updated(call: Call, *, whole: bool) -> Document:
    transmitting, asked = _transmitting(call), call.body
    stream = transmitting.of(call.caller.identity.id, asked.stream_id)
    found: Document = transmitting.update(stream, asked.wish, whole=whole)
    return found


@routes.delete("/ssf/streams", **_COMMON, query=bodies.WhichStream, answer=answers.Nothing, status=204)
def delete_stream(call: Call) -> Plain:
    """Delete a stream of the caller's, with what waits on it. SSF 1.0, section 8.1.1.5."""
    transmitting = _transmitting(call)
    transmitting.delete(transmitting.of(call.caller.identity.id, call.query.stream_id))
    return Plain(body=b"")


@routes.get("/ssf/status", **_COMMON, query=bodies.WhichStream, answer=answers.SignalStatus)
def stream_status(call: Call) -> Document:
    """Say whether a stream of the caller's is going."""
    transmitting = _transmitting(call)
    found: Document = transmitting.status(transmitting.of(call.caller.identity.id, call.query.stream_id))
    return found


@routes.post("/ssf/status", **_COMMON, body=bodies.StreamStatus, answer=answers.SignalStatus)
def set_stream_status(call: Call) -> Document:
    """Pause, disable or enable a stream of the caller's. SSF 1.0, section 8.1.2.2."""
    transmitting, asked = _transmitting(call), call.body
    stream = transmitting.of(call.caller.identity.id, asked.stream_id)
    found: Document = transmitting.set_status(stream, asked.status, asked.reason)
    return found


@routes.post("/ssf/subjects/add", **_COMMON, body=bodies.StreamSubject, answer=answers.Nothing)
def add_subject(call: Call) -> Document:
    """Be told about somebody again. Streams are about everybody at first. SSF 1.0, section 8.1.3.2."""
    return _subject(call, told=True)


@routes.post("/ssf/subjects/remove", **_COMMON, body=bodies.StreamSubject, answer=answers.Nothing, status=204)
def remove_subject(call: Call) -> Plain:
    """Not be told about somebody any more. SSF 1.0, section 8.1.3.3."""
    _subject(call, told=False)
    return Plain(body=b"")


def _subject(call: Call, *, told: bool) -> Document:
    transmitting, asked = _transmitting(call), call.body
    stream = transmitting.of(call.caller.identity.id, asked.stream_id)
    transmitting.set_subject(stream, asked.subject, told=told)
    return {}


@routes.post("/ssf/verify", **_COMMON, body=bodies.Verification, answer=answers.Nothing, status=204)
def verify_stream(call: Call) -> Plain:
    """Have a verification event sent on a stream of the caller's."""
    transmitting, asked = _transmitting(call), call.body
    transmitting.verify(transmitting.of(call.caller.identity.id, asked.stream_id), asked.state)
    return Plain(body=b"")


@routes.post("/ssf/poll/{stream}", **_COMMON, body=bodies.Poll, answer=answers.Polled)
def poll_stream(call: Call) -> Document:
    """Fetch tokens, and acknowledge those fetched before (RFC 8936). Answers at once."""
    transmitting, asked = _transmitting(call), call.body
    stream = transmitting.of(call.caller.identity.id, call.names["stream"])
    refused = {jti: f"{each.err}: {each.description or ''}" for jti, each in asked.set_errs.items()}
    found: Document = transmitting.poll(stream, most=asked.max_events, done=asked.ack, refused=refused)
    return found
