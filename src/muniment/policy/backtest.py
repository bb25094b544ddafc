"""What another policy set would have said to requests of the past, from the questions and slices that are on record.

The same people ask for the same things again and again: a question with its slice is asked once for each set of bytes,
and several processes take whole slices each, so that none is parsed, or asked about, by two of them.
What is compared is the decision at filing, and only what would have come out otherwise for that ticket.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from muniment.core.errors import Invalid
from muniment.core.instants import spoken
from muniment.core.verdict import Evaluation, Obligations
from muniment.policy.engine import Engine
from muniment.policy.explain import said
from muniment.policy.slices import Entity, Question
from muniment.policy.tables import demanded, stage_words

#: answers that are kept, of about a kilobyte each
KEPT = 50_000
#: bytes of a digest by which they are found again
SIZE = 16


class Filed(msgspec.Struct, frozen=True, kw_only=True):
    """What a PolicyDecided event says, with its questions and slice as bytes."""

    permitted: bool
    policies: str
    obligations: Obligations | None
    evaluations: msgspec.Raw
    entities: msgspec.Raw


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the other set says."""

    permitted: bool
    reasons: tuple[str, ...]
    obligations: Obligations | None
    context: dict[str, Any]
    able: frozenset[str]  # which demands on the target and the scope are met


class Backtest:
    """One set, asked many times. For one thread."""

    def __init__(self, files: Mapping[str, str]) -> None:
        """Compile the set. Raises `Misconfigured`."""
        self._engine = Engine(files)
        self._known: dict[bytes, Answer | None] = {}
        self._owed: dict[Any, Obligations] = {}
        self.digest = self._engine.digest

    def otherwise(self, filed: Filed) -> tuple[str, ...] | None:
        """How the decision would have differed; nothing if it would not. None where no question is on record."""
        if filed.policies == self.digest:
            return ()
        key = _digest(filed.entities) + _digest(filed.evaluations)
        if key not in self._known:
            if len(self._known) >= KEPT:
                self._known.clear()
                self._owed.clear()
            self._known[key] = self._ask(filed, key[:SIZE])
        answer = self._known[key]
        return None if answer is None else tuple(_differences(filed, answer))

    def _ask(self, filed: Filed, slice_: bytes) -> Answer | None:
        recorded = _evaluations.decode(filed.evaluations)
        if not recorded:
            return None
        entities = [as_of_now(entity) for entity in _entities.decode(filed.entities)]
        questions = [Question(e.principal, e.action, e.resource, e.context) for e in recorded]
        answers = self._engine.ask(questions, entities)
        able = _able(entities)
        denied = [a for a in answers if not a.allowed]
        if denied:
            reasons = [r for a in denied for r in self._why(a)]
            return Answer(
                permitted=False, reasons=tuple(dict.fromkeys(reasons)), obligations=None, context=recorded[0].context,
                able=able,
            )  # fmt: skip
        try:
            owed = self._obligations(answers, entities, slice_)
        except Invalid as error:
            return Answer(
                permitted=False,
                reasons=(error.message,),
                obligations=None,
                context=recorded[0].context,
                able=able,
            )
        return Answer(permitted=True, reasons=(), obligations=owed, context=recorded[0].context, able=able)

    def _obligations(
        self, answers: tuple[Evaluation, ...], entities: list[Entity], slice_: bytes
    ) -> Obligations:
        """What the same permits oblige to over the same slice is the same, whatever else the questions say."""
        key = slice_, tuple((a.resource, a.determining, a.context["beneficiary"]) for a in answers)
        if key not in self._owed:
            self._owed[key] = self._engine.obligations(answers, entities)
        return self._owed[key]

    def _why(self, answer: Evaluation) -> Iterator[str]:
        if answer.errors:
            yield f"policy could not be evaluated: {'; '.join(answer.errors)}"
        elif answer.determining:
            yield from said(self._engine.rules, answer.determining, "forbidden")
        else:
            yield "no policy permits it"


def share(filed: Filed, shares: int) -> int:
    """Which of so many processes asks about it: the one that has its slice."""
    return zlib.crc32(filed.entities) % shares


def _digest(raw: msgspec.Raw) -> bytes:
    return hashlib.blake2b(raw, digest_size=SIZE).digest()


def as_of_now(entity: Entity) -> Entity:
    """A slice of an earlier version, with the attributes that later versions demand: as little as they can mean."""
    lacking = _LATER.get(entity["uid"]["type"], {}).keys() - entity["attrs"].keys()
    if not lacking:
        return entity
    later = {name: _LATER[entity["uid"]["type"]][name] for name in lacking}
    return {**entity, "attrs": {**entity["attrs"], **later}}


def _able(entities: list[Entity]) -> frozenset[str]:
    target: dict[str, Any] = next((e["attrs"] for e in entities if e["uid"]["type"] == "Target"), {})
    bounded = all(e["attrs"].get("bounded") for e in entities if e["uid"]["type"] == "Privilege")
    can = {
        "native_expiry": target.get("native_expiry"),
        "sessions_cut": target.get("ends_sessions"),
        "scope_bounded": bounded,
    }
    return frozenset(word for word, there in can.items() if there)


def _differences(filed: Filed, answer: Answer) -> Iterator[str]:
    before, after = filed.obligations, answer.obligations
    if not answer.permitted or after is None:
        if filed.permitted:
            yield f"denied: {'; '.join(answer.reasons)}"
        return
    refused = list(_refused(after, answer))
    if refused:
        if filed.permitted:
            yield from refused
        return
    if not filed.permitted or before is None:
        yield f"permitted: {'; '.join(stage_words(after.stages)) or 'automatically'}"
        return
    if before.stages != after.stages:
        was, would = (("; ".join(stage_words(o.stages)) or "nobody") for o in (before, after))
        yield f"approved by {would}, instead of {was}"
    if before.review_within != after.review_within and not answer.context["break_glass"]:
        was, would = (_review(o.review_within) for o in (before, after))
        yield f"{would}, instead of {was}"
    more, less = set(demanded(after)) - set(demanded(before)), set(demanded(before)) - set(demanded(after))
    if more:
        yield f"demands {', '.join(sorted(more))}"
    if less:
        yield f"no longer demands {', '.join(sorted(less))}"


def _refused(owed: Obligations, answer: Answer) -> Iterator[str]:
    """What the core would have refused at filing."""
    if answer.context["minutes"] * 60 > owed.longest:
        yield f"refused: at most {spoken(timedelta(seconds=owed.longest))}"
    absent = [kind for kind in owed.references if kind not in answer.context["references"]]
    if absent:
        yield f"refused: without a reference: {', '.join(absent)}"
    flags = {
        "native_expiry": owed.native_expiry,
        "sessions_cut": owed.sessions_cut is True,
        "scope_bounded": owed.scope_bounded is True,
    }
    for word, demanded_ in flags.items():
        if demanded_ and word not in answer.able:
            yield f"refused: {word} cannot be met"


def _review(within: int | None) -> str:
    return "no review" if within is None else f"a review within {spoken(timedelta(seconds=within))}"


#: attributes that slices of the first release lack
_LATER: dict[str, dict[str, Any]] = {"Target": {"ends_sessions": False}, "Privilege": {"bounded": False}}
_evaluations = msgspec.json.Decoder(tuple[Evaluation, ...])
_entities = msgspec.json.Decoder(tuple[Entity, ...])
