"""The log's key file: ours reads back, others' are refused in words, and none is quoted."""

from __future__ import annotations

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
from muniment.ledger.keys import signer_from_pem, signer_from_seed, signer_to_pem

PEM = signer_to_pem(SIGNER)
# RFC 8410, section 10.3
RFC8410 = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""
RFC8410_PUBLIC = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"


def test_round_trip():
    assert PEM.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    again = signer_from_pem(ORIGIN, PEM)
    assert again.vkey == SIGNER.vkey
    assert again.sign("a\n") == SIGNER.sign("a\n")


def test_the_key_of_the_rfc():
    assert signer_from_pem("a", RFC8410).verifier.key.hex() == RFC8410_PUBLIC
    assert signer_to_pem(signer_from_pem("a", RFC8410)) == RFC8410


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
    with pytest.raises(BadKey):
        signer_from_seed(ORIGIN, seed)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "\ud800"])
def test_an_origin_can_name_a_key(origin):
    with pytest.raises(BadKey):
        signer_from_seed(origin, bytes(32))
    with pytest.raises(BadKey):
        signer_from_pem(origin, PEM)
