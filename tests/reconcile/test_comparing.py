"""The comparison beside a slow and obvious one, on random tables."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muniment import joins
from muniment.core.drift import CLASSES
from muniment.core.errors import Misconfigured
from muniment.reconcile.comparing import Compared, Row, compare, expected_table, held_table

WORDS = st.sampled_from(["a", "A", "b", "", "ä", "\U0001f600", "a\x00b", "' OR 1=1"])
ROWS = st.builds(Row, account=WORDS, privilege=WORDS, detail=st.none() | WORDS)
HELD = st.lists(ROWS, max_size=12)
EXPECTED = st.dictionaries(ROWS, st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=12)


def run(held: list[Row], expected: dict[Row, tuple[int, bool, bool]]) -> Compared:
    return compare(held_table(held), expected_table((row, *rest) for row, rest in expected.items()))


def slowly(held: list[Row], expected: dict[Row, tuple[int, bool, bool]]) -> Compared:
    order = list(expected)
    classes = [CLASSES[expected[row][0]] if row in expected else "unexplained" for row in held]
    return Compared(
        counts={name: classes.count(name) for name in CLASSES},
        unexplained=[at for at, row in enumerate(held) if row not in expected],
        missing=[at for at, row in enumerate(order) if expected[row][1] and row not in held],
        looked=[
            (at, order.index(row)) for at, row in enumerate(held) if row in expected and expected[row][2]
        ],
    )


@settings(max_examples=60, deadline=None)
@given(HELD, EXPECTED)
@example([Row("a", "b", None), Row("a", "b", "")], {Row("a", "b", ""): (2, True, True)})
@example([], {Row("a", "b", None): (0, True, False)})
@example([Row("a", "b", None)] * 2, {})
def test_it_is_what_a_slow_look_finds(held, expected) -> None:
    assert run(held, expected) == slowly(held, expected)


@settings(max_examples=40, deadline=None)
@given(HELD, EXPECTED, st.randoms())
def test_the_classes_part_all_holdings_whatever_their_order(held, expected, chance) -> None:
    first = run(held, expected)
    assert sum(first.counts.values()) == len(held)
    assert first == run(held, expected)
    mixed, other = list(held), list(expected.items())
    chance.shuffle(mixed)
    chance.shuffle(other)
    second = run(mixed, dict(other))
    assert second.counts == first.counts
    assert Counter(mixed[at] for at in second.unexplained) == Counter(held[at] for at in first.unexplained)
    before = list(expected)
    assert {other[at][0] for at in second.missing} == {before[at] for at in first.missing}


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    held, expected = held_table([]), expected_table([])
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(Misconfigured) as error:
        compare(held, expected)
    assert error.value.code == "config.not-installed"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Misconfigured):
        held_table([])


def test_nothing_is_left_on_the_disk(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run([Row("a", "b", None)], {})
    assert list(tmp_path.iterdir()) == []
    assert joins.MEMORY
