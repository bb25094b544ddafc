"""A host: a real sshd and a real sudo, with accounts and rules of their own in a mount namespace, which needs root.

Everything past us is done to the files themselves, and asked of sshd and sudo by logging in.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from muniment.conformance.grounds.servers import Served, TemporaryServer, program
from muniment.conformance.harness import Ground, Harness, NeedsRoot, NotInstalled, really
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors import ssh_host_remote
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope

TIMEOUT = timedelta(seconds=1)

_HOW = "as root, on Debian: apt-get install openssh-server openssh-client sudo"
_numbers = itertools.count(1)
_US = 59_999  # our own account's number there
_HIDDEN = ("passwd", "shadow", "group", "sudoers", "sudoers.d")  # of /etc, replaced inside of the namespace

_SSHD = """\
ListenAddress {host}
HostKey {folder}/host
TrustedUserCAKeys {folder}/ca.pub
AuthorizedPrincipalsFile {folder}/principals/%u
AuthorizedKeysFile {folder}/keys/%u
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
LogLevel VERBOSE
MaxStartups 100
"""


class Server(TemporaryServer):
    """One host, on which our key starts muniment-host by sudo and nothing else."""

    def __init__(self) -> None:
        if os.geteuid():
            raise NeedsRoot(_HOW)
        sshd = program("sshd", _HOW)
        for name in ("ssh", "ssh-keygen", "sudo", "visudo", "cvtsudoers", "unshare"):
            program(name, _HOW)
        if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
            raise NeedsRoot("it needs a mount namespace of its own, which this machine does not let us have")
        if not Path(ssh_host_remote.__file__).exists():
            raise NotInstalled(_HOW)
        self.logins: list[str] = []
        self.sudo: dict[str, dict[str, Any]] = {}
        super().__init__(
            "ssh-host",
            lambda folder, port: (
                "unshare", "-m", "--propagation", "private", "sh", folder / "start", sshd, "-D", "-e", "-f",
                folder / "sshd_config", "-p", str(port),
            ),
            self._answers,
        )  # fmt: skip

    def prepare(self) -> None:
        """Keys, accounts, rules, and what starts sshd among them."""
        self.folder.chmod(0o755)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation folder, compiled in
        for name in ("host", "ca", "us"):
            self.key(name)
        for name in ("principals", "keys", "etc", "etc/sudoers.d", "home"):
            (self.folder / name).mkdir(mode=0o755)
        for name in ("passwd", "shadow", "group"):
            shutil.copy(f"/etc/{name}", self.folder / "etc" / name)
        self.add_user("muniment", _US)
        helper, start = self.folder / "muniment-host", self.folder / "start"
        shutil.copy(ssh_host_remote.__file__, helper)
        helper.chmod(0o755)
        command = f"{sys.executable} -I {helper} {self.folder}/host.json"
        self.etc("sudoers", "root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n", 0o440)
        self.etc("sudoers.d/us", f"muniment ALL=(root) NOPASSWD: {command}\n", 0o440)
        key = (self.folder / "us.pub").read_text()
        (self.folder / "keys/muniment").write_text(f'restrict,command="sudo -n {command}" {key}')
        (self.folder / "sshd_config").write_text(_SSHD.format(folder=self.folder, host=HOST))
        mounts = "".join(f"mount --bind {self.folder}/etc/{name} /etc/{name}\n" for name in _HIDDEN)
        start.write_text(f'set -e\n{mounts}exec "$@"\n')
        self.configure()

    def etc(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of /etc in its place: what is mounted is this file, and no other of its name."""
        path = self.folder / "etc" / name
        path.write_text(text)
        path.chmod(mode)

    def add_user(self, name: str, number: int) -> None:
        """An account with a shell, and no password that would open it."""
        for file, line in (
            ("passwd", f"{name}:x:{number}:{number}::{self.folder}/home:/bin/sh"), ("shadow", f"{name}:*:20000:0:99999:7:::"),
            ("group", f"{name}:x:{number}:"),
        ):  # fmt: skip
            with (self.folder / "etc" / file).open("a") as text:
                text.write(f"{line}\n")

    def remove_user(self, name: str) -> None:
        """As userdel does."""
        for file in ("passwd", "shadow", "group"):
            path = self.folder / "etc" / file
            kept = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}:")]
            path.write_text("".join(f"{line}\n" for line in kept))

    def configure(self) -> None:
        """What the host allows to be given."""
        (self.folder / "host.json").write_text(
            json.dumps(
                {
                    "principals": str(self.folder / "principals"),
                    "sshd_config": str(self.folder / "sshd_config"),
                    "logins": self.logins,
                    "sudo": self.sudo,
                }
            )
        )

    def key(self, name: str) -> Path:
        """Make a key pair."""
        path = self.folder / name
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path)
        return path

    @property
    def known_hosts(self) -> str:
        """One line, for any port."""
        return f"* {(self.folder / 'host.pub').read_text()}"

    def _answers(self, port: int) -> bool:
        done = subprocess.run(
            ["ssh-keyscan", "-p", str(port), HOST], capture_output=True, text=True, check=False, timeout=10
        )
        return "ssh-ed25519" in done.stdout


class Session:
    """Somebody's login that goes on until it is ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def alive(self) -> bool:
        """Whether the other end is still there; what ended is noticed within a moment."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        return self._process.poll() is None

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class SshHostHarness(Served):
    """Two people with certificates, a login and a command of sudo: with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f"bob_{number}")
        self.login, self.command = f"deploy{number}", f"show-{number}"
        self.privileges = (
            Privilege(privilege=f"login:{self.login}"),
            Privilege(privilege=f"sudo:{self.command}"),
        )
        self.impossible = (self.accounts[0], scope([Privilege(privilege=f"login:none{number}")]))
        for at, name in enumerate((self.login, *self.accounts)):
            server.add_user(name, 60_000 + 10 * number + at)
        server.logins.append(self.login)
        self.rule: dict[str, Any] = {
            "runas": "root",
            "nopasswd": True,
            "commands": [f"/usr/bin/id -u {number}", "/usr/bin/id -u"],
        }
        server.sudo[self.command] = self.rule
        server.configure()
        (server.folder / "known_hosts").write_text(server.known_hosts)
        self.secrets: Sequence[str] = (server.folder / "us").read_text().split("\n")[1:-2]
        self.connector = self.make(timeout="30s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """A connector to this host."""
        folder = self.server.folder
        given = {
            "host": HOST, "port": self.proxy.port, "key": str(folder / "us"), "known_hosts": str(folder / "known_hosts"),
            "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "ssh-host", name="host-test", settings=given | settings, secret=str, path=Path, catalogue=()
        )

    @property
    def principals(self) -> Path:
        """Who may log in."""
        return self.server.folder / "principals" / self.login

    @property
    def rules(self) -> Path:
        """What sudo allows."""
        return self.server.folder / "etc/sudoers.d"

    def everything(self) -> Any:
        """Every file that could be changed, with its mode."""
        files = [*self.rules.iterdir(), *(self.server.folder / "principals").iterdir()]
        return sorted((path.name, path.stat().st_mode, path.read_bytes()) for path in files)

    def holds(self, account: str) -> Scope:
        """Line by line, as sshd reads them; and files of sudo that name the account, as long as they last."""
        found = []
        if self.principals.exists():
            lines = [line.split() for line in self.principals.read_text().splitlines() if line[:1] != "#"]
            found += [
                self.privileges[0] for words in lines if words[-1:] == [account] and not _over(words[0])
            ]
        for path in self.rules.iterdir():
            text = path.read_text()
            if f"{account} ALL=" in text and f"-u {self.n}\n" in text and not _over(text):
                found.append(self.privileges[1])
        return scope(found)

    def hold(self, account: str, privilege: Privilege) -> None:
        """An administrator's own line or file."""
        if privilege == self.privileges[0]:
            with self.principals.open("a") as file:
                file.write(f"{account}\n")
        else:
            rules = "".join(f"{account} ALL = (ALL) {each}\n" for each in self.rule["commands"])
            self.server.etc(f"sudoers.d/theirs-{account}", rules, 0o440)

    def take(self, account: str, privilege: Privilege) -> None:
        """An administrator takes every line and file of that account's, ours as well."""
        if privilege == self.privileges[0]:
            if not self.principals.exists():
                return
            lines = self.principals.read_text().splitlines()
            kept = [
                line
                for line, after in itertools.zip_longest(lines, lines[1:], fillvalue="")
                if line.split()[-1:] != [account]
                and not (line[:1] == "#" and after.split()[-1:] == [account])
            ]
            if [line for line in kept if line[:1] != "#"]:
                self.principals.write_text("".join(f"{line}\n" for line in kept))
            else:
                self.principals.unlink()
        else:
            for path in list(self.rules.iterdir()):
                if f"{account} ALL" in path.read_text():
                    path.unlink()

    def delete_account(self, account: str) -> None:
        """The user, and all lines with the name."""
        self.server.remove_user(account)
        for privilege in self.privileges:
            self.take(account, privilege)

    def delete_privilege(self, privilege: Privilege) -> None:
        """The host does not have it any more, and nobody has it."""
        if privilege == self.privileges[0]:
            self.server.logins.remove(self.login)
            self.server.remove_user(self.login)
            self.principals.unlink(missing_ok=True)
        else:
            del self.server.sudo[self.command]
            for account in self.accounts:
                self.take(account, privilege)
        self.server.configure()

    def certificate(self, account: str) -> Path:
        """A key of this person's, certified for their name."""
        key = self.server.folder / f"key-{account}"
        if not key.exists():
            self.server.key(key.name)
            self.server.run(
                "ssh-keygen", "-q", "-s", self.server.folder / "ca", "-I", account, "-n", account, "-V", "-1m:+1h",
                f"{key}.pub",
            )  # fmt: skip
        return key

    def ssh(self, account: str, login: str, *command: str) -> list[str]:
        """How this person logs in as ``login``, past the proxy."""
        key = self.certificate(account)
        options = (
            "BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", f"CertificateFile={key}-cert.pub",
            f"UserKnownHostsFile={self.server.folder}/known_hosts", "StrictHostKeyChecking=yes", "LogLevel=ERROR",
        )  # fmt: skip
        given = [part for option in options for part in ("-o", option)]
        return [
            "ssh", "-F", "none", "-p", str(self.server.port), "-i", str(key), *given, f"{login}@{HOST}", *command
        ]  # fmt: skip

    def run(self, account: str, login: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Log in, do this, and leave."""
        call = self.ssh(account, login, *command)
        return subprocess.run(
            call, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL
        )

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """A login that began."""
        del privilege
        process = subprocess.Popen(
            self.ssh(account, self.login, "echo begun; exec cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        if process.stdout is None or process.stdout.readline() != "begun\n":
            raise AssertionError(f"no login: {self.server.log[-500:]}")
        return Session(process)

    def pass_time(self, until: datetime) -> bool:
        """Really."""
        return really(self, until)


def _over(text: str) -> bool:
    """Whether the end that is written in it is behind us."""
    for word in ('expiry-time="', "NOTAFTER="):
        if word in text:
            end = text.partition(word)[2][:14]
            return datetime.strptime(f"{end}+0000", "%Y%m%d%H%M%S%z") <= datetime.now(UTC)
    return False


class SshHostGround:
    """One host."""

    def __init__(self, server: Server) -> None:
        ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
        sudo = subprocess.run(["sudo", "-V"], capture_output=True, text=True, check=True).stdout
        self.server = server
        self.version = (
            f"{ssh.partition(',')[0].replace('_', ' ')}, sudo {sudo.splitlines()[0].rpartition(' ')[2]}"
        )

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Accounts, a login and a command of its own."""
        with Proxy(self.server.port) as proxy:
            yield SshHostHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield SshHostGround(server)


GROUNDS: dict[str, Callable[[], AbstractContextManager[Ground]]] = {"ssh-host": _ground}
