"""Inventories by the program: asked for, listed and shown, at a desk and of a server that takes them by itself."""

from __future__ import annotations

import time

from acceptance.conftest import ANN, AUD, CYD, OPS, Muniment, running


def test_an_inventory_is_taken_and_shown(here: Muniment) -> None:
    ticket = here.filed()
    assert here.json("approve", ticket, who=CYD).document["status"] == "active"
    taken = here.json("inventory", "take", who=OPS)
    assert taken.status == 0, taken.err
    [inventory] = taken.document["items"]
    assert (inventory["target"], inventory["holdings"], inventory["complete"]) == ("bastion", 1, True)
    assert here.json("inventory", "list", "bastion", who=AUD).document["items"] == [inventory]
    shown = here.json("inventory", "show", "bastion", inventory["inventory"], who=AUD).document
    [item] = shown["items"]
    assert (item["account"], item["privilege"], item["ticket"]) == ("ann", "web-admin", ticket)
    text = here("inventory", "show", "bastion", who=AUD)
    assert text.status == 0
    assert "web-admin" in text.out
    refused = here.json("inventory", "show", "bastion", who=ANN)
    assert (refused.status, refused.error["code"]) == (1, "not-found")


def test_a_server_takes_them_by_itself(muniment: Muniment) -> None:
    config = muniment.folder / "muniment.toml"
    config.write_text(
        config.read_text().replace("127.0.0.1:8642", "127.0.0.1:1") + '\n[reconcile]\nevery = "1h"\n'
    )
    with running("--config", config, "serve", "--only", "controllers") as process:
        for _ in range(300):
            assert process.poll() is None
            found = muniment.json("inventory", "list", "bastion", who=AUD).document["items"]
            if found:
                break
            time.sleep(0.1)
    [inventory] = found
    assert inventory["by"] == "system:muniment"


def test_a_schedule_that_cannot_be_meant_is_refused(here: Muniment) -> None:
    config = here.folder / "muniment.toml"
    for every in ("1s", "often"):
        config.write_text(
            config.read_text().partition("\n[reconcile]")[0] + f'\n[reconcile]\nevery = "{every}"\n'
        )
        answer = here.json("check")
        assert answer.status == 2
        assert "[reconcile] every" in answer.error["message"]


def test_how_often_changes_are_asked_for_is_checked_at_the_start(muniment: Muniment) -> None:
    config = muniment.folder / "muniment.toml"
    plain = config.read_text()
    for watch in ("0s", "soon", "10ms"):
        config.write_text(f'{plain}\n[reconcile]\nevery = "1h"\nwatch = "{watch}"\n')
        answer = muniment.json("check")
        assert answer.status == 2
        assert "[reconcile] watch" in answer.error["message"]
