"""Entries as OCSF events, by the schema of a version that the configuration names.

| entry | OCSF 1.8 | OCSF 1.9 |
| --- | --- | --- |
| grant-observed, revocation-observed | 3005 User Access: Assign (1), Revoke (2) Privileges | 3007 User Management: 14, 15 |
| identity-recorded, identity-deactivated | 3001 Account Change: Create (1), Enable (2), Disable (5), Delete (6) | 3007: 1, 4, 5, 3 |
| request-…, approval-…, review-…, target-…, policy-…, delegation-…, token-… | 3004 Entity Management: Create (1), Update (3), … | same |
| finding-raised, finding-resolved, drift-… | 2004 Detection Finding: Create (1), Update (2), Close (3) | same |

Source: schema.ocsf.io. Times are milliseconds; ``metadata.uid`` is the leaf's index, ``correlation_uid`` the ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed
from typing import Any, Literal, TypeAlias

import msgspec

from muniment.core.instants import parse_instant
from muniment.core.ticket import Ticket
from muniment.ledger.entry import Entry

Version: TypeAlias = Literal["1.8", "1.9"]
#: what stands in ``metadata.version``
_SCHEMA = {"1.8": "1.8.0", "1.9": "1.9.0"}
_SEVERITIES = {"low": (2, "Low"), "medium": (3, "Medium"), "high": (4, "High"), "critical": (5, "Critical")}
_INFORMATIONAL = (1, "Informational")
_CATEGORIES = {2: "Findings", 3: "Identity & Access Management"}
_CLASSES = {
    2004: "Detection Finding", 3001: "Account Change", 3004: "Entity Management",
    3005: "User Access Management", 3007: "User Management",
}  # fmt: skip
#: of Entity Management, by the kind without its version
_ENTITY = {
    "request-submitted": (1, "Create"), "request-approved": (10, "Activate"), "request-denied": (11, "Deactivate"),
    "request-withdrawn": (11, "Deactivate"), "request-lapsed": (11, "Deactivate"), "request-closed": (11, "Deactivate"),
    "policy-decided": (3, "Update"), "approval-recorded": (3, "Update"), "approvals-voided": (3, "Update"),
    "counter-offered": (3, "Update"), "counter-accepted": (3, "Update"), "request-escalated": (3, "Update"),
    "provisioning-started": (3, "Update"), "provisioning-failed": (3, "Update"), "revocation-ordered": (3, "Update"),
    "revocation-failed": (3, "Update"), "review-opened": (3, "Update"), "review-recorded": (3, "Update"),
    "check-waived": (3, "Update"), "target-registered": (1, "Create"), "target-retired": (4, "Delete"),
    "policy-adopted": (8, "Enable"), "settings-adopted": (8, "Enable"), "change-proposed": (1, "Create"),
    "change-refused": (4, "Delete"), "delegation-given": (1, "Create"), "delegation-ended": (4, "Delete"),
    "signal-received": (1, "Create"), "login-linked": (1, "Create"), "login-unlinked": (4, "Delete"),
    "token-made": (1, "Create"), "token-revoked": (4, "Delete"),
    "lift-proposed": (1, "Create"), "lift-agreed": (8, "Enable"),
    "campaign-opened": (1, "Create"), "campaign-items-decided": (3, "Update"), "campaign-reassigned": (3, "Update"),
    "campaign-signed-off": (10, "Activate"), "campaign-items-settled": (3, "Update"),
    "campaign-closed": (11, "Deactivate"), "campaign-cancelled": (11, "Deactivate"),
}  # fmt: skip
_FAILED = frozenset({"request-denied", "provisioning-failed", "revocation-failed"})
#: of Detection Finding
_FINDING = {
    "finding-raised": (1, "Create"), "finding-resolved": (3, "Close"), "drift-raised": (1, "Create"),
    "drift-assigned": (2, "Update"), "drift-explained": (2, "Update"), "drift-accepted": (2, "Update"),
    "drift-removal-ordered": (2, "Update"), "drift-resolved": (3, "Close"),
}  # fmt: skip
#: kinds that are told at all
KINDS = frozenset(_ENTITY) | frozenset(_FINDING) | {
    "grant-observed", "revocation-observed", "identity-recorded", "identity-deactivated",
}  # fmt: skip


def ocsf_event(index: int, entry: Entry, ticket: Ticket | None, version: Version) -> dict[str, Any]:
    """The event. No texts and no secrets: what an entry has of them are commitments, and they are left out."""
    kind = entry.type.partition("/")[0]
    data = msgspec.json.decode(entry.data)
    if kind in {"grant-observed", "revocation-observed"} and ticket is not None:
        return _access(index, entry, ticket, version, kind, data)
    if kind in {"identity-recorded", "identity-deactivated"}:
        return _account(index, entry, version, data)
    if kind in _FINDING:
        return _finding(index, entry, ticket, version, data, *_FINDING[kind])
    activity, name = _ENTITY[kind]
    base = _base(index, entry, version, 3004, activity, name, failed=kind in _FAILED)
    entity: dict[str, Any] = {"uid": entry.ticket, "name": kind, "type": _type_of(entry.ticket)}
    if ticket is not None:
        entity["data"] = _about(ticket)
    return base | {"entity": entity}


def _access(  # noqa: PLR0917  as `ocsf_event`, and what it read
    index: int, entry: Entry, ticket: Ticket, version: Version, kind: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    given = kind == "grant-observed"
    held = data["granted" if given else "gone"]
    if version == "1.9":
        number, activity = 3007, ((14, "Assign Privileges") if given else (15, "Remove Privileges"))
    else:
        number, activity = 3005, ((1, "Assign Privileges") if given else (2, "Revoke Privileges"))
    privileges = [
        each["privilege"] + (f" on {each['resource']}" if each.get("resource") else "") for each in held
    ]
    resource = {"uid": ticket.terms.target, "name": ticket.terms.account, "type": "target"}
    more = {"user": _user(ticket.terms.beneficiary), "privileges": privileges, "resources": [resource]}
    return _base(index, entry, version, number, *activity) | more


def _account(index: int, entry: Entry, version: Version, data: Mapping[str, Any]) -> dict[str, Any]:
    recorded = data["identity"]
    if isinstance(recorded, str):
        old, new, who = (6, "Delete"), (3, "Delete"), recorded
    elif not recorded["active"]:
        old, new, who = (5, "Disable"), (5, "Disable"), recorded["id"]
    elif entry.seq == 0:
        old, new, who = (1, "Create"), (1, "Create"), recorded["id"]
    else:
        old, new, who = (2, "Enable"), (4, "Enable"), recorded["id"]
    number, activity = (3007, new) if version == "1.9" else (3001, old)
    return _base(index, entry, version, number, *activity) | {"user": _user(who)}


def _finding(  # noqa: PLR0917  as `ocsf_event`, what it read, and what that is
    index: int,
    entry: Entry,
    ticket: Ticket | None,
    version: Version,
    data: Mapping[str, Any],
    activity: int,
    name: str,
) -> dict[str, Any]:
    uid = f"{entry.ticket}:{data['finding']}"
    found = next((f for f in ticket.findings if f.id == data["finding"]), None) if ticket else None
    title = data.get("type") or (found.type if found else "finding")
    info: dict[str, Any] = {"uid": uid, "title": title}
    if "message" in data:
        severity = _SEVERITIES.get(data["severity"], _INFORMATIONAL)
        info["desc"] = data["message"]
        base = _base(index, entry, version, 2004, activity, name, severity=severity)
    else:
        base = _base(index, entry, version, 2004, activity, name)
    del base["actor"]  # findings have none, but for a profile that we do not claim
    return base | {"finding_info": info}


def _base(  # noqa: PLR0917  what every event has
    index: int,
    entry: Entry,
    version: Version,
    number: int,
    activity: int,
    name: str,
    *,
    failed: bool = False,
    severity: tuple[int, str] = _INFORMATIONAL,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "version": _SCHEMA[version], "uid": str(index), "log_name": entry.log, "event_code": entry.type,
        "product": {"name": "Muniment", "vendor_name": "Muniment", "version": installed("muniment")},
    }  # fmt: skip
    if entry.ticket.startswith("req_"):
        metadata["correlation_uid"] = entry.ticket
    return {
        "activity_id": activity, "activity_name": name, "category_uid": number // 1000,
        "category_name": _CATEGORIES[number // 1000], "class_uid": number, "class_name": _CLASSES[number],
        "type_uid": number * 100 + activity, "type_name": f"{_CLASSES[number]}: {name}",
        "time": int(parse_instant(entry.at).timestamp() * 1000), "severity_id": severity[0], "severity": severity[1],
        "status_id": 2 if failed else 1, "status": "Failure" if failed else "Success", "metadata": metadata,
        "actor": {"user": _user(entry.actor.id)},
    }  # fmt: skip


def _user(identity: str) -> dict[str, Any]:
    kind, _, name = identity.partition(":")
    number, said = {"human": (1, "User"), "system": (3, "System")}.get(kind, (99, kind))
    return {"uid": identity, "name": name, "type_id": number, "type": said}


def _about(ticket: Ticket) -> dict[str, Any]:
    terms = ticket.terms
    return {
        "requester": terms.requester, "beneficiary": terms.beneficiary, "target": terms.target, "account": terms.account,
        "kind": terms.kind,
    }  # fmt: skip


def _type_of(stream: str) -> str:
    return "Request" if stream.startswith("req_") else stream.partition(":")[0].capitalize()
