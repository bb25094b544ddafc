"""Grounds and worlds on a real PostgreSQL 18. The store is SQLite; where it matters, PostgreSQL as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.world import Ground, World, ground_on
from store import stores
from store.stores import Shelf


@pytest.fixture(scope="session")
def sqlite_shelf() -> Iterator[Shelf]:
    with stores.shelf(None) as made:
        yield made


@pytest.fixture(scope="session")
def postgres_shelf(postgres18) -> Iterator[Shelf]:
    with stores.shelf(postgres18) as made:
        yield made


@pytest.fixture
def ground(postgres18, sqlite_shelf, tmp_path: Path) -> Ground:
    return ground_on(postgres18, sqlite_shelf, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_ground(request, postgres18, tmp_path: Path) -> Ground:
    """With the store on either database."""
    name = "sqlite_shelf" if request.param == "sqlite" else "postgres_shelf"
    return ground_on(postgres18, request.getfixturevalue(name), tmp_path)


@pytest.fixture
def world(ground: Ground) -> Iterator[World]:
    with World(ground) as made:
        yield made
