"""What sshd and sudo really do with what the connector `ssh-host` writes; the conformance suite asks the rest."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import servers
from muniment.conformance.grounds.ssh_host import Server, Session, SshHostHarness
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors import ssh_host_remote
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "ssh-host") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield SshHostHarness(server, proxy)


def order(world, number: int, *, ticket: str = "T-1", seconds: int = 3600, login: bool = True) -> Order:
    return Order(
        ticket=ticket, account=world.accounts[number], scope=world.privileges[:1] if login else world.privileges[1:],
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds),
    )  # fmt: skip


def give(world, *orders: Order) -> None:
    assert [o.result for o in world.connector.provision(orders, yes)] == ["done"] * len(orders)


def sudo(world, number: int) -> subprocess.CompletedProcess[str]:
    """What sudo says to this account on that host."""
    pid = str(world.server._process.pid)
    call = [
        "nsenter",
        "-t",
        pid,
        "-m",
        "runuser",
        "-u",
        world.accounts[number],
        "--",
        "sudo",
        "-n",
        "/usr/bin/id",
        "-u",
    ]
    return subprocess.run(call, capture_output=True, text=True, timeout=30, check=False)


def ask(world, question: dict) -> dict:
    """muniment-host itself, past the connector and what it refuses."""
    call = [sys.executable, "-I", world.server.folder / "muniment-host", world.server.folder / "host.json"]
    text = "".join(f"{json.dumps(each)}\n" for each in (question, {"go": True}))
    done = subprocess.run(call, input=text, capture_output=True, text=True, timeout=30, check=False)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_login_is_open_from_the_grant_until_the_revocation(world):
    ann = world.accounts[0]
    assert world.run(ann, world.login, "id -un").returncode == 255
    given = order(world, 0)
    give(world, given)
    assert world.run(ann, world.login, "id -un").stdout == f"{world.login}\n"
    assert world.run(world.accounts[1], world.login, "id -un").returncode == 255
    [outcome] = world.connector.revoke([given], yes)
    assert outcome.result == "done"
    assert world.run(ann, world.login, "id -un").returncode == 255
    assert not world.principals.exists()


def test_sshd_and_sudo_end_both_by_themselves(world):
    """Nobody has to reach the host for that: it is what is left when Muniment cannot."""
    end = order(world, 0, seconds=4)
    give(world, end, order(world, 0, seconds=4, login=False, ticket="T-2"))
    assert world.run(world.accounts[0], world.login, "true").returncode == 0
    assert sudo(world, 0).stdout == "0\n"
    world.pass_time(end.expires_at + timedelta(seconds=1))
    assert world.run(world.accounts[0], world.login, "true").returncode == 255
    assert sudo(world, 0).returncode == 1
    assert world.connector.observe(list(world.accounts)).holdings == ()


def test_sudo_is_given_to_one_account_and_taken(world):
    given = order(world, 0, login=False)
    give(world, given)
    assert (sudo(world, 0).stdout, sudo(world, 1).returncode) == ("0\n", 1)
    assert world.connector.revoke([given], yes)[0].result == "done"
    assert sudo(world, 0).returncode == 1


def test_who_has_another_ticket_keeps_the_session_and_what_runs_in_one_ends_with_it(world):
    first, second = order(world, 0), order(world, 0, ticket="T-2")
    give(world, first, second)
    process = subprocess.Popen(
        world.ssh(world.accounts[0], world.login, "setsid sleep 321 & echo $!; exec cat"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    aside = int(process.stdout.readline())
    session = Session(process)
    try:
        assert world.connector.revoke([first], yes)[0].sessions_ended == 0
        assert session.alive()
        assert world.connector.revoke([second], yes)[0].sessions_ended == 1
        assert not session.alive()
        assert servers.gone(aside)
    finally:
        session.close()


def test_the_key_starts_muniment_host_and_nothing_else(world):
    folder = world.server.folder
    options = (
        "-F",
        "none",
        "-o",
        f"UserKnownHostsFile={folder}/known_hosts",
        "-o",
        "IdentitiesOnly=yes",
        "-i",
        folder / "us",
    )
    call = ["ssh", *options, "-p", str(world.server.port), "muniment@127.0.0.1", "id -un; cat /etc/shadow"]
    done = subprocess.run(call, input="", capture_output=True, text=True, timeout=30, check=False)
    assert "muniment-host failed" in done.stdout
    assert "root:" not in done.stdout


def test_what_others_wrote_stays_byte_for_byte(world):
    text = (
        b'# hand-made\r\n\n  from="10.0.0.0/8"  carol\nno-pty dave # and why\n#muniment T-9\nmoir\xe9\nerin'
    )
    world.principals.write_bytes(text)
    world.principals.chmod(0o640)
    given = order(world, 0)
    give(world, given)
    assert world.principals.read_bytes().endswith(text)
    seen = {holding.account for holding in world.connector.observe(None).holdings}
    assert seen >= {"carol", "erin", "moir\\xe9", world.accounts[0]}
    world.connector.revoke([given], yes)
    assert world.principals.read_bytes() == text
    assert world.principals.stat().st_mode & 0o777 == 0o640


def test_muniment_host_is_python_as_old_hosts_have_it():
    source = Path(ssh_host_remote.__file__).read_text()
    ast.parse(source, feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        )
    }
    assert imported <= sys.stdlib_module_names
    assert "datetime.UTC" not in source
    assert "import UTC" not in source


def test_a_line_of_ours_that_somebody_changed_is_not_ours_any_more(world):
    given = order(world, 0)
    give(world, given)
    changed = world.principals.read_text().replace("expiry-time", "no-pty,expiry-time")
    world.principals.write_text(changed)
    [held] = world.connector.observe([world.accounts[0]]).holdings
    assert held.ticket is None
    assert world.connector.revoke([given], yes)[0].result == "done"
    assert world.principals.read_text() == changed


def test_a_rule_that_sudo_cannot_read_is_never_put_in_its_place(world):
    """A broken drop-in would take sudo from everybody."""
    world.rule["commands"].append("not an absolute path")
    world.server.configure()
    before = world.everything()
    [outcome] = world.connector.provision([order(world, 0, login=False)], yes)
    report = world.connector.check()
    del world.server.sudo[world.command]
    world.server.configure()
    assert (outcome.result, outcome.code) == ("rejected", "target.rejected")
    assert world.everything() == before
    assert report.problems == (f"sudo cannot read the rule of {world.command}.",)


@pytest.mark.parametrize(
    ("account", "privilege"),
    [
        ("ALL", "sudo:{0.command}"), ("#0", "sudo:{0.command}"), ("%root", "sudo:{0.command}"), ("root ALL=(ALL) ALL\nx", "sudo:{0.command}"),
        ("ann", "sudo:../../tmp/x"), ("ann", "login:../sshd_config"), ("ann", "login:.."), ("ann", "login:"), ("ann", "sudo:"),
        ("ann\nroot", "login:{0.login}"), ("* ", "login:{0.login}"), ('x" root', "login:{0.login}"), ("ann", "other:{0.login}"),
    ],
)  # fmt: skip
def test_the_host_itself_refuses_names_that_mean_something(world, account, privilege):
    """Also from somebody who has our key and asks without the connector; on the way out as on the way in (I37)."""
    before = world.everything()
    wanted = privilege.format(world)
    strange = {
        "ticket": "T-1", "account": account, "scope": [{"privilege": wanted, "resource": None}],
        "expires_at": "2038-01-01T00:00:00Z", "handle": {},
    }  # fmt: skip
    answer = ask(world, {"muniment": 1, "do": "provision", "orders": [strange]})
    assert answer["outcomes"][0]["result"] == "rejected"
    ask(world, {"muniment": 1, "do": "revoke", "orders": [strange]})
    assert world.everything() == before
    with pytest.raises(Invalid):
        world.connector.validate(account, scope([Privilege(privilege=wanted)]))


def test_a_ticket_that_could_end_a_line_is_refused(world):
    before = world.everything()
    given = order(world, 0, ticket="T-1\nroot")
    assert world.connector.provision([given], yes)[0].code == "target.bad-name"
    assert world.everything() == before


def test_a_worker_that_was_paused_finds_its_program_gone(world):
    with pytest.raises(TargetUnavailable):
        world.connector.provision([order(world, 0)], lambda: time.sleep(5.5))
    assert not world.principals.exists()
    give(world, order(world, 0))


def test_a_host_with_another_key_is_not_spoken_to(world):
    other = world.server.folder / f"others-{world.n}"
    other.write_text(f"* {(world.server.folder / 'ca.pub').read_text()}")
    connector = world.make(known_hosts=str(other))
    with pytest.raises(TargetUnavailable, match="cannot be reached over SSH"):
        connector.observe(None)
    assert any("known_hosts" in problem for problem in connector.check().problems)
    stranger = world.make(key=str(world.server.key(f"stranger-{world.n}")))
    assert any("refused our key" in problem for problem in stranger.check().problems)


def test_check_says_what_will_not_work(world):
    assert world.connector.check().problems == ()
    world.server.logins.append(f"nobody{world.n}")
    world.server.configure()
    config = world.server.folder / "sshd_config"
    text = config.read_text()
    config.write_text(text.replace("/principals/%u", "/elsewhere/%u"))
    try:
        problems = " ".join(world.connector.check().problems)
    finally:
        config.write_text(text)
        world.server.logins.pop()
        world.server.configure()
    assert f"no account nobody{world.n}" in problems
    assert "sshd does not look into" in problems
    (world.server.folder / "host.json").chmod(0o666)
    with pytest.raises(TargetUnavailable, match="can be changed by others"):
        world.connector.observe(None)
    (world.server.folder / "host.json").chmod(0o644)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "-oProxyCommand=id"}, "no name or address"),
        ({"host": "a b"}, "no name or address"),
        ({"user": "root;id"}, "no account's name"),
        ({"port": 0}, "no port"),
        ({"key": "/keys/%h"}, "path of key"),
        ({"known_hosts": '/x" y'}, "path of known_hosts"),
    ],
)
def test_settings_that_ssh_would_read_otherwise(world, settings, message):
    with pytest.raises(Misconfigured, match=message):
        world.make(**settings)
