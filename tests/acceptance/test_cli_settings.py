"""A folder from `init` works as it is; whatever is wrong with one is named in a sentence, and nothing is done."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from acceptance.conftest import ANN, OPS, Muniment, environment, run
from muniment.config import load
from muniment.controllers.reconcile import Reconciling
from muniment.controllers.runtime import Controllers
from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.demo.postgres import TemporaryPostgres
from muniment.main import open_desk
from muniment.ports import Due


def test_what_init_makes_is_what_check_accepts(shared: Muniment) -> None:
    answer = shared.json("check")
    assert answer.status == 0, answer.err
    (target,) = answer.document["targets"]
    assert (target["id"], target["reachable"], target["problems"]) == ("bastion", True, [])
    assert target["capabilities"]["native_expiry"] is True
    assert "bastion" in shared("check").out


def test_init_makes_secrets_that_only_the_owner_can_read(fresh: Path) -> None:
    for secret in ("keys/ledger.key", "keys/ssh-ca"):
        assert (fresh / secret).stat().st_mode & 0o777 == 0o600
    for folder in ("keys", "var"):
        assert (fresh / folder).stat().st_mode & 0o777 == 0o700
    assert not [path for path in fresh.iterdir() if path.name.startswith(".")]


def test_init_says_what_it_made_and_what_to_try(tmp_path: Path) -> None:
    answer = run("init", tmp_path / "new" / "access", "--json")
    assert answer.status == 0, answer.err
    made = answer.document
    assert made["dir"] == str(tmp_path / "new" / "access")
    assert all((Path(made["dir"]) / name).exists() for name in made["created"])
    assert len(made["next"]) == 3


@pytest.mark.parametrize("name", ["muniment.toml", "identities.toml", "policies", "keys", "var"])
def test_init_overwrites_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    (tmp_path / "other").write_text("mine too")
    answer = run("init", tmp_path, "--json")
    assert (answer.status, answer.error["code"]) == (2, "usage.init")
    assert name in answer.error["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "other"])
    assert (tmp_path / name).read_text() == "mine"


def test_init_beside_other_files_in_the_folder_one_is_in(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    assert run("init", ".", cwd=tmp_path).status == 0
    assert run("check", cwd=tmp_path).status == 0, "./muniment.toml is found"


@pytest.mark.parametrize("origin", ["Not A Name", "", "x\n", "\u0430bc"])
def test_init_with_a_bad_origin_leaves_nothing(tmp_path: Path, origin: str) -> None:
    answer = run("init", tmp_path / "new", "--origin", origin, "--json")
    if origin == "":
        assert answer.status == 0, "an empty one is none"
        return
    assert (answer.status, answer.error["code"]) == (2, "usage.init")
    assert not (tmp_path / "new").exists()


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = run("init", tmp_path / "file" / "new", "--json")
    assert (answer.status, answer.error["code"]) == (2, "usage.init")


WRONG = {
    "truncated": lambda text: text[: text.index("[identities]") + 30],
    "not-toml": lambda _: "{]",
    "not-text": lambda _: "\0\0\0",
    "empty": lambda _: "",
    "wrong-type": lambda text: text.replace('url = "sqlite:///var/muniment.db"', "url = 7"),
    "wrong-shape": lambda text: text.replace("[targets.bastion]", "[[targets.bastion]]"),
    "unknown-key": lambda text: text.replace("[ledger]\n", '[ledger]\nkeys = "x"\n'),
    "unknown-section": lambda text: text + "\n[ledgers]\n",
    "no-section": lambda text: text.replace("[policy]\n", "[targets.x]\n"),
    "bad-interval": lambda text: text.replace('"1s"', '"0s"'),
    "bad-origin": lambda text: text.replace('origin = "', 'origin = "\u202e'),
    "bad-store": lambda text: text.replace("sqlite:///var/muniment.db", "mysql://x/y"),
    "memory-store": lambda text: text.replace("sqlite:///var/muniment.db", "sqlite://"),
    "unknown-connector": lambda text: text.replace('connector = "openssh"', 'connector = "telnet"'),
    "unknown-setting": lambda text: text.replace('krl = "', 'krll = "x"\nkrl = "'),
    "no-owners": lambda text: text.replace('owners = ["group:platform"]', "owners = []"),
    "secret-in-the-open": lambda text: text.replace("file:keys/ledger.key", "hunter2"),
    "unset-variable": lambda text: text.replace("file:keys/ledger.key", "env:MUNIMENT_NO_SUCH_KEY"),
    "no-key-file": lambda text: text.replace("keys/ledger.key", "keys/none"),
    "no-identities": lambda text: text.replace("identities.toml", "none.toml"),
    "no-policies": lambda text: text.replace('dir = "policies"', 'dir = "none"'),
    "wrong-ledger-key": lambda text: text.replace("keys/ledger.key", "keys/ssh-ca"),
    "public-ca-key": lambda text: text.replace("file:keys/ssh-ca", "file:keys/ssh-ca.pub"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_configuration_that_cannot_be_used(here: Muniment, case: str) -> None:
    text = here.config.read_text()
    spoiled = WRONG[case](text)
    assert spoiled != text
    here.config.write_text(spoiled)
    answer = here.request()
    assert answer.status == 2, answer
    assert answer.error["code"].startswith("config")
    assert answer.error["remedy"]
    assert "hunter2" not in answer.err
    assert answer.out == ""
    assert here.tickets() == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("identities.toml", "[identities"),
        ("identities.toml", '[identities."human:ann@example.com"]\nrole = ["x"]\n'),
        ("identities.toml", '[identities."service_account:x"]\n'),
        ("policies/people.cedar", "permit ("),
        ("policies/people.cedar", "permit (principal, action, resource);"),
    ],
)
def test_identities_and_policies_that_cannot_be_used(here: Muniment, file: str, content: str) -> None:
    (here.folder / file).write_text(content)
    for words in (["check"], ["list"]):
        answer = here.json(*words, who=ANN)
        assert (answer.status, answer.out) == (2, "")
        assert answer.error["code"].startswith("config")
    if file.startswith("policies"):
        assert here.json("policy", "check").status == 2


def test_no_configuration(tmp_path: Path) -> None:
    answer = run("list", "--json", "--as", ANN, cwd=tmp_path)
    assert (answer.status, answer.error["code"]) == (2, "config.missing")
    assert "muniment init" in answer.error["remedy"]
    named = run("list", "--json", "--as", ANN, "--config", tmp_path / "none.toml")
    assert (named.status, named.error["code"]) == (2, "config.missing")


def test_the_environment_says_which_configuration_and_who(shared: Muniment, tmp_path: Path) -> None:
    env = environment(MUNIMENT_CONFIG=str(shared.config), MUNIMENT_AS=ANN)
    assert run("whoami", "--json", env=env, cwd=tmp_path).document["id"] == ANN
    assert run("whoami", "--json", "--as", OPS, env=env, cwd=tmp_path).document["id"] == OPS


@pytest.mark.parametrize("key", ["keys/ledger.key", "keys/ssh-ca"])
def test_a_key_that_others_can_read(here: Muniment, key: str) -> None:
    (here.folder / key).chmod(0o640)
    answer = here.request()
    assert (answer.status, answer.out) == (2, "")
    assert answer.error["code"].startswith("config")
    assert "chmod 600" in answer.error["remedy"]
    assert here.tickets() == []


def test_another_ledger_key_than_the_one_that_wrote_the_store(muniment: Muniment, tmp_path: Path) -> None:
    ticket = muniment.filed()
    run("init", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "keys" / "ledger.key", muniment.folder / "keys" / "ledger.key")
    answer = muniment.json("show", ticket, who=ANN)
    assert answer.status in {1, 2}
    assert answer.error["code"].startswith(("ledger.", "config"))


def _as_somebody_who_obeys_modes() -> None:
    """Root obeys file modes once it may no longer override them (PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_store_that_cannot_be_written(muniment: Muniment) -> None:
    before = muniment.filed()
    for path in (muniment.folder / "var").glob("muniment.db*"):
        path.chmod(0o400)
    (muniment.folder / "var").chmod(0o500)
    answer = muniment.request(preexec_fn=_as_somebody_who_obeys_modes)
    assert (answer.status, answer.error["code"], answer.out) == (3, "store.unavailable", "")
    (muniment.folder / "var").chmod(0o700)
    assert muniment.tickets() == [before]


def test_a_store_that_is_no_store(here: Muniment) -> None:
    (here.folder / "var" / "muniment.db").write_bytes(b"not a database" * 100)
    answer = here.request()
    assert (answer.status, answer.error["code"]) == (3, "store.unavailable")


def test_two_people_with_one_account_are_warned_of(here: Muniment) -> None:
    with (here.folder / "identities.toml").open("a") as file:
        file.write('\n[identities."human:ann@elsewhere.example"]\nname = "Another Ann"\n')
    answer = here.json("check")
    assert answer.status == 0, answer.err
    (warning,) = answer.document["targets"][0]["warnings"]
    assert "ann@example.com" in warning
    assert "ann@elsewhere.example" in warning


@pytest.mark.server("postgres18")
@pytest.mark.parametrize("how", ["//postgres:{}@{}", "//postgres@{1}?password={0}"])
def test_a_password_in_the_stores_url_is_warned_of(
    here: Muniment, postgres18: TemporaryPostgres, how: str
) -> None:
    database = f"store{how.count('?')}"
    with psycopg.connect(postgres18.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    where = f"127.0.0.1:{postgres18.port}/{database}"
    file = here.folder / "muniment.toml"
    url = "postgresql:" + how.format(postgres18.password, where)
    file.write_text(file.read_text().replace("sqlite:///var/muniment.db", url))
    said = subprocess.run(
        [sys.executable, "-m", "muniment", "check", "--config", file, "--json"],
        capture_output=True, text=True, timeout=120, check=True, env=environment(),
    )  # fmt: skip
    assert [words for words in json.loads(said.stdout)["warnings"] if "PGPASSFILE" in words]
    assert postgres18.password not in said.stdout + said.stderr


def test_a_target_that_does_not_answer(muniment: Muniment) -> None:
    (muniment.folder / "var" / "bastion.krl").mkdir()
    answer = muniment.json("check")
    assert (answer.status, answer.error["code"]) == (3, "target.unavailable")
    assert answer.document["targets"][0]["reachable"] is False


TWO = """
[targets.other]
connector = "postgresql"
environment = "prod"
owners = ["group:platform"]
dsn = "env:OTHER_DSN"
"""


def test_a_process_resolves_the_secrets_of_its_own_targets_alone(muniment: Muniment) -> None:
    """``serve --target``: a secret that is not there stops whoever needs it, and nobody else (I32)."""
    file = muniment.folder / "muniment.toml"
    file.write_text(file.read_text() + TWO)
    config = load(file)
    with pytest.raises(Misconfigured, match="OTHER_DSN"):
        open_desk(config)
    desk = open_desk(config, only=("bastion",))
    try:
        bastion, other = desk.targets["bastion"], desk.targets["other"]
        assert (bastion.ours, other.ours) == (True, False)
        assert bastion.connector.check().reachable
        with pytest.raises(TargetUnavailable, match="no credentials"):
            other.connector.observe(None)
        controllers = Controllers(desk, node="here")
        for name in ("other", "bastion"):
            controllers._enqueue(
                Due(ticket=name, target=name, account="a", action="revoke", at=desk.clock.now())
            )
        assert [item.ticket for _, _, item, _ in controllers._heap] == ["bastion"]
        assert "other" not in Reconciling(desk, timedelta(hours=1), "here").due()
    finally:
        desk.store.engine.dispose()
    with pytest.raises(Misconfigured, match="nowhere"):
        open_desk(config, only=("nowhere",))


def test_serve_says_what_its_target_goes_with(shared: Muniment) -> None:
    answer = shared.json("serve", "--target", "bastion")
    assert (answer.status, answer.error["code"]) == (2, "usage.serve")
