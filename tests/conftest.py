"""Servers that tests share. Each worker of pytest-xdist starts its own, when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import servers
from front import Front
from key_keepers import TemporaryOpenBao, TemporarySoftHsm
from muniment.demo.postgres import TemporaryPostgres


@pytest.fixture(scope="session")
def postgres18() -> Iterator[TemporaryPostgres]:
    """PostgreSQL 18: only the grantor's own grants are taken by REVOKE."""
    with servers.postgres(18) as server:
        yield server


@pytest.fixture(scope="session")
def postgres15() -> Iterator[TemporaryPostgres]:
    """PostgreSQL 15: CREATEROLE may give almost anything."""
    with servers.postgres(15) as server:
        yield server


@pytest.fixture(scope="session", params=[18, 15], ids=["postgres18", "postgres15"])
def any_postgres(request: pytest.FixtureRequest) -> TemporaryPostgres:
    """Each supported PostgreSQL in turn."""
    server: TemporaryPostgres = request.getfixturevalue(f"postgres{request.param}")
    return server


@pytest.fixture(scope="session")
def sshd_server() -> Iterator[servers.TemporarySshd]:
    """An OpenSSH server. It is shared: use principals, serials and key names of your own."""
    with servers.TemporarySshd() as server:
        yield server


@pytest.fixture(scope="session")
def softhsm() -> Iterator[TemporarySoftHsm]:
    """PKCS#11 tokens in files. It is shared: make a token of your own."""
    with TemporarySoftHsm() as tokens:
        yield tokens


@pytest.fixture(scope="session")
def openbao() -> Iterator[TemporaryOpenBao]:
    """OpenBao with a transit engine. It is shared: make a key of your own, and leave it unsealed."""
    with TemporaryOpenBao() as server:
        yield server


@pytest.fixture
def front(world: Any) -> Iterator[Front]:
    """Between us and the server of the test's own ``world``."""
    with Front(world.server.port).running() as made:
        yield made


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Obey ``@pytest.mark.server(name)``."""
    for mark in item.iter_markers("server"):
        servers.require(*mark.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers were missing, how many tests that cost, and how to get them."""
    skipped: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        name = reason.partition(servers.MISSING)[2]
        if name:
            skipped[name] = skipped.get(name, 0) + 1
    if skipped:
        terminalreporter.section("tests skipped for want of a server (CI=true: failed)", yellow=True)
        for name, count in sorted(skipped.items()):
            terminalreporter.line(f"{count:4} {name}")
