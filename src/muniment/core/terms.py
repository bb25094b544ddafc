"""What is asked, and the digest that an approval binds to (I3).

The digest covers the ticket's id and every term, so an approval cannot be moved to another ticket, and any
change of target, scope, beneficiary, key, start or duration gives another digest. Free text is in the terms as
a commitment (`text.py`): it is bound too, and can still be erased later.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from muniment.core.errors import Invalid
from muniment.core.identity import IdentityId
from muniment.core.instants import parse_instant
from muniment.core.scope import Scope
from muniment.core.text import clean_name

RequestKind: TypeAlias = Literal["standard", "break_glass"]

_REFERENCE_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
MAX_REFERENCES = 20


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is asked. Immutable once filed."""

    kind: RequestKind
    requester: IdentityId
    beneficiary: IdentityId
    target: str
    account: str  # the beneficiary's name on the target
    scope: Scope
    justification: str  # commitment to the text
    references: dict[str, str]  # kind of reference to its id: {"change": "CHG-7"}
    incident: str | None  # break-glass only
    starts_at: str | None  # wire instant; null: as soon as it is approved
    duration: int  # seconds, counted from the start of provisioning or from starts_at
    public_key: str | None  # the key a certificate is to be issued for, in OpenSSH's one-line form
    #: the ticket whose access goes on under this one, from its end. Unset, and so absent, where there is none
    extends: str | msgspec.UnsetType = msgspec.UNSET
    #: the tickets that were filed together, this one among them. Unset, and so absent, where it stands alone
    bundle: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    #: who else works on the incident of a break-glass, sorted: they do not look back on it. Unset, and so absent, if none
    responders: tuple[IdentityId, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def start(self) -> datetime | None:
        """The start that was asked for, or None for at once."""
        return None if self.starts_at is None else parse_instant(self.starts_at)

    @property
    def length(self) -> timedelta:
        """How long the access lasts."""
        return timedelta(seconds=self.duration)


def terms_digest(ticket: str, terms: Terms) -> str:
    """``sha256:`` and the hex of SHA-256 over the canonical JSON of ``{"terms": …, "ticket": …}``."""
    return "sha256:" + hashlib.sha256(_encode({"terms": terms, "ticket": ticket})).hexdigest()


def parse_references(references: Mapping[str, str]) -> dict[str, str]:
    """Check references such as ``{"change": "CHG-7"}``; keys are lower-case words."""
    if len(references) > MAX_REFERENCES:
        raise Invalid(f"there are more than {MAX_REFERENCES} references", remedy="Name the ones that matter.")
    for key, value in references.items():
        if not _REFERENCE_KEY.fullmatch(key):
            raise Invalid(
                f"{key!r:.60} is not a kind of reference", remedy="Write it like change=CHG-7, in lower case."
            )
        clean_name(value, f"the reference {key}")
    return dict(sorted(references.items()))


_encode = msgspec.json.Encoder(order="sorted").encode
