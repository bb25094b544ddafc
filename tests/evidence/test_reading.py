"""Bundles verified from foreign bytes: real ones hold, and every forgery is named at its level."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest

from evidence.bundles import SIGNER, STRANGER, TRUST, W1, W2, W3, WITNESSED, Book, flipped, repacked
from evidence.conftest import Archive
from evidence.office import ORIGIN, altered, places, rechained
from muniment.core.events import KeyAnnounced, KeyRetired, encode_data
from muniment.core.text import disclose
from muniment.evidence.archive import BadBundle, pack, unpack
from muniment.evidence.bundle import bounding, write
from muniment.evidence.reading import Report, verify_bundle
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.entry import Actor, Entry, decode_entry, entry_ref
from muniment.ledger.errors import BadProof
from muniment.ledger.note import parse_note
from muniment.ledger.trust import TrustPolicy
from muniment.service import evidencing

LEVELS = ("V1", "V2", "V3", "V4", "V5")


@pytest.fixture(scope="module")
def exported(archive: Archive) -> dict[str, bytes]:
    """What the service hands out, for each kind of ticket."""
    return {
        kind: evidencing.export(archive.office.desk, ticket)[0] for kind, ticket in archive.tickets.items()
    }


@pytest.fixture(scope="module")
def own(archive: Archive) -> TrustPolicy:
    return archive.office.desk.trust


def failing(report: Report) -> dict[str, str]:
    return {name: str(level.first_fault) for name, level in report.levels.items() if not level.ok}


# ── what is handed out ──


def test_every_ticket_can_be_handed_out(
    archive: Archive, exported: dict[str, bytes], own: TrustPolicy
) -> None:
    for kind, raw in exported.items():
        report = verify_bundle(raw, own)
        assert report.ok, (kind, failing(report))
        assert report.ticket == archive.tickets[kind]
        assert tuple(report.levels) == LEVELS
        entries = sum(decode_entry(each).ticket == report.ticket for each in archive.log)
        assert f"{entries} entries of {report.ticket}" in report.proves[0]
        assert any("operator-signed only" in each for each in report.does_not_prove)
        assert any("that times are true" in each for each in report.does_not_prove)
        ended = any("nothing may follow" in each for each in report.does_not_prove)
        assert ended == (kind != "active")


def test_two_exports_are_the_same_bytes(archive: Archive, exported: dict[str, bytes]) -> None:
    for kind, ticket in archive.tickets.items():
        assert evidencing.export(archive.office.desk, ticket)[0] == exported[kind]


def test_texts_are_disclosed_and_an_erased_one_is_said_to_be(
    archive: Archive, exported: dict[str, bytes], own: TrustPolicy
) -> None:
    files = unpack(exported["by_two"])
    said = sorted(
        content.decode() for name, content in files.items() if name.endswith(".txt") and "texts/" in name
    )
    assert said == ["as CHG-7 says", "enough", "go on", "to look"]
    (name,) = (n for n, content in files.items() if content == b"enough")
    stem = name.removesuffix(".txt")
    erased = repacked(exported["by_two"], {name: None, f"{stem}.salt": None, f"{stem}.erased": b""})
    report = verify_bundle(erased, own)
    assert report.ok, failing(report)
    assert any("3 disclosed, 1 erased" in each for each in report.proves)


def test_the_policy_in_force_is_in_it(archive: Archive, exported: dict[str, bytes]) -> None:
    texts = [
        decode_entry(content)
        for name, content in unpack(exported["closed"]).items()
        if name.endswith(".entry")
    ]
    kinds = {entry.type for entry in texts}
    assert {
        "policy-text-recorded/1",
        "policy-adopted/1",
        "identity-recorded/1",
        "target-registered/1",
    } <= kinds
    whole = "".join(msgspec.json.decode(e.data)["text"] for e in texts if e.type == "policy-text-recorded/1")
    assert all(text in whole for text in archive.office.desk.policy.files().values())


def test_the_readme_says_what_is_proved_and_what_not(exported: dict[str, bytes]) -> None:
    ended, going_on = (unpack(exported[kind])["README.txt"].decode() for kind in ("closed", "active"))
    for text in (ended, going_on):
        assert "operator-signed only" in text
        assert "does not prove" in text
        assert max(map(len, text.splitlines())) < 130
    assert "nothing may follow" in ended
    assert "may have been left out" in going_on


# ── the bytes of the file ──


def test_no_byte_can_be_changed(exported: dict[str, bytes], own: TrustPolicy) -> None:
    raw = exported["refused"]
    chance = random.Random(1)
    for at in sorted({*range(200), *range(len(raw) - 300, len(raw)), *chance.sample(range(len(raw)), 700)}):
        with pytest.raises(BadBundle):
            verify_bundle(flipped(raw, at, 1 << chance.randrange(8)), own)


def test_every_file_is_covered_by_the_manifest(exported: dict[str, bytes], own: TrustPolicy) -> None:
    files = unpack(exported["refused"])
    for name, content in files.items():
        changed = flipped(content, 0) if content else b"x"
        with pytest.raises(BadBundle) as refused:
            verify_bundle(pack(files | {name: changed}), own)
        assert name in refused.value.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"FORMAT": b"muniment-evidence/2\n"}, "FORMAT is not muniment-evidence/1"),
        ({"checkpoint": None}, "checkpoint is missing"),
        ({"trust": None}, "trust is missing"),
        ({"verify.sh": None}, "verify.sh is missing"),
        ({"README.txt": None}, "README.txt is missing"),
        ({"ticket/0000.entry": None}, "ticket/0000.entry is missing"),
        ({"ticket/0001.entry": None}, "ticket/0001.entry is missing"),
        ({"ticket/0001.tlog-proof": None}, "ticket/0001.tlog-proof is missing"),
        ({"ticket/0001.tlog-proof": None, "ticket/0001.entry": None}, "ticket/0001.entry is missing"),
        ({"registry/0002.tlog-proof": None}, "registry/0002.tlog-proof is missing"),
        ({"more.txt": b""}, "more.txt does not belong"),
        ({"ticket/0000.json": b""}, "ticket/0000.json does not belong"),
        ({"texts/" + "0" * 64 + ".txt": b""}, ".salt is missing"),
        ({"texts/" + "0" * 64 + ".txt": b"", "texts/" + "0" * 64 + ".salt": b"1"}, "has 1 bytes, not 32"),
        ({"texts/" + "0" * 64 + ".erased": b"x"}, "said to be erased, and is there"),
        ({"since.checkpoint": b"x"}, "since.consistency is missing"),
        ({"anchors/7.consistency": b"x"}, "anchors/7.checkpoint is missing"),
        (
            {"anchors/7.consistency": b"", "anchors/7.checkpoint": b"", "anchors/7.1.tsr": b""},
            "anchors/7.0.tsr is missing",
        ),
        ({"anchors/07.checkpoint": b""}, "does not belong"),
        ({"checkpoint": b"nonsense"}, "checkpoint: the note has no empty line"),
        ({"ticket/0001.tlog-proof": b"nonsense"}, "ticket/0001.tlog-proof: the proof has no empty line"),
        ({"MANIFEST": b""}, "in MANIFEST its digest is none"),
    ],
)
def test_what_is_missing_or_too_much_is_named(
    exported: dict[str, bytes], own: TrustPolicy, change: dict[str, bytes | None], says: str
) -> None:
    with pytest.raises(BadBundle) as refused:
        verify_bundle(repacked(exported["denied"], change), own)
    assert says in refused.value.message


def test_a_manifest_in_another_spelling_is_refused(exported: dict[str, bytes], own: TrustPolicy) -> None:
    listed = unpack(exported["denied"])["MANIFEST"]
    for changed in (listed + listed[:80], listed + b"\n", b"\n".join(reversed(listed.splitlines())) + b"\n"):
        with pytest.raises(BadBundle, match="MANIFEST"):
            verify_bundle(repacked(exported["denied"], {"MANIFEST": changed}), own)


# ── forgeries: the manifest agrees with everything ──


def forged(archive: Archive, change: Callable[[Book, str], dict[str, Any]], kind: str = "denied") -> bytes:
    """A bundle of a ledger whose key the forger has not."""
    book, ticket = Book.of(archive.log), archive.tickets[kind]
    return write(book.evidence(ticket, **change(book, ticket)))


def test_bundles_made_by_hand_hold(archive: Archive) -> None:
    report = verify_bundle(forged(archive, lambda *_: {}), TRUST)
    assert report.ok, failing(report)


def test_v1_the_signature(archive: Archive, own: TrustPolicy) -> None:
    stranger = forged(archive, lambda book, _: {"checkpoint": book.checkpoint(by=STRANGER)})
    assert failing(verify_bundle(stranger, TRUST)).keys() == {"V1"}
    assert (
        "no key that we trust" in failing(verify_bundle(stranger, TRUST))["V1"]
        or "we trust" in failing(verify_bundle(stranger, TRUST))["V1"]
    )
    other = forged(archive, lambda *_: {})
    assert failing(verify_bundle(other, own)).keys() == {"V1"}, (
        "the operator's trust file in it does not count"
    )


def keys_entry(log: list[bytes], seq: int, event: KeyAnnounced | KeyRetired) -> bytes:
    """A step of a key rotation, behind the log."""
    before = log[-1]
    made = Entry(
        log=ORIGIN, ticket="keys", seq=seq, prev=entry_ref(before) if seq else None, type=event.kind,
        actor=Actor(id="human:ops@example.com", via="test"), at=decode_entry(before).at,
        data=msgspec.Raw(encode_data(event)),
    )  # fmt: skip
    return made.encode()


@pytest.mark.parametrize(
    ("since", "says"),
    [
        (1, "under it: this is another's work"),
        (2, "announces its successor"),
        (None, "beside your key"),
    ],
    ids=["my key signed before it was announced", "my key vouches for it", "nothing that my key signed"],
)
def test_v1_a_key_that_was_replaced_is_explained(archive: Archive, since: int | None, says: str) -> None:
    """The auditor has the old key alone; the bundle is signed with the new one."""
    log = list(archive.log)
    log.append(keys_entry(log, 0, KeyAnnounced(vkey=STRANGER.vkey, beside=(SIGNER.vkey,))))
    log.append(keys_entry(log, 1, KeyRetired(vkey=SIGNER.vkey, remaining=(STRANGER.vkey,))))
    book, ticket = Book.of(log), archive.tickets["closed"]
    kept = None if since is None else book.tied(len(archive.log) - 1 + since)
    raw = write(book.evidence(ticket, checkpoint=book.checkpoint(by=STRANGER), since=kept))
    report = verify_bundle(raw, TRUST)
    assert failing(report).keys() == {"V1"}, failing(report)
    assert says in failing(report)["V1"]
    assert (STRANGER.vkey in failing(report)["V1"]) == (since != 1)
    # an announcement that the checkpoint does not hold is not told
    names = [name for name, raw in unpack(raw).items() if name.endswith(".entry") and b"key-announced" in raw]
    forged = {name: unpack(raw)[name].replace(b"ops@", b"oops@") for name in names}
    assert STRANGER.vkey not in failing(verify_bundle(repacked(raw, forged), TRUST))["V1"]
    both = TrustPolicy(log=(SIGNER.verifier, STRANGER.verifier))
    assert verify_bundle(raw, both).ok


def test_v1_a_damaged_signature(archive: Archive) -> None:
    book = Book.of(archive.log)
    note = book.checkpoint().rstrip("\n")
    text, line = note.rsplit(" ", 1)
    damaged = f"{text} {line[:20]}{'A' if line[20] != 'A' else 'B'}{line[21:]}\n"
    report = verify_bundle(forged(archive, lambda *_: {"checkpoint": damaged}), TRUST)
    assert "checkpoint: the signature by" in failing(report)["V1"]
    assert failing(report).keys() == {"V1"}


def test_v1_the_quorum(archive: Archive) -> None:
    at = int(datetime.fromisoformat(decode_entry(archive.log[-1]).at).timestamp()) + 5

    def cosigned(*witnesses: Any) -> Report:
        note = Book.of(archive.log).checkpoint(cosigned=dict.fromkeys(witnesses, at))
        return verify_bundle(forged(archive, lambda *_: {"checkpoint": note}), WITNESSED)

    enough = cosigned(W1, W3)
    assert enough.ok, failing(enough)
    assert any("w1.example.org, w3.example.org saw the ledger only grow" in each for each in enough.proves)
    assert not any("operator-signed" in each for each in enough.does_not_prove)
    one = cosigned(W2)
    assert failing(one).keys() == {"V1"}
    assert "cosigned by w2.example.org; your trust file asks for two-of-three" in failing(one)["V1"]
    assert "cosigned by no witness" in failing(cosigned())["V1"]


def test_v2_another_entrys_proof(archive: Archive, exported: dict[str, bytes], own: TrustPolicy) -> None:
    files, other = unpack(exported["closed"]), unpack(exported["expired"])
    swaps = {
        "of the same ticket": files["ticket/0001.tlog-proof"],
        "of another ticket": other["ticket/0002.tlog-proof"],
    }
    for proof in swaps.values():
        report = verify_bundle(repacked(exported["closed"], {"ticket/0002.tlog-proof": proof}), own)
        assert "ticket/0002.tlog-proof: the proof of leaf" in failing(report)["V2"]
    # the entry goes with its proof: it is in the ledger, and not of this ticket
    both = {f"ticket/0002.{part}": other[f"ticket/0002.{part}"] for part in ("entry", "tlog-proof")}
    report = verify_bundle(repacked(exported["closed"], both), own)
    assert "V2" not in failing(report)
    assert f"not of the ticket '{archive.tickets['closed']}'" in failing(report)["V3"]


def test_v2_a_proof_with_more_in_it_or_another_checkpoint(
    archive: Archive, exported: dict[str, bytes]
) -> None:
    own = archive.office.desk.trust
    proof = unpack(exported["denied"])["ticket/0001.tlog-proof"]
    extra = proof.replace(b"\nindex", b"\nextra eA==\nindex", 1)
    index = proof.replace(b"\nindex ", b"\nindex 1", 1)
    tail = proof + "— somebody.example AAAAAAAA\n".encode()
    for changed in (extra, tail):
        report = verify_bundle(repacked(exported["denied"], {"ticket/0001.tlog-proof": changed}), own)
        assert "leads to another checkpoint" in failing(report)["V2"]
    report = verify_bundle(repacked(exported["denied"], {"ticket/0001.tlog-proof": index}), own)
    assert "outside a tree" in failing(report)["V2"]


def test_v2_an_altered_entry(exported: dict[str, bytes], own: TrustPolicy) -> None:
    entry = unpack(exported["closed"])["ticket/0002.entry"]
    report = verify_bundle(
        repacked(exported["closed"], {"ticket/0002.entry": entry.replace(b"cyd", b"dee")}), own
    )
    assert "ticket/0002.tlog-proof" in failing(report)["V2"]
    assert "ticket/0003.entry: it is entry 3 of its ticket" in failing(report)["V3"]


def test_v3_a_gap_and_a_changed_chain(archive: Archive) -> None:
    """By somebody who has the key: the ledger itself is wrong."""
    at = places(archive.log, archive.tickets["denied"])["approval-recorded"]

    def report(log: list[bytes], kind: str = "denied") -> Report:
        return verify_bundle(write(Book.of(log).evidence(archive.tickets[kind])), TRUST)

    gap = report([raw for place, raw in enumerate(archive.log) if place != at])
    assert "where 2 was to come" in failing(gap)["V3"]
    assert "V2" not in failing(gap)
    changed = list(archive.log)
    changed[at] = changed[at].replace(b'"via":"test"', b'"via":"tess"')
    assert "ticket/0003.entry" in failing(report(changed))["V3"]
    assert failing(report(rechained(changed))) == {}, "the chain alone was wrong"
    spelled = list(archive.log)
    spelled[at] = spelled[at].replace(b'{"actor"', b'{ "actor"')
    assert "canonical" in failing(report(spelled))["V3"]
    moved = altered(archive.log, at, lambda entry: entry.update(log="ledger.example.org/other"))
    assert "belongs to the log 'ledger.example.org/other'" in failing(report(moved))["V3"]


def test_v3_a_cut_tail_is_not_seen_but_said(archive: Archive) -> None:
    """Entries after these may have been left out: no bundle can show that, and it says so."""
    book, ticket = Book.of(archive.log), archive.tickets["closed"]
    whole = book.evidence(ticket)
    for cut in (3, 6, len(whole.entries) - 1):
        texts = [t for t in whole.texts if any(t.commitment.encode() in e.raw for e in whole.entries[:cut])]
        part = msgspec.structs.replace(whole, entries=whole.entries[:cut], texts=tuple(texts))
        report = verify_bundle(write(part), TRUST)
        assert report.ok, failing(report)
        assert any("may have been left out" in each for each in report.does_not_prove)


def test_v4_the_rules(archive: Archive) -> None:
    """By somebody who has the key, and made everything else good."""
    ticket = archive.tickets["closed"]

    def report(kind: str, change: Callable[[dict[str, Any]], None]) -> dict[str, str]:
        log = altered(archive.log, places(archive.log, ticket)[kind], change)
        return failing(verify_bundle(write(Book.of(log).evidence(ticket)), TRUST))

    own_approval = report(
        "approval-recorded",
        lambda e: (
            e["actor"].update(id="human:ann@example.com"),
            e["data"].update(approver="human:ann@example.com"),
        ),
    )
    assert own_approval.keys() == {"V4"}
    assert (
        "ticket/0002.entry: human:ann@example.com decides on it, and is its requester" in own_approval["V4"]
    )
    longer = report("provisioning-started", lambda e: e["data"].update(expires_at="2027-01-01T00:00:00Z"))
    assert "later than was asked and approved" in longer["V4"]
    assert longer.keys() == {"V4"}


def test_v4_an_approval_under_another_name(archive: Archive) -> None:
    """The directory said that Cyd is Ann; the entry of the approval does not."""
    at = next(
        i for i, raw in enumerate(archive.log) if decode_entry(raw).ticket == "identity:human:cyd@example.com"
    )
    log = altered(archive.log, at, lambda e: e["data"]["identity"].update(aliases=["human:ann@example.com"]))
    report = verify_bundle(write(Book.of(log).evidence(archive.tickets["closed"])), TRUST)
    assert failing(report).keys() == {"V4"}
    assert "under another name, requester" in failing(report)["V4"]


def test_v4_policy_must_be_in_the_bundle(archive: Archive) -> None:
    book = Book.of(archive.log)
    whole = book.evidence(archive.tickets["closed"])
    without = tuple(e for e in whole.registry if decode_entry(e.raw).ticket != "policy")
    report = verify_bundle(write(msgspec.structs.replace(whole, registry=without)), TRUST)
    assert failing(report).keys() == {"V4"}
    assert "was not adopted before" in failing(report)["V4"]


def test_v4_texts(archive: Archive, exported: dict[str, bytes], own: TrustPolicy) -> None:
    files = unpack(exported["closed"])
    name = next(n for n, content in files.items() if content == b"to look")
    stem = name.removesuffix(".txt")
    changed = verify_bundle(repacked(exported["closed"], {name: b"to steal"}), own)
    assert failing(changed) == {"V4": f"{name}: it is not the text that the entry commits to"}
    gone = verify_bundle(repacked(exported["closed"], {name: None, f"{stem}.salt": None}), own)
    assert "nothing says that it was erased" in failing(gone)["V4"]
    other = disclose("nobody said this", bytes(32))
    more = f"texts/{other.commitment[7:]}"
    extra = verify_bundle(
        repacked(exported["closed"], {f"{more}.txt": b"nobody said this", f"{more}.salt": bytes(32)}), own
    )
    assert "no entry of the ticket commits to it" in failing(extra)["V4"]


def moment(raw: bytes, after: float = 0) -> int:
    return int(datetime.fromisoformat(decode_entry(raw).at).timestamp() + after)


def test_v5_witnesses_bound_the_times(archive: Archive) -> None:
    ticket = archive.tickets["active"]
    at = places(archive.log, ticket)["approval-recorded"]

    def report(log: list[bytes]) -> Report:
        book = Book.of(log)
        # times as they were when the ledger was written, whatever an entry claims now
        early, late = moment(archive.log[at - 1], 1), moment(archive.log[-1], 5)
        anchors = [
            book.tied(at, cosigned={W1: early, W2: early}),
            book.tied(at + 1, cosigned={W1: early + 2}),
        ]
        note = book.checkpoint(cosigned={W1: late, W2: late})
        return verify_bundle(write(book.evidence(ticket, checkpoint=note, anchors=tuple(anchors))), WITNESSED)

    sound = report(archive.log)
    assert sound.ok, failing(sound)
    assert sound.levels["V5"].checked == sum(decode_entry(raw).ticket == ticket for raw in archive.log)
    assert any("agree with those of 5 cosignatures" in each for each in sound.proves)

    def redated(minutes: int) -> Callable[[dict[str, Any]], None]:
        def change(entry: dict[str, Any]) -> None:
            day, time = entry["at"].split("T")
            hours, rest = int(time[:2]), time[3:]
            entry["at"] = f"{day}T{hours:02}:{int(rest[:2]) + minutes:02}{rest[2:]}"

        return change

    minute = int(decode_entry(archive.log[at]).at[14:16])
    shift = 20 if minute < 30 else -20
    wrong = report(altered(archive.log, at, redated(shift)))
    assert failing(wrong).keys() == {"V5"}
    assert "cosigned by w1.example.org" in failing(wrong)["V5"]


def test_v5_time_stamps_are_asked_of_whoever_can_check_them(archive: Archive) -> None:
    book, ticket = Book.of(archive.log), archive.tickets["active"]
    raw = write(book.evidence(ticket, anchors=(book.tied(len(archive.log), stamps=(b"token", b"other")),)))
    seen: list[tuple[bytes, bytes]] = []

    def check(time: int) -> Callable[[bytes, bytes], tuple[int, str]]:
        def stamp(token: bytes, text: bytes) -> tuple[int, str]:
            seen.append((token, text))
            return time, "tsa.example.org"

        return stamp

    text = parse_note(book.checkpoint()).text.encode()
    fine = verify_bundle(raw, TRUST, stamp=check(moment(archive.log[-1], 9)))
    assert fine.ok, failing(fine)
    assert set(seen) == {(b"token", text), (b"other", text)}
    early = verify_bundle(raw, TRUST, stamp=check(moment(archive.log[-1], -9999)))
    assert "stamped by tsa.example.org" in failing(early)["V5"]

    def bad(_: bytes, __: bytes) -> tuple[int, str]:
        raise BadProof("it is not over this checkpoint")

    refused = verify_bundle(raw, TRUST, stamp=bad)
    assert failing(refused) == {"V5": f"anchors/{len(archive.log)}.0.tsr: it is not over this checkpoint"}
    unasked = verify_bundle(raw, TRUST)
    assert unasked.ok
    assert any("anything by its 2 time-stamps" in each for each in unasked.does_not_prove)


def test_an_anchor_of_another_history_counts_for_nothing(archive: Archive) -> None:
    book, ticket = Book.of(archive.log), archive.tickets["active"]
    other = Book.of([b"{}", *archive.log[1:]])
    foreign = msgspec.structs.replace(book.tied(20), note=other.checkpoint(20, cosigned={W1: 5}))
    report = verify_bundle(write(book.evidence(ticket, anchors=(foreign,))), TrustPolicy.parse(
        f"log {TRUST.log[0].vkey}\nwitness one {W1.vkey}\nquorum none\n"
    ))  # fmt: skip
    assert "anchors/20.consistency: the proof leads to another root" in failing(report)["V2"]
    assert report.levels["V5"].checked == 0
    renamed = repacked(write(book.evidence(ticket, anchors=(book.tied(20),))), {})
    files = unpack(renamed)
    moved = {f"anchors/21.{part}": files[f"anchors/20.{part}"] for part in ("checkpoint", "consistency")}
    gone = {f"anchors/20.{part}": None for part in ("checkpoint", "consistency")}
    assert "another number of entries" in failing(verify_bundle(repacked(renamed, moved | gone), TRUST))["V2"]


def test_witnessed_tickets_begin_after_witnesses_saw_the_approvals(archive: Archive) -> None:
    ticket = archive.tickets["active"]
    where = places(archive.log, ticket)
    log = altered(
        archive.log, where["policy-decided"], lambda e: e["data"]["obligations"].update(witnessed=True)
    )
    book = Book.of(log)
    approved, late = where["request-approved"], moment(log[-1], 5)

    def report(trust: TrustPolicy, *sizes: int) -> dict[str, str]:
        anchors = tuple(book.tied(size, cosigned={W1: late, W2: late}) for size in sizes)
        note = book.checkpoint(cosigned={W1: late, W2: late})
        return failing(
            verify_bundle(write(book.evidence(ticket, checkpoint=note, anchors=anchors)), trust, skew=10**9)
        )

    assert where["provisioning-started"] == approved + 1
    assert report(WITNESSED, approved + 1) == {}
    for sizes in ((), (approved,), (approved + 2,)):
        fault = report(WITNESSED, *sizes)
        assert fault.keys() == {"V4"}
        assert "before witnesses are known to have seen the approvals" in fault["V4"]
    assert report(TRUST) == {}, "who trusts no witness cannot judge it"


# ── growth from the auditor's last checkpoint ──


def test_since(archive: Archive, own: TrustPolicy) -> None:
    book, ticket = Book.of(archive.log), archive.tickets["active"]
    for size in (0, 1, 20, len(archive.log)):
        kept = Checkpoint.parse(parse_note(book.checkpoint(size)).text)
        report = verify_bundle(write(book.evidence(ticket, since=book.tied(size))), TRUST, since=kept)
        assert report.ok, (size, failing(report))
        assert any(f"grew from the checkpoint over {size} entries" in each for each in report.proves)
    kept = Checkpoint.parse(parse_note(book.checkpoint(20)).text)
    without = verify_bundle(write(book.evidence(ticket)), TRUST, since=kept)
    assert "does not prove that the log grew from your checkpoint over 20 entries" in failing(without)["V2"]
    fork = Checkpoint(origin=kept.origin, size=20, root=hashlib.sha256(b"x").digest())
    forked = verify_bundle(write(book.evidence(ticket, since=book.tied(20))), TRUST, since=fork)
    assert failing(forked).keys() == {"V2"}
    other = Checkpoint(origin="ledger.example.org/other", size=20, root=kept.root)
    assert "is of the log" in failing(verify_bundle(write(book.evidence(ticket)), TRUST, since=other))["V2"]
    broken = msgspec.structs.replace(book.tied(20), consistency=book.tied(19).consistency)
    assert (
        "since.consistency" in failing(verify_bundle(write(book.evidence(ticket, since=broken)), TRUST))["V2"]
    )


def test_the_service_proves_growth_and_refuses_another_history(archive: Archive) -> None:
    from muniment.core.errors import IntegrityError  # noqa: PLC0415  only here

    desk, ticket = archive.office.desk, archive.tickets["closed"]
    note = desk.ledger.published()[0].note
    raw, document = evidencing.export(desk, ticket, since=note)
    assert document["ok"]
    report = verify_bundle(raw, desk.trust, since=evidencing.read_checkpoint(note))
    assert report.ok, failing(report)
    with pytest.raises(IntegrityError, match="not one of this ledger"):
        evidencing.export(desk, ticket, since=Book.of(archive.log).checkpoint(5))
    with pytest.raises(IntegrityError, match="not one of this ledger"):
        evidencing.export(desk, ticket, since="nonsense")


def test_which_anchors_bound_a_ticket() -> None:
    assert bounding([5, 10, 15, 20, 30], [11, 17]) == {10, 15, 20}
    assert bounding([5, 10], [10]) == {10}
    assert bounding([0, 3], [0, 1]) == {3}
    assert bounding([], [4]) == set()
