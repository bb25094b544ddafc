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

    # the provider's own way, a passkey of theirs that Muniment asked for besides, or a link that whoever runs Muniment made
    method: Literal["oidc", "passkey", "link"]
    issuer: str  # who vouches for who it is: the identity provider; with a link, the ledger's origin
    subject: str  # whom it names there
    at: str  # wire instant at which they were there: `auth_time`, or when the passkey signed
    level: int  # assurance 1 to 3, as NIST SP 800-63B counts
    acr: str | None = None  # the provider's own word for its way


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
        return f"the login is older than {FRESH // timedelta(minutes=1)} minutes"
    return None
