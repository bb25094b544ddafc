"""OCSF: events of Authentication (3002), API Activity (6003) and others with an actor, JSON, one a line.

Source: schema.ocsf.io, 1.x: ``time`` is milliseconds since 1970, ``status_id`` 1 is success.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from muniment.core.use import Said, ticket_named
from muniment.usage.reading import Format, Hints, Other, Unparsable, document, inside, text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOGON = 3002


def _read(raw: bytes, hints: Hints) -> Said | Other:
    del hints  # it has a zone
    found = document(raw)
    time = inside(found, "time")
    try:
        at = _EPOCH + timedelta(
            milliseconds=time if isinstance(time, int) and not isinstance(time, bool) else 1 << 62
        )
    except OverflowError as error:
        raise Unparsable("it has no time, in milliseconds") from error
    user = inside(found, "user") if inside(found, "class_uid") == _LOGON else inside(found, "actor", "user")
    account = text(user, "name") or text(user, "uid")
    if inside(found, "status_id") != 1 or not account:
        return Other(at)
    operation = text(found, "api", "operation") or text(found, "activity_name")
    first = inside(found, "resources")
    resource = first[0] if isinstance(first, list) and first else None
    return Said(
        at=at, account=account, privileges=tuple(_policies(inside(found, "actor", "authorizations"))),
        resource=text(resource, "namespace") or text(resource, "name") or None,
        ticket=ticket_named(inside(found, "metadata", "correlation_uid")),
        action=operation, shown=operation, object=text(resource, "name"), own=text(found, "metadata", "uid"),
    )  # fmt: skip


def _policies(found: Any) -> list[str]:
    return [n for each in found if (n := text(each, "policy", "name"))] if isinstance(found, list) else []


OCSF = Format(name="ocsf", summary="events of OCSF with an actor, JSON, one a line", read=_read)
