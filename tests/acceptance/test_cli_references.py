"""A change or incident that policy demands must exist and be open: when filing, and again when access is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from acceptance.conftest import ANN, BO, CYD, Muniment
from acceptance.test_cli_policy import edit


@pytest.fixture
def where(fresh: Path, tmp_path: Path) -> Muniment:
    """Production demands an open change, and break-glass an open incident."""
    shutil.copytree(fresh, tmp_path / "here")
    here = Muniment(tmp_path / "here", here=True)
    edit(here, "muniment.toml", "[policy]\n", '[references]\nfile = "references.toml"\n\n[policy]\n')
    edit(
        here, "policies/people.cedar", '@max_duration("4h")', '@max_duration("4h")\n@reference_open("change")'
    )
    edit(
        here,
        "policies/people.cedar",
        '@min_approvals("0")',
        '@min_approvals("0")\n@reference_open("incident")',
    )
    listed(here, CHG7=True, CHG8=False)
    return here


def listed(where: Muniment, **states: bool) -> None:
    kinds = {"CHG": "change", "INC": "incident"}
    rows = [
        f'[{kinds[name[:3]]}."{name[:3]}-{name[3:]}"]\nopen = {str(state).lower()}\n'
        for name, state in states.items()
    ]
    (where.folder / "references.toml").write_text("".join(rows))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), "refused.reference-not-open"),
        (("--reference", "change=CHG-8"), "refused.reference-not-open"),
        (("--reference", "change=CHG-9"), "refused.reference-not-open"),
        (("--reference", "incident=CHG-7"), "refused.reference-not-open"),
        (("--reference", "change=CHG-7"), None),
    ],
    ids=["none", "closed", "unknown", "of another kind", "open"],
)
def test_when_filing(where: Muniment, words: tuple[str, ...], code: str | None) -> None:
    answer = where.request(*words)
    assert (answer.error["code"] if answer.status else None) == code
    assert len(where.tickets()) == (code is None)


def test_a_change_that_was_closed_meanwhile_gives_nothing(where: Muniment) -> None:
    ticket = where.filed("--reference", "change=CHG-7")
    listed(where, CHG7=False)
    where.json("approve", ticket, who=CYD)
    document = where.json("show", ticket, who=ANN).document
    assert document["status"] == "denied"
    assert "an open change" in document["policy"]["reasons"][0]


def test_a_list_that_cannot_be_read_stops_giving_and_not_looking(where: Muniment) -> None:
    ticket = where.filed("--reference", "change=CHG-7")
    (where.folder / "references.toml").write_text("[change")
    unsaid = where.request("--reference", "change=CHG-7")
    assert (unsaid.status, unsaid.error["code"]) == (3, "unavailable")
    where.json("approve", ticket, who=CYD)
    assert where.json("show", ticket, who=ANN).document["status"] == "approved"  # tried again later
    assert any("cannot be said" in words for words in where.json("check").document["warnings"])
    listed(where, CHG7=True)
    assert where.json("check").document["warnings"][1:] == []


def test_break_glass_names_an_open_incident(where: Muniment) -> None:
    glass = ("--break-glass", "--incident", "INC-1")
    assert where.request(*glass, who=BO).error["code"] == "refused.reference-not-open"
    listed(where, INC1=True)
    assert where.request(*glass, who=BO).document["status"] in {"approved", "active"}


def test_without_a_list_nothing_is_known_to_be_open(where: Muniment) -> None:
    edit(where, "muniment.toml", '[references]\nfile = "references.toml"\n', "")
    assert where.request("--reference", "change=CHG-7").error["code"] == "refused.reference-not-open"


def test_preview_says_what_the_core_would_refuse(where: Muniment) -> None:
    asked = ("preview", "bastion", "web-admin", "--for", "1h", "--reason", "x", "--public-key", where.key)
    document = where.json(*asked, who=ANN).document
    assert document["permitted"] is False
    assert any("an open change" in reason for reason in document["reasons"])
    longer = where.json(*asked, "--for", "6h", "--reference", "change=CHG-7", who=ANN).document
    assert longer["permitted"] is False
    assert any("at most 4 h" in reason for reason in longer["reasons"])
    fine = where.json(*asked, "--reference", "change=CHG-7", who=ANN).document
    assert fine["permitted"] is True
    assert fine["possible_approvers"] == [CYD, "human:dee@example.com"]
