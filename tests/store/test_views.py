"""Looking up what stands on record by the beginning of its name, on both databases."""

from __future__ import annotations

import pytest

from muniment.store.events import SqlStore
from muniment.store.views import SqlViews
from store.stores import an_append

NAMES = ["delegation", "delegation:", "delegation:1", "delegation:\u00e9\U0001f600", "delegation;", "delegations:1", "Delegation:1",
         "delega%", "delega%tion", "delega_", "identity:human:ann@example.com"]  # fmt: skip


@pytest.mark.parametrize("prefix", ["delegation:", "delegation", "delega%", "delega_", "identity:", "", "z"])
def test_by_prefix(store: SqlStore, prefix: str) -> None:
    """Letter case counts, and no character is a wildcard."""
    for name in NAMES:
        store.append(an_append(name, "x"))
    found = SqlViews(store.engine).registered(prefix)
    assert set(found) == {name for name in NAMES if name.startswith(prefix)}
    assert {stream.id for stream, _ in found.values()} == set(found)
