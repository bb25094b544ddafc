"""The table of known failures is whole, and names tests and rules that are there."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from regressions.failures import FAILURES, Failure

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import mutate  # noqa: E402  a tool, and no package

#: what stands between "asked" and "given", of the failures that are numbered
NUMBERED = {*(f"F{n}" for n in range(1, 10)), "F18", "F20", "F24"}
#: others that happened, each in somebody's issue
LISTED = 21


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@cache
def breaks(file: str) -> frozenset[str]:
    return frozenset(mutate.sentences(file))


def test_every_failure_is_in_the_table() -> None:
    named = [f.name for f in FAILURES]
    assert {n for n in named if re.fullmatch(r"F[0-9]+", n)} == NUMBERED
    assert len({n for n in named if n not in NUMBERED}) == LISTED


@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: f"{f.name}: {f.happened}")
def test_its_rule_and_its_tests_are_there(failure: Failure) -> None:
    assert failure.tests
    for test in (*failure.tests, *failure.beside):
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), path
        assert not name or name in functions(path), test
    if not isinstance(failure.without, str):
        file, what = failure.without
        assert any(each.startswith(what) for each in breaks(file)), failure.without
