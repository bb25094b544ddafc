"""Put on record what decisions rest on: identities, targets with their catalogues, and the policy set, in full.

Compared with what was recorded last; only what changed is recorded again. Runs at the start of every process that
writes, so a decision's inputs are in the ledger before the decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from muniment.core.errors import Conflict, Misconfigured, MunimentError
from muniment.core.events import (
    Event,
    IdentityDeactivated,
    IdentityRecorded,
    PolicyAdopted,
    TargetRegistered,
    TargetRetired,
)
from muniment.policy.cedar import CedarPolicy
from muniment.ports import Actor, Append, CatalogueEntry, Stream, Target
from muniment.service.changes import first
from muniment.service.desk import Desk
from muniment.service.standing import POLICY_STREAM, current, without_schema

#: appends in one commit
CHUNK = 256


def record_registry(desk: Desk, actor: Actor) -> int:
    """Record what changed since the last time; return how many facts.

    Raises:
        Misconfigured: a target with live access left the configuration (I23).
    """
    facts = [*_identities(desk), *_targets(desk), *_policy(desk)]
    now = desk.clock.now()
    appends = [Append(stream=stream, actor=actor, events=events, at=now) for stream, events in facts]
    for start in range(0, len(appends), CHUNK):
        for result in desk.store.append_many(appends[start : start + CHUNK]):
            # another process recorded the same at the same time: that is as good
            if isinstance(result, MunimentError) and not isinstance(result, Conflict):
                raise result
    return len(facts)


def _identities(desk: Desk) -> Iterator[tuple[Stream, tuple[Event, ...]]]:
    known = desk.views.registered("identity:")
    present = set()
    for identity in desk.directory.everybody():
        stream = f"identity:{identity.id}"
        present.add(stream)
        state, last = known.get(stream, (Stream(id=stream, version=0, head=None), None))
        if last != IdentityRecorded(identity=identity):
            yield state, (IdentityRecorded(identity=identity),)
    for stream, (state, last) in known.items():
        if stream not in present and isinstance(last, IdentityRecorded):
            yield state, (IdentityDeactivated(identity=last.identity.id),)


def _targets(desk: Desk) -> Iterator[tuple[Stream, tuple[Event, ...]]]:
    known = desk.views.registered("target:")
    for target in desk.targets.values():
        stream = f"target:{target.id}"
        state, last = known.get(stream, (Stream(id=stream, version=0, head=None), None))
        if last != _registered(target):
            yield state, (_registered(target),)
    gone = {
        stream.removeprefix("target:"): at
        for stream, at in known.items()
        if isinstance(at[1], TargetRegistered)
    }
    for target_id in gone.keys() - desk.targets.keys():
        if target_id in desk.views.live_targets():
            raise Misconfigured(
                f"the target {target_id} left the configuration while tickets hold access on it",
                remedy="Put it back until they are closed; without it nothing can be taken back.",
                code="config.target-missing",
            )
        yield gone[target_id][0], (TargetRetired(target=target_id),)


def _registered(target: Target) -> TargetRegistered:
    return TargetRegistered(
        target=target.id, connector=target.kind, environment=target.environment, owners=target.owners,
        privileges=tuple(map(_described, target.catalogue)),
    )  # fmt: skip


def _described(entry: CatalogueEntry) -> dict[str, Any]:
    """As the first release wrote it; what came later is there only where it says something."""
    document: dict[str, Any] = msgspec.to_builtins(entry)
    bounded, owners = document.pop("bounded"), document.pop("owners")
    return document | ({"bounded": True} if bounded else {}) | ({"owners": list(owners)} if owners else {})


def _policy(desk: Desk) -> Iterator[tuple[Stream, tuple[Event, ...]]]:
    """In a trial, what lies on disk. Else the first set, once; everything later is adopted by two people."""
    known = desk.views.registered(POLICY_STREAM)
    state, last = known.get(POLICY_STREAM, (Stream(id=POLICY_STREAM, version=0, head=None), None))
    if not desk.governed and isinstance(last, PolicyAdopted) and last.digest == desk.policy.digest:
        return
    if desk.governed:
        desk.governed.adopted.look_again()
    before = desk.governed.adopted.now() if desk.governed else current(desk.store)
    settings = None
    if desk.governed and before.settings is None:
        settings = desk.governed.settings(CedarPolicy(without_schema(desk.policy.files())))
    events = first(before, desk.policy.files(), settings)
    if events:
        yield state, events
