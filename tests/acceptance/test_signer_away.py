"""The ledger's key lies in OpenBao, and OpenBao is away: what is given waits, what is taken goes on (I26, I14)."""

from __future__ import annotations

import json
import time

import pytest

from acceptance.conftest import CYD, OPS, Answer, Muniment, running

pytestmark = [pytest.mark.xdist_group("openbao"), pytest.mark.slow]


@pytest.fixture
def muniment_with_bao(here: Muniment, openbao) -> Muniment:
    muniment = here
    token = muniment.folder / "keys/openbao-token"
    token.write_text(openbao.token("read transit/keys/away", "update transit/sign/away"))
    token.chmod(0o600)
    reference = openbao.key("away")
    text = muniment.config.read_text()
    (line,) = (each for each in text.splitlines() if each.startswith("key = "))
    text = text.replace(
        line,
        f'key = "{reference}"\nopenbao_address = "{openbao.address}"\nopenbao_token = "file:keys/openbao-token"',
    )
    if "mark_key" not in text:
        text = text.replace("[store]\n", '[store]\nmark_key = "file:keys/ledger.key"\n')
    muniment.config.write_text(text)
    return muniment


def status(muniment: Muniment, ticket: str) -> str:
    found: str = muniment.json("show", ticket, who=OPS).document["status"]
    return found


def no_seal(answer: Answer) -> str:
    assert (answer.status, answer.error["code"]) == (3, "signer.sealed")
    ticket: str = answer.document["id"]
    return ticket


def becomes(muniment: Muniment, ticket: str, *wanted: str) -> None:
    for _ in range(100):
        if (now := status(muniment, ticket)) in wanted:
            return
        time.sleep(0.2)
    pytest.fail(f"{ticket} is {now}, not {wanted}")


def test_grants_wait_and_revocations_go_on_while_it_is_sealed(muniment_with_bao: Muniment, openbao) -> None:
    muniment = muniment_with_bao
    held = muniment.filed()
    assert muniment.json("approve", held, who=CYD).status == 0
    assert status(muniment, held) == "active"

    openbao.seal()
    try:
        with running("--config", muniment.config, "serve", "--only", "controllers") as process:
            # each is recorded and says so, and beside it, that it could not be sealed
            asked = no_seal(muniment.request())
            assert no_seal(muniment.json("approve", asked, who=CYD)) == asked
            assert no_seal(muniment.json("revoke", held, "--reason", "no longer needed", who=OPS)) == held
            becomes(muniment, held, "closed", "revoked")
            assert status(muniment, asked) == "approved"
            check = muniment.json("check")
            assert check.status == 0
            assert any("cannot sign" in words for words in check.document["warnings"]), check.document

            assert process.stderr is not None
            said = iter(process.stderr.readline, "")
            alarm = json.loads(next(line for line in said if "the ledger cannot be sealed" in line))
            assert (alarm["level"], alarm["code"]) == ("critical", "signer.sealed")

            openbao.unseal()
            becomes(muniment, asked, "active")
            assert muniment.json("ledger", "verify").document["ok"] is True
            process.terminate()
            _, rest = process.communicate(timeout=60)
    finally:
        openbao.unseal()
    for secret in (openbao.root, (muniment.folder / "keys/openbao-token").read_text()):
        assert secret not in f"{alarm} {rest}"
