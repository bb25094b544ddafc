"""Finding a privilege by typing. Pure: over the catalogues in memory, thousands of entries at once."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from muniment.ports import CatalogueEntry, Target

#: more than this nobody reads: another word narrows it
MOST = 60


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One privilege that can be asked for."""

    target: Target
    entry: CatalogueEntry


def find(targets: Iterable[Target], wanted: str, *, most: int = MOST) -> tuple[list[Found], int]:
    """Privileges in which every word occurs, the best matches first, and how many there are in all.

    A word counts more at the beginning of a name than within it, and more in the name than in what is said about it.
    """
    words = wanted.lower().split()
    scored = [
        (-score, target.id, str(entry.privilege), Found(target=target, entry=entry))
        for target in targets
        for entry in target.catalogue
        if (score := _score(words, target, entry)) is not None
    ]
    scored.sort(key=lambda each: each[:3])
    return [found for *_, found in scored[:most]], len(scored)


def _score(words: list[str], target: Target, entry: CatalogueEntry) -> int | None:
    name, place = str(entry.privilege).lower(), target.id.lower()
    about = f"{entry.description} {target.environment} {target.kind} {entry.risk}".lower()
    score = 0
    for word in words:
        if name.startswith(word) or place.startswith(word):
            score += 4
        elif word in name or word in place:
            score += 2
        elif word in about:
            score += 1
        else:
            return None
    return score
