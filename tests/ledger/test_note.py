"""Signed notes: other programs' notes verify, ours round trip, and every malformed shape is refused by its code."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import SIGNER, STRANGER, VERIFIER, steady
from muniment.ledger.errors import BadKey, BadNote, BadSignature, WrongKey
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.note import MAX_NOTE, MAX_SIGNATURES, Verifier, key_id, open_note, parse_note, sign_note

TEXT = "first\n\nthird\n"
NOTE = sign_note(TEXT, [SIGNER])
LINE = NOTE[len(TEXT) + 1 :]
OTHER = signer_from_seed("witness.example/w1", b"\x01" * 32)

# the example of c2sp.org/signed-note
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# the example of Go's golang.org/x/mod/sumdb/note
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
GO_NOTE = GO_TEXT + (
    "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


@pytest.mark.parametrize(("vkey", "note"), [(SPEC_VKEY, SPEC_NOTE), (GO_VKEY, GO_NOTE)])
def test_notes_of_other_programs_verify(vkey, note):
    verifier = Verifier.from_vkey(vkey)
    assert verifier.vkey == vkey
    opened = open_note(note, [verifier])
    assert opened.text + "\n" + "".join(each.line() for each in opened.signatures) == note
    assert open_note(note.encode(), [verifier]) == opened


def test_our_signature_is_the_one_that_go_makes():
    signer = signer_from_seed("PeterNeumann", GO_SEED)
    assert signer.vkey == GO_VKEY
    assert sign_note(GO_TEXT, [signer]) == GO_NOTE


def test_round_trip_through_the_last_empty_line():
    opened = open_note(NOTE, [VERIFIER])
    assert opened.text == TEXT
    assert [each.name for each in opened.signatures] == [SIGNER.name]
    assert Verifier.from_vkey(SIGNER.vkey) == VERIFIER


@pytest.mark.parametrize(
    "text", ["\n", "\n\n\n", "— a b\n", f"x\n\n{LINE}", "\u2028\x7f\x85\u00a0é\n", "😀\n"], ids=range(6)
)
def test_any_text_survives(text):
    assert open_note(sign_note(text, [SIGNER]), [VERIFIER]).text == text


def test_several_sign_and_any_known_one_is_enough():
    note = sign_note(TEXT, [SIGNER, OTHER])
    assert [s.name for s in open_note(note, [VERIFIER, OTHER.verifier]).signatures] == [
        SIGNER.name,
        OTHER.name,
    ]
    assert [s.name for s in open_note(note, [OTHER.verifier]).signatures] == [OTHER.name]


def test_lines_by_unknown_keys_and_algorithms_are_ignored():
    unknown = f"— {SIGNER.name} {base64.b64encode(b'abcd' + bytes(2420)).decode()}\n"
    same_id = f"— other.example {base64.b64encode(VERIFIER.key_id + bytes(64)).decode()}\n"
    note = f"{TEXT}\n{unknown}{same_id}{LINE}{STRANGER.sign(TEXT)}"
    assert len(open_note(note, [VERIFIER]).signatures) == 1


def test_a_known_key_that_fails_spoils_the_note():
    bad = f"— {SIGNER.name} {base64.b64encode(VERIFIER.key_id + bytes(64)).decode()}\n"
    for note in [
        f"{TEXT}\n{bad}",
        f"{TEXT}\n{LINE}{bad}",
        f"{TEXT}\n{bad}{LINE}",
        NOTE.replace("first", "First"),
    ]:
        with pytest.raises(BadSignature) as caught:
            open_note(note, [VERIFIER])
        assert caught.value.code == "ledger.bad-signature"
    short = f"— {SIGNER.name} {base64.b64encode(VERIFIER.key_id + b'x').decode()}\n"
    with pytest.raises(BadSignature):
        open_note(f"{TEXT}\n{short}", [VERIFIER])


def test_a_note_by_others_alone_is_refused():
    for verifiers in [[STRANGER.verifier], [OTHER.verifier], []]:
        with pytest.raises(WrongKey) as caught:
            open_note(NOTE, verifiers)
        assert caught.value.code == "ledger.wrong-key"


B64 = LINE.split(" ")[2].strip()
MALFORMED = {
    "empty": "",
    "text alone": "text\n",
    "no signature": "text\n\n",
    "no empty line": f"text\n{LINE}",
    "no final newline": NOTE[:-1],
    "line after the signatures": NOTE + "more\n",
    "empty line after the signatures": NOTE + "\n",
    "hyphen for a dash": NOTE.replace("—", "-"),
    "two spaces": NOTE.replace("— ", "—  "),
    "no space after the dash": NOTE.replace("— ", "—"),
    "no name": f"{TEXT}\n— {B64}\n",
    "empty name": f"{TEXT}\n—  {B64}\n",
    "plus in the name": f"{TEXT}\n— a+b {B64}\n",
    "unicode space in the name": f"{TEXT}\n— a\u00a0b {B64}\n",
    "line separator in the name": f"{TEXT}\n— a\u2028b {B64}\n",
    "no signature bytes": f"{TEXT}\n— a \n",
    "four bytes": f"{TEXT}\n— a {base64.b64encode(b'abcd').decode()}\n",
    "unpadded": NOTE.replace("=\n", "\n"),
    "url alphabet": f"{TEXT}\n— a {base64.urlsafe_b64encode(b'abcd' + bytes([255] * 8)).decode()}\n",
    "loose last bits": f"{TEXT}\n— a YWJjZGV=\n",
    "space at the end": NOTE[:-1] + " \n",
    "carriage return": NOTE.replace("\n", "\r\n"),
    "tab": NOTE.replace("first", "fi\trst"),
    "NUL": NOTE.replace("first", "fi\0rst"),
    "lone surrogate": NOTE.replace("first", "\ud800"),
    "not UTF-8": b"\xff" + NOTE.encode(),
    "overlong": b"\xc0\xaf" + NOTE.encode(),
    "byte order mark in the line": NOTE.replace("— ", "\ufeff— "),
    "too long": "x" * MAX_NOTE + NOTE,
    "too long in bytes": "é" * (MAX_NOTE // 2) + NOTE,
    "1,000 signatures": f"{TEXT}\n" + f"— a {base64.b64encode(b'abcde').decode()}\n" * 1000,
    "one signature too many": f"{TEXT}\n" + LINE * (MAX_SIGNATURES + 1),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_another_shape_is_refused(name):
    with pytest.raises(BadNote) as caught:
        open_note(MALFORMED[name], [VERIFIER])
    assert caught.value.code == "ledger.bad-note"


def test_the_cap_leaves_room_for_sixteen_post_quantum_signatures():
    big = f"— a {base64.b64encode(b'abcd' + bytes(2428)).decode()}\n"
    assert len(parse_note(f"{TEXT}\n" + big * 16).signatures) == 16
    assert len(parse_note(f"{TEXT}\n" + LINE * MAX_SIGNATURES).signatures) == MAX_SIGNATURES


@pytest.mark.parametrize("text", ["", "no newline", "a\tb\n", "a\r\n", "\ud800\n", "x" * MAX_NOTE + "\n"])
def test_a_text_that_could_not_be_read_is_not_signed(text):
    with pytest.raises(BadNote):
        SIGNER.sign(text)
    with pytest.raises(BadNote):
        sign_note(text, [SIGNER])


def test_somebody_has_to_sign():
    with pytest.raises(BadNote):
        sign_note(TEXT, [])


KEY64 = SPEC_VKEY.split("+", 2)[2]
RSA64 = base64.b64encode(b"\x02" + bytes(32)).decode()
SHORT64 = base64.b64encode(b"\x01" + bytes(31)).decode()


@pytest.mark.parametrize(
    "vkey",
    [
        "", "example.com/foo", "example.com/foo+530d903a", "example.com/foo+530d903a+", f"+530d903a+{KEY64}",
        f"example.com/foo+530D903A+{KEY64}", f"example.com/foo+530d903b+{KEY64}", f"example.com/fop+530d903a+{KEY64}",
        f"example com+530d903a+{KEY64}", f"example.com/foo+530d903a+{KEY64[:-1]}", f"{SPEC_VKEY}\n", f" {SPEC_VKEY}",
        f"a+{key_id('a', 2, bytes(32)).hex()}+{RSA64}", f"a+{key_id('a', 1, bytes(31)).hex()}+{SHORT64}", "a+00000000+!!!!",
    ],
)  # fmt: skip
def test_a_malformed_verifier_key_is_refused(vkey):
    with pytest.raises(BadKey) as caught:
        Verifier.from_vkey(vkey)
    assert caught.value.code == "ledger.bad-key"


def test_a_key_that_is_no_point_verifies_nothing():
    for key in [b"\xff" * 32, b"\x02" + bytes(31)]:
        assert not Verifier(name="a", key=key).verify(TEXT, bytes(64))


@steady
@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_an_altered_byte_is_never_accepted(at, flip):
    raw = bytearray(NOTE.encode())
    raw[at] ^= flip
    with pytest.raises((BadNote, BadSignature, WrongKey)):
        open_note(bytes(raw), [VERIFIER])
