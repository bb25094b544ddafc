"""The test servers themselves: each starts, answers, and is really gone afterwards, however its owner ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

import servers
from muniment.core.errors import Unavailable
from muniment.demo import postgres as launcher
from servers import TemporarySshd, alive, gone

OWNER = """
import sys, time, servers
server = servers.postgres(18) if sys.argv[1] == "postgres18" else servers.TemporarySshd()
with server:
    print(server.pid, server.folder, flush=True)
    time.sleep(60)
"""


def test_postgres_answers_as_the_version_it_claims(any_postgres, request):
    with psycopg.connect(any_postgres.dsn()) as connection:
        version = connection.info.server_version // 10000
    assert request.node.callspec.id == f"postgres{version}"


def test_postgres_asks_for_the_password(postgres18):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres18.dsn(password="wrong"))


def test_postgres_answers_on_its_unix_socket(postgres18):
    dsn = {"host": str(postgres18.socket_folder), "port": postgres18.port, "user": "postgres"}
    with psycopg.connect(**dsn, password=postgres18.password) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("major", [18, 15])
def test_postgres_is_gone_after_its_block(major):
    with servers.postgres(major) as server:
        pid, folder = server.pid, server.folder
        assert alive(pid)
        assert folder.exists()
    assert not alive(pid)
    assert not folder.exists()
    assert server.pid is None


def test_postgres_is_gone_after_an_error_in_its_block():
    server = servers.postgres(18)
    with pytest.raises(ZeroDivisionError), server:
        pid, folder = server.pid, server.folder
        raise ZeroDivisionError
    assert not alive(pid)
    assert not folder.exists()


@pytest.fixture
def temporary_folder(monkeypatch):
    """A temporary folder of this test's own, short and open to the user that root's server runs as."""
    servers.require("postgres18")
    folder = Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(temporary_folder):
    binaries = launcher.installed()[18]
    with pytest.raises(Unavailable, match="no_such_setting"):
        launcher.TemporaryPostgres(binaries, settings={"no_such_setting": "1"}).start()
    assert list(temporary_folder.iterdir()) == []


def test_another_port_is_tried_when_somebody_was_faster(monkeypatch):
    with servers.postgres(18) as first:
        ports = iter([first.port, first.port, launcher.free_port()])
        monkeypatch.setattr(launcher, "free_port", lambda: next(ports))
        with servers.postgres(18) as second:
            assert second.port != first.port
            psycopg.connect(second.dsn()).close()


def test_a_long_temporary_folder_leaves_only_tcp(temporary_folder, monkeypatch):
    long = temporary_folder / ("d" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with servers.postgres(18) as server:
        assert server.folder.is_relative_to(long)
        assert server.socket_folder is None
        psycopg.connect(server.dsn()).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_closed_folders_are_worked_around_for_root(temporary_folder):
    """A checkout below /root, and a temporary folder there: the server's own user can enter neither."""
    temporary_folder.chmod(0o700)
    package = launcher.installed()[18].parent.parent
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), temporary_folder / name, symlinks=True)
    binaries = temporary_folder / package.name / "pginstall" / "bin"
    with launcher.TemporaryPostgres(binaries, fsync=False) as server:
        assert not server.folder.is_relative_to(temporary_folder)
        psycopg.connect(server.dsn()).close()
        process = Path(f"/proc/{server.pid}")
        assert (process / "exe").readlink().is_relative_to(server.folder / "program")
        assert process.stat().st_uid != 0


@pytest.mark.parametrize("name", ["postgres18", "sshd"])
def test_no_server_outlives_a_killed_owner(name):
    servers.require(name)
    owner, pid, folder = _owner(name)
    owner.kill()
    owner.communicate()
    assert gone(pid)
    shutil.rmtree(folder)  # the one thing that stays, as the launcher's docstring says


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_end_of_the_owner_leaves_nothing(number):
    servers.require("postgres18")
    owner, pid, folder = _owner("postgres18")
    owner.send_signal(number)
    owner.communicate()
    assert not alive(pid)
    assert not folder.exists()


def _owner(name):
    """Another process that starts a server and sleeps beside it."""
    environment = os.environ | {"PYTHONPATH": str(Path(servers.__file__).parent)}
    call = [sys.executable, "-c", OWNER, name]
    owner = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    line = owner.stdout.readline().split()
    assert line, owner.communicate()
    assert alive(int(line[0]))
    return owner, int(line[0]), Path(line[1])


def test_sshd_lets_in_whom_certificate_and_principals_allow(sshd_server):
    key = sshd_server.key("web")
    sshd_server.sign(key, identity="mnt:T-42:ann", principals="web-admin", serial=42)

    principals = sshd_server.principals / sshd_server.login
    principals.write_text("web-admin\n")
    answer = sshd_server.ssh(key, "echo", "in")
    assert answer.stdout == "in\n", answer.stderr + sshd_server.log
    assert "ID mnt:T-42:ann (serial 42)" in sshd_server.log

    principals.write_text("")
    assert sshd_server.ssh(key, "true").returncode == 255

    principals.write_text("web-admin\n")
    spec = sshd_server.folder / "web.spec"
    spec.write_text("serial: 42\n")
    revoked = sshd_server.folder / "krl.next"
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", revoked, "-s", f"{sshd_server.ca}.pub", spec], check=True)
    revoked.rename(sshd_server.krl)
    assert sshd_server.ssh(key, "true").returncode == 255


def test_sshd_is_gone_after_its_block():
    with TemporarySshd() as server:
        pid, folder = server.pid, server.folder
        assert alive(pid)
    assert not alive(pid)
    assert not folder.exists()
