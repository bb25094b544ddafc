"""The scope algebra is that of sets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.lives import RW, SUPER
from muniment.core.errors import Invalid
from muniment.core.events import GrantObserved, encode_data
from muniment.core.scope import (
    MAX_SCOPE,
    Holding,
    Privilege,
    compare,
    covers,
    excess,
    missing,
    parse_scope,
    scope,
)

steady = settings(derandomize=True, database=None, deadline=None)

# few names, so that scopes overlap; null and the empty text are different resources
privileges = st.builds(
    Privilege,
    privilege=st.sampled_from(["a", "b", "c", "a b", "ab", "é"]),
    resource=st.sampled_from([None, "", "a", "b"]),
)
lists = st.lists(privileges, max_size=8)


@given(lists, lists)
@steady
def test_the_laws_of_sets(one: list[Privilege], other: list[Privilege]) -> None:
    a, b = set(one), set(other)
    assert covers(one, other) == (b <= a)
    assert set(missing(one, other)) == a - b
    assert set(excess(one, other)) == b - a
    assert covers(one, other) == (excess(one, other) == ())
    assert missing(one, other) == excess(other, one)
    comparison = compare(one, other)
    assert comparison.exact == (a == b)
    assert (set(comparison.missing), set(comparison.excess)) == (a - b, b - a)


@given(lists, lists, lists)
@steady
def test_covering_is_an_order(one: list[Privilege], two: list[Privilege], three: list[Privilege]) -> None:
    assert covers(one, one)
    assert covers(one, [])
    if covers(one, two) and covers(two, three):
        assert covers(one, three)
    if covers(one, two) and covers(two, one):
        assert scope(one) == scope(two)


@given(lists, st.randoms(use_true_random=False))
@steady
def test_equal_scopes_are_equal_bytes(items: list[Privilege], chance: random.Random) -> None:
    shuffled = [*items, *items[:2]]
    chance.shuffle(shuffled)
    one, other = scope(items), scope(shuffled)
    assert one == other
    assert len(set(one)) == len(one)
    assert scope(one) == one
    bytes_of = [
        encode_data(GrantObserved(granted=s, comparison=compare(s, s), native_expiry=None, handle={}))
        for s in (one, other)
    ]
    assert bytes_of[0] == bytes_of[1]


@given(lists)
@steady
def test_generators_are_read_once(items: list[Privilege]) -> None:
    assert compare(iter(items), iter(items)).exact


def test_a_privilege_on_another_resource_is_another_privilege() -> None:
    on_a = replace(RW, resource="a")
    assert not covers([RW], [on_a])
    assert not covers([on_a], [RW])
    assert not covers([replace(RW, resource="")], [RW])
    assert Holding(account="x", privilege="orders_rw", resource="a").what == on_a
    assert str(on_a) != str(RW)


def test_what_may_be_asked_for() -> None:
    assert parse_scope([SUPER, RW, RW]) == (SUPER, RW)
    with pytest.raises(Invalid):
        parse_scope([])
    many = [Privilege(privilege=f"p{n}") for n in range(MAX_SCOPE)]
    assert len(parse_scope(many)) == MAX_SCOPE
    assert len(parse_scope([*many, *many])) == MAX_SCOPE
    with pytest.raises(Invalid):
        parse_scope([*many, RW])
    for bad in ("", " ", "a\x00", "\u202ea", "a" * 256):
        with pytest.raises(Invalid):
            parse_scope([RW, Privilege(privilege=bad)])
        with pytest.raises(Invalid):
            parse_scope([Privilege(privilege="a", resource=bad)])
