"""The sinks there are: what each wants of the ledger, and how it is said there."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from muniment.core.events import TICKET_EVENTS
from muniment.core.instants import parse_instant
from muniment.notify import ocsf
from muniment.notify.cloud_events import MEDIA_TYPE, cloud_event
from muniment.notify.syslog import Syslog, framed
from muniment.notify.webhooks import Endpoint, Refusal, require_yes
from muniment.outbound import Http
from muniment.service.sending import Later, Message, Never

_OF_TICKETS = frozenset(event.kind.partition("/")[0] for event in TICKET_EVENTS)


class WebhookSink:
    """`sending.Sink`: Standard Webhooks with CloudEvents in them."""

    pushed = True

    def __init__(
        self, name: str, endpoint: Endpoint, events: tuple[str, ...] = (), targets: tuple[str, ...] = ()
    ) -> None:
        """``events``: kinds without their version, else every one of a ticket's; ``targets``: else all."""
        self.name = f"webhook:{name}"
        self._endpoint, self._events, self._targets = endpoint, frozenset(events) or _OF_TICKETS, targets

    def wants(self, message: Message) -> bool:
        """See `sending.Sink`."""
        ticket = message.ticket
        return message.entry.type.partition("/")[0] in self._events and (
            not self._targets or (ticket is not None and ticket.terms.target in self._targets)
        )

    def send(self, message: Message, now: datetime) -> None:
        """See `sending.Sink`."""
        body = msgspec.json.encode(cloud_event(message.index, message.entry, message.ticket))
        with answered():
            self._endpoint.post(ident_of(message), body, MEDIA_TYPE, now)


class OcsfSink:
    """`sending.Sink`: OCSF events, to wherever ``put`` puts them."""

    pushed = True

    def __init__(
        self, name: str, version: ocsf.Version, put: Callable[[Message, dict[str, Any]], None]
    ) -> None:
        """``put`` raises what `answered` translates, or `Unavailable`."""
        self.name = f"ocsf:{name}"
        self._version, self._put = version, put

    def wants(self, message: Message) -> bool:
        """See `sending.Sink`."""
        return message.entry.type.partition("/")[0] in ocsf.KINDS

    def send(self, message: Message, now: datetime) -> None:
        """See `sending.Sink`."""
        del now
        event = ocsf.ocsf_event(message.index, message.entry, message.ticket, self._version)
        with answered():
            self._put(message, event)


def to_file(path: Path) -> Callable[[Message, dict[str, Any]], None]:
    """Each event as a line at the end of a file, on the disk before it counts as there."""

    def put(_: Message, event: dict[str, Any]) -> None:
        try:
            number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(number, msgspec.json.encode(event) + b"\n")
                os.fdatasync(number)
            finally:
                os.close(number)
        except OSError as error:
            raise Later(f"{path} cannot be written: {error.strerror}") from error

    return put


def to_syslog(collector: Syslog) -> Callable[[Message, dict[str, Any]], None]:
    """Each event as one message."""
    host = socket.gethostname()

    def put(message: Message, event: dict[str, Any]) -> None:
        severity = {4: 4, 5: 2}.get(event["severity_id"], 6)
        at, kind = parse_instant(message.entry.at), message.entry.type.partition("/")[0]
        collector.send(framed(severity, at, host, kind, msgspec.json.encode(event)))

    return put


def to_url(
    http: Http, url: str, token: Callable[[], str | None]
) -> Callable[[Message, dict[str, Any]], None]:
    """Each event as one POST; its uid tells whoever receives it twice."""

    def put(_: Message, event: dict[str, Any]) -> None:
        bearer = token()
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        require_yes(
            http.post(url, msgspec.json.encode(event), content_type="application/json", headers=headers)
        )

    return put


def ident_of(message: Message) -> str:
    """A message's own name: the same for every attempt, and another in every ledger."""
    origin = hashlib.sha256(message.entry.log.encode()).hexdigest()[:16]
    return f"msg_{origin}_{message.index}"


@contextmanager
def answered() -> Iterator[None]:
    """What an endpoint's no means."""
    try:
        yield
    except Refusal as error:
        if error.gone:
            raise Never(error.message, closed=True) from error
        raise Later(error.message, after=error.after) from error
