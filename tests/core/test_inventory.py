"""Inventories: the same holdings are the same lines and the same digest, however a target tells of them."""

from __future__ import annotations

import hashlib
import json

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from muniment.core.inventory import Item, Nested, digest, lines, read
from muniment.core.scope import Holding, Privilege

NAMES = st.text(min_size=1, max_size=8)
SOME = st.sampled_from(["a", "b", 'c"\n', "ä", "\U0001f600"]) | NAMES
HOLDINGS = st.lists(
    st.builds(
        Holding, account=SOME, privilege=SOME, resource=st.none() | SOME, grantor=st.none() | SOME, ticket=st.none() | SOME
    )
)  # fmt: skip
NESTED = st.lists(
    st.builds(
        Nested,
        inner=SOME,
        outer=st.builds(Privilege, privilege=SOME, resource=st.none() | SOME),
        grantor=st.none() | SOME,
    )
)


@given(HOLDINGS, NESTED, st.randoms())
def test_the_order_and_repeats_of_a_target_change_nothing(holdings, nested, chance) -> None:
    first = lines(holdings, nested)
    holdings, nested = holdings * 2, nested * 2
    chance.shuffle(holdings)
    chance.shuffle(nested)
    assert lines(holdings, nested) == first == sorted(set(first))


@given(HOLDINGS, NESTED)
def test_everything_is_listed_once_and_nothing_else(holdings, nested) -> None:
    inner = {(each.inner, each.outer) for each in nested}
    items = [read(line) for line in lines(holdings, nested)]
    assert {(i.account, i.what) for i in items if i.nested} == inner
    direct = {h for h in holdings if (h.account, h.what) not in inner}
    assert {
        Holding(account=i.account, privilege=i.privilege, resource=i.resource, grantor=i.grantor, ticket=i.ticket)
        for i in items
        if not i.nested
    } == direct  # fmt: skip


@given(HOLDINGS, NESTED)
def test_a_line_is_rfc_8785_and_the_digest_is_of_the_lines(holdings, nested) -> None:
    found = lines(holdings, nested)
    for line in found:
        assert rfc8785.dumps(json.loads(line)) == line
    assert digest(found) == "sha256:" + hashlib.sha256(b"".join(line + b"\n" for line in found)).hexdigest()


def test_the_bytes_of_a_line() -> None:
    """They are hashed, and so never change."""
    [line] = lines([Holding(account="ann", privilege="orders_rw", grantor="cs")])
    assert line == (
        b'{"account":"ann","grantor":"cs","nested":false,"privilege":"orders_rw","resource":null,"ticket":null}'
    )


def test_a_name_that_is_no_text_is_listed_all_the_same() -> None:
    [line] = lines([Holding(account="a\udcff", privilege="p")])
    assert read(line) == Item(account="a\\udcff", privilege="p")


@given(HOLDINGS)
def test_an_item_too_many_or_too_few_is_another_digest(holdings) -> None:
    found = lines(holdings)
    assert digest([*found, b"x"]) != digest(found)
    assert not found or digest(found[1:]) != digest(found)
