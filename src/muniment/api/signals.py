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


@routes.get("/ssf/streams", **_COMMON, answer=list[answers.SignalStream])
def list_streams(call: Call) -> list[Document]:
    """List the caller's streams. Whoever runs Muniment configures them."""
    found: list[Document] = _transmitting(call).configurations(call.caller.identity.id)
    return found


@routes.get("/ssf/status", **_COMMON, query=bodies.WhichStream, answer=answers.SignalStatus)
def stream_status(call: Call) -> Document:
    """Say whether a stream of the caller's is going."""
    transmitting = _transmitting(call)
    found: Document = transmitting.status(transmitting.of(call.caller.identity.id, call.query.stream_id))
    return found


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
