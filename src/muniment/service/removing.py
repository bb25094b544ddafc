"""Taking away what nothing explains, because somebody responsible ordered it.

1. DriftRemovalOrdered is durable before the target is touched
2. the account is leased, and nothing explains the entitlement by then
3. the connector takes it away, whoever gave it
4. the target is reconciled: only an inventory without it ends the finding

A crash after 1, or a target that does not answer, leaves an order that the next run on a schedule, or the same command,
carries out.
"""

from __future__ import annotations

from collections.abc import Sequence

from muniment.core import drift as d
from muniment.core.drift import Drift
from muniment.core.errors import LeaseLost, MunimentError, TargetRejected, TargetUnavailable
from muniment.ports import Claim, Order, Target
from muniment.service import drift as findings
from muniment.service import reconciling
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.service.fulfilment import LEASE_SECONDS, account_key
from muniment.store.findings import SqlFindings


def remove(desk: Desk, caller: Caller, name: str, reason: str) -> Document:
    """Order that a finding's entitlement is taken away, carry that out, and look.

    Raises:
        Refused: the caller is not responsible, or it is nothing that can be taken away like this.
        TargetUnavailable, TargetRejected: it is ordered, and still there; it is tried again.
    """
    text = desk.commit_text(reason, "the reason")
    target = findings.responsible(desk, caller, findings.visible(desk, caller, name)[1])
    separate = target.connector.capabilities.separate
    findings.act(
        desk, caller, name, lambda drift: d.order_removal(drift, text.commitment, separate=separate), text
    )
    trouble = carry_out(desk, target, [findings.visible(desk, caller, name)[1]]).get(name)
    reconciling.reconcile(desk, caller.actor, target)
    after = findings.shown(desk, caller, name)
    if after["status"] != "resolved":
        raise trouble or TargetRejected(
            f"{name} is ordered to be taken away, and {target.id} holds it still",
            remedy="`muniment finding show` names it; take it away there, or have it tried again.",
            code="target.still-held",
        )
    return after


def again(desk: Desk, target: Target) -> dict[str, MunimentError]:
    """Carry out every order that is still open on a target; what stood in the way, by finding."""
    known = reconciling.read_drifts(desk, list(SqlFindings(desk.store.engine).unresolved(target.id)))
    ordered = [
        drift
        for _, drift in known.values()  # a row orders nothing (I11)
        if drift is not None and drift.removal_by is not None and drift.status != "resolved"
    ]
    return carry_out(desk, target, ordered) if ordered else {}


def carry_out(desk: Desk, target: Target, ordered: Sequence[Drift]) -> dict[str, MunimentError]:
    """Take these away, unless something explains them by now; what stood in the way, by finding."""
    holder = f"removing-{desk.random.bytes(8).hex()}"
    keys = {drift.id: account_key(target.id, drift.item.account) for drift in ordered}
    claims = [Claim(key=key, holder=holder, seconds=LEASE_SECONDS) for key in sorted(set(keys.values()))]
    leases = desk.store.claim(claims)
    trouble: dict[str, MunimentError] = {
        name: LeaseLost(f"another worker holds {key}", remedy="Try again.")
        for name, key in keys.items()
        if key not in leases
    }
    try:
        mine = _unexplained(desk, target, [drift for drift in ordered if drift.id not in trouble])
        if not mine:
            return trouble

        def confirm() -> None:
            if not desk.store.confirm(list(leases.values())) or _unexplained(desk, target, mine) != mine:
                raise LeaseLost("another worker is at these accounts, or something explains them now")

        orders = [
            Order(
                ticket=drift.item.ticket or drift.id, account=drift.item.account, scope=(drift.item.what,),
                expires_at=desk.clock.now(),
            )
            for drift in mine
        ]  # fmt: skip
        try:
            outcomes = target.connector.revoke(orders, confirm)
        except (TargetUnavailable, LeaseLost) as error:
            return trouble | dict.fromkeys((drift.id for drift in mine), error)
        for drift, outcome in zip(mine, outcomes, strict=True):
            if outcome.result != "done":
                said, code = outcome.message or f"{target.id} did not do it", outcome.code or None
                rejected = outcome.result == "rejected"
                trouble[drift.id] = (TargetRejected if rejected else TargetUnavailable)(said, code=code)
        return trouble
    finally:
        desk.store.release(list(leases.values()))


def _unexplained(desk: Desk, target: Target, drifts: Sequence[Drift]) -> list[Drift]:
    """Of these, what nothing explains now: a ticket that was given meanwhile keeps what it gives (I21)."""
    by = reconciling.explained(desk, target, [drift.item for drift in drifts])
    return [drift for drift, expected in zip(drifts, by, strict=True) if expected is None]
