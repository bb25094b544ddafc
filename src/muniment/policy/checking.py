"""A folder of policies examined as a whole, as documents: what `muniment policy check` and `policy test` print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from muniment.core.errors import Misconfigured
from muniment.policy.cedar import CedarPolicy
from muniment.policy.lint import Finding, lint
from muniment.policy.loading import read_tests
from muniment.policy.tables import run

TRIAL = (
    "This is a single-person trial ([policy] single_person_trial): these policies are in force as they lie there, and"
    " nobody else has to agree."
)


def examine(folder: Path, *, trial: bool) -> dict[str, Any]:
    """Everything there is to say about a folder. Raises `Misconfigured` when it cannot be used at all.

    In a single-person trial a light path that is too wide is a warning: such a set can be tried, and not adopted.
    """
    policy = CedarPolicy.load(folder)
    cases = run(policy, read_tests(folder))
    findings = [_tried(each) if trial else each for each in lint(policy.rules, cases)]
    return {
        "ok": not any(each.level == "error" for each in findings),
        "digest": policy.digest,
        "policies": [
            {
                "id": rule.id, "file": rule.file, "effect": "permit" if rule.permits else "forbid",
                "actions": list(rule.actions), "message": rule.message,
            }
            for rule in policy.rules.values()
        ],
        "tests": {"asked": len(cases), "passed": sum(case.ok for case in cases)},
        "findings": [asdict(each) for each in findings],
        "says": TRIAL if trial else "",
    }  # fmt: skip


def ask_tables(folder: Path) -> dict[str, Any]:
    """Every row of a folder's tests. No rows at all is no success."""
    cases = run(CedarPolicy.load(folder), read_tests(folder))
    return {
        "ok": bool(cases) and all(case.ok for case in cases),
        "cases": [
            {"file": case.file, "name": case.name, "ok": case.ok, "wanted": case.wanted, "got": case.got}
            for case in cases
        ],
    }


def errors(folder: Path) -> list[Finding]:
    """What keeps a folder's set from being adopted."""
    policy = CedarPolicy.load(folder)
    return [each for each in lint(policy.rules, run(policy, read_tests(folder))) if each.level == "error"]


def too_light(files: Mapping[str, str]) -> list[Finding]:
    """Light paths of a set that are wider than Muniment lets them be."""
    return [each for each in lint(CedarPolicy(files).rules, ()) if each.rule == "light-path"]


def require_first(files: Mapping[str, str]) -> None:
    """Raise `Misconfigured` for a set that may be tried and not be the first of a ledger, to which nobody had to agree."""
    if light := too_light(files):
        raise Misconfigured(
            f"{light[0].file}: {light[0].policy}: {light[0].message}",
            remedy=f"{light[0].remedy} Or try it out, with [policy] single_person_trial = true.",
            code="config.policy",
        )


def _tried(finding: Finding) -> Finding:
    return replace(finding, level="warning") if finding.rule == "light-path" else finding
