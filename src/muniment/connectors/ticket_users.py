"""Names of users that tickets make on targets which keep nothing else about a user: ``muniment.TICKET.ACCOUNT``.

The account is percent-encoded. A colon is not used, because HTTP's basic authentication ends a name there.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

PREFIX = "muniment"
_TICKET = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def user_of(ticket: str, account: str) -> str | None:
    """The user that a ticket makes; None for a ticket whose id cannot stand in the name of one."""
    return f"{PREFIX}.{ticket}.{quote(account, safe='')}" if _TICKET.fullmatch(ticket) else None


def whose(user: str) -> tuple[str, str | None]:
    """Account and ticket. Somebody's own user is an account by itself."""
    prefix, _, rest = user.partition(".")
    ticket, _, quoted = rest.partition(".")
    account = unquote(quoted)
    ours = prefix == PREFIX and bool(account) and user == user_of(ticket, account)
    return (account, ticket) if ours else (user, None)
