"""From policy files to rules: everything that can be wrong with a policy set is said here, before it is in force.

A set is the ``*.cedar`` files of one folder and our schema. Each policy has an ``@id``, once in the whole set; a
permit is for exactly one action; annotations are words we know; Cedar's own validator passes it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cedarpy

from muniment.core.errors import Misconfigured
from muniment.policy.obligations import COMMON, DUTIES, Duty, parse_duty

Action: TypeAlias = Literal["request", "approve"]
ACTIONS: tuple[Action, ...] = ("request", "approve")
SCHEMA = "schema.cedarschema"
#: how the names of files with tests end
TESTS = ".test.toml"
MAX_FILE = 1 << 20

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One policy."""

    id: str
    file: str
    permits: bool  # else it forbids
    actions: tuple[Action, ...]
    message: str | None
    duty: Duty | None  # of a permit of a request
    source: Mapping[str, Any]  # Cedar's JSON

    def groups(self) -> frozenset[str]:
        """Every group that its conditions or annotations name."""
        found = {str(n["id"]) for n in nodes(self.source) if n.get("type") == "Group" and "id" in n}
        named = self.duty.named() if self.duty else ()
        return frozenset(found | {who.removeprefix("group:") for who in named if who.startswith("group:")})


def read_folder(folder: Path) -> dict[str, str]:
    """Name and text of each policy file in a folder. Hidden files, ``*.md`` and tests may lie beside, nothing else."""
    files = {}
    for path in _paths(folder):
        if path.name.startswith(".") or path.suffix == ".md" or path.name.endswith(TESTS):
            continue
        if path.suffix != ".cedar" or not path.is_file():
            raise _wrong(
                f"{path} is not a policy file",
                "Policies are files named *.cedar, side by side in one folder; move anything else out of it.",
            )
        files[path.name] = _read(path)
    return files


def read_tests(folder: Path) -> dict[str, str]:
    """Name and text of each file of tests in a policy folder."""
    return {path.name: _read(path) for path in _paths(folder) if path.name.endswith(TESTS)}


def schema_text() -> str:
    """The schema of this version."""
    return resources.files("muniment.policy").joinpath(SCHEMA).read_text(encoding="utf-8")


def digest_of(files: Mapping[str, str]) -> str:
    """``sha256:`` over the names and texts of all files, the schema among them."""
    content = json.dumps(sorted(files.items()), ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def parse_rules(files: Mapping[str, str], schema: cedarpy.Schema) -> dict[str, Rule]:
    """The rules of all files, by id. Raises `Misconfigured`, naming file and policy."""
    rules: dict[str, Rule] = {}
    for name, text in sorted(files.items()):
        if name == SCHEMA:
            continue
        for rule in _parse_file(name, text, schema):
            if rule.id in rules:
                raise _wrong(
                    f'{name}: the policy id "{rule.id}" is in {rules[rule.id].file} already',
                    "Decisions are recorded by policy id: give each policy its own.",
                )
            rules[rule.id] = rule
    if not rules:
        raise _wrong(
            "the policy folder holds no policy",
            "`muniment init` writes starter policies; copy them from there.",
        )
    return rules


def nodes(source: Any) -> Iterator[dict[str, Any]]:
    """Every object within a policy's JSON."""
    stack = [source]
    while stack:
        node = stack.pop()
        if isinstance(node, Mapping):
            yield dict(node)
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _parse_file(name: str, text: str, schema: cedarpy.Schema) -> Iterator[Rule]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise _wrong(
            f"{name}{_last_good(text)}: {error}", "Look for a missing bracket, quote or semicolon there."
        ) from error
    if parsed["templates"] or parsed["templateLinks"]:
        raise _wrong(f"{name} holds a policy template (?principal or ?resource)", "Write the policy out.")
    rules = {key: _rule(name, source) for key, source in parsed["staticPolicies"].items()}
    for problem in cedarpy.validate_policies(text, schema).errors:
        rule = rules.get(problem.policy_id)
        where = f'{name}: policy "{rule.id}"' if rule else name
        why = problem.error.removeprefix(f"for policy `{problem.policy_id}`, ")
        raise _wrong(f"{where}: {why}", f"{SCHEMA} says what policies can speak about.")
    yield from rules.values()


def _rule(name: str, source: Mapping[str, Any]) -> Rule:
    annotations: dict[str, str | None] = source.get("annotations", {})
    ident = annotations.get("id")
    if not ident or not _ID.fullmatch(ident):
        raise _wrong(
            f"{name}: a {source['effect']} policy has " + (f"the id {ident!r:.80}" if ident else "no @id"),
            'Begin it with @id("some-name"), of letters, digits, dot, hyphen and underscore.',
        )
    where = f'{name}: policy "{ident}"'
    permits = source["effect"] == "permit"
    actions = _actions(source["action"])
    if permits and len(actions) != 1:
        raise _wrong(
            f"{where} is not for exactly one action",
            'A permit says action == Action::"request" or action == Action::"approve".',
        )
    asks = permits and actions == ("request",)
    known = COMMON | DUTIES if asks else COMMON
    for key, value in annotations.items():
        if key not in known:
            which = "a permit of a request" if asks else "this policy"
            raise _wrong(
                f"{where} has the annotation @{key}", f"{which} may have {', '.join(sorted(known))}."
            )
        if not value:
            raise _wrong(f"{where} has @{key} without a value", f'Write @{key}("…").')
    _refuse_blind_spots(where, source)
    given = {key: value for key, value in annotations.items() if value}
    return Rule(
        id=ident, file=name, permits=permits, actions=actions, message=given.get("message"),
        duty=parse_duty(given, where) if asks else None, source=source,
    )  # fmt: skip


def _actions(scope: Mapping[str, Any]) -> tuple[Action, ...]:
    if scope.get("op") != "==":
        return ACTIONS  # Cedar narrows a list further; a forbid for all is for each
    return tuple(action for action in ACTIONS if scope["entity"]["id"] == action) or ACTIONS


def _refuse_blind_spots(where: str, source: Mapping[str, Any]) -> None:
    """A manager's groups are not in the slice, so ``principal.manager in …`` would be false without an error."""
    for node in nodes(source):
        left = node.get("in", {}).get("left", {}) if isinstance(node.get("in"), Mapping) else {}
        if any(isinstance(n.get("."), Mapping) and n["."].get("attr") == "manager" for n in nodes(left)):
            raise _wrong(f'{where} looks for a manager with "in"', "Compare a manager with == or contains.")


def _last_good(text: str) -> str:
    """Where a file stops being readable: Cedar does not say. Only for the error message."""
    good, ends = 0, [at for at, character in enumerate(text[:50_000]) if character == ";"]
    for end in ends[:100]:
        try:
            cedarpy.policies_to_json_str(text[: end + 1])
            good = end + 1
        except ValueError:
            continue
    return (
        f", in the policy after line {text.count(chr(10), 0, good) + 1}" if good else ", in its first policy"
    )


def _paths(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _wrong(
            f"the policy folder {folder} cannot be read: {error.strerror}",
            "Check [policy] dir in the configuration.",
        ) from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from error
    if len(content) > MAX_FILE:
        raise _wrong(f"{path} is longer than 1 MiB", "Split it into several files.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _wrong(f"{path} is not UTF-8 text (at byte {error.start})", "Save it as UTF-8.") from error


def _wrong(message: str, remedy: str) -> Misconfigured:
    return Misconfigured(message, remedy=remedy, code="config.policy")
