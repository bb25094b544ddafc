"""What a verified token says, read strictly: a claim of a wrong type is a wrong token."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from muniment.core.errors import Unauthenticated

_LATEST = 253402300799  # year 9999


def text(claims: Mapping[str, Any], name: str, longest: int = 255) -> str:
    """A text that must be there, in printable characters."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise wrong(name)
    return value


def instant(claims: Mapping[str, Any], name: str) -> datetime:
    """A NumericDate that must be there."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise wrong(name)
    return datetime.fromtimestamp(int(value), UTC)


def audience(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Whom it is for."""
    value = claims.get("aud")
    every = [value] if isinstance(value, str) else value
    if not isinstance(every, list) or not all(isinstance(each, str) for each in every):
        raise wrong("aud")
    return tuple(every)


def names(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    """A list of names; none where the claim is not there. One name alone is a list, too: providers differ."""
    value = claims.get(claim, [])
    every = [value] if isinstance(value, str) else value
    if not isinstance(every, list) or not all(isinstance(each, str) for each in every):
        raise wrong(claim)
    return tuple(every)


def wrong(name: str) -> Unauthenticated:
    """A claim that is missing, or is not what it must be."""
    return Unauthenticated(
        f"the token's claim {name} is missing or not what it must be",
        remedy="Whoever issues the tokens must add it.",
        code="unauthenticated.claim",
    )
