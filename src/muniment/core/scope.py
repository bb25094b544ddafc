"""Privileges and sets of them: what is asked, approved, and observed to be held on one target.

The algebra is that of sets, because a target holds a privilege or does not. ``a`` covers ``b`` when nothing in
``b`` lies outside ``a``; what was granted is right exactly when it neither misses nor exceeds what was approved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from muniment.core.errors import Invalid
from muniment.core.text import clean_name

#: privileges in one ticket; more is a bundle. Each is judged by itself, and all judgements fit into one entry of 32 KiB
MAX_SCOPE = 25


class Privilege(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be held on a target, in the target's own words.

    ``resource`` narrows it where the target can (a namespace, a database); null means the privilege as such.
    """

    privilege: str
    resource: str | None = None

    def __str__(self) -> str:
        return self.privilege if self.resource is None else f"{self.privilege} ({self.resource})"


Scope: TypeAlias = tuple[Privilege, ...]  # sorted, without repeats: equal scopes are equal bytes


def scope(privileges: Iterable[Privilege]) -> Scope:
    """The canonical form: sorted, each privilege once."""
    return tuple(sorted(set(privileges), key=_key))


def parse_scope(items: Iterable[Privilege]) -> Scope:
    """Check what somebody asked for. Raises `Invalid` for an empty or oversized scope or a hostile name."""
    result = scope(items)
    if not result:
        raise Invalid(
            "the scope is empty", remedy="Name at least one privilege; `muniment targets` lists them."
        )
    if len(result) > MAX_SCOPE:
        raise Invalid(
            f"the scope has more than {MAX_SCOPE} privileges", remedy="Split it into several tickets."
        )
    for item in result:
        clean_name(item.privilege, "the privilege")
        if item.resource is not None:
            clean_name(item.resource, "the resource")
    return result


def covers(wide: Iterable[Privilege], narrow: Iterable[Privilege]) -> bool:
    """Whether everything in ``narrow`` lies within ``wide``."""
    return set(narrow) <= set(wide)


def missing(wanted: Iterable[Privilege], held: Iterable[Privilege]) -> Scope:
    """What was wanted and is not held."""
    return scope(set(wanted) - set(held))


def excess(wanted: Iterable[Privilege], held: Iterable[Privilege]) -> Scope:
    """What is held and was not wanted."""
    return scope(set(held) - set(wanted))


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What was approved beside what the target was observed to hold (I16)."""

    missing: Scope
    excess: Scope

    @property
    def exact(self) -> bool:
        """Nothing missing, nothing more."""
        return not self.missing and not self.excess


def compare(approved: Iterable[Privilege], granted: Iterable[Privilege]) -> Comparison:
    """Compare what was granted with what was approved."""
    approved, granted = tuple(approved), tuple(granted)
    return Comparison(missing=missing(approved, granted), excess=excess(approved, granted))


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One entitlement as a connector observed it: who holds what, and who gave it, where the target says."""

    account: str
    privilege: str
    resource: str | None = None
    grantor: str | None = None
    ticket: str | None = (
        None  # that it was given for, where the target says; then another's end does not touch it
    )

    @property
    def what(self) -> Privilege:
        """The privilege held, without the holder."""
        return Privilege(privilege=self.privilege, resource=self.resource)


def _key(item: Privilege) -> Any:
    return (item.privilege, item.resource is not None, item.resource or "")
