"""Proof files: one entry, checked with nothing but the log's public key; every alteration shows."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import ORIGIN, STRANGER, VERIFIER, build, head, seal, steady
from muniment.ledger.errors import BadNote, BadProof, BadSignature, LedgerFault, WrongKey, WrongOrigin
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.merkle import inclusion_proof, leaf_hash
from muniment.ledger.note import MAX_NOTE, sign_note
from muniment.ledger.proof import MAX_EXTRA, MAX_HASHES, Proof, verify_proof

ENTRIES = build(["a", "b", "a", "c", "b", "a", "c"])
LEAVES = [leaf_hash(each) for each in ENTRIES]
NOTE = seal(ENTRIES)


def proof(at: int, **changes: object) -> Proof:
    fields = {"index": at, "hashes": tuple(inclusion_proof(at, LEAVES)), "checkpoint": NOTE}
    return Proof(**(fields | changes))  # type: ignore[arg-type]


FILE = proof(3).text()
HASHES = FILE.split("\n")[2:5]


def test_the_shape_on_record():
    small = Proof(index=0, hashes=(bytes(32),), checkpoint="checkpoint\n", extra=b"hello")
    zeros = "A" * 43 + "="
    assert small.text() == f"c2sp.org/tlog-proof@v1\nextra aGVsbG8=\nindex 0\n{zeros}\n\ncheckpoint\n"


@pytest.mark.parametrize("extra", [b"", b"x", bytes(MAX_EXTRA)])
@pytest.mark.parametrize("index", range(len(ENTRIES)))
def test_round_trip(index, extra):
    made = proof(index, extra=extra)
    assert Proof.parse(made.text()) == made
    assert Proof.parse(made.text().encode()).text() == made.text()
    assert verify_proof(ENTRIES[index], made.text(), VERIFIER) == head(ENTRIES)


def test_a_log_of_one_entry_needs_no_hashes():
    made = Proof(index=0, hashes=(), checkpoint=seal(ENTRIES[:1]))
    assert Proof.parse(made.text()) == made
    assert verify_proof(ENTRIES[0], made.text(), VERIFIER).size == 1


MALFORMED = {
    "empty": "",
    "other version": FILE.replace("@v1", "@v2"),
    "space before": " " + FILE,
    "no index": FILE.replace("index 3\n", ""),
    "index twice": FILE.replace("index 3\n", "index 3\nindex 3\n"),
    "leading zero": FILE.replace("index 3", "index 03"),
    "negative index": FILE.replace("index 3", "index -3"),
    "no number": FILE.replace("index 3", "index "),
    "two spaces": FILE.replace("index 3", "index  3"),
    "other digits": FILE.replace("index 3", "index ٣"),
    "2^63": FILE.replace("index 3", f"index {2**63}"),
    "extra after index": FILE.replace("index 3\n", "index 3\nextra aGVsbG8=\n"),
    "extra without data": FILE.replace("index 3\n", "extra \nindex 3\n"),
    "extra twice": FILE.replace("index 3\n", "extra aGVsbG8=\nextra aGVsbG8=\nindex 3\n"),
    "extra not base64": FILE.replace("index 3\n", "extra !\nindex 3\n"),
    "extra too long": FILE.replace(
        "index 3\n", f"extra {base64.b64encode(bytes(MAX_EXTRA + 1)).decode()}\nindex 3\n"
    ),
    "short hash": FILE.replace(HASHES[0], HASHES[0][4:]),
    "long hash": FILE.replace(HASHES[0], "AAAA" + HASHES[0]),
    "unpadded hash": FILE.replace(HASHES[0], HASHES[0][:-1]),
    "hexadecimal hash": FILE.replace(HASHES[0], bytes(32).hex()),
    "hash with a space": FILE.replace(HASHES[0], HASHES[0] + " "),
    "too many hashes": FILE.replace(HASHES[0], "\n".join([HASHES[0]] * MAX_HASHES)),
    "no empty line": FILE.split("\n\n", maxsplit=1)[0] + "\n",
    "carriage returns": FILE.replace("\n", "\r\n"),
    "not UTF-8": b"\xff" + FILE.encode(),
    "too long": FILE + "x" * 200_000,
    "checkpoint too long": FILE + "x" * MAX_NOTE,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_another_shape_is_refused(name):
    assert MALFORMED[name] != FILE
    with pytest.raises(BadProof) as caught:
        verify_proof(ENTRIES[3], MALFORMED[name], VERIFIER)
    assert caught.value.code == "ledger.bad-proof"


@pytest.mark.parametrize(
    "changes",
    [
        {"index": -1}, {"index": 2**63}, {"hashes": (b"x",)}, {"hashes": (bytes(32),) * (MAX_HASHES + 1)},
        {"extra": bytes(MAX_EXTRA + 1)}, {"checkpoint": "\ud800"}, {"checkpoint": "a\tb"}, {"checkpoint": "x" * MAX_NOTE + "\n"},
    ],
)  # fmt: skip
def test_what_would_not_be_read_is_not_written(changes):
    with pytest.raises(BadProof):
        proof(0, **changes)


OTHER = signer_from_seed("ledger.example.org/other", bytes(range(32)))
LIES = {
    "another entry": (ENTRIES[2], FILE, BadProof),
    "altered entry": (ENTRIES[3].replace(b"maintenance", b"convenience"), FILE, BadProof),
    "another index": (ENTRIES[3], FILE.replace("index 3", "index 2"), BadProof),
    "index outside": (ENTRIES[3], FILE.replace("index 3", "index 7"), BadProof),
    "hash missing": (ENTRIES[3], FILE.replace(HASHES[1] + "\n", ""), BadProof),
    "hash repeated": (ENTRIES[3], FILE.replace(HASHES[1], HASHES[1] + "\n" + HASHES[1]), BadProof),
    "hashes swapped": (ENTRIES[3], proof(3, hashes=tuple(reversed(proof(3).hashes))).text(), BadProof),
    "older checkpoint": (ENTRIES[3], proof(3, checkpoint=seal(ENTRIES[:6])).text(), BadProof),
    "size altered": (ENTRIES[3], FILE.replace("\n7\n", "\n8\n"), BadSignature),
    "re-signed by another key": (ENTRIES[3], proof(3, checkpoint=seal(ENTRIES, STRANGER)).text(), WrongKey),
    "another log": (ENTRIES[3], proof(3, checkpoint=seal(ENTRIES, OTHER)).text(), WrongKey),
    "no checkpoint": (ENTRIES[3], proof(3, checkpoint="").text(), BadNote),
    "signature missing": (ENTRIES[3], proof(3, checkpoint=NOTE.split("—", maxsplit=1)[0]).text(), BadNote),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused(name):
    entry, file, fault = LIES[name]
    with pytest.raises(LedgerFault) as caught:
        verify_proof(entry, file, VERIFIER)
    assert type(caught.value) is fault


def test_the_key_of_one_log_does_not_speak_for_another():
    note = sign_note(head(ENTRIES, ORIGIN).text(), [OTHER])
    with pytest.raises(WrongOrigin):
        verify_proof(ENTRIES[3], proof(3, checkpoint=note).text(), OTHER.verifier)


@steady
@given(st.integers(0, len(FILE.encode()) - 1), st.integers(1, 255))
def test_an_altered_byte_is_never_accepted(at, flip):
    raw = bytearray(FILE.encode())
    raw[at] ^= flip
    with pytest.raises(LedgerFault):
        verify_proof(ENTRIES[3], bytes(raw), VERIFIER)
