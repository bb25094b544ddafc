"""`muniment exec`: what was issued reaches the command, and nobody else, and nothing of it stays (I31)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from acceptance.conftest import ANN, CYD, PROGRAM, Muniment, environment
from muniment import delivery
from muniment.cli.executing import _wait, run
from muniment.core.errors import Invalid, Misconfigured, Refused

pytestmark = pytest.mark.server("sshd")
PASSPHRASE = b"open sesame"
SECRET = "correct-horse-battery"
SHOW = "import os; print(os.environ['PGUSER'], os.environ['PGPASSWORD'])"


def write_key(path: Path, passphrase: bytes | None = None) -> str:
    """A private key; its public half is returned."""
    key = Ed25519PrivateKey.generate()
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, protection))
    path.chmod(0o600)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def sealed(to: str) -> bytes:
    login = {"PGUSER": "muniment_1", "PGPASSWORD": SECRET}
    return delivery.seal(delivery.Issued(kind="login", env=login, expires_at="2026-11-26T12:00:00Z"), to)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


@pytest.fixture
def key(muniment: Muniment) -> Path:
    path = muniment.folder / "mine"
    (muniment.folder / "id.pub").write_text(write_key(path))
    return path


def test_a_certificate_is_in_an_agent_of_the_commands_own(
    muniment: Muniment, key: Path, tmp_path: Path
) -> None:
    ticket = muniment.filed()
    assert muniment.json("approve", ticket, who=CYD).status == 0
    listing = "ssh-add -L; ssh-add -L | ssh-keygen -L -f - | grep 'Key ID'; echo $SSH_AUTH_SOCK"
    used = muniment(
        "exec", ticket, "--key", key, "--", "sh", "-c", f"{listing}; exit 7", who=ANN,
        env=environment(XDG_RUNTIME_DIR=str(tmp_path)),
    )  # fmt: skip
    assert used.status == 7, used.err
    assert "ssh-ed25519-cert-v01@openssh.com" in used.out
    assert f"muniment:{ticket}:ann" in used.out
    assert str(tmp_path) in used.out
    assert list(tmp_path.glob("muniment-agent-*")) == []
    again = muniment("--json", "exec", ticket, "--key", key, "--", "true", who=ANN)
    assert (again.status, again.error["code"]) == (1, "refused.no-credential")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--key", "nowhere", "--", "true"), "config"),
        (("--", "no-such-program-anywhere"), "usage"),
    ],
)
def test_what_cannot_work_collects_nothing(
    muniment: Muniment, key: Path, words: tuple[str, ...], code: str
) -> None:
    ticket = muniment.filed()
    assert muniment.json("approve", ticket, who=CYD).status == 0
    chosen = () if "--key" in words else ("--key", key)
    refused = muniment("--json", "exec", ticket, *chosen, *words, who=ANN)
    assert (refused.status, refused.error["code"]) == (2, code)
    assert muniment("credential", ticket, who=ANN).out.startswith("ssh-ed25519-cert-v01@openssh.com")


def test_a_login_is_in_the_commands_environment_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "id"
    body = sealed(write_key(key))
    assert SECRET.encode() not in body
    assert run([sys.executable, "-c", SHOW], body=body, key=key, until=soon(), name="req_1") == 0
    assert capfd.readouterr().out == f"muniment_1 {SECRET}\n"
    assert SECRET not in os.environ.values()
    assert SECRET not in Path("/proc/self/cmdline").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["id"]


def test_a_protected_key_is_asked_for_its_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "id"
    body = sealed(write_key(key, PASSPHRASE))
    monkeypatch.setattr("muniment.cli.executing.getpass", lambda _: PASSPHRASE.decode())
    assert run([sys.executable, "-c", SHOW], body=body, key=key, until=soon(), name="req_1") == 0
    assert SECRET in capfd.readouterr().out


@pytest.mark.parametrize("wrong", ["another key", "no key", "wrong passphrase"])
def test_what_cannot_be_opened_is_kept_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    key, other = tmp_path / "id", tmp_path / "other"
    body = sealed(write_key(key, PASSPHRASE if wrong == "wrong passphrase" else None))
    if wrong == "another key":
        write_key(other)
    else:
        other.write_bytes(b"no key" if wrong == "no key" else key.read_bytes())
    monkeypatch.setattr("muniment.cli.executing.getpass", lambda _: "nonsense")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused) as refused:
        run(["true"], body=body, key=other, until=soon(), name="req_1")
    [kept] = tmp_path.glob("req_1-*.age")
    assert kept.read_bytes() == body
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.name in refused.value.message


@pytest.mark.parametrize("key", ["age1nonsense", "ecdsa-sha2-nistp256 AAAA", "ssh-ed25519 AAAA", ""])
def test_a_key_that_nothing_can_be_sealed_to_is_refused(key: str) -> None:
    with pytest.raises(Invalid) as refused:
        delivery.recipient(key)
    assert refused.value.code == "invalid.public-key"


def test_ages_own_keys_will_do() -> None:
    import pyrage  # noqa: PLC0415  for the key alone

    identity = pyrage.x25519.Identity.generate()
    body = sealed(str(identity.to_public()))
    text = f"# created by age-keygen\n{identity}\n".encode()
    assert delivery.unseal(body, text, lambda: b"").env["PGPASSWORD"] == SECRET
    with pytest.raises(Misconfigured):
        delivery.unseal(body, str(pyrage.x25519.Identity.generate()).encode(), lambda: b"")


def test_signals_reach_the_command_and_its_end_is_ours(muniment: Muniment, key: Path) -> None:
    ticket = muniment.filed()
    assert muniment.json("approve", ticket, who=CYD).status == 0
    script = "trap 'echo heard; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    words = ("--config", muniment.config, "--as", ANN, "exec", ticket, "--key", key, "--", "sh", "-c", script)
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 3
        assert process.stdout.read() == "heard\n"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the command, too, should it be alone
        process.stdout.close()


def test_a_signal_before_the_command_is_there_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def slow_start(*given: Any, **options: Any) -> subprocess.Popen[bytes]:
        os.kill(os.getpid(), signal.SIGTERM)  # while the command is being started
        return real(*given, **options)

    monkeypatch.setattr("muniment.cli.executing.subprocess.Popen", slow_start)
    before = signal.getsignal(signal.SIGTERM)
    assert _wait(["sleep", "30"], dict(os.environ)) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
