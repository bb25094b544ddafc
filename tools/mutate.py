"""Break the gate on purpose, one place at a time, and see that a test notices.

    python tools/mutate.py gate              core: separation, filing, deciding, countering, extending, provisioning
    python tools/mutate.py policy            the policy engine's yes and no
    python tools/mutate.py gate --only core/separation.py
    python tools/mutate.py regressions       the rules of tests/regressions/failures.py, each with the tests named there

Tests are collected once. Each mutant runs in a child of that process: the code of one function is exchanged there, and
tests run until one fails, those that found the last mutants first. Nothing on disk changes. A mutant that no test
notices is printed, and counts against us: docs/explanation/mutation.md says which those are and why.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import inspect
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "muniment"
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gate": (
        (
            "core/separation.py", "core/filing.py", "core/approving.py", "core/countering.py", "core/delegation.py",
            "core/extending.py", "core/waiting.py", "core/fulfilling.py", "core/quorum.py", "core/lifecycle.py",
            "core/glass.py", "core/budget.py", "core/closure.py", "core/leaving.py", "core/login.py", "core/aftermath.py",
        ),
        tuple(
            f"tests/core/test_{name}.py"
            for name in (
                "gate", "giving", "filing", "stages", "countering", "waiting", "extending", "closure", "lifecycle_table", "signed", "budget", "leaving",
                "quorum", "deciding", "glass", "aftermath",
            )
        ),
    ),
    "policy": (
        (
            "policy/cedar.py", "policy/engine.py", "policy/approvers.py", "policy/obligations.py", "policy/conditions.py",
            "policy/slices.py",
        ),
        ("tests/policy",),
    ),
}  # fmt: skip
#: functions that choose words for a sentence, and decide nothing
WORDS = frozenset({"_others", "_relation", "_could", "_finding", "_out_of_order"})
#: a mutant that runs for longer runs in a circle, which a test would notice by its time
SECONDS = 120
#: tests that take as long as all others together, and look at something else
LEFT_OUT = ("test_examples", "test_backtest")

_SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.And: (ast.Or,), ast.Or: (ast.And,), ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
_CALLS = {"any": "all", "all": "any", "min": "max", "max": "min"}


#: of a function: what its arguments are when nothing is given, by place and by name, as far as they are constants
Defaults: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Mutant:
    """One broken place: the whole module, compiled, and where it was broken."""

    file: str
    line: int
    what: str
    codes: dict[str, CodeType] = field(hash=False, compare=False)
    defaults: dict[str, Defaults] = field(hash=False, compare=False)

    def sentence(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


# ── making mutants ──


def mutants(file: str, beginning: str = "") -> Iterator[Mutant]:
    """Every mutant of a file that changes the code of a function, or those whose sentence begins so."""
    text = (SOURCE / file).read_text(encoding="utf-8")
    tree = ast.parse(text)
    sound, given = _codes(compile(tree, file, "exec")), _defaults(tree)
    inside = list(_inside(tree))
    seen: set[int] = set()
    for number, node in enumerate(inside):
        if id(node) in seen:
            continue
        seen.add(id(node))
        for what, change in _changes(node):
            if not what.startswith(beginning):
                continue
            broken = copy.deepcopy(tree)
            twin = list(_inside(broken))[number]
            change(twin)
            codes = _codes(compile(ast.fix_missing_locations(broken), file, "exec"))
            changed = {name: code for name, code in codes.items() if code != sound.get(name)}
            others = {name: each for name, each in _defaults(broken).items() if each != given[name]}
            if changed or others:
                yield Mutant(file, getattr(node, "lineno", 0), what, changed, others)


def sentences(file: str) -> set[str]:
    """What could be broken in a file, without breaking it."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    return {what for node in _inside(tree) for what, _ in _changes(node)}


def _inside(tree: ast.AST) -> Iterator[ast.AST]:
    functions = (f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name not in WORDS)
    return (node for function in functions for node in _walk(function))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """A function and all in it but its annotations, which do nothing."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns"}:
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                yield from _walk(each)


def _changes(node: ast.AST) -> Iterator[tuple[str, Any]]:  # noqa: C901, PLR0912  one case a kind of mistake
    match node:
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                for other in _SWAPS.get(type(op), ()):
                    yield f"{ast.unparse(node)}: {type(op).__name__} → {other.__name__}", _set_op(at, other)
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in _SWAPS:
            for other in _SWAPS[type(op)]:
                yield f"{ast.unparse(node)}: {type(op).__name__} → {other.__name__}", _set(op=other())
        case ast.UnaryOp(op=ast.Not()):
            yield f"{ast.unparse(node)}: without not", _set(op=ast.UAdd(), operand=_truth(node.operand))
        case ast.If() | ast.IfExp():
            for value in (True, False):
                yield f"if {ast.unparse(node.test)}: always {value}", _set(test=ast.Constant(value))
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            yield (
                f"{ast.unparse(node)}: {name} → {_CALLS[name]}",
                _set(func=ast.Name(_CALLS[name], ast.Load())),
            )
        case ast.Constant(value=bool() as value):
            yield f"{value} → {not value}", _set(value=not value)
        case ast.Constant(value=int() as value):
            yield f"{value} → {value + 1}", _set(value=value + 1)
        case ast.comprehension(ifs=[_, *_]):
            yield f"without if {' if '.join(map(ast.unparse, node.ifs))}", _set(ifs=[])
        case _:
            yield from _without_statements(node)


def _without_statements(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """A check that is not called, an error that is not raised."""
    for name in ("body", "orelse"):
        statements = getattr(node, name, None)
        if isinstance(statements, list):
            for at, each in enumerate(statements):
                call = isinstance(each, ast.Expr) and isinstance(each.value, ast.Call)
                if call or isinstance(each, ast.Raise):
                    yield f"without {ast.unparse(each).splitlines()[0]:.90}", _pass(name, at)


def _truth(node: ast.expr) -> ast.Call:
    return ast.Call(func=ast.Name("bool", ast.Load()), args=[node], keywords=[])


def _set(**values: Any) -> Any:
    def change(node: ast.AST) -> None:
        for name, value in values.items():
            setattr(node, name, value)

    return change


def _set_op(at: int, other: type[ast.AST]) -> Any:
    def change(node: Any) -> None:
        node.ops[at] = other()

    return change


def _pass(name: str, at: int) -> Any:
    def change(node: ast.AST) -> None:
        getattr(node, name)[at] = ast.Pass()

    return change


def _codes(code: CodeType) -> dict[str, CodeType]:
    """Functions of a module and methods of its classes, by their qualified names."""
    found: dict[str, CodeType] = {}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if each.co_flags & inspect.CO_OPTIMIZED == 0:  # a class body, whose methods are in it
                found |= _codes(each)
            elif "<" not in each.co_qualname:
                found[each.co_qualname] = each
    return found


def _defaults(tree: ast.AST, inside: str = "") -> dict[str, Defaults]:
    """What the arguments of those functions are when nothing is given: only constants can be exchanged."""
    found: dict[str, Defaults] = {}
    for each in ast.iter_child_nodes(tree):
        if isinstance(each, ast.ClassDef):
            found |= _defaults(each, f"{inside}{each.name}.")
        elif isinstance(each, ast.FunctionDef):
            named = zip(each.args.kwonlyargs, each.args.kw_defaults, strict=True)
            found[inside + each.name] = (
                tuple(_constant(value) for value in each.args.defaults),
                {arg.arg: _constant(value) for arg, value in named if value is not None},
            )
    return found


def _constant(value: ast.expr) -> Any:
    return value.value if isinstance(value, ast.Constant) else ...


def exchange(mutant: Mutant) -> None:
    """Put the mutant's code into the functions that everybody refers to already."""
    module = importlib.import_module("muniment." + mutant.file.removesuffix(".py").replace("/", "."))
    for name, code in mutant.codes.items():
        function = _function(module, name)
        if function is not None and function.__code__.co_freevars == code.co_freevars:
            function.__code__ = code
    for name, (by_place, by_name) in mutant.defaults.items():
        function = _function(module, name)
        if function is not None:
            old = function.__defaults__ or ()
            function.__defaults__ = tuple(o if n is ... else n for o, n in zip(old, by_place, strict=True))
            named = {arg: value for arg, value in by_name.items() if value is not ...}
            function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), **named}


def _function(module: ModuleType, name: str) -> FunctionType | None:
    found: Any = module
    for part in name.split("."):
        found = vars(found).get(part)
    if isinstance(found, property):
        found = found.fget
    found = getattr(found, "__func__", getattr(found, "__wrapped__", found))
    return found if isinstance(found, FunctionType) else None


# ── running tests ──


class Runner:
    """A plugin of pytest that, instead of running what was collected once, runs it for each mutant."""

    def __init__(self, made: list[Mutant], *, quick: bool) -> None:
        self.made, self.quick = made, quick
        self.survived: list[Mutant] = []
        self.killers: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [
            i
            for i in items
            if not any(word in i.nodeid for word in LEFT_OUT) and not (self.quick and _is_property(i))
        ]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = sorted(session.items, key=_is_property)
        began = time.monotonic()
        if (failed := self._child(items, None)) is not None:
            sys.exit(f"a test fails without any mutant: {failed}")
        print(
            f"{len(items)} tests, {len(self.made)} mutants; all tests take {time.monotonic() - began:.0f} s",
            flush=True,
        )
        for number, mutant in enumerate(self.made, 1):
            order = sorted(items, key=lambda i: -self.killers[i.nodeid])
            killer = self._child(order, mutant)
            if killer is None:
                self.survived.append(mutant)
                print(f"survived  {mutant.sentence()}", flush=True)
            else:
                self.killers[killer] += 1
            if number % 50 == 0:
                took = time.monotonic() - began
                print(
                    f"{number} of {len(self.made)}, {len(self.survived)} survived, {took:.0f} s", flush=True
                )
        return True

    def _child(self, items: list[pytest.Item], mutant: Mutant | None) -> str | None:
        """Run in a child; the test that failed, or None."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            signal.alarm(SECONDS)
            signal.signal(signal.SIGALRM, lambda *_: (os.write(write, b'"time"'), os._exit(0)))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            try:
                if mutant is not None:
                    exchange(mutant)
                os.write(write, json.dumps(_first_failure(items)).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            said = answer.read()
        os.waitpid(child, 0)
        return json.loads(said) if said else "it crashed"


def _is_property(item: pytest.Item) -> bool:
    return hasattr(getattr(item, "function", None), "hypothesis")


def _first_failure(items: list[pytest.Item]) -> str | None:
    for at, item in enumerate(items):
        following = items[at + 1] if at + 1 < len(items) else None
        if any(r.failed for r in runtestprotocol(item, nextitem=following, log=False)):
            return item.nodeid
    return None


class Regressions(Runner):
    """Takes out the rule of each row of the table of known failures, and sees each of its tests fail."""

    def __init__(self, rows: list[Any]) -> None:
        super().__init__([], quick=False)
        self.rows, self.blind = rows, 0

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for row in self.rows:
            if isinstance(row.without, str):
                print(f"-         {row.name}: {row.without}", flush=True)
                continue
            file, what = row.without
            broken = list(mutants(file, what))
            for test in row.tests:
                items = [i for i in session.items if i.nodeid == test or i.nodeid.startswith(f"{test}[")]
                seen = bool(items and broken) and all(self._child(items, mutant) for mutant in broken)
                self.blind += not seen
                print(
                    f"{'fails' if seen else 'PASSES':<9} {row.name}: {test} without {file}: {what}",
                    flush=True,
                )
        return True


def regressions() -> int:
    """Exit status 0 when every test of the table fails without its rule."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "tests"))
    rows = list(importlib.import_module("regressions.failures").FAILURES)
    runner = Regressions(rows)
    tests = dict.fromkeys(test for row in rows if not isinstance(row.without, str) for test in row.tests)
    words = ["-q", "-p", "no:cacheprovider", "-n", "0", "-p", "no:randomly", "--no-header"]
    pytest.main([*words, *tests], plugins=[runner])
    return 1 if runner.blind else 0


def main() -> int:
    """Exit status 0 when nine of ten mutants are noticed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("group", choices=[*GROUPS, "regressions"])
    options.add_argument("--only", help="one file of the group")
    options.add_argument("--quick", action="store_true", help="tables only, without properties")
    options.add_argument(
        "--share", default="1/1", metavar="N/M", help="only every M-th mutant, beginning with N"
    )
    given = options.parse_args()
    if given.group == "regressions":
        return regressions()
    files, tests = GROUPS[given.group]
    part, parts = map(int, given.share.split("/"))
    made = [m for file in files if given.only in {None, file} for m in mutants(file)][part - 1 :: parts]
    runner = Runner(made, quick=given.quick)
    os.chdir(ROOT)
    found = [path for path in tests if (ROOT / path).exists()]
    pytest.main(
        ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "--no-header", *found],
        plugins=[runner],
    )
    killed = len(made) - len(runner.survived)
    print(f"{killed} of {len(made)} mutants were noticed ({100 * killed / max(1, len(made)):.1f} %)")
    return 0 if killed >= 0.9 * len(made) else 1


if __name__ == "__main__":
    sys.exit(main())
