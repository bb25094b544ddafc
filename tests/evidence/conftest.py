"""One office with tickets of every kind, for all tests of this folder; none of them writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import servers
from evidence.office import Office
from evidence.published import SecondVerifier


class Archive(NamedTuple):
    """What was recorded."""

    office: Office
    log: list[bytes]
    tickets: dict[str, str]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    office = Office(tmp_path_factory.mktemp("office") / "access")
    kinds = (
        "closed", "expired", "by_two", "broken_glass", "for_a_machine", "denied", "refused", "withdrawn", "lapsed",
        "active",
    )  # fmt: skip
    tickets = {kind: getattr(office, kind)() for kind in kinds}
    office.lifted()
    yield Archive(office, office.log(), tickets)
    office.close()


@pytest.fixture(scope="session")
def second_verifier(tmp_path_factory: pytest.TempPathFactory) -> SecondVerifier:
    """The verifier in Go. Ask for it with ``@pytest.mark.server("go")``."""
    sources = Path(__file__).parents[1] / "second_verifier"
    return SecondVerifier(servers.build_go(sources, tmp_path_factory.mktemp("go") / "second_verifier"))
