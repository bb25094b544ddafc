"""Why not, and what instead: sentences for the person who asked.

Cedar names the forbids that spoke, and nothing when no permit did. So the question is asked again, a little
smaller: shorter, without break-glass, at once, with a reference. The numbers to try are the ones policies speak of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import product
from typing import Any

from muniment.core.errors import Invalid
from muniment.core.instants import spoken
from muniment.core.verdict import Evaluation
from muniment.policy.engine import Engine
from muniment.policy.loading import Rule, nodes
from muniment.policy.slices import Entity, Question

#: denied questions for which something smaller is tried; the others only get their no
MAX_EXPLAINED = 5
_MAX_TRIED = 20
_COMPARISONS = ("<", "<=", ">", ">=", "==")


class Explainer:
    """Knows what to try, from the rules of one engine."""

    def __init__(self, engine: Engine) -> None:
        """Collect the durations and kinds of reference that permits speak of."""
        self._engine = engine
        permits = [rule for rule in engine.rules.values() if rule.duty is not None]
        durations = {m for rule in permits for m in _minutes(rule) if m > 0}
        self._durations = sorted(durations, reverse=True)
        self._references = sorted({kind for rule in permits for kind in _references(rule)})

    def why_not(
        self, denied: Iterable[tuple[Evaluation, str]], entities: Sequence[Entity]
    ) -> tuple[str, ...]:
        """A sentence or two for each denied evaluation. Each comes with what it was: "X to have Y on Z"."""
        reasons: list[str] = []
        tried = 0
        for evaluation, what in denied:
            if evaluation.errors:
                reasons.append(f"policy could not be evaluated: {'; '.join(evaluation.errors)}")
            elif evaluation.determining:
                reasons.extend(said(self._engine.rules, evaluation.determining, "forbidden"))
            else:
                reasons.append(f"no policy permits {what}")
                if evaluation.action == "request" and tried < MAX_EXPLAINED:
                    tried += 1
                    hint = self._instead(evaluation, entities)
                    reasons += [f"it would be allowed {hint}"] if hint else []
        return tuple(dict.fromkeys(reasons))

    def _instead(self, evaluation: Evaluation, entities: Sequence[Entity]) -> str | None:
        tries = list(self._smaller(evaluation.context))
        questions = [
            Question(evaluation.principal, evaluation.action, evaluation.resource, c) for c, _ in tries
        ]
        for question, (context, phrase), answer in zip(
            questions, tries, self._engine.ask(questions, entities), strict=True
        ):
            if not answer.allowed:
                continue
            seconds = min(self._longest(answer, entities), context["minutes"] * 60)
            if seconds >= evaluation.context["minutes"] * 60:
                return phrase
            capped = question._replace(context={**context, "minutes": seconds // 60})
            if self._engine.ask([capped], entities)[0].allowed:
                return f"{phrase} for at most {spoken(timedelta(seconds=seconds))}".strip()
        return None

    def _longest(self, answer: Evaluation, entities: Sequence[Entity]) -> int:
        try:
            return self._engine.obligations([answer], entities).longest
        except Invalid:  # allowed, but nobody could approve it: not worth a hint about its length
            return int(answer.context["minutes"]) * 60

    def _smaller(self, context: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Smaller questions, the nearest first, with how to say what is smaller about them."""
        shorter = [m for m in self._durations if m < context["minutes"]][:_MAX_TRIED]
        changes: list[tuple[dict[str, Any], str]] = [({}, "")]
        if context["has_start"]:
            changes.append(({"has_start": False}, "if it begins at once"))
        if context["break_glass"]:
            changes.append(({"break_glass": False}, "without break-glass"))
        absent = [kind for kind in self._references if kind not in context["references"]]
        changes += [
            ({"references": sorted([*context["references"], k])}, f"with a reference: {k}") for k in absent
        ]
        for (change, phrase), minutes in product(changes, (context["minutes"], *shorter)):
            if change or minutes != context["minutes"]:
                yield {**context, **change, "minutes": minutes}, phrase


def said(rules: Mapping[str, Rule], determining: Iterable[str], verb: str) -> Iterator[str]:
    """What the determining policies say for themselves, or at least their names."""
    for ident in determining:
        rule = rules.get(ident)
        yield rule.message if rule and rule.message else f"{verb} by policy {ident}"


def _minutes(rule: Rule) -> Iterator[int]:
    """Durations a permit speaks of: its @max_duration, and numbers that its conditions compare minutes with."""
    if rule.duty and rule.duty.longest:
        yield rule.duty.longest // 60
    for node in nodes(rule.source):
        for operands in (node.get(op) for op in _COMPARISONS):
            if isinstance(operands, Mapping) and _context(operands, "minutes"):
                value = operands["right"].get("Value", operands["left"].get("Value"))
                if isinstance(value, int):
                    yield from (value, value - 1)


def _references(rule: Rule) -> Iterator[str]:
    """Kinds of reference that a permit's conditions ask for."""
    for node in nodes(rule.source):
        operands = node.get("contains")
        if isinstance(operands, Mapping) and _context(operands, "references"):
            value = operands["right"].get("Value")
            if isinstance(value, str):
                yield value


def _context(operands: Mapping[str, Any], attribute: str) -> bool:
    """Whether one of the operands is ``context.attribute``."""
    return {".": {"left": {"Var": "context"}, "attr": attribute}} in (
        operands.get("left"),
        operands.get("right"),
    )
