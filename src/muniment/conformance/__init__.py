"""What every connector must do, as checks that anybody can run against theirs, on a real target.

1. write a `Harness`: your connector, a real target, and ways to ask that target without the connector
2. write a `Ground`, which starts the target and makes harnesses on it, and register it beside your connector
3. ``muniment connector test NAME`` runs each of `CHECKS` with a fresh harness; `run` does so from Python. With
   pytest, parametrise over `CHECKS` and turn `NotApplicable` into a skip

A check raises `ConformanceFailure` with a sentence, or `NotApplicable` if the target has no such thing. `giving`,
`taking`, `observing`, `names` and `outages` ask the connector alone; `lives` has Muniment work through it, ticket by
ticket, on a store and a clock of their own.
"""

from muniment.conformance import giving, lives, names, observing, outages, taking
from muniment.conformance.harness import (
    Check,
    ConformanceFailure,
    Ground,
    Harness,
    Live,
    NeedsBuilding,
    NeedsRoot,
    NotApplicable,
    NotInstalled,
    Outage,
)
from muniment.conformance.running import Result, run

#: every check; its name says what must hold
CHECKS: tuple[Check, ...] = (
    *giving.CHECKS,
    *observing.CHECKS,
    *taking.CHECKS,
    *names.CHECKS,
    *outages.CHECKS,
    *lives.CHECKS,
)

__all__ = [
    "CHECKS",
    "Check",
    "ConformanceFailure",
    "Ground",
    "Harness",
    "Live",
    "NeedsBuilding",
    "NeedsRoot",
    "NotApplicable",
    "NotInstalled",
    "Outage",
    "Result",
    "run",
]
