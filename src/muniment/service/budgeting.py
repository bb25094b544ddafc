"""What machines and agents have used of their budgets, from the read model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from muniment.core.budget import HOUR, Spent, budget_of
from muniment.core.errors import Conflict
from muniment.core.identity import Identity, is_human
from muniment.core.instants import wire
from muniment.core.terms import Terms
from muniment.ports import Claim
from muniment.service.desk import Desk
from muniment.service.ids import new_id

#: longer than filing takes; one that crashed holds its identity up for no longer
_SECONDS = 15


def spent(desk: Desk, identities: Iterable[Identity], now: datetime) -> tuple[Spent, ...]:
    """Of each that is not a person, once."""
    machines = {each.id: each for each in identities if not is_human(each.id)}
    if not machines:
        return ()
    since = new_id("req", now - HOUR, bytes(10))
    found = []
    for identity in machines.values():
        held = desk.views.held_by(identity.id)
        found.append(
            Spent(
                identity=identity.id,
                budget=budget_of(identity),
                filed=tuple(desk.views.filed_since(identity.id, since)),
                held=len(held),
                ends=tuple(sorted(wire(t.expiry) for t in held if t.expiry)),
            )
        )
    return tuple(found)


@contextmanager
def one_at_a_time(desk: Desk, *several: Terms) -> Iterator[None]:
    """Hold others off while requests for a machine or agent are counted and recorded; people are not held up.

    Raises:
        Conflict: another request of, or for, the same is being filed at this moment.
    """
    people = {each for terms in several for each in (terms.requester, terms.beneficiary)}
    machines = sorted(each for each in people if not is_human(each))
    if not machines:
        yield
        return
    holder = f"filing-{desk.random.bytes(8).hex()}"
    claims = [Claim(key=f"budget/{each}", holder=holder, seconds=_SECONDS) for each in machines]
    leases = desk.store.claim(claims)
    try:
        if len(leases) < len(claims):
            raise Conflict(
                f"another request of {machines[0]} is being filed at this moment", remedy="Try again."
            )
        yield
    finally:
        if leases:
            desk.store.release(list(leases.values()))
