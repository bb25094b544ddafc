"""Cedar itself: questions in, answers out, closed on every failure.

Allowed means that Cedar said Allow and evaluated every policy without an error. Cedar skips a policy that errs, a
forbid too, and says NoDecision for input it cannot read, so neither counts as a yes. An exception is a no as well.

Handles are immutable and may be used by several threads. An answer follows from the set, the question and the slice
alone, to the letter, so it may be remembered by exactly these: nothing outside of them can make it old.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cedarpy
import msgspec

from muniment.core.errors import Misconfigured
from muniment.core.verdict import Evaluation, Obligations
from muniment.policy.approvers import whom
from muniment.policy.loading import ACTIONS, SCHEMA, Rule, digest_of, nodes, parse_rules, schema_text
from muniment.policy.obligations import merge
from muniment.policy.slices import Entity, Question, read_uid

#: characters of one engine error that are recorded
_MAX_ERROR = 300
#: parsed slices, answers and obligations kept in memory, of a few kilobytes each
REMEMBERED = 4096


class _Answer(NamedTuple):
    allowed: bool
    determining: tuple[str, ...]
    errors: tuple[str, ...]


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
        # the same people ask for the same things: each of these is found once, by the exact text it follows from
        self._parsed = lru_cache(REMEMBERED)(lambda text: cedarpy.Entities.from_json_str(text, self._schema))
        self._answers = lru_cache(REMEMBERED)(self._ask)
        self._owed = lru_cache(REMEMBERED)(self._merge)
        self._sets = {str(action): self._compile(action) for action in ACTIONS}

    def ask(self, questions: Sequence[Question], entities: Sequence[Entity]) -> tuple[Evaluation, ...]:
        """Answer questions about one action over one slice, in their order. Never raises: a failure is a denial."""
        if not questions:
            return ()
        try:
            answers = self._answers(_encode((questions, entities)))
        except Exception as error:  # noqa: BLE001  whatever the engine stumbles over is a denial (I7)
            return tuple(_denied(q, f"{type(error).__name__}: {error}") for q in questions)
        return tuple(
            Evaluation(
                principal=q.principal, action=q.action, resource=q.resource, context=q.context,
                allowed=allowed, determining=determining, errors=errors,
            )
            for q, (allowed, determining, errors) in zip(questions, answers, strict=True)
        )  # fmt: skip

    def names_requests(self) -> bool:
        """Whether a policy speaks of one request by its id, and not only of what requests are like."""
        found = (node for rule in self.rules.values() for node in nodes(rule.source))
        return any(node.get("type") == "Request" and "id" in node for node in found)

    def obligations(self, evaluations: Iterable[Evaluation], entities: Iterable[Entity]) -> Obligations:
        """What the permits that held oblige to: from answers and slice alone, so that it can be replayed.

        Raises `Invalid` when owners or managers are to approve and there are none, or stages have no possible order.
        """
        return self._owed(_encode((tuple(evaluations), tuple(entities))))

    def _merge(self, text: bytes) -> Obligations:
        evaluations, entities = _decode_answered(text)
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

    def _ask(self, text: bytes) -> tuple[_Answer, ...]:
        questions, entities = _decode_asked(text)
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
        handle = self._parsed(bytes(entities).decode())
        results = cedarpy.is_authorized_batch(requests, self._sets[action], handle, self._schema)
        if len(results) != len(questions):
            raise ValueError("the engine left questions unanswered")
        return tuple(map(_answer, results))

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


def _answer(result: cedarpy.AuthzResult) -> _Answer:
    try:
        errors = tuple(str(error)[:_MAX_ERROR] for error in result.diagnostics.errors)
        determining = tuple(sorted(result.diagnostics.reasons))
        allowed = result.allowed is True
        decided = result.decision is not cedarpy.Decision.NoDecision
    except Exception as error:  # noqa: BLE001  an answer that cannot be read is a denial (I7)
        return _Answer(
            allowed=False, determining=(), errors=(f"{type(error).__name__}: {error}"[:_MAX_ERROR],)
        )
    if not decided and not errors:
        errors = ("the engine came to no decision",)
    return _Answer(allowed=allowed and not errors, determining=determining, errors=errors)


def _denied(question: Question, error: str) -> Evaluation:
    return Evaluation(
        principal=question.principal, action=question.action, resource=question.resource, context=question.context,
        allowed=False, determining=(), errors=(error[:_MAX_ERROR],),
    )  # fmt: skip


_encode = msgspec.json.Encoder().encode
_decode_asked = msgspec.json.Decoder(tuple[list[Question], msgspec.Raw]).decode
_decode_answered = msgspec.json.Decoder(tuple[tuple[Evaluation, ...], tuple[Entity, ...]]).decode
