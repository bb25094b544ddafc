"""Giving: what is provisioned is there, once, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from muniment.conformance.harness import (
    Check,
    ConformanceFailure,
    Harness,
    NotApplicable,
    matching,
    order_for,
    provision,
    require,
    revoke,
    same,
    yes,
)
from muniment.core.errors import LeaseLost, TargetUnavailable
from muniment.core.scope import Scope

T = TypeVar("T")

CHECKS: list[Check] = []


@CHECKS.append
def what_is_provisioned_the_target_itself_shows(h: Harness) -> None:
    order = order_for(h, 0, *h.privileges)
    provision(h, order)
    same(h.holds(order.account), order.scope, "the target, after provisioning")
    same(h.connector.observe([order.account]).of(order.account), order.scope, "observe, after provisioning")
    same(h.holds(h.accounts[1]), (), "the other account")


@CHECKS.append
def provisioning_twice_equals_once(h: Harness) -> None:
    order = order_for(h, 0)
    provision(h, order)
    once = h.everything()
    given = provision(h, order)
    same(h.everything(), once, "the target, after provisioning twice")
    revoke(h, *given)
    same(h.holds(order.account), (), "the target, after one revocation")


@CHECKS.append
def an_empty_batch_does_nothing(h: Harness) -> None:
    require(h.connector.provision([], yes) == [], "provisioning nothing has an outcome")
    require(h.connector.revoke([], yes) == [], "revoking nothing has an outcome")


@CHECKS.append
def what_is_given_has_its_kind(h: Harness) -> None:
    can = h.connector.capabilities
    collected = can.grant not in {"entitlement", "workload_entitlement"}
    require(
        can.issues_credential is collected, f"a grant is a {can.grant}, and issues_credential says otherwise"
    )


@CHECKS.append
def a_rejected_order_harms_no_other(h: Harness) -> None:
    if h.impossible is None:
        raise NotApplicable("the target rejects nothing that is well-formed")
    account, wanted = h.impossible
    bad = replace(order_for(h, 0), account=account, scope=wanted)
    good = order_for(h, 1), order_for(h, 0)
    outcomes = matching((good[0], bad, good[1]), h.connector.provision([good[0], bad, good[1]], yes))
    require([o.result for o in outcomes] == ["done", "rejected", "done"], f"outcomes are {outcomes}")
    require(outcomes[1].code.startswith("target."), "the rejection has no code that begins with target.")
    require(bool(outcomes[1].message), "the rejection has no message")
    for order in good:
        same(h.holds(order.account), order.scope, f"the target, of {order.account}")


@CHECKS.append
def a_lost_lease_changes_nothing(h: Harness) -> None:
    def lost() -> None:
        raise LeaseLost("another worker holds the work")

    given = provision(h, order_for(h, 0))
    before = h.everything()
    for call, orders in ((h.connector.provision, [order_for(h, 1)]), (h.connector.revoke, given)):
        try:
            call(orders, lost)
        except LeaseLost:
            same(h.everything(), before, "the target, after a lost lease")
        else:
            raise ConformanceFailure("LeaseLost did not reach the caller")


@CHECKS.append
def confirm_is_called_once_and_before_the_change(h: Harness) -> None:
    seen: list[Scope] = []
    order = order_for(h, 0)

    def spy() -> None:
        seen.append(h.holds(order.account))

    [outcome] = h.connector.provision([order], spy)
    require(seen == [()], f"provision called confirm {len(seen)} times, and it saw {seen}")
    seen.clear()
    h.connector.revoke([replace(order, handle=outcome.handle)], spy)
    require(seen == [order.scope], f"revoke called confirm {len(seen)} times, and it saw {seen}")


@CHECKS.append
def native_expiry_ends_the_access(h: Harness) -> None:
    if not h.connector.capabilities.native_expiry:
        raise NotApplicable("the target ends nothing by itself")
    end = h.now().replace(microsecond=0) + timedelta(seconds=3)
    order = replace(order_for(h, 0), expires_at=end)
    [outcome] = h.connector.provision([order], yes)
    require(outcome.native_expiry == end, f"it was told {end} and answers {outcome.native_expiry}")
    same(h.holds(order.account), order.scope, "the target, before the end")
    if not h.pass_time(end + timedelta(seconds=1)):
        raise NotApplicable("the harness cannot wait for the end")
    same(h.holds(order.account), (), "the target, after the end")
    same(h.connector.observe([order.account]).of(order.account), (), "observe, after the end")


@CHECKS.append
def threads_do_not_disturb_each_other(h: Harness) -> None:
    def asked(ask: Callable[[], T]) -> T:
        """What a busy target could not finish is asked again, as controllers do."""
        for _ in range(2):
            with suppress(TargetUnavailable):
                return ask()
        return ask()

    def lives(number: int) -> None:
        for _ in range(10):
            order = order_for(h, number)
            given = asked(partial(provision, h, order))
            same(h.connector.observe([given[0].account]).of(given[0].account), given[0].scope, "observe")
            asked(partial(revoke, h, *given))
            same(h.holds(given[0].account), (), "the target")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lives, (0, 1)))
