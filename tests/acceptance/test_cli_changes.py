"""Changes of policies, targets and approver groups take two people, and nothing holds before (I9, I35)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from acceptance.conftest import ANN, AUD, BO, CYD, DEE, OPS, Muniment
from acceptance.test_cli_policy import edit
from muniment.config import load
from muniment.main import open_desk

SEC = "human:sec@example.com"
MORE = """
[identities."human:sec@example.com"]
name = "Sec"
groups = ["security"]
aliases = ["human:sec@example.org"]
"""
#: a set that two people can adopt: light paths only where scope is bounded and the target ends access
SOUND = """
@id("engineers")
@approvers("owners")
@max_duration("4h")
@native_expiry("required")
@scope_bounded("required")
permit (principal in Group::"engineers", action == Action::"request", resource);

@id("deciding")
permit (principal is Human, action == Action::"approve", resource) when { context.stages.contains(context.stage) };
"""


@dataclass(frozen=True)
class Two(Muniment):
    """An installation where changes take two people."""

    first: str = ""  # a ticket that waits for its approval


@pytest.fixture
def two(fresh: Path, tmp_path: Path) -> Two:
    """An installation that is no trial, with one set in force and a ticket filed under it."""
    shutil.copytree(fresh, tmp_path / "two")
    where = Muniment(tmp_path / "two", here=True)
    edit(where, "muniment.toml", "single_person_trial = true", 'approvers = ["group:security"]')
    for path in (where.folder / "policies").iterdir():
        path.unlink()
    (where.folder / "policies" / "all.cedar").write_text(SOUND)
    with (where.folder / "identities.toml").open("a") as file:
        file.write(MORE)
    return Two(where.folder, here=True, first=where.filed())


def longer(where: Muniment, hours: int) -> None:
    edit(where, "policies/all.cedar", "4h", f"{hours}h")


def longest(where: Muniment) -> str:
    answer = where.json(
        "preview", "bastion", "web-admin", "--for", "1h", "--reason", "x", "--public-key", where.key, who=ANN
    )
    assert answer.status == 0, answer.err
    return str(answer.document["longest_duration"])


def proposed(where: Muniment, why: str = "CHG-7") -> str:
    answer = where.json("policy", "adopt", "--reason", why, who=OPS)
    assert answer.status == 0, answer.err
    assert answer.document["status"] == "proposed"
    return str(answer.document["change"])


def refused(answer: object, code: str) -> None:
    assert (answer.status, answer.error["code"]) == (1, code)  # type: ignore[attr-defined]


def test_a_change_holds_once_a_second_person_agreed(two: Two) -> None:
    longer(two, 6)
    assert longest(two) == "PT4H"  # a file on disk is a wish
    assert any("are not in force" in words for words in two.json("check").document["warnings"])
    change = proposed(two)
    assert longest(two) == "PT4H"
    shown = two.json("policy", "changes", change, who=SEC).document
    assert shown["reason"] == "CHG-7"
    assert '-@max_duration("4h")' in shown["diff"]
    assert '+@max_duration("6h")' in shown["diff"]
    refused(two.json("policy", "adopt", change, who=OPS), "refused.self-approval")
    refused(two.json("policy", "adopt", change, who=CYD), "refused.not-an-approver")
    refused(two.json("policy", "adopt", change, who=AUD), "refused.not-an-approver")
    assert longest(two) == "PT4H"
    adopted = two.json("policy", "adopt", change, who="human:sec@example.org")
    assert (adopted.status, adopted.document["status"], adopted.document["decided_by"]) == (0, "adopted", SEC)
    assert longest(two) == "PT6H"
    refused(two.json("policy", "adopt", change, who=SEC), "refused.status")
    assert two.json("check").document["warnings"] == []
    assert two.json("policy", "explain", two.first, who=ANN).status == 0  # under the set before
    verified = two.json("ledger", "verify")
    assert verified.status == 0, verified.out


def test_only_operators_propose_and_a_reason_is_needed(two: Two) -> None:
    longer(two, 6)
    refused(two.json("policy", "adopt", "--reason", "why", who=ANN), "refused.not-an-operator")
    assert two.json("policy", "adopt", who=OPS).error["code"] == "usage"
    refused(two.json("policy", "changes", who=ANN), "refused.not-an-operator")
    edit(two, "policies/all.cedar", "6h", "4h")
    assert two.json("policy", "adopt", "--reason", "why", who=OPS).error["code"] == "invalid.no-change"
    assert two.json("policy", "adopt", "chg_none", who=SEC).error["code"] == "not-found"


def test_a_light_path_cannot_be_proposed_and_a_broken_set_changes_nothing(two: Two) -> None:
    edit(two, "policies/all.cedar", '@native_expiry("required")\n', "")
    answer = two.json("policy", "adopt", "--reason", "faster", who=OPS)
    refused(answer, "refused.policy-check")
    assert "one person's word" in answer.error["message"]
    (two.folder / "policies" / "all.cedar").write_text("permit (")
    assert two.json("policy", "adopt", "--reason", "faster", who=OPS).error["code"] == "config.policy"
    assert longest(two) == "PT4H"
    assert any("cannot be used" in words for words in two.json("check").document["warnings"])


def test_a_change_that_another_overtook_is_stale_and_one_that_was_refused_is_over(two: Two) -> None:
    longer(two, 6)
    first = proposed(two)
    edit(two, "policies/all.cedar", "6h", "8h")
    second = proposed(two)
    assert two.json("policy", "adopt", second, who=SEC).status == 0
    refused(two.json("policy", "adopt", first, who=SEC), "refused.stale-change")
    assert longest(two) == "PT8H"
    edit(two, "policies/all.cedar", "8h", "9h")
    third = proposed(two)
    assert (
        two.json("policy", "refuse", third, "--reason", "too long", who=SEC).document["status"] == "refused"
    )
    refused(two.json("policy", "adopt", third, who=SEC), "refused.status")
    fourth = proposed(two)
    assert two.json("policy", "refuse", fourth, "--reason", "mine", who=OPS).document["status"] == "refused"
    states = {c["change"]: c["status"] for c in two.json("policy", "changes", who=AUD).document["items"]}
    assert states == {first: "proposed", second: "adopted", third: "refused", fourth: "refused"}


def test_a_change_of_groups_does_not_undo_another_change_of_groups_or_targets(two: Two) -> None:
    """Two proposals from the same settings: each would put back what the other changed."""
    owners = '"group:platform"]            #'
    edit(two, "muniment.toml", f"owners = [{owners}", 'owners = ["human:bo@example.com"] #')
    first = proposed(two)
    edit(two, "muniment.toml", 'owners = ["human:bo@example.com"] #', f"owners = [{owners}")
    edit(two, "identities.toml", 'name = "Dee"\ngroups = ["platform"]', 'name = "Dee"\ngroups = []')
    second = proposed(two)
    assert two.json("policy", "adopt", second, who=SEC).status == 0
    assert not [w for w in two.json("check").document["warnings"] if "waits for" in w]
    refused(two.json("policy", "adopt", first, who=SEC), "refused.stale-change")
    assert two.json("targets", who=OPS).document["items"][0]["owners"] == ["group:platform"]


def test_an_open_ticket_is_judged_by_what_was_adopted_meanwhile(two: Two) -> None:
    edit(two, "policies/all.cedar", "4h", "30m")
    assert two.json("policy", "adopt", proposed(two), who=SEC).status == 0
    answer = two.json("approve", two.first, who=CYD)
    assert two.json("show", two.first, who=ANN).document["status"] == "denied", answer.out


def test_a_catalogue_that_changed_on_disk_is_not_in_force(two: Two) -> None:
    edit(two, "muniment.toml", 'risk = "critical" ', 'risk = "low"\nbounded = true #')
    edit(
        two,
        "muniment.toml",
        'owners = ["group:platform"]            #',
        'owners = ["human:bo@example.com"] #',
    )
    (target,) = two.json("targets", who=OPS).document["items"]
    assert target["owners"] == ["group:platform"]
    assert [p["risk"] for p in target["privileges"]] == ["high", "critical"]
    assert any("targets.json on disk differs" in words for words in two.json("check").document["warnings"])
    assert two.json("policy", "adopt", proposed(two), who=SEC).status == 0
    (target,) = two.json("targets", who=OPS).document["items"]
    assert target["owners"] == [BO]
    assert [p["bounded"] for p in target["privileges"]] == [True, True]


def test_a_new_target_is_there_once_it_was_adopted(two: Two) -> None:
    text = (two.folder / "muniment.toml").read_text()
    block = text[text.index("[targets.bastion]") : text.index("# A database.")]
    other = block.replace("bastion", "other").replace("keys/ssh-ca", "keys/other-ca")
    (two.folder / "keys" / "other-ca").write_bytes((two.folder / "keys" / "ssh-ca").read_bytes())
    (two.folder / "keys" / "other-ca").chmod(0o600)
    shutil.copytree(two.folder / "var" / "bastion.krl.d", two.folder / "var" / "other.krl.d")
    (two.folder / "muniment.toml").write_text(text + other)
    asked = ("preview", "other", "web-admin", "--for", "1h", "--reason", "x", "--public-key", two.key)
    assert two.json(*asked, who=ANN).error["code"] == "invalid.unknown-target"
    assert two.json("policy", "adopt", proposed(two), who=SEC).status == 0
    assert two.json(*asked, who=ANN).document["permitted"] is True


def test_joining_a_group_that_approves_takes_two_and_leaving_it_nobody(two: Two) -> None:
    edit(
        two,
        "identities.toml",
        'groups = ["engineers", "on-call"]   #',
        'groups = ["engineers", "platform"] #',
    )
    refused(two.json("approve", two.first, who=BO), "not-found")
    assert two.json("policy", "adopt", proposed(two), who=SEC).status == 0
    assert two.json("approve", two.first, who=BO).document["status"] == "active"
    second = two.filed()
    edit(two, "identities.toml", 'name = "Dee"\ngroups = ["platform"]', 'name = "Dee"\ngroups = []')
    refused(two.json("approve", second, who=DEE), "not-found")


def test_who_may_agree_to_changes_is_itself_a_change(two: Two) -> None:
    """Neither a new member of a group in [policy] approvers nor a new name there has a say before two people agreed."""
    two.json("list", who=OPS)  # the first settings are on record
    edit(
        two,
        "identities.toml",
        'name = "Dee"\ngroups = ["platform"]',
        'name = "Dee"\ngroups = ["platform", "security"]',
    )
    edit(two, "muniment.toml", 'approvers = ["group:security"]', f'approvers = ["group:security", "{CYD}"]')
    change = proposed(two)
    for who in (DEE, CYD):
        refused(two.json("policy", "adopt", change, who=who), "refused.not-an-approver")
    shown = "\n".join(two.json("policy", "changes", change, who=SEC).document["diff"])
    assert f'+  "{DEE}"' in shown
    assert f'+  "{CYD}"' in shown
    assert two.json("policy", "adopt", change, who=SEC).status == 0
    longer(two, 6)
    assert two.json("policy", "adopt", proposed(two), who=DEE).status == 0
    longer_again = proposed_again(two)
    edit(two, "muniment.toml", f', "{CYD}"]', "]")  # whoever is taken out is out at once
    refused(two.json("policy", "adopt", longer_again, who=CYD), "refused.not-an-approver")


def proposed_again(where: Muniment) -> str:
    edit(where, "policies/all.cedar", "6h", "7h")
    return proposed(where)


def test_where_a_target_is_reached_is_a_change_too(two: Two) -> None:
    """Whoever moves the revocation list alone would keep revoked certificates good: it stays where it was."""
    assert two.json("approve", two.first, who=CYD).document["status"] == "active"
    krl, moved = two.folder / "var" / "bastion.krl", two.folder / "var" / "elsewhere.krl"
    before = krl.read_bytes()
    edit(two, "muniment.toml", '"var/bastion.krl"', '"var/elsewhere.krl"')
    assert any("targets.json on disk differs" in words for words in two.json("check").document["warnings"])
    assert two.json("return", two.first, who=ANN).document["status"] == "closed"
    assert krl.read_bytes() != before
    assert not moved.exists()
    change = proposed(two)
    shown = "\n".join(two.json("policy", "changes", change, who=SEC).document["diff"])
    assert '"krl": "var/elsewhere.krl"' in shown
    shutil.copy(krl, moved)
    shutil.copytree(f"{krl}.d", f"{moved}.d")
    assert two.json("policy", "adopt", change, who=SEC).status == 0
    before, at_rest = moved.read_bytes(), krl.read_bytes()
    second = two.filed()
    assert two.json("approve", second, who=CYD).document["status"] == "active"
    assert two.json("return", second, who=ANN).document["status"] == "closed"
    assert (moved.read_bytes() == before, krl.read_bytes() == at_rest) == (False, True)


def test_adopted_settings_that_cannot_be_used_stop_that_target_alone(two: Two) -> None:
    edit(two, "muniment.toml", '"file:keys/ssh-ca"', '"file:keys/other-ca"')
    key = two.folder / "keys" / "other-ca"
    key.write_bytes((two.folder / "keys" / "ssh-ca").read_bytes())
    key.chmod(0o600)
    assert two.json("policy", "adopt", proposed(two), who=SEC).status == 0
    edit(two, "muniment.toml", '"file:keys/other-ca"', '"file:keys/ssh-ca"')
    key.unlink()
    checked = two.json("check").document
    assert "other-ca" in str(checked), checked
    assert two.json("show", two.first, who=ANN).document["status"] == "pending"


def test_nobody_makes_themselves_an_operator(two: Two) -> None:
    edit(
        two,
        "identities.toml",
        '[identities."human:dee@example.com"]\nname = "Dee"\ngroups = ["platform"]\nroles = ["member", "approver"]',
        '[identities."human:dee@example.com"]\nname = "Dee"\ngroups = ["platform"]\nroles = ["operator"]',
    )
    longer(two, 6)
    refused(two.json("policy", "adopt", "--reason", "mine", who=DEE), "refused.not-an-operator")
    change = proposed(two)
    refused(two.json("policy", "adopt", change, who=DEE), "refused.not-an-approver")


def test_a_process_that_runs_on_goes_by_what_was_adopted(two: Two) -> None:
    """A server needs no restart: the same desk, opened before, judges by the new set, groups and catalogue."""
    desk = open_desk(load(two.config))
    try:
        before = desk.policy.digest
        longer(two, 6)
        edit(
            two,
            "identities.toml",
            'groups = ["engineers", "on-call"]   #',
            'groups = ["engineers", "platform"] #',
        )
        change = proposed(two)
        desk.directory.reload_if_changed()
        assert desk.policy.digest == before
        assert "platform" not in desk.caller(BO, "test").identity.groups
        assert two.json("policy", "adopt", change, who=SEC).status == 0
        desk.governed.adopted.look_again()  # instead of waiting for a tenth of a second
        assert desk.policy.digest != before
        assert "platform" in desk.caller(BO, "test").identity.groups
    finally:
        desk.store.engine.dispose()


def test_check_says_when_nobody_could_agree(two: Two) -> None:
    edit(two, "muniment.toml", 'approvers = ["group:security"]', "")
    assert any("no change can be adopted" in words for words in two.json("check").document["warnings"])


@pytest.mark.parametrize("agreed", [True, False])
def test_a_trial_in_between_changes_nothing_for_good(two: Two, tmp_path: Path, agreed: bool) -> None:
    """Whoever edits the files alone could switch the trial on, run one command, and switch it off."""
    if agreed:
        longer(two, 3)
        assert two.json("policy", "adopt", proposed(two), who=SEC).status == 0
    before = longest(two)
    on_disk = "3h" if agreed else "4h"
    for wish in ("2h", "1h"):
        edit(two, "muniment.toml", "approvers = [", "single_person_trial = true\napprovers = [")
        edit(two, "policies/all.cedar", on_disk, wish)
        on_disk = wish
        in_trial = two.filed()
        assert longest(two) == f"PT{wish.upper()}"
        edit(two, "muniment.toml", "single_person_trial = true\n", "")
        assert longest(two) == before
        assert any("are not in force" in words for words in two.json("check").document["warnings"])
    ticket = two.filed()
    assert longest(two) == before
    for each, alone in ((in_trial, True), (ticket, not agreed)):
        exported = two.json("evidence", "export", each, "--out", tmp_path / f"{each}.zip", who=ANN)
        assert ("without a second person" in " ".join(exported.document["does_not_prove"])) is alone
    assert two.json("policy", "explain", in_trial, who=ANN).status == 0  # by the trial's set
    assert two.json("ledger", "verify").status == 0


def test_evidence_says_when_nobody_else_had_to_agree(two: Two, tmp_path: Path) -> None:
    def unproved(ticket: str, name: str) -> str:
        exported = two.json("evidence", "export", ticket, "--out", tmp_path / name, who=ANN)
        assert exported.status == 0, exported.err
        return " ".join(exported.document["does_not_prove"])

    assert "without a second person" in unproved(two.first, "first.zip")
    longer(two, 6)
    assert two.json("policy", "adopt", proposed(two), who=SEC).status == 0
    assert "second person" not in unproved(two.filed(), "second.zip")


def test_a_trial_is_in_force_as_it_lies_there_and_says_so(fresh: Path, tmp_path: Path) -> None:
    shutil.copytree(fresh, tmp_path / "trial")
    trial = Muniment(tmp_path / "trial", here=True)
    ticket = trial.filed()
    edit(trial, "policies/people.cedar", '@max_duration("4h")', '@max_duration("3h")')
    assert longest(trial) == "PT3H"
    (warning,) = [w for w in trial.json("check").document["warnings"] if "single-person trial" in w]
    assert "one person's word" not in warning
    edit(trial, "policies/people.cedar", '@native_expiry("required")', "")
    (warning,) = [w for w in trial.json("check").document["warnings"] if "single-person trial" in w]
    assert "one person's word" in warning
    assert "single-person trial" in trial.json("policy", "adopt", who=OPS).document["says"]
    exported = trial.json("evidence", "export", ticket, "--out", tmp_path / "t.zip", who=ANN)
    assert "without a second person" in " ".join(exported.document["does_not_prove"])
