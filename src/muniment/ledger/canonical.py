"""Canonical JSON: the one spelling of an event that is stored, hashed and signed (RFC 8785).

The event profile is smaller than JSON, so that every reader sees the same thing:

- objects, arrays, strings, booleans, null, and integers within ±(2^53-1) (RFC 7493, section 2.2); no floats;
- keys of ``[a-z0-9_]`` alone, so that UTF-16 order (RFC 8785, section 3.2.3) and byte order agree, and once each;
- no more than `MAX_DEPTH` levels and `MAX_ENTRY` bytes.

Within this profile the sorted encoding of msgspec is RFC 8785; the tests compare it with another implementation.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from muniment.ledger.errors import BadEntry

#: bytes of one entry at most; larger things stay outside and their SHA-256 goes in. Entry bundles hold 65,535
MAX_ENTRY = 32 * 1024
#: levels of objects and arrays at most, the outermost counted as 1
MAX_DEPTH = 24
#: integers beyond ± this are not exact in every JSON reader
MAX_INT = 2**53 - 1
#: as many keys are remembered as good; entries use a few hundred, and a foreign log may hold any number
MOST_KEYS = 4096

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode
_key = re.compile("[a-z0-9_]+").fullmatch
_good_keys: set[str] = set()


def encode(value: Any) -> bytes:
    """Return the canonical bytes of ``value``, a dict or a msgspec Struct whose content fits the profile.

    Whatever would be refused when read is refused here: an entry, once in the tree, cannot be mended.

    Raises:
        BadEntry: the value lies outside the profile, or is too large or too deep.
    """
    try:
        tree = msgspec.to_builtins(value)
        raw = _encode(tree)
    except RecursionError:
        raise BadEntry(f"the value has more than {MAX_DEPTH} levels") from None
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise BadEntry(f"the value has no canonical form: {error}") from None
    if isinstance(tree, dict):  # else decode_strict says so
        # NaN and infinity are written as null: the bytes alone would not show them
        _check_profile(tree, "the value", MAX_DEPTH)
    decode_strict(raw, what="the value")
    return raw


def decode_strict(raw: bytes, *, what: str = "the entry", depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Read an object and prove that ``raw`` is its canonical form.

    Args:
        raw: the bytes as stored.
        what: how faults call it.
        depth: levels allowed; fewer for a part of an entry.

    Raises:
        BadEntry: on any other bytes whatsoever: not JSON, not an object, outside the profile, or the same object in
            another spelling.

    Source: RFC 8785; RFC 7493, section 2.
    """
    if len(raw) > MAX_ENTRY:
        raise BadEntry(f"{what} has {len(raw)} bytes; {MAX_ENTRY} are allowed")
    try:
        value = _decode(raw)
    except RecursionError:
        raise BadEntry(f"{what} has more than {depth} levels") from None
    except UnicodeDecodeError as error:
        raise BadEntry(f"{what} is not UTF-8 (position {error.start} of a string)") from None
    except msgspec.MsgspecError as error:
        raise BadEntry(f"{what} is not JSON: {error}") from None
    if type(value) is not dict:
        raise BadEntry(f"{what} is not a JSON object")
    _check_profile(value, what, depth)
    try:
        canonical = _encode(value)
    except UnicodeEncodeError:
        raise BadEntry(f"{what} has a lone surrogate in a string") from None
    if canonical != raw:
        raise BadEntry(f"{what} {_difference(raw, canonical)}")
    return value


def check_keys(node: dict[str, Any], what: str) -> None:
    """Refuse a key that has other characters than ``a-z``, ``0-9`` and ``_``.

    Raises:
        BadEntry: names the key.
    """
    if _good_keys.issuperset(node):  # few keys make up nearly every entry
        return
    for key in node:
        if not _key(key):
            raise BadEntry(f"{what} has a key with other characters than a-z, 0-9 and _: {key!r:.60}")
    if len(_good_keys) < MOST_KEYS:
        _good_keys.update(node)


def _check_profile(value: dict[str, Any], what: str, depth: int) -> None:
    """Refuse floats, large integers, foreign keys and deep nesting.

    Goes level by level instead of recursing: faster, and the depth is simply the number of rounds.
    """
    level: list[Any] = [value]
    for _ in range(depth):
        below: list[Any] = []
        for node in level:
            items = node
            if type(node) is dict:
                check_keys(node, what)
                items = node.values()
            for item in items:
                kind = type(item)
                if kind is str or kind is bool or item is None:
                    continue
                if kind is int or kind is float:
                    _check_number(item, what)
                else:
                    below.append(item)
        if not below:
            return
        level = below
    raise BadEntry(f"{what} has more than {depth} levels")


def _check_number(number: float, what: str) -> None:
    if type(number) is float:
        raise BadEntry(f"{what} holds {number!r}, which is not written as an integer")
    if not -MAX_INT <= number <= MAX_INT:
        raise BadEntry(f"{what} holds an integer outside ±(2^53-1)")


def _difference(raw: bytes, canonical: bytes) -> str:
    """Say how ``raw`` departs from its canonical form; only ever called when it does."""
    repeated: list[str] = []

    def note_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(key for key in found if keys.count(key) > 1)
        return found

    # safe here: the bytes have been read once, so they are JSON, shallow and small
    json.loads(raw.decode(), object_pairs_hook=note_repeats, strict=False)
    if repeated:
        return f"has the key {repeated[0]!r:.60} twice"
    at = next(
        (i for i, (a, b) in enumerate(zip(raw, canonical, strict=False)) if a != b),
        min(len(raw), len(canonical)),
    )
    return f"is not in canonical form: it departs from it at byte {at}"
