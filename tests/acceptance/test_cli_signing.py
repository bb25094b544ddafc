"""``muniment approve --sign``: with a key file, with an agent, and with a signature that was made elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.conftest import CYD, Answer, Muniment, environment

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="apt-get install openssh-client")


@pytest.fixture
def key(muniment: Muniment, tmp_path: Path) -> Path:
    """Cyd's key, which the directory knows."""
    path = tmp_path / "cyd key"  # with a space: it is one argument all the same
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    file = muniment.folder / "identities.toml"
    heading = f'[identities."{CYD}"]\n'
    line = Path(f"{path}.pub").read_text().strip()
    file.write_text(file.read_text().replace(heading, f'{heading}ssh_keys = ["{line}"]\n'))
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An agent of the test's own."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None
            time.sleep(0.02)
        yield {"SSH_AUTH_SOCK": str(socket)}
    finally:
        process.terminate()
        process.wait()


def decision(answer: Answer) -> dict[str, str]:
    assert answer.status == 0, answer.err
    (found,) = answer.document["decisions"]
    return dict(found)


def test_with_a_private_key_file(muniment: Muniment, key: Path) -> None:
    ticket = muniment.filed()
    answer = muniment.json("approve", ticket, "--sign", key, who=CYD)
    assert decision(answer)["signature"].startswith("-----BEGIN SSH SIGNATURE-----\n")
    assert answer.document["status"] == "active"
    answer = muniment.json("ledger", "verify")
    assert (answer.status, answer.document["ok"]) == (0, True), answer.out


def test_with_a_key_that_only_the_agent_has(muniment: Muniment, key: Path, agent: dict[str, str]) -> None:
    subprocess.run(["ssh-add", "-q", str(key)], env=environment(**agent), check=True)
    key.unlink()
    ticket = muniment.filed()
    public = Path(f"{key}.pub")
    refused = muniment.json("approve", ticket, "--sign", public, who=CYD, env=environment(SSH_AUTH_SOCK=""))
    assert (refused.status, refused.error["code"]) == (1, "refused.unsigned")
    answer = muniment.json("approve", ticket, "--sign", public, who=CYD, env=environment(**agent))
    assert decision(answer)["signature"]


def test_with_a_signature_made_elsewhere(muniment: Muniment, key: Path, tmp_path: Path) -> None:
    ticket = muniment.filed()
    shown = muniment("approve", ticket, "--statement", who=CYD)
    assert shown.out.endswith("}"), "exactly what is signed, without a line end"
    (tmp_path / "statement").write_text(shown.out)
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "muniment-approval", "-f", key, tmp_path / "statement"],
        check=True,
    )
    answer = muniment.json("approve", ticket, "--signature", tmp_path / "statement.sig", who=CYD)
    assert decision(answer)["signature"] == (tmp_path / "statement.sig").read_text()


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("--sign", "/nowhere/key"), 1, "refused.unsigned"),
        (("--signature", "/nowhere/sig"), 2, "invalid.signature"),
        (("--signature", "/bin/true"), 2, "invalid.signature"),
        (("--sign", "a", "--statement"), 2, "usage"),
    ],
)
def test_bad_input(here: Muniment, words: tuple[str, ...], status: int, code: str) -> None:
    ticket = here.filed()
    answer = here.json("approve", ticket, *words, who=CYD)
    assert (answer.status, answer.error["code"]) == (status, code)
