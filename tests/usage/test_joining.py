"""Each use meets the ticket that gave it, if any did: as a slow, obvious program says, in whatever order they come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("duckdb")
from muniment.usage.joining import GrantRow, UseRow, grants_table, join, tally, uses_table

KEYS = st.sampled_from(["ann", "ann\0rw\0", "bea"])
grants = st.lists(
    st.builds(
        lambda n, key, begins, length: GrantRow(f"t{n}", key, begins, begins + length),
        st.integers(0, 6), KEYS, st.integers(0, 20), st.integers(0, 8),
    ),
    max_size=12, unique_by=lambda g: (g.ticket, g.key),
)  # fmt: skip
uses = st.lists(
    st.builds(
        UseRow, st.none() | st.sampled_from(["t0", "t1", "t9"]), KEYS | st.just("cyd"), st.integers(-3, 33)
    ),
    max_size=12,
)


def verdict_by_hand(use: UseRow, given_: list[GrantRow]) -> tuple[str, set[str | None]]:
    """The verdict, and whose it may be."""
    if use.ticket is not None:
        mine = [g for g in given_ if g.ticket == use.ticket]
        if not mine:
            return "ungranted", {None}
        inside = min(g.begins for g in mine) <= use.at < max(g.ends for g in mine)
        return ("in-window" if inside else "outside"), {use.ticket}
    mine = [g for g in given_ if g.key == use.key]
    inside = {g.ticket for g in mine if g.begins <= use.at < g.ends}
    if inside:
        return "in-window", inside
    return ("outside", {g.ticket for g in mine}) if mine else ("ungranted", {None})


@settings(max_examples=60, deadline=None)
@given(uses, grants, st.randoms(use_true_random=False))
def test_as_by_hand_and_in_any_order(used: list[UseRow], given_: list[GrantRow], chance) -> None:
    if not used:
        return
    found = join(uses_table(used), grants_table(given_))
    for use, (verdict, ticket) in zip(used, found, strict=True):
        expected, tickets = verdict_by_hand(use, given_)
        assert verdict == expected, use
        assert ticket in tickets
    assert join(uses_table(used), grants_table(given_)) == found
    order = list(range(len(used)))
    chance.shuffle(order)
    chance.shuffle(given_)
    again = join(uses_table([used[n] for n in order]), grants_table(given_))
    assert again == [found[n] for n in order]


def test_it_counts_them() -> None:
    used = uses_table([UseRow(None, "ann", 5), UseRow(None, "ann", 50), UseRow(None, "cyd", 5)])
    given_ = grants_table([GrantRow("t1", "ann", 0, 10)])
    assert tally(used, given_) == {"in-window": 1, "outside": 1, "ungranted": 1}
