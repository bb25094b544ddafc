"""Policies as IAM has them: one of a ticket's own, its name, and an end in what it allows."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import unquote

import msgspec

from muniment.core.errors import Invalid

MARK = "muniment."  # begins the name of a policy of ours: muniment.TICKET.MARK
WHEN = "%Y-%m-%dT%H:%M:%SZ"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
Document: TypeAlias = dict[str, Any]


def policy_name(ticket: str, account: str, privilege: str) -> str:
    """What a ticket's policy is called, so that repeating makes no second."""
    mark = hashlib.sha256(msgspec.json.encode((ticket, account, privilege))).hexdigest()[:16]
    return f"{MARK}{ticket}.{mark}"


def until_end(document: Document, privilege: str, end: datetime) -> Document:
    """A policy with an end in everything that it allows; a second that has begun is given whole.

    Raises:
        Invalid: it has an end of its own that cannot be compared with the ticket's. Of two the earlier counts.
    """
    when = (end + timedelta(microseconds=999_999)).strftime(WHEN)
    stated = document.get("Statement", [])
    statements = []
    for each in [stated] if isinstance(stated, dict) else stated:
        condition = each.get("Condition", {})
        dates = condition.get("DateLessThan", {})
        own = dates.get("aws:CurrentTime", when)
        if each.get("Effect") != "Allow":
            statements.append(each)
            continue
        if not isinstance(own, str) or not _DATE.fullmatch(own):
            raise Invalid("the policy has an end of its own that is no plain instant in UTC")
        ends = {"DateLessThan": dates | {"aws:CurrentTime": min(own, when)}}
        statements.append(each | {"Condition": condition | ends})
    return {
        "Version": document.get("Version", "2012-10-17"),
        "Id": f"{MARK}{privilege}.{when}",
        "Statement": statements,
    }


def document_of(document: Any) -> Document:
    """IAM gives documents in the escapes of URLs; botocore undoes that, but not everywhere."""
    found: Document = json.loads(unquote(document)) if isinstance(document, str) else document
    return found
