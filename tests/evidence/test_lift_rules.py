"""V4 of disablements that people lifted: two of them stand behind each, and it says so at its place (I9)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from evidence.office import Office, altered, places, rechained, without
from evidence.test_rules import Change, actor, both, data, judged
from evidence.test_token_rules import reopened
from muniment.core.errors import Refused
from muniment.core.instants import parse_instant, wire
from muniment.evidence.rules import TicketRules, combine
from muniment.ledger.entry import decode_entry
from muniment.service.lifting import lift

ANN, CYD, OPS, EVE = (f"human:{name}@example.com" for name in ("ann", "cyd", "ops", "eve"))
IDP, HR = "https://idp.example.com", "https://hr.example.com"
STREAM = f"lift:{ANN}"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[bytes]]:
    """Ops proposed to lift it, and Cyd agreed."""
    folder = tmp_path_factory.mktemp("lifting") / "access"
    office = Office(folder)
    office.close()
    config = folder / "muniment.toml"
    config.write_text(config.read_text().replace("single_person_trial = true", f'approvers = ["{CYD}"]'))
    office = reopened(office)
    office.disabled(ANN, HR, IDP)
    for who in ("ops", "cyd"):
        office.later(120)
        lift(office.desk, office.caller(who), ANN, "checked, INC-7")
    yield office.log()
    office.close()


def at(log: list[bytes], kind: str = "lift-agreed") -> int:
    return places(log, STREAM)[kind]


def named(log: list[bytes], sentence: str) -> None:
    level = judged(log)
    assert level.first_fault is not None
    assert sentence in level.first_fault
    assert f"ticket {STREAM!r}" in level.first_fault


def test_what_the_program_records_keeps_the_rules(log: list[bytes]) -> None:
    level = judged(log)
    assert level.ok, level.first_fault
    agreed = decode_entry(log[at(log)])
    assert (agreed.actor.id, msgspec.json.decode(agreed.data)["proposed_by"]) == (CYD, OPS)


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("lift-agreed", actor(OPS), "proposed it and agreed to it: it takes two people"),
        ("lift-agreed", data(proposed_by=CYD), f"{OPS} proposed it, and not {CYD}"),
        ("lift-agreed", both(actor(OPS), data(proposed_by=CYD)), f"{OPS} proposed it, and not {CYD}"),
        ("lift-agreed", lambda entry: entry["data"].pop("proposed_by"), "lifted it alone, where it takes two people"),
        ("lift-agreed", data(issuers=[IDP]), "it lifts something else than was proposed"),
        ("lift-agreed", data(issuers=[IDP, HR]), "not in order"),
        ("lift-agreed", data(issuers=[]), "not in order"),
        ("lift-agreed", data(identity=EVE), "somebody else than its stream"),
        ("lift-agreed", actor(ANN), f"{ANN} has no say in whether {ANN} is disabled"),
        ("lift-agreed", actor("ai_agent:helper"), "ai_agent:helper has no say"),
        ("lift-agreed", actor("system:muniment"), "system:muniment has no say"),
        ("lift-proposed", actor(CYD), f"{CYD} proposed it, and was no operator"),
        ("lift-proposed", actor(ANN), f"{ANN} has no say in whether {ANN} is disabled"),
        ("lift-proposed", data(issuers=[IDP]), "it lifts something else than was proposed"),
    ],
)  # fmt: skip
def test_each_way_past_two_people_is_named(
    log: list[bytes], kind: str, change: Change, sentence: str
) -> None:
    named(altered(log, at(log, kind), change), sentence)


def test_nobody_agrees_to_what_was_not_proposed(log: list[bytes]) -> None:
    named(without(log, at(log, "lift-proposed")), "nobody proposed it before")
    again = msgspec.json.decode(log[at(log)]) | {"seq": 2}
    named(rechained([*log, msgspec.json.encode(again)]), "nobody proposed it before")


def test_only_an_operator_on_record_proposes(log: list[bytes]) -> None:
    made = altered(log, at(log, "lift-proposed"), actor(EVE))
    named(altered(made, at(log), data(proposed_by=EVE)), f"{EVE} proposed it, and was no operator")


@pytest.mark.parametrize("whose", [OPS, CYD])
@pytest.mark.parametrize(("before", "ok"), [(61, False), (59, True), (-1, True)])
def test_one_person_under_two_names_is_one(log: list[bytes], whose: str, before: int, ok: bool) -> None:
    """As far as the record said so by then, and for long enough for every node to have heard of it."""
    other = CYD if whose == OPS else OPS
    record = next(raw for raw in log if decode_entry(raw).ticket == f"identity:{whose}")
    found: dict[str, Any] = msgspec.json.decode(record)
    place = at(log)
    when = wire(parse_instant(decode_entry(log[place]).at) - timedelta(seconds=before))
    found |= {"seq": 1, "at": when}
    found["data"]["identity"]["aliases"] = [other]
    if before < 0:
        place += 1
    made = rechained([*log[:place], msgspec.json.encode(found), *log[place:]])
    if ok:
        assert judged(made).ok
    else:
        named(made, f"{OPS} proposed it and agreed to it as {CYD}")


def test_in_a_trial_one_person_lifts_it_until_it_takes_two(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("trial") / "access"
    office = Office(folder)
    office.disabled(ANN, IDP)
    office.later(120)
    assert lift(office.desk, office.caller("ops"), ANN, "checked")["status"] == "lifted"
    trial = office.log()
    assert judged(trial).ok
    office.close()
    config = folder / "muniment.toml"
    kept = config.read_text()
    config.write_text(kept.replace("single_person_trial = true", f'approvers = ["{CYD}"]'))
    office = reopened(office)
    assert judged(office.log()).ok
    office.close()
    config.write_text(kept)  # and a trial again, in a ledger that knows better
    office = reopened(office)
    office.disabled(ANN, IDP)
    office.later(120)
    assert lift(office.desk, office.caller("ops"), ANN, "checked")["status"] == "proposed"
    office.later(120)
    with pytest.raises(Refused, match="somebody else must agree"):
        lift(office.desk, office.caller("ops"), ANN, "checked")
    assert judged(office.log()).ok
    office.close()


@pytest.mark.parametrize("ways", [2, 5])
def test_a_pass_may_be_split_by_stream(log: list[bytes], ways: int) -> None:
    alone = altered(log, at(log), lambda entry: entry["data"].pop("proposed_by"))
    no_operator = altered(altered(log, at(log), data(proposed_by=EVE)), at(log, "lift-proposed"), actor(EVE))
    for made in (log, alone, no_operator):
        parts = [TicketRules() for _ in range(ways)]
        for index, raw in enumerate(made):
            entry = decode_entry(raw)
            parts[sum(entry.ticket.encode()) % ways].feed(index, raw, entry)
        found = [
            msgspec.json.decode(msgspec.json.encode(part.found()), type=type(part.found())) for part in parts
        ]
        assert combine(found) == judged(made)
