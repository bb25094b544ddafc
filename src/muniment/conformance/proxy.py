"""A way to a server that can refuse, break off, fall silent, or be slow."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, Self, TypeAlias

HOST = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)  # linger for no time at all: closing sends RST
SLOW = 30.0  # seconds that an answer takes

Mode: TypeAlias = Literal["through", "refuse", "reset", "silent", "slow"]


class Proxy:
    """A TCP proxy to a port, of this machine if nothing else is said, in one of several modes.

    "through"; "refuse" closes at once; "reset" breaks off; "silent" accepts and carries nothing; "slow" carries what is
    asked, and keeps each answer for 30 s. Connections that are open share the fate of new ones.
    """

    def __init__(self, port: int, host: str = HOST) -> None:
        self.mode: Mode = "through"
        self._to = host, port
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
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

    @contextmanager
    def being(self, mode: Mode) -> Iterator[None]:
        """In this mode for the length of a block."""
        self.mode = mode
        try:
            yield
        finally:
            self.mode = "through"

    def _start(self, call: Callable[..., None], *args: Any) -> None:
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
            with socket.create_connection(self._to) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not self._over and self._passes(client):
                    for ready in select.select([client, server], [], [], 0.02)[0]:
                        data = ready.recv(65536)
                        if not data or not self._passes(client):
                            return
                        if ready is server:
                            self._keep()
                        (server if ready is client else client).sendall(data)

    def _keep(self) -> None:
        """An answer waits while the way is slow."""
        until = time.monotonic() + SLOW
        while self.mode == "slow" and not self._over and time.monotonic() < until:
            time.sleep(0.02)

    def _passes(self, client: socket.socket) -> bool:
        """Whether bytes may go on; while silent, wait for another mode."""
        while self.mode == "silent" and not self._over:
            time.sleep(0.02)
        if self.mode == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return self.mode in {"through", "slow"} and not self._over
