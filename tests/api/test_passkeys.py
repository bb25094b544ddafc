"""Passkeys made and used by a software authenticator that signs as a real one does; OpenSSH is the judge besides."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from api.conftest import CYD, Api, free_port
from api.test_signin import COOKIE, SECRET, Place, code, opened
from identity_provider import TemporaryProvider
from muniment.cli.session import record
from muniment.core.statement import NAMESPACE
from muniment.ledger.sshsig import parse, read_key
from muniment.service.sealing import seal
from muniment.service.sessions import csrf_token
from muniment.service.verifying import verify_store

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclasses.dataclass
class Authenticator:
    """One passkey, and the browser before it."""

    origin: str
    site: str
    flags: int = PRESENT | VERIFIED
    algorithm: int = -7
    key: Any = dataclasses.field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    ident: bytes = b"a credential's id"

    def make(self, options: dict[str, Any]) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: self.algorithm, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = bytes(16) + struct.pack(">H", len(self.ident)) + self.ident + cbor2.dumps(cose)
        data = self._data(self.flags | ATTESTED) + attested
        client = self._client("webauthn.create", options["challenge"])
        made = {"fmt": "none", "attStmt": {}, "authData": data}
        return {
            "id": text(self.ident), "rawId": text(self.ident), "type": "public-key", "clientExtensionResults": {},
            "response": {"clientDataJSON": text(client), "attestationObject": text(cbor2.dumps(made))},
        }  # fmt: skip

    def sign(self, options: dict[str, Any], *, more: str = "") -> dict[str, str]:
        client = self._client("webauthn.get", options["challenge"], more)
        data = self._data(self.flags)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        return {"authenticator_data": text(data), "client_data": text(client), "signature": text(signature)}

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.site.encode()).digest() + bytes([flags]) + struct.pack(">I", 7)

    def _client(self, kind: str, challenge: str, more: str = ',"crossOrigin":false') -> bytes:
        return f'{{"type":"{kind}","challenge":"{challenge}","origin":"{self.origin}"{more}}}'.encode()


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, TemporaryProvider(f"http://127.0.0.1:{port}") as provider:
        patch.setenv("MUNIMENT_TEST_SECRET", SECRET)
        api = opened(
            tmp_path_factory.mktemp("passkeys") / "access", port, provider, demand='@signature("required")'
        )
        yield Place(api, provider)
        api.http.close()
        assert api.server.stop(30)  # type: ignore[attr-defined]
        api.desk.store.engine.dispose()


def here(place: Place, **changes: Any) -> Authenticator:
    return Authenticator(**{"origin": place.url, "site": "127.0.0.1"} | changes)


def made(place: Place, session: Any, passkey: Authenticator) -> Any:
    begun = session.post("/auth/passkeys/begin").json()
    return session.post(
        "/auth/passkeys/finish", {"state": begun["state"], "answer": passkey.make(begun["options"])}
    )


@pytest.fixture(scope="module")
def passkey(place: Place) -> Authenticator:
    """Cyd's, whose key stands in the directory."""
    found = here(place)
    line = made(place, place.signed_in("c-1"), found).json()["key"]
    assert read_key(line) == line
    people = place.api.folder / "identities.toml"
    people.write_text(people.read_text().replace('name = "Cyd"', f'name = "Cyd"\nssh_keys = ["{line}"]'))
    assert place.api.desk.directory.reload_if_changed()
    record(place.api.desk)
    return found


def approve(api: Api, ticket: dict[str, Any], signed: dict[str, str], **changes: Any) -> Any:
    body = {"decision": "approve", "digest": ticket["digest"], "passkey": signed} | changes
    return api("POST", f"/v1/requests/{ticket['id']}/decisions", body, who=CYD)


def asked(api: Api, ticket: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = api("GET", f"/v1/requests/{ticket['id']}/assertion", who=CYD).json()
    assert document["digest"] == ticket["digest"]
    options: dict[str, Any] = document["options"]
    return options


def test_an_approval_signed_by_a_passkey_verifies_everywhere(
    place: Place, passkey: Authenticator, tmp_path: Path
) -> None:
    api = place.api
    ticket = api.filed()
    unsigned = api(
        "POST",
        f"/v1/requests/{ticket['id']}/decisions",
        {"decision": "approve", "digest": ticket["digest"]},
        who=CYD,
    )
    assert code(unsigned) == "refused.signature-required"
    statement = api("GET", f"/v1/requests/{ticket['id']}/statement", who=CYD).content
    approved = approve(api, ticket, passkey.sign(asked(api, ticket)))
    assert approved.status_code == 201, approved.text
    armour = approved.json()["decisions"][0]["signature"]
    parse(armour).verify(statement)
    seal(api.desk)
    assert verify_store(api.desk)["ok"]
    if shutil.which("ssh-keygen"):
        (tmp_path / "sig").write_text(armour)
        (tmp_path / "allowed").write_text(f"cyd {parse(armour).key_line}\n")
        words = (
            "-Y",
            "verify",
            "-f",
            tmp_path / "allowed",
            "-I",
            "cyd",
            "-n",
            NAMESPACE,
            "-s",
            tmp_path / "sig",
        )
        for said, status in ((statement, 0), (statement + b" ", 255)):
            done = subprocess.run(["ssh-keygen", *words], input=said, capture_output=True, check=False)
            assert done.returncode == status, done.stderr


#: what differs in the passkey or in what it is asked → refused
WRONG: dict[str, Any] = {
    "nobody was recognised": lambda p: dataclasses.replace(p, flags=PRESENT),
    "nobody was present": lambda p: dataclasses.replace(p, flags=VERIFIED),
    "another site's page": lambda p: dataclasses.replace(p, origin="https://evil.example"),
    "a page of a site that ends alike": lambda p: dataclasses.replace(p, origin="https://evil127.0.0.1"),
    "another site's passkey": lambda p: dataclasses.replace(p, site="evil.example"),
    "another passkey": lambda p: dataclasses.replace(p, key=ec.generate_private_key(ec.SECP256R1())),
    "data that follows and is not there": lambda p: dataclasses.replace(p, flags=p.flags | ATTESTED),
    "extensions that are not there": lambda p: dataclasses.replace(p, flags=p.flags | 0x80),
}


@pytest.mark.parametrize("which", WRONG)
def test_a_passkeys_signature_that_does_not_count(place: Place, passkey: Authenticator, which: str) -> None:
    ticket = place.api.filed()
    refused = approve(place.api, ticket, WRONG[which](passkey).sign(asked(place.api, ticket)))
    assert (refused.status_code, code(refused)) == (403, "refused.signature")


def test_a_passkeys_signature_is_over_one_approval(place: Place, passkey: Authenticator) -> None:
    ticket, other = place.api.filed(), place.api.filed()
    for wrong in (
        passkey.sign(asked(place.api, other)),
        passkey.sign({"challenge": text(b"x" * 32)}),
        passkey.sign(asked(place.api, ticket)) | {"signature": text(b"x")},
        passkey.sign(asked(place.api, ticket)) | {"client_data": text(b"{}")},
        passkey.sign(asked(place.api, ticket)) | {"authenticator_data": text(b"x" * 10)},
    ):
        assert code(approve(place.api, ticket, wrong)) == "refused.signature"
    good = passkey.sign(asked(place.api, ticket))
    both = approve(place.api, ticket, good, signature="x")
    assert (both.status_code, code(both)) == (422, "invalid.signature")
    assert code(approve(place.api, ticket, good | {"signature": "é"})) == "refused.passkey"
    assert approve(place.api, ticket, good).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"flags": PRESENT}, {"origin": "https://evil.example"}, {"site": "evil.example"}, {"algorithm": -257},
        {"key": ec.generate_private_key(ec.SECP384R1())},
    ],
    ids=["nobody recognised", "another page", "another site", "another algorithm", "another curve"],
)  # fmt: skip
def test_a_passkey_that_is_not_made_here_or_not_well(place: Place, change: dict[str, Any]) -> None:
    session = place.signed_in("a-1")
    wrong = here(place, **{k: v for k, v in change.items() if k != "key"})
    if "key" in change:
        wrong.key = _Wide(change["key"])
    refused = made(place, session, wrong)
    assert (refused.status_code, code(refused)) == (403, "refused.passkey")


class _Wide:
    """A key of another curve that says it is on P-256."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def public_key(self) -> Any:
        return self

    def public_numbers(self) -> Any:
        numbers = self._key.public_key().public_numbers()
        return ec.EllipticCurvePublicNumbers(numbers.x % 2**255, numbers.y % 2**255, ec.SECP256R1())


def test_a_passkey_is_made_by_who_asked_for_it_and_soon(place: Place) -> None:
    ann, cyd = place.signed_in("a-1"), place.signed_in("c-1")
    begun = ann.post("/auth/passkeys/begin").json()
    answer = here(place).make(begun["options"])
    assert (
        code(cyd.post("/auth/passkeys/finish", {"state": begun["state"], "answer": answer}))
        == "refused.passkey"
    )
    for state in ("", "x", begun["state"][:-2], f"{begun['state']}.x"):
        assert (
            code(ann.post("/auth/passkeys/finish", {"state": state, "answer": answer})) == "refused.passkey"
        )
    for wrong in ({}, {"id": 1}, json.loads('{"response": {"clientDataJSON": "e30"}}')):
        refused = ann.post("/auth/passkeys/finish", {"state": begun["state"], "answer": wrong})
        assert code(refused) == "refused.passkey"
    by_token = place.api("POST", "/auth/passkeys/begin", who=CYD)
    assert (by_token.status_code, code(by_token)) == (401, "unauthenticated.no-session")


def stepped_up(session: Any, shown: Authenticator, **changes: Any) -> Any:
    begun = session.post("/auth/passkeys/step-up/begin").json()
    said = {"state": begun["state"], "passkey": shown.sign(begun["options"])} | changes
    return session.post("/auth/passkeys/step-up/finish", said)


def test_a_passkey_raises_the_assurance_of_a_session(place: Place, passkey: Authenticator) -> None:
    session = place.signed_in("c-1")
    before = session.cookie
    assert session.get("/auth/session").json()["level"] == 1
    answer = stepped_up(session, passkey)
    assert answer.json() == {"level": 2, "csrf": csrf_token(session.cookie)}
    assert session.cookie != before
    assert session.get("/auth/session").json()["level"] == 2
    old = place.api.http.get("/v1/whoami", headers={"Cookie": f"{COOKIE}={before}"})
    assert code(old) == "unauthenticated.revoked"
    ticket = place.api.filed()
    body = {
        "decision": "approve",
        "digest": ticket["digest"],
        "passkey": passkey.sign(asked(place.api, ticket)),
    }
    approved = session.post(f"/v1/requests/{ticket['id']}/decisions", body)
    login = approved.json()["decisions"][0]["login"]
    assert (login["method"], login["level"], login["subject"]) == ("passkey", 2, "c-1")
    place.signed_out_at_provider(session)  # the provider's word still ends it
    assert code(session.get("/v1/whoami")) == "unauthenticated.revoked"


def test_what_does_not_raise_it(place: Place, passkey: Authenticator) -> None:
    session, other = place.signed_in("c-1"), place.signed_in("a-1")
    begun = session.post("/auth/passkeys/step-up/begin").json()
    for wrong in (change(passkey) for change in WRONG.values()):
        assert code(stepped_up(session, wrong)) == "refused.passkey"
    assert code(stepped_up(other, passkey)) == "refused.passkey"  # Ann with Cyd's
    said = {"state": begun["state"], "passkey": passkey.sign(begun["options"])}
    assert code(other.post("/auth/passkeys/step-up/finish", said)) == "refused.passkey"
    assert code(stepped_up(session, passkey, state=begun["state"])) == "refused.passkey"
    ticket = place.api.filed()
    approval = passkey.sign(asked(place.api, ticket))
    assert code(stepped_up(session, passkey, passkey=approval)) == "refused.passkey"
    shown = passkey.sign(begun["options"])
    assert code(approve(place.api, ticket, shown)) == "refused.signature"
    assert session.get("/auth/session").json()["level"] == 1


def test_the_page_runs_only_our_script(place: Place) -> None:
    page = place.signed_in("a-1").get("/auth/passkeys")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text
    assert place.api.http.get("/auth/passkeys.js").headers["content-type"].startswith("text/javascript")
