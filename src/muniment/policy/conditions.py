"""Whether a policy's condition can ever hold, as far as its text alone says.

A condition is taken apart into parts that must all hold. Two parts that exclude each other, or a part that excludes
itself, make a policy that never speaks. What is said here is certain; silence proves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: what these attributes can be; a policy that waits for another value waits for ever
KNOWN: dict[str, frozenset[str]] = {
    "risk": frozenset({"low", "medium", "high", "critical"}),
    "relation": frozenset({"self", "owner", "owned", "other"}),
    "part": frozenset({"requester", "beneficiary", "both", "owner"}),
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "!=": "=="}


class Part(NamedTuple):
    """One expression that must be true, or must be false."""

    expression: Mapping[str, Any]
    holds: bool

    @property
    def key(self) -> tuple[str, bool]:
        """Equal for equal text."""
        return _text(self.expression), self.holds


def parts(source: Mapping[str, Any]) -> list[Part]:
    """Everything that must hold for a policy to speak, its scope apart."""
    return [
        part
        for condition in source.get("conditions", ())
        for part in _split(condition["body"], condition["kind"] == "when")
    ]


def scope_key(source: Mapping[str, Any]) -> str:
    """Equal for policies with the same head."""
    return _text([source["principal"], source["action"], source["resource"]])


def everything(source: Mapping[str, Any]) -> bool:
    """Whether the head speaks of every principal and resource."""
    return bool(source["principal"] == source["resource"] == {"op": "All"})


def impossible(source: Mapping[str, Any]) -> str | None:
    """Why a policy never speaks, or None if its text does not say so."""
    found = parts(source)
    principal = source["principal"]
    kind = principal.get("entity_type") or (principal["op"] == "==" and principal["entity"]["type"])
    if kind:
        found.append(Part({"is": {"left": {"Var": "principal"}, "entity_type": kind}}, holds=True))
    keys = {part.key for part in found}
    for part in found:
        if part.expression.get("Value") is (not part.holds):
            return "a part of its condition is always false"
        if (part.key[0], not part.holds) in keys:
            return "its condition wants something and its opposite"
    return _two_kinds(found) or _two_values(found) or _empty_range(found)


def _split(body: Mapping[str, Any], holds: bool) -> Iterator[Part]:
    joined = "&&" if holds else "||"
    if joined in body:
        yield from _split(body[joined]["left"], holds)
        yield from _split(body[joined]["right"], holds)
    elif "!" in body:
        yield from _split(body["!"]["arg"], not holds)
    else:
        yield Part(body, holds)


def _two_kinds(found: list[Part]) -> str | None:
    kinds: dict[str, set[str]] = {}
    for part in found:
        if part.holds and "is" in part.expression:
            inner = part.expression["is"]
            kinds.setdefault(_text(inner["left"]), set()).add(inner["entity_type"])
    many = next((sorted(each) for each in kinds.values() if len(each) > 1), None)
    return f"nothing is both {' and '.join(many)}" if many else None


def _two_values(found: list[Part]) -> str | None:
    """What an attribute must be, by == and by a list that must contain it."""
    allowed: dict[str, set[str]] = {}
    for part in found:
        attribute, values = _wanted(part)
        if attribute is None:
            continue
        name = json.loads(attribute)["."]["attr"]
        strange = values - KNOWN.get(name, frozenset(values))
        if strange and not values - strange:
            return f"{name} is never {' or '.join(sorted(strange))}"
        known = allowed.setdefault(attribute, set(values))
        known &= values
        if not known:
            return f"{name} would have to be several things at once"
    return None


def _wanted(part: Part) -> tuple[str | None, set[str]]:
    if not part.holds:
        return None, set()
    for operator, attribute, value in (
        ("==", "left", "right"),
        ("==", "right", "left"),
        ("contains", "right", "left"),
    ):
        operands = part.expression.get(operator)
        if not isinstance(operands, Mapping) or "." not in operands[attribute]:
            continue
        literal = operands[value]
        values = [literal] if operator == "==" else literal.get("Set", [])
        texts = [each.get("Value") for each in values]
        if texts and all(isinstance(text, str) for text in texts):
            return _text(operands[attribute]), set(texts)
    return None, set()


def _empty_range(found: list[Part]) -> str | None:
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    for part in found:
        for attribute, operator, number in _bounds(part):
            if operator in {">", ">=", "=="}:
                least[attribute] = max(number + (operator == ">"), least.get(attribute, number))
            if operator in {"<", "<=", "=="}:
                most[attribute] = min(number - (operator == "<"), most.get(attribute, number))
            if attribute in least and attribute in most and least[attribute] > most[attribute]:
                return "its condition wants a number that there is not"
    return None


def _bounds(part: Part) -> Iterator[tuple[str, str, int]]:
    for operator in (*_MIRRORED, "!="):
        operands = part.expression.get(operator)
        if not isinstance(operands, Mapping):
            continue
        for attribute, value, way in (
            (operands["left"], operands["right"], operator),
            (operands["right"], operands["left"], _MIRRORED.get(operator, operator)),
        ):
            number = value.get("Value")
            meant = way if part.holds else _NEGATED.get(way)
            if isinstance(number, int) and not isinstance(number, bool) and meant in _MIRRORED:
                yield _text(attribute), meant, number


def _text(expression: Any) -> str:
    """Equal for what means the same: the engine says in no place that it keeps an order."""
    return json.dumps(expression, sort_keys=True)
