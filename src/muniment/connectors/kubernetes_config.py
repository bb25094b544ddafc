"""A configuration for kubectl and its like, with tokens that were issued. JSON is YAML, too."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import msgspec

from muniment.core.scope import Privilege


def kubeconfig(server: str, ca: bytes, tokens: Sequence[tuple[Privilege, str]]) -> str:
    """A context for each token, which is named like what it is of; the first is the current one.

    Args:
        server: the cluster's URL.
        ca: PEM of its authority; empty where the system's own are believed.
        tokens: each with the service account and its namespace.
    """
    cluster = {"server": server} | ({"certificate-authority-data": b64encode(ca).decode()} if ca else {})
    names = [f"{item.resource}/{item.privilege.rpartition('/')[2]}" for item, _ in tokens]
    given = list(zip(names, tokens, strict=True))
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": names[0],
        "clusters": [{"name": "muniment", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}} for name, (_, token) in given],
        "contexts": [
            {"name": name, "context": {"cluster": "muniment", "user": name, "namespace": item.resource}}
            for name, (item, _) in given
        ],
    }  # fmt: skip
    return msgspec.json.encode(document).decode()
