"""Who can hold access: people, service accounts, workloads and AI agents.

An id is ``kind:name``. Names are printable ASCII without spaces, so that no two ids look alike or differ only
by Unicode form. Names are folded to lower case, so that ``Ann@Example.com`` and ``ann@example.com`` are one subject
everywhere (I2: nobody approves for himself under an alias). A workload's keeps its case, as the standards of SPIFFE ids
and ARNs have it; the directory refuses two that differ in nothing else.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, get_args

import msgspec

from muniment.core.errors import Invalid

Kind: TypeAlias = Literal["human", "service_account", "workload", "ai_agent"]
Role: TypeAlias = Literal["member", "approver", "auditor", "operator"]
IdentityId: TypeAlias = str

KINDS: tuple[Kind, ...] = get_args(Kind)
ROLES: tuple[Role, ...] = get_args(Role)

#: characters after the kind
MAX_NAME = 255

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+@/:=~-]*", re.ASCII)
#: the trust domain in lower case, and no segment "." or "..": one spelling of each id (SPIFFE-ID, section 2)
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]+(/(?!\.\.?(/|$))[A-Za-z0-9._-]+)*", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)

#: who acts when a controller does
SYSTEM = "system:muniment"


def parse_identity(text: str) -> IdentityId:
    """Return the canonical id, or raise `Invalid`. Every id passes here before it is compared or stored."""
    kind, colon, name = text.partition(":")
    if not colon or kind not in KINDS:
        raise Invalid(
            f"{text!r:.80} is not an identity",
            remedy=f"Write kind:name, where kind is one of {', '.join(KINDS)}.",
        )
    wanted = _SPIFFE if name.lower().startswith("spiffe:") else _NAME
    # looked at before it is folded: lower() turns the Kelvin sign into an ASCII k, and so one person into another
    if not wanted.fullmatch(name) or len(name) > MAX_NAME:
        raise Invalid(
            f"{text!r:.80} is not an identity",
            remedy="A name has up to 255 of the characters A-Z a-z 0-9 . _ % + @ / : = ~ - and begins with a letter or digit.",
        )
    return f"{kind}:{name if kind == 'workload' else name.lower()}"


def parse_group(text: str) -> str:
    """Return the bare name of a group from ``group:name`` or ``name``, or raise `Invalid`."""
    name = text.removeprefix("group:")
    if not _GROUP.fullmatch(name):
        raise Invalid(
            f"{text!r:.80} is not a group",
            remedy="A group's name has letters, digits, dot, underscore and hyphen.",
        )
    return name


def kind_of(identity: IdentityId) -> Kind:
    """The kind an id names. The id must come from `parse_identity`."""
    for kind in KINDS:
        if identity.startswith(kind + ":"):
            return kind
    raise Invalid(
        f"{identity!r:.80} is not an identity",
        remedy=f"Write kind:name, where kind is one of {', '.join(KINDS)}.",
    )


def is_human(identity: IdentityId) -> bool:
    """Only people decide (I6)."""
    return identity.startswith("human:")


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much somebody who is not a person may ask for and hold (I38). Null: the default of `budget.py`."""

    requests_per_hour: int | None = None  # tickets filed
    concurrent_grants: int | None = None  # tickets that wait, or give access, at once
    longest: int | None = None  # seconds: no grant lasts longer


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One subject as the directory knows it now.

    ``owners`` is the whole chain of accountability for a non-human identity, nearest first: an agent owned by a
    service account owned by a person has both. It is empty for a person.
    """

    id: IdentityId
    name: str = ""  # for people to read
    active: bool = True
    groups: tuple[str, ...] = ()  # every group, nested ones included, sorted
    roles: tuple[Role, ...] = ("member",)
    owners: tuple[IdentityId, ...] = ()
    manager: IdentityId | None = None
    aliases: tuple[IdentityId, ...] = ()  # other ids of the same subject
    # unset, and so absent from entries, where there are none: entries of the first release have no such fields
    ssh_keys: tuple[str, ...] | msgspec.UnsetType = (
        msgspec.UNSET
    )  # public keys that sign their approvals; no comments
    budget: Budget | msgspec.UnsetType = msgspec.UNSET  # of a service account, workload or agent

    @property
    def kind(self) -> Kind:
        """human, service_account, workload or ai_agent."""
        return kind_of(self.id)

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """Public keys that sign this person's approvals, in OpenSSH's one-line form."""
        return () if self.ssh_keys is msgspec.UNSET else self.ssh_keys
