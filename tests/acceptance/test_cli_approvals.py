"""Counter-offers, delegation, extensions and bundles from the command line, as people type them."""

from __future__ import annotations

import pytest

from acceptance.conftest import ANN, BO, CYD, DEE, Muniment


def must(answer):
    assert answer.status == 0, answer.err
    return answer.document


def test_a_counter_offer(here: Muniment) -> None:
    asked = here.filed("--for", "2h")
    offered = must(here.json("counter", asked, "--for", "30m", "--comment", "half an hour will do", who=CYD))
    assert offered["offer"]["duration"] == "PT30M"
    assert offered["status"] == "pending"
    assert "half an hour will do" in here("show", asked, who=ANN).out
    wrong = here.json("accept", asked, "--digest", "sha256:00", who=ANN)
    assert (wrong.status, wrong.error["code"]) == (1, "refused.stale-offer")
    taken = must(here.json("accept", asked, who=ANN))
    assert (taken["window"]["duration"], taken["digest"]) == ("PT30M", offered["offer"]["digest"])
    stale = here.json("approve", asked, "--digest", offered["digest"], who=CYD)
    assert (stale.status, stale.error["code"]) == (1, "refused.stale-approval")
    assert must(here.json("approve", asked, who=CYD))["status"] == "active"


@pytest.mark.parametrize("words", [["--for", "9h"], ["--privilege", "nothing"], []])
def test_an_offer_that_cannot_be_meant(here: Muniment, words: list[str]) -> None:
    answer = here.json("counter", here.filed(), *words, "--comment", "x", who=CYD)
    assert answer.status == 2
    assert answer.error["remedy"]


def test_deciding_for_somebody(here: Muniment) -> None:
    asked = here.filed()
    given = must(here.json("delegate", BO, "--for", "2d", "--reason", "holidays", who=CYD))
    assert (given["by"], given["to"], given["in_force"]) == (CYD, BO, True)
    assert [d["id"] for d in must(here.json("delegation", "list", who=BO))["items"]] == [given["id"]]
    [decision] = must(here.json("approve", asked, who=BO))["decisions"]
    assert (decision["approver"], decision["on_behalf_of"]) == (BO, CYD)
    assert "on behalf of" in here("show", asked, who=ANN).out
    assert must(here.json("delegation", "end", given["id"], who=CYD))["ended"]
    for words, status in (
        (["delegate", BO, "--reason", "x"], 2),
        (["delegate", BO, "--for", "2d", "--until", "2030-01-01T00:00:00Z", "--reason", "x"], 2),
        (["delegate", CYD, "--for", "2d", "--reason", "x"], 2),
        (["delegate", "ai_agent:bot", "--for", "2d", "--reason", "x"], 1),
        (["delegate", BO, "--for", "365d", "--reason", "x"], 2),
        (["delegation", "end", "dlg_none"], 1),
    ):
        answer = here.json(*words, who=CYD)
        assert (answer.status, bool(answer.error["remedy"])) == (status, True), words


def test_access_that_goes_on(here: Muniment) -> None:
    asked = here.filed()
    early = here.json("extend", asked, "--for", "1h", "--reason", "more", who=ANN)
    assert (early.status, early.error["code"]) == (1, "refused.status")
    before = must(here.json("approve", asked, who=CYD))
    after = must(here.json("extend", asked, "--for", "1h", "--reason", "it takes longer", who=ANN))
    assert after["extends"] == asked
    assert after["window"]["starts_at"] == before["window"]["expires_at"]
    assert must(here.json("approve", after["id"], who=DEE))["status"] == "approved"


BUNDLE = """
for = "1h"
reason = "release 17"
[[tickets]]
target = "bastion"
privileges = ["web-admin"]
public-key = "{key}"
[[tickets]]
target = "bastion"
privileges = ["web-admin"]
reason = "and again"
for = "30m"
public-key = "{key}"
"""


def test_several_at_once(here: Muniment) -> None:
    file = here.folder / "release.toml"
    file.write_text(BUNDLE.format(key=here.key))
    filed = must(here.json("bundle", file, who=ANN))["items"]
    assert [d["justification"] for d in filed] == ["release 17", "and again"]
    assert [d["bundle"] for d in filed] == [[d["id"] for d in filed]] * 2
    assert filed[1]["id"] in here("show", filed[0]["id"], who=ANN).out
    assert must(here.json("approve", filed[0]["id"], who=CYD))["status"] == "active"
    assert must(here.json("show", filed[1]["id"], who=ANN))["status"] == "pending"


@pytest.mark.parametrize(
    "text",
    ["", "for =", "[[tickets]]\ntarget = 1", BUNDLE.replace('for = "1h"\n', "", 1), BUNDLE.replace("privileges", "what", 1),
     BUNDLE.replace("bastion", "nowhere"), BUNDLE.partition('[[tickets]]\ntarget = "bastion"\nprivileges = ["web-admin"]\nreason')[0]],
)  # fmt: skip
def test_a_bundle_that_cannot_be_meant_files_nothing(here: Muniment, text: str) -> None:
    file = here.folder / "release.toml"
    file.write_text(text.replace("{key}", str(here.key)))
    answer = here.json("bundle", file, who=ANN)
    assert (answer.status, bool(answer.error["remedy"])) == (2, True)
    assert here.tickets() == []


def test_nobody_who_could_approve_is_said_when_it_is_filed(here: Muniment) -> None:
    people = here.folder / "identities.toml"
    people.write_text(people.read_text().replace('groups = ["platform"]', 'groups = ["nobody"]'))
    answer = here(
        "request", "bastion", "web-admin", "--for", "1h", "--reason", "x", "--public-key", here.key, who=ANN
    )
    assert answer.status == 0
    assert "nobody active is in group:platform" in " ".join(answer.out.split())
