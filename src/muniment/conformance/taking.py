"""Taking away: what we gave, all of it, nothing else, and however the target looks by then (I17)."""

from __future__ import annotations

from muniment.conformance.harness import (
    Check,
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

CHECKS: list[Check] = []


@CHECKS.append
def revoking_twice_equals_once(h: Harness) -> None:
    before = h.everything()
    given = provision(h, order_for(h, 0))
    revoke(h, *given)
    revoke(h, *given)
    same(h.everything(), before, "the target, after revoking twice")


@CHECKS.append
def revoking_needs_nothing_that_a_crash_can_lose(h: Harness) -> None:
    order = order_for(h, 0)
    provision(h, order)
    revoke(h, order)  # without the handle
    same(h.holds(order.account), (), "the target")


@CHECKS.append
def revoking_what_was_never_held_succeeds(h: Harness) -> None:
    before = h.everything()
    revoke(h, order_for(h, 0))
    same(h.everything(), before, "the target")


@CHECKS.append
def only_what_was_added_is_removed(h: Harness) -> None:
    first, second = h.privileges
    h.hold(h.accounts[0], second)
    h.hold(h.accounts[1], first)
    before = h.everything()
    revoke(h, *provision(h, order_for(h, 0)))
    same(h.everything(), before, "the target, after a whole life")


@CHECKS.append
def orders_in_a_batch_are_independent(h: Harness) -> None:
    first, second = provision(h, order_for(h, 0), order_for(h, 1))
    revoke(h, second)
    same(h.holds(first.account), first.scope, "the account that was not revoked")
    same(h.holds(second.account), (), "the account that was")
    revoke(h, second, first)
    same(h.holds(first.account), (), "the target")


@CHECKS.append
def what_another_gave_as_well_is_never_called_gone(h: Harness) -> None:
    """Another grantor's grant of the same: it may stay, or go with ours, but "done" is said of an absence only."""
    [given] = provision(h, order_for(h, 0))
    h.hold(given.account, h.privileges[0])
    [outcome] = matching([given], h.connector.revoke([given], yes))
    if h.holds(given.account):
        require(
            outcome.result == "rejected" or bool(h.connector.observe([given.account]).holdings),
            f"it is still held, and neither the answer ({outcome.result}) nor observe says so",
        )
        h.take(given.account, h.privileges[0])
        revoke(h, given)
    same(h.holds(given.account), (), "the target, at the end")
    same(h.connector.observe([given.account]).of(given.account), (), "observe, at the end")


@CHECKS.append
def what_somebody_took_is_revoked_without_complaint(h: Harness) -> None:
    before = h.everything()
    [given] = provision(h, order_for(h, 0))
    h.take(given.account, h.privileges[0])
    revoke(h, given)
    same(h.everything(), before, "the target, after somebody took it and we revoked it")


@CHECKS.append
def a_privilege_that_was_deleted_is_revoked_without_complaint(h: Harness) -> None:
    first, second = provision(h, order_for(h, 0), order_for(h, 1, h.privileges[1]))
    h.delete_privilege(h.privileges[0])
    after = h.everything()
    revoke(h, first)
    same(h.everything(), after, "the target, after revoking what was deleted")
    same(h.connector.observe([first.account]).of(first.account), (), "observe, of what was deleted")
    same(h.holds(second.account), second.scope, "the other account")
    [outcome] = matching([first], h.connector.provision([first], yes))
    require(outcome.result != "done" or not h.holds(first.account), "it was given after it was deleted")


@CHECKS.append
def an_account_that_was_deleted_is_revoked_without_complaint(h: Harness) -> None:
    first, second = provision(h, order_for(h, 0), order_for(h, 1))
    h.delete_account(first.account)
    after = h.everything()
    revoke(h, first)
    same(h.everything(), after, "the target, after revoking what was deleted")
    same(h.connector.observe([first.account]).of(first.account), (), "observe, of the account")
    same(h.holds(second.account), second.scope, "the other account")


@CHECKS.append
def revoking_ends_open_sessions(h: Harness) -> None:
    given = provision(h, order_for(h, 0))
    live = h.open_session(h.accounts[0], h.privileges[0])
    if live is None:
        raise NotApplicable("the target has no sessions")
    try:
        if not h.connector.capabilities.ends_sessions:
            raise NotApplicable("the connector does not end sessions, and says so")
        require(live.alive(), "the session did not live to begin with")
        [outcome] = revoke(h, *given)
        require(not live.alive(), "a session opened with the grant outlived the revocation")
        require(outcome.sessions_ended >= 1 or h.asked_each_time, "the ended session was not counted")
    finally:
        live.close()
