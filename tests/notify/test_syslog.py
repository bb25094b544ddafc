"""RFC 5424 over UDP, TCP and TLS, to real sockets."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from anchors.test_outbound import certificate
from muniment.core.errors import Unavailable
from muniment.notify.syslog import Syslog, framed

AT = datetime(2026, 11, 26, 1, 2, 3, 456789, tzinfo=UTC)
MESSAGE = framed(6, AT, "node 1\n", "grant-observed", b'{"a":1}')
#: RFC 5424, section 6: PRI VERSION TIMESTAMP HOST APP PROC MSGID SD MSG
SHAPE = re.compile(
    rb"<86>1 2026-11-26T01:02:03\.456789Z node-1- muniment - grant-observed - \xef\xbb\xbf(\{.*\})", re.DOTALL
)


def test_the_header_is_of_the_standard() -> None:
    found = SHAPE.fullmatch(MESSAGE)
    assert found
    assert found[1] == b'{"a":1}'


def test_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(10)
        Syslog(f"udp://127.0.0.1:{collector.getsockname()[1]}").send(MESSAGE)
        assert collector.recv(65536) == MESSAGE


class Collector:
    """Takes octet-counted messages, connection after connection."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.tls, self.got, self.came = tls, list[bytes](), threading.Semaphore(0)
        self.peers: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
                made = self.tls.wrap_socket(peer, server_side=True) if self.tls else peer
            except ssl.SSLError:
                peer.close()
                continue
            except OSError:
                return
            self.peers.append(made)
            threading.Thread(target=self._take, args=(made.makefile("rb"),), daemon=True).start()

    def _take(self, stream) -> None:
        with suppress(OSError), stream:
            while True:
                count = b""
                while not count.endswith(b" "):
                    byte = stream.read(1)
                    if not byte:
                        return
                    count += byte
                self.got.append(stream.read(int(count)))
                self.came.release()

    def close(self) -> None:
        for peer in (self.listener, *self.peers):
            with suppress(
                OSError
            ):  # close() alone would leave it open for whoever waits in accept() or read()
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
        self.thread.join()


def test_tcp_survives_a_collector_that_restarts() -> None:
    collector = Collector()
    log = Syslog(f"tcp://127.0.0.1:{collector.port}")
    for _ in range(2):
        log.send(MESSAGE)
        assert collector.came.acquire(timeout=10)
    assert len(collector.peers) == 1  # one connection for both
    for peer in collector.peers:
        peer.shutdown(socket.SHUT_RDWR)
    log.send(MESSAGE)
    assert collector.came.acquire(timeout=10)
    assert collector.got == [MESSAGE] * 3
    collector.close()
    log.close()
    with pytest.raises(Unavailable):
        log.send(MESSAGE)


def test_tls_only_to_whom_one_trusts(tmp_path: Path) -> None:
    ca, context = certificate(tmp_path, "localhost")
    collector = Collector(context)
    trusting = Syslog(f"tls://localhost:{collector.port}", ca)
    trusting.send(MESSAGE)
    assert collector.came.acquire(timeout=10)
    assert collector.got == [MESSAGE]
    with pytest.raises(Unavailable):
        Syslog(f"tls://localhost:{collector.port}").send(MESSAGE)
    trusting.close()
    collector.close()
