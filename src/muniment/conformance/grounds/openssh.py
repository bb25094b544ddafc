"""OpenSSH: an authority in a temporary folder. What a host would accept is asked of `ssh-keygen`.

That real hosts let such certificates in, and refuse revoked ones, is shown elsewhere, against sshd itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from muniment.conformance.harness import Ground, Harness, NotInstalled, Outage, really
from muniment.connectors.kinds import build_connector
from muniment.connectors.openssh_keys import new_ca_key
from muniment.core.scope import Privilege, Scope, scope

_HOW = "on Debian: apt-get install openssh-client"


def new_public_key() -> str:
    """A beneficiary's, one line."""
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*form).decode()


class SshHarness(Harness):
    """The register and list in a folder, read by ssh-keygen; what others issue is signed by it too."""

    accounts = ("ann", "bob")
    privileges = (Privilege(privilege="web-admin"), Privilege(privilege="db-admin"))

    def __init__(self, folder: Path) -> None:
        self.place = folder / "place"
        self.place.mkdir()
        self.ca, self.krl, self.register = (self.place / name for name in ("ca", "krl", "krl.d"))
        self.ca.write_bytes(new_ca_key())
        self.ca.chmod(0o600)
        self.connector = build_connector(
            "openssh", name="bastion", settings={"ca_key": f"file:{self.ca}", "krl": str(self.krl)},
            secret=lambda name: Path(name.removeprefix("file:")).read_text(), path=Path, catalogue=(),
        )  # fmt: skip
        self.connector.check()
        self.keys = {account: new_public_key() for account in self.accounts}
        self.secrets = self.ca.read_text().split("\n")[1:-2]

    def public_key(self, account: str) -> str:
        """One for each account."""
        return self.keys[account]

    def everything(self) -> list[tuple[str, str]]:
        """Account and principal of each certificate that a host would accept now."""
        found = []
        for path in self.register.glob("*.cert"):
            lines = [line.strip() for line in _keygen("-L", "-f", path).stdout.splitlines()]
            account = (
                next(line for line in lines if line.startswith("Key ID:")).split(":", 3)[3].removesuffix('"')
            )
            until = next(line for line in lines if line.startswith("Valid:")).split(" to ")[1]
            over = datetime.fromisoformat(f"{until}Z") <= datetime.now(UTC)
            if not over and not self._refused(path.read_bytes()):
                names = lines[lines.index("Principals:") + 1 : lines.index("Critical Options: (none)")]
                found += [(account, name) for name in names]
        return sorted(found)

    def holds(self, account: str) -> Scope:
        """From the same."""
        return scope(Privilege(privilege=name) for holder, name in self.everything() if holder == account)

    def hold(self, account: str, privilege: Privilege) -> None:
        """Somebody else signs with the same key, and puts it into the register."""
        name, serial = uuid.uuid4().hex, uuid.uuid4().int >> 66 or 1
        key = self.place / name
        _keygen("-q", "-t", "ed25519", "-N", "", "-f", key)
        ident = f"muniment:theirs-{name}:{account}"
        options = ("-I", ident, "-z", str(serial), "-n", privilege.privilege, "-V", "-1m:+1h")
        _keygen("-q", "-s", self.ca, *options, f"{key}.pub")
        (self.place / f"{name}-cert.pub").rename(self.register / f"{serial}.cert")

    def outage(self, kind: Outage) -> AbstractContextManager[None] | None:
        """The folder is away; files are neither silent nor slow."""
        return self._away() if kind == "stopped" else None

    @contextmanager
    def _away(self) -> Iterator[None]:
        aside = self.place.rename(self.place.with_name("aside"))
        self.place.write_text("in the way")
        yield
        self.place.unlink()
        aside.rename(self.place)

    def pass_time(self, until: datetime) -> bool:
        """Really."""
        return really(self, until)

    def _refused(self, certificate: bytes) -> bool:
        path = self.place / f"asked-{uuid.uuid4().hex}.pub"
        path.write_bytes(certificate)
        return _keygen("-Q", "-f", self.krl, path, check=False).returncode == 1


class SshGround:
    """`ssh-keygen`, and folders."""

    def __init__(self) -> None:
        said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
        self.version = said.partition(",")[0].replace("_", " ")

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """A folder of its own."""
        with tempfile.TemporaryDirectory(prefix="muniment-openssh-") as folder:
            yield SshHarness(Path(folder))


@contextmanager
def _ground() -> Iterator[Ground]:
    if not all(shutil.which(program) for program in ("ssh", "ssh-keygen")):
        raise NotInstalled(_HOW)
    yield SshGround()


def _keygen(*options: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["ssh-keygen", *map(str, options)]
    utc = {**os.environ, "TZ": "UTC"}
    return subprocess.run(command, capture_output=True, text=True, env=utc, check=check, timeout=30)


GROUNDS = {"openssh": _ground}
