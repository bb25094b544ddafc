"""The same command of a server and at a desk: the same document, the same exit status, the same refusal."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance.conftest import ANN, AUD, BO, CYD, DEE, OPS, Answer, Muniment, environment, run_here, running

PEOPLE = (ANN, BO, CYD, DEE, OPS, AUD)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class Served:
    """A running server, and whoever asks it by the program."""

    local: Muniment
    url: str
    tokens: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: object, who: str | None = None) -> Answer:
        token = {} if who is None else {"MUNIMENT_TOKEN": self.tokens[who]}
        return run_here("--server", self.url, *words, "--json", env=environment(**token))

    def at_desk(self, *words: object, who: str | None = None) -> Answer:
        return self.local.json(*words, who=who)


@pytest.fixture(scope="module")
def served(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = shutil.copytree(fresh, tmp_path_factory.mktemp("served") / "access")
    port = free_port()
    config = folder / "muniment.toml"
    config.write_text(config.read_text().replace("127.0.0.1:8642", f"127.0.0.1:{port}"))
    local = Muniment(folder, here=True)
    server = Served(local, f"http://127.0.0.1:{port}")
    for who in PEOPLE:
        answer = local.json("token", "create", "--identity", who)
        assert answer.status == 0, answer.err
        server.tokens[who] = answer.document["token"]
    with running("--config", config, "serve") as process:
        for _ in range(300):
            assert process.poll() is None
            try:
                if httpx.get(f"{server.url}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield server


def request(key: Path, *more: object) -> tuple[object, ...]:
    return (
        "request",
        "bastion",
        "web-admin",
        "--for",
        "1h",
        "--reason",
        "to look",
        "--public-key",
        key,
        *more,
    )


def plain(document: Any) -> Any:
    """A document without what differs between two tickets of the same life."""
    text = re.sub(r"req_[0-9A-Z]{26}", "req", repr(document))
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "then", text)
    text = re.sub(r"sha256:[0-9a-f]{64}", "digest", text)
    return re.sub(r"'serial': '\d+'|'key_id': '[^']*'", "", text)


def both(served: Served, *words: object, who: str | None = None) -> tuple[Answer, Answer]:
    return served(*words, who=who), served.at_desk(*words, who=who)


def test_a_life_of_a_ticket_reads_the_same(served: Served) -> None:
    lives = []
    for ask in (served, served.at_desk):
        told = []
        filed = ask(*request(served.local.key), who=ANN)
        ticket = filed.document["id"]
        for words, who in (
            (("show", ticket), ANN),
            (("show", ticket), BO),
            (("counter", ticket, "--for", "30m", "--comment", "half of it"), CYD),
            (("accept", ticket), BO),
            (("accept", ticket), ANN),
            (("accept", ticket), ANN),
            (("approve", ticket), ANN),
            (("approve", ticket, "--digest", "sha256:" + "0" * 64), CYD),
            (("approve", ticket, "--comment", "checked"), CYD),
            (("approve", ticket), DEE),
            (("extend", ticket, "--for", "1h", "--reason", "longer"), ANN),
            (("show", ticket, "--events"), AUD),
            (("return", ticket), ANN),
            (("revoke", ticket, "--reason", "again"), OPS),
            (("waive", ticket, "gone", "--reason", "no"), OPS),
            (("review", ticket, "--outcome", "appropriate", "--comment", "fine"), DEE),
            (("finding", "resolve", f"{ticket}:1", "--reason", "none"), OPS),
            (("show", ticket), ANN),
        ):
            answer = ask(*words, who=who)
            said = answer.document if answer.out else answer.error
            told.append((words[0], answer.status, plain(said).replace("'via': 'api'", "'via': 'local'")))
        lives.append([("request", filed.status, plain(filed.document)), *told])
    assert lives[0] == lives[1]


@pytest.mark.parametrize(
    ("words", "who"),
    [
        (("preview", "bastion", "root", "--for", "1h"), ANN),
        (("list",), ANN),
        (("list", "--status", "closed", "--limit", "1"), OPS),
        (("list", "--awaiting-me"), CYD),
        (("list",), BO),
        (("list", "--status", "nonsense"), ANN),
        (("show", "req_nonsense"), ANN),
        (("grants",), OPS),
        (("targets",), ANN),
        (("holdings", "bastion"), OPS),
        (("holdings", "bastion"), ANN),
        (("holdings", "nowhere"), OPS),
        (("findings",), OPS),
        (("findings", "--resolved", "--target", "bastion"), AUD),
        (("credential", "req_00000000000000000000000000"), ANN),
        (("finding", "resolve", "nonsense", "--reason", "x"), OPS),
    ],
)
def test_looking_reads_the_same(served: Served, words: tuple[str, ...], who: str) -> None:
    if words[0] == "preview":
        words = (*words, "--public-key", str(served.local.key))
    remote, local = both(served, *words, who=who)
    assert remote.status == local.status, (remote.err, local.err)
    if local.out:
        assert remote.document == local.document
    else:
        assert remote.error["code"].partition(".")[0] == local.error["code"].partition(".")[0]


def test_who_one_is(served: Served) -> None:
    remote, local = both(served, "whoami", who=OPS)
    assert remote.document == local.document | {"via": "api"}


def test_a_certificate_is_collected_once(served: Served) -> None:
    ticket = served(*request(served.local.key), who=ANN).document["id"]
    assert served("approve", ticket, who=CYD).document["status"] == "active"
    first = served("credential", ticket, who=ANN)
    assert first.document["credential"].startswith("ssh-ed25519-cert-v01@openssh.com ")
    assert served("credential", ticket, who=ANN).error["code"] == "refused.no-credential"
    assert served("return", ticket, who=ANN).document["status"] == "closed"


def test_evidence_of_a_server_verifies(served: Served, tmp_path: Path) -> None:
    ticket = served(*request(served.local.key), who=ANN).document["id"]
    exported = served("evidence", "export", ticket, "--out", tmp_path / "e.zip", who=AUD)
    assert exported.document["ok"] is True, exported.err
    assert (
        served("evidence", "export", ticket, "--out", tmp_path / "f.zip", who=BO).error["code"] == "not-found"
    )
    vkey = served("ledger", "checkpoint", who=AUD).document["vkey"]
    (tmp_path / "trust").write_text(f"log {vkey}\nquorum none\n")
    verified = served.local.json("evidence", "verify", tmp_path / "e.zip", "--trust", tmp_path / "trust")
    assert verified.document["ok"] is True


@pytest.mark.parametrize(
    ("words", "environ", "code", "status"),
    [
        (("whoami",), {}, "usage.no-token", 2),
        (("whoami",), {"MUNIMENT_TOKEN": "mnt_0_0"}, "unauthenticated", 1),
        (("whoami",), {"MUNIMENT_TOKEN": f"mnt_{'0' * 16}_{'0' * 64}"}, "unauthenticated", 1),
        (("whoami", "--as", ANN), {"MUNIMENT_TOKEN": "x"}, "usage", 2),
        (("ledger", "verify"), {"MUNIMENT_TOKEN": "x"}, "usage.local-only", 2),
        (("whoami", "--server", "http://192.0.2.1"), {"MUNIMENT_TOKEN": "x"}, "config.server-insecure", 2),
        (("whoami", "--server", "ftp://x"), {"MUNIMENT_TOKEN": "x"}, "config.server", 2),
        (("whoami", "--server", "http://127.0.0.1:1"), {"MUNIMENT_TOKEN": "x"}, "unavailable.server", 3),
    ],
)
def test_who_cannot_be_told(
    served: Served, words: tuple[str, ...], environ: dict[str, str], code: str, status: int
) -> None:
    answer = run_here("--server", served.url, *words, "--json", env=environment(**environ))
    assert (answer.error["code"], answer.status) == (code, status)


def test_a_revoked_token_is_good_for_nothing(served: Served) -> None:
    made = served.local.json("token", "create", "--identity", ANN, "--expires", "1h", who=OPS).document
    served.tokens["other"] = made["token"]
    assert served("whoami", who="other").status == 0
    assert served.local.json("token", "revoke", made["id"]).document == {"id": made["id"], "revoked": True}
    for _ in range(50):
        answer = served("whoami", who="other")
        if answer.status:
            break
        time.sleep(0.1)
    assert answer.error["code"] == "unauthenticated.revoked"


def test_delegations_read_the_same(served: Served) -> None:
    lives = []
    for ask in (served, served.at_desk):
        told = []
        given = ask("delegate", DEE, "--for", "2d", "--reason", "holidays", who=CYD)
        told.append((given.status, plain(given.document).replace(given.document["id"], "dlg")))
        for words, who in (
            (("delegation", "list"), CYD),
            (("delegation", "list"), BO),
            (("delegation", "end", given.document["id"]), BO),
            (("delegation", "end", given.document["id"]), DEE),
            (("delegation", "list"), DEE),
            (("delegate", CYD, "--for", "2d", "--reason", "to myself"), CYD),
            (("delegate", DEE, "--reason", "without an end"), CYD),
        ):
            answer = ask(*words, who=who)
            said = answer.document if answer.out else answer.error
            mine = [i for i in said["items"] if i["id"] == given.document["id"]] if "items" in said else said
            told.append((answer.status, plain(mine).replace(given.document["id"], "dlg")))
        lives.append(told)
    assert lives[0] == lives[1]


def test_bundles_read_the_same(served: Served, tmp_path: Path) -> None:
    row = f'[[tickets]]\ntarget = "bastion"\nprivileges = ["web-admin"]\npublic-key = "{served.local.key}"\n'
    (tmp_path / "both.toml").write_text('for = "1h"\nreason = "release 17"\n' + row + row)
    (tmp_path / "bad.toml").write_text(
        'for = "1h"\nreason = "release 17"\n' + row + row.replace("web-admin", "nonsense")
    )
    remote, local = both(served, "bundle", tmp_path / "both.toml", who=ANN)
    assert (remote.status, local.status) == (0, 0), (remote.err, local.err)
    assert plain(remote.document) == plain(local.document)
    assert len(remote.document["items"]) == 2
    for ask in (served, served.at_desk):
        before = len(ask("list", "--limit", "1000", who=ANN).document["items"])
        assert ask("bundle", tmp_path / "bad.toml", who=ANN).error["code"].startswith("invalid")
        assert len(ask("list", "--limit", "1000", who=ANN).document["items"]) == before


def test_changes_of_policy_read_the_same(served: Served) -> None:
    for words, who in (
        (("policy", "changes"), OPS),
        (("policy", "changes"), ANN),
        (("policy", "changes", "chg_nonsense"), OPS),
        (("policy", "adopt", "--reason", "nothing differs"), OPS),
        (("policy", "adopt", "--reason", "not an operator"), ANN),
        (("policy", "adopt", "chg_nonsense"), OPS),
        (("policy", "refuse", "chg_nonsense", "--reason", "x"), OPS),
        (("policy", "adopt"), OPS),
    ):
        remote, local = both(served, *words, who=who)
        assert remote.status == local.status, (words, remote.err, local.err)
        if local.out:
            assert remote.document == local.document
        else:
            assert remote.error["code"] == local.error["code"], words


def test_what_policy_decided_reads_the_same(served: Served) -> None:
    ticket = served(*request(served.local.key), who=ANN).document["id"]
    remote, local = both(served, "policy", "explain", ticket, who=ANN)
    assert remote.document == local.document
    assert remote.document["same"] is True
    assert served("policy", "explain", ticket, who=BO).error["code"] == "not-found"


def test_deliveries_read_the_same(served: Served) -> None:
    remote, local = both(served, "deliveries", "list", who=OPS)
    assert remote.document == local.document == {"items": [], "next": None}
    assert served("deliveries", "list", who=ANN).error["code"] == "refused.role"
    remote, local = both(served, "deliveries", "replay", "webhook:nobody", who=OPS)
    assert remote.error["code"] == local.error["code"] == "not-found"
