"""Approvals that approvers signed with keys of their own: refused when recorded, and again by whoever verifies."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidence.office import ORIGIN, Office, altered, places, without
from muniment.core import commands as c
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.identity import SYSTEM
from muniment.core.statement import NAMESPACE
from muniment.evidence.reading import verify_bundle
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.ledger.sshsig import parse
from muniment.ports import Actor
from muniment.service import deciding, signing
from muniment.service.evidencing import export
from muniment.service.registry import record_registry

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="apt-get install openssh-client")


class Signers:
    """An office where Cyd and Dee have keys, and where Eve has one that nobody knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for who in ("cyd", "dee", "eve"):
            made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / who)]
            subprocess.run(made, check=True)
        self.office = Office(folder / "access")
        self.file = folder / "access" / "identities.toml"
        self.plain = self.file.read_text()
        self.give_keys(cyd="cyd", dee="dee")

    def give_keys(self, **keys: str) -> None:
        text = self.plain
        for who, key in keys.items():
            line = (self.folder / f"{key}.pub").read_text().strip()
            heading = f'[identities."human:{who}@example.com"]\n'
            assert heading in text
            text = text.replace(heading, f'{heading}ssh_keys = ["{line}"]\n')
        self.file.write_text(text)
        self.office.desk.directory.reload_if_changed()
        have = {who for who in ("cyd", "dee") if self.office.caller(who).identity.signing_keys}
        assert have == keys.keys()

    def statement(self, ticket: str, who: str = "cyd") -> bytes:
        found = self.office.desk.store.read(ticket)[1]
        assert found
        return signing.statement(self.office.desk, self.office.caller(who), found)

    def sign(self, text: bytes, key: str = "cyd", namespace: str = NAMESPACE) -> str:
        command = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(self.folder / key)]
        return subprocess.run(command, input=text, capture_output=True, check=True).stdout.decode()

    def approve(self, ticket: str, signature: str | None, by: str = "cyd") -> None:
        self.office.later(1)
        deciding.approve(self.office.desk, self.office.caller(by), ticket, digest=None, signature=signature)

    def signed(self, ticket: str, who: str = "cyd") -> str:
        return self.sign(self.statement(ticket, who), who)


@pytest.fixture
def signers(tmp_path: Path) -> Iterator[Signers]:
    made = Signers(tmp_path)
    yield made
    made.office.close()


def judged(log: list[bytes]) -> str | None:
    rules = TicketRules()
    for index, raw in enumerate(log):
        rules.feed(index, raw, decode_entry(raw, strict=True))
    return rules.result().first_fault


def test_a_signed_approval_is_verified_when_recorded_and_offline(signers: Signers) -> None:
    office = signers.office
    ticket = office.ask()
    signature = signers.signed(ticket)
    signers.approve(ticket, signature)
    office.give(ticket)
    office.later(3600)
    office.take(ticket)
    assert office.status(ticket) == "closed"
    assert judged(office.log()) is None
    raw, report = export(office.desk, ticket)
    assert report["ok"], report
    assert verify_bundle(raw, office.desk.trust).ok

    entry = next(e for e in office.desk.store.entries(ticket) if e.event.kind == "approval-recorded/1")
    assert entry.event.signature == signature  # as OpenSSH wrote it


def test_openssh_verifies_what_the_ledger_holds(signers: Signers) -> None:
    """An auditor needs neither our program nor our word: the statement can be written by hand."""
    ticket = signers.office.ask()
    signers.approve(ticket, signers.signed(ticket))
    state = signers.office.desk.store.read(ticket)[1]
    assert state
    statement = (
        f'{{"approver":"human:cyd@example.com","decision":"approve","digest":"{state.digest}",'
        f'"kind":"muniment-approval/1","log":"{ORIGIN}","since":"{state.filed_at}","ticket":"{ticket}"}}'
    )
    folder = signers.folder
    key = signers.office.caller("cyd").identity.signing_keys[0]
    (folder / "allowed").write_text(f'human:cyd@example.com namespaces="{NAMESPACE}" {key}\n')
    (folder / "sig").write_text(state.decisions[0].signature or "")
    verify = [
        "ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", "human:cyd@example.com", "-s", str(folder / "sig"),
        "-f", str(folder / "allowed"),
    ]  # fmt: skip
    assert subprocess.run(verify, input=statement.encode(), capture_output=True, check=False).returncode == 0
    other = statement.replace("2026", "2027", 1).encode()
    assert subprocess.run(verify, input=other, capture_output=True, check=False).returncode != 0


#: what somebody might hand in instead of their own signature over these terms, and what they are told
BAD: dict[str, tuple[Callable[[Signers, str], str], str]] = {
    "no signature at all": (lambda s, t: "looks good to me", "invalid.signature"),
    "cut off": (lambda s, t: s.signed(t)[:200], "invalid.signature"),
    "a key that nobody knows": (lambda s, t: s.sign(s.statement(t), "eve"), "refused.signature-key"),
    "another approver's key": (lambda s, t: s.sign(s.statement(t), "dee"), "refused.signature-key"),
    "another approver's approval": (lambda s, t: s.signed(t, "dee"), "refused.signature-key"),
    "for git": (lambda s, t: s.sign(s.statement(t), namespace="git"), "refused.signature-namespace"),
    "another approver's statement": (lambda s, t: s.sign(s.statement(t, "dee")), "refused.signature"),
    "another ticket": (lambda s, t: s.signed(s.office.ask("root")), "refused.signature"),
    "another ticket with the same words": (lambda s, t: s.signed(s.office.ask()), "refused.signature"),
    "another log": (
        lambda s, t: s.sign(s.statement(t).replace(ORIGIN.encode(), b"ledger.example.org/other")),
        "refused.signature",
    ),
    "a denial": (lambda s, t: s.sign(s.statement(t).replace(b'approve"', b'deny"')), "refused.signature"),
    "one letter more": (lambda s, t: s.sign(s.statement(t) + b"\n"), "refused.signature"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_the_approvers_own_is_refused(signers: Signers, what: str) -> None:
    make, code = BAD[what]
    ticket = signers.office.ask()
    with pytest.raises((Refused, Invalid)) as refused:
        signers.approve(ticket, make(signers, ticket))
    assert refused.value.code == code
    state = signers.office.desk.store.read(ticket)[1]
    assert state
    assert state.decisions == ()
    signers.approve(ticket, signers.signed(ticket))  # and the real one is taken


def test_a_person_without_keys_cannot_sign(signers: Signers) -> None:
    signers.give_keys(dee="dee")
    ticket = signers.office.ask()
    with pytest.raises(Refused, match="no key of") as refused:
        signers.approve(ticket, signers.signed(ticket))
    assert refused.value.code == "refused.signature-key"


def test_a_voided_approval_does_not_come_back_by_its_signature(signers: Signers) -> None:
    office = signers.office
    ticket = office.ask()
    old = signers.signed(ticket)
    signers.approve(ticket, old)
    assert office.status(ticket) == "approved"
    signers.file.write_text(
        signers.file.read_text().replace('groups = ["platform"]', 'groups = ["engineers"]', 1)
    )
    assert office.desk.directory.reload_if_changed()  # Cyd is no approver any more …
    office.give(ticket)
    assert office.status(ticket) == "pending"
    signers.give_keys(cyd="cyd", dee="dee")  # … and is one again
    with pytest.raises(Refused) as refused:
        signers.approve(ticket, old)
    assert refused.value.code == "refused.signature"
    signers.approve(ticket, signers.signed(ticket))
    office.give(ticket)
    assert office.status(ticket) == "active"
    assert judged(office.log()) is None


def test_an_approval_stands_only_while_its_key_is_the_approvers(signers: Signers) -> None:
    ticket = signers.office.ask()
    signers.approve(ticket, signers.signed(ticket))
    signers.give_keys(cyd="eve", dee="dee")  # the old key was stolen
    signers.office.give(ticket)
    assert signers.office.status(ticket) == "pending"


def test_offline_every_forgery_is_named(signers: Signers) -> None:
    office = signers.office
    record_registry(office.desk, Actor(id=SYSTEM, via="test"))
    ticket, other = office.ask(), office.ask()
    signers.approve(ticket, signers.signed(ticket))
    signers.approve(other, signers.signed(other, "dee"), by="dee")
    log = office.log()
    assert judged(log) is None
    at = places(log, ticket)["approval-recorded"]

    def signature(armour: str | None) -> Callable[[dict[str, Any]], None]:
        return lambda entry: entry["data"].update(signature=armour)

    found = office.desk.store.read(ticket)[1]
    assert found
    before = msgspec.structs.replace(found, decisions=())
    said = signing.statement(office.desk, office.caller("cyd"), before)
    forged = {
        "does not verify": signers.sign(said + b" "),
        "which was no key of": signers.sign(said, "eve"),
        "for 'git'": signers.sign(said, namespace="git"),
    }
    for fault, armour in forged.items():
        assert fault in str(judged(altered(log, at, signature(armour))))
    assert "does not verify" in str(judged(altered(log, at, signature("sig"))))
    # the key was never recorded, or is recorded only afterwards
    recorded = [
        i for i, raw in enumerate(log)
        if decode_entry(raw).ticket == "identity:human:cyd@example.com" and b"ssh_keys" in raw
    ]  # fmt: skip
    assert len(recorded) == 1
    assert "which was no key of" in str(judged(without(log, recorded[0])))


def test_a_withdrawn_key_counts_for_a_minute_and_no_longer(signers: Signers) -> None:
    """A node that has not heard yet records in good faith; who signs with an old key an hour later does not."""
    office = signers.office
    for late, fault in ((50, None), (70, "which was no key of")):
        signers.give_keys(cyd="cyd", dee="dee")
        ticket = office.ask()
        state = office.desk.store.read(ticket)[1]
        assert state
        caller, armour = office.caller("cyd"), signers.signed(ticket)
        signing.put_keys_on_record(office.desk, caller)
        signers.give_keys(dee="dee")
        record_registry(office.desk, Actor(id=SYSTEM, via="test"))
        office.later(late)
        office.desk.act(
            ticket,
            caller,
            lambda t, armour=armour: (c.Approve(digest=t.digest, signature=armour), ()),
            with_authority=True,
            besides=lambda _, facts: msgspec.structs.replace(facts, signed_by="a node that knows no better"),
        )
        assert (judged(office.log()) is None) == (fault is None)
        if fault:
            assert fault in str(judged(office.log()))


def test_a_signature_that_was_not_verified_is_refused_by_the_core(signers: Signers) -> None:
    """Whatever way in forgets to verify records nothing."""
    ticket = signers.office.ask()
    armour = signers.signed(ticket)
    with pytest.raises(MunimentError) as refused:
        signers.office.desk.act(
            ticket,
            signers.office.caller("cyd"),
            lambda t: (c.Approve(digest=t.digest, signature=armour), ()),
            with_authority=True,
        )
    assert refused.value.code == "refused.signature"


def test_what_is_stored_is_one_spelling(signers: Signers) -> None:
    ticket = signers.office.ask()
    armour = signers.signed(ticket)
    with pytest.raises(Invalid):
        signers.approve(ticket, armour.replace("\n", "\r\n"))
    assert parse(armour).armour == armour
