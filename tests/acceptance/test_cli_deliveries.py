"""`serve` tells others: a webhook, a log file and a receiver of signals, all real, from the configuration alone."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from joserfc import jws
from joserfc.jwk import RSAKey

from acceptance.conftest import ANN, CYD, Muniment, running
from notify.receiver import receiving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")


def secret(folder: Path, name: str, text: str) -> None:
    (folder / "keys" / name).touch(0o600)
    (folder / "keys" / name).write_text(text)


def test_others_are_told(fresh: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fresh, tmp_path / "access")
    key = RSAKey.generate_key(2048)
    secret(folder, "hook", SECRET)
    secret(folder, "signals.pem", key.as_pem(private=True).decode())
    with receiving() as hook, receiving() as idp:
        config = folder / "muniment.toml"
        config.write_text(
            config.read_text()
            + f"""
[[webhooks]]
name = "ops"
url = "{hook.url}"
secret = "file:keys/hook"
events = ["request-submitted", "request-closed"]
allow = ["127.0.0.0/8"]
[[ocsf]]
name = "file"
version = "1.9"
file = "ocsf.jsonl"
[signals]
key = "file:keys/signals.pem"
[[signals.streams]]
name = "idp"
audience = "https://idp.example.com/caep"
push = "{idp.url}"
allow = ["127.0.0.0/8"]
"""
        )
        local = Muniment(folder, here=True)
        idp.says(503, 202)
        with running("--config", config, "serve", "--only", "controllers"):

            def begun() -> bool:
                items = local.json("deliveries", "list").document["items"]
                return len(items) == 3 and all(each["next"] is not None for each in items)

            wait_until(begun)
            filed = local.json(
                "request", "bastion", "web-admin", "--for", "1h", "--reason", "CONFIDENTIAL", "--public-key", local.key, who=ANN
            )  # fmt: skip
            ticket = filed.document["id"]
            local.json("approve", ticket, who=CYD)
            assert local.json("return", ticket, who=ANN).document["status"] == "closed"
            wait_until(lambda: len(hook.got) == 2 and len(idp.got) >= 2)
            wait_until(
                lambda: all(not i["waiting"] for i in local.json("deliveries", "list").document["items"])
            )
            again = local.json("deliveries", "replay", "webhook:ops", "--since", "2020-01-01T00:00:00Z")
            assert again.document == {"sink": "webhook:ops", "replayed": 2}
            wait_until(lambda: len(hook.got) == 4)
    assert [json.loads(body)["subject"] for _, body in hook.got] == [ticket] * 4
    assert len({headers["webhook-id"] for headers, _ in hook.got}) == 2
    opened = jws.deserialize_compact(idp.got[-1][1], key, algorithms=["RS256"])
    assert json.loads(opened.payload)["sub_id"]["user"] == {"format": "email", "email": "ann@example.com"}
    assert idp.got[0][1] == idp.got[1][1]
    lines = [json.loads(line) for line in (folder / "ocsf.jsonl").read_text().splitlines()]
    assert {300714, 300715, 300401} <= {line["type_uid"] for line in lines}
    everything = (folder / "ocsf.jsonl").read_bytes() + b"".join(body for _, body in (*hook.got, *idp.got))
    assert b"CONFIDENTIAL" not in everything
