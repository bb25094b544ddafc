"""A ledger with two witnesses that others run: quorum, absence, lies, and a backup that is older than what they saw."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from acceptance.conftest import ANN, AUD, CYD, Muniment, running
from acceptance.test_published_ledger import backup
from acceptance.test_rotating_keys import rotate, settings
from muniment.config import load
from muniment.controllers.people import People
from muniment.core.errors import Misconfigured, MunimentError, NotSealed, RolledBack, WitnessUnavailable
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.keys import cosigner_from_seed
from muniment.ledger.note import Verifier, parse_note
from muniment.main import open_desk
from muniment.ports import Cosigned, Witness
from muniment.service.desk import Desk
from muniment.service.giving import give
from muniment.service.sealing import seal
from muniment.service.witnessing import ask, consult, witnessed_size
from witness.processes import WitnessProcess, witness

Pair = tuple[WitnessProcess, WitnessProcess]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two witnesses. Every test has a ledger of its own, which they get to know."""
    folder = tmp_path_factory.mktemp("witnesses")
    with witness(folder / "1", "w1.example.org") as one, witness(folder / "2", "w2.example.org") as two:
        yield one, two


def restore(muniment: Muniment, copy: Path) -> None:
    """Through SQLite itself: this process has the store open."""
    with (
        closing(sqlite3.connect(copy)) as source,
        closing(sqlite3.connect(muniment.folder / "var/muniment.db")) as live,
    ):
        source.backup(live)


def name_witnesses(muniment: Muniment, *lines: str, quorum: str = "2", origin: str) -> None:
    text = muniment.config.read_text()
    old = text.partition('origin = "')[2].partition('"')[0]
    listed = ", ".join(f'"{line}"' for line in lines)
    text = text.replace("witnesses = []", f"witnesses = [{listed}]\nquorum = {quorum}").replace(old, origin)
    muniment.config.write_text(text)


@pytest.fixture
def watched(here: Muniment, pair: Pair, request: pytest.FixtureRequest) -> Muniment:
    """A folder whose policy demands that the quorum, both of them, has seen an approval."""
    origin = "ledger.example.org/" + sha256(request.node.name.encode()).hexdigest()[:12]
    name_witnesses(here, *(w.line for w in pair), origin=origin)
    policy = here.folder / "policies/people.cedar"
    text = policy.read_text()
    policy.write_text(
        text.replace(
            '@id("engineers-in-production-bounded")',
            '@id("engineers-in-production-bounded")\n@witnessed("required")',
        )
    )
    desk = open_desk(load(here.config))
    for each in pair:
        each.knows(desk.signers[0].verifier)
        if each.process is None:
            each.start()
    return here


def desk_of(muniment: Muniment, *witnesses: Witness, quorum: int | None = None) -> Desk:
    desk = open_desk(load(muniment.config))
    return replace(
        desk, witnesses=witnesses or desk.witnesses, quorum=desk.quorum if quorum is None else quorum
    )


def test_a_quorum_sees_the_approval_before_anything_is_given(watched: Muniment, tmp_path: Path):
    ticket = watched.filed()
    approved = watched.json("approve", ticket, who=CYD)
    assert approved.status == 0, approved.err
    assert approved.document["status"] == "active"
    document = watched.json("ledger", "checkpoint").document
    assert document["quorum"] == {"needed": 2, "met": True}
    assert [(w["name"], bool(w["cosigned_at"]), w["absent"]) for w in document["witnesses"]] == [
        ("w1.example.org", True, None), ("w2.example.org", True, None),
    ]  # fmt: skip
    assert document["says"] == "cosigned by w1.example.org, w2.example.org"
    published = (watched.folder / "var/ledger/checkpoint").read_text()
    assert {s.name for s in parse_note(published).signatures} > {"w1.example.org", "w2.example.org"}
    checked = watched.json("ledger", "verify").document
    assert (checked["ok"], checked["says"], len(checked["witnesses"])) == (True, "", 2)
    assert checked["levels"]["V5"]["checked"] > 0, "cosignatures bound the times"
    out, trust = tmp_path / "e.zip", tmp_path / "trust"
    assert watched.json("evidence", "export", ticket, "--out", out).status == 0
    watched.json("ledger", "export", tmp_path / "audit")
    trust.write_text((tmp_path / "audit/trust").read_text())
    assert "\ngroup witnesses all w1.example.org w2.example.org\nquorum witnesses\n" in trust.read_text()
    verified = watched.json("evidence", "verify", out, "--trust", trust).document
    assert verified["ok"]
    assert any("saw the ledger only grow" in said for said in verified["proves"])


def test_without_the_quorum_nothing_becomes_active_and_absence_is_said(
    watched: Muniment, pair: Pair, tmp_path: Path
):
    watched.json("ledger", "checkpoint")  # both have seen the beginning
    pair[1].kill()
    ticket = watched.filed()
    watched.json("approve", ticket, who=CYD)
    shown = watched.json("show", ticket, who=ANN).document
    assert (shown["status"], shown["granted"]) == ("approved", [])
    desk = desk_of(watched)
    refused = give(desk, "bastion", [ticket], "test").again[ticket]
    assert isinstance(refused, NotSealed)
    assert refused.code == "ledger.not-witnessed"
    document = watched.json("ledger", "checkpoint").document
    one, two = document["witnesses"]
    assert document["quorum"]["met"] is False
    assert one["absent"] is None
    assert two["absent"].startswith("absent, since 20")
    assert "did not answer" in two["absent"]
    assert two["last_cosigned"]["size"] < document["size"]
    assert "w2.example.org is absent, since 20" in document["says"]
    checked = watched.json("check").document["ledger"]["witnesses"]
    assert [w["reachable"] for w in checked["known"]] == [True, False]
    verified = watched.json("ledger", "verify")
    assert verified.status == 1
    assert "w2.example.org is absent" in verified.document["says"]
    assert verified.document["levels"]["V1"]["ok"] is False
    out = tmp_path / "e.zip"
    assert watched.json("evidence", "export", ticket, "--out", out).status == 0
    pair[1].start()
    later = desk_of(watched)
    assert give(later, "bastion", [ticket], "test").again == {}
    found = later.store.read(ticket)[1]
    assert found is not None
    assert found.status == "active"


def test_serve_shows_what_it_publishes_to_the_witnesses(watched: Muniment):
    """The controllers alone: nobody asks for a checkpoint."""
    watched.filed()
    desk = desk_of(watched)
    deadline = time.monotonic() + 120
    with running("serve", "--only", "controllers", "--config", watched.config) as process:
        while witnessed_size(desk) < desk.ledger.head().size or not witnessed_size(desk):
            assert process.poll() is None
            assert time.monotonic() < deadline, "it was not shown to both"
            time.sleep(0.2)
        process.terminate()
        assert process.wait(60) == 0
    published = (watched.folder / "var/ledger/checkpoint").read_text()
    assert {s.name for s in parse_note(published).signatures} > {"w1.example.org", "w2.example.org"}


def test_a_witness_that_does_not_know_the_ledger_says_what_to_do(watched: Muniment, pair: Pair):
    key = desk_of(watched).signers[0].verifier
    pair[1].record.remove_log_key(key)
    document = watched.json("ledger", "checkpoint").document
    assert "does not know the ledger" in document["witnesses"][1]["absent"]
    assert "has never cosigned" in document["witnesses"][1]["absent"]
    pair[1].knows(key)
    assert watched.json("ledger", "checkpoint").document["quorum"]["met"]


def test_a_restored_backup_is_refused_since_a_witness_has_seen_more(watched: Muniment, tmp_path: Path):
    """Store and published files both from the backup: nothing here knows of what came after, and a witness does."""
    kept = watched.filed()
    watched.json("ledger", "checkpoint")
    backup(watched, tmp_path / "backup.db")
    shutil.copytree(watched.folder / "var/ledger", tmp_path / "ledger")
    watched.filed("--reason", "after the backup")
    newest = watched.json("ledger", "checkpoint").document["size"]
    restore(watched, tmp_path / "backup.db")
    shutil.rmtree(watched.folder / "var/ledger")
    shutil.copytree(tmp_path / "ledger", watched.folder / "var/ledger")
    before = desk_of(watched).ledger.counts()
    for words, who in ((("approve", kept), CYD), (("withdraw", kept), ANN), (("ledger", "checkpoint"), None)):
        answer = watched.json(*words, who=who)
        assert answer.status == 1, words
        assert answer.error["code"] == "ledger.rolled-back"
        assert f"has a checkpoint of ours over {newest}: it is older" in answer.error["message"]
        assert "the witness w" in answer.error["message"]
    assert desk_of(watched).ledger.counts() == before, "nothing was recorded, and nothing signed"
    assert watched.json("list", who=AUD).status == 0
    checked = watched.json("check")
    assert (checked.status, checked.error["code"]) == (1, "ledger.rolled-back")
    assert "it is older" in checked.document["ledger"]["witnesses"]["rolled_back"]


def test_the_key_changes_while_witnesses_watch(watched: Muniment, pair: Pair, tmp_path: Path):
    """While both keys sign, those who know either cosign; alone, the new one needs to be known, and absence is said."""
    old = watched.json("ledger", "checkpoint").document["vkey"]
    made = rotate(watched, "file:keys/ledger-2.key").document
    new = next(Verifier.from_vkey(each["vkey"]) for each in made["keys"] if each["state"] == "announced")
    settings(watched, also_sign='["file:keys/ledger-2.key"]')
    watched.filed()
    both = watched.json("ledger", "checkpoint").document
    assert (len(both["vkeys"]), both["quorum"]["met"], both["says"][:11]) == (2, True, "cosigned by")
    pair[0].knows(new)  # the other team forgets it
    assert rotate(watched, "--retire", old.split("+")[1]).status == 0
    settings(watched, key='"file:keys/ledger-2.key"', also_sign="[]")
    watched.filed()
    document = watched.json("ledger", "checkpoint").document
    assert [bool(w["cosigned_at"]) for w in document["witnesses"]] == [True, False]
    assert document["quorum"]["met"] is False
    assert "w2.example.org is absent, since 20" in document["says"]
    assert desk_of(watched).store.halted is None
    pair[1].knows(new)
    assert watched.json("ledger", "checkpoint").document["quorum"]["met"], (
        "what it did not see, the proof ties to what it saw"
    )
    checked = watched.json("ledger", "verify").document
    assert (checked["ok"], len(checked["witnesses"])) == (True, 2), checked["levels"]


def test_a_node_without_the_key_is_halted_as_well(watched: Muniment, pair: Pair, tmp_path: Path):
    """It cannot ask the key what is ours, so it is told the public one; and it hears a witness that was away at first."""
    vkey = watched.json("ledger", "checkpoint").document["vkey"]
    backup(watched, tmp_path / "backup.db")
    shutil.copytree(watched.folder / "var/ledger", tmp_path / "ledger")
    watched.filed()
    watched.json("ledger", "checkpoint")
    restore(watched, tmp_path / "backup.db")
    shutil.rmtree(watched.folder / "var/ledger")
    shutil.copytree(tmp_path / "ledger", watched.folder / "var/ledger")
    text = watched.config.read_text()
    for vkeys, says in (
        ("", "could not tell"),
        ('vkeys = ["x"]', "cannot be used"),
        (f'vkeys = ["{LIAR.vkey}"]', "a key of"),
    ):
        watched.config.write_text(text.replace("[ledger]", f"[ledger]\n{vkeys}"))
        with pytest.raises(Misconfigured, match=says) as refused:
            open_desk(load(watched.config), signing=False)
        assert refused.value.code == "config.ledger-vkeys"
    watched.config.write_text(text.replace("[ledger]", f'[ledger]\nvkeys = ["{vkey}"]'))
    for each in pair:
        each.kill()
    desk = open_desk(load(watched.config), signing=False)
    consult(desk)
    assert (desk.signers, desk.store.halted) == ((), None), "nobody has said anything yet"
    for each in pair:
        each.start()
    people = People(desk)
    people.start()
    deadline = time.monotonic() + 60
    while desk.store.halted is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert people.stop()
    assert "it is older" in str(desk.store.halted)


def test_a_store_that_went_another_way_is_halted_when_a_witness_is_back(
    watched: Muniment, pair: Pair, tmp_path: Path
):
    watched.json("ledger", "checkpoint")
    backup(watched, tmp_path / "backup.db")
    shutil.copytree(watched.folder / "var/ledger", tmp_path / "ledger")
    watched.filed()
    watched.json("ledger", "checkpoint")
    for each in pair:
        each.kill()
    restore(watched, tmp_path / "backup.db")
    shutil.rmtree(watched.folder / "var/ledger")
    shutil.copytree(tmp_path / "ledger", watched.folder / "var/ledger")
    ticket, *_ = [watched.filed() for _ in range(3)]  # it grows past what they saw, another way
    watched.json("approve", ticket, who=CYD)
    shown = watched.json("show", ticket, who=ANN).document
    assert (shown["status"], shown["granted"]) == ("approved", []), (
        "no quorum, so nothing was given meanwhile"
    )
    for each in pair:
        each.start()
    desk = desk_of(watched)
    with pytest.raises(RolledBack, match="another history than the checkpoint"):
        consult(desk)
    assert isinstance(desk.store.halted, RolledBack)
    again = desk_of(watched)
    with pytest.raises(RolledBack, match="another history than the checkpoint"):
        ask(again)
    with pytest.raises(RolledBack):
        seal(again)


def test_an_unchanged_ledger_is_shown_again_after_the_heartbeat(watched: Muniment):
    class Later:
        def __init__(self) -> None:
            self.ahead = timedelta()

        def now(self) -> datetime:
            return datetime.now(UTC) + self.ahead

    class Counting:
        def __init__(self, real: Witness) -> None:
            self.real, self.asked = real, 0
            self.name, self.verifier, self.url, self.latest = real.name, real.verifier, real.url, real.latest

        def cosign(self, note, seen, proof):
            self.asked += 1
            return self.real.cosign(note, seen, proof)

    clock = Later()
    desk = open_desk(load(watched.config), clock=clock)
    witnesses = tuple(map(Counting, desk.witnesses))
    desk = replace(desk, witnesses=witnesses)
    seal(desk)
    beat = timedelta(minutes=20)
    for ahead, asked in ((0, 1), (10, 1), (25, 2), (26, 2), (50, 3)):
        clock.ahead = timedelta(minutes=ahead)
        assert ask(desk, at_least_every=beat) == {}
        assert [w.asked for w in witnesses] == [asked, asked], ahead


def test_rows_that_somebody_wrote_are_no_cosignatures(watched: Muniment, pair: Pair):
    """A database administrator moves both witnesses' answers to the newest checkpoint: nothing begins by it."""
    watched.json("ledger", "checkpoint")
    for each in pair:
        each.kill()
    ticket = watched.filed()
    watched.json("approve", ticket, who=CYD)
    desk = desk_of(watched)
    size = desk.ledger.kept.published_size()
    assert witnessed_size(desk) < size
    with closing(sqlite3.connect(watched.folder / "var/muniment.db")) as connection, connection:
        connection.execute("UPDATE cosignature SET size = ?", (size,))
    assert witnessed_size(desk) < size
    assert isinstance(give(desk, "bastion", [ticket], "test").again[ticket], NotSealed)


# ── one that lies ──

LIAR = cosigner_from_seed("w3.example.org", b"\x05" * 32)
IMPOSTOR = cosigner_from_seed("w3.example.org", b"\x06" * 32)


@contextmanager
def liar(answer, monitoring=lambda path: (404, b"")) -> Iterator[str]:
    """A peer that answers each checkpoint by ``answer(note text)``: status, body, content type."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._say(*answer(parse_note(body.partition("\n\n")[2]).text, body))

        def do_GET(self) -> None:
            self._say(*monitoring(self.path))

        def _say(self, status: int, body: bytes | str, kind: str = "text/plain") -> None:
            raw = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{LIAR.vkey} http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def now() -> int:
    return int(datetime.now(UTC).timestamp())


def other_text(text: str) -> str:
    size = Checkpoint.parse(text).size
    return text.replace(f"\n{size}\n", f"\n{size + 1}\n")


SIZES = "text/x.tlog.size"


@pytest.mark.parametrize(
    ("what", "answer", "code"),
    [
        ("signs with another key", lambda text, _: (200, IMPOSTOR.sign(text, now())), "witness.refused"),
        ("signs something else", lambda text, _: (200, LIAR.sign(other_text(text), now())), "witness.refused"),
        ("answers nothing", lambda *_: (200, ""), "witness.refused"),
        ("answers no note", lambda *_: (200, b"\xff\xfe"), "witness.refused"),
        ("puts another checkpoint below", lambda text, _: (200, other_text(text) + "\n" + LIAR.sign(other_text(text), now())), "witness.refused"),
        ("answers 1,000 lines", lambda text, _: (200, LIAR.sign(text, now()) * 1000), "witness.refused"),
        ("lives in 1970", lambda text, _: (200, LIAR.sign(text, 1)), "witness.wrong-clock"),
        ("lives in 2100", lambda text, _: (200, LIAR.sign(text, 4_102_444_800)), "witness.wrong-clock"),
        ("claims to have seen more", lambda *_: (409, "999999\n", SIZES), "witness.unproven"),
        ("claims a size in words", lambda *_: (409, "many\n", SIZES), "witness.refused"),
        ("claims a size without its type", lambda *_: (409, "0\n"), "witness.refused"),
        ("claims what it was told", lambda _, body: (409, body.partition("\n")[0][4:] + "\n", SIZES), "witness.refused"),
        ("says that the proof is bad", lambda *_: (422, "no"), "witness.unproven"),
        ("does not take our key", lambda *_: (403, "no"), "witness.unknown-key"),
        ("does not know us", lambda *_: (404, "no"), "witness.unknown-ledger"),
        ("has had enough", lambda *_: (429, "later"), "witness.unavailable"),
        ("breaks", lambda *_: (500, "\x1b[31mboom"), "witness.unavailable"),
        ("sends us elsewhere", lambda *_: (302, ""), "witness.unavailable"),
        ("answers without end", lambda *_: (200, b"x" * 1_000_000), "witness.unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)  # fmt: skip
def test_one_that_lies_halts_nothing_and_counts_for_nothing(here: Muniment, what: str, answer, code: str):
    with liar(answer) as line:
        name_witnesses(here, line, quorum="1", origin="ledger.example.org/lied-to")
        desk = desk_of(here)
        seal(desk)
        absent = ask(desk)
    assert {name: error.code for name, error in absent.items()} == {"w3.example.org": code}, what
    assert isinstance(absent["w3.example.org"], MunimentError)
    assert absent["w3.example.org"].remedy
    assert desk.store.halted is None
    assert witnessed_size(desk) == 0
    assert desk.ledger.kept.cosignatures(desk.ledger.kept.published_size()) == []


def test_a_cosignature_of_ml_dsa_counts_as_well(here: Muniment):
    modern = cosigner_from_seed("w4.example.org", b"\x07" * 32, ml_dsa=True)
    with liar(lambda text, _: (200, IMPOSTOR.sign(text, now()) + modern.sign(text, now()))) as line:
        name_witnesses(
            here, f"{modern.vkey} {line.split()[1]}", quorum="1", origin="ledger.example.org/modern"
        )
        desk = desk_of(here)
        seal(desk)
        assert ask(desk) == {}
    assert witnessed_size(desk) == desk.ledger.kept.published_size()


def test_a_liar_that_holds_up_a_true_checkpoint_of_ours_halts_nothing(here: Muniment):
    """It shows what it was shown: that fits this store, so its refusal proves nothing."""
    held: list[str] = []

    def answer(_: str, body: str):
        held.append(body.partition("\n\n")[2])
        return 422, "no"

    with liar(answer, lambda _: (200, held[0])) as line:
        name_witnesses(here, line, quorum="1", origin="ledger.example.org/lied-to")
        desk = desk_of(here)
        desk.attention.answered("w3.example.org", desk.clock.now())
        seal(desk)
        (error,) = ask(desk).values()
    assert "part of this ledger" in error.message
    assert desk.store.halted is None


def test_a_slow_one_holds_up_no_other(watched: Muniment):
    """One never answers; the others' answers are kept, and a quorum of them is enough at once."""
    released = threading.Event()

    class Silent:
        name, verifier, url = "slow.example.org", LIAR.verifier, "http://127.0.0.1:1"

        def cosign(self, *_: object) -> Cosigned:
            released.wait()
            raise WitnessUnavailable("too late")

        def latest(self, _: str) -> None:
            return None

    desk = desk_of(watched)
    desk = replace(desk, witnesses=(Silent(), *desk.witnesses), quorum=2)
    seal(desk)
    ask(desk, only_quorum=True)  # comes back though one is still silent
    assert witnessed_size(desk) == desk.ledger.kept.published_size()
    released.set()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("w.example.org", "not a vkey and a URL"),
        ("w.example.org+00000000+AQ== https://x", "bytes"),
        ("{log} https://x", "a ledger's, not a witness's"),
        ("{witness} ftp://x", "not a URL"),
        ("{witness} https://u:p@x", "has a name or password in its URL"),
        ("{witness} https://x https://y https://z", "not a vkey and a URL"),
    ],
)
def test_a_witness_that_cannot_be_meant_is_refused(here: Muniment, line: str, says: str):
    log = Verifier(name="log.example.org", key=b"\x01" * 32).vkey
    name_witnesses(
        here, line.format(log=log, witness=LIAR.vkey), quorum='"all"', origin="ledger.example.org/x"
    )
    answer = here.json("ledger", "checkpoint")
    assert answer.status == 2
    assert says in answer.error["message"]
    assert "u:p" not in answer.error["message"]


def test_one_witness_twice_is_refused(here: Muniment):
    line = f"{LIAR.vkey} https://x"
    name_witnesses(here, line, line, origin="ledger.example.org/x")
    assert "is taken" in here.json("ledger", "checkpoint").error["message"]
