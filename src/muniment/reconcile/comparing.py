"""Compare everything that is held with everything that is expected, in one pass of DuckDB over Arrow tables.

Both sides are tables with the columns ``account``, ``privilege`` and ``detail`` (null, or whatever else tells two
entitlements of one name apart) as their key, and ``row``: the number by which the caller knows a row again. Of what is
expected, each key is there once, and says besides:

- ``class``: 0 ticketed, 1 excepted, 2 baseline
- ``must``: it is missing if it is not held; else it may be there or not
- ``look``: it is to be returned although it is held and explained

What is held may be there several times, given by several. Nothing here depends on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from muniment.core.drift import CLASSES
from muniment.joins import arrow, database


class Compared(NamedTuple):
    """What differs, by numbers of rows. The four classes part everything that is held."""

    counts: dict[str, int]  # of what is held, by class
    unexplained: list[int]  # held
    missing: list[int]  # expected
    looked: list[tuple[int, int]]  # held, expected


class Row(NamedTuple):
    """One side's key, with what belongs to that side."""

    account: str
    privilege: str
    detail: str | None


def held_table(rows: Iterable[Row]) -> Any:
    """Rows numbered in their order."""
    pa, keys = arrow(), list(rows)
    return pa.table({**_keys(pa, keys), "row": pa.array(range(len(keys)), pa.int64())})


def expected_table(rows: Iterable[tuple[Row, int, bool, bool]]) -> Any:
    """As `held_table`, each with its class, whether it must be there, and whether it is to be returned."""
    pa, given = arrow(), list(rows)
    return pa.table(
        {
            **_keys(pa, [key for key, *_ in given]),
            "class": pa.array([each[1] for each in given], pa.int8()),
            "must": pa.array([each[2] for each in given], pa.bool_()),
            "look": pa.array([each[3] for each in given], pa.bool_()),
            "row": pa.array(range(len(given)), pa.int64()),
        }
    )


def compare(held: Any, expected: Any) -> Compared:
    """Compare two tables.

    Raises:
        Misconfigured: DuckDB or Arrow is not installed.
    """
    with database() as opened:
        opened.register("held", held)
        opened.register("expected", expected)
        found = {name: (count, pairs or []) for name, count, pairs in opened.execute(_COMPARE).fetchall()}
    nothing: tuple[int, list[dict[str, int]]] = (0, [])
    unexplained = found.get("unexplained", nothing)
    looked = [pair for name in CLASSES[:-1] for pair in found.get(name, nothing)[1]]
    return Compared(
        counts={name: found.get(name, nothing)[0] for name in CLASSES},
        unexplained=sorted(pair["h"] for pair in unexplained[1]),
        missing=sorted(pair["e"] for pair in found.get("missing", nothing)[1]),
        looked=sorted((pair["h"], pair["e"]) for pair in looked),
    )


#: one hash join; the full outer join finds what either side lacks, and whatever is of no interest is only counted
_COMPARE = """
    SELECT CASE WHEN h.account IS NULL THEN 'missing' WHEN e.account IS NULL THEN 'unexplained'
                WHEN e.class = 0 THEN 'ticketed' WHEN e.class = 1 THEN 'excepted' ELSE 'baseline' END AS found,
           count(*),
           list({'h': h.row, 'e': e.row}) FILTER (WHERE h.account IS NULL OR e.account IS NULL OR e.look)
    FROM held h FULL JOIN expected e
    ON h.account = e.account AND h.privilege = e.privilege AND h.detail IS NOT DISTINCT FROM e.detail
    WHERE h.account IS NOT NULL OR e.must
    GROUP BY ALL"""


def _keys(pa: Any, rows: list[Row]) -> dict[str, Any]:
    return {
        name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate(Row._fields)
    }
