"""How somebody signed in, as far as it counts for what they decide."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from muniment.core.instants import parse_instant
from muniment.core.verdict import Obligations

#: how old a login may be where policy demands an assurance of it: whoever approves was there just now
FRESH = timedelta(minutes=15)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """One login, as whoever vouches for it said."""

    method: Literal["oidc"]
    issuer: str  # who vouches for it: the identity provider
    subject: str  # whom it names there
    at: str  # wire instant at which they were there: `auth_time`
    level: int  # assurance 1 to 3, as NIST SP 800-63B counts
    acr: str | None = None  # the issuer's own word for it


def falls_short(obligations: Obligations | None, login: Login | None, now: datetime) -> str | None:
    """What is missing of the login that policy demands of an approver, in a clause; None if nothing is."""
    wanted = (obligations.assurance or 0) if obligations else 0
    if not wanted:
        return None
    if login is None:
        return "nobody signed in: a token shows no assurance"
    if login.level < wanted:
        return f"the login has assurance {login.level}"
    if now - parse_instant(login.at) > FRESH:
        return f"the login is older than {FRESH.total_seconds() / 60:.0f} minutes"
    return None
