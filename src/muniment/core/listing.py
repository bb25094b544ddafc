"""Scopes that one entry of the ledger (32 KiB) may be too small for: in several entries, or listed in part.

What an account held before is needed whole, to tell later what was added: it goes into as many entries as it takes.
What a target gave too much of is taken back whatever it is called: an entry counts it, binds to all of it by a digest,
and lists what fits.
"""

from __future__ import annotations

import hashlib

import msgspec

from muniment.core.events import Whole
from muniment.core.scope import Privilege, Scope, excess, scope

#: bytes of a scope that an entry takes beside everything else that belongs into it
BESIDE = 2 * 1024
#: bytes of a scope that an entry takes by itself
ALONE = 24 * 1024
#: bytes of all that an account may hold before anything is given to it
MOST_HELD = 256 * 1024
#: bytes of excess that are listed, at most
LISTED = 8 * 1024


def in_entries(held: Scope) -> tuple[Scope, ...] | None:
    """Split a scope: parts for entries of their own, then the rest, for an entry with other things in it.

    None if it is larger than `MOST_HELD`, or a single name too long for any entry.
    """
    if _size(held) <= BESIDE:
        return (held,)
    if _size(held) > MOST_HELD or any(_size((item,)) > ALONE for item in held):
        return None
    parts: list[list[Privilege]] = [[]]
    room = ALONE
    for item in held:
        room -= _size((item,))
        if room < 0:
            parts.append([])
            room = ALONE - _size((item,))
        parts[-1].append(item)
    return (*map(tuple, parts), ())


def listed(approved: Scope, granted: Scope) -> tuple[Scope, Whole | msgspec.UnsetType]:
    """What of a grant goes into an entry: what was approved, and as much of the excess as fits; and what it is part of."""
    more = excess(approved, granted)
    expected = excess(more, granted)
    room = min(
        LISTED, (ALONE - _size(approved)) // 2
    )  # an entry names excess twice, and so do the findings after it
    fitting = []
    for item in more:
        room -= _size((item,))
        if room < 0:
            break
        fitting.append(item)
    if len(fitting) == len(more):
        return granted, msgspec.UNSET
    digest = "sha256:" + hashlib.sha256(_encode(granted)).hexdigest()
    return scope((*expected, *fitting)), Whole(count=len(granted), digest=digest)


def _size(part: Scope) -> int:
    return len(_encode(part))


_encode = msgspec.json.Encoder(order="sorted").encode
