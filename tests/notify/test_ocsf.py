"""Every kind of event as OCSF, compared with the published schema (`data/`, see tools/ocsf_schema.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evidence.office import Office
from golden.values import VALUES, entry_of
from muniment.ledger.entry import decode_entry
from muniment.notify.ocsf import KINDS, Version, ocsf_event
from muniment.service.sealing import seal
from muniment.service.sending import messages

DATA = Path(__file__).parent / "data"
VERSIONS: tuple[Version, ...] = ("1.8", "1.9")
SCHEMAS = {version: json.loads((DATA / f"ocsf-{version}.json").read_text()) for version in VERSIONS}
#: which object of the schema stands where
OBJECTS = {
    "metadata": "metadata", "product": "product", "actor": "actor", "user": "user", "resources": "resource_details",
    "entity": "managed_entity", "finding_info": "finding_info",
}  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {
    "integer_t": (int,), "long_t": (int,), "timestamp_t": (int,), "string_t": (str,), "boolean_t": (bool,),
    "uuid_t": (str,), "username_t": (str,), "object": (dict,), "json_t": (dict, str, list),
    "resource_uid_t": (str,),
}  # fmt: skip


def faults(
    document: dict[str, Any], described: dict[str, Any], schema: dict[str, Any], where: str
) -> list[str]:
    """What the schema has against a document."""
    known = described["attributes"]
    found = [f"{where}.{name}: nobody knows it" for name in document.keys() - known.keys()]
    for name, said in known.items():
        if name not in document:
            if said["requirement"] == "required":
                found.append(f"{where}.{name}: missing")
            continue
        value = document[name]
        if isinstance(value, list) != said["array"]:
            found.append(f"{where}.{name}: a list, or none")
        for each in value if isinstance(value, list) else [value]:
            wanted = TYPES.get(said["type"], (dict,))  # any other type is an object's name
            if not isinstance(each, wanted):
                found.append(f"{where}.{name}: {each!r} is no {said['type']}")
            if "enum" in said and isinstance(each, int) and str(each) not in said["enum"]:
                found.append(f"{where}.{name}: {each} is none of {said['enum']}")
            if isinstance(each, dict) and name in OBJECTS:
                found += faults(each, schema["objects"][OBJECTS[name]], schema, f"{where}.{name}")
    some = described["constraints"].get("at_least_one")
    if some and not set(some) & document.keys():
        found.append(f"{where}: none of {some}")
    return found


def judged(event: dict[str, Any], version: Version) -> list[str]:
    schema = SCHEMAS[version]
    described = schema["classes"].get(str(event["class_uid"]))
    if described is None:
        return [f"there is no class {event['class_uid']}"]
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["class_name"] == described["caption"]
    return faults(event, described, schema, "$")


def test_the_schema_can_object() -> None:
    entry = decode_entry(entry_of("target-retired/1"))
    event = ocsf_event(7, entry, None, "1.8")
    assert judged(event, "1.8") == []
    for change in ({"severity_id": 77}, {"time": "now"}, {"colour": "red"}, {"entity": {}}, {"user": "x"}):
        assert judged(event | change, "1.8"), change
    del event["metadata"]["version"]
    assert judged(event, "1.8") == ["$.metadata.version: missing"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "name", [n for n in VALUES if n.partition("/")[0] in KINDS - {"grant-observed", "revocation-observed"}]
)
def test_every_kind_is_of_the_schema(name: str, version: Version) -> None:
    event = ocsf_event(3, decode_entry(entry_of(name)), None, version)
    assert judged(event, version) == []
    assert event["metadata"]["uid"] == "3"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_ticket(office: Office, version: Version) -> None:
    """Given and taken away, under the class that its version has for it; and nothing confidential in any of it."""
    ticket = office.closed()
    seal(office.desk)
    every = messages(office.desk, range(office.desk.ledger.head().size))
    events = [
        ocsf_event(m.index, m.entry, m.ticket, version)
        for m in every
        if m.entry.type.partition("/")[0] in KINDS
    ]
    assert [fault for event in events for fault in judged(event, version)] == []
    access = [e for e in events if "privileges" in e]
    number = 3007 if version == "1.9" else 3005
    assert [e["type_uid"] for e in access] == (
        [number * 100 + 14, number * 100 + 15] if version == "1.9" else [number * 100 + 1, number * 100 + 2]
    )
    assert {e["metadata"]["correlation_uid"] for e in access} == {ticket}
    assert [(e["user"]["uid"], e["privileges"]) for e in access] == [
        ("human:ann@example.com", ["web-admin"])
    ] * 2
    for secret in ("to look", "go on", office.public_key.split()[1]):
        assert secret not in json.dumps(events)


def test_kinds_that_are_not_told_are_those_without_news() -> None:
    """Whoever adds a kind decides whether a security team wants to know it."""
    untold = {name.partition("/")[0] for name in VALUES} - KINDS
    assert untold == {
        "account-read", "approvers-missing", "approvers-reminded", "campaign-reminded", "key-announced", "key-retired", "policy-text-recorded",
        "text-erased", "use-observed", "late-use-observed", "usage-ingested", "inventory-taken", "reconciliation-made",
    }  # fmt: skip
