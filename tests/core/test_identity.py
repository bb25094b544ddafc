"""One subject, one id (F18): no case, space, Unicode form or look-alike makes a second one."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile.corpus import CORPUS
from muniment.core.errors import Invalid
from muniment.core.identity import KINDS, is_human, kind_of, parse_group, parse_identity

steady = settings(derandomize=True, database=None, deadline=None)
SHAPE = re.compile(r"(human|service_account|workload|ai_agent):[!-~]{1,255}", re.ASCII)


@pytest.mark.parametrize("kind", ["human", "service_account", "ai_agent"])
@pytest.mark.parametrize("name", ["Ann@Example.com", "ANN@EXAMPLE.COM", "ann@example.com"])
def test_case_is_folded(kind: str, name: str) -> None:
    assert parse_identity(f"{kind}:{name}") == f"{kind}:ann@example.com"


@pytest.mark.parametrize(
    "text",
    [
        "human:ann@example.com ", " human:ann@example.com", "human: ann@example.com", "human:ann @example.com", "human:ann@example.com\n",
        "human:ann\u00a0@example.com", "human:\u0430nn@example.com", "human:ann@example\u3002com", "human:ann\u200b@example.com",
        "human:\uff41nn@example.com", "human:jose\u0301@example.com", "human:jos\u00e9@example.com", "human:\u212aate@example.com",
        "human:\u0130van@example.com", "human:ma\u017f@example.com", "human:stra\u00dfe@example.com", "human:ann\u202e@example.com",
        "human:ann\x00@example.com", "HUMAN:ann@example.com", "Human:ann@example.com", "human::ann", "human:", "human", ":ann", "",
        "user:ann", "root:ann", "system:muniment", "human:\u0661", "human:@ann", "human:-ann", "human:.ann", "human:/ann",
        "workload:SPIFFE://example.org/x", "workload:Spiffe://example.org/x", "workload:spiffe://Example.org/x",
        "workload:spiffe:///x", "workload:spiffe://example.org/", "workload:spiffe://example.org//x", "workload:spiffe://example.org/a/",
        "workload:spiffe://example.org/./x", "workload:spiffe://example.org/a/../x", "workload:spiffe://example.org/..",
        "workload:spiffe://user@example.org/x", "workload:spiffe://example.org:8443/x", "workload:spiffe://example.org/x?y",
        "workload:spiffe:example.org", "human:" + "a" * 256, "workload:spiffe://example.org/" + "a" * 300,
    ],
)  # fmt: skip
def test_aliases_by_spelling_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_identity(text)
    assert caught.value.remedy
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "text",
    [
        "human:ann@example.com", "human:a", "human:" + "a" * 255, "service_account:billing-ci", "ai_agent:triage-bot",
        "workload:spiffe://example.com/ns/pay/sa/api", "workload:spiffe://example.com", "workload:spiffe://example.com/...",
        "workload:spiffe://example.com/.a/..b", "workload:arn:aws:iam::123456789012:role/X", "human:ann+ops@example.com",
    ],
)  # fmt: skip
def test_what_is_canonical_stays_as_it_is(text: str) -> None:
    assert parse_identity(text) == text


@given(st.sampled_from([*KINDS, "system", "Human", ""]), st.text(max_size=20))
@steady
def test_an_id_is_refused_or_of_one_shape(kind: str, name: str) -> None:
    try:
        parsed = parse_identity(f"{kind}:{name}")
    except Invalid:
        return
    assert SHAPE.fullmatch(parsed)
    assert parse_identity(parsed) == parsed
    assert kind_of(parsed) == kind
    assert is_human(parsed) == (kind == "human")
    assert name.isascii()  # nothing but ASCII was ever folded into ASCII


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
@steady
def test_forms_of_one_text_are_one_subject_or_none(name: str) -> None:
    """However an identity provider normalises or folds a name, it never comes out as a second subject."""

    def parsed(text: str) -> str | None:
        try:
            return parse_identity(f"human:{text}")
        except Invalid:
            return None

    mine = parsed(name)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        for spelling in (unicodedata.normalize(form, name), name.upper(), name.lower(), name.casefold()):
            other = parsed(spelling)
            if mine and other:
                assert other == mine


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_names_nobody(name: str) -> None:
    for prefix in ("", *(f"{kind}:" for kind in KINDS)):
        try:
            parsed = parse_identity(prefix + CORPUS[name])
        except Invalid:
            continue
        assert SHAPE.fullmatch(parsed)
    try:
        group = parse_group(CORPUS[name])
    except Invalid:
        return
    assert re.fullmatch("[A-Za-z0-9._-]{1,128}", group)


def test_groups() -> None:
    assert parse_group("group:dba-leads") == parse_group("dba-leads") == "dba-leads"
    for bad in (
        "",
        "group:",
        "group:group:x",
        "a b",
        "é",
        "a\n",
        "-a",
        ".a",
        "a" * 129,
        "group: a",
        "Group:a",
    ):
        with pytest.raises(Invalid):
            parse_group(bad)


def test_kind_of_what_is_no_id() -> None:
    for bad in ("", "human", "system:muniment", "ann@example.com", "humanoid:x"):
        with pytest.raises(Invalid):
            kind_of(bad)
        assert not is_human(bad)
