"""An office for tests that need real entries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evidence.office import Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "access")
    yield made
    made.close()
