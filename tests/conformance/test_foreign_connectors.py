"""A connector in somebody else's package: found by its entry point, configured, tried, and refused where it must be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from muniment.conformance import CHECKS

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/connector"


def install(
    folder: Path, name: str = "muniment-doors", sources: Path = EXAMPLE, **points: str
) -> dict[str, str]:
    """What an installer leaves behind of the package, and the environment in which Python finds it."""
    groups = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    groups["muniment.connectors"] |= points
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [
        row
        for group, found in groups.items()
        for row in (f"[{group}]", *(f"{k} = {v}" for k, v in found.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MUNIMENT_")}
    return kept | {"PYTHONPATH": f"{folder}{os.pathsep}{sources}"}


def muniment(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    program = (sys.executable, "-m", "muniment")
    return subprocess.run(
        [*program, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_example_is_listed_and_passes_the_suite(tmp_path: Path):
    environment = install(tmp_path)
    listed = json.loads(muniment(environment, "connector", "list", "--json").stdout)["items"]
    assert {item["connector"]: item["packages"] for item in listed}["doors"] == ["muniment-doors 0.1.0"]
    done = muniment(environment, "connector", "test", "doors", "--json")
    document = json.loads(done.stdout)
    [ground] = document["grounds"]
    failed = [check for check in ground["checks"] if check["verdict"] == "failed"]
    assert (done.returncode, document["ok"], failed) == (0, True, [])
    assert len(ground["checks"]) == len(CHECKS)
    passed = {check["check"] for check in ground["checks"] if check["verdict"] == "passed"}
    assert len(passed) >= 28
    assert "a target that is down at the end is revoked when it is back" in passed


def test_a_connector_that_keeps_what_it_should_take_fails_the_suite(tmp_path: Path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("doors.py", "doors_ground.py"):
        (broken / name).write_text(
            (EXAMPLE / name).read_text().replace("set.difference", "lambda old, gone: old")
        )
    done = muniment(install(tmp_path, sources=broken), "connector", "test", "doors", "--json")
    assert done.returncode == 1
    checks = {c["check"]: c["verdict"] for c in json.loads(done.stdout)["grounds"][0]["checks"]}
    assert checks["a whole life leaves everything as it was"] == "failed"
    assert checks["only what was added is removed"] == "failed"
    assert checks["what is provisioned the target itself shows"] == "passed"


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"openssh": "doors:KIND"}, "the connector openssh is brought by muniment and muniment-doors"),
        ({"gone": "no_such_module:KIND"}, "the connector gone of muniment-doors cannot be loaded"),
        ({"odd": "doors:Doors"}, "the connector odd of muniment-doors is no `Kind`"),
    ],
)
def test_what_is_not_to_be_trusted_is_refused(points: dict[str, str], message: str, tmp_path: Path):
    """A package that takes the name of ours would get our targets' credentials: nobody is loaded then."""
    environment = install(tmp_path, **points)
    done = muniment(environment, "connector", "show", next(iter(points)), "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (2, "config.connector")
    assert message in error["message"]
    assert error["remedy"]
    assert muniment(environment, "connector", "list").returncode == 0  # the others are there all the same


def test_an_unknown_ground_and_kind(tmp_path: Path):
    environment = install(tmp_path)
    for words, code in (
        (("test", "doors", "--on", "castle"), "usage"),
        (("test", "windows"), "config.connector"),
        (("show", "windows"), "config.connector"),
    ):
        done = muniment(environment, "connector", *words, "--json")
        assert (done.returncode, json.loads(done.stderr)["error"]["code"]) == (2, code)
