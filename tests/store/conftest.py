"""Every test here that asks for ``shelf`` or ``store`` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from muniment.store.events import SqlStore
from store import stores
from store.stores import HandClock, Shelf


def _on_postgres(name: str):
    # one group, so that one worker of pytest-xdist starts the server for all of them
    return pytest.param(name, marks=[pytest.mark.server(name), pytest.mark.xdist_group(f"store-{name}")])


SQLITE = pytest.param("sqlite")
POSTGRES = _on_postgres("postgres18")


@pytest.fixture(scope="session")
def sqlite_shelf() -> Iterator[Shelf]:
    with stores.shelf(None) as made:
        yield made


@pytest.fixture(scope="session")
def postgres_shelf(postgres18) -> Iterator[Shelf]:
    with stores.shelf(postgres18) as made:
        yield made


@pytest.fixture(params=[SQLITE, POSTGRES])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    """Databases of each kind."""
    return request.getfixturevalue("sqlite_shelf" if request.param == "sqlite" else "postgres_shelf")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(shelf: Shelf, clock: HandClock) -> Iterator[SqlStore]:
    """A fresh store whose clock the test moves."""
    with shelf.store(clock) as made:
        yield made
