"""Real servers for tests, and the one rule about a missing one: skipped by hand, failed in CI (`CI=true`)."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn, Self, TypeVar

import pytest

from muniment.conformance import NeedsBuilding, NeedsRoot, NotInstalled
from muniment.demo.postgres import HOST, TemporaryPostgres, free_port, installed, spawn

T = TypeVar("T")

#: how to get each server, shown when its tests are skipped
HOW = {
    "postgres18": "tools/setup",
    "postgres15": "as root: tools/test-servers (Debian: postgresql-15)",
    "sshd": "as root: tools/test-servers (Debian: openssh-server openssh-client)",
    "softhsm": "as root: tools/test-servers (Debian: softhsm2 opensc)",
    "openbao": "tools/setup",
    "oidc-provider": "tools/test-servers (with node 20 or newer, and npm)",
    "chromium": "as root: tools/test-servers (Debian: chromium)",
    "go": "as root: tools/test-servers (Debian: golang-go golang-golang-x-mod-dev)",
}
MISSING = "server missing: "

_SSHD = Path(
    "/usr/sbin/sshd"
)  # sshd starts itself again for each connection, so it must be called by its whole path
_START_LIMIT = 30.0  # seconds
#: where Debian puts the sources of Go packages
GO_PATH = Path("/usr/share/gocode")


def missing(name: str) -> NoReturn:
    """Skip the test for want of a server; in CI, fail it."""
    absent(name, HOW[name])


def absent(name: str, how: str) -> NoReturn:
    """The same for a server that is not in `HOW`."""
    sentence = f"{MISSING}{name}; {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def lacking(name: str, why: NotInstalled) -> NoReturn:
    """The same for a ground's server, by what its ground says."""
    if isinstance(why, NeedsRoot):
        pytest.skip(f"root only: {why}")
    if isinstance(why, NeedsBuilding):
        pytest.skip(f"not built: {why}")
    absent(name, str(why))


@contextmanager
def running(server: Callable[[], AbstractContextManager[T]], name: str) -> Iterator[T]:
    """A ground's server, for a file of tests; without it they are skipped, or fail as above."""
    try:
        with server() as made:
            yield made
    except NotInstalled as why:
        lacking(name, why)


def postgres(major: int, **settings: str) -> TemporaryPostgres:
    """A server of exactly this major version, not started yet."""
    binaries = installed().get(major)
    if binaries is None:
        missing(f"postgres{major}")
    return TemporaryPostgres(binaries, fsync=False, settings=settings)


def require(name: str) -> None:
    """What ``@pytest.mark.server(name)`` asks for, without starting anything."""
    found = {
        "postgres18": 18 in installed(),
        "postgres15": 15 in installed(),
        "sshd": _have_openssh(),
        "go": bool(shutil.which("go")) and (GO_PATH / "src/golang.org/x/mod/sumdb").is_dir(),
    }
    if not found[name]:
        missing(name)


def _have_openssh() -> bool:
    return _SSHD.exists() and all(shutil.which(program) for program in ("ssh", "ssh-keygen"))


class TemporarySshd:
    """An OpenSSH server that trusts one certificate authority, and nothing else.

    A login needs a certificate of ``ca`` with a principal listed in ``principals/<login>``, not revoked in ``krl``.
    All three are read at each login, without a reload. Started by an ordinary user, it lets only ``login``
    in. That account needs a shell and must not be locked.

    After SIGKILL of the test the kernel stops it; the folder ``muniment-sshd-*`` remains.
    """

    def __init__(self) -> None:
        self.login = getpass.getuser()
        self.folder = Path()
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def ca(self) -> Path:
        """The authority's private key; its public one is beside it, with ``.pub``."""
        return self.folder / "ca"

    @property
    def principals(self) -> Path:
        """A file per login name, a principal per line."""
        return self.folder / "principals"

    @property
    def krl(self) -> Path:
        """Replace it by rename only: while it is missing, sshd refuses everybody."""
        return self.folder / "krl"

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")

    def key(self, name: str) -> Path:
        """Make a user's key pair."""
        path = self.folder / name
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path)
        return path

    def sign(
        self, key: Path, *, identity: str, principals: str, serial: int = 0, validity: str = "-1m:+15m"
    ) -> Path:
        """Issue a certificate for ``key``, beside it: what Muniment's connector does by other means."""
        options = ("-I", identity, "-n", principals, "-z", str(serial), "-V", validity)
        _run("ssh-keygen", "-q", "-s", self.ca, *options, key.with_suffix(".pub"))
        return key.with_name(f"{key.name}-cert.pub")

    def ssh(self, key: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Log in as ``login`` with the key and the certificate beside it, and nothing from the caller's home."""
        options = (
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={self.folder}/known_hosts",
            f"CertificateFile={key}-cert.pub",
            "ConnectTimeout=10",
        )
        given = [part for option in options for part in ("-o", option)]
        call = [
            "ssh",
            "-F",
            "none",
            "-p",
            str(self.port),
            "-i",
            str(key),
            *given,
            f"{self.login}@{HOST}",
            *command,
        ]
        return subprocess.run(
            call, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        if not _have_openssh():
            missing("sshd")
        self.folder = Path(tempfile.mkdtemp(prefix="muniment-sshd-"))
        try:
            self._prepare()
            self._serve()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and the logins in progress; remove the folder."""
        if self._process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self._process.pid, number)  # it leads its own group: its logins are in it
                    self._process.wait(5)
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation folder, compiled in
            self.folder.chmod(0o755)  # principals are read as the user who logs in
        self.key("ca")
        self.key("host")
        self.principals.mkdir()
        _run("ssh-keygen", "-q", "-k", "-f", self.krl)
        (self.folder / "sshd_config").write_text(f"""\
ListenAddress {HOST}
HostKey {self.folder}/host
TrustedUserCAKeys {self.ca}.pub
AuthorizedPrincipalsFile {self.principals}/%u
RevokedKeys {self.krl}
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
LogLevel VERBOSE
MaxStartups 100
""")

    def _serve(self) -> None:
        for _ in range(3):
            self.port = free_port()
            command = (_SSHD, "-D", "-e", "-f", self.folder / "sshd_config", "-p", str(self.port))
            with (self.folder / "sshd.log").open("wb") as log:
                self._process = spawn(*command, death=signal.SIGTERM, stdout=log, stderr=log)
            if self._becomes_ready(self._process):
                return
            if "Address already in use" not in self.log:
                break
        pytest.fail(f"sshd did not start:\n{self.log[-2000:]}", pytrace=False)

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection((HOST, self.port), timeout=5) as connection:
                    if connection.recv(4) == b"SSH-":
                        return True
            except OSError:
                time.sleep(0.01)
        return False


def alive(pid: int) -> bool:
    """Whether the process runs. One that ended and that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, within: float = 5.0) -> bool:
    """Wait until the process no longer runs; False if it still does after ``within`` seconds."""
    deadline = time.monotonic() + within
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def build_go(sources: Path, program: Path) -> Path:
    """Build a Go program of the repository's own against Debian's packages: without modules, and without a network."""
    environment = {
        **os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOFLAGS": "", "GOPROXY": "off", "CGO_ENABLED": "0",
        "GOCACHE": str(program.parent / "cache"),
    }  # fmt: skip
    done = subprocess.run(
        ["go", "build", "-o", program, "."], cwd=sources, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"{sources} does not build:\n{done.stderr}", pytrace=False)
    return program


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
