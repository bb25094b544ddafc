"""Who must approve, as a permit says it: ``@approvers("2 of group:dba-leads then manager or group:security, owners")``.

A comma stands between stages that may be decided in any order, ``then`` before those that come afterwards, and ``or``
between those of whom some are enough. ``N of`` says how many. The words for people who depend on the request are found
in the slice that policy was asked with, so that an old decision is read the same years later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from muniment.core.errors import Invalid
from muniment.core.identity import IdentityId, is_human, parse_group, parse_identity
from muniment.core.verdict import Evaluation
from muniment.policy.slices import identity_of, identity_uid, read_uid

MAX_APPROVALS = 10
CONSENT = "identity-owner"
#: words for people who depend on the request
WORDS: dict[str, str] = {
    "owners": "the owners of the target",
    "privilege-owners": "the owners of the privilege",
    "manager": "the manager of the beneficiary, or of who answers for it",
    "managers": "anybody above the beneficiary, or above who answers for it",
    CONSENT: "the people who answer for a non-human beneficiary",
}

#: what each word means for one question
Whom: TypeAlias = Mapping[str, tuple[str, ...]]
#: the attributes of each entity, by type and id
Slice: TypeAlias = Mapping[tuple[str, str], Mapping[str, Any]]

_COUNTED = re.compile(r"([0-9]{1,3}) of (.+)", re.ASCII | re.DOTALL)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One stage as a permit writes it."""

    who: tuple[str, ...]  # "group:NAME", a person's id, or one of `WORDS`; any of them
    needed: int = 1
    step: int = 0  # those of a lower step come first

    @property
    def consent(self) -> bool:
        """It is not an approval by somebody else, but the owners' agreement."""
        return self.who == (CONSENT,)


def parse_approvers(text: str, default: int) -> tuple[Wanted, ...]:
    """Read the annotation's value; stages without a number need ``default``. Raises `Invalid`, saying what part."""
    found: list[Wanted] = []
    for step, group in enumerate(re.split(r"\s+then\s+", text)):
        found += [_stage(item.strip(), step, default) for item in group.split(",")]
    named = [who for stage in found for who in stage.who]
    twice = next((who for who in named if named.count(who) > 1), None)
    if twice:
        raise Invalid(twice, remedy="each approver once")
    if all(stage.consent for stage in found):
        raise Invalid(
            text, remedy=f"others beside {CONSENT}: owners agree, and never approve for what they own"
        )
    return tuple(found)


def whom(evaluation: Evaluation, slice_: Slice) -> Whom:
    """What the words mean for one question of a request."""
    uid = read_uid(evaluation.resource)
    resource = slice_[uid["type"], uid["id"]]
    target = slice_["Target", resource["target"]["id"]]
    beneficiary = _attributes(slice_, str(evaluation.context["beneficiary"]))
    owners = tuple(sorted(identity_of(uid) for uid in beneficiary.get("owners", ())))
    person = slice_.get(("Human", beneficiary["owner"]["id"]), {}) if "owner" in beneficiary else beneficiary
    return {
        "owners": tuple(sorted(set(target["owners"]))),
        "privilege-owners": tuple(sorted(set(resource.get("owners", ())))),
        "manager": (identity_of(person["manager"]),) if "manager" in person else (),
        "managers": tuple(sorted(identity_of(uid) for uid in person.get("managers", ()))),
        CONSENT: owners,
    }


def resolve(who: Iterable[str], meaning: Whom) -> tuple[str, ...]:
    """Groups and people instead of words, sorted. Raises `Invalid` when nobody is meant."""
    who = tuple(who)
    found = sorted({each for name in who for each in meaning.get(name, (name,))})
    if not found:
        words = " or ".join(WORDS[name] for name in who)
        raise Invalid(
            f"policy asks for {words}, and there is none",
            remedy="Name them in the configuration or the directory.",
        )
    return tuple(found)


def parse_one(text: str) -> str:
    """A group, a person or a word, in its canonical form. Raises `Invalid` with what is wrong."""
    if text in WORDS:
        return text
    wanted = f"group:NAME, human:NAME, {', '.join(WORDS)}"
    try:
        one = f"group:{parse_group(text)}" if text.startswith("group:") else parse_identity(text)
    except Invalid as error:
        raise Invalid(text, remedy=wanted) from error
    if not one.startswith("group:") and not is_human(one):
        raise Invalid(text, remedy="people or groups; only people decide")
    return one


def _stage(text: str, step: int, default: int) -> Wanted:
    counted = _COUNTED.fullmatch(text)
    needed = int(counted[1]) if counted else default
    if not 1 <= needed <= MAX_APPROVALS:
        raise Invalid(text, remedy=f"a number from 1 to {MAX_APPROVALS} before of")
    who = tuple(parse_one(one.strip()) for one in (counted[2] if counted else text).split(" or "))
    if CONSENT in who and len(who) > 1:
        raise Invalid(
            text, remedy=f"{CONSENT} as a stage of its own: owners agree beside others, not instead of them"
        )
    return Wanted(who=who, needed=needed, step=step)


def _attributes(slice_: Slice, identity: IdentityId) -> Mapping[str, Any]:
    uid = identity_uid(identity)
    return slice_.get((uid["type"], uid["id"]), {})
