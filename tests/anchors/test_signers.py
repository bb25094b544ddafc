"""The ledger's key by reference: which settings each kind needs, and that a signer elsewhere is asked late."""

from __future__ import annotations

import pytest

from muniment.anchors.signers import LateSigner, open_signer
from muniment.config import (
    Config,
    IdentitySettings,
    LedgerSettings,
    PolicySettings,
    ServerSettings,
    StoreSettings,
)
from muniment.core.errors import Misconfigured, SignerUnavailable
from muniment.ledger.keys import ml_dsa_from_seed, signer_from_seed, signer_to_pem

ORIGIN = "ledger.example.org/by-reference"
SEED = b"\x07" * 32


def config(folder, **ledger) -> Config:
    return Config(
        base=folder, store=StoreSettings(url="sqlite:///x.db"), ledger=LedgerSettings(origin=ORIGIN, key="env:NONE", **ledger),
        server=ServerSettings(), identities=IdentitySettings(file="i"), policy=PolicySettings(dir="p"), targets=(),
    )  # fmt: skip


def key_file(folder, signer, mode: int = 0o600):
    path = folder / "key"
    path.write_bytes(signer_to_pem(signer))
    path.chmod(mode)
    return "file:key"


def test_a_key_file_of_either_kind_signs(tmp_path):
    for made in (signer_from_seed(ORIGIN, SEED), ml_dsa_from_seed(ORIGIN, SEED)):
        assert open_signer(config(tmp_path), key_file(tmp_path, made)).verifier == made.verifier


def test_a_key_file_that_others_can_read_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="can be read by others"):
        open_signer(config(tmp_path), key_file(tmp_path, signer_from_seed(ORIGIN, SEED), 0o640))


@pytest.mark.parametrize(
    ("reference", "settings", "why"),
    [
        ("openbao:transit/keys/x", {"openbao_token": "env:T"}, "needs openbao_address"),
        (
            "openbao:transit/keys/x",
            {"openbao_address": "https://b"},
            "needs openbao_address and openbao_token",
        ),
        (
            "openbao:transit/keys/x",
            {"openbao_address": "http://b.example", "openbao_token": "env:T"},
            "clear text",
        ),
        (
            "openbao:transit",
            {"openbao_address": "https://b", "openbao_token": "env:T"},
            "does not name a key",
        ),
        ("pkcs11:token=t;object=o?module-path=/x.so", {}, "there is no pin"),
        ("pkcs11:token=t;object=o", {"pin": "env:P"}, "no module-path"),
        ("-----BEGIN PRIVATE KEY-----", {}, "not a reference"),
    ],
)
def test_what_a_reference_needs_is_said_at_once(tmp_path, reference, settings, why):
    with pytest.raises(Misconfigured, match=why):
        open_signer(config(tmp_path, **settings), reference)


def test_openbao_is_asked_when_something_is_to_be_signed(tmp_path):
    """Nothing listens there, and the process starts all the same."""
    signer = open_signer(
        config(tmp_path, openbao_address="http://127.0.0.1:1", openbao_token="file:token"), "openbao:t/keys/x"
    )
    assert signer.name == ORIGIN
    with pytest.raises(Misconfigured, match="token"):
        signer.sign("text\n")
    (tmp_path / "token").write_text("s.secret")
    (tmp_path / "token").chmod(0o600)
    for _ in range(2):
        with pytest.raises(SignerUnavailable) as found:
            signer.sign("text\n")
        assert "s.secret" not in found.value.message


def test_a_late_signer_is_opened_once_and_asked_again_until_it_answers():
    real = signer_from_seed(ORIGIN, SEED)
    answers = [SignerUnavailable("not yet"), real]
    opened = []

    def open_it():
        answer = answers[len(opened)]
        opened.append(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    late = LateSigner(ORIGIN, "here", open_it)
    assert not opened
    with pytest.raises(SignerUnavailable):
        _ = late.verifier
    assert late.verifier == real.verifier
    assert late.sign("text\n") == real.sign("text\n")
    assert len(opened) == 2
