"""Observing: it shows what the target holds now, whoever gave it or took it, and not what we remember."""

from __future__ import annotations

from contextlib import suppress

from muniment.conformance.harness import (
    Check,
    ConformanceFailure,
    Harness,
    NotApplicable,
    order_for,
    provision,
    require,
    revoke,
    same,
)
from muniment.core.scope import scope
from muniment.ports import Bringing, Nesting

CHECKS: list[Check] = []


@CHECKS.append
def what_others_gave_is_observed(h: Harness) -> None:
    first, second = h.privileges
    given = provision(h, order_for(h, 0))
    h.hold(h.accounts[0], second)
    seen = h.connector.observe([h.accounts[0]])
    same(seen.of(h.accounts[0]), scope((first, second)), "observe")
    require(
        {item.account for item in seen.holdings} == {h.accounts[0]}, "observe shows others than asked for"
    )
    revoke(h, *given)
    same(h.connector.observe([h.accounts[0]]).of(h.accounts[0]), (second,), "observe, after revoking")


@CHECKS.append
def what_others_took_is_not_observed(h: Harness) -> None:
    [given] = provision(h, order_for(h, 0))
    h.take(given.account, h.privileges[0])
    same(h.holds(given.account), (), "the target, after somebody took it")
    same(h.connector.observe([given.account]).of(given.account), (), "observe, after somebody took it")
    [again] = provision(h, given)
    same(h.holds(given.account), given.scope, "the target, after giving it again")
    revoke(h, again)


@CHECKS.append
def what_a_privilege_brings_is_said(h: Harness) -> None:
    """And is nothing that the account holds itself: it comes and goes with what brings it."""
    connector, (first, second) = h.connector, h.privileges
    if not connector.capabilities.effective_scope:
        raise NotApplicable("the connector does not say what a privilege brings")
    if not isinstance(connector, Bringing):
        raise ConformanceFailure("effective_scope is claimed, and there is no `brings`")
    same(connector.brings((first,)), (), "what the first privilege brings, before")
    h.nest(first, second)
    same(connector.brings((first,)), (second,), "what the first privilege brings")
    if isinstance(connector, Nesting):
        listed = {(each.inner, each.outer) for each in connector.nested()}
        require((first.privilege, second) in listed, "nested() does not list what is in what")
        require((second.privilege, first) not in listed, "nested() lists what is not there")
    same(connector.brings((second,)), (), "what the second privilege brings")
    same(connector.brings((first, second)), (), "what both bring, besides themselves")
    [given] = provision(h, order_for(h, 0))
    same(connector.observe([given.account]).of(given.account), (first,), "observe")
    revoke(h, given)


@CHECKS.append
def everybody_is_observed(h: Harness) -> None:
    if not h.connector.capabilities.lists_everything:
        raise NotApplicable("the target cannot list everything")
    provision(h, order_for(h, 0), order_for(h, 1))
    seen = h.connector.observe(None)
    for account in h.accounts:
        same(seen.of(account), (h.privileges[0],), f"observe(None), of {account}")
    with suppress(NotApplicable):
        h.hold(h.accounts[1], h.privileges[1])
        same(
            h.connector.observe(None).of(h.accounts[1]),
            scope(h.privileges),
            "observe(None), of others' grants",
        )


@CHECKS.append
def an_unknown_account_holds_nothing(h: Harness) -> None:
    same(h.connector.observe(["muniment-nobody"]).holdings, (), "observe, of an account that is not there")
    same(h.connector.observe([]).holdings, (), "observe, of no account")
