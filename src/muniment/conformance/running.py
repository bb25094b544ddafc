"""Running the checks, with pytest or without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Literal, TypeAlias

import msgspec

from muniment.conformance.harness import Ground, Harness, NotApplicable
from muniment.connectors.kinds import imported
from muniment.core.errors import Misconfigured

GROUP = "muniment.connector_grounds"
Grounds: TypeAlias = Mapping[str, Callable[[], AbstractContextManager[Ground]]]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one check went."""

    check: str
    verdict: Literal["passed", "failed", "not applicable"]
    message: str = ""


def run(harness: Callable[[], AbstractContextManager[Harness]]) -> Iterator[Result]:
    """Run all checks, each on a harness of its own. Whatever a check raises is its failure."""
    from muniment.conformance import CHECKS  # noqa: PLC0415  the package gathers them from its modules

    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            with harness() as ready:
                check(ready)
        except NotApplicable as reason:
            yield Result(check=name, verdict="not applicable", message=str(reason))
        except Exception as error:  # noqa: BLE001 - it is reported, and the other checks still tell something
            yield Result(check=name, verdict="failed", message=f"{type(error).__name__}: {error}")
        else:
            yield Result(check=name, verdict="passed")


def grounds(kind: str) -> Grounds:
    """The real targets that a kind of connector can be tried on, by name. Starts nothing.

    Raises:
        Misconfigured: there is none, or its module cannot be imported.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == kind]
    if len(found) != 1:
        raise Misconfigured(
            f"the connector {kind} has {len(found) or 'no'} ground{'s' if found else ''} to be tried on",
            remedy=f"Its package registers one under the entry point group {GROUP}.",
            code="config.connector",
        )
    made: Grounds = imported(found[0], f"the ground of the connector {kind}")
    return made
