"""What a campaign is about: a list that is fixed when it is opened, one line an item, under one digest.

The lines are canonical JSON (RFC 8785), as those of inventories are: first the items that are decided one by one, then
the rest, each part sorted by its bytes. An item is named by its place in the list, from 0; several by ranges: ``0-99,105``.
Whoever has the lines can check them with `sha256sum` against the digest in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias, get_args

import msgspec

from muniment.core.errors import Invalid
from muniment.core.identity import IdentityId, Kind
from muniment.core.inventory import Item

#: an entitlement that stands without a ticket; a line of the baseline, or an exception, that nobody holds; an identity
#: that is no person; a person in a group
SubjectKind: TypeAlias = Literal["entitlement", "declaration", "identity", "membership"]
SUBJECT_KINDS: tuple[SubjectKind, ...] = get_args(SubjectKind)
#: how what stands without a ticket is explained
Standing: TypeAlias = Literal["baseline", "excepted", "unexplained"]
STANDINGS: tuple[Standing, ...] = get_args(Standing)
Risk: TypeAlias = Literal["critical", "high", "medium", "low"]
RISKS: tuple[Risk, ...] = get_args(Risk)

#: items of one campaign; more are two campaigns
MOST_ITEMS = 200_000
#: characters of ranges in one entry, which holds 32 KiB
PART = 20_000


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which standing access a campaign is about. Every field narrows; an empty one does not."""

    subjects: tuple[SubjectKind, ...] = ()
    targets: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    privileges: tuple[str, ...] = ()
    classes: tuple[Standing, ...] = ()
    identities: tuple[Kind, ...] = ()  # kinds of whoever holds it
    groups: tuple[str, ...] = ()  # of memberships
    due_before: str | None = None  # only what must be looked at again, or is over, before this instant


class CampaignItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: what stands, whose it is, who answers for it, and who is asked."""

    subject: SubjectKind
    reviewer: str  # an identity, "group:NAME" or "role:NAME"
    risk: Risk
    target: str | None = None
    account: str | None = None  # of ``nested``: the privilege that brings the other
    privilege: str | None = None
    resource: str | None = None
    nested: bool = False
    grantor: str | None = None
    ticket: str | None = None  # that the target says it was given for
    standing: Standing | None = None
    identity: IdentityId | None = None  # of an identity, or of whoever is in the group
    group: str | None = None
    holders: tuple[IdentityId, ...] = ()  # whose account or identity it is, as the directory knew it
    owners: tuple[IdentityId, ...] = ()  # who answers for it
    until: str | None = None  # when it must be looked at again, or is over
    line: str | None = None  # digest of the declaration that explains it

    @property
    def held(self) -> Item:
        """The line of an inventory that has it, but for who gave it."""
        return Item(
            account=self.account or "", privilege=self.privilege or "", resource=self.resource, ticket=self.ticket,
            nested=self.nested,
        )  # fmt: skip

    @property
    def what(self) -> str:
        """In a few words."""
        where = f" ({self.resource})" if self.resource else ""
        match self.subject:
            case "identity":
                return f"{self.identity} exists"
            case "membership":
                return f"{self.identity} is in {self.group}"
            case "declaration":
                return f"{self.account} may have {self.privilege}{where} on {self.target}"
            case _ if self.nested:
                return f"{self.account} brings {self.privilege}{where} on {self.target}"
            case _:
                return f"{self.account} has {self.privilege}{where} on {self.target}"


def lines(items: Iterable[tuple[CampaignItem, bool]]) -> tuple[list[bytes], int]:
    """The list, and how many at its beginning are decided one by one. Each line is there once."""
    alone, rest = set[bytes](), set[bytes]()
    for item, singly in items:
        (alone if singly else rest).add(_encode(item))
    rest -= alone
    return [*sorted(alone), *sorted(rest)], len(alone)


def read(line: bytes) -> CampaignItem:
    """Read a line back. Raises `msgspec.MsgspecError`."""
    return _decode(line)


# ── several at once ──


def ranges(numbers: Iterable[int]) -> Iterator[str]:
    """These numbers as ranges, in texts that each fit into an entry."""
    parts: list[str] = []
    size = 0
    for first, last in _runs(sorted(set(numbers))):
        part = str(first) if first == last else f"{first}-{last}"
        if size + len(part) > PART:
            yield ",".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield ",".join(parts)


def numbers(text: str, below: int) -> list[int]:
    """The numbers that ranges name, sorted, each once. Raises `Invalid` for what names none, or one that is not there."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) < 8 for end in ends):
            raise Invalid(
                f"{part!r:.40} names no items", remedy="Write numbers and ranges of them, like 0-99,105."
            )
        low, high = int(ends[0]), int(ends[1])
        if not low <= high < below:
            raise Invalid(f"there are no items {part!r:.40}", remedy=f"They go from 0 to {below - 1}.")
        found.update(range(low, high + 1))
    return sorted(found)


def _runs(ordered: list[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for number in ordered:
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(CampaignItem).decode
