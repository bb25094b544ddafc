"""A server in a temporary folder, for as long as a ``with`` block: on a free port, and gone with whoever started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from muniment.conformance.harness import Harness, NotInstalled, Outage
from muniment.conformance.proxy import Proxy
from muniment.core.errors import Unavailable
from muniment.demo.postgres import free_port, spawn

START_LIMIT = 60.0  # seconds
RUN_LIMIT = 180.0
STOP_LIMIT = 10.0
TIMEOUT = timedelta(seconds=2)  # for a call of a connector, where an outage is waited for


class TemporaryServer:
    """One process. What it writes goes into ``log`` in its folder, whose end an error shows.

    After SIGKILL of whoever started it the kernel stops it; the folder remains.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[Path, int], Sequence[str | Path]],
        ready: Callable[[int], bool],
        *,
        user: str = "",
        where: Path | None = None,
        **options: Any,
    ) -> None:
        """Starts nothing yet.

        Args:
            name: of the folder: ``muniment-NAME-…``.
            command: from folder and port. What must be there beforehand is made by ``prepare``.
            ready: whether the server at this port answers; whatever it raises means not yet.
            user: to run as, where we are root and the server refuses to be.
            where: its folder is made; in the temporary folder by default.
            options: for `subprocess.Popen`.
        """
        self._name, self._command, self._ready, self._options = name, command, ready, options
        self._where = where
        self._user = pwd.getpwnam(user) if user and os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path()
        self.port = 0

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"muniment-{self._name}-", dir=self._where))
        try:
            if self._user:
                self.folder.chmod(0o755)
            self.prepare()
            self._serve()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def prepare(self) -> None:
        """Make what the server needs in its folder, before it starts."""

    @contextmanager
    def away(self) -> Iterator[None]:
        """The server is not there for the length of a block. Its data stay, and it comes back at its port."""
        self._stop(signal.SIGTERM)
        try:
            yield
        finally:
            self._serve(self.port)

    def run(self, *command: str | Path, **options: Any) -> str:
        """Run a program beside the server, as its user; what it prints."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, capture_output=True, text=True, timeout=RUN_LIMIT, check=False, stdin=subprocess.DEVNULL,
            cwd=self.folder, **self._as_server(), **options,
        )  # fmt: skip
        if done.returncode:
            raise Unavailable(f"{command[0]} failed: {done.stdout[-1000:]} {done.stderr[-2000:]}")
        return done.stdout

    def make(self, name: str) -> Path:
        """A folder that the server's user may write."""
        made = self.folder / name
        made.mkdir(mode=0o700)
        if self._user:
            os.chown(made, self._user.pw_uid, self._user.pw_gid)
        return made

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def _as_server(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _serve(self, port: int = 0) -> None:
        """Start it; on another port if somebody was faster, three times in all, unless it must be this one."""
        for _ in range(3):
            self.port = port or free_port()
            with (self.folder / "log").open("ab") as log:
                command = self._command(self.folder, self.port)
                self._process = spawn(
                    *command, death=signal.SIGTERM, stdout=log, stderr=log, cwd=self.folder, **self._as_server(),
                    **self._options,
                )  # fmt: skip
            if self._becomes_ready(self._process):
                return
            self._stop(signal.SIGKILL)
            if "in use" not in self.log.lower():
                break
        raise Unavailable(f"{self._name} did not start:\n{self.log[-2000:]}")

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(Exception):  # clients raise errors of their own while nobody answers
                if self._ready(self.port):
                    return True
            time.sleep(0.02)
        return False

    def _stop(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Served(Harness):
    """On such a server, which is reached by way of a proxy."""

    server: TemporaryServer
    proxy: Proxy

    @abstractmethod
    def make(self, **settings: Any) -> Any:
        """A connector to the server, as it would be by these settings, with little time for a call."""

    def impatient(self) -> Any:
        """With the short time that outages are waited for."""
        return self.make()

    def outage(self, kind: Outage) -> AbstractContextManager[None]:
        """The server itself stops; or the way to it is silent or slow."""
        return self.server.away() if kind == "stopped" else self.proxy.being(kind)


def program(name: str, how: str) -> Path:
    """Where a server's program is. Raises `NotInstalled`, which says how to get it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise NotInstalled(how)
    return Path(found)
