"""Reconciliation by the program: found, looked at, explained, accepted, and declared by two people."""

from __future__ import annotations

from acceptance.conftest import ANN, AUD, CYD, DEE, OPS, Muniment
from acceptance.test_cli_changes import SOUND

RECONCILE = '\n[reconcile]\nbaseline = "baseline.toml"\n'


def configured(here: Muniment, *, trial: bool = True) -> None:
    config = here.folder / "muniment.toml"
    text = config.read_text() + RECONCILE
    config.write_text(text if trial else text.replace("single_person_trial = true", f'approvers = ["{CYD}"]'))
    (here.folder / "baseline.toml").write_text("")


def declare(here: Muniment, account: str = "ghost") -> None:
    (here.folder / "baseline.toml").write_text(
        f'[[standing]]\ntarget = "bastion"\naccount = "{account}"\nprivilege = "web-admin"\n'
        'owner = "human:dee@example.com"\nrecertify_by = 2099-01-01\nreason = "as found"\n'
    )


def test_a_run_says_what_is_wrong_and_how_it_ends(here: Muniment) -> None:
    configured(here)
    declare(here)  # and nobody holds it
    made = here.json("reconcile", who=OPS)
    assert made.status == 1, made.err
    [target], [finding] = made.document["targets"], made.document["findings"]
    assert (target["target"], target["unexplained"], target["raised"]) == ("bastion", 0, 1)
    assert (finding["type"], finding["holding"]["account"]) == ("vanished", "ghost")
    name = finding["id"]
    assert here.json("findings", who=AUD).document["items"] == [finding]
    assert here.json("findings", "--severity", "high", who=AUD).document["items"] == []
    assert here.json("findings", "--status", "nothing", who=AUD).status == 2
    assert here.json("finding", "assign", name, "--to", CYD, who=OPS).document["assigned_to"] == CYD
    assert here.json("finding", "explain", name, "--reason", "typing error", who=CYD).status == 0
    assert here.json("finding", "accept", name, "--for", "7d", "--reason", "mine", who=CYD).status == 1
    assert here.json("finding", "accept", name, "--for", "7d", "--reason", "fine", who=DEE).status == 0
    shown = here("finding", "show", name, who=AUD)
    assert shown.status == 0
    assert "typing error" in shown.out
    assert here.json("reconcile", "bastion", who=OPS).status == 0  # accepted for the time being
    refused = here.json("finding", "resolve", name, "--reason", "x", who=OPS)
    assert (refused.status, refused.error["code"]) == (1, "refused.not-by-word")
    (here.folder / "baseline.toml").write_text("")
    assert here.json("reconcile", "bastion", who=OPS).document["targets"][0]["resolved"] == 1
    assert here.json("ledger", "verify").status == 0
    assert here.json("findings", who=ANN).document["items"] == []


def test_a_draft_is_what_the_file_takes(here: Muniment) -> None:
    configured(here)
    assert here.json("reconcile", "bastion", who=OPS).status == 0
    words = ("--owner", "human:dee@example.com", "--recertify-by", "2099-01-01", "--reason", "as found")
    draft = here.json("baseline", "draft", "bastion", *words, who=OPS)
    assert draft.document == {"baseline": "", "entitlements": 0}


def test_the_baseline_takes_two_people(here: Muniment) -> None:
    configured(here, trial=False)
    for path in (here.folder / "policies").iterdir():
        path.unlink()
    (here.folder / "policies" / "all.cedar").write_text(SOUND)  # a set that two people can adopt
    assert (
        here.json("reconcile", "bastion", who=OPS).status == 0
    )  # the first command adopts what lies there: nothing
    declare(here)
    assert here.json("reconcile", "bastion", who=OPS).status == 0  # a wish so far
    assert "baseline.toml on disk differs" in here("check").out
    change = here.json("policy", "adopt", "--reason", "as found", who=OPS)
    assert change.status == 0, change.err
    assert any("baseline.toml" in line for line in change.document["diff"])
    assert here.json("reconcile", "bastion", who=OPS).status == 0
    alone = here.json("policy", "adopt", change.document["change"], who=OPS)
    assert (alone.status, alone.error["code"]) == (1, "refused.self-approval")
    assert here.json("policy", "adopt", change.document["change"], who=CYD).status == 0
    found = here.json("reconcile", "bastion", who=OPS).document["findings"]
    assert [(each["type"], each["reference"]) for each in found] == [
        ("vanished", "standing: ghost has web-admin")
    ]
    (here.folder / "baseline.toml").write_text("[[standing")
    broken = here.json("policy", "adopt", "--reason", "broken", who=OPS)
    assert (broken.status, broken.error["code"]) == (2, "config.baseline")
    assert here.json("reconcile", "bastion", who=OPS).status == 1  # what was adopted holds
