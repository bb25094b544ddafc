"""The application on granian, in this process: a thread with an event loop of its own beside the controllers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from muniment.api.app import application
from muniment.api.office import Office
from muniment.core.errors import Misconfigured, Unavailable
from muniment.native import foreign_threads, names_of, wait_for_others

#: seconds until it must listen
START_SECONDS = 30
BACKLOG = 1024

log = structlog.get_logger("muniment.api")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to listen."""

    host: str
    port: int
    certificate: Path | None = None  # with a key: https
    key: Path | None = None


class ApiServer:
    """One server. `start` returns when it listens, `stop` when requests under way are answered."""

    def __init__(self, office: Office, address: Address) -> None:
        """Nothing is opened yet."""
        self._office, self._address = office, address
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._run, name="muniment-http", daemon=True)
        self._failure: BaseException | None = None
        self._before: set[int] = set()

    @property
    def url(self) -> str:
        """As clients reach it."""
        return self._office.url

    def start(self) -> None:
        """Listen.

        Raises:
            Misconfigured: the address cannot be listened on.
        """
        self._require_free()
        self._before = foreign_threads()
        self._thread.start()
        for _ in range(START_SECONDS * 20):
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self._address.host, self._address.port), timeout=1),
            ):
                return
            if not self._thread.is_alive():
                break
            self._thread.join(0.05)
        raise Unavailable(
            "the server does not listen", remedy="The log says more.", code="unavailable.server"
        ) from self._failure

    def stop(self, timeout: float) -> bool:
        """Take no more requests, answer those under way; return whether that ended in time.

        Threads of granian's own that outlast it answer nobody any more: they are waited for, and named in the log.
        """
        self._office.closing = True  # streams end
        if self._loop is not None and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        if not wait_for_others(self._before):
            log.warning("threads outlast the server", threads=names_of(foreign_threads() - self._before))
        return True

    def _require_free(self) -> None:
        """Granian shares a port with whoever shares it, too; two servers on one would each get half of the requests."""
        family = socket.AF_INET6 if ":" in self._address.host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self._address.host, self._address.port))
        except OSError as error:
            raise Misconfigured(
                f"{self._address.host}:{self._address.port} cannot be listened on: {error.strerror}",
                remedy="Set [server] listen to an address of this machine and a free port.",
                code="config.listen",
            ) from error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  told by `start`, in the thread that asked
            self._failure = error

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = Server(
            application(self._office),
            address=self._address.host,
            port=self._address.port,
            interface=Interfaces.ASGI,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            log_enabled=False,
            ssl_cert=self._address.certificate,
            ssl_key=self._address.key,
        )
        await self._server.serve()
