"""The digest that an approval binds to (I3): any change of any term gives another, and no ticket has another's."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.lives import LEAD, RW, SUPER, Life, terms
from muniment.core import commands as c
from muniment.core.errors import Invalid, Refused
from muniment.core.scope import Privilege
from muniment.core.terms import MAX_REFERENCES, Terms, parse_references, terms_digest
from muniment.core.text import commit

steady = settings(derandomize=True, database=None, deadline=None)

words = st.text(st.characters(codec="utf-8"), max_size=12)
drawn_terms = st.builds(
    Terms,
    kind=st.sampled_from(["standard", "break_glass"]),
    requester=words,
    beneficiary=words,
    target=words,
    account=words,
    scope=st.lists(st.builds(Privilege, privilege=words, resource=st.none() | words), max_size=3).map(tuple),
    justification=words,
    references=st.dictionaries(st.from_regex("[a-z][a-z0-9_]{0,5}", fullmatch=True), words, max_size=3),
    incident=st.none() | words,
    starts_at=st.none() | words,
    duration=st.integers(-(2**53) + 1, 2**53 - 1),
    public_key=st.none() | words,
)


def oracle(ticket: str, asked: Terms) -> str:
    return (
        "sha256:"
        + hashlib.sha256(rfc8785.dumps({"ticket": ticket, "terms": msgspec.to_builtins(asked)})).hexdigest()
    )


@given(words, drawn_terms)
@steady
def test_the_digest_is_over_rfc_8785(ticket: str, asked: Terms) -> None:
    assert terms_digest(ticket, asked) == oracle(ticket, asked)


@given(words, drawn_terms, words, drawn_terms)
@steady
def test_other_terms_or_another_ticket_have_another_digest(t1: str, one: Terms, t2: str, two: Terms) -> None:
    assert (terms_digest(t1, one) == terms_digest(t2, two)) == ((t1, one) == (t2, two))


#: one change of each field, and changes that a careless encoding would not see
CHANGES: list[dict[str, Any]] = [
    {"kind": "break_glass"},
    {"requester": "human:bob@example.com"},
    {"beneficiary": "human:ann@example.com"},
    {"target": "pg-prod2"},
    {"account": "billing2"},
    {"scope": (SUPER,)},
    {"scope": (RW, SUPER)},
    {"scope": ()},
    {"scope": (replace(RW, resource=""),)},
    {"justification": commit("because", b"\2" * 32)},
    {"references": {"change": "CHG-7"}},
    {"references": {"change": ""}},
    {"incident": ""},
    {"incident": "INC-1"},
    {"starts_at": "2026-11-23T10:00:00.000000Z"},
    {"starts_at": ""},
    {"duration": 7201},
    {"public_key": "ssh-ed25519 AAAA"},
    {"public_key": ""},
    {"extends": "req_1"},
    {"bundle": ("req_1", "req_2")},
    {"bundle": ("req_2", "req_1")},
    {"responders": ("human:cyd@example.com",)},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_of_a_field_changes_the_digest(change: dict[str, Any]) -> None:
    assert terms_digest("req_1", terms(**change)) != terms_digest("req_1", terms())


def test_every_field_is_among_the_changes() -> None:
    assert {name for change in CHANGES for name in change} == set(Terms.__struct_fields__)


def test_what_stands_beside_each_other_does_not_run_together() -> None:
    one = terms(target="a", account="bc")
    assert terms_digest("req_1", one) != terms_digest("req_1", replace(one, target="ab", account="c"))
    assert terms_digest("req_1", one) != terms_digest("req_", replace(one, target="1a"))


def test_references_in_any_order_are_the_same_terms() -> None:
    one, other = terms(references={"a": "1", "b": "2"}), terms(references={"b": "2", "a": "1"})
    assert terms_digest("req_1", one) == terms_digest("req_1", other)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_approval_of_other_terms_is_refused(change: dict[str, Any]) -> None:
    """Somebody was shown one thing and another is on file (F3): the approval says so by its digest."""
    life = Life().submit()
    shown = terms_digest("req_1", terms(**change))
    with pytest.raises(Refused) as caught:
        life.do(c.Approve(digest=shown), life.lead())
    assert caught.value.code == "refused.stale-approval"
    with pytest.raises(Refused):
        life.do(c.Approve(digest=terms_digest("req_2", terms())), life.lead())
    with pytest.raises(Refused):
        life.do(c.Approve(digest=""), life.lead())
    life.do(c.Approve(digest=terms_digest("req_1", terms())), life.lead(LEAD))
    assert life.ticket
    assert life.ticket.status == "approved"


def test_references() -> None:
    assert list(parse_references({"b": "2", "a": "1"})) == ["a", "b"]
    for key in ("", "A", "1a", "a-b", "a b", "é", "a" * 41, "a\n"):
        with pytest.raises(Invalid):
            parse_references({key: "x"})
    for value in ("", " x", "a\x00", "\u202e", "x" * 256):
        with pytest.raises(Invalid):
            parse_references({"change": value})
    assert len(parse_references({f"r{n}": "x" for n in range(MAX_REFERENCES)})) == MAX_REFERENCES
    with pytest.raises(Invalid):
        parse_references({f"r{n}": "x" for n in range(MAX_REFERENCES + 1)})
