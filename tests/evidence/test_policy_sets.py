"""What the ledger says of changes is judged as an auditor would: two people, the same text, nothing that was refused (I9)."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace

from muniment.core import events as e
from muniment.core.identity import SYSTEM
from muniment.evidence.policy_sets import PolicySets, digest_of

OPS, SEC = "human:ops@example.com", "human:sec@example.com"
FILES = {"all.cedar": "permit(principal, action, resource);", "schema.cedarschema": "entity A;"}
LATER = FILES | {"schema.cedarschema": "entity A, B;"}
OTHER = FILES | {"all.cedar": "forbid(principal, action, resource);"}
GROUPS = {"groups.json": "{}"}


def named(files: dict[str, str]) -> tuple[e.PolicyFile, ...]:
    return tuple(
        e.PolicyFile(name=n, sha256=hashlib.sha256(t.encode()).hexdigest()) for n, t in sorted(files.items())
    )


def texts(files: dict[str, str]) -> list[tuple[e.Event, str]]:
    return [
        (e.PolicyTextRecorded(name=f.name, sha256=f.sha256, part=0, parts=1, text=files[f.name]), OPS)
        for f in named(files)
    ]


PROPOSED = e.ChangeProposed(
    change="chg_1",
    base=None,
    policy=digest_of(FILES),
    files=named(FILES),
    settings=named(GROUPS),
    reason="sha256:0",
)
ADOPTED = e.PolicyAdopted(digest=digest_of(FILES), files=named(FILES), change="chg_1", proposed_by=OPS)
SETTLED = e.SettingsAdopted(settings=named(GROUPS), change="chg_1", proposed_by=OPS)
AGAIN = replace(ADOPTED, digest=digest_of(LATER), files=named(LATER))
ALL = [*texts(FILES), *texts(GROUPS), *texts(OTHER), *texts(LATER)]


def judged(*events: tuple[e.Event, str]) -> str | None:
    """The first rule that is broken."""
    sets = PolicySets()
    faults = (sets.take(event, at, actor) for at, (event, actor) in enumerate([*ALL, *events]))
    return next((fault for fault in faults if fault), None)


def test_two_people_and_the_same_text_break_no_rule() -> None:
    assert judged((PROPOSED, OPS), (ADOPTED, SEC), (SETTLED, SEC)) is None
    assert judged((PROPOSED, OPS), (ADOPTED, SEC), (AGAIN, SYSTEM)) is None
    alone = e.PolicyAdopted(digest=digest_of(FILES), files=named(FILES))
    assert judged((alone, SYSTEM)) is None  # said to be alone, and shown as such


BROKEN: dict[str, tuple[list[tuple[e.Event, str]], str]] = {
    "nobody proposed it": ([(ADOPTED, SEC)], "nobody proposed it before"),
    "the same person": ([(PROPOSED, OPS), (ADOPTED, OPS)], "it takes two people"),
    "a machine agrees": ([(PROPOSED, OPS), (ADOPTED, "ai_agent:bot")], "it takes two people"),
    "a machine proposes": ([(PROPOSED, "ai_agent:bot"), (replace(ADOPTED, proposed_by="ai_agent:bot"), SEC)], "it takes two people"),
    "the program agrees": ([(PROPOSED, OPS), (ADOPTED, SYSTEM)], "it takes two people"),
    "another proposer": ([(PROPOSED, OPS), (replace(ADOPTED, proposed_by=SEC), SEC)], "and not human:sec"),
    "another text": ([(PROPOSED, OPS), (replace(ADOPTED, digest=digest_of(OTHER), files=named(OTHER)), SEC)], "other things than what was proposed"),
    "other groups": ([(PROPOSED, OPS), (replace(SETTLED, settings=named(FILES)), SEC)], "other things than what was proposed"),
    "refused": ([(PROPOSED, OPS), (e.ChangeRefused(change="chg_1", reason="sha256:0"), SEC), (ADOPTED, SEC)], "refused before"),
    "under another schema, and other policies": (
        [(PROPOSED, OPS), (ADOPTED, SEC), (replace(AGAIN, digest=digest_of(OTHER), files=named(OTHER)), SYSTEM)],
        "other things than what was proposed",
    ),
    "under another schema before anybody agreed": ([(PROPOSED, OPS), (AGAIN, SYSTEM)], "it takes two people"),
    "settings by the program": ([(PROPOSED, OPS), (ADOPTED, SEC), (SETTLED, SYSTEM)], "it takes two people"),
    "a text that was never recorded": ([(e.SettingsAdopted(settings=named({"x": "y"})), SYSTEM)], "was not recorded before"),
}  # fmt: skip


@pytest.mark.parametrize(("events", "says"), BROKEN.values(), ids=BROKEN)
def test_whatever_else_is_a_fault(events: list[tuple[e.Event, str]], says: str) -> None:
    fault = judged(*events)
    assert fault is not None
    assert says in fault
