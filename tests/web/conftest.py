"""Muniment with its pages, a real OpenID provider and a real PostgreSQL, and people who look at it with a real browser."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

import servers
from api.conftest import Api, free_port, initialised, quiet  # noqa: F401  no line a request
from api.test_signin import SIGNIN, Place
from identity_provider import SECRET, TemporaryProvider
from muniment.cli.session import record
from muniment.config import load
from muniment.core.scope import Privilege
from muniment.core.ticket import Ticket
from muniment.demo.postgres import HOST, TemporaryPostgres
from muniment.main import open_api, open_desk
from muniment.service import deciding, filing
from muniment.service.desk import Caller
from muniment.service.pursuing import pursue
from muniment.service.sealing import seal

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ANN, BO, CYD, DEE, OPS, AUD = (
    f"human:{name}@example.com" for name in ("ann", "bo", "cyd", "dee", "ops", "aud")
)
#: milliseconds that a page may take, on a machine that does much else
PATIENCE = 30_000
#: accounts at the provider
ACCOUNTS = {ANN: "a-1", BO: "b-1", CYD: "c-1", DEE: "d-1", OPS: "o-1", AUD: "t-1"}
KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
NAMES = {
    "Ann": "Ann Archer", "Bo": "Bo Lindqvist", "Cyd": "Cyd Moreau", "Dee": "Dee Okafor", "Ops": "Olu Park", "Aud": "Aud Rand",
    "Deployment": "Deployment",
}  # fmt: skip
TARGETS = """
[targets.pg-prod]
connector = "postgresql"
environment = "prod"
owners = ["group:platform"]
dsn = "file:keys/pg.dsn"
[[targets.pg-prod.privileges]]
name = "orders_rw"
description = "Read and write the orders schema"
risk = "high"
[[targets.pg-prod.privileges]]
name = "orders_ro"
description = "Read the orders schema"
risk = "medium"
[[targets.pg-prod.privileges]]
name = "reporting"
description = "Read the nightly reports"
risk = "low"
[[targets.pg-prod.privileges]]
name = "refunds"
description = "Pay money back to customers"
risk = "high"

[targets.web-staging]
connector = "openssh"
environment = "staging"
owners = ["group:platform"]
ca_key = "file:keys/ssh-ca"
krl = "var/web-staging.krl"
[[targets.web-staging.privileges]]
name = "deploy"
description = "Put a new release on the staging web servers"
risk = "low"
"""


@dataclass
class Pages:
    """A served Muniment with pages, and what is needed to play with it."""

    place: Place
    postgres: TemporaryPostgres
    browser: Browser | None = None
    contexts: dict[tuple[str, str], BrowserContext] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.place.url

    @property
    def desk(self) -> Any:
        return self.place.api.desk

    def person(self, who: str, *, theme: str = "light", width: int = 1280, height: int = 900) -> Page:
        """A new page of somebody's own browser, signed in at the provider."""
        assert self.browser, "ask for `pages`"
        context = self.contexts.get((who, theme))
        if context is None:
            context = self.browser.new_context(
                base_url=self.url, color_scheme=theme, reduced_motion="reduce", locale="en-GB"
            )
            context.set_default_timeout(PATIENCE)
            self.contexts[who, theme] = context
            page = context.new_page()
            page.goto("/")
            page.goto(f"{page.url}?account={ACCOUNTS[who]}")
            page.close()
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        return page

    def caller(self, who: str) -> Caller:
        caller: Caller = self.desk.caller(who, "api")
        return caller

    def filed(self, who: str = ANN, **more: Any) -> Ticket:
        """A request, past the pages."""
        names = more.pop("privileges", ["orders_rw"])
        given: dict[str, Any] = {
            "target": "pg-prod", "scope": tuple(Privilege(privilege=p) for p in names), "duration": timedelta(hours=2),
            "justification": "Orders of 24 November are stuck; I have to set their state by hand.",
        }  # fmt: skip
        return filing.file_request(self.desk, self.caller(who), filing.Ask(**(given | more)))

    def given(self, ticket: Ticket, *approvers: str) -> Ticket:
        """Approved, and given on the target."""
        for who in approvers or (CYD,):
            ticket = deciding.approve(self.desk, self.caller(who), ticket.id, digest=ticket.digest)
        return self.pursued(ticket)

    def pursued(self, ticket: Ticket) -> Ticket:
        after: Ticket = pursue(self.desk, ticket.id)
        seal(self.desk)
        return after

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()


def filled(postgres: TemporaryPostgres) -> str:
    """Roles on the target; return the connector's DSN."""
    password = secrets.token_urlsafe(24)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE muniment_pages LOGIN PASSWORD '{password}'".encode())
        for name in ("ann", "bo", "deploy"):
            connection.execute(f'CREATE ROLE "{name}" LOGIN'.encode())
        for name in ("orders_rw", "orders_ro", "reporting", "refunds"):
            connection.execute(f"CREATE ROLE {name} NOLOGIN".encode())
            connection.execute(
                f"GRANT {name} TO muniment_pages WITH ADMIN OPTION, INHERIT FALSE, SET FALSE".encode()
            )
        connection.execute(b"GRANT orders_ro TO orders_rw")
        connection.execute(b"GRANT pg_signal_backend, pg_read_all_stats TO muniment_pages")
    return f"host={HOST} port={postgres.port} dbname=postgres user=muniment_pages password={password} sslmode=disable"


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    if not CHROMIUM.exists():
        servers.missing("chromium")
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """One server for all tests of pages: they share it, and so look only at tickets of their own."""
    port = free_port()
    folder = tmp_path_factory.mktemp("web") / "access"
    with (
        pytest.MonkeyPatch.context() as patch,
        servers.postgres(18) as postgres,
        TemporaryProvider(f"http://localhost:{port}") as provider,
    ):
        patch.setenv("MUNIMENT_TEST_SECRET", SECRET)
        config = initialised(folder)
        said = SIGNIN.format(issuer=provider.issuer)
        url = f'listen = "127.0.0.1:{port}"\nurl = "http://localhost:{port}"'
        config.write_text(config.read_text().replace('listen = "127.0.0.1:8642"', url) + TARGETS + said)
        # one person's word is enough here, which a single-person trial alone may say; what is critical takes two hands
        for name in ("people", "machines"):
            rules = folder / f"policies/{name}.cedar"
            text = rules.read_text().replace('@min_approvals("2")\n', "")
            signed = '@max_duration("2h")\n@review_within("3d")'
            rules.write_text(text.replace(signed, f'@min_approvals("2")\n@signature("required")\n{signed}'))
        people = folder / "identities.toml"
        text = people.read_text()
        for short, whole in NAMES.items():
            text = text.replace(f'name = "{short}"', f'name = "{whole}"')
        people.write_text(text.replace('["platform"]', '["platform", "leads"]'))
        (folder / "keys/pg.dsn").touch(0o600)
        (folder / "keys/pg.dsn").write_text(filled(postgres))
        settings = load(config)
        desk = open_desk(settings)
        record(desk)
        server = open_api(settings, desk)
        server.start()
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
            yield Pages(Place(Api(desk, server._office, folder, http), provider), postgres)
        assert server.stop(30)
        desk.store.engine.dispose()


@pytest.fixture(scope="session")
def pages(served: Pages, chromium: Browser) -> Iterator[Pages]:
    """The same, with a browser to look at it."""
    served.browser = chromium
    yield served
    for context in served.contexts.values():
        context.close()
    served.contexts.clear()
