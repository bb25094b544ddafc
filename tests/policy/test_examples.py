"""The worked examples are sound, and stay so: `policy check` and `policy test` find nothing in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acceptance.conftest import run_here
from muniment.policy.checking import ask_tables, examine

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/policies/*.test.toml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=[f.parent.name for f in FOLDERS])
def test_an_example_can_be_adopted_as_it_is(folder):
    document = examine(folder, trial=False)
    assert document["findings"] == []
    assert document["ok"]
    assert document["tests"]["asked"] > len(document["policies"])


@pytest.mark.parametrize("folder", FOLDERS, ids=[f.parent.name for f in FOLDERS])
def test_every_row_answers_as_wanted(folder):
    wrong = [(c["name"], c["wanted"], c["got"]) for c in ask_tables(folder)["cases"] if not c["ok"]]
    assert wrong == []
    for verb in ("test", "check"):  # neither needs a configuration
        answer = run_here("policy", verb, "--dir", folder)
        assert answer.status == 0, answer.out


def test_the_company_is_read_in_ten_minutes():
    """Three files and their rows; a security engineer reads about forty lines a minute."""
    lines = sum(
        len(path.read_text().splitlines()) for path in (EXAMPLES / "company").glob("policies/*.cedar")
    )
    assert lines + len((EXAMPLES / "company" / "README.md").read_text().splitlines()) < 400


def test_there_is_an_example():
    assert FOLDERS


def test_another_folder_is_checked_as_it_would_be_adopted(tmp_path):
    """What a trial of one's own would let pass is an error there."""
    (tmp_path / "wide.cedar").write_text(
        '@id("wide") permit (principal, action == Action::"request", resource);'
    )
    answer = run_here("policy", "check", "--dir", tmp_path, "--json")
    assert answer.status == 1
    (light,) = [f for f in json.loads(answer.out)["findings"] if f["rule"] == "light-path"]
    assert (light["level"], light["policy"]) == ("error", "wide")
    assert run_here("policy", "check", "--dir", tmp_path / "none").status == 2
