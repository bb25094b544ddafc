"""Messages to a log collector: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425)."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from muniment.core.errors import Unavailable
from muniment.outbound import trusting

#: seconds
TIMEOUT = 10.0
#: bytes that fit into one UDP packet
LARGEST_PACKET = 65_000
#: facility "security/authorization messages"
FACILITY = 10
_NOT_SAID = re.compile(r"[^!-~]")


def framed(severity: int, at: datetime, host: str, message_id: str, text: bytes) -> bytes:
    """One message. ``severity`` is that of RFC 5424: 6 informational, 4 warning, 2 critical."""
    stamp = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    name = _NOT_SAID.sub("-", host)[:255] or "-"
    head = f"<{FACILITY * 8 + severity}>1 {stamp} {name} muniment - {_NOT_SAID.sub('-', message_id)[:32]} - "
    return head.encode() + b"\xef\xbb\xbf" + text


class Syslog:
    """One collector. Keeps its connection; safe for several threads.

    TCP and TLS say nothing of what was taken: what was written just before the other side died is lost, as with every
    sender of syslog. Where that must not be, use a URL.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        """``url`` as in the configuration; ``ca`` for tls, if not the system's."""
        scheme, _, where = url.partition("://")
        host, _, port = where.rpartition(":")
        self._scheme, self._address = scheme, (host.strip("[]"), int(port))
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._tls = trusting(ca) if scheme == "tls" else None

    def send(self, message: bytes) -> None:
        """Hand one over. Raises `Unavailable`."""
        with self._lock:
            try:
                if self._scheme == "udp":
                    self._packet(message)
                    return
                self._require_open()
                made = self._socket or self._opened()
                made.sendall(str(len(message)).encode() + b" " + message)
            except OSError as error:
                self._drop()
                raise Unavailable(
                    f"the log collector {self._address[0]} does not take messages: {error.strerror or error}",
                    remedy="Check that it runs, and that it can be reached from here.",
                ) from error

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._drop()

    def _packet(self, message: bytes) -> None:
        host, port = self._address
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as made:
            made.sendto(message[:LARGEST_PACKET], where)

    def _require_open(self) -> None:
        """A collector never answers: something to read is its end of the connection going away."""
        if self._socket is None:
            return
        self._socket.setblocking(False)
        try:
            over = self._socket.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            over = False
        except OSError:
            over = True
        self._socket.settimeout(TIMEOUT)
        if over:
            self._drop()

    def _opened(self) -> socket.socket:
        made = socket.create_connection(self._address, TIMEOUT)
        if self._tls is not None:
            try:
                made = self._tls.wrap_socket(made, server_hostname=self._address[0])
            except OSError:
                made.close()
                raise
        self._socket = made
        return made

    def _drop(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None
