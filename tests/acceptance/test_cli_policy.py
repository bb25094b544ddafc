"""`muniment policy` as somebody who writes policies meets it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from acceptance.conftest import ANN, AUD, Muniment


@pytest.fixture
def here(fresh: Path, tmp_path: Path) -> Muniment:
    """A folder of its own, with the program run in this process."""
    shutil.copytree(fresh, tmp_path / "here")
    return Muniment(tmp_path / "here", here=True)


def edit(where: Muniment, name: str, old: str, new: str) -> None:
    path = where.folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_init_writes_passes_check_and_its_own_tests(here: Muniment) -> None:
    checked = here.json("policy", "check")
    assert checked.status == 0, checked.err
    assert checked.document["findings"] == []
    assert "single-person trial" in checked.document["says"]
    tested = here.json("policy", "test")
    assert tested.status == 0
    count = len(tested.document["cases"])
    assert count == checked.document["tests"]["passed"] > 15
    assert f"{count} of {count} answer as wanted" in here("policy", "test").out


TRIAL, EARNEST = "single_person_trial = true", "single_person_trial = false"
GUESTS = """
@id("guests")
@approvers("owners")
permit (principal in Group::"guests", action == Action::"request", resource);
"""


@pytest.mark.parametrize("tried", [False, True], ids=["at once", "after a trial"])
def test_a_light_path_that_is_too_wide_can_be_tried_and_is_no_first_set(here: Muniment, tried: bool) -> None:
    guests = here.folder / "policies" / "guests.cedar"
    guests.write_text(GUESTS)
    assert light(here) == (0, ["warning"])
    if tried:
        here.filed()
    edit(here, "muniment.toml", TRIAL, EARNEST)
    assert light(here) == (1, ["error"])
    assert "cannot be adopted" in here("policy", "check").out
    for refused in (here.json("check"), here.request()):
        assert (refused.status, refused.error["code"]) == (2, "config.policy")
        assert "guests.cedar: guests: it gives access on one person's word" in refused.error["message"]
    guests.unlink()
    if tried:  # it is on record, and stays in force: what lies on disk is only a wish
        assert here.json("check").status == 2
        edit(here, "muniment.toml", EARNEST, TRIAL)
        here.filed()
        edit(here, "muniment.toml", TRIAL, EARNEST)
    here.filed()
    (said,) = [words for words in here.json("check").document["warnings"] if "first of this ledger" in words]
    assert said.endswith("nobody else had to agree to them")


def light(where: Muniment) -> tuple[int, list[str]]:
    """Exit status of `policy check`, and how it takes each light path that is too wide."""
    checked = where.json("policy", "check")
    return checked.status, [f["level"] for f in checked.document["findings"] if f["rule"] == "light-path"]


def test_a_policy_that_changed_its_mind_is_named_by_row(here: Muniment) -> None:
    edit(here, "policies/people.cedar", '@max_duration("4h")', '@max_duration("3h")')
    tested = here.json("policy", "test")
    assert tested.status == 1
    failed, *others = [case for case in tested.document["cases"] if not case["ok"]]
    assert failed["name"] == "an engineer in production"
    assert all("longest 4 h" in other["wanted"] for other in others)
    assert ("longest 4 h" in failed["wanted"], "longest 3 h" in failed["got"]) == (True, True)
    assert here.json("policy", "check").status == 1


def test_another_folder_can_be_tested_and_no_rows_are_no_success(here: Muniment, tmp_path: Path) -> None:
    shutil.copytree(here.folder / "policies", tmp_path / "proposed")
    assert here("policy", "test", "--dir", tmp_path / "proposed").status == 0
    (tmp_path / "proposed" / "starter.test.toml").unlink()
    assert here("policy", "test", "--dir", tmp_path / "proposed").status == 1
    (tmp_path / "proposed" / "x.test.toml").write_text("[[request]]")
    broken = here.json("policy", "test", "--dir", tmp_path / "proposed")
    assert (broken.status, broken.error["code"]) == (2, "config.policy-test")


def test_backtest_says_what_would_have_been_otherwise(here: Muniment, tmp_path: Path) -> None:
    short, long = here.filed("--for", "30m"), here.filed("--for", "3h")
    shutil.copytree(here.folder / "policies", tmp_path / "proposed")
    same = here.json("policy", "backtest", tmp_path / "proposed", who=AUD)
    assert (same.status, same.document["otherwise"], same.document["tickets"]) == (0, [], 2)
    text = (tmp_path / "proposed" / "people.cedar").read_text()
    (tmp_path / "proposed" / "people.cedar").write_text(
        text.replace('@max_duration("4h")', '@max_duration("2h")')
    )
    for processes in (1, 2):
        stricter = here.json("policy", "backtest", tmp_path / "proposed", "--processes", processes, who=AUD)
        (changed,) = stricter.document["otherwise"]
        assert (changed["ticket"], changed["was"], changed["how"]) == (
            long,
            "permitted",
            ["refused: at most 2 h"],
        )
        assert stricter.document["same"] == 1
    assert short not in here("policy", "backtest", tmp_path / "proposed", who=AUD).out
    assert "1 of 2 tickets" in here("policy", "backtest", tmp_path / "proposed", who=AUD).out
    assert (
        here.json("policy", "backtest", tmp_path / "proposed", who=ANN).error["code"]
        == "refused.not-an-auditor"
    )
    assert here.json("policy", "backtest", tmp_path / "none", who=AUD).error["code"] == "config.policy"
