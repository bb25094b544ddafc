"""API tokens: who may make and revoke them, that both are in the ledger, and that nothing of a secret is."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

import pytest
from msgspec.structs import replace

from evidence.office import Office
from evidence.test_rules import judged
from evidence.test_token_rules import reopened
from muniment.core.errors import Conflict, Invalid, NotFound, Refused, RolledBack
from muniment.core.events import TokenMade, TokenRevoked
from muniment.core.identity import SYSTEM
from muniment.core.instants import parse_instant, wire
from muniment.core.login import Login
from muniment.ledger.entry import decode_entry
from muniment.ports import Append
from muniment.service import devices, tokens
from muniment.service.credentials import hash_of
from muniment.service.verifying import verify_store
from muniment.store.tokens import SqlTokens

ANN, BO, OPS = (f"human:{name}@example.com" for name in ("ann", "bo", "ops"))
BOT = "ai_agent:helper"
DAY = timedelta(days=1)


def recorded(office: Office, token: str) -> list[tuple[str, str, object]]:
    return [(each.actor, each.via, each.event) for each in office.desk.store.entries(f"token:{token}")]


def caller(office: Office, name: str | None):
    return None if name is None else office.caller(name)


def with_a_machine(office: Office) -> Office:
    with (office.folder / "identities.toml").open("a") as file:
        file.write(f'\n[identities."{BOT}"]\nowner = "{ANN}"\naliases = ["ai_agent:helper-2"]\n')
    office.close()
    return reopened(office)


def test_making_and_revoking_are_in_the_ledger(office: Office) -> None:
    made = tokens.create(office.desk, office.caller("ops"), ANN, lasts=DAY, scopes=("write", "read", "read"))
    event = TokenMade(
        token=made["id"], identity=ANN, scopes=("read", "write"), expires_at=wire(office.clock.at + DAY)
    )
    assert recorded(office, made["id"]) == [(OPS, "test", event)]
    assert parse_instant(made["expires_at"]) == office.clock.at + DAY
    office.later(60)
    assert tokens.revoke(office.desk, office.caller("ann"), made["token"]) == {
        "id": made["id"],
        "revoked": True,
    }
    assert tokens.revoke(office.desk, office.caller("ann"), made["id"])["revoked"]  # done again, it is done
    event_2 = TokenRevoked(token=made["id"], identity=ANN)
    assert recorded(office, made["id"]) == [(OPS, "test", event), (ANN, "test", event_2)]
    level = judged(office.log())
    assert level.ok, level.first_fault
    assert verify_store(office.desk)["ok"]


def test_whoever_runs_the_store_need_not_say_who_they_are(office: Office) -> None:
    made = tokens.create(office.desk, None, ANN, lasts=DAY)
    tokens.revoke(office.desk, None, made["id"])
    assert [each[:2] for each in recorded(office, made["id"])] == [(SYSTEM, "local")] * 2
    assert judged(office.log()).ok


@pytest.mark.parametrize(
    ("maker", "holder", "may"),
    [
        ("ops", ANN, True), ("ops", BOT, True), ("ann", ANN, True), ("ann", BOT, True), ("ann", "ai_agent:helper-2", True),
        (None, BO, True), ("ann", BO, False), ("bo", BOT, False), ("cyd", ANN, False), ("aud", ANN, False),
    ],
)  # fmt: skip
def test_who_has_a_say_over_a_token(office: Office, maker: str | None, holder: str, *, may: bool) -> None:
    with_a_machine(office)
    theirs = tokens.create(office.desk, None, holder, lasts=DAY)
    if may:
        made = tokens.create(office.desk, caller(office, maker), holder, lasts=DAY)
        assert made["identity"] == (BOT if "helper" in holder else holder)
        assert tokens.revoke(office.desk, caller(office, maker), theirs["id"])["revoked"]
    else:
        for attempt in (
            lambda: tokens.create(office.desk, caller(office, maker), holder, lasts=DAY),
            lambda: tokens.revoke(office.desk, caller(office, maker), theirs["token"]),
        ):
            with pytest.raises(Refused) as refused:
                attempt()
            assert refused.value.code == "refused.token"
            assert refused.value.remedy
        assert len(recorded(office, theirs["id"])) == 1
    assert judged(office.log()).ok


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"identity": "human:nobody@example.com"}, Refused), ({"identity": "root"}, Invalid),
        ({"lasts": timedelta(0)}, Invalid), ({"lasts": tokens.LONGEST + timedelta(seconds=1)}, Invalid),
        ({"scopes": ("everything",)}, Invalid),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_not_recorded(office: Office, changes: dict, error: type[Exception]) -> None:
    before = len(office.log())
    with pytest.raises(error):
        tokens.create(office.desk, None, **{"identity": ANN, "lasts": DAY} | changes)
    assert len(office.log()) == before


@pytest.mark.parametrize(
    "name", ["", "x", "0" * 16, "0" * 15, f"mnt_{'0' * 16}_{'0' * 64}", "' OR 1=1", "\0"]
)
def test_no_such_token(office: Office, name: str) -> None:
    for who in (None, "ops", "ann"):
        with pytest.raises(NotFound):
            tokens.revoke(office.desk, caller(office, who), name)


def test_a_devices_token_is_made_by_the_person_who_let_it_in(office: Office) -> None:
    asked = devices.begin(office.desk, "https://muniment.example.com", client=devices.CLIENT, scope="read")
    login = Login(
        method="oidc", issuer="https://idp.example.com", subject="1", at=wire(office.clock.at), level=1
    )
    devices.answer(office.desk, replace(office.caller("ann"), login=login), asked["user_code"], "yes")
    made = devices.fetch(
        office.desk, devices.Pace(), asked["device_code"], client=devices.CLIENT, grant=devices.GRANT
    )
    [(actor, via, event)] = recorded(office, made["access_token"].split("_")[1])
    assert (actor, via) == (ANN, "api")
    assert isinstance(event, TokenMade)
    assert event.identity == ANN
    assert judged(office.log()).ok


def test_nothing_of_the_secret_is_in_the_ledger(office: Office) -> None:
    """Nor anything that would help to guess it: no part of it, no hash, in whatever spelling."""
    made = tokens.create(office.desk, None, ANN, lasts=DAY)
    tokens.revoke(office.desk, None, made["id"])
    whole, secret = made["token"], made["token"].split("_")[2]
    hashes = [
        hash_of(secret),
        hashlib.sha256(whole.encode()).digest(),
        hashlib.sha256(bytes.fromhex(secret)).digest(),
    ]
    forbidden = [secret[start : start + 8].encode() for start in range(0, 64, 8)]
    for each in hashes:
        forbidden += [
            each,
            each.hex().encode()[:16],
            base64.b64encode(each)[:12],
            base64.urlsafe_b64encode(each)[:12],
        ]
    mine = [raw for raw in office.log() if decode_entry(raw).ticket == f"token:{made['id']}"]
    assert len(mine) == 2
    for raw in office.log():
        assert not [word for word in forbidden if word in raw]


def test_while_nothing_may_be_recorded_a_token_ends_and_none_is_made(office: Office) -> None:
    """I28: what takes away goes on."""
    made = tokens.create(office.desk, None, ANN, lasts=DAY)
    office.desk.store.halt(RolledBack("older than what was published"))
    assert tokens.revoke(office.desk, office.caller("ops"), made["id"])["recorded"] is False
    found = SqlTokens(office.desk.store).get(made["id"])
    assert found is not None
    assert found.revoked_at == office.clock.at
    with pytest.raises(RolledBack):
        tokens.create(office.desk, None, ANN, lasts=DAY)
    office.desk.store.resume()
    assert len(recorded(office, made["id"])) == 1
    assert "recorded" not in tokens.revoke(office.desk, office.caller("ops"), made["id"])
    assert [each[0] for each in recorded(office, made["id"])] == [SYSTEM, OPS]
    assert verify_store(office.desk)["ok"]


def test_two_revoke_at_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokens.create(office.desk, None, ANN, lasts=DAY)
    store, append = office.desk.store, office.desk.store.append

    def behind(one: Append) -> object:
        monkeypatch.undo()
        tokens.revoke(office.desk, office.caller("ann"), made["id"])
        return append(one)

    monkeypatch.setattr(store, "append", behind)
    assert "recorded" not in tokens.revoke(office.desk, office.caller("ops"), made["id"])
    assert [each[0] for each in recorded(office, made["id"])] == [SYSTEM, ANN]

    again = tokens.create(office.desk, None, ANN, lasts=DAY)

    def never(one: Append) -> object:
        raise Conflict("others were faster")

    monkeypatch.setattr(store, "append", never)
    with pytest.raises(Conflict, match="right now"):
        tokens.revoke(office.desk, office.caller("ops"), again["id"])
