"""Connectors by kind. A kind's module is imported when a target of that kind is configured, not before.

A connector passes the checks of `muniment.connectors.conformance`, ours or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TypeAlias

from muniment.core.errors import Misconfigured
from muniment.core.scope import Privilege
from muniment.ports import Connector

#: name of the target, its settings, how to resolve a secret's reference, its catalogue
Builder: TypeAlias = Callable[
    [str, Mapping[str, object], Callable[[str], str], Sequence[Privilege]], Connector
]

#: what ``connector = "…"`` may say, and where its builder is
KINDS: dict[str, str] = {
    "openssh": "muniment.connectors.openssh:build",
    "postgresql": "muniment.connectors.postgresql:build",
}


def build_connector(
    kind: str,
    *,
    name: str,
    settings: Mapping[str, object],
    secret: Callable[[str], str],
    catalogue: Sequence[Privilege],
) -> Connector:
    """Make the connector of the target ``name``. Reaches nothing.

    Raises:
        Misconfigured: no such kind, or settings that it cannot use.
    """
    if kind not in KINDS:
        raise Misconfigured(
            f"target {name}: there is no connector {kind!r:.80}", remedy=f"Known are {', '.join(KINDS)}."
        )
    module, _, function = KINDS[kind].partition(":")
    builder: Builder = getattr(import_module(module), function)
    return builder(name, settings, secret, catalogue)
