"""V4 of API tokens: each way in which one could be made, or be good again, past the rules is named, at its place."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from evidence.office import Office, altered, places, rechained, without
from evidence.test_rules import Change, actor, both, data, envelope, judged
from muniment.evidence.rules import TicketRules, combine
from muniment.ledger.entry import decode_entry
from muniment.service import tokens
from muniment.service.registry import record_registry

ANN, CYD, OPS, BOT = (
    "human:ann@example.com",
    "human:cyd@example.com",
    "human:ops@example.com",
    "ai_agent:helper",
)


class Made:
    """A log with tokens in it, and where each one's entries stand."""

    def __init__(self, office: Office) -> None:
        self.own = self._token(office, "ann", ANN)
        self.machines = self._token(office, "ann", BOT)
        self.by_ops = self._token(office, "ops", CYD)
        self.by_nobody = self._token(office, None, CYD)
        office.later(1)
        tokens.revoke(office.desk, office.caller("ops"), self.by_ops)
        self.log = office.log()

    def _token(self, office: Office, maker: str | None, who: str) -> str:
        office.later(1)
        by = None if maker is None else office.caller(maker)
        made = tokens.create(office.desk, by, who, lasts=timedelta(days=1), scopes=("read", "check"))
        return str(made["id"])

    def at(self, token: str, kind: str = "token-made") -> int:
        return places(self.log, f"token:{token}")[kind]

    def damaged(self, token: str, change: Change, kind: str = "token-made") -> list[bytes]:
        return altered(self.log, self.at(token, kind), change)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("tokens") / "access"
    office = Office(folder)
    with (folder / "identities.toml").open("a") as file:
        file.write(f'\n[identities."{BOT}"]\nowner = "{ANN}"\n')
    office.close()
    office = reopened(office)
    yield Made(office)
    office.close()


def reopened(office: Office) -> Office:
    """With what its identities are by now."""
    from muniment.config import load  # noqa: PLC0415
    from muniment.core.identity import SYSTEM  # noqa: PLC0415
    from muniment.main import open_desk  # noqa: PLC0415
    from muniment.ports import Actor  # noqa: PLC0415

    office.desk = open_desk(load(office.folder / "muniment.toml"), clock=office.clock)
    record_registry(office.desk, Actor(id=SYSTEM, via="test"))
    return office


def test_what_the_program_records_keeps_the_rules(made: Made) -> None:
    level = judged(made.log)
    assert level.ok, level.first_fault


def named(level: Any, token: str, sentence: str) -> None:
    assert level.first_fault is not None
    assert sentence in level.first_fault
    assert f"ticket 'token:{token}'" in level.first_fault


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (data(token="0" * 16), "another token than its stream"),
        (data(identity=CYD), "had no say over tokens of human:cyd"),
        (data(identity="root"), "nobody can act by it"),
        (data(scopes=["read", "check"]), "its scopes are not in order"),
        (data(scopes=["read", "read"]), "its scopes are not in order"),
        (data(expires_at="2026-11-23T10:00:00.000000Z"), "over before it was made"),
        (actor(CYD), "human:cyd@example.com made it, and had no say over tokens of human:ann"),
        (actor("human:nobody@example.com"), "had no say"),
        (
            both(actor("system:muniment"), lambda e: e["actor"].update(via="api")),
            "for whoever runs the store",
        ),
        (envelope(type="token-revoked/1"), ""),  # of a token that is older than such entries
    ],
)
def test_how_one_is_made(made: Made, change: Change, sentence: str) -> None:
    level = judged(made.damaged(made.own, change))
    if sentence:
        named(level, made.own, sentence)
    else:
        assert level.ok, level.first_fault


def test_who_answers_for_a_machine_makes_its_tokens_and_nobody_else(made: Made) -> None:
    named(
        judged(made.damaged(made.machines, actor(CYD))), made.machines, "had no say over tokens of ai_agent"
    )
    assert judged(made.damaged(made.machines, actor(OPS))).ok


def test_a_maker_is_believed_by_what_was_on_record_before(made: Made) -> None:
    """Ops was no operator, or became one only afterwards, or ceased to be one."""
    record = next(
        at for at, raw in enumerate(made.log)
        if (entry := decode_entry(raw)).ticket == f"identity:{OPS}" and entry.type == "identity-recorded/1"
    )  # fmt: skip
    never = altered(made.log, record, lambda e: e["data"]["identity"].update(roles=["member"]))
    named(judged(never), made.by_ops, "had no say")
    later = rechained([raw for at, raw in enumerate(made.log) if at != record] + [made.log[record]])
    named(judged(later), made.by_ops, "had no say")
    entry = msgspec.json.decode(made.log[record])
    gone = entry | {"seq": 1, "type": "identity-deactivated/1", "data": {"identity": OPS}}
    at = made.at(made.by_ops)
    when = decode_entry(made.log[at]).at
    for seconds, ok in ((59, True), (61, False)):  # another node may not have heard yet
        said = gone | {"at": _earlier(when, seconds)}
        log = rechained([*made.log[:at], msgspec.json.encode(said), *made.log[at:]])
        assert judged(log).ok is ok


def _earlier(at: str, seconds: int) -> str:
    from muniment.core.instants import parse_instant, wire  # noqa: PLC0415

    return wire(parse_instant(at) - timedelta(seconds=seconds))


def test_one_that_was_revoked_is_over_for_good(made: Made) -> None:
    last = made.at(made.by_ops, "token-revoked")
    for again in (last, made.at(made.by_ops)):
        entry = msgspec.json.decode(made.log[again]) | {"seq": 2}
        level = judged(rechained([*made.log, msgspec.json.encode(entry)]))
        named(level, made.by_ops, "the token was revoked before")
    named(
        judged(made.damaged(made.by_ops, data(identity=ANN), "token-revoked")),
        made.by_ops,
        "made for human:cyd",
    )
    assert judged(without(made.log, made.at(made.by_ops))).ok  # older than such entries


def test_one_is_made_once(made: Made) -> None:
    entry = msgspec.json.decode(made.log[made.at(made.own)]) | {"seq": 1}
    named(judged(rechained([*made.log, msgspec.json.encode(entry)])), made.own, "the token was made before")


def test_such_entries_are_in_their_own_streams(made: Made) -> None:
    at = made.at(made.own)
    for stream in ("policy", "token", f"identity:{ANN}", "req_00000000000000000000000001"):
        level = judged(altered(made.log, at, envelope(ticket=stream, seq=7)))
        assert "it belongs to a stream token:" in str(level.first_fault)


@pytest.mark.parametrize("ways", [2, 5])
def test_a_pass_may_be_split_by_stream(made: Made, ways: int) -> None:
    for log in (
        made.log,
        made.damaged(made.machines, actor(CYD)),
        made.damaged(made.own, data(identity=CYD)),
    ):
        parts = [TicketRules() for _ in range(ways)]
        for index, raw in enumerate(log):
            entry = decode_entry(raw)
            parts[sum(entry.ticket.encode()) % ways].feed(index, raw, entry)
        found = [
            msgspec.json.decode(msgspec.json.encode(part.found()), type=type(part.found())) for part in parts
        ]
        assert combine(found) == judged(log)
