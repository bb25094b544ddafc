"""What scripts read: keys of the public contract, exit statuses, and --json wherever it stands."""

from __future__ import annotations

import json

import pytest

from acceptance.conftest import ANN, CYD, OPS, Muniment, run

#: the ticket document of the public contract; more may be added, nothing may go
TICKET = {
    "id", "status", "kind", "requester", "beneficiary", "target", "account", "requested", "approved", "granted", "used",
    "justification", "references", "window", "digest", "policy", "stages", "decisions", "comparison", "revocation",
    "review", "closure", "findings", "ledger",
}  # fmt: skip
PARTS = {
    "window": {"starts_at", "duration", "expires_at"},
    "policy": {"digest", "determining", "obligations"},
    "comparison": {"missing", "excess"},
    "revocation": {"cause", "ordered_at", "observed_gone_at", "sessions_ended"},
    "closure": {"at", "checks"},
    "ledger": {"events", "sealed"},
}
MEMBERS = {
    "requested": {"privilege", "resource"},
    "approved": {"privilege", "resource"},
    "granted": {"privilege", "resource"},
    "stages": {"name", "needed", "approvers", "satisfied"},
    "decisions": {"approver", "decision", "stage", "at", "authority", "digest", "signature", "comment"},
}


@pytest.fixture(scope="module")
def closed(shared: Muniment) -> str:
    """A ticket with its whole life behind it."""
    ticket = shared.filed("--reference", "change=CHG-7")
    assert shared("approve", ticket, who=CYD).status == 0
    assert shared("return", ticket, who=ANN).status == 0
    return ticket


def test_the_ticket_document(shared: Muniment, closed: str) -> None:
    document = shared.json("show", closed, who=ANN).document
    assert document.keys() >= TICKET
    for part, keys in PARTS.items():
        assert document[part].keys() >= keys, part
    for part, keys in MEMBERS.items():
        assert document[part], part
        assert all(member.keys() >= keys for member in document[part]), part
    assert all(check.keys() == {"check", "holds", "waived"} for check in document["closure"]["checks"])
    assert document["references"] == {"change": "CHG-7"}
    assert document["window"]["duration"] == "PT1H"
    assert document["window"]["starts_at"].endswith("Z")
    assert document["revocation"]["cause"] == "returned"


def test_with_its_events(shared: Muniment, closed: str) -> None:
    document = shared.json("show", closed, "--events", who=ANN).document
    assert document.keys() >= TICKET
    assert [event["seq"] for event in document["history"]] == list(range(document["ledger"]["events"]))


@pytest.mark.parametrize("words", [["list"], ["grants"], ["findings"], ["targets"], ["holdings", "bastion"]])
def test_lists_are_items_and_next(shared: Muniment, closed: str, words: list[str]) -> None:
    answer = shared.json(*words, who=OPS)
    assert answer.status == 0, answer.err
    assert answer.document.keys() == {"items", "next"}


def test_a_list_goes_on_where_it_ended(shared: Muniment, closed: str) -> None:
    newer = shared.filed()
    first = shared.json("list", "--limit", "1", who=ANN).document
    assert [each["id"] for each in first["items"]] == [newer]
    rest = shared.json("list", "--cursor", first["next"], who=ANN).document
    assert closed in [each["id"] for each in rest["items"]]
    assert rest["next"] is None
    only = shared.json(
        "list", "--status", "closed", "--target", "bastion", "--beneficiary", ANN, who=ANN
    ).document
    assert [each["id"] for each in only["items"]] == [closed]


def test_what_one_may_not_see_is_not_there(shared: Muniment, closed: str) -> None:
    """A colleague with no part in it gets the same answer for a ticket that is there and for one that is not."""
    other = "req_" + "0" * 26
    hidden, absent = (shared.json("show", each, who="human:bo@example.com") for each in (closed, other))
    assert (hidden.status, hidden.error["code"]) == (1, "not-found")
    assert hidden.error["message"].replace(closed, other) == absent.error["message"]
    assert shared.json("list", who="human:bo@example.com").document["items"] == []


def test_preview(shared: Muniment) -> None:
    known = shared.tickets()
    words = ("preview", "bastion", "web-admin", "--for", "1h", "--public-key", shared.key)
    document = shared.json(*words, who=ANN).document
    assert document.keys() == {
        "permitted", "reasons", "stages", "possible_approvers", "effective_scope", "longest_duration", "right_size"
    }  # fmt: skip
    assert document["permitted"] is True
    assert CYD in document["possible_approvers"]
    assert shared.tickets() == known


def test_the_ledger(shared: Muniment, closed: str) -> None:
    checkpoint = shared.json("ledger", "checkpoint").document
    assert checkpoint.keys() >= {"origin", "size", "root", "vkey", "checkpoint", "witnesses"}
    raw = shared("ledger", "checkpoint").out
    assert raw == checkpoint["checkpoint"].rstrip("\n") + "\n", (
        "a signed note is byte for byte what was signed"
    )
    verified = shared.json("ledger", "verify").document
    assert verified.keys() >= {"ok", "events", "levels"}
    assert all(level.keys() == {"ok", "checked", "first_fault"} for level in verified["levels"].values())
    proof = shared.json("ledger", "prove", closed).document
    assert len(proof["entries"]) == shared.json("show", closed, who=ANN).document["ledger"]["events"]


def test_holdings(shared: Muniment) -> None:
    ticket = shared.filed()
    shared("approve", ticket, who=CYD)
    (held,) = shared.json("holdings", "bastion", who=OPS).document["items"]
    assert held.keys() == {"account", "privilege", "resource", "grantor", "class", "ticket"}
    shared("return", ticket, who=ANN)


def test_whoami(shared: Muniment) -> None:
    document = shared.json("whoami", who=ANN.upper().replace("HUMAN", "human")).document
    assert (document["id"], document["kind"], document["via"]) == (ANN, "human", "local")


def test_policies_and_the_read_models(shared: Muniment) -> None:
    assert shared.json("policy", "check").document["ok"]
    assert shared.json("admin", "rebuild").document == {"tickets": len(shared.tickets())}


@pytest.mark.parametrize("words", [["--json", "whoami"], ["whoami", "--json"]])
def test_json_before_or_after_the_command(shared: Muniment, words: list[str]) -> None:
    assert shared(*words, who=ANN).document["id"] == ANN
    wrong = run("--config", shared.config, *words)
    assert (wrong.status, wrong.error["code"], wrong.out) == (2, "usage", "")


@pytest.mark.parametrize("words", [["--json", "ledger", "checkpoint"], ["ledger", "--json", "checkpoint"]])
def test_json_before_or_after_a_group(shared: Muniment, words: list[str]) -> None:
    assert "origin" in shared(*words).document


def test_an_option_that_looks_like_one_is_a_value_where_a_value_is_due(shared: Muniment) -> None:
    answer = shared("request", "bastion", "web-admin", "--for", "1h", "--public-key", shared.key, "--reason", "--json",
                    who=ANN)  # fmt: skip
    assert answer.status == 0, answer.err
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.out)
    assert "--json" in answer.out
