"""What a permit demands in return: the annotations we know, how they are written, and how they merge.

Cedar gives annotations no meaning and checks none, so a closed vocabulary is read when policies are loaded; a word
that is not in it is refused. All permits that hold for any part of a request count, and the strictest wins each
point: a permit that says nothing about a point stands for its default there. So adding a permit can add a demand and
never take one away. That one person counts once, in one stage, is no annotation: the core holds it always (I4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias

import msgspec

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.instants import parse_duration
from muniment.core.verdict import DEFAULT_LAPSE, Obligations, Stage
from muniment.policy.approvers import (
    CONSENT,
    MAX_APPROVALS,
    Wanted,
    Whom,
    parse_approvers,
    parse_one,
    resolve,
)

#: how long a permit lasts that says nothing, on a target without a limit of its own
DEFAULT_LONGEST = 8 * 3600
MAX_ASSURANCE = 3
#: on every policy
COMMON = frozenset({"id", "message"})
#: on a permit of a request, besides
DUTIES = frozenset(
    {
        "approvers", "min_approvals", "max_duration", "lapse_after", "review_within", "native_expiry", "scope_bounded",
        "sessions_cut", "reference", "reference_open", "signature", "assurance", "witnessed", "notify", "remind_after", "escalate_after",
        "escalate_to",
    }
)  # fmt: skip

_LAPSE = int(DEFAULT_LAPSE.total_seconds())
_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)
_REFERENCE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """One permit's obligations, parsed. Durations are seconds."""

    stages: tuple[Wanted, ...] = ()
    longest: int | None = None
    lapse_after: int = _LAPSE
    review_within: int | None = None
    native_expiry: bool = False
    scope_bounded: bool = False
    sessions_cut: bool = False
    references: tuple[str, ...] = ()
    references_open: tuple[str, ...] = ()
    signed: bool = False
    assurance: int = 0
    witnessed: bool = False
    notify: tuple[str, ...] = ()  # as in `Wanted.who`
    remind_after: int | None = None
    escalate_after: int | None = None
    escalate_to: tuple[str, ...] = ()  # as in `Wanted.who`

    def named(self) -> tuple[str, ...]:
        """Everybody it speaks of: groups, people and words."""
        return (*(who for stage in self.stages for who in stage.who), *self.notify, *self.escalate_to)


def parse_duty(annotations: Mapping[str, str], where: str) -> Duty:
    """Read the annotations of a permit of a request. Raises `Misconfigured` for a value that cannot be meant."""
    after, to = _seconds(annotations, "escalate_after", where), _people(annotations, "escalate_to", where)
    if (after is None) is bool(to):
        key = "escalate_to" if to else "escalate_after"
        raise _bad(where, key, annotations[key], "the other beside it: @escalate_after and @escalate_to")
    return Duty(
        stages=_stages(annotations, where),
        longest=_seconds(annotations, "max_duration", where),
        lapse_after=_seconds(annotations, "lapse_after", where) or _LAPSE,
        review_within=_seconds(annotations, "review_within", where),
        native_expiry=_required(annotations, "native_expiry", where),
        scope_bounded=_required(annotations, "scope_bounded", where),
        sessions_cut=_required(annotations, "sessions_cut", where),
        references=_references(annotations, "reference", where),
        references_open=_references(annotations, "reference_open", where),
        signed=_required(annotations, "signature", where),
        assurance=_assurance(annotations, where),
        witnessed=_required(annotations, "witnessed", where),
        notify=_people(annotations, "notify", where),
        remind_after=_seconds(annotations, "remind_after", where),
        escalate_after=after,
        escalate_to=to,
    )


def merge(held: Iterable[tuple[Duty, Whom]], target: str, limit: int | None) -> Obligations:
    """The strictest of all of them, each with what its words mean. ``limit`` is the target's own, in seconds.

    Raises `Invalid` when somebody is named who is not there, when stages have no possible order, or when nobody but
    the owners of a machine would have a say.
    """
    held = tuple(held)
    duties = [duty for duty, _ in held]
    cap = [] if limit is None else [limit]
    default = DEFAULT_LONGEST if limit is None else limit
    return Obligations(
        stages=_merged(held, target),
        longest=min([default if d.longest is None else d.longest for d in duties] + cap, default=0),
        lapse_after=min((d.lapse_after for d in duties), default=_LAPSE),
        review_within=_soonest(d.review_within for d in duties),
        native_expiry=any(d.native_expiry for d in duties),
        references=tuple(sorted({kind for d in duties for kind in d.references})),
        references_open=tuple(sorted({kind for d in duties for kind in d.references_open})) or msgspec.UNSET,
        witnessed=_any(d.witnessed for d in duties),
        scope_bounded=_any(d.scope_bounded for d in duties),
        sessions_cut=_any(d.sessions_cut for d in duties),
        signed=_any(d.signed for d in duties),
        assurance=max((d.assurance for d in duties), default=0) or msgspec.UNSET,
        notify=_all((d.notify, meaning) for d, meaning in held),
        remind_after=_soonest(d.remind_after for d in duties) or msgspec.UNSET,
        escalate_after=_soonest(d.escalate_after for d in duties) or msgspec.UNSET,
        escalate_to=_all((d.escalate_to, meaning) for d, meaning in held),
    )


# ── stages ──

#: what makes two demands one stage: the same people, in the same part
_Key: TypeAlias = tuple[tuple[str, ...], bool]


def _merged(held: Iterable[tuple[Duty, Whom]], target: str) -> tuple[Stage, ...]:
    """Each demand a stage, the same people once with the most approvals; every order that any permit wants."""
    needed: dict[_Key, int] = {}
    before: dict[_Key, set[_Key]] = {}
    names: dict[_Key, str] = {}
    for duty, meaning in held:
        steps: dict[int, set[_Key]] = {}
        for stage in duty.stages:
            key = (resolve(stage.who, meaning), stage.consent)
            needed[key] = max(stage.needed, needed.get(key, stage.needed))
            earlier = {k for step, keys in steps.items() if step < stage.step for k in keys} - {key}
            before.setdefault(key, set()).update(earlier)
            steps.setdefault(stage.step, set()).add(key)
            names.setdefault(key, _name(stage, key[0], target))
    if needed and all(consent for _, consent in needed):
        raise Invalid(
            f"policy asks for nobody but {CONSENT}, and owners never approve for what they own",
            remedy="Name others in @approvers beside them.",
        )
    try:
        order = {key: at for at, key in enumerate(TopologicalSorter(before).static_order())}
    except CycleError as error:
        circle = " before ".join(names[key] for key in error.args[1])
        raise Invalid(
            f"policies want approvals in an order that is not possible: {circle}",
            remedy="Let the policies agree on which comes first.",
        ) from error
    depth: dict[_Key, int] = {}
    for key in sorted(order, key=order.__getitem__):
        depth[key] = 1 + max((depth[k] for k in before[key]), default=-1)
    return tuple(
        Stage(
            name=names[key], needed=needed[key], approvers=key[0],
            after=tuple(sorted(names[k] for k in before[key])) or msgspec.UNSET, consent=_any([key[1]]),
        )
        for key in sorted(needed, key=lambda key: (depth[key], names[key]))
    )  # fmt: skip


def _name(stage: Wanted, who: tuple[str, ...], target: str) -> str:
    """A group's bare name, a person's id, or words with spaces, which neither can be: no two stages share a name."""
    if stage.consent:
        return "consent of " + _bare(who)
    if len(who) > 1 and stage.who == ("owners",):
        return f"owners of {target}"
    return _bare(who)


def _bare(who: tuple[str, ...]) -> str:
    return " or ".join(each.removeprefix("group:") for each in who)


def _any(values: Iterable[bool]) -> Literal[True] | msgspec.UnsetType:
    return True if any(values) else msgspec.UNSET


def _soonest(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _all(named: Iterable[tuple[tuple[str, ...], Whom]]) -> tuple[str, ...] | msgspec.UnsetType:
    found = {each for who, meaning in named for name in who for each in resolve((name,), meaning)}
    return tuple(sorted(found)) or msgspec.UNSET


# ── how they are written ──


def _stages(annotations: Mapping[str, str], where: str) -> tuple[Wanted, ...]:
    default = _needed(annotations, where, named="approvers" in annotations)
    if "approvers" not in annotations:
        return ()
    try:
        return parse_approvers(annotations["approvers"], default)
    except Invalid as error:
        raise _bad(where, "approvers", error.message, error.remedy) from error


def _needed(annotations: Mapping[str, str], where: str, *, named: bool) -> int:
    text = annotations.get("min_approvals")
    if text is None:
        return 1
    if not _NUMBER.fullmatch(text) or int(text) > MAX_APPROVALS:
        raise _bad(where, "min_approvals", text, f"a number from 0 to {MAX_APPROVALS}")
    if bool(int(text)) != named:
        must = "at least 1 beside @approvers" if named else "0, or @approvers that say whose approval"
        raise _bad(where, "min_approvals", text, must)
    return int(text)


def _people(annotations: Mapping[str, str], key: str, where: str) -> tuple[str, ...]:
    if key not in annotations:
        return ()
    try:
        return tuple(sorted({parse_one(one.strip()) for one in annotations[key].split(",")}))
    except Invalid as error:
        raise _bad(where, key, error.message, error.remedy) from error


def _assurance(annotations: Mapping[str, str], where: str) -> int:
    text = annotations.get("assurance")
    if text is None:
        return 0
    if text not in {str(level) for level in range(1, MAX_ASSURANCE + 1)}:
        raise _bad(where, "assurance", text, f"a level from 1 to {MAX_ASSURANCE}")
    return int(text)


def _seconds(annotations: Mapping[str, str], key: str, where: str) -> int | None:
    if key not in annotations:
        return None
    try:
        return int(parse_duration(annotations[key]).total_seconds())
    except Invalid as error:
        raise _bad(where, key, annotations[key], "a duration like 90m, 4h or 2d") from error


def _required(annotations: Mapping[str, str], key: str, where: str) -> bool:
    text = annotations.get(key)
    if text not in {None, "required"}:
        raise _bad(where, key, str(text), 'the word "required", or to be left out')
    return text == "required"


def _references(annotations: Mapping[str, str], key: str, where: str) -> tuple[str, ...]:
    if key not in annotations:
        return ()
    kinds = [kind.strip() for kind in annotations[key].split(",")]
    if not all(_REFERENCE.fullmatch(kind) for kind in kinds):
        raise _bad(where, key, annotations[key], 'kinds like "change", with commas between')
    return tuple(sorted(set(kinds)))


def _bad(where: str, key: str, value: str, wanted: str) -> Misconfigured:
    return Misconfigured(
        f"{where}: @{key}({value!r:.80}) cannot be used",
        remedy=f"@{key} takes {wanted}.",
        code="config.policy",
    )
