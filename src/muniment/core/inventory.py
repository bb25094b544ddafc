"""An inventory: everything that a target holds, as one list that can be counted, compared and checked.

Each item is one line of canonical JSON (RFC 8785), the lines are sorted by their bytes and each is there once. The digest
is SHA-256 over all of them, each with a line feed at its end: whoever has the lines can check it with `sha256sum`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from muniment.core.scope import Holding, Privilege


class Nested(msgspec.Struct, frozen=True, kw_only=True):
    """On a target, whoever holds one privilege has another one by that: a group that is in a group, a role in a role."""

    inner: str  # the privilege that brings it, as the target names it
    outer: Privilege
    grantor: str | None = None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an inventory."""

    account: str  # of ``nested``: the privilege that brings this one
    privilege: str
    resource: str | None = None
    grantor: str | None = None
    ticket: str | None = None  # that the target says it was given for
    nested: bool = False  # held by everybody who holds the privilege that ``account`` names

    @property
    def what(self) -> Privilege:
        """The privilege held, without the holder."""
        return Privilege(privilege=self.privilege, resource=self.resource)


def lines(holdings: Iterable[Holding], nested: Iterable[Nested] = ()) -> list[bytes]:
    """The lines of an inventory, sorted, each once.

    Where a target tells of a privilege that is in another one as if it were an account, it is listed as nested alone.
    """
    found: set[bytes] = set()
    inner = set()
    for each in nested:
        inner.add((each.inner, each.outer))
        found.add(
            _line(
                Item(
                    account=each.inner, privilege=each.outer.privilege, resource=each.outer.resource,
                    grantor=each.grantor, nested=True,
                )
            )
        )  # fmt: skip
    for holding in holdings:
        if inner and (holding.account, holding.what) in inner:
            continue
        found.add(
            _line(
                Item(
                    account=holding.account, privilege=holding.privilege, resource=holding.resource,
                    grantor=holding.grantor, ticket=holding.ticket,
                )
            )
        )  # fmt: skip
    return sorted(found)


def counts(items: Iterable[Item]) -> tuple[int, int]:
    """How many accounts hold something by themselves, and how many lines say what brings what."""
    accounts: set[str] = set()
    nested = 0
    for item in items:
        if item.nested:
            nested += 1
        else:
            accounts.add(item.account)
    return len(accounts), nested


def digest(ordered: Iterable[bytes]) -> str:
    """``sha256:…`` over lines in their order."""
    whole = hashlib.sha256()
    for line in ordered:
        whole.update(line)
        whole.update(b"\n")
    return f"sha256:{whole.hexdigest()}"


def read(line: bytes) -> Item:
    """Read a line back. Raises `msgspec.MsgspecError`."""
    return _decode(line)


def _line(item: Item) -> bytes:
    try:
        return _encode(item)
    except UnicodeEncodeError:  # a target's own bytes that are no text
        return _encode(
            msgspec.convert(
                {name: _sound(value) for name, value in msgspec.structs.asdict(item).items()}, Item
            )
        )


def _sound(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Item).decode
