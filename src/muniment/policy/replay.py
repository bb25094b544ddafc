"""Answer a recorded decision's questions again, from nothing but the ledger (I34).

The policy files come from PolicyAdopted, questions and slice from the decision's own event. The annotations we know
may only grow, so that an old set always loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from muniment.core.errors import IntegrityError, Invalid
from muniment.core.events import PolicyDecided
from muniment.core.verdict import Evaluation, Obligations, obliged
from muniment.policy.engine import Engine
from muniment.policy.loading import digest_of
from muniment.policy.slices import Question


class Recorded(Protocol):
    """A Verdict, or an event that holds one: PolicyDecided, ApprovalRecorded."""

    @property
    def policies(self) -> str:
        """Digest of the set that decided."""

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Questions and answers, as recorded."""

    @property
    def entities(self) -> tuple[dict[str, Any], ...]:
        """The slice, as recorded."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What the recorded set says to the recorded questions today."""

    evaluations: tuple[Evaluation, ...]
    obligations: Obligations | None  # of a request that is allowed throughout, with the core's own demands
    same: bool  # every answer is the recorded one, by the same policies, and obliges to the same


def replay(recorded: Recorded, files: Mapping[str, str]) -> Replayed:
    """Ask again. ``files`` is the recorded set, with its schema.

    Raises:
        IntegrityError: these files are not the set that decided.
    """
    if digest_of(files) != recorded.policies:
        raise IntegrityError(
            "these policy files are not the ones the decision rested on",
            remedy="Take the files of the PolicyAdopted event with the decision's digest.",
        )
    engine = _engine(tuple(sorted(files.items())))
    questions = [Question(e.principal, e.action, e.resource, e.context) for e in recorded.evaluations]
    evaluations = engine.ask(questions, recorded.entities)
    obligations = None
    if evaluations and all(e.allowed and e.action == "request" for e in evaluations):
        try:
            owed = engine.obligations(evaluations, recorded.entities)
        except Invalid:  # such a request was denied, too
            pass
        else:
            obligations = obliged(owed, break_glass=bool(evaluations[0].context["break_glass"]))
    same = evaluations == tuple(recorded.evaluations)
    if isinstance(recorded, PolicyDecided) and evaluations:
        same = same and (obligations is not None, obligations) == (recorded.permitted, recorded.obligations)
    return Replayed(evaluations=evaluations, obligations=obligations, same=same)


def decided_again(recorded: PolicyDecided, files: Mapping[str, str]) -> PolicyDecided:
    """The event as it would be recorded today; reasons, which are words for people, as they were."""
    again = replay(recorded, files)
    if not again.evaluations:  # it was denied before policy was asked
        return recorded
    permitted = again.obligations is not None
    determining = sorted({i for e in again.evaluations if e.allowed is permitted for i in e.determining})
    return replace(
        recorded, permitted=permitted, policies=digest_of(files), determining=tuple(determining),
        obligations=again.obligations, evaluations=again.evaluations,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _engine(files: tuple[tuple[str, str], ...]) -> Engine:
    return Engine(dict(files))
