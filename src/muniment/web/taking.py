"""Taking a list along: all of its pages, as one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from muniment.api.routes import Plain
from muniment.core.errors import Invalid
from muniment.service.tabular import to_csv
from muniment.web.pages import HEADERS

#: rows of a file; more are asked for with a filter
MOST = 20_000

Row: TypeAlias = tuple[object, ...]


def every(page: Callable[[str | None], tuple[list[Row], str | None]]) -> list[Row]:
    """All pages. Raises `Invalid` where that is more than a file should be."""
    rows, before = page(None)
    while before is not None:
        more, before = page(before)
        rows += more
        if len(rows) > MOST:
            raise Invalid(f"the list has more than {MOST} rows", remedy="Narrow it with a filter.")
    return rows


def file(name: str, columns: tuple[str, ...], rows: list[Row]) -> Plain:
    """A list as a download."""
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Plain(body=to_csv(columns, rows), media_type="text/csv", headers=headers)
