"""A campaign by the program, at a desk: opened, decided, signed off and proved; and what it says to whom."""

from __future__ import annotations

import zipfile

from acceptance.conftest import ANN, AUD, BO, CYD, OPS, Muniment

OPEN = (
    "campaign",
    "open",
    "q4",
    "--subject",
    "identity",
    "--subject",
    "membership",
    "--sample",
    "0",
    "--reason",
    "each quarter",
)


def test_a_campaign_from_its_opening_to_its_end(here: Muniment) -> None:
    preview = here.json(*OPEN, "--preview", who=OPS)
    assert preview.status == 0, preview.err
    assert here.json("campaign", "list", who=OPS).document["items"] == []
    made = here.json(*OPEN, who=OPS).document
    assert (made["name"], made["status"], made["items"]) == ("q4", "open", preview.document["items"])
    assert here.json(*OPEN, who=OPS).error["code"] == "refused.exists"
    [deploy] = here.json("campaign", "show", "q4", "--mine", who=ANN).document["list"]
    number = str(deploy["number"])
    said = ("--items", number, "--reason", "goes with the old cluster")
    assert here.json("campaign", "decide", "q4", "revoke", *said, who=ANN).document["decided"] == 1
    assert here.json("campaign", "decide", "q4", "keep", *said, who=CYD).error["code"] == "not-found"
    assert here.json("campaign", "decide", "q4", "burn", *said, who=ANN).status == 2
    for who in (OPS, BO):
        kept = here.json("campaign", "decide", "q4", "keep", "--undecided", "--reason", "needed", who=who)
        assert kept.status == 0, kept.err
    own = here.json("campaign", "close", "q4", "--comment", "mine", who=OPS)
    assert (own.status, own.error["code"]) == (1, "refused.self-approval")
    closing = here.json("campaign", "close", "q4", "--comment", "looked at it", who=AUD)
    assert (closing.status, closing.document["status"], closing.document["unsettled"]) == (1, "removing", 1)
    explained = here.json(
        "campaign", "explain", "q4", "--items", number, "--reason", "removed in May", who=OPS
    )
    assert (explained.status, explained.document["status"]) == (0, "closed")
    shown = here("campaign", "show", "q4", "--decision", "revoke", who=AUD)
    assert shown.status == 0
    assert "service_account:deploy exists" in shown.out
    out = here.folder / "q4.zip"
    assert here.json("campaign", "export", "q4", "--out", str(out), who=AUD).status == 0
    with zipfile.ZipFile(out) as archive:
        assert b"removed in May" in archive.read("decisions.csv")
    assert here.json("campaign", "export", "q4", "--out", str(out), who=AUD).status == 2, (
        "it is there already"
    )
    verified = here.json("ledger", "verify")
    assert verified.status == 0, verified.err


def test_a_campaign_is_given_up_or_handed_to_others(here: Muniment) -> None:
    assert here.json(*OPEN, who=OPS).status == 0
    moved = ("campaign", "reassign", "q4", "--to", CYD, "--asked", ANN, "--reason", "on leave")
    assert here.json(*moved, who=OPS).document["decided"] == 1
    assert here.json("campaign", "show", "q4", "--mine", who=CYD).document["yours"] == 1
    assert (
        here.json("campaign", "cancel", "q4", "--reason", "wrong month", who=OPS).document["status"]
        == "cancelled"
    )
    again = here.json("campaign", "decide", "q4", "keep", "--reason", "x", "--items", "0", who=OPS)
    assert (again.status, again.error["code"]) == (1, "refused.status")
    listed = here("campaign", "list", "--status", "cancelled", who=AUD)
    assert "q4" in listed.out
    assert here.json("campaign", "list", "--status", "lost", who=AUD).status == 2


def test_reviews_are_listed(here: Muniment) -> None:
    found = here.json("reviews", "--state", "overdue", "--mine", who=AUD)
    assert (found.status, found.document) == (0, {"items": [], "next": None})
    assert here.json("reviews", "--state", "lost", who=AUD).status == 2
