"""Rights of our own account on a cluster, as rules of RBAC: printed for people, and what the conformance suite runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

GROUP = "rbac.authorization.k8s.io"
Rule: TypeAlias = dict[str, list[str]]
#: by namespace; None: everywhere
Rules: TypeAlias = Mapping[str | None, Sequence[Rule]]


def rule(verbs: str, *resources: str, group: str = GROUP, names: Sequence[str] = ()) -> Rule:
    """One of them; ``names`` narrows it to these objects."""
    found = {"apiGroups": [group], "resources": list(resources), "verbs": verbs.split()}
    return found | ({"resourceNames": list(names)} if names else {})


def setup(rules: Rules) -> str:
    """Objects as ``kubectl apply`` takes them, and the account that they are for. JSON is YAML, too."""
    text = [
        "kubectl create namespace muniment; kubectl create serviceaccount muniment -n muniment",
        "kubectl apply -f - <<'END'",
    ]
    for namespace, needed in rules.items():
        kind = "ClusterRole" if namespace is None else "Role"
        meta = "{name: muniment}" if namespace is None else f"{{name: muniment, namespace: {namespace}}}"
        head = f"apiVersion: {GROUP}/v1\n"
        text += [
            f"{head}kind: {kind}\nmetadata: {meta}\nrules:",
            *(f"- {msgspec.json.encode(each).decode()}" for each in needed),
            f"---\n{head}kind: {kind}Binding\nmetadata: {meta}",
            f"roleRef: {{apiGroup: {GROUP}, kind: {kind}, name: muniment}}",
            "subjects: [{kind: ServiceAccount, name: muniment, namespace: muniment}]\n---",
        ]
    return "\n".join([*text[:-1], text[-1].removesuffix("\n---"), "END"]) + "\n"
