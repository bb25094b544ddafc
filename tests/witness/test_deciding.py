"""What a witness answers to each kind of request, by the words of tlog-witness; without HTTP."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from ledger.logs import ORIGIN, SIGNER, STRANGER, build, head, seal
from muniment.core.errors import Misconfigured, StoreUnavailable
from muniment.ledger.checkpoint import sign_checkpoint
from muniment.ledger.cosignature import cosignatures
from muniment.ledger.keys import cosigner_from_seed, ml_dsa_from_seed, signer_from_seed
from muniment.ledger.merkle import consistency_proof, leaf_hash
from muniment.ledger.note import parse_note, sign_note
from muniment.ledger.wire import write_base64
from muniment.witness.deciding import MAX_REQUEST, Reply, add_checkpoint
from muniment.witness.record import Record, create

NOW = 1_764_000_000
W = cosigner_from_seed("w.example.org/1", b"\x01" * 32)
PQ = cosigner_from_seed("w.example.org/1", b"\x02" * 32, ml_dsa=True)
ENTRIES = build(["req_1"] * 20)
OTHER = build(["req_2"] * 20)  # another history


def request(old: int, size: int, *, note: str | None = None, proof: list[bytes] | None = None) -> bytes:
    leaves = [leaf_hash(e) for e in ENTRIES[:size]]
    hashes = (consistency_proof(old, leaves) if 0 < old < size else []) if proof is None else proof
    lines = "".join(f"{write_base64(each)}\n" for each in hashes)
    return f"old {old}\n{lines}\n{note or seal(ENTRIES[:size])}".encode()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = create(tmp_path / "w.db", [W.verifier])
    made.add_log(SIGNER.verifier)
    return made


@pytest.fixture
def at_seven(record: Record) -> Record:
    assert submit(record, request(0, 7)).status == 200
    return record


def submit(record: Record, body: bytes) -> Reply:
    return add_checkpoint(record, [W], body, NOW)


def empty_tree_with_a_root() -> str:
    text = head([]).text().split("\n")
    text[2] = head(ENTRIES).text().split("\n")[2]
    return sign_note("\n".join(text), [SIGNER])


def test_a_log_that_grows_is_cosigned_and_what_was_seen_is_shown(record: Record):
    for old, size in ((0, 0), (0, 3), (3, 3), (3, 8), (8, 19), (19, 20)):
        reply = submit(record, request(old, size))
        assert reply.status == 200, reply.body
        (found,) = cosignatures(seal(ENTRIES[:size]) + reply.body, [W.verifier])
        assert found.time == NOW
        seen = record.seen(ORIGIN)
        assert seen is not None
        assert (seen.size, seen.root) == (size, head(ENTRIES[:size]).root)
        names = [each.name for each in parse_note(seen.note).signatures]
        assert names == [ORIGIN, W.name]


STRANGE = seal(ENTRIES[:9], STRANGER)
UNKNOWN = seal(ENTRIES[:9], signer_from_seed("other.example.org/log", b"\x03" * 32))
FORGED = seal(ENTRIES[:9]).rsplit(" ", 1)[0] + " " + seal(OTHER[:9]).rsplit(" ", 1)[1]
LINES = "".join(f"— x.example.org/{n} AAAAAAAA\n" for n in range(1000))
EXTENDED = head(ENTRIES[:9]).text() + "more\n\n" + seal(ENTRIES[:9]).rsplit("\n\n", 1)[1]


@pytest.mark.parametrize(
    ("what", "body", "status", "says"),
    [
        ("nothing", b"", 400, "old size"),
        ("not a request", b"hello\n\nworld\n", 400, "old size"),
        ("no empty line", b"old 7\n", 400, "old size"),
        ("a leading zero", b"old 07" + request(7, 9)[5:], 400, "decimal"),
        ("a minus", b"old -7" + request(7, 9)[5:], 400, "decimal"),
        ("carriage returns", request(7, 9).replace(b"\n", b"\r\n"), 400, "control character"),
        ("not UTF-8", request(7, 9) + b"\xff\n", 400, "UTF-8"),
        ("64 hashes", request(7, 9, proof=[b"\0" * 32] * 64), 400, "63"),
        ("a short hash", b"old 7\nAAAA\n\n" + seal(ENTRIES[:9]).encode(), 400, "3 bytes"),
        ("too long", request(7, 9) + b"x" * MAX_REQUEST, 400, "longer"),
        ("no note", b"old 7\n\nhello\n", 400, "empty line"),
        ("1,000 signature lines", (request(7, 9).decode() + LINES).encode(), 400, "signature lines"),
        ("an extension line", request(7, 9, note=EXTENDED), 400, "extension"),
        ("an unknown log", request(7, 9, note=UNKNOWN), 404, "not known"),
        ("another key of that name", request(7, 9, note=STRANGE), 403, "signed by"),
        ("a signature of something else", request(7, 9, note=FORGED), 403, "does not verify"),
        ("old above the checkpoint", request(9, 7), 400, "larger"),
        ("old below what was seen", request(3, 9), 409, "7\n"),
        ("old above what was seen", request(8, 9), 409, "7\n"),
        ("new to us, as from a restored log", request(0, 3), 409, "7\n"),
        ("no proof", request(7, 9, proof=[]), 422, "no proof"),
        ("a proof of another size", request(7, 9, proof=consistency_proof(6, [leaf_hash(e) for e in ENTRIES[:9]])), 422, ""),
        ("a proof too long", request(7, 9, proof=[*consistency_proof(7, [leaf_hash(e) for e in ENTRIES[:9]]), b"\0" * 32]), 422, ""),
        ("another history", request(7, 9, note=seal(OTHER[:9])), 422, ""),
        ("another tree of the same size", request(7, 7, note=seal(OTHER[:7])), 422, "two roots"),
        ("the same size with a proof", request(7, 7, proof=[b"\0" * 32]), 422, "nothing is to be proved"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)  # fmt: skip
def test_what_is_not_so_is_refused_with_the_status_of_the_specification(
    at_seven: Record, what: str, body: bytes, status: int, says: str
):
    before = at_seven.seen(ORIGIN)
    reply = submit(at_seven, body)
    assert (reply.status, says in reply.body) == (status, True), reply
    assert reply.content_type == ("text/x.tlog.size" if status == 409 else "text/plain; charset=utf-8")
    assert at_seven.seen(ORIGIN) == before, "nothing that was refused moves the record"


@pytest.mark.parametrize(
    ("what", "body", "says"),
    [
        ("a proof from nothing", request(0, 9, proof=[b"\0" * 32]), "nothing to prove"),
        ("an empty tree with a root", request(0, 0, note=empty_tree_with_a_root()), "not the root"),
    ],
)
def test_from_nothing_there_is_nothing_to_prove(record: Record, what: str, body: bytes, says: str):
    reply = submit(record, body)
    assert (reply.status, says in reply.body) == (422, True), what
    assert record.seen(ORIGIN) is None


def test_lines_by_others_are_ignored_and_not_shown(at_seven: Record):
    note = seal(ENTRIES[:9]) + "— x.example.org AAAAAAAAAAAA\n"
    assert submit(at_seven, request(7, 9, note=note)).status == 200
    seen = at_seven.seen(ORIGIN)
    assert seen is not None
    assert "x.example.org" not in seen.note


def test_two_keys_sign_two_lines(tmp_path: Path):
    record = create(tmp_path / "w.db", [W.verifier, PQ.verifier])
    record.add_log(SIGNER.verifier)
    second = ml_dsa_from_seed(ORIGIN, b"\x04" * 32)
    record.add_log(second.verifier)
    note = sign_checkpoint(head(ENTRIES[:5]), [SIGNER, second])
    reply = add_checkpoint(record, [W, PQ], request(0, 5, note=note), NOW)
    assert reply.status == 200
    assert len(cosignatures(note + reply.body, [W.verifier, PQ.verifier])) == 2
    seen = record.seen(ORIGIN)
    assert seen is not None
    assert len(parse_note(seen.note).signatures) == 4


def test_two_histories_at_once_and_one_is_signed(record: Record):
    """Sixteen threads, two trees: whichever is first wins, and the other is signed by nobody (tlog-witness, the race)."""
    answers: list[tuple[int, Reply]] = []
    start = threading.Barrier(16)

    def one(which: int) -> None:
        entries = (ENTRIES, OTHER)[which]
        start.wait()
        answers.append((which, submit(record, f"old 0\n\n{seal(entries[:6])}".encode())))

    threads = [threading.Thread(target=one, args=(n % 2,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signed = Counter(which for which, reply in answers if reply.status == 200)
    assert sum(signed.values()) == 1, (
        "the first moves the record; every other one has an old size that is old"
    )
    assert {reply.status for _, reply in answers} == {200, 409}
    seen = record.seen(ORIGIN)
    assert seen is not None
    assert seen.root == head((ENTRIES, OTHER)[next(iter(signed))][:6]).root


def test_a_record_is_made_once_and_never_by_serving(tmp_path: Path):
    path = tmp_path / "w.db"
    with pytest.raises(Misconfigured) as caught:
        Record(path)
    assert caught.value.code == "witness.no-record"
    assert not path.exists()
    create(path, [W.verifier])
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Misconfigured, match="there already"):
        create(path, [W.verifier])
    (tmp_path / "zero").touch()
    with pytest.raises(Misconfigured, match="not the file of a witness"):
        Record(tmp_path / "zero")
    (tmp_path / "text").write_text("hello" * 1000)
    with pytest.raises(Misconfigured, match="not the file of a witness"):
        Record(tmp_path / "text")


def test_a_record_that_went_away_is_not_made_anew(at_seven: Record, tmp_path: Path):
    for path in tmp_path.glob("w.db*"):
        path.unlink()
    with pytest.raises(StoreUnavailable):
        submit(at_seven, request(7, 9))
    assert not (tmp_path / "w.db").exists()
