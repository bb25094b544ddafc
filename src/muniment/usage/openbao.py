"""OpenBao and Vault: the audit device "file", JSON.

The answer to a request says who asked and which policies let them. A token that a ticket made has the ticket in its
metadata. Values are HMACs there, and none of them is read here.

Source: openbao.org/docs/audit, and the lines of a server.
"""

from __future__ import annotations

from typing import Any

from muniment.core.use import Said, ticket_named
from muniment.usage.reading import Format, Hints, Other, document, inside, instant, text


def _read(raw: bytes, hints: Hints) -> Said | Other:
    found = document(raw)
    at = instant(inside(found, "time"), hints)
    auth = inside(found, "auth")
    if text(found, "type") != "response" or text(found, "error") or not isinstance(auth, dict):
        return Other(at)
    metadata = inside(auth, "metadata")
    account = (
        text(metadata, "account")
        or text(metadata, "username")
        or text(metadata, "role_name")
        or text(auth, "display_name")
    )
    if not account:
        return Other(at)  # nobody: a login that is under way, a health check
    operation, path = text(found, "request", "operation"), text(found, "request", "path")
    return Said(
        at=at, account=account, privileges=tuple(_policies(auth)), ticket=ticket_named(inside(metadata, "ticket")),
        action=f"{operation} {path}", shown=f"{operation} {path}", object=path, own=text(found, "request", "id"),
    )  # fmt: skip


def _policies(auth: dict[str, Any]) -> list[str]:
    """Those that let it, where the server says; else none: that somebody has a policy is no use of it."""
    granting = inside(auth, "policy_results", "granting_policies")
    return [name for each in granting if (name := text(each, "name"))] if isinstance(granting, list) else []


OPENBAO = Format(name="openbao", summary="OpenBao's (and Vault's) audit device, JSON", read=_read)
