"""What a permit demands in return: the annotations we know, how they are written, and how they merge.

Cedar gives annotations no meaning and checks none, so a closed vocabulary is read when policies are loaded; a word
that is not in it is refused. All permits that hold for any part of a request count, and the strictest wins each
point: a permit that says nothing about a point stands for its default there. So adding a permit can add a demand and
never take one away.

Automatic approval (no approvers) is meant for targets that end access by themselves; `muniment check` may warn of
others, which is not done here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import is_human, parse_group, parse_identity
from muniment.core.instants import parse_duration
from muniment.core.verdict import DEFAULT_LAPSE, Obligations, Stage

#: how long a permit lasts that says nothing, on a target without a limit of its own
DEFAULT_LONGEST = 8 * 3600
MAX_APPROVALS = 10
#: on every policy
COMMON = frozenset({"id", "message"})
#: on a permit of a request, besides
DUTIES = frozenset(
    {"approvers", "min_approvals", "max_duration", "lapse_after", "review_within", "native_expiry", "reference", "witnessed"}
)  # fmt: skip

_LAPSE = int(DEFAULT_LAPSE.total_seconds())
_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)
_REFERENCE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """One permit's obligations, parsed. Durations are seconds."""

    approvers: tuple[str, ...] = ()  # each a stage: "group:NAME", a person's id, or "owners" of the target
    needed: int = 0  # approvals, in each of the stages
    longest: int | None = None
    lapse_after: int = _LAPSE
    review_within: int | None = None
    native_expiry: bool = False
    references: tuple[str, ...] = ()
    witnessed: bool = False


def parse_duty(annotations: Mapping[str, str], where: str) -> Duty:
    """Read the annotations of a permit of a request. Raises `Misconfigured` for a value that cannot be meant."""
    approvers = _approvers(annotations, where)
    return Duty(
        approvers=approvers,
        needed=_needed(annotations, where, approvers),
        longest=_seconds(annotations, "max_duration", where),
        lapse_after=_seconds(annotations, "lapse_after", where) or _LAPSE,
        review_within=_seconds(annotations, "review_within", where),
        native_expiry=_required(annotations, "native_expiry", where),
        references=_references(annotations, where),
        witnessed=_required(annotations, "witnessed", where),
    )


def merge(duties: Iterable[Duty], target: str, owners: Iterable[str], limit: int | None) -> Obligations:
    """The strictest of all of them. ``limit`` is the target's own, in seconds; its owners stand in for "owners".

    Raises `Invalid` when approval by the target's owners is demanded and it has none.
    """
    duties, owners = tuple(duties), tuple(sorted(set(owners)))
    needed: dict[tuple[str, ...], int] = {}
    for duty in duties:
        for approver in duty.approvers:
            who = owners if approver == "owners" else (approver,)
            if not who:
                raise Invalid(
                    f"policy demands approval by the owners of {target}, which has none",
                    remedy=f"Give {target} owners in the configuration.",
                )
            needed[who] = max(duty.needed, needed.get(who, 0))
    stages = [Stage(name=_stage_name(who, target), needed=n, approvers=who) for who, n in needed.items()]
    cap = [] if limit is None else [limit]
    default = DEFAULT_LONGEST if limit is None else limit
    return Obligations(
        stages=tuple(sorted(stages, key=lambda stage: stage.name)),
        longest=min([default if d.longest is None else d.longest for d in duties] + cap, default=0),
        lapse_after=min((d.lapse_after for d in duties), default=_LAPSE),
        review_within=min((d.review_within for d in duties if d.review_within is not None), default=None),
        native_expiry=any(d.native_expiry for d in duties),
        references=tuple(sorted({kind for d in duties for kind in d.references})),
        witnessed=True if any(d.witnessed for d in duties) else msgspec.UNSET,
    )


def _stage_name(who: tuple[str, ...], target: str) -> str:
    """A group's bare name, a person's id, or words with a space in them, which neither can be."""
    return who[0].removeprefix("group:") if len(who) == 1 else f"owners of {target}"


def _approvers(annotations: Mapping[str, str], where: str) -> tuple[str, ...]:
    if "approvers" not in annotations:
        return ()
    found: list[str] = []
    for item in annotations["approvers"].split(","):
        text = item.strip()
        try:
            if text == "owners":
                approver = text
            elif text.startswith("group:"):
                approver = f"group:{parse_group(text)}"
            else:
                approver = parse_identity(text)
        except Invalid as error:
            raise _bad(
                where, "approvers", text, "group:NAME, human:NAME or owners, with commas between"
            ) from error
        if ":" in approver and not approver.startswith("group:") and not is_human(approver):
            raise _bad(where, "approvers", text, "people or groups; only people approve")
        if approver in found:
            raise _bad(where, "approvers", text, "each approver once")
        found.append(approver)
    return tuple(found)


def _needed(annotations: Mapping[str, str], where: str, approvers: tuple[str, ...]) -> int:
    text = annotations.get("min_approvals")
    if text is None:
        return 1 if approvers else 0
    if not _NUMBER.fullmatch(text) or int(text) > MAX_APPROVALS:
        raise _bad(where, "min_approvals", text, f"a number from 0 to {MAX_APPROVALS}")
    if bool(int(text)) != bool(approvers):
        must = "at least 1 beside @approvers" if approvers else "0, or @approvers that say whose approval"
        raise _bad(where, "min_approvals", text, must)
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


def _references(annotations: Mapping[str, str], where: str) -> tuple[str, ...]:
    if "reference" not in annotations:
        return ()
    kinds = [kind.strip() for kind in annotations["reference"].split(",")]
    if not all(_REFERENCE.fullmatch(kind) for kind in kinds):
        raise _bad(where, "reference", annotations["reference"], 'kinds like "change", with commas between')
    return tuple(sorted(set(kinds)))


def _bad(where: str, key: str, value: str, wanted: str) -> Misconfigured:
    return Misconfigured(
        f"{where}: @{key}({value!r:.80}) cannot be used",
        remedy=f"@{key} takes {wanted}.",
        code="config.policy",
    )
