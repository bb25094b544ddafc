"""A real OpenID provider for tests (npm oidc-provider), and a browser that is only what signing in needs of one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from joserfc import jwk

from muniment.demo.postgres import HOST, free_port, spawn
from servers import missing

HERE = Path(__file__).parent
#: where tools/test-servers puts it
MODULES = HERE.parent / ".venv/oidc-provider"
SECRET = "a secret of the test's own"
ACCOUNTS: dict[str, dict[str, Any]] = {
    "a-1": {"email": "Ann@example.com", "email_verified": True, "groups": ["eng"]},
    "c-1": {"email": "cyd@example.com", "email_verified": True, "groups": ["leads"]},
    "c-2": {"email": "cyd@example.com", "email_verified": True, "groups": ["leads"]},
    "o-1": {"email": "ops@example.com", "email_verified": True, "groups": []},
    "x-1": {"email": "stranger@example.com", "email_verified": True},
    "u-1": {"email": "dee@example.com", "email_verified": False},
    "b-1": {"email": "bo@example.com", "email_verified": True, "groups": []},
    "d-1": {"email": "dee@example.com", "email_verified": True, "groups": ["leads"]},
    "t-1": {"email": "aud@example.com", "email_verified": True, "groups": []},
    "n-1": {},
    "h-1": {"email": "ann@example.com\u202e", "email_verified": True},
    "h-2": {"email": '"><script>alert(1)</script>', "email_verified": True},
}


class TemporaryProvider:
    """One provider that knows one client: ``muniment``, at this URL. Ended by the kernel when the test is killed."""

    def __init__(
        self,
        muniment: str,
        *,
        secret: str | None = SECRET,
        claims_parameter: bool = True,
        algorithm: str = "ES256",
        sessions_named: bool = True,
    ) -> None:
        self.muniment, self.secret = muniment, secret
        self._more = {
            "claims_parameter": claims_parameter, "algorithm": algorithm, "sessions_named": sessions_named,
        }  # fmt: skip
        self.port = free_port()
        self.issuer = f"http://{HOST}:{self.port}"
        self.rotate()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()

    def rotate(self) -> None:
        """Sign with other keys from the next start on."""
        keys = [jwk.generate_key("EC", "P-256"), jwk.generate_key("RSA", 2048)]
        self._keys = [{**key.as_dict(private=True), "use": "sig", "kid": key.thumbprint()} for key in keys]

    def __enter__(self) -> Self:
        if not shutil.which("node") or not (MODULES / "node_modules/oidc-provider").is_dir():
            missing("oidc-provider")
        self._folder = Path(tempfile.mkdtemp(prefix="muniment-oidc-"))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        settings = {
            "issuer": self.issuer, "port": self.port, "secret": self.secret, "muniment": self.muniment,
            "accounts": ACCOUNTS, "jwks": {"keys": self._keys}, "modules": str(MODULES / "x.js"), **self._more,
        }  # fmt: skip
        log = self._folder / "log"
        with log.open("wb") as file:
            self._process = spawn(
                "node", HERE / "oidc/provider.mjs", json.dumps(settings), death=signal.SIGTERM,
                stdout=subprocess.PIPE, stderr=file,
            )  # fmt: skip
        assert self._process.stdout
        for line in self._process.stdout:
            if line.strip() == b"ready":
                return
        pytest.fail(f"oidc-provider did not start:\n{log.read_text()[-2000:]}", pytrace=False)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            if self._process.stdout:
                self._process.stdout.close()
            self._process = None


class Browser:
    """Cookies by host, and redirects one by one. It sends Secure cookies to this machine, as browsers do."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.jars: dict[str, dict[str, str]] = {}
        self.attributes: dict[str, str] = {}  # of cookies, as they were set last

    def __call__(self, method: str, url: str, **more: Any) -> httpx.Response:
        jar = self.jars.setdefault(urlsplit(url).netloc, {})
        headers = self.headers | dict(more.pop("headers", {}))
        if jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        with httpx.Client(timeout=30, trust_env=False, verify=False) as http:
            answer = http.request(method, url, headers=headers, follow_redirects=False, **more)
        for each in answer.headers.get_list("set-cookie"):
            pair, _, attributes = each.partition(";")
            name, _, value = pair.partition("=")
            self.attributes[name] = attributes
            if not value or "max-age=0" in attributes.lower() or "1970" in attributes:
                jar.pop(name, None)
            else:
                jar[name] = value
        return answer

    def follow(self, url: str, *, stop: str = "", **how: str) -> httpx.Response:
        """Get a page, and where it leads; sign in as ``account`` where a provider asks. ``stop``: before such a path."""
        for _ in range(20):
            answer = self("GET", url)
            if answer.status_code not in {302, 303}:
                return answer
            url = urljoin(url, answer.headers["location"])
            if urlsplit(url).path.startswith("/sign-in/"):
                url += "?" + "&".join(f"{name}={value}" for name, value in how.items())
            if stop and urlsplit(url).path.startswith(stop):
                return answer
        raise AssertionError(f"redirected for ever, at last to {url}")
