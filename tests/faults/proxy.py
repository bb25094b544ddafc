"""A way to a server that can refuse, break off, or fall silent."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

HOST = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)  # linger for no time at all: closing sends RST


class Proxy:
    """``mode``: "through"; "refuse" closes at once; "reset" breaks off; "silent" accepts and never answers.

    Connections that are open share the fate of new ones.
    """

    def __init__(self, port: int) -> None:
        self.mode = "through"
        self._to = port
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._over = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, call, *args) -> None:
        self._threads.append(threading.Thread(target=call, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while not self._over:
            if select.select([self._listener], [], [], 0.02)[0]:
                self._start(self._carry, self._listener.accept()[0])

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._passes(client):
                return
            with socket.create_connection((HOST, self._to)) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not self._over and self._passes(client):
                    for ready in select.select([client, server], [], [], 0.02)[0]:
                        data = ready.recv(65536)
                        if not data or not self._passes(client):
                            return
                        (server if ready is client else client).sendall(data)

    def _passes(self, client: socket.socket) -> bool:
        """Whether bytes may go on; while silent, wait for another mode."""
        wait = threading.Event()
        while self.mode == "silent" and not self._over:
            wait.wait(0.02)
        if self.mode == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return self.mode == "through" and not self._over
