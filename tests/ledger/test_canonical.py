"""Canonical JSON: equal to another implementation of RFC 8785 on write, and one spelling only on read."""

from __future__ import annotations

import json

import msgspec
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.logs import steady
from muniment.ledger.canonical import MAX_DEPTH, MAX_ENTRY, MAX_INT, decode_strict, encode
from muniment.ledger.errors import BadEntry

text = st.text(st.characters(exclude_categories=["Cs"]))
scalar = text | st.booleans() | st.none() | st.integers(-MAX_INT, MAX_INT)
keys = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=8)
profile = st.dictionaries(
    keys,
    st.recursive(
        scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_size=4,
)


@steady
@given(profile)
@example({"a": "".join(map(chr, range(0x20))) + '"\\/\x7f\x80\u2028\u2029\ufeff\uffff\U0001f600'})
@example({"a_": 1, "a": 2, "a0": 3, "_": 4, "0": 5})
@example({"a": MAX_INT, "b": -MAX_INT, "c": 0})
def test_the_bytes_are_those_of_rfc_8785(value):
    assert encode(value) == rfc8785.dumps(value)
    assert decode_strict(encode(value)) == value


def test_every_character_is_written_as_rfc_8785_wants_it():
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for at in range(0, len(characters), 2048):
        value = {"a": "".join(characters[at : at + 2048])}
        assert encode(value) == rfc8785.dumps(value)


def test_structs_are_written_like_objects():
    class Inner(msgspec.Struct):
        z: int
        a: list[str]

    class Outer(msgspec.Struct):
        b: Inner
        a: bool

    assert encode(Outer(b=Inner(z=1, a=["x"]), a=True)) == b'{"a":true,"b":{"a":["x"],"z":1}}'


def deep(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def filled(size: int) -> bytes:
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


def test_limits_are_where_they_are_said_to_be():
    assert decode_strict(deep(MAX_DEPTH))
    assert decode_strict(filled(MAX_ENTRY))
    assert decode_strict(b'{"a":9007199254740991,"b":-9007199254740991}')


REFUSED = {
    "empty": (b"", "not JSON"),
    "not JSON": (b"{", "not JSON"),
    "two values": (b"{}{}", "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "not JSON"),
    "array": (b"[]", "not a JSON object"),
    "string": (b'"a"', "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "key twice": (b'{"a":1,"a":1}', "the key 'a' twice"),
    "key twice, below": (b'{"a":[{"b":1,"b":2}]}', "the key 'b' twice"),
    "key twice, escaped": (b'{"a":1,"\\u0061":1}', "the key 'a' twice"),
    "keys out of order": (b'{"b":1,"a":1}', "departs from it at byte 2"),
    "space": (b'{"a": 1}', "departs from it at byte 5"),
    "final newline": (b'{"a":1}\n', "departs from it at byte 7"),
    "needless escape": (b'{"a":"\\u0062"}', "departs from it at byte 6"),
    "escaped slash": (b'{"a":"\\/"}', "departs from it"),
    "upper-case escape": (b'{"a":"\\u001F"}', "departs from it"),
    "long form of a short escape": (b'{"a":"\\u000a"}', "departs from it"),
    "escaped non-ASCII": (b'{"a":"\\u00e9"}', "departs from it"),
    "minus zero": (b'{"a":-0}', "departs from it"),
    "float": (b'{"a":1.5}', "not written as an integer"),
    "integral float": (b'{"a":1.0}', "not written as an integer"),
    "exponent": (b'{"a":1e3}', "not written as an integer"),
    "beyond every float": (b'{"a":1e999}', "not JSON"),
    "2^53": (b'{"a":9007199254740992}', "outside ±(2^53-1)"),
    "-2^53": (b'{"a":-9007199254740992}', "outside ±(2^53-1)"),
    "beyond 64 bits": (b'{"a":123456789012345678901234567890}', "outside ±(2^53-1)"),
    "thousands of digits": (b'{"a":' + b"9" * 9000 + b"}", "out of range"),
    "NaN": (b'{"a":NaN}', "not JSON"),
    "capital key": (b'{"A":1}', "key with other characters"),
    "empty key": (b'{"":1}', "key with other characters"),
    "key with newline": (b'{"a\\n":1}', "key with other characters"),
    "non-ASCII digit in key": ('{"a\u0661":1}'.encode(), "key with other characters"),
    "bad key below": (b'{"a":[[{"b-c":1}]]}', "key with other characters"),
    "lone high surrogate": (b'{"a":"\\ud800"}', "not JSON"),
    "lone low surrogate": (b'{"a":"\\udc00x"}', "not JSON"),
    "surrogates in UTF-8": (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', "not UTF-8"),
    "raw control character": (b'{"a":"\x01"}', ""),
    "too deep": (deep(MAX_DEPTH + 1), f"more than {MAX_DEPTH} levels"),
    "very deep": (deep(10_000), f"more than {MAX_DEPTH} levels"),
    "too long": (filled(MAX_ENTRY + 1), "32768 are allowed"),
    "a hundred thousand brackets": (b"[" * 100_000, "32768 are allowed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_bytes_are_refused(name):
    raw, sentence = REFUSED[name]
    with pytest.raises(BadEntry) as caught:
        decode_strict(raw)
    assert sentence in str(caught.value)
    assert caught.value.code == "ledger.bad-entry"


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1.5}, {"a": float("nan")}, {"a": (1, [float("-inf")])}, {"a": 2**53}, {"A": 1}, {1: 2}, {"a": "\ud800"}, {"a": object()}, {"a": {1, 2.5}},
        [], "a", None, 1, {"a": "x" * MAX_ENTRY}, {"a": msgspec.Raw(b'{"b": 1}')}, {"a": msgspec.Raw(b"]")},
    ],
)  # fmt: skip
def test_what_would_not_be_read_is_not_written(value):
    with pytest.raises(BadEntry):
        encode(value)


def test_a_value_without_end_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(BadEntry, match="levels"):
        encode({"a": value})


foreign = st.recursive(
    scalar | st.floats() | st.integers(-(2**64), 2**64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | text, inner, max_size=3),
    max_leaves=6,
)


@steady
@given(st.dictionaries(keys, foreign, max_size=3), st.booleans(), st.booleans(), st.sampled_from([":", ": "]))
def test_what_is_accepted_is_what_the_other_implementation_would_write(value, ascii_only, in_order, colon):
    raw = json.dumps(value, ensure_ascii=ascii_only, sort_keys=in_order, separators=(",", colon)).encode()
    try:
        read = decode_strict(raw)
    except BadEntry:
        return
    assert rfc8785.dumps(read) == raw
