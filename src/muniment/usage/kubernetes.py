"""Kubernetes: the API server's audit log, ``audit.k8s.io/v1``, JSON.

RBAC says in an annotation which binding let it, and a binding of ours names its ticket. Somebody who impersonates an
account is known by their own name.

Source: kubernetes.io/docs/reference/config-api/apiserver-audit.v1, rbac.go (the reason's wording), and a server's lines.
"""

from __future__ import annotations

import re

from muniment.core.use import Said, ticket_of_binding
from muniment.usage.reading import Format, Hints, Other, document, inside, instant, named, text

_REASON = re.compile(
    r'RBAC: allowed by (?:Cluster)?RoleBinding "([^"/]{1,253})(?:/[^"/]{1,253})?" of (ClusterRole|Role) "([^"]{1,253})" to .*',
    re.ASCII | re.DOTALL,
)


def _read(raw: bytes, hints: Hints) -> Said | Other:
    found = document(raw)
    at = instant(inside(found, "requestReceivedTimestamp") or inside(found, "stageTimestamp"), hints)
    allowed = text(found, "annotations", "authorization.k8s.io/decision") == "allow"
    code = inside(found, "responseStatus", "code")
    served = isinstance(code, int) and code < 400
    if text(found, "stage") != "ResponseComplete" or not allowed or not served:
        return Other(at)
    who, real = text(found, "impersonatedUser", "username"), named(found, "user", "username")
    match = _REASON.fullmatch(text(found, "annotations", "authorization.k8s.io/reason"))
    reference = inside(found, "objectRef")
    verb, kind, name = text(found, "verb"), text(reference, "resource"), text(reference, "name")
    shown = f"{verb} {kind}{'/' + name if name else ''}".strip()
    privileges: tuple[str, ...] = ()
    if match is not None:
        role = match[3]
        privileges = (f"{'clusterrole' if match[2] == 'ClusterRole' else 'role'}/{role}",)
    return Said(
        at=at, account=who or real, privileges=privileges, resource=text(reference, "namespace") or None,
        ticket=ticket_of_binding(match[1]) if match else None,
        by=real if who and who != real else None,
        action=f"{verb} {kind}", shown=shown, object=f"{text(reference, 'namespace')}/{kind}/{name}",
        own=text(found, "auditID"),
    )  # fmt: skip


KUBERNETES = Format(name="kubernetes", summary="the API server's audit log, JSON", read=_read)
