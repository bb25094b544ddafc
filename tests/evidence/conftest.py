"""One office with tickets of every kind, for all tests of this folder; none of them writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from evidence.office import Office


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
    yield Archive(office, office.log(), tickets)
    office.close()
