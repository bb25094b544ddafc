"""``verify.sh``: bash, coreutils and openssl come to the same answer as Python, at every size and for every forgery."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evidence.bundles import (
    SIGNER,
    STRANGER,
    TRUST,
    W1,
    W2,
    W3,
    WITNESSED,
    Book,
    Shell,
    faults,
    flipped,
    repacked,
)
from evidence.conftest import Archive
from evidence.office import altered, places
from muniment.core.text import disclose
from muniment.evidence.archive import unpack
from muniment.evidence.bundle import manifest, script, write
from muniment.evidence.reading import verify_bundle
from muniment.ledger.checkpoint import with_lines
from muniment.ledger.entry import decode_entry
from muniment.ledger.keys import ml_dsa_from_seed
from muniment.ledger.note import parse_note
from muniment.ledger.trust import TrustPolicy
from muniment.service import evidencing
from timestamping import make_authority, stamped

NOON = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp())

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "openssl", "setpriv"))), reason="bash, openssl or setpriv is missing"
)


def ticket_entries(archive: Archive, kind: str) -> list[bytes]:
    return [raw for raw in archive.log if decode_entry(raw).ticket == archive.tickets[kind]]


def small(archive: Archive, places_: Sequence[int], size: int, **changes: object) -> bytes:
    """The first entries of a ticket at these places of a log of that size, and nothing else."""
    entries = ticket_entries(archive, "refused")[: len(places_)]
    book = Book(dict(zip(places_, entries, strict=True)), size)
    return write(book.evidence(archive.tickets["refused"], **changes))


def test_a_real_export_holds(archive: Archive) -> None:
    raw, _ = evidencing.export(
        archive.office.desk, archive.tickets["closed"], since=archive.office.desk.ledger.published()[0].note
    )
    status, out = Shell(raw, archive.office.desk.trust)()
    assert status == 0, out
    assert faults(out) == []
    entries = len(ticket_entries(archive, "closed"))
    assert sum(line.startswith("OK    ticket/") for line in out.splitlines()) == entries
    assert "operator-signed only" in out
    assert "OK    since.checkpoint: the ledger grew" in out
    assert "NOTE  no --trust" not in out
    assert out.splitlines()[-1].startswith("VERIFIES: ")
    unaided, said = Shell(raw, None)()
    assert unaided == 0
    assert "the operator's own proposal" in said


SIZES = [1, 2, 3, 7, 8, 255, 256, 257, 65_535, 65_536, 65_537]


@pytest.mark.parametrize("size", SIZES)
def test_at_every_size(archive: Archive, size: int) -> None:
    """First, middle and last place; growth from nothing, from one before, from half; and one hash changed is refused."""
    where = sorted({0, size // 2, size - 1})
    entries = ticket_entries(archive, "refused")[: len(where)]
    book = Book(dict(zip(where, entries, strict=True)), size)
    for old in sorted({0, size // 2, size - 1, size} if size < 9 else {size // 2, size - 1}):
        raw = write(book.evidence(archive.tickets["refused"], since=book.tied(old)))
        report = verify_bundle(raw, TRUST)
        assert report.levels["V2"].ok, report.levels["V2"].first_fault
        shell = Shell(raw)
        status, out = shell()
        assert status == 0, out
        assert f"the ledger grew from {old} to {size} entries" in out
        if old == size // 2 and size > 2:
            for name in ("ticket/0001.tlog-proof", "since.consistency"):
                lines = unpack(raw)[name].split(b"\n")
                at = next(n for n, line in enumerate(lines) if len(line) == 44)
                wrong = {name: b"\n".join([*lines[:at], flipped_hash(lines[at]), *lines[at + 1 :]])}
                forged = repacked(raw, wrong)
                assert not verify_bundle(forged, TRUST).levels["V2"].ok
                status, out = Shell(forged)()
                assert (status, len(faults(out))) == (1, 1), out


def flipped_hash(line: bytes) -> bytes:
    return line[:5] + (b"A" if line[5:6] != b"A" else b"B") + line[6:]


@pytest.mark.slow
def test_every_byte_that_it_claims_to_check(archive: Archive) -> None:
    """A byte of each file, changed by an accident, and by somebody who mends the manifest too."""
    texts = archive.office.desk.views.disclosures(re.findall("sha256:[0-9a-f]{64}", str(archive.log)))
    disclosed = [disclose(text, salt) for salt, text in texts.values()]
    entries = [archive.log[0], *ticket_entries(archive, "refused")]
    book = Book(dict(zip((0, 3, 9, 10), entries, strict=True)), 11)
    raw = write(
        book.evidence(
            archive.tickets["refused"], since=book.tied(5), anchors=(book.tied(6),), disclosed=disclosed
        )
    )
    files, shell = unpack(raw), Shell(raw)
    assert {name.partition("/")[0] for name in files} >= {
        "ticket",
        "registry",
        "texts",
        "anchors",
        "since.checkpoint",
    }
    checked = 0
    for name, content in files.items():
        if name in {"verify.sh", "FORMAT"}:  # the program itself; and 2 is said of another format
            continue
        for at in {0, len(content) // 2, len(content) - 1} if "0001" in name else {len(content) // 2}:
            changed = flipped(content, at, 2)
            shell.put({name: changed})
            status, out = shell()
            assert (status, "FAIL  MANIFEST" in out) == (1, True), (name, at, out)
            rest = {other: body for other, body in files.items() if other != "MANIFEST"} | {name: changed}
            if name == "MANIFEST":
                continue
            shell.put({"MANIFEST": manifest(rest)})
            status, out = shell()
            if name in {"README.txt", "trust"}:  # words, and the operator's proposal: nothing proves them
                assert status == 0, out
            else:
                stem = name.rpartition(".")[0] or name
                assert (status, any(stem in fault for fault in faults(out))) == (1, True), (name, at, out)
                checked += 1
            shell.put({"MANIFEST": files["MANIFEST"]})
        shell.put({name: content})
    assert checked >= 18
    assert shell()[0] == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ticket/0001.entry": None}, "MANIFEST"),
        ({"more.txt": b"x"}, "MANIFEST: it does not name exactly"),
        ({"bad name": b"x"}, "names that no bundle has"),
        ({"checkpoint": b"nonsense\n"}, "checkpoint: it is not a checkpoint"),
        ({"checkpoint": b""}, "checkpoint: it is not a checkpoint"),
    ],
)
def test_what_is_missing_or_too_much(archive: Archive, change: dict[str, bytes | None], says: str) -> None:
    shell = Shell(small(archive, [0, 4, 6], 7))
    shell.put(change)
    status, out = shell()
    assert status == 1
    assert any(says in fault for fault in faults(out)), out


def test_forgeries_with_a_manifest_that_agrees(archive: Archive) -> None:
    raw = small(archive, [0, 4, 6], 7)
    files = unpack(raw)
    entry, proof = files["ticket/0001.entry"], files["ticket/0001.tlog-proof"]
    stem = next(name for name in files if name.startswith("texts/")).removesuffix(".erased")
    forgeries: list[tuple[dict[str, bytes | None], str]] = [
        ({"ticket/0001.entry": entry.replace(b"bastion", b"Bastion", 1)}, "ticket/0001.entry: its proof does not lead"),
        ({"ticket/0001.tlog-proof": files["ticket/0002.tlog-proof"]}, "ticket/0001.entry: its proof does not lead"),
        ({"ticket/0001.tlog-proof": proof + b"x"}, "ticket/0001.entry: its proof does not lead"),
        ({"ticket/0001.tlog-proof": proof.replace(b"index 4", b"index 04")}, "its proof does not lead"),
        ({"ticket/0001.tlog-proof": proof.replace(b"index 4", b"index 99999999999999999999")}, "its proof does not"),
        ({"ticket/0001.tlog-proof": proof.replace(b"index 4", b"index a[$(touch /tmp/muniment-owned)]")}, "its proof"),
        ({"ticket/0001.tlog-proof": b""}, "its proof does not lead"),
        ({"ticket/0001.tlog-proof": None}, "entry or proof is missing"),
        ({"ticket/0001.tlog-proof": None, "ticket/0001.entry": None}, "ticket: entries are missing in between"),
        (
            {f"ticket/0001.{p}": files[f"ticket/0002.{p}"] for p in ("entry", "tlog-proof")},
            "ticket/0001.entry: it does not follow the entry before it",
        ),
        ({f"{stem}.erased": None, f"{stem}.txt": b"x", f"{stem}.salt": bytes(32)}, "not the text that was committed to"),
        ({f"texts/{'0' * 64}.erased": b""}, "no entry of the ticket commits to it"),
        ({"texts/strange.bin": b""}, "does not belong here"),
    ]  # fmt: skip
    for change, says in forgeries:
        shell = Shell(small(archive, [0, 4, 6], 7))
        mended = {k: v for k, v in (files | change).items() if v is not None and k != "MANIFEST"}
        shell.put({**change, "MANIFEST": manifest(mended)})
        status, out = shell()
        assert status == 1, (change.keys(), out)
        assert any(says in fault for fault in faults(out)), (change.keys(), out)
        assert "FAIL  MANIFEST" not in out, out
    assert not Path("/tmp/muniment-owned").exists()


def test_a_ledger_with_another_chain_by_somebody_who_has_the_key(archive: Archive) -> None:
    ticket = archive.tickets["denied"]
    at = places(archive.log, ticket)["approval-recorded"]
    gap = Book.of([raw for place, raw in enumerate(archive.log) if place != at])
    status, out = Shell(write(gap.evidence(ticket, registry=())))()
    assert status == 1
    assert "ticket/0002.entry: it does not follow the entry before it" in out
    moved = altered(archive.log, at, lambda entry: entry.update(log="ledger.example.org/other"))
    status, out = Shell(write(Book.of(moved).evidence(ticket, registry=())))()
    assert "ticket/0002.entry: it belongs to the ledger ledger.example.org/other" in out
    assert status == 1


# ── signatures ──


def test_the_log_s_signature_counts_under_my_trust_file_alone(archive: Archive) -> None:
    raw = small(archive, [0, 1, 2], 3)
    theirs = TrustPolicy.parse(f"log {STRANGER.vkey}\nquorum none\n")
    status, out = Shell(raw, theirs)()
    assert status == 1
    assert "checkpoint: no key that the trust file names" in out
    both = TrustPolicy.parse(f"log {STRANGER.vkey}\nlog {SIGNER.vkey}\nquorum none\n")
    assert Shell(raw, both)()[0] == 0, "while a key changes, either is enough"


@pytest.mark.parametrize(
    ("witnesses", "status", "says"),
    [
        ((W1, W2), 0, "OK    checkpoint: the quorum two-of-three has cosigned it"),
        ((W3, W1, W2), 0, "OK    checkpoint: three cosigned it at 2026-11-25T12:00:00Z"),
        ((W2,), 1, "FAIL  checkpoint: the quorum two-of-three has not cosigned it"),
        ((), 1, "FAIL  checkpoint: the quorum two-of-three has not cosigned it"),
    ],
)
def test_the_quorum(archive: Archive, witnesses: tuple[object, ...], status: int, says: str) -> None:
    book = Book(dict(enumerate(ticket_entries(archive, "refused"))), 3)
    note = book.checkpoint(cosigned=dict.fromkeys(witnesses, NOON))
    raw = write(book.evidence(archive.tickets["refused"], checkpoint=note, registry=()))
    found, out = Shell(raw, WITNESSED)()
    assert (found, says in out) == (status, True), out
    assert verify_bundle(raw, WITNESSED).levels["V1"].ok == (status == 0)


def test_a_cosignature_that_does_not_verify_is_no_cosignature_but_a_fault(archive: Archive) -> None:
    book = Book(dict(enumerate(ticket_entries(archive, "refused"))), 3)
    note = book.checkpoint(cosigned={W1: NOON, W2: NOON})
    text = parse_note(note).text
    other = W3.sign(Book({}, 4).checkpoint().split("\n\n")[0] + "\n", NOON)
    line = W1.sign(text, NOON)
    for damaged in (
        with_lines(note, [other]),
        note.replace(line, line[:-20] + flipped_hash(line[-20:].encode()).decode()),
    ):
        raw = write(book.evidence(archive.tickets["refused"], checkpoint=damaged, registry=()))
        status, out = Shell(raw, WITNESSED)()
        assert status == 1
        assert any("the cosignature by w" in fault and "does not verify" in fault for fault in faults(out)), (
            out
        )
        assert not verify_bundle(raw, WITNESSED).levels["V1"].ok


def test_groups_of_groups(archive: Archive) -> None:
    nested = TrustPolicy.parse(
        f"# who counts\nlog {SIGNER.vkey} https://ledger.example.org/\nwitness a {W1.vkey}\nwitness b {W2.vkey}\n"
        f"witness c {W3.vkey} https://w3.example.org/x?y=1\ngroup ab any a b\ngroup all-of-them all ab c\nquorum all-of-them\n"
    )
    book = Book(dict(enumerate(ticket_entries(archive, "refused"))), 3)
    for witnesses, status in (((W1, W3), 0), ((W2, W3), 0), ((W1, W2), 1), ((W3,), 1)):
        note = book.checkpoint(cosigned=dict.fromkeys(witnesses, NOON))
        raw = write(book.evidence(archive.tickets["refused"], checkpoint=note, registry=()))
        assert Shell(raw, nested)()[0] == status
        assert verify_bundle(raw, nested).levels["V1"].ok == (status == 0)


def test_what_openssl_cannot_check_is_said_and_does_not_count(archive: Archive) -> None:
    second = ml_dsa_from_seed(SIGNER.name, bytes(32))
    book = Book(dict(enumerate(ticket_entries(archive, "refused"))), 3)
    note = with_lines(book.checkpoint(), [second.sign(parse_note(book.checkpoint()).text)])
    raw = write(book.evidence(archive.tickets["refused"], checkpoint=note, registry=()))
    both = TrustPolicy.parse(f"log {SIGNER.vkey}\nlog {second.vkey}\nquorum none\n")
    status, out = Shell(raw, both)()
    assert status == 0, out
    assert "NOTE  checkpoint: the signature of type 06" in out
    alone = TrustPolicy.parse(f"log {second.vkey}\nquorum none\n")
    assert Shell(raw, alone)()[0] == 1


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\n", "", "quorum none\n", "log x\nquorum none\n",
        "log a[$(touch${IFS}/tmp/muniment-owned)]+00000000+AA==\nquorum none\n",
        f"log {SIGNER.vkey}\nwitness a[$(touch${{IFS}}/tmp/muniment-owned)] {W1.vkey}\nquorum none\n",
        f"log {SIGNER.vkey}\nwitness w {W1.vkey}\ngroup g x[$(touch${{IFS}}/tmp/muniment-owned)] w\nquorum g\n",
        f"log {SIGNER.vkey}\nwitness w {W1.vkey}\ngroup g 0 w\nquorum g\n",
    ],
)  # fmt: skip
def test_a_hostile_trust_file_is_refused_and_runs_nothing(archive: Archive, text: str) -> None:
    shell = Shell(small(archive, [0, 1, 2], 3))
    (shell.folder / "mine").write_text(text)
    status, out = shell()
    assert status in {1, 2}, out
    assert not Path("/tmp/muniment-owned").exists()


# ── growth, and time-stamps ──


def test_my_own_checkpoint(archive: Archive) -> None:
    book = Book(dict(zip((0, 9, 10), ticket_entries(archive, "refused"), strict=True)), 11)
    proved = write(book.evidence(archive.tickets["refused"], since=book.tied(6), registry=()))

    def kept(raw: bytes, note: str) -> tuple[int, str]:
        shell = Shell(raw)
        (shell.folder / "kept").write_text(note)
        return shell("--since", str(shell.folder / "kept"))

    assert kept(proved, book.checkpoint(6))[0] == 0
    assert kept(proved, book.checkpoint())[0] == 0
    for raw, note in (
        (proved, book.checkpoint(7)),
        (proved, Book({}, 6).checkpoint()),
        (write(book.evidence(archive.tickets["refused"], registry=())), book.checkpoint(6)),
    ):
        status, out = kept(raw, note)
        assert status == 1, out
        assert "the bundle does not show that the ledger grew from it" in out
    assert kept(proved, "nonsense")[0] == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A time-stamping authority, made by openssl."""
    return make_authority(tmp_path_factory.mktemp("tsa"))


def test_time_stamps(archive: Archive, authority: Path) -> None:
    book = Book(dict(zip((0, 9, 10), ticket_entries(archive, "refused"), strict=True)), 11)
    token = stamped(authority, parse_note(book.checkpoint(10)).text)
    certificates = (authority / "ca.pem").read_bytes()

    def run(stamp: bytes, offered: bytes = certificates, *words: str) -> tuple[int, str]:
        anchors = (book.tied(10, stamps=(stamp,)),)
        evidence = book.evidence(
            archive.tickets["refused"], anchors=anchors, certificates=offered, registry=()
        )
        return Shell(write(evidence))(*words)

    status, out = run(token)
    assert status == 0, out
    assert "OK    anchors/10.0.tsr: stamped at " in out
    assert "the operator's own copy" in out
    mine = authority.parent / "mine.pem"
    shutil.copy(authority / "ca.pem", mine)
    mine.chmod(0o644)
    other = stamped(authority, parse_note(book.checkpoint(9)).text)
    for wrong in (other, flipped(token, len(token) // 2), b""):
        status, out = run(wrong)
        assert (status, "FAIL  anchors/10.0.tsr" in out) == (1, True), out
    status, out = run(token, b"")
    assert (status, "NOTE  anchors/10.0.tsr: not checked" in out) == (0, True), out


def test_the_script_is_the_one_in_the_package_and_needs_little() -> None:
    text = script().decode()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert max(map(len, text.splitlines())) <= 130
    for tool in ("jq", "python", "perl", "awk", "curl", "xxd"):
        assert not any(line.split("#")[0].split()[:1] == [tool] for line in text.splitlines()), tool
    checked = subprocess.run(["bash", "-n"], input=script(), capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_wrong_usage_is_said() -> None:
    done = subprocess.run(
        ["bash", "-s", "--", "--nonsense"], input=script(), capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"usage:" in done.stderr
