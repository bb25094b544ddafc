"""The ledger's key in a PKCS#11 token: what signs, what each trouble is called, and that no PIN is ever said."""

from __future__ import annotations

import sys
import threading
import uuid

import pytest

from muniment.anchors.pkcs11 import KeyUri, Pkcs11Signer
from muniment.core.errors import KeyChanged, Misconfigured, MunimentError, SignerRefused, SignerUnavailable
from muniment.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from muniment.ledger.errors import BadNote

ORIGIN = "ledger.example.org/hsm"
HEAD = Checkpoint(origin=ORIGIN, size=3, root=bytes(32))

pytestmark = pytest.mark.xdist_group("softhsm")


@pytest.fixture
def token(softhsm) -> str:
    label = f"t-{uuid.uuid4().hex[:12]}"
    softhsm.token(label)
    return label


@pytest.fixture
def uri(softhsm, token) -> str:
    return softhsm.key(token, "ledger")


def signer(uri: str, pin: str = "4321") -> Pkcs11Signer:
    return Pkcs11Signer(ORIGIN, KeyUri.parse(uri), pin=lambda: pin)


def refused(kind: type[MunimentError], code: str, act) -> MunimentError:
    with pytest.raises(kind) as found:
        act()
    assert found.value.code == code
    assert found.value.remedy
    assert "4321" not in f"{found.value.message} {found.value.remedy}"
    return found.value


def test_it_signs_what_a_key_file_would(uri):
    mine = signer(uri)
    note = sign_checkpoint(HEAD, [mine])
    assert open_checkpoint(note, mine.verifier) == HEAD
    assert sign_checkpoint(HEAD, [mine]) == note, "Ed25519 makes one signature of one text"
    with pytest.raises(BadNote):
        mine.sign("no newline at the end")


def test_threads_share_it_and_so_do_two_signers_of_one_token(softhsm, token, uri):
    first, second = signer(uri), signer(softhsm.key(token, "other", id="02"))
    notes: list[str] = []

    def work(each: Pkcs11Signer) -> None:
        notes.extend(sign_checkpoint(HEAD, [each]) for _ in range(20))

    threads = [threading.Thread(target=work, args=(each,)) for each in (first, second) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(notes) == 120
    assert len(set(notes)) == 2


def test_a_wrong_pin_is_tried_once_and_not_again(uri, monkeypatch):
    """Sealing asks every second, and a token locks itself for good after a few wrong PINs."""
    pin, tried = "wrong", []
    mine = signer(uri)
    mine.close()
    mine._pin = lambda: pin
    module = mine._module()

    class Counted:
        def __init__(self, token):
            self._token = token

        def __getattr__(self, name):
            return getattr(self._token, name)

        def open(self, **given):
            tried.append(given["user_pin"])
            return self._token.open(**given)

    class Module:
        reinitialize = module.reinitialize

        def get_tokens(self):
            return map(Counted, module.get_tokens())

    monkeypatch.setattr(mine, "_module", Module)
    for _ in range(5):
        refused(SignerRefused, "signer.denied", lambda: mine.sign("text\n"))
    assert tried == ["wrong"]
    pin = "4321"
    assert mine.sign("text\n")


def test_a_token_that_is_pulled_out_is_missed_and_taken_up_again(softhsm, token, uri):
    mine = signer(uri)
    line = mine.sign("text\n")
    away = softhsm.take_away(token)
    mine.close()
    softhsm_gone = refused(SignerUnavailable, "signer.unavailable", lambda: mine.sign("text\n"))
    assert "not there" in softhsm_gone.message
    softhsm.put_back(away)
    assert mine.sign("text\n") == line


def test_a_session_that_was_lost_is_opened_again_unnoticed(uri):
    mine = signer(uri)
    line = mine.sign("text\n")
    mine._session.close()
    assert mine.sign("text\n") == line
    mine._api.lib(
        mine._uri.module
    ).reinitialize()  # as another signer does, or a restart of the token's server
    assert mine.sign("text\n") == line


def test_a_key_that_was_replaced_is_found_out_and_signs_nothing(softhsm, token, uri):
    mine = signer(uri)
    softhsm.delete_key(token, "ledger")
    mine.close()
    refused(SignerRefused, "signer.no-key", lambda: mine.sign("text\n"))
    softhsm.key(token, "ledger")
    refused(KeyChanged, "signer.key-changed", lambda: mine.sign("text\n"))


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        (lambda uri: uri.replace("object=ledger", "object=other"), SignerRefused, "signer.no-key"),
        (lambda uri: uri.replace("object=ledger", "object=ledger;id=%09"), SignerRefused, "signer.no-key"),
        (lambda uri: uri.replace("token=t-", "token=u-"), SignerUnavailable, "signer.unavailable"),
        (lambda uri: uri.replace("libsofthsm2", "libnone"), Misconfigured, "config.ledger-key"),
        (
            lambda uri: uri.partition("?")[0] + "?module-path=/etc/hostname",
            Misconfigured,
            "config.ledger-key",
        ),
    ],
    ids=["no such key", "another id", "no such token", "no such module", "module is no library"],
)
def test_what_is_not_there_is_named(uri, change, kind, code):
    refused(kind, code, lambda: signer(change(uri)))


def test_a_key_of_another_kind_is_refused(softhsm, token):
    uri = softhsm.key(token, "rsa", kind="rsa:2048")
    refused(SignerRefused, "signer.no-key", lambda: signer(uri))
    uri = softhsm.key(token, "p256", kind="EC:prime256v1", id="03")
    refused(SignerRefused, "signer.wrong-kind", lambda: signer(uri))


def test_two_keys_of_one_name_are_refused(softhsm, token, uri):
    softhsm.key(token, "ledger", id="02")
    refused(SignerRefused, "signer.no-key", lambda: signer(uri))
    assert signer(uri.replace("object=ledger", "object=ledger;id=%02")).vkey


def test_without_the_library_the_extra_is_named(uri, monkeypatch):
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    refused(Misconfigured, "config.extra-missing", lambda: signer(uri))
