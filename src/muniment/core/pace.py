"""How reviewers decided, against rubber-stamping: how fast, how many at once, and whether they ever said no. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from muniment.core.campaign import Act
from muniment.core.identity import SYSTEM
from muniment.core.instants import parse_instant

Sign: TypeAlias = Literal["always-keep", "fast"]
#: items below which nothing is concluded
FEW = 20
#: seconds an item below which nobody can have looked
GLANCE = 2


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """One reviewer's decisions in a campaign."""

    reviewer: str
    acts: int
    items: int
    kept: int
    largest: int  # items in one act
    seconds: int  # from the first act to the last
    signs: tuple[Sign, ...]  # of not having looked


def paces(acts: Iterable[Act]) -> list[Pace]:
    """One for each reviewer, by their names."""
    by: dict[str, list[Act]] = {}
    for act in acts:
        if act.by != SYSTEM:
            by.setdefault(act.by, []).append(act)
    return [_pace(reviewer, mine) for reviewer, mine in sorted(by.items())]


def _pace(reviewer: str, acts: list[Act]) -> Pace:
    items = sum(act.count for act in acts)
    kept = sum(act.count for act in acts if act.decision == "keep")
    span = parse_instant(acts[-1].at) - parse_instant(acts[0].at)
    signs: list[Sign] = []
    if items >= FEW and kept == items:
        signs.append("always-keep")
    if kept >= FEW and span.total_seconds() < GLANCE * items:
        signs.append("fast")
    return Pace(
        reviewer=reviewer, acts=len(acts), items=items, kept=kept, largest=max(act.count for act in acts),
        seconds=int(span.total_seconds()), signs=tuple(signs),
    )  # fmt: skip
