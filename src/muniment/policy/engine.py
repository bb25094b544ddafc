"""Cedar itself: questions in, answers out, closed on every failure.

Allowed means that Cedar said Allow and evaluated every policy without an error. Cedar skips a policy that errs, a
forbid too, and says NoDecision for input it cannot read, so neither counts as a yes. An exception is a no as well.

Handles are immutable and may be used by several threads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import cedarpy
import msgspec

from muniment.core.errors import Misconfigured
from muniment.core.verdict import Evaluation, Obligations
from muniment.policy.approvers import whom
from muniment.policy.loading import ACTIONS, SCHEMA, Rule, digest_of, parse_rules, schema_text
from muniment.policy.obligations import merge
from muniment.policy.slices import Entity, Question, read_uid

#: characters of one engine error that are recorded
_MAX_ERROR = 300
#: parsed slices kept in memory, of a few kilobytes each
SLICES = 1024


class Engine:
    """One policy set, parsed and checked. Policies are split by action: cost is linear in their number."""

    def __init__(self, files: Mapping[str, str]) -> None:
        """Load a set. ``files`` without a schema gets the one of this version.

        Raises:
            Misconfigured: something in the set cannot be used; the message names file and policy.
        """
        self.files = dict(sorted({SCHEMA: schema_text(), **files}.items()))
        self.digest = digest_of(self.files)
        try:
            self._schema = cedarpy.Schema.from_str(self.files[SCHEMA])
        except ValueError as error:
            raise Misconfigured(
                f"{SCHEMA}: {error}",
                remedy="Use the schema that comes with this version.",
                code="config.policy",
            ) from error
        self.rules: Mapping[str, Rule] = parse_rules(self.files, self._schema)
        # the same people ask for the same things: a slice is parsed once, by its exact text
        self._parsed = lru_cache(SLICES)(lambda text: cedarpy.Entities.from_json_str(text, self._schema))
        self._sets = {str(action): self._compile(action) for action in ACTIONS}

    def ask(self, questions: Sequence[Question], entities: Sequence[Entity]) -> tuple[Evaluation, ...]:
        """Answer questions about one action over one slice, in their order. Never raises: a failure is a denial."""
        if not questions:
            return ()
        try:
            results = self._ask(questions, entities)
        except Exception as error:  # noqa: BLE001  whatever the engine stumbles over is a denial (I7)
            return tuple(_denied(q, f"{type(error).__name__}: {error}") for q in questions)
        return tuple(_answer(q, r) for q, r in zip(questions, results, strict=True))

    def obligations(self, evaluations: Iterable[Evaluation], entities: Iterable[Entity]) -> Obligations:
        """What the permits that held oblige to: from answers and slice alone, so that it can be replayed.

        Raises `Invalid` when owners or managers are to approve and there are none, or stages have no possible order.
        """
        slice_ = {(e["uid"]["type"], e["uid"]["id"]): e["attrs"] for e in entities}
        target = next(name for kind, name in slice_ if kind == "Target")
        held = [
            (duty, whom(evaluation, slice_))
            for evaluation in evaluations
            if evaluation.allowed
            for ident in evaluation.determining
            if (duty := self.rules[ident].duty) is not None
        ]
        return merge(held, target, slice_["Target", target].get("longest"))

    def _ask(self, questions: Sequence[Question], entities: Sequence[Entity]) -> list[cedarpy.AuthzResult]:
        (action,) = {q.action for q in questions}
        requests: list[dict[str, Any]] = [
            {
                "principal": read_uid(q.principal),
                "action": {"type": "Action", "id": q.action},
                "resource": read_uid(q.resource),
                "context": q.context,
            }
            for q in questions
        ]
        handle = self._parsed(msgspec.json.encode(entities).decode())
        results = cedarpy.is_authorized_batch(requests, self._sets[action], handle, self._schema)
        if len(results) != len(questions):
            raise ValueError("the engine left questions unanswered")
        return results

    def _compile(self, action: str) -> cedarpy.PolicySet:
        policies = {rule.id: rule.source for rule in self.rules.values() if action in rule.actions}
        text = json.dumps({"staticPolicies": policies, "templates": {}, "templateLinks": []})
        compiled = cedarpy.PolicySet.from_json_str(text)
        if len(compiled) != len(policies):
            raise Misconfigured(
                "the policy engine did not take every policy",
                remedy="Report this with your policies.",
                code="config.policy",
            )
        return compiled


def _answer(question: Question, result: cedarpy.AuthzResult) -> Evaluation:
    try:
        errors = tuple(str(error)[:_MAX_ERROR] for error in result.diagnostics.errors)
        determining = tuple(sorted(result.diagnostics.reasons))
        allowed = result.allowed is True
        decided = result.decision is not cedarpy.Decision.NoDecision
    except Exception as error:  # noqa: BLE001  an answer that cannot be read is a denial (I7)
        return _denied(question, f"{type(error).__name__}: {error}")
    if not decided and not errors:
        errors = ("the engine came to no decision",)
    return Evaluation(
        principal=question.principal, action=question.action, resource=question.resource, context=question.context,
        allowed=allowed and not errors, determining=determining, errors=errors,
    )  # fmt: skip


def _denied(question: Question, error: str) -> Evaluation:
    return Evaluation(
        principal=question.principal, action=question.action, resource=question.resource, context=question.context,
        allowed=False, determining=(), errors=(error[:_MAX_ERROR],),
    )  # fmt: skip
