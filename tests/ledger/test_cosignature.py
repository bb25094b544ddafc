"""Cosignatures: the bytes that are signed, the time in them, and every way in which a line is not genuine."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mldsa
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import ORIGIN, SIGNER, STRANGER, VERIFIER, steady
from muniment.ledger import keys, signatures
from muniment.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint, with_lines
from muniment.ledger.cosignature import Cosigned, Cosigner, MlDsaSigner, cosignatures
from muniment.ledger.errors import BadCheckpoint, BadKey, BadNote, BadSignature, LedgerFault, WrongKey
from muniment.ledger.keys import cosigner_from_seed, ml_dsa_from_seed
from muniment.ledger.merkle import EMPTY_ROOT
from muniment.ledger.note import MAX_SIGNATURES, Signature, Verifier, key_id, open_note, parse_note, sign_note
from muniment.ledger.signatures import (
    ED25519,
    ED25519_COSIGNATURE,
    ML_DSA_44,
    cosignature_message,
    signature_time,
    subtree_message,
)
from muniment.ledger.trust import TrustPolicy

NOW = 1_679_315_147
HEAD = Checkpoint(origin=ORIGIN, size=20_852_163, root=bytes(range(32)))
TEXT = HEAD.text()
NOTE = sign_checkpoint(HEAD, [SIGNER])
ED = cosigner_from_seed("witness.example/w1", b"\x01" * 32)
PQ = cosigner_from_seed("witness.example/w2", b"\x02" * 32, ml_dsa=True)
SECOND = ml_dsa_from_seed(ORIGIN, b"\x03" * 32)
COSIGNERS = pytest.mark.parametrize("cosigner", [ED, PQ], ids=["Ed25519", "ML-DSA-44"])

# the example of c2sp.org/tlog-cosignature; the specification gives no key for it
SPEC_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
SPEC_NOTE = SPEC_TEXT + (
    "\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

# a checkpoint of a public test log, with the lines that three public witnesses gave it in May 2026; their own programs
PUBLIC_NOTE = (
    "arche2025h1.staging.ct.transparency.dev\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n"
    "— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n"
    "— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n"
    "— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n"
    "— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n"
)
PUBLIC_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
PUBLIC_WITNESSES = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
]


def line(cosigner, signature):
    verifier = cosigner.verifier
    return Signature(name=verifier.name, key_id=verifier.key_id, signature=signature).line()


def stamped(time, signature):
    return time.to_bytes(8, "big") + signature


def test_the_example_of_the_specification():
    assert cosignature_message(SPEC_TEXT, NOW) == (
        b"cosignature/v1\n"
        b"time 1679315147\n"
        b"example.com/behind-the-sofa\n"
        b"20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )
    log, witness = parse_note(SPEC_NOTE).signatures
    assert (log.name, witness.name) == ("example.com/behind-the-sofa", "witness.example.com/w1")
    assert signature_time(ED25519_COSIGNATURE, witness.signature) == NOW
    assert signature_time(ED25519, log.signature) is None
    assert Checkpoint.parse(SPEC_TEXT).size == 20_852_163


def test_cosignatures_of_public_witnesses_verify():
    witnesses = [Verifier.from_vkey(each) for each in PUBLIC_WITNESSES]
    found = cosignatures(PUBLIC_NOTE, witnesses)
    assert [f"{each.name}+{each.key_id.hex()}" for each in found] == [
        "+".join(each.split("+")[:2]) for each in PUBLIC_WITNESSES
    ]
    assert {each.time for each in found} == {1_779_573_024}
    for verifier in [*witnesses, Verifier.from_vkey(PUBLIC_LOG)]:
        assert len(open_note(PUBLIC_NOTE, [verifier]).signatures) == 1
        with pytest.raises(BadSignature):
            open_note(PUBLIC_NOTE.replace("1432088532", "1432088533"), [verifier])
    policy = f"log {PUBLIC_LOG}\n" + "".join(
        f"witness w{at} {each}\n" for at, each in enumerate(PUBLIC_WITNESSES)
    )
    trusted = TrustPolicy.parse(policy + "group all-three all w0 w1 w2\nquorum all-three\n").judge(
        PUBLIC_NOTE
    )
    assert (trusted.quorum_met, trusted.checkpoint.size) == (True, 1_432_088_532)


def test_the_message_of_an_ml_dsa_cosignature_byte_by_byte():
    assert subtree_message("w", TEXT, NOW) == b"".join(
        [
            b"subtree/v1\n\x00", b"\x01w", b"\x00\x00\x00\x00\x64\x18\x50\xcb", bytes([len(ORIGIN)]), ORIGIN.encode(),
            bytes(8), (20_852_163).to_bytes(8, "big"), bytes(range(32)),
        ]
    )  # fmt: skip
    assert len(b"subtree/v1\n\x00") == 12
    assert subtree_message("é", TEXT, 0)[12:23] == b"\x02\xc3\xa9" + bytes(8)


@pytest.mark.parametrize(
    ("verifier", "kind", "size"),
    [(ED.verifier, 4, 32), (PQ.verifier, 6, 1312), (SECOND.verifier, 6, 1312), (VERIFIER, 1, 32)],
)
def test_verifier_keys_of_every_type(verifier, kind, size):
    assert (verifier.kind, len(verifier.key)) == (kind, size)
    name, _, rest = verifier.vkey.partition("+")
    hex_id, _, encoded = rest.partition("+")
    wanted = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + verifier.key).digest()[:4]
    assert (hex_id, base64.b64decode(encoded)) == (wanted.hex(), bytes([kind]) + verifier.key)
    assert Verifier.from_vkey(verifier.vkey) == verifier


def test_the_same_key_has_another_id_for_another_use():
    plain = keys.signer_from_seed(ED.name, b"\x01" * 32).verifier
    assert plain.key == ED.verifier.key
    assert plain.key_id != ED.verifier.key_id


def vkey(name, kind, key):
    return f"{name}+{key_id(name, kind, key).hex()}+{base64.b64encode(bytes([kind]) + key).decode()}"


@pytest.mark.parametrize(
    "text",
    [
        vkey("a", 2, bytes(32)), vkey("a", 3, bytes(32)), vkey("a", 5, bytes(32)), vkey("a", 0xFF, bytes(32)),
        vkey("a", 4, bytes(31)), vkey("a", 4, bytes(1312)), vkey("a", 6, bytes(1311)), vkey("a", 6, bytes(32)),
        vkey("a", 6, b""), vkey("n" * 256, 6, bytes(1312)), f"a+{key_id('a', 1, bytes(32)).hex()}+{'BA' + 'A' * 42}",
        ED.vkey.replace("w1", "w2"), PQ.vkey.replace("w2", "w1"),
    ],
)  # fmt: skip
def test_other_verifier_keys_are_refused(text):
    with pytest.raises(BadKey) as caught:
        Verifier.from_vkey(text)
    assert caught.value.code == "ledger.bad-key"


@COSIGNERS
@pytest.mark.parametrize("time", [1, NOW, 2**63 - 1])
def test_a_cosignature_says_who_and_when(cosigner, time):
    note = with_lines(NOTE, cosigner.sign(TEXT, time))
    assert cosignatures(note, [cosigner.verifier, VERIFIER]) == (
        Cosigned(name=cosigner.name, key_id=cosigner.verifier.key_id, time=time),
    )
    # a witness answers with lines alone
    assert cosignatures(f"{TEXT}\n{cosigner.sign(TEXT, time)}", [cosigner.verifier])[0].time == time
    assert [each.name for each in open_note(note, [VERIFIER, cosigner.verifier]).signatures] == [
        ORIGIN,
        cosigner.name,
    ]
    assert open_checkpoint(note, VERIFIER) == HEAD


def test_an_ed25519_cosignature_is_the_one_that_the_specification_says():
    raw = ED.key.sign(b"cosignature/v1\ntime 1679315147\n" + TEXT.encode())
    assert ED.sign(TEXT, NOW) == line(ED, stamped(NOW, raw))
    assert len(parse_note(f"{TEXT}\n{ED.sign(TEXT, NOW)}").signatures[0].signature) == 72


def test_an_ml_dsa_line_is_of_the_published_size():
    for text in (PQ.sign(TEXT, NOW), SECOND.sign(TEXT)):
        assert len(parse_note(f"{TEXT}\n{text}").signatures[0].signature) == 8 + 2420


def test_a_log_signs_twice():
    note = sign_checkpoint(HEAD, [SIGNER, SECOND])
    assert isinstance(SECOND, MlDsaSigner)
    for known in ([VERIFIER], [SECOND.verifier], [VERIFIER, SECOND.verifier]):
        assert len(open_note(note, known).signatures) == len(known)
    assert open_checkpoint(note, SECOND.verifier) == HEAD
    assert cosignatures(note, [SECOND.verifier])[0].time == 0
    again = sign_checkpoint(HEAD, [SIGNER, SECOND])
    assert open_checkpoint(again, SECOND.verifier) == HEAD  # another line, as genuine
    assert with_lines(note, again.split("\n\n")[1]) == note


NOT_CHECKPOINTS = [
    "", "no newline", "a\n1\n", TEXT[:-1], TEXT + "more\n", TEXT + "\n", TEXT.replace("20852163", "020852163"),
    f"a\n0\n{base64.b64encode(bytes(32)).decode()}\n", TEXT.replace(ORIGIN, "a b"), TEXT.replace("AAEC", "AAE"), "\ud800\n1\nx\n",
]  # fmt: skip


@COSIGNERS
@pytest.mark.parametrize("text", NOT_CHECKPOINTS, ids=range(len(NOT_CHECKPOINTS)))
def test_only_checkpoints_are_cosigned(cosigner, text):
    with pytest.raises(BadCheckpoint):
        cosigner.sign(text, NOW)
    with pytest.raises(BadCheckpoint):
        SECOND.sign(text)


@COSIGNERS
@pytest.mark.parametrize("time", [0, -1, 2**63, 2**64])
def test_only_with_a_time_that_there_is(cosigner, time):
    with pytest.raises(BadNote):
        cosigner.sign(TEXT, time)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "\ud800"])
def test_only_under_a_name_that_a_note_can_carry(name):
    for key in (ED.key, PQ.key):
        with pytest.raises(BadKey):
            Cosigner(name=name, key=key)
    with pytest.raises(BadKey):
        MlDsaSigner(name=name, key=SECOND.key)


def test_names_too_long_for_the_message():
    Cosigner(name="n" * 256, key=ED.key)
    assert cosignatures(
        f"{TEXT}\n{Cosigner(name='n' * 255, key=PQ.key).sign(TEXT, 1)}",
        [Verifier(name="n" * 255, key=PQ.verifier.key, kind=ML_DSA_44)],
    )
    for name in ("n" * 256, "é" * 128):
        with pytest.raises(BadKey):
            Cosigner(name=name, key=PQ.key)
    long = Checkpoint(origin="o" * 256, size=0, root=EMPTY_ROOT).text()
    ED.sign(long, NOW)
    with pytest.raises(BadCheckpoint):
        PQ.sign(long, NOW)
    assert not PQ.verifier.verify(long, stamped(NOW, bytes(2420)))


def damaged(cosigner):
    good = parse_note(f"{TEXT}\n{cosigner.sign(TEXT, NOW)}").signatures[0].signature
    raw = good[8:]
    yield "another time", stamped(NOW + 1, raw)
    yield "time 0", stamped(0, raw)
    yield "a time over 2^63-1", stamped(2**63 + NOW, raw)
    yield "cut", good[:-1]
    yield "longer", good + b"\0"
    yield "no time", raw
    yield "only a time", good[:8]
    yield "zeros", bytes(len(good))
    for kind, message in {
        "the text alone": TEXT.encode(),
        "another root": cosignature_message(TEXT.replace("AAEC", "AAED"), NOW),
        "the other type": subtree_message(cosigner.name, TEXT, NOW)
        if cosigner is ED
        else cosignature_message(TEXT, NOW),
        "another cosigner": subtree_message("witness.example/other", TEXT, NOW),
        "another start": subtree_message(cosigner.name, TEXT, NOW)[:-48] + b"\1" * 8 + b"\1" * 40,
    }.items():
        yield kind, stamped(NOW, cosigner.key.sign(message))
    yield "over 2^63-1, signed", stamped(2**63, ED.key.sign(cosignature_message(TEXT, 2**63)))


@COSIGNERS
def test_a_line_that_is_not_genuine_spoils_the_note(cosigner):
    for kind, signature in damaged(cosigner):
        with pytest.raises(BadSignature):
            cosignatures(with_lines(NOTE, line(cosigner, signature)), [cosigner.verifier])
            pytest.fail(kind)
        with pytest.raises(BadSignature):
            open_note(with_lines(NOTE, line(cosigner, signature)), [VERIFIER, cosigner.verifier])


@COSIGNERS
def test_a_cosignature_belongs_to_its_checkpoint(cosigner):
    other = Checkpoint(origin=ORIGIN, size=HEAD.size + 1, root=HEAD.root).text()
    with pytest.raises(BadSignature):
        cosignatures(f"{other}\n{cosigner.sign(TEXT, NOW)}", [cosigner.verifier])


def test_others_are_passed_over():
    note = with_lines(NOTE, [ED.sign(TEXT, NOW), PQ.sign(TEXT, NOW)])
    assert [each.name for each in cosignatures(note, [PQ.verifier])] == [PQ.name]
    for verifiers in ([], [VERIFIER], [STRANGER.verifier, SECOND.verifier]):
        with pytest.raises(WrongKey):
            cosignatures(note, verifiers)


@steady
@given(st.data())
def test_an_altered_byte_is_never_accepted(data):
    cosigner = data.draw(st.sampled_from([ED, PQ]))
    signature = parse_note(f"{TEXT}\n{cosigner.sign(TEXT, NOW)}").signatures[0].signature
    at, flip = data.draw(st.integers(0, len(signature) - 1)), data.draw(st.integers(1, 255))
    altered = signature[:at] + bytes([signature[at] ^ flip]) + signature[at + 1 :]
    assert cosigner.verifier.verify(TEXT, signature)
    assert not cosigner.verifier.verify(TEXT, altered)


@steady
@given(st.binary(max_size=90), st.sampled_from([ED.verifier, PQ.verifier, VERIFIER]), st.text(max_size=90))
def test_foreign_bytes_raise_nothing(signature, verifier, text):
    assert not verifier.verify(text, signature)


def test_a_library_without_ml_dsa_is_said(monkeypatch):
    def missing(*_):
        raise UnsupportedAlgorithm("no")

    class Without:
        from_public_bytes = from_seed_bytes = staticmethod(missing)

    assert mldsa.MLDSA44PublicKey is signatures.MLDSA44PublicKey
    note = with_lines(NOTE, PQ.sign(TEXT, NOW))
    monkeypatch.setattr(signatures, "MLDSA44PublicKey", Without)
    monkeypatch.setattr(keys, "MLDSA44PrivateKey", Without)
    with pytest.raises(BadKey):
        cosignatures(note, [PQ.verifier])
    with pytest.raises(BadKey):
        ml_dsa_from_seed(ORIGIN, bytes(32))


# ── lines are added ──


def test_lines_come_after_those_that_are_there():
    first, second = ED.sign(TEXT, NOW), PQ.sign(TEXT, NOW)
    note = with_lines(NOTE, first)
    assert note == NOTE + first
    assert with_lines(note, second) == NOTE + first + second == with_lines(NOTE, [first, second])
    assert with_lines(NOTE, first + second) == NOTE + first + second
    assert with_lines(NOTE.encode(), []) == with_lines(NOTE, "") == NOTE


def test_the_first_line_by_a_key_stays():
    note = NOTE + ED.sign(TEXT, NOW)
    assert with_lines(note, [ED.sign(TEXT, NOW + 1), PQ.sign(TEXT, 5), SIGNER.sign(TEXT)]).count("\n— ") == 3
    assert cosignatures(with_lines(note, ED.sign(TEXT, NOW + 1)), [ED.verifier])[0].time == NOW
    # the same name with another id is another key
    other = Cosigner(name=ED.name, key=cosigner_from_seed("x", b"\x09" * 32).key)
    assert with_lines(note, other.sign(TEXT, 7)) == note + other.sign(TEXT, 7)


@pytest.mark.parametrize(
    "lines",
    [
        "text\n", "\n", f"{TEXT}\n{ED.sign(TEXT, NOW)}", "\n" + ED.sign(TEXT, NOW), ED.sign(TEXT, NOW)[:-1],
        ED.sign(TEXT, NOW) + "\n", ED.sign(TEXT, NOW) + "more\n", [ED.sign(TEXT, NOW), "\n", ED.sign(TEXT, NOW)],
        ED.sign(TEXT, NOW).replace("—", "-"), "— a\n", ED.sign(TEXT, NOW) * (MAX_SIGNATURES + 1), ED.sign(TEXT, NOW) * 1000,
        "x" * 70_000, ["\ud800"],
    ],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_line_is_not_added(lines):
    with pytest.raises(BadNote) as caught:
        with_lines(NOTE, lines)
    assert caught.value.code == "ledger.bad-note"


def test_a_full_note_takes_no_more():
    lines = [Cosigner(name=f"w{n}", key=ED.key).sign(TEXT, NOW) for n in range(MAX_SIGNATURES)]
    full = with_lines(NOTE, lines[:-1])
    assert len(parse_note(full).signatures) == MAX_SIGNATURES
    assert with_lines(full, lines[0]) == full
    with pytest.raises(BadNote):
        with_lines(full, lines[-1])
    with pytest.raises(LedgerFault):
        with_lines("not a note", lines[0])


def test_a_note_of_lines_can_be_signed_by_all_types():
    note = sign_note(TEXT, [SIGNER, SECOND, *[MlDsaSigner(name=f"w{n}", key=PQ.key) for n in range(14)]])
    assert len(parse_note(note).signatures) == 16
