"""What somebody with the database's password can do: destroy, which shows; and never make us grant (I11)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from core.lives import LEAD, OWNER, REQUESTER, authority, person, verdict
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import IntegrityError, Refused, RolledBack, Unauthenticated
from muniment.core.lifecycle import decide
from muniment.core.login import Login
from muniment.core.ticket import Ticket
from muniment.ledger.entry import Actor as EntryActor
from muniment.ledger.entry import Entry, entry_ref
from muniment.ledger.verify import verify_log
from muniment.main import SystemRandom
from muniment.ports import SignedIn, SignedOut, Stream
from muniment.service import recovering, sealing
from muniment.service.sessions import Sessions
from muniment.service.verifying import verify_directory, verify_store
from muniment.store import tables as t
from muniment.store.devices import SqlDevices
from muniment.store.events import SqlStore
from muniment.store.marking import Marker
from muniment.store.projecting import ticket_row
from muniment.store.rebuild import differences, rebuild
from muniment.store.sessions import SqlSessions
from store.stores import (
    NOW,
    ORIGIN,
    SIGNER,
    HandClock,
    Shelf,
    an_append,
    desk_of,
    file_ticket,
    ledger_of,
    opened,
    seal,
    verified,
    write,
)

TICKET = "req_00000000000000000000000001"


def run(store: SqlStore, *statements: object) -> None:
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        for statement in statements:
            connection.execute(statement if not isinstance(statement, str) else text(statement))


def without_triggers(store: SqlStore) -> None:
    names = (
        ["DROP TRIGGER event_append_only ON event", "DROP TRIGGER leaf_append_only ON leaf"]
        if store.engine.dialect.name == "postgresql"
        else [
            f"DROP TRIGGER {table}_no_{verb}" for table in ("event", "leaf") for verb in ("update", "delete")
        ]
    )
    run(store, *names)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET body = body", "UPDATE event SET seq = seq + 1", "DELETE FROM event", "DELETE FROM event WHERE seq = 1",
        "UPDATE leaf SET idx = idx", "DELETE FROM leaf", "UPDATE event SET stream = 'req_x' WHERE id = 1",
    ],
)  # fmt: skip
def test_the_trigger_says_so_to_whoever_forgets(store: SqlStore, statement: str) -> None:
    file_ticket(store, TICKET)
    seal(store)
    with pytest.raises(DBAPIError, match="never changed or deleted"):
        run(store, statement)
    verified(store)


def test_truncate_is_refused(postgres_shelf: Shelf) -> None:
    with postgres_shelf.store() as store:
        file_ticket(store, TICKET)
        seal(store)
        for table in ("event", "leaf"):
            with pytest.raises(DBAPIError, match="never changed or deleted"):
                run(store, f"TRUNCATE {table}")


test_truncate_is_refused = pytest.mark.server("postgres18")(
    pytest.mark.xdist_group("store-postgres18")(test_truncate_is_refused)
)


def forged(stream: Stream, event: e.Event, actor: str = LEAD) -> bytes:
    """An entry as we would have written it, by somebody who has read our source."""
    return Entry(
        log=ORIGIN, ticket=stream.id, seq=stream.version, prev=stream.head, type=event.kind, actor=EntryActor(id=actor, via="local"),
        at="2026-11-23T10:00:00.000000Z", data=msgspec.Raw(e.encode_data(event)),
    ).encode()  # fmt: skip


def forge(store: SqlStore, stream: Stream, event: e.Event, mark: bytes) -> None:
    body = forged(stream, event)
    row = {"stream": stream.id, "seq": stream.version, "body": body, "mark": mark}
    mine = select(t.event.c.id).where(t.event.c.stream == stream.id, t.event.c.seq == stream.version)
    run(store, insert(t.event).values(**row), insert(t.outbox).from_select(["event_id"], mine))


def approval_of(ticket: Ticket) -> e.ApprovalRecorded:
    return e.ApprovalRecorded(
        approver=LEAD, decision="approve", stage="dba-leads", digest=ticket.digest, policies="sha256:aa", authority=(), evaluations=(),
        entities=(), comment=None, signature=None,
    )  # fmt: skip


def test_a_forged_approval_gives_nothing(store: SqlStore) -> None:
    """Rows as real as SQL can make them, read model included. Only the mark is missing: its key is not in the database."""
    stream, ticket = file_ticket(store, TICKET)
    seal(store)
    approved = e.RequestApproved(approvers=(LEAD,), scope=ticket.terms.scope, duration=ticket.terms.duration)
    body = forged(stream, approval_of(ticket))
    forge(store, stream, approval_of(ticket), Marker(b"\xff" * 32).of(body))
    second = Stream(id=stream.id, version=stream.version + 1, head=entry_ref(body))
    forge(store, second, approved, b"")
    seen = replace(
        ticket,
        status="approved",
        approved=ticket.terms.scope,
        approved_at=ticket.filed_at,
        version=stream.version + 2,
    )
    row = ticket_row(seen)
    run(store, update(t.ticket).where(t.ticket.c.id == TICKET).values(**row))
    # a controller is told that there is work, and finds that there is none it may do
    assert [due.ticket for due in store.due(NOW, 10)] == [TICKET]
    for reader in (store, _another(store)):
        with pytest.raises(IntegrityError):
            reader.read(TICKET)
        with pytest.raises(IntegrityError):
            reader.read_many([TICKET])
        with pytest.raises(IntegrityError):
            reader.entries(TICKET)
        with pytest.raises(IntegrityError):
            reader.sharing([(ticket.terms.target, ticket.terms.account)]) or reader.read(TICKET)
    # nor does the ledger take it up, and what it signed before still holds
    with pytest.raises(IntegrityError):
        ledger_of(store).integrate()
    newest = ledger_of(store).kept.newest()
    assert newest
    assert verify_log(ledger_of(store).entries(), newest.note, SIGNER.verifier, origin=ORIGIN).ok
    with pytest.raises(IntegrityError):
        rebuild(store)


def _another(store: SqlStore) -> SqlStore:
    """As another process: with nothing in memory."""
    return SqlStore(store.engine, store.origin, store.marker, store.clock)


def test_a_read_model_that_says_approved_gives_nothing(store: SqlStore) -> None:
    """The list may lie; the gate reads entries."""
    _, ticket = file_ticket(store, TICKET)
    seen = replace(ticket, status="approved", approved=ticket.terms.scope, approved_at=ticket.filed_at)
    run(store, update(t.ticket).where(t.ticket.c.id == TICKET).values(**ticket_row(seen)))
    for reader in (store, _another(store)):
        _, read = reader.read(TICKET)
        assert read
        assert read.status == "pending"
        facts = c.Facts(accountable=(OWNER,), verdict=verdict(), standing_approvers=(LEAD,))
        with pytest.raises(Refused):
            decide(read, c.StartProvisioning(held=(), ticketed=()), facts, NOW)
    assert list(differences(store)) == [TICKET]
    rebuild(store)
    assert list(differences(store)) == []


@pytest.mark.parametrize("cached", [True, False])
def test_an_entry_of_ours_in_another_place_is_not_believed(store: SqlStore, cached: bool) -> None:
    """A true approval, mark and all, copied from one ticket to the next; or replayed later in its own."""
    stream, ticket = file_ticket(store, TICKET)
    other = TICKET[:-1] + "2"
    target, _ = file_ticket(store, other)
    facts = c.Facts(actor=person(LEAD), accountable=(OWNER,), authority=authority(LEAD))
    after, _ = write(store, stream, ticket, c.Approve(digest=ticket.digest), facts)
    with store.engine.connect() as connection:
        row = connection.execute(
            select(t.event.c.body, t.event.c.mark).where(t.event.c.stream == TICKET, t.event.c.seq == 2)
        ).one()
    for place in (target, after):
        run(store, insert(t.event).values(stream=place.id, seq=place.version, body=row.body, mark=row.mark))
        with pytest.raises(IntegrityError, match="chain"):
            (store if cached else _another(store)).read(place.id)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE event SET body = 'x' WHERE seq = 1", "UPDATE event SET mark = 'x' WHERE seq = 1", "DELETE FROM event WHERE seq = 0",
        "UPDATE event SET seq = seq + 10", "UPDATE event SET seq = 5 WHERE seq = 1",
        f"UPDATE event SET stream = '{TICKET[:-1]}9'",
    ],
)  # fmt: skip
def test_with_the_trigger_dropped_damage_shows_when_it_is_read(store: SqlStore, damage: str) -> None:
    file_ticket(store, TICKET)
    without_triggers(store)
    run(store, damage)
    reader = _another(store)
    with store.engine.connect() as connection:
        streams = set(connection.execute(select(t.event.c.stream)).scalars())
    with pytest.raises(IntegrityError):
        for stream in streams:
            reader.read(stream)


def test_with_the_trigger_dropped_the_ledger_still_shows_what_is_gone(store: SqlStore) -> None:
    file_ticket(store, TICKET)
    note = seal(store)
    without_triggers(store)
    run(store, "DELETE FROM event WHERE seq = 1")
    report = verify_log(ledger_of(store).entries(), note, SIGNER.verifier, origin=ORIGIN)
    assert not report.levels["V2"].ok
    assert not report.levels["V3"].ok
    stored, waiting, leaves = ledger_of(store).counts()
    assert stored != waiting + leaves


#: what an administrator of the database does, triggers dropped, and where `ledger verify` says that it was
SWAP = "UPDATE event SET body = (SELECT e.body FROM event e WHERE e.id = 5 - event.id) WHERE id IN (2, 3)"
HASHED = "UPDATE leaf SET hash = (SELECT l.hash FROM leaf l WHERE l.idx = 3 - leaf.idx) WHERE idx IN (1, 2)"
PADDED = "INSERT INTO event (stream, seq, body, mark) VALUES ('target:pg', 9, :json, :hash)"
ABSENT = "leaf 2 is missing: leaf 3 comes in its place"
BY_A_DBA = {
    "update": (["UPDATE event SET body = :json WHERE id = 3"], "V2", "leaf 2: the hash that is stored is not that of its entry"),
    "update, of the hash": (["UPDATE leaf SET hash = :hash WHERE idx = 2"], "V2", "leaf 2: the hash that is stored is not"),
    "update, of the place": (["UPDATE leaf SET idx = 90 WHERE idx = 2"], "V2", ABSENT),
    "delete": (["DELETE FROM event WHERE id = 3"], "V2", "leaf 2: the hash that is stored is not that of its entry"),
    "delete, with its leaf": (["DELETE FROM event WHERE id = 3", "DELETE FROM leaf WHERE idx = 2"], "V2", ABSENT),
    "delete, the last one": (["DELETE FROM event WHERE id = 6", "DELETE FROM leaf WHERE idx = 5"], "V2", "leaf 5 is missing"),
    "insert": ([PADDED], "V2", "7 entries are stored, 6 sealed and 0 wait: 1 belong nowhere"),
    "insert, to be sealed": ([PADDED, "INSERT INTO outbox (event_id) VALUES (7)"], "V3", "leaf 6: the bytes are not an entry"),
    "insert, as a leaf": ([PADDED, "INSERT INTO leaf (idx, event_id, hash) VALUES (6, 7, :hash)"], "V2", "the head covers 6 entries, and 7 are sealed"),
    "swap": ([SWAP], "V2", "leaf 1: the hash that is stored is not that of its entry"),
    "swap, with their hashes": ([SWAP, HASHED], "V2", "checkpoints/6: leaves 0 to 5 are not those it covers"),
    "truncate": (["TRUNCATE event", "TRUNCATE leaf"], "V2", "leaf 0 is missing"),
    "truncate, and the head": (["TRUNCATE event", "TRUNCATE leaf", "UPDATE head SET size = 0"], "V2", "leaf 0 is missing"),
    "the head put back": (["UPDATE head SET size = 3"], "V2", "it says 3 entries, and its edge is that of 6"),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_A_DBA)
def test_whatever_a_dba_does_is_named_by_ledger_verify(store: SqlStore, tmp_path: Path, name: str) -> None:
    """I25. Six entries, sealed and published; then foreign SQL with every trigger dropped."""
    statements, level, says = BY_A_DBA[name]
    desk = desk_of(store, tmp_path / "ledger")
    stream: Stream | str = "target:pg"
    for text_ in "abcdef":
        stream = store.append(an_append(stream, text_)).stream
    sealing.seal(desk)
    assert verify_store(desk)["ok"]
    without_triggers(store)
    sqlite = store.engine.dialect.name == "sqlite"
    given = {"json": b"{}", "hash": b"x"}
    for statement in statements:
        words = text(statement.replace("TRUNCATE", "DELETE FROM") if sqlite else statement)
        run(store, words.bindparams(**{name: given[name] for name in given if f":{name}" in statement}))
    found = verify_store(desk_of(_another(store), tmp_path / "ledger"))
    assert not found["ok"]
    assert found["levels"]["V1"]["ok"]
    failing = [each for each, result in found["levels"].items() if not result["ok"]]
    assert failing[0] == level, found["levels"]
    assert says in found["levels"][level]["first_fault"]
    # what was published before still holds, and is what a restored database is compared with
    assert verify_directory(tmp_path / "ledger", desk.trust)["ok"]


def test_an_emptied_table_of_checkpoints_is_not_filled_again(store: SqlStore, tmp_path: Path) -> None:
    """Entries and tree are whole, and what was signed over them is gone: nothing is signed as if it were the first."""
    desk = desk_of(store, tmp_path / "ledger")
    store.append(an_append("target:pg", "a"))
    note = sealing.seal(desk)
    run(store, "DELETE FROM checkpoint")
    store.append(an_append("target:pg2", "b"))
    for look in (verify_store, sealing.seal):
        with pytest.raises(RolledBack, match="keeps no checkpoint any more"):
            look(desk_of(_another(store), tmp_path / "ledger"))
    again = desk_of(_another(store), tmp_path / "ledger")
    assert recovering.recover(again)["put_back"] == 0
    kept = again.ledger.kept.newest()
    assert kept is not None
    assert (kept.note, kept.published) == (note, True)
    assert verify_store(again)["ok"]
    assert again.ledger.kept.at(2) is None, "verifying signs nothing"
    sealing.seal(again)
    assert verify_directory(tmp_path / "ledger", desk.trust)["events"] == 2


def test_a_forged_approval_is_named_by_ledger_verify(store: SqlStore) -> None:
    """Entry, queue and read model, as the program would have written them; the mark is missing."""
    store.append(an_append("target:pg", "a"))
    sealing.seal(desk_of(store))
    stream, ticket = file_ticket(store, TICKET)
    forge(store, stream, approval_of(ticket), b"")
    found = verify_store(desk_of(_another(store)))
    assert [name for name, level in found["levels"].items() if not level["ok"]] == ["V4"]
    assert f"ticket '{TICKET}'" in found["levels"]["V4"]["first_fault"]


def test_an_entry_taken_out_of_the_queue_is_missed(store: SqlStore) -> None:
    """Deleted from the outbox before the ledger took it up: the sums no longer agree."""
    file_ticket(store, TICKET)
    run(store, "DELETE FROM outbox WHERE event_id = (SELECT id FROM event WHERE seq = 1)")
    seal(store)
    stored, waiting, leaves = ledger_of(store).counts()
    assert stored == 2
    assert waiting + leaves == 1


def test_a_head_put_back_is_not_signed(store: SqlStore) -> None:
    """Rolling the tree back and signing it again would be a second history of the same log."""
    store.append(an_append("a", "x"))
    seal(store)
    with store.engine.connect() as connection:
        old = connection.execute(select(t.head.c.size, t.head.c.frontier)).one()
    store.append(an_append("b", "x"))
    note = seal(store)
    run(store, update(t.head).values(size=old.size, frontier=old.frontier))
    with pytest.raises(IntegrityError):
        ledger_of(store).sign([SIGNER])
    newest = ledger_of(store).kept.newest()
    assert newest is not None
    assert (newest.size, newest.note) == (2, note)


@pytest.mark.parametrize(
    "frontier", [b"", b"\0" * 7, b"\0" * 8 + b"x", b"\xff" * 8, b"\0" * 7 + b"\1" + b"y" * 31]
)
def test_a_damaged_head_is_an_integrity_error(store: SqlStore, frontier: bytes) -> None:
    store.append(an_append("a", "x"))
    run(store, update(t.head).values(frontier=frontier))
    for use in (
        ledger_of(store).head,
        ledger_of(store).integrate,
        lambda: ledger_of(store).sign([SIGNER]).note,
    ):
        with pytest.raises(IntegrityError):
            use()


def test_another_key_reads_nothing(shelf: Shelf) -> None:
    url = shelf.url()
    with opened(url, HandClock()) as store:
        file_ticket(store, TICKET)
        stranger = SqlStore(store.engine, ORIGIN, Marker(b"\x01" * 32), store.clock)
        with pytest.raises(IntegrityError):
            stranger.read(TICKET)


def test_another_ledgers_entries_are_not_ours(shelf: Shelf) -> None:
    with shelf.store() as store:
        file_ticket(store, TICKET)
        elsewhere = SqlStore(store.engine, "ledger.example.org/other", store.marker, store.clock)
        with pytest.raises(IntegrityError):
            elsewhere.read(TICKET)


def test_withdrawing_still_works_beside_a_forged_ticket(store: SqlStore) -> None:
    """One ticket that cannot be trusted holds up no other."""
    stream, ticket = file_ticket(store, TICKET)
    other = TICKET[:-1] + "2"
    fine, its = file_ticket(store, other)
    forge(store, stream, approval_of(ticket), b"")
    facts = c.Facts(actor=person(REQUESTER), accountable=(OWNER,))
    _, after = write(store, fine, its, c.Withdraw(), facts)
    assert after.status == "withdrawn"


SIGNED_IN = Login(
    method="oidc", issuer="https://idp.example", subject="1", at="2026-11-23T10:00:00.000000Z", level=1
)


def a_session(store: SqlStore) -> tuple[str, str]:
    """The id and the whole credential of a session."""
    rows = SqlSessions(store.engine, store.marker)
    signed = SignedIn(login=SIGNED_IN, session="s", name=None, groups=None)
    sessions = Sessions(rows, SystemRandom(), idle=timedelta(hours=1), longest=timedelta(hours=2))
    credential = sessions.begin(REQUESTER, signed, ("leads",), NOW)
    assert enters(store, credential) == REQUESTER
    return credential.split("_")[1], credential


def enters(store: SqlStore, credential: str, at: datetime = NOW) -> str | None:
    rows = SqlSessions(store.engine, store.marker)
    sessions = Sessions(rows, SystemRandom(), idle=timedelta(hours=1), longest=timedelta(hours=2))
    found = sessions.authenticate(credential, at)
    return None if found is None else found.identity


def signed_out(subject: str | None, session: str | None) -> SignedOut:
    name = f"{subject} {session}"
    later = NOW + timedelta(minutes=5)
    return SignedOut(issuer="https://idp.example", subject=subject, session=session, id=name, until=later)


@pytest.mark.parametrize(
    "changed",
    [
        {"identity": LEAD}, {"without": ""}, {"expires_at": "2036-11-23T10:00:00.000000Z"}, {"sid": None},
        {"seen_at": "2026-11-23T10:30:00.000000Z"}, {"issuer": "https://other.example"},
        {"login": '{"method":"oidc","issuer":"https://idp.example","subject":"1","at":"2026-11-23T10:00:00.000000Z","level":3}'},
    ],
)  # fmt: skip
def test_a_session_changed_by_sql_is_nobodys(store: SqlStore, changed: dict[str, str]) -> None:
    _, credential = a_session(store)
    run(store, update(t.session).values(**changed))
    with pytest.raises(Unauthenticated, match="not known"):
        enters(store, credential)


def test_the_end_of_a_session_is_not_undone_by_sql(store: SqlStore) -> None:
    made, credential = a_session(store)
    rows = SqlSessions(store.engine, store.marker)
    other = a_session(store)[1]
    assert rows.end(made, NOW) == [made]
    assert rows.end(made, NOW) == []
    with pytest.raises(Unauthenticated, match="ended"):
        enters(store, credential)
    run(store, update(t.session).where(t.session.c.id == made).values(ended_at=None))
    with pytest.raises(Unauthenticated, match="not known"):
        enters(store, credential)
    assert enters(store, other, NOW + timedelta(minutes=59)) == REQUESTER  # and was used, which is kept …
    assert enters(store, other, NOW + timedelta(minutes=117)) == REQUESTER
    ended = rows.end_all(signed_out("1", None), NOW)
    assert set(ended) == {made, other.split("_")[1]}  # whoever undid the end of the first
    with pytest.raises(Unauthenticated, match="ended"):
        enters(store, other)
    a_session(store)
    assert rows.end_all(replace(signed_out("1", None), issuer="https://other.example"), NOW) == []
    assert len(rows.end_all(signed_out(None, "s"), NOW)) == 1


@pytest.mark.parametrize(
    "changed",
    [{"identity": LEAD}, {"answer": "yes"}, {"until": "2036-11-23T10:00:00.000000Z"}, {"mark": b"x"}],
    ids=str,
)
def test_a_device_that_sql_let_in_gets_nothing(store: SqlStore, changed: dict[str, str]) -> None:
    rows, code = SqlDevices(store.engine, store.marker), bytes(32)
    rows.say(code, REQUESTER, "no", NOW, NOW + timedelta(minutes=10))
    assert rows.take(code, NOW) == ("no", REQUESTER)
    run(store, update(t.device).values(**changed))
    assert rows.take(code, NOW) is None
    rows.say(code, LEAD, "yes", NOW, NOW + timedelta(minutes=10))  # and stands in nobody's way
    assert rows.take(code, NOW) == ("yes", LEAD)


def test_of_many_questions_of_a_device_one_gets_the_token(store: SqlStore) -> None:
    rows, code, together = SqlDevices(store.engine, store.marker), bytes(32), Barrier(8)
    rows.say(code, REQUESTER, "yes", NOW, NOW + timedelta(minutes=10))
    found: list[object] = []

    def ask() -> None:
        together.wait()
        found.append(rows.take(code, NOW))

    threads = [Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(map(str, found)) == [str(("taken", REQUESTER))] * 7 + [str(("yes", REQUESTER))]
    assert rows.take(code, NOW + timedelta(minutes=10)) is None
