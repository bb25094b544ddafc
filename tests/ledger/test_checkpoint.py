"""Checkpoints: three lines, one spelling, the right log."""

from __future__ import annotations

import base64

import pytest

from ledger.logs import ORIGIN, SIGNER, STRANGER, VERIFIER
from muniment.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from muniment.ledger.errors import BadCheckpoint, BadNote, BadSignature, LedgerFault, WrongKey, WrongOrigin
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.merkle import EMPTY_ROOT
from muniment.ledger.note import sign_note

ROOT = bytes(range(32))
HEAD = Checkpoint(origin=ORIGIN, size=20852163, root=ROOT)
B64 = base64.b64encode(ROOT).decode()
WITNESS = signer_from_seed("witness.example/w1", b"\x01" * 32)


def test_the_text_on_record():
    assert HEAD.text() == f"{ORIGIN}\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert Checkpoint.parse(HEAD.text()) == HEAD


@pytest.mark.parametrize("head", [HEAD, Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT)])
def test_round_trip(head):
    note = sign_checkpoint(head, [SIGNER])
    assert open_checkpoint(note, VERIFIER) == head
    assert open_checkpoint(note.encode(), VERIFIER) == head
    assert sign_checkpoint(head, [SIGNER]) == note  # a crash between signing and storing changes nothing


def test_witnesses_may_sign_too():
    note = sign_checkpoint(HEAD, [SIGNER, WITNESS])
    assert open_checkpoint(note, VERIFIER) == HEAD


REFUSED = {
    "empty": "",
    "one line": f"{ORIGIN}\n",
    "two lines": f"{ORIGIN}\n1\n",
    "no final newline": f"{ORIGIN}\n1\n{B64}",
    "extension line": f"{ORIGIN}\n1\n{B64}\nmore\n",
    "empty extension line": f"{ORIGIN}\n1\n{B64}\n\n",
    "empty origin": f"\n1\n{B64}\n",
    "origin with a space": f"a b\n1\n{B64}\n",
    "origin with a plus": f"a+b\n1\n{B64}\n",
    "empty size": f"{ORIGIN}\n\n{B64}\n",
    "leading zero": f"{ORIGIN}\n01\n{B64}\n",
    "double zero": f"{ORIGIN}\n00\n{B64}\n",
    "plus sign": f"{ORIGIN}\n+1\n{B64}\n",
    "minus sign": f"{ORIGIN}\n-1\n{B64}\n",
    "space before the size": f"{ORIGIN}\n 1\n{B64}\n",
    "space after the size": f"{ORIGIN}\n1 \n{B64}\n",
    "underscore": f"{ORIGIN}\n1_000\n{B64}\n",
    "hexadecimal": f"{ORIGIN}\n0x1\n{B64}\n",
    "other digits": f"{ORIGIN}\n\u0661\n{B64}\n",
    "2^63": f"{ORIGIN}\n{2**63}\n{B64}\n",
    "10,000 digits": f"{ORIGIN}\n{'9' * 10_000}\n{B64}\n",
    "31 bytes": f"{ORIGIN}\n1\n{base64.b64encode(ROOT[:31]).decode()}\n",
    "33 bytes": f"{ORIGIN}\n1\n{base64.b64encode(ROOT + b'x').decode()}\n",
    "unpadded": f"{ORIGIN}\n1\n{B64[:-1]}\n",
    "overpadded": f"{ORIGIN}\n1\n{B64}=\n",
    "loose last bits": f"{ORIGIN}\n1\n{B64[:-2]}9=\n",
    "url alphabet": f"{ORIGIN}\n1\n{base64.urlsafe_b64encode(bytes([255] * 32)).decode()}\n",
    "hexadecimal root": f"{ORIGIN}\n1\n{ROOT.hex()}\n",
    "empty root": f"{ORIGIN}\n1\n\n",
    "no leaves, yet a root": f"{ORIGIN}\n0\n{B64}\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_another_text_is_refused(name):
    with pytest.raises(BadCheckpoint) as caught:
        Checkpoint.parse(REFUSED[name])
    assert caught.value.code == "ledger.bad-checkpoint"


@pytest.mark.parametrize("name", [name for name, text in REFUSED.items() if text.endswith("\n")])
def test_signing_it_does_not_help(name):
    with pytest.raises(BadCheckpoint):
        open_checkpoint(sign_note(REFUSED[name], [SIGNER]), VERIFIER)


@pytest.mark.parametrize(
    "changes", [{"origin": ""}, {"size": -1}, {"size": 2**63}, {"root": b"x"}, {"size": 0}]
)
def test_an_impossible_head_cannot_be_made(changes):
    with pytest.raises(BadCheckpoint):
        Checkpoint(**({"origin": ORIGIN, "size": 5, "root": ROOT} | changes))


def test_the_logs_own_key_signs_first():
    for signers in [[], [WITNESS], [WITNESS, SIGNER]]:
        with pytest.raises(WrongOrigin) as caught:
            sign_checkpoint(HEAD, signers)
        assert caught.value.code == "ledger.wrong-origin"


def test_whose_checkpoint_it_is():
    with pytest.raises(WrongKey):
        open_checkpoint(sign_checkpoint(HEAD, [STRANGER]), VERIFIER)
    other = Checkpoint(origin="ledger.example.org/other", size=1, root=ROOT)
    with pytest.raises(WrongOrigin):
        open_checkpoint(sign_note(other.text(), [SIGNER]), VERIFIER)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("20852163", "20852164", BadSignature), ("AAEC", "AAED", BadSignature), (ORIGIN + "\n", "a\n", BadSignature),
        ("\n\n", "\nextension\n\n", BadSignature), ("\n\n", "\n", BadNote), ("— ledger", "— Ledger", WrongKey),
    ],
)  # fmt: skip
def test_an_altered_checkpoint_is_refused(old, new, fault):
    note = sign_checkpoint(HEAD, [SIGNER])
    assert old in note
    with pytest.raises(LedgerFault) as caught:
        open_checkpoint(note.replace(old, new, 1), VERIFIER)
    assert type(caught.value) is fault
