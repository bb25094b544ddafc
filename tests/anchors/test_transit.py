"""The ledger's key in OpenBao's transit engine, on a real server: what signs, what each trouble is called, and that no
token is ever said."""

from __future__ import annotations

import uuid

import pytest

from muniment.anchors.transit import KeyName, TransitSigner, checked_address
from muniment.core.errors import KeyChanged, Misconfigured, MunimentError, SignerRefused, SignerUnavailable
from muniment.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from muniment.ledger.errors import BadNote
from muniment.outbound import Answer, Http

ORIGIN = "ledger.example.org/bao"
HEAD = Checkpoint(origin=ORIGIN, size=3, root=bytes(32))

pytestmark = pytest.mark.xdist_group("openbao")


@pytest.fixture
def name() -> str:
    return f"k{uuid.uuid4().hex[:12]}"


@pytest.fixture
def reference(openbao, name) -> str:
    return openbao.key(name)


def signer(openbao, reference: str, token: str | None = None, http: Http | None = None) -> TransitSigner:
    said = token if token is not None else openbao.root
    return TransitSigner(
        ORIGIN, KeyName.parse(reference), address=openbao.address, token=lambda: said, http=http or Http()
    )


def refused(kind: type[MunimentError], code: str, act, *secrets: str) -> MunimentError:
    with pytest.raises(kind) as found:
        act()
    assert found.value.code == code
    assert found.value.remedy
    for secret in secrets:
        assert secret not in f"{found.value.message} {found.value.remedy} {found.value.__cause__}"
    return found.value


def test_it_signs_what_a_key_file_would(openbao, reference):
    mine = signer(openbao, reference)
    note = sign_checkpoint(HEAD, [mine])
    assert open_checkpoint(note, mine.verifier) == HEAD
    assert sign_checkpoint(HEAD, [mine]) == note, "Ed25519 makes one signature of one text"
    with pytest.raises(BadNote):
        mine.sign("no newline at the end")


def test_a_token_with_two_paths_is_enough(openbao, reference, name):
    token = openbao.token(f"read transit/keys/{name}", f"update transit/sign/{name}")
    mine = signer(openbao, reference, token)
    assert open_checkpoint(sign_checkpoint(HEAD, [mine]), mine.verifier) == HEAD
    with pytest.raises(Exception, match="403"):
        openbao.root, root = token, openbao.root
        try:
            openbao.call("POST", f"transit/keys/{name}/rotate")
        finally:
            openbao.root = root


@pytest.mark.parametrize("token", ["s.nobody-knows-this", "s.caf\u00e9", "", "two\nlines"])
def test_a_token_that_is_none_is_refused_and_not_repeated(openbao, reference, token):
    kind, code = (SignerRefused, "signer.denied") if "nobody" in token else (Misconfigured, "config")
    refused(kind, code, lambda: signer(openbao, reference, token), *filter(None, [token]))


def test_a_token_that_may_read_and_not_sign_is_named(openbao, reference, name):
    token = openbao.token(f"read transit/keys/{name}")
    mine = signer(openbao, reference, token)
    found = refused(SignerRefused, "signer.denied", lambda: mine.sign("text\n"), token)
    assert f"update transit/sign/{name}" in found.remedy


def test_while_it_is_sealed_nothing_is_signed_and_afterwards_as_before(openbao, reference):
    mine = signer(openbao, reference)
    line = mine.sign("text\n")
    openbao.seal()
    try:
        refused(SignerUnavailable, "signer.sealed", lambda: mine.sign("text\n"), openbao.root)
        refused(SignerUnavailable, "signer.sealed", lambda: signer(openbao, reference), openbao.root)
    finally:
        openbao.unseal()
    assert mine.sign("text\n") == line


def test_a_restart_in_between_is_survived(openbao, reference):
    mine = signer(openbao, reference)
    line = mine.sign("text\n")
    openbao.stop()
    try:
        refused(SignerUnavailable, "signer.unavailable", lambda: mine.sign("text\n"), openbao.root)
    finally:
        openbao.start()
        refused(SignerUnavailable, "signer.sealed", lambda: mine.sign("text\n"), openbao.root)
        openbao.unseal()
    assert mine.sign("text\n") == line


def test_a_rotation_there_makes_another_key_that_only_its_version_names(openbao, reference, name):
    first = signer(openbao, reference)
    line = first.sign("text\n")
    openbao.call("POST", f"transit/keys/{name}/rotate")
    assert first.sign("text\n") == line, "the version that was named signs on"
    assert signer(openbao, reference).vkey == first.vkey
    second = signer(openbao, f"{reference}?version=2")
    assert second.vkey != first.vkey
    assert second.sign("text\n") != line
    refused(SignerRefused, "signer.no-key", lambda: signer(openbao, f"{reference}?version=3"))
    openbao.call("POST", f"transit/keys/{name}/config", {"min_encryption_version": 2})
    found = refused(SignerUnavailable, "signer.unavailable", lambda: first.sign("text\n"))
    assert "minimum encryption key version" in found.message


def test_a_key_that_was_replaced_is_found_out_and_signs_nothing(openbao, reference, name):
    mine = signer(openbao, reference)
    openbao.delete_key(name)
    refused(SignerRefused, "signer.refused", lambda: mine.sign("text\n"))
    refused(SignerRefused, "signer.no-key", lambda: signer(openbao, reference))
    openbao.key(name)
    refused(KeyChanged, "signer.key-changed", lambda: mine.sign("text\n"))


def test_keys_of_other_kinds_are_refused(openbao, name):
    openbao.key(name, "ecdsa-p256")
    refused(SignerRefused, "signer.wrong-kind", lambda: signer(openbao, f"openbao:transit/keys/{name}"))
    derived = f"{name}d"
    openbao.call("POST", f"transit/keys/{derived}", {"type": "ed25519", "derived": True})
    refused(SignerRefused, "signer.wrong-kind", lambda: signer(openbao, f"openbao:transit/keys/{derived}"))
    refused(SignerRefused, "signer.no-key", lambda: signer(openbao, "openbao:transit/keys/none"))
    refused(SignerRefused, "signer.no-key", lambda: signer(openbao, f"openbao:elsewhere/keys/{name}"))


class Scripted:
    """Something that answers like nothing good."""

    def __init__(self, status: int, body: bytes) -> None:
        self._answer = Answer(status=status, headers={}, body=body)

    def get(self, *_: object, **__: object) -> Answer:
        return self._answer


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>a proxy</html>"),
        (200, b"{}"),
        (200, b'{"data": {"type": "ed25519", "latest_version": 1, "keys": {"1": {"public_key": "!"}}}}'),
        (200, b'{"data": []}'),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (500, b'{"errors": ["\x1b[2Jgone"]}'),
        (502, b""),
    ],
)
def test_what_is_no_openbao_is_no_answer(openbao, status, body):
    found = refused(
        SignerUnavailable, "signer.unavailable",
        lambda: signer(openbao, "openbao:transit/keys/x", http=Scripted(status, body)),
    )  # fmt: skip
    assert found.message.isprintable()


@pytest.mark.parametrize(
    "reference",
    [
        "openbao:transit/keys/", "openbao:keys/x", "openbao:transit/x", "openbao:/transit/keys/x",
        "openbao:transit/../sys/keys/x", "openbao:transit/keys/x/rotate", "openbao:transit/keys/x?version=0",
        "openbao:transit/keys/x?version=1&x=2", "openbao:transit/keys/x#y", "openbao:tran sit/keys/x", "vault:transit/keys/x",
    ],
)  # fmt: skip
def test_what_names_no_key_is_refused(reference):
    refused(Misconfigured, "config.ledger-key", lambda: KeyName.parse(reference))


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("https://bao.example.com:8200", True),
        ("https://bao.example.com/prefix/", True),
        ("http://127.0.0.1:8200", True),
        ("http://[::1]:8200", True),
        ("http://localhost", True),
        ("http://bao.example.com:8200", False),
        ("http://127.0.0.1.example.com", False),
        ("http://10.0.0.1", False),
        ("https://user:pass@bao.example.com", False),
        ("https://", False),
        ("https://bao.example.com?x=1", False),
        ("https://bao.example.com:port", False),
        ("file:///etc/passwd", False),
        ("bao.example.com", False),
    ],
)
def test_a_token_is_sent_over_tls_or_stays_here(address, good):
    if good:
        assert checked_address(address) == address.rstrip("/")
    else:
        refused(Misconfigured, "config", lambda: checked_address(address), "user:pass")
