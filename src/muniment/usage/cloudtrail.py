"""AWS CloudTrail: records as JSON, one a line (``jq -c '.Records[]'``), by their documented shape.

Who assumed a role is its session's name; a role of IAM Identity Center is called ``AWSReservedSSO_SET_…``, after the
permission set. No record here comes from AWS itself: the shape is that of its documentation.

Source: docs.aws.amazon.com/awscloudtrail, "CloudTrail record contents" and "userIdentity element".
"""

from __future__ import annotations

import re
from typing import Any

from muniment.core.use import Said, ticket_named
from muniment.usage.reading import Format, Hints, Other, document, inside, instant, named, text

_SET = re.compile(r"AWSReservedSSO_(.{1,64})_[0-9a-f]{16}", re.ASCII)


def _read(raw: bytes, hints: Hints) -> Said | Other:
    found = document(raw)
    at = instant(inside(found, "eventTime"), hints)
    who = inside(found, "userIdentity")
    account = _account(who)
    if not account or text(found, "errorCode"):
        return Other(at)
    event = named(found, "eventName")
    service = text(found, "eventSource")
    role = text(who, "sessionContext", "sessionIssuer", "userName")
    match = _SET.fullmatch(role)
    ticket = text(who, "sessionContext", "sourceIdentity")
    console = inside(found, "sessionCredentialFromConsole")
    return Said(
        at=at, account=account, privileges=tuple(filter(None, (match[1] if match else "", role))),
        resource=text(found, "recipientAccountId") or text(who, "accountId") or None, ticket=ticket_named(ticket),
        person="a session of the console" if console in {"true", True} or event == "ConsoleLogin" else None,
        action=f"{service}:{event}", shown=f"{service}:{event}", object=text(found, "awsRegion"), own=text(found, "eventID"),
    )  # fmt: skip


def _account(who: Any) -> str:
    """The user, or the name of the session in which a role is."""
    kind = text(who, "type")
    if kind == "AssumedRole":
        return text(who, "principalId").partition(":")[2]
    return text(who, "userName") or ("root" if kind == "Root" else "")


CLOUDTRAIL = Format(name="cloudtrail", summary="records of AWS CloudTrail, JSON, one a line", read=_read)
