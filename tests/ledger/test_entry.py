"""The envelope: its bytes are fixed for ever, and the strict reader believes nothing."""

from __future__ import annotations

import json

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import entry, steady
from muniment.ledger.canonical import MAX_DEPTH, MAX_ENTRY, decode_strict, encode
from muniment.ledger.entry import Actor, decode_entry, entry_ref
from muniment.ledger.errors import BadEntry, LedgerFault
from muniment.ledger.merkle import leaf_hash

RAW = entry().encode()
PREV = "sha256:" + "0" * 64


def test_the_bytes_on_record():
    assert RAW == (
        b'{"actor":{"id":"human:ann@example.com","via":"local"},"at":"2026-11-23T10:00:00.000000Z",'
        b'"data":{"note":"\xc3\xa9\xe2\x80\xa8\x7f","target":"pg-prod"},"log":"ledger.example.org/muniment",'
        b'"prev":null,"seq":0,"ticket":"req_1","type":"request-submitted/1","v":1}'
    )
    assert rfc8785.dumps(json.loads(RAW)) == RAW


def test_a_signature_is_written_only_when_there_is_one():
    signed = entry(sig={"format": "sshsig", "signature": "AAAA"}).encode()
    assert b'"sig":{"format":"sshsig","signature":"AAAA"}' in signed
    assert decode_entry(signed, strict=True).sig == {"format": "sshsig", "signature": "AAAA"}
    assert b"sig" not in RAW


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_written_is_read_back(strict):
    read = decode_entry(RAW, strict=strict)
    assert read == entry()
    assert read.encode() == RAW
    assert bytes(read.data) == bytes(entry().data)
    assert read.actor == Actor(id="human:ann@example.com", via="local")


def test_the_next_entry_names_the_leaf_hash():
    assert entry_ref(RAW) == "sha256:" + leaf_hash(RAW).hex()


REFUSED_FIELDS = {
    "v 2": ({"v": 2}, ""),
    "v true": ({"v": True}, ""),
    "v text": ({"v": "1"}, ""),
    "log empty": ({"log": ""}, "log is not an origin"),
    "log with space": ({"log": "a b"}, "log is not an origin"),
    "ticket empty": ({"ticket": ""}, "ticket is not a printable"),
    "ticket long": ({"ticket": "x" * 401}, "ticket is not a printable"),
    "ticket with newline": ({"ticket": "a\nb"}, "ticket is not a printable"),
    "ticket with direction override": ({"ticket": "a\u202eb"}, "ticket is not a printable"),
    "seq negative": ({"seq": -1}, "seq is not a number"),
    "seq too large": ({"seq": 2**53, "prev": PREV}, "seq is not a number"),
    "seq text": ({"seq": "0"}, ""),
    "seq true": ({"seq": True, "prev": PREV}, ""),
    "prev at 0": ({"prev": PREV}, "although seq is 0"),
    "prev missing at 1": ({"seq": 1}, "prev is not sha256:"),
    "prev capitals": ({"seq": 1, "prev": PREV[:-1] + "A"}, "prev is not sha256:"),
    "prev short": ({"seq": 1, "prev": PREV[:-1]}, "prev is not sha256:"),
    "prev with newline": ({"seq": 1, "prev": PREV + "\n"}, "prev is not sha256:"),
    "type without version": ({"type": "request-submitted"}, "type is not"),
    "type version 0": ({"type": "request-submitted/0"}, "type is not"),
    "type capitals": ({"type": "Request/1"}, "type is not"),
    "at without microseconds": ({"at": "2026-11-23T10:00:00Z"}, "at is not an instant"),
    "at with offset": ({"at": "2026-11-23T10:00:00.000000+00:00"}, "at is not an instant"),
    "at on 31 February": ({"at": "2026-02-31T10:00:00.000000Z"}, "at is not an instant"),
    "at 24:00": ({"at": "2026-11-23T24:00:00.000000Z"}, "at is not an instant"),
    "at leap second": ({"at": "2026-11-23T23:59:60.000000Z"}, "at is not an instant"),
    "at other digits": ({"at": "\uff12026-11-23T10:00:00.000000Z"}, "at is not an instant"),
    "at year 0": ({"at": "0000-01-01T00:00:00.000000Z"}, "at is not an instant"),
    "data array": ({"data": msgspec.Raw(b"[]")}, "data is not a JSON object"),
    "data with float": ({"data": msgspec.Raw(b'{"a":1.5}')}, "data holds 1.5"),
    "data with a space": ({"data": msgspec.Raw(b'{"a": 1}')}, "data is not in canonical form"),
    "data with a key twice": ({"data": msgspec.Raw(b'{"a":1,"a":2}')}, "data has the key 'a' twice"),
    "data with a capital key": ({"data": msgspec.Raw(b'{"Team":1}')}, "data has a key"),
    "sig empty": ({"sig": {}}, "sig is not an object of strings"),
    "sig with a number": ({"sig": {"a": 1}}, ""),
    "sig with a bad key": ({"sig": {"a-b": "c"}}, "sig has a key"),
    "too long": ({"data": msgspec.Raw(encode({"a": "x" * (MAX_ENTRY - 100)}))}, "32768 are allowed"),
}


@pytest.mark.parametrize("name", REFUSED_FIELDS)
def test_a_wrong_field_is_neither_written_nor_read(name):
    changes, sentence = REFUSED_FIELDS[name]
    with pytest.raises(BadEntry) as caught:
        entry(**changes).encode()
    assert sentence in str(caught.value)
    raw = msgspec.json.encode(entry(**changes), order="sorted")
    with pytest.raises(BadEntry) as caught:
        decode_entry(raw, strict=True)
    assert sentence in str(caught.value)


def test_an_injected_field_is_not_written():
    with pytest.raises(BadEntry):
        entry(data=msgspec.Raw(b'{},"extra":{}')).encode()


def test_nothing_escapes_from_a_lone_surrogate():
    with pytest.raises(BadEntry):
        entry(ticket="\ud800").encode()


def test_the_whole_entry_keeps_to_the_depth():
    deepest = msgspec.Raw(b'{"a":' + b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2) + b"}")
    raw = entry(data=deepest).encode()
    assert decode_strict(raw)
    deeper = msgspec.Raw(b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}")
    with pytest.raises(BadEntry, match="levels"):
        entry(data=deeper).encode()


@pytest.mark.parametrize("field", ["v", "log", "ticket", "seq", "prev", "type", "actor", "at", "data"])
def test_no_field_may_be_missing_or_repeated(field):
    tree = json.loads(RAW)
    value = tree.pop(field)
    with pytest.raises(BadEntry):
        decode_entry(encode(tree), strict=True)
    part = json.dumps(field).encode() + b":" + encode({"a": value})[5:-1]
    doubled = RAW.replace(part, part + b"," + part)
    assert doubled != RAW
    with pytest.raises(BadEntry):
        decode_entry(doubled, strict=True)


@pytest.mark.parametrize(
    "raw",
    [
        RAW + b"\n", b" " + RAW, RAW.replace(b'"seq":0', b'"seq":0.0'), RAW.replace(b'"seq":0', b'"seq":-0'),
        RAW.replace(b'"v":1', b'"v":1,"w":1'), RAW.replace(b'"v":1', b'"v":1.0'), RAW.replace(b"req_1", b"req_\\u0031"),
        RAW.replace(b'"data":{', b'"data": {'), RAW.replace(b'"via":"local"', b'"via":"local","x":1'),
        RAW.replace(b'"seq":0', b'"seq":0,"sig":null'), RAW.replace(b"pg-prod", b"pg\\u002dprod"), b"", b"[]", b"{}",
    ],
)  # fmt: skip
def test_another_spelling_is_refused(raw):
    assert raw != RAW
    with pytest.raises(BadEntry):
        decode_entry(raw, strict=True)


@steady
@given(st.integers(0, len(RAW) - 1), st.integers(0, 255))
def test_an_altered_byte_never_yields_the_same_entry(at, byte):
    raw = RAW[:at] + bytes([byte]) + RAW[at + 1 :]
    try:
        read = decode_entry(raw, strict=True)
    except LedgerFault:
        return
    assert (read == entry()) == (raw == RAW)
    assert rfc8785.dumps(json.loads(raw)) == raw
    assert decode_strict(raw)
