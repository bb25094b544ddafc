"""Foreign text: names that can be read in one way only, free text that acts on nobody, and commitments."""

from __future__ import annotations

import hashlib
import unicodedata
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.lives import in_status
from hostile.corpus import CORPUS, JOINERS, acting
from muniment.core import commands as c
from muniment.core.errors import Invalid
from muniment.core.fulfilling import MAX_MESSAGE
from muniment.core.text import MAX_FREE_TEXT, MAX_NAME, clean_name, clean_text, commit, disclose, visible

steady = settings(derandomize=True, database=None, deadline=None)

#: of the corpus, what is a name in one way only (some of it is evil, and all of it is data)
SAME_LOOK = {
    "bidi-override", "bidi-isolate", "bidi-mark", "zero-width-space", "zero-width-joiner", "zero-width-non-joiner", "byte-order-mark",
    "soft-hyphen", "word-joiner", "tag-characters", "variation-selector", "variation-selector-supplement", "grapheme-joiner",
    "hangul-filler", "hangul-filler-halfwidth", "hangul-choseong-filler", "khmer-vowel", "braille-blank", "mongolian-separator",
    "musical-begin", "no-break-space", "ideographic-space", "em-space", "spaces-at-ends", "decomposed", "nul", "nul-middle", "nul-alone", "tab",
    "crlf-header", "lf", "cr", "line-separator", "next-line", "backspace", "delete", "surrogate-high", "surrogate-low", "surrogate-escape",
    "private-use", "unassigned", "angstrom", "homoglyph-kelvin", "empty", "space", "long-256", "long-256-bytes-utf8", "long-1m",
}  # fmt: skip


@pytest.mark.parametrize("name", CORPUS)
def test_a_name_is_refused_or_unchanged(name: str) -> None:
    value = CORPUS[name]
    try:
        cleaned = clean_name(value, "the name")
    except Invalid as error:
        assert error.remedy
        assert not acting(error.message)
        assert len(error.message) < 200
        return
    assert name not in SAME_LOOK
    assert cleaned == value
    assert not acting(cleaned)
    assert unicodedata.normalize("NFC", cleaned) == cleaned
    assert len(cleaned.encode()) <= MAX_NAME


def test_ordinary_names_are_fine() -> None:
    for value in (
        "orders_rw",
        "SUPERUSER",
        "role attribute",
        "José",
        "管理者",
        "a" * MAX_NAME,
        "é" * 127 + "a",
        "x/y:z",
        '"; DROP ROLE y; --',
    ):
        assert clean_name(value, "the name") == value
    assert clean_name("é" * 4, "the name", limit=8) == "é" * 4
    with pytest.raises(Invalid):
        clean_name("é" * 4 + "a", "the name", limit=8)


@given(st.text(max_size=20))
@steady
def test_two_names_never_differ_by_what_nobody_sees(value: str) -> None:
    try:
        cleaned = clean_name(value, "the name")
    except Invalid:
        return
    seen = "".join(ch for ch in unicodedata.normalize("NFC", cleaned) if unicodedata.category(ch)[0] != "C")
    assert cleaned == value == seen
    assert " ".join(cleaned.split()).replace(" ", "") == cleaned.replace(" ", "")  # no space but U+0020


@pytest.mark.parametrize("name", CORPUS)
def test_free_text_is_refused_or_acts_on_nobody(name: str) -> None:
    try:
        cleaned = clean_text(CORPUS[name], "the reason")
    except Invalid as error:
        assert not acting(error.message)
        assert len(error.message) < 200
        return
    assert cleaned == unicodedata.normalize("NFC", CORPUS[name].strip())
    assert not acting(cleaned, "\n\t" + JOINERS)
    assert cleaned.encode()
    assert clean_text(cleaned, "the reason") == cleaned


@given(st.text(max_size=60) | st.text(st.sampled_from("\U0001d160\u0958 a\u200d"), max_size=MAX_FREE_TEXT))
@steady
def test_cleaning_twice_is_cleaning_once(value: str) -> None:
    try:
        cleaned = clean_text(value, "the reason")
    except Invalid:
        return
    assert clean_text(cleaned, "the reason") == cleaned
    assert 0 < len(cleaned) <= MAX_FREE_TEXT


def test_free_text_may_be_missing_only_where_it_may() -> None:
    assert clean_text("  ", "the comment", required=False) == ""
    for value in ("", " ", "\n\n", "\u3000"):
        with pytest.raises(Invalid):
            clean_text(value, "the reason")
    assert clean_text("x" * MAX_FREE_TEXT, "the reason")
    with pytest.raises(Invalid):
        clean_text("x" * (MAX_FREE_TEXT + 1), "the reason")


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_printed_obeys_nothing(name: str) -> None:
    shown = visible(CORPUS[name])
    assert not acting(shown, "\n" + JOINERS)
    shown.encode()  # also to a terminal that is strict about UTF-8
    assert visible(shown) == shown


@given(st.text(max_size=40))
@steady
def test_what_is_printed_obeys_nothing_whatever_it_is(value: str) -> None:
    shown = visible(value)
    assert not acting(shown, "\n" + JOINERS)
    shown.encode()
    if shown == value:
        assert not acting(value, "\n" + JOINERS)


# ── what targets say ──


@pytest.mark.parametrize("name", CORPUS)
def test_a_targets_words_are_kept_short_and_harmless(name: str) -> None:
    """A target's message goes into an entry: whatever it says, it must neither act on a reader nor be unrecordable."""
    words = CORPUS[name]
    failed = in_status("provisioning")
    failed.do(c.FailProvisioning(code="target.rejected", message=words), failed.system())
    assert failed.ticket
    assert failed.ticket.failure
    again = in_status("revoking")
    trouble = c.FailRevocation(code="target.rejected", message=words)
    again.do(trouble, again.system())
    again.now += timedelta(minutes=5)
    again.do(trouble, again.system())
    assert again.do(trouble, again.system()) == ()  # said already
    assert again.ticket
    assert again.ticket.revocation
    assert again.ticket.revocation.failure is not None
    (finding,) = again.ticket.findings
    for said in (failed.ticket.failure.message, again.ticket.revocation.failure, finding.message):
        assert not acting(said, "\n" + JOINERS)
        assert len(said.encode()) < 5 * MAX_MESSAGE


# ── commitments ──


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.binary(min_size=32, max_size=32))
@steady
def test_a_commitment_is_salted_sha_256(text: str, salt: bytes) -> None:
    made = disclose(text, salt)
    assert (
        made.commitment == commit(text, salt) == "sha256:" + hashlib.sha256(salt + text.encode()).hexdigest()
    )
    assert made.text == text
    assert commit(text + "x", salt) != made.commitment
    assert commit(text, bytes([salt[0] ^ 1]) + salt[1:]) != made.commitment


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_salt_is_32_bytes(length: int) -> None:
    """With a fixed length, no part of the text can pass for salt."""
    with pytest.raises(ValueError, match="32"):
        disclose("because", b"\1" * length)
