"""DuckDB and Arrow, for joins over all of something: an extra, opened where it is used, gone when that is done."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from muniment.core.errors import Misconfigured

#: of DuckDB's own memory; more goes to disk. Measured (bench/reconcile.py, 10 million beside 10 million): the whole process
#: has 1.9 GiB at its peak, and 2.2 GiB with half as much again, which is hardly faster
MEMORY = "800MB"


def arrow() -> Any:
    """The module of Arrow. Raises `Misconfigured` where it is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise _not_installed() from error
    return pa


@contextmanager
def database(memory: str = MEMORY) -> Iterator[Any]:
    """A database in memory, which closes with all that was in it."""
    try:
        import duckdb  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise _not_installed() from error
    with tempfile.TemporaryDirectory(prefix="muniment-joins-") as folder:
        settings: dict[str, Any] = {
            "memory_limit": memory, "temp_directory": folder, "preserve_insertion_order": False
        }  # fmt: skip
        with duckdb.connect(":memory:", config=settings) as opened:
            yield opened


def _not_installed() -> Misconfigured:
    return Misconfigured(
        "all of something is compared in DuckDB over Arrow, and they are not installed",
        remedy="Install them with pip install 'muniment[reconcile]'.",
        code="config.not-installed",
    )
