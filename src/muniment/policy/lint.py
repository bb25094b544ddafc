"""What is wrong with a policy set that loads: policies that never speak, rules without a test, a light path too wide.

What makes a set unusable (an unknown annotation, an id twice, an attribute that the schema does not have) is refused
when it is loaded, by `loading`. What is found here is said by `muniment policy check`, and an error keeps a set from
being adopted.

**The light path.** Access on nobody's word, or on one person's, is only for scope that the catalogue calls bounded, on
targets that end access by themselves. So a permit of ordinary requests that asks for fewer than two approvals must say
`@native_expiry("required")`, which the core then enforces, and speak of bounded privileges only: by a condition,
`when { resource.bounded }`, or by `@scope_bounded("required")`, which also refuses a ticket that asks for anything else
besides. It is a rule over the text, and no text can take it away: it is judged before a set is the first of a ledger,
before two people look at it, and again when it is adopted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from muniment.policy.conditions import everything, impossible, parts, scope_key
from muniment.policy.loading import Rule
from muniment.policy.tables import Case

#: approvals below which a path is a light one
LIGHT = 2
_GLASS = {".": {"left": {"Var": "context"}, "attr": "break_glass"}}
_BOUNDED = {".": {"left": {"Var": "resource"}, "attr": "bounded"}}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something to mend. An error keeps the set from being adopted; a warning does not."""

    level: Literal["error", "warning"]
    rule: str  # which rule of ours: "light-path", "never-speaks", …
    policy: str | None
    file: str
    message: str
    remedy: str


def lint(
    rules: Mapping[str, Rule], cases: Collection[Case], groups: Collection[str] | None = None
) -> list[Finding]:
    """Everything that is found.

    Args:
        rules: the set's policies, by id.
        cases: what its tests came to.
        groups: the groups that somebody is in; None where nobody knows.
    """
    found = [*_light(rules.values()), *_silent(rules.values()), *_untested(rules.values(), cases)]
    found += [
        Finding(
            level="error", rule="test", policy=None, file=case.file, message=f"{case.name}: wanted {case.wanted}; got {case.got}",
            remedy="Mend the policy, or the test if it wants the wrong thing.",
        )
        for case in cases
        if not case.ok
    ]  # fmt: skip
    if groups is not None:
        found += _unknown_groups(rules.values(), groups)
    return sorted(found, key=lambda f: (f.level, f.file, f.policy or "", f.rule))


def _light(rules: Iterable[Rule]) -> Iterator[Finding]:
    for rule in rules:
        duty = rule.duty
        if duty is None or _only_break_glass(rule):
            continue
        approvals = sum(stage.needed for stage in duty.stages if not stage.consent)
        bounded = duty.scope_bounded or _wants(rule, _BOUNDED)
        lacking = [] if duty.native_expiry else ['@native_expiry("required")']
        lacking += [] if bounded else ["when { resource.bounded }"]
        if approvals < LIGHT and lacking:
            word = "nobody's word" if approvals == 0 else "one person's word"
            yield _finding(
                rule, "error", "light-path",
                f"it gives access on {word}, which is only for bounded scope on targets that end it themselves",
                f"Add {' and '.join(lacking)}, or ask for {LIGHT} approvals.",
            )  # fmt: skip


def _only_break_glass(rule: Rule) -> bool:
    """Break-glass has rules of its own: an incident, and a review by somebody else (I10)."""
    return _wants(rule, _GLASS)


def _wants(rule: Rule, attribute: Mapping[str, object]) -> bool:
    """Whether its condition holds only where this attribute is true."""
    return any(part.holds and part.expression == attribute for part in parts(rule.source))


def _silent(rules: Iterable[Rule]) -> Iterator[Finding]:
    rules = tuple(rules)
    forbids = [rule for rule in rules if not rule.permits]
    for rule in rules:
        why = impossible(rule.source)
        if why:
            kind = "permits" if rule.permits else "forbids"
            yield _finding(
                rule,
                "error",
                "never-speaks",
                f"it never {kind} anything: {why}",
                "Mend its condition, or remove it.",
            )
            continue
        above = next((f for f in forbids if rule.permits and _covers(f, rule)), None)
        if above:
            yield _finding(
                rule,
                "error",
                "unreachable",
                f"whatever it permits, {above.id} forbids",
                "Narrow one of the two.",
            )


def _covers(forbid: Rule, permit: Rule) -> bool:
    """Whether the forbid speaks whenever the permit does, by the text of both."""
    if not set(permit.actions) <= set(forbid.actions):
        return False
    if not everything(forbid.source) and scope_key(forbid.source) != scope_key(permit.source):
        return False
    return {part.key for part in parts(forbid.source)} <= {part.key for part in parts(permit.source)}


def _untested(rules: Iterable[Rule], cases: Collection[Case]) -> Iterator[Finding]:
    yes = {ident for case in cases if case.ok and case.permitted for ident in case.determining}
    no = {ident for case in cases if case.ok and not case.permitted for ident in case.determining}
    for rule in rules:
        if not rule.permits and rule.id not in no:
            yield _finding(
                rule, "error", "forbid-untested", "no test shows that it forbids anything",
                f'Add a row with answer = "no" and by = "{rule.id}" to a *.test.toml file beside the policies.',
            )  # fmt: skip
        if rule.permits and rule.id not in yes:
            yield _finding(
                rule, "warning", "permit-untested", "no test shows that it permits anything",
                f'Add a row with answer = "yes" and by = "{rule.id}" to a *.test.toml file beside the policies.',
            )  # fmt: skip


def _unknown_groups(rules: Iterable[Rule], groups: Collection[str]) -> Iterator[Finding]:
    for rule in rules:
        for group in sorted(rule.groups() - set(groups)):
            yield _finding(
                rule, "warning", "empty-group", f"it speaks of the group {group}, and nobody is in it",
                "Check the spelling, or put somebody into the group.",
            )  # fmt: skip


def _finding(rule: Rule, level: Literal["error", "warning"], name: str, message: str, remedy: str) -> Finding:
    return Finding(level=level, rule=name, policy=rule.id, file=rule.file, message=message, remedy=remedy)
