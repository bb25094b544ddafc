"""A token is good where its row and the ledger agree: nobody makes one by SQL, or brings back one that was revoked (I11)."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import delete, event, insert, select, update

from muniment.core.errors import Conflict, Unauthenticated
from muniment.core.events import TokenMade, TokenRevoked, encode_data
from muniment.core.instants import wire
from muniment.ledger.entry import Actor as EntryActor
from muniment.ledger.entry import Entry
from muniment.ports import Append, Stream, TokenRow
from muniment.service import recovering, sealing
from muniment.service.tokens import TokenAuthenticator
from muniment.service.verifying import verify_store
from muniment.store import tables as t
from muniment.store.events import SqlStore
from muniment.store.token_rows import token_row
from muniment.store.tokens import SqlTokens
from store.stores import ACTOR, NOW, ORIGIN, Shelf, desk_of

ANN, LEAD = "human:ann@example.com", "human:lead@example.com"
SECRET = "5" * 64
ROW = TokenRow(
    id="3" * 16, hash=sha256(SECRET.encode()).digest(), identity=ANN, scopes=("check", "read"), created_at=NOW,
    expires_at=NOW + timedelta(days=1),
)  # fmt: skip
MADE = TokenMade(token=ROW.id, identity=ANN, scopes=ROW.scopes, expires_at=wire(ROW.expires_at))
REVOKED = TokenRevoked(token=ROW.id, identity=ANN)
STREAM = f"token:{ROW.id}"


def made(store: SqlStore) -> Stream:
    first = Stream(id=STREAM, version=0, head=None)
    return store.append(Append(stream=first, actor=ACTOR, events=(MADE,), at=NOW, token=ROW)).stream


def revoked(store: SqlStore, stream: Stream) -> None:
    row = replace(ROW, revoked_at=NOW)
    store.append(Append(stream=stream, actor=ACTOR, events=(REVOKED,), at=NOW, token=row))


def run(store: SqlStore, *statements: Any) -> None:
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        for statement in statements:
            connection.execute(statement)


def put_row(store: SqlStore, values: dict[str, Any]) -> None:
    run(store, delete(t.token), insert(t.token).values(**values))


def the_row(store: SqlStore) -> dict[str, Any]:
    with store.engine.connect() as connection:
        return dict(connection.execute(select(t.token)).mappings().one())


def older_row(store: SqlStore, token: TokenRow = ROW) -> dict[str, Any]:
    """As it was written before the ledger had who made a token."""
    values = token_row(token, store.marker)
    said = [values[name] for name in ("id", "hash", "identity", "scopes", "expires_at", "revoked_at")]
    return values | {"mark": store.marker.of(b"muniment token mark v1\0" + msgspec.json.encode(said))}


def calls(store: SqlStore, token: str = ROW.id) -> str:
    """Whoever a token lets in, with nothing in memory."""
    found = TokenAuthenticator(SqlTokens(store)).authenticate(f"mnt_{token}_{SECRET}", NOW)
    assert found is not None
    return found.identity


def test_row_and_entry_are_written_together_or_not_at_all(store: SqlStore) -> None:
    with pytest.raises(Conflict):  # the entry cannot be: another is there
        store.append(
            Append(stream=Stream(id=STREAM, version=1, head="sha256:" + "0" * 64), actor=ACTOR, events=(MADE,), at=NOW, token=ROW)
        )  # fmt: skip
    assert SqlTokens(store).find(ROW.id) is None
    made(store)
    assert SqlTokens(store).get(ROW.id) == ROW
    run(store, delete(t.token))
    run(store, insert(t.token).values(**token_row(replace(ROW, hash=b"x" * 32), store.marker)))
    taken = replace(ROW, id="4" * 16)  # the row cannot be: its identity is missing
    with pytest.raises(Conflict):
        store.append(
            Append(
                stream=Stream(id=f"token:{taken.id}", version=0, head=None), actor=ACTOR, at=NOW, token=replace(taken, identity=None),  # type: ignore[arg-type]
                events=(replace(MADE, token=taken.id),),
            )
        )  # fmt: skip
    assert store.version(f"token:{taken.id}") == 0


def test_a_token_is_kept_and_revoked(store: SqlStore) -> None:
    stream = made(store)
    assert calls(store) == ANN
    assert SqlTokens(store).get("c" * 16) is None
    revoked(store, stream)
    found = SqlTokens(store).get(ROW.id)
    assert found == replace(ROW, revoked_at=NOW)
    with pytest.raises(Unauthenticated) as refused:
        calls(store)
    assert refused.value.code == "unauthenticated.revoked"
    assert list(SqlTokens(store).faults()) == []


def test_one_question_a_token_and_none_within_a_second(store: SqlStore) -> None:
    made(store)
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *each: asked.append(each[2]))
    tokens = TokenAuthenticator(SqlTokens(store))
    for later in (0, 0.5, 0.999):
        assert tokens.authenticate(f"mnt_{ROW.id}_{SECRET}", NOW + timedelta(seconds=later))
    assert len([each for each in asked if "token" in each]) == 1
    assert tokens.authenticate(f"mnt_{ROW.id}_{SECRET}", NOW + timedelta(seconds=1.5))
    assert len([each for each in asked if "token" in each]) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"identity": LEAD}, {"scopes": ""}, {"scopes": "read write"}, {"expires_at": "2036-11-23T10:00:00.000000Z"},
        {"id": "4" * 16}, {"created_at": "2026-11-22T10:00:00.000000Z"}, {"hash": sha256(b"x").digest()},
    ],
)  # fmt: skip
def test_a_token_changed_by_sql_lets_nobody_in(store: SqlStore, changed: dict[str, Any]) -> None:
    made(store)
    run(store, update(t.token).values(**changed))
    with pytest.raises(Unauthenticated, match="not known"):
        calls(store, changed.get("id", ROW.id))
    assert len(list(SqlTokens(store).faults())) == 1


def test_a_token_by_sql_lets_nobody_in(store: SqlStore) -> None:
    made(store)
    theirs = token_row(replace(ROW, id="7" * 16, identity=LEAD), store.marker)
    for mark, code in (
        (b"\0" * 32, "unauthenticated"),
        (the_row(store)["mark"], "unauthenticated"),
        (None, "unauthenticated.unmarked"),
    ):
        run(store, delete(t.token).where(t.token.c.id == theirs["id"]))
        run(store, insert(t.token).values(**theirs | {"mark": mark}))
        with pytest.raises(Unauthenticated) as refused:
            calls(store, theirs["id"])
        assert refused.value.code == code
        assert "muniment token create" in refused.value.remedy


def test_a_token_that_nobody_made_lets_nobody_in(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with a mark that is ours: the ledger does not say who made it."""
    put_row(store, token_row(ROW, store.marker))
    said = MagicMock()
    monkeypatch.setattr("muniment.store.tokens.log", said)
    with pytest.raises(Unauthenticated, match="not known"):
        calls(store)
    assert said.critical.call_count == 1
    assert list(SqlTokens(store).faults()) == [
        f"a token has another row than the ledger says was made: {ROW.id}"
    ]


@pytest.mark.parametrize(
    "change", [{"identity": LEAD}, {"scopes": ()}, {"expires_at": NOW + timedelta(days=9)}]
)
def test_one_that_was_made_for_something_else_neither(store: SqlStore, change: dict[str, Any]) -> None:
    made(store)
    put_row(store, token_row(replace(ROW, **change), store.marker))
    with pytest.raises(Unauthenticated, match="not known"):
        calls(store)
    assert len(list(SqlTokens(store).faults())) == 1


def test_a_whole_row_put_back_is_still_revoked(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was before its revocation, mark and all."""
    stream = made(store)
    before = the_row(store)
    revoked(store, stream)
    put_row(store, before)
    said = MagicMock()
    monkeypatch.setattr("muniment.store.tokens.log", said)
    with pytest.raises(Unauthenticated) as refused:
        calls(store)
    assert refused.value.code == "unauthenticated.revoked"
    assert said.critical.call_count == 1
    assert list(SqlTokens(store).faults()) == [
        f"the row of a revoked token was put back as it was before: {ROW.id}"
    ]


def test_ledger_verify_finds_such_rows(store: SqlStore, tmp_path: Path) -> None:
    stream = made(store)
    before = the_row(store)
    desk = desk_of(store, tmp_path / "ledger")
    sealing.seal(desk)
    assert verify_store(desk)["ok"]
    revoked(store, stream)
    sealing.seal(desk)
    assert verify_store(desk)["ok"]
    put_row(store, before)
    found = verify_store(desk)
    assert [name for name, level in found["levels"].items() if not level["ok"]] == ["V4"]
    assert "put back as it was before" in found["levels"]["V4"]["first_fault"]


def test_a_token_older_than_such_entries_works_and_is_revoked(store: SqlStore) -> None:
    put_row(store, older_row(store))
    assert calls(store) == ANN
    assert list(SqlTokens(store).faults()) == []
    before = the_row(store)
    revoked(store, Stream(id=STREAM, version=0, head=None))
    put_row(store, before)
    with pytest.raises(Unauthenticated) as refused:
        calls(store)
    assert refused.value.code == "unauthenticated.revoked"
    put_row(store, older_row(store) | {"identity": LEAD})
    with pytest.raises(Unauthenticated, match="not known"):
        calls(store)


def test_an_entry_by_sql_makes_no_token(store: SqlStore) -> None:
    body = Entry(
        log=ORIGIN, ticket=STREAM, seq=0, prev=None, type=MADE.kind, actor=EntryActor(id=ANN, via="local"), at=wire(NOW),
        data=msgspec.Raw(encode_data(MADE)),
    ).encode()  # fmt: skip
    put_row(store, token_row(ROW, store.marker))
    run(store, insert(t.event).values(stream=STREAM, seq=0, body=body, mark=b"\0" * 32))
    with pytest.raises(Unauthenticated, match="not known"):
        calls(store)


def test_an_entry_of_another_token_makes_no_token(store: SqlStore) -> None:
    made(store)
    with store.engine.connect() as connection:
        entry = dict(
            connection.execute(select(t.event.c.seq, t.event.c.body, t.event.c.mark)).mappings().one()
        )
    other = replace(ROW, id="4" * 16)
    run(store, insert(t.token).values(**token_row(other, store.marker)))
    run(store, insert(t.event).values(stream=f"token:{other.id}", **entry))
    with pytest.raises(Unauthenticated, match="not known"):
        calls(store, other.id)
    assert calls(store) == ANN


def test_what_ends_a_row_alone_ends_it_whoever_wrote_it(store: SqlStore) -> None:
    made(store)
    tokens = SqlTokens(store)
    assert not tokens.end("c" * 16, NOW)
    assert tokens.end(ROW.id, NOW)
    assert tokens.end(ROW.id, NOW + timedelta(hours=1))
    assert tokens.get(ROW.id) == replace(ROW, revoked_at=NOW)
    run(store, update(t.token).values(revoked_at=None))
    with pytest.raises(Unauthenticated, match="not known"):
        calls(store)
    assert tokens.end(ROW.id, NOW)
    with pytest.raises(Unauthenticated, match="revoked"):
        calls(store)


def test_many_are_looked_through(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muniment.store.tokens.CHUNK", 2)
    rows = [replace(ROW, id=f"{number:016x}") for number in range(7)]
    run(store, *(insert(t.token).values(**token_row(each, store.marker)) for each in rows))
    assert len(list(SqlTokens(store).faults())) == 7
    for each in rows[:4]:
        first = Stream(id=f"token:{each.id}", version=0, head=None)
        store.append(
            Append(stream=first, actor=ACTOR, events=(replace(MADE, token=each.id),), at=NOW, token=each)
        )
    assert [each.rpartition(" ")[2] for each in SqlTokens(store).faults()] == [each.id for each in rows[4:]]


def test_a_restored_backup_learns_what_was_revoked_since(
    shelf: Shelf, store: SqlStore, tmp_path: Path
) -> None:
    stream = made(store)
    revoked(store, stream)
    desk = desk_of(store, tmp_path / "ledger")
    sealing.seal(desk)
    with shelf.store() as backup:
        made(backup)
        assert calls(backup) == ANN
        assert recovering.recover(desk_of(backup, tmp_path / "ledger"))["put_back"] == 2
        assert the_row(backup)["revoked_at"] == wire(NOW)
        with pytest.raises(Unauthenticated, match="revoked"):
            calls(backup)
        assert verify_store(desk_of(backup, tmp_path / "ledger"))["ok"]
