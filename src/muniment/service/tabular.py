"""Lists as CSV (RFC 4180) that a spreadsheet shows and never runs. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from muniment.core.text import visible

#: what makes a formula of a cell in one spreadsheet or another; a leading apostrophe makes it text. The last are full-width forms
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A table with its header. Nothing in it is a formula, whatever people wrote."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def cell(value: object) -> str:
    """One value as text."""
    said = "" if value is None else visible(str(value))
    return "'" + said if said.lstrip(" ").startswith(_FORMULA) else said
