"""Every hostile string into every place of the core that takes text: refused by an error of ours, or data from end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from core.lives import LEAD, OWNER, REQUESTER, authority, person, terms, unspent, verdict
from hostile.corpus import CORPUS
from muniment.core import commands as c
from muniment.core.errors import Invalid, StoreUnavailable
from muniment.core.identity import parse_group, parse_identity
from muniment.core.instants import parse_duration, parse_instant
from muniment.core.scope import Privilege, parse_scope
from muniment.core.terms import parse_references
from muniment.core.text import Disclosure, clean_name, clean_text, disclose
from muniment.ports import Appended, Claim
from muniment.service.documents import ticket_document
from muniment.store.events import SqlStore
from muniment.store.rebuild import differences
from muniment.store.views import Filter, SqlViews
from store import stores
from store.stores import Shelf, nothing, verified, write

PARSERS: dict[str, Callable[[str], Any]] = {
    "identity": parse_identity,
    "human": lambda s: parse_identity(f"human:{s}"),
    "workload": lambda s: parse_identity(f"workload:{s}"),
    "spiffe": lambda s: parse_identity(f"workload:spiffe://example.org/{s}"),
    "group": parse_group,
    "instant": parse_instant,
    "instant with": lambda s: parse_instant(f"2026-11-23T10:00:00{s}"),
    "duration": parse_duration,
    "duration with": lambda s: parse_duration(f"1h{s}"),
    "name": lambda s: clean_name(s, "the name"),
    "text": lambda s: clean_text(s, "the reason"),
    "optional text": lambda s: clean_text(s, "the comment", required=False),
    "privilege": lambda s: parse_scope([Privilege(privilege=s)]),
    "resource": lambda s: parse_scope([Privilege(privilege="p", resource=s)]),
    "reference": lambda s: parse_references({"change": s}),
    "kind of reference": lambda s: parse_references({s: "CHG-7"}),
}


@pytest.mark.parametrize("where", PARSERS)
def test_parsers_refuse_or_accept(where: str) -> None:
    accepted = 0
    for name, value in CORPUS.items():
        try:
            PARSERS[where](value)
        except Invalid as error:
            assert error.code.startswith("invalid"), name
            assert error.message.isprintable(), name
            assert len(error.message) < 400, name
        else:
            accepted += 1
    assert accepted < len(CORPUS)


def test_names_and_texts_are_not_refused_wholesale() -> None:
    """Foreign text is data: what is merely evil in some other language is a good name here."""
    fine = [
        name
        for name in CORPUS
        if name.startswith(("sql", "ldap", "shell", "format", "template", "spreadsheet", "html", "path"))
    ]
    for name in fine:
        assert clean_name(CORPUS[name], "the name") == CORPUS[name]
        assert clean_text(CORPUS[name], "the reason") == CORPUS[name]


def accepted_names() -> dict[str, str]:
    found = {}
    for name, value in CORPUS.items():
        try:
            found[name] = clean_name(value, "the name")
        except Invalid:
            continue
    return found


def accepted_texts() -> dict[str, str]:
    found = {}
    for name, value in CORPUS.items():
        try:
            found[name] = clean_text(value, "the reason")
        except Invalid:
            continue
    return found


@pytest.fixture(scope="session")
def hostile_sqlite() -> Iterator[Shelf]:
    with stores.shelf(None) as made:
        yield made


@pytest.fixture(scope="session")
def hostile_postgres(postgres18) -> Iterator[Shelf]:
    with stores.shelf(postgres18) as made:
        yield made


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgres", marks=[pytest.mark.server("postgres18"), pytest.mark.xdist_group("store-postgres18")]
        ),
    ]
)
def store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    shelf: Shelf = request.getfixturevalue(f"hostile_{request.param}")
    with shelf.store() as made:
        yield made


def test_what_is_accepted_survives_unchanged(store: SqlStore) -> None:
    """In at every place of a ticket; through entries, the fold, the read model and the document; out as it was."""
    names, texts = accepted_names(), accepted_texts()
    assert len(names) > 60
    assert len(texts) > 70
    filed: dict[str, tuple[str, str]] = {}
    for number, key in enumerate(sorted({*names, *texts})):
        name, words = names.get(key, "plain"), texts.get(key, "plain words")
        ticket_id = f"req_{number:026d}"
        said = disclose(words, bytes([number % 256]) * 32)
        asked = terms(
            account=name, scope=parse_scope([Privilege(privilege=name, resource=name)]), references=parse_references({"change": name}),
            incident=name, target=name, justification=said.commitment, public_key=name,
        )  # fmt: skip
        spent = (unspent(asked.beneficiary),)
        facts = c.Facts(actor=person(REQUESTER), accountable=(OWNER,), verdict=verdict(), spent=spent)
        stream, ticket = write(
            store, nothing(ticket_id), None, c.Submit(ticket=ticket_id, terms=asked), facts, texts=(said,)
        )
        comment = disclose(words, bytes([number % 256]) * 31 + b"c")
        facts = c.Facts(actor=person(LEAD), accountable=(OWNER,), authority=authority(LEAD))
        command = c.Approve(digest=ticket.digest, comment=comment.commitment)
        write(store, stream, ticket, command, facts, texts=(comment,))
        filed[ticket_id] = (name, words)

    fresh = SqlStore(store.engine, store.origin, store.marker, store.clock)
    views = SqlViews(store.engine)
    desk: Any = SimpleNamespace(views=views)
    for ticket_id, (name, words) in filed.items():
        _, ticket = fresh.read(ticket_id)
        assert ticket
        assert ticket == views.ticket(ticket_id)
        document = ticket_document(desk, ticket)
        assert document["account"] == document["target"] == name
        assert list(document["requested"]) == [{"privilege": name, "resource": name}]
        assert document["references"] == {"change": name, "incident": name}
        assert document["justification"] == words
        assert document["decisions"][0]["comment"] == words
        assert [t.id for t in views.tickets(Filter(target=name, limit=1000)) if t.id == ticket_id] == [
            ticket_id
        ]
        assert ticket_id in {
            t.id for t in views.tickets(Filter(target=name, involving=REQUESTER, limit=1000))
        }
    assert (
        store.sharing([(name, name) for name, _ in filed.values()]) == {}
    )  # all of it bound, none of it executed
    assert list(differences(fresh)) == []
    assert store.count_tickets() == len(filed)
    verified(store)


def test_the_store_refuses_what_it_cannot_hold(hostile_sqlite: Shelf) -> None:
    """Past every parser, as a bug would do it: an error of ours, or exactly these bytes."""
    with hostile_sqlite.store() as store:
        views = SqlViews(store.engine)
        for number, (name, value) in enumerate(CORPUS.items()):
            words = Disclosure(commitment=f"sha256:{number:064x}", salt=b"\1" * 32, text=value)
            thing, texts = f"thing-{number}", f"texts-{number}"
            results = store.append_many(
                [
                    stores.an_append(thing, value),
                    stores.an_append(texts, "x", texts=(words,)),
                    stores.an_append(
                        f"claims-{number}", "x", claim=Claim(key=value, holder=value, seconds=1)
                    ),
                    stores.an_append(value, "x"),
                ]
            )
            for result in results:
                assert isinstance(result, Appended | Invalid | StoreUnavailable), name
            recorded = [r.event for r in store.entries(thing)]
            assert recorded == ([stores.fact(value)] if isinstance(results[0], Appended) else []), name
            kept = views.texts([words.commitment])
            assert kept == ({words.commitment: value} if isinstance(results[1], Appended) else {}), name
        verified(store)
