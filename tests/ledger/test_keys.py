"""The log's key file: ours reads back, others' are refused in words, and none is quoted."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ledger.logs import ORIGIN, SIGNER
from muniment.ledger.errors import BadKey
from muniment.ledger.keys import (
    cosigner_from_pem,
    cosigner_from_seed,
    ml_dsa_from_pem,
    ml_dsa_from_seed,
    signer_from_pem,
    signer_from_seed,
    signer_to_pem,
)

PEM = signer_to_pem(SIGNER)
# RFC 8410, section 10.3
RFC8410 = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""
RFC8410_PUBLIC = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
# RFC 9881, appendix C: the seed 00 01 … 1f, and how its public key begins
RFC9881 = b"""-----BEGIN PRIVATE KEY-----
MDQCAQAwCwYJYIZIAWUDBAMRBCKAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ
GhscHR4f
-----END PRIVATE KEY-----
"""
RFC9881_PUBLIC = "d7b2b47254aae0db45e7930d4a98d2c97d8f1397d1789dafa17024b316e9bec9"
PQ = ml_dsa_from_seed(ORIGIN, bytes(range(32)))


def test_round_trip():
    assert PEM.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    again = signer_from_pem(ORIGIN, PEM)
    assert again.vkey == SIGNER.vkey
    assert again.sign("a\n") == SIGNER.sign("a\n")


def test_the_key_of_the_rfc():
    assert signer_from_pem("a", RFC8410).verifier.key.hex() == RFC8410_PUBLIC
    assert signer_to_pem(signer_from_pem("a", RFC8410)) == RFC8410


def test_the_ml_dsa_key_of_the_rfc():
    assert signer_to_pem(PQ) == RFC9881
    assert PQ.verifier.key.hex().startswith(RFC9881_PUBLIC)
    for key in (ml_dsa_from_pem(ORIGIN, RFC9881), cosigner_from_pem(ORIGIN, RFC9881)):
        assert key.vkey == PQ.vkey
        assert signer_to_pem(key) == RFC9881
    assert cosigner_from_seed(ORIGIN, bytes(range(32)), ml_dsa=True).vkey == PQ.vkey


def test_a_witness_has_either_key():
    ed = cosigner_from_seed("w", bytes(range(32)))
    assert signer_to_pem(ed) == PEM  # the file does not say what for
    assert cosigner_from_pem("w", PEM).vkey == ed.vkey
    assert cosigner_from_pem("w", PEM).verifier.kind == 4
    assert cosigner_from_pem("w", RFC9881).verifier.kind == 6


def test_each_reads_its_own_kind():
    for read, raw, needed in [
        (signer_from_pem, RFC9881, "holds MLDSA44PrivateKey; Ed25519 is needed"),
        (ml_dsa_from_pem, PEM, "holds Ed25519PrivateKey; ML-DSA-44 is needed"),
        (cosigner_from_pem, pem(EC), "Ed25519 or ML-DSA-44 is needed"),
    ]:
        with pytest.raises(BadKey) as caught:
            read(ORIGIN, raw)
        assert needed in str(caught.value)


def pkcs8(inside):
    body = bytes.fromhex("020100300b0609608648016503040311") + der(0x04, inside)
    return (
        b"-----BEGIN PRIVATE KEY-----\n"
        + base64.b64encode(der(0x30, body))
        + b"\n-----END PRIVATE KEY-----\n"
    )


def der(tag, body):
    return bytes([tag, 0x82]) + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    "inside",
    [
        b"\x80\x1f" + bytes(31), b"\x80\x21" + bytes(33), b"\x80\x20" + bytes(31), b"",
        der(0x04, bytes(2560)),  # RFC 9881 allows the expanded key instead; zeros are none
    ],
    ids=["31 bytes", "33 bytes", "cut", "nothing", "no expanded key"],
)  # fmt: skip
def test_a_damaged_ml_dsa_key_is_refused(inside):
    for read in (ml_dsa_from_pem, cosigner_from_pem):
        with pytest.raises(BadKey):
            read(ORIGIN, pkcs8(inside))


def test_the_name_is_part_of_the_identity():
    assert signer_from_pem("other.example", PEM).verifier.key_id != SIGNER.verifier.key_id


def pem(key, form=PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


EC = ec.derive_private_key(7, ec.SECP256R1())
REFUSED = {
    "empty": (b"", "not one PEM block"),
    "text": (b"hello", "not one PEM block"),
    "two keys": (PEM + PEM, "not one PEM block"),
    "public key": (
        SIGNER.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "not one PEM block",
    ),
    "OpenSSH form": (pem(SIGNER.key, PrivateFormat.OpenSSH), "not one PEM block"),
    "DER": (SIGNER.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "not one PEM block"),
    "encrypted": (pem(SIGNER.key, encryption=BestAvailableEncryption(b"secret")), "encrypted"),
    "cut off": (PEM[:60], "damaged"),
    "a character changed": (PEM.replace(b"MC4CAQAw", b"MC4CAQAx"), "damaged"),
    "a character lost": (PEM.replace(b"MC4CAQAw", b"MC4CAQA"), "damaged"),
    "not UTF-8": (PEM.replace(b"MC4CAQAw", b"\xff\xfe\xfd\xfc"), "damaged"),
    "no body": (b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "damaged"),
    "elliptic curve": (pem(EC), "Ed25519 is needed"),
    "Ed448": (pem(ed448.Ed448PrivateKey.from_private_bytes(bytes(57))), "Ed25519 is needed"),
    "too long": (PEM + b"\n" * 20_000, "too many for a key"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_file_is_refused_in_words(name):
    raw, sentence = REFUSED[name]
    for read in (ml_dsa_from_pem, cosigner_from_pem):
        with pytest.raises(BadKey):
            read(ORIGIN, raw)
    with pytest.raises(BadKey) as caught:
        signer_from_pem(ORIGIN, raw)
    assert sentence in str(caught.value)
    assert caught.value.code == "ledger.bad-key"


def test_no_message_quotes_the_secret():
    secret = PEM.splitlines()[1].decode()[22:]
    for raw in [PEM.replace(b"MC4CAQAw", b"MC4CAQAx"), PEM + PEM, PEM.replace(b"PRIVATE KEY", b"SECRET")]:
        with pytest.raises(BadKey) as caught:
            signer_from_pem(ORIGIN, raw)
        assert secret not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_has_32_bytes(seed):
    for make in (signer_from_seed, ml_dsa_from_seed, cosigner_from_seed):
        with pytest.raises(BadKey):
            make(ORIGIN, seed)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "\ud800"])
def test_an_origin_can_name_a_key(origin):
    for make in (signer_from_seed, ml_dsa_from_seed, cosigner_from_seed):
        with pytest.raises(BadKey):
            make(origin, bytes(32))
    for read, raw in [(signer_from_pem, PEM), (cosigner_from_pem, PEM), (ml_dsa_from_pem, RFC9881)]:
        with pytest.raises(BadKey):
            read(origin, raw)
