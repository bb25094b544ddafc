"""Whatever bytes come from outside, nothing but `LedgerFault` is raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import ORIGIN, SIGNER, VERIFIER, build, seal, steady
from muniment.ledger.canonical import decode_strict, encode
from muniment.ledger.checkpoint import Checkpoint, open_checkpoint
from muniment.ledger.entry import decode_entry
from muniment.ledger.errors import LedgerFault
from muniment.ledger.keys import signer_from_pem, signer_from_seed, signer_to_pem
from muniment.ledger.merkle import Frontier, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion
from muniment.ledger.note import Verifier, open_note, parse_note
from muniment.ledger.proof import Proof, verify_proof
from muniment.ledger.verify import verify_log

LOG = build(["a", "b", "a", "a"])
NOTE = seal(LOG)
PROOF = Proof(index=1, hashes=tuple(inclusion_proof(1, [leaf_hash(e) for e in LOG])), checkpoint=NOTE).text()
SEEDS = [LOG[2], NOTE.encode(), PROOF.encode(), signer_to_pem(SIGNER), SIGNER.vkey.encode(), b"[" * 100_000]
SEEDS += [b'{"a":' * 5_000, Frontier().extend([bytes(32)] * 5).to_bytes()]

BYTES: dict[str, Callable[[bytes], object]] = {
    "decode_strict": decode_strict,
    "decode_entry": decode_entry,
    "decode_entry strict": lambda raw: decode_entry(raw, strict=True),
    "Frontier": Frontier.from_bytes,
    "parse_note": parse_note,
    "open_note": lambda raw: open_note(raw, [VERIFIER]),
    "open_checkpoint": lambda raw: open_checkpoint(raw, VERIFIER),
    "Proof": Proof.parse,
    "verify_proof": lambda raw: verify_proof(LOG[1], raw, VERIFIER),
    "verify_proof entry": lambda raw: verify_proof(raw, PROOF, VERIFIER),
    "signer_from_pem": lambda raw: signer_from_pem(ORIGIN, raw),
    "signer_from_seed": lambda raw: signer_from_seed(ORIGIN, raw),
    "leaf": lambda raw: Frontier().extend([raw[:33]]),
    "public key": lambda raw: Verifier(name="a", key=raw[:32]).verify("a\n", raw),
}
TEXT: dict[str, Callable[[str], object]] = {
    "parse_note": parse_note,
    "open_checkpoint": lambda text: open_checkpoint(text, VERIFIER),
    "Proof": Proof.parse,
    "Checkpoint": Checkpoint.parse,
    "Verifier": Verifier.from_vkey,
    "sign": SIGNER.sign,
    "origin": lambda text: signer_from_seed(text, bytes(32)),
    "Verifier name": lambda text: Verifier(name=text, key=bytes(32)).key_id,
}


@st.composite
def altered(draw):
    """Something well-formed, with a piece cut out, replaced or repeated."""
    raw = draw(st.sampled_from(SEEDS))
    start = draw(st.integers(0, len(raw)))
    stop = draw(st.integers(start, min(len(raw), start + 40)))
    return raw[:start] + draw(st.binary(max_size=8) | st.just(raw[start:stop] * 2)) + raw[stop:]


anything = st.binary() | altered()
any_text = st.text() | altered().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
json_value = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", BYTES)
def test_bytes(name):
    @steady
    @given(anything)
    def prove(raw):
        with suppress(LedgerFault):
            BYTES[name](raw)

    prove()


@pytest.mark.parametrize("name", TEXT)
def test_text(name):
    @steady
    @given(any_text)
    def prove(text):
        with suppress(LedgerFault):
            TEXT[name](text)

    prove()


@steady
@given(json_value, st.booleans())
def test_json(value, ascii_only):
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    for read in (decode_strict, decode_entry, lambda raw: decode_entry(raw, strict=True)):
        with suppress(LedgerFault):
            read(raw)
    with suppress(LedgerFault):
        encode(value)


@steady
@given(st.sampled_from(sorted(json.loads(LOG[2]))), json_value)
def test_an_envelope_with_anything_in_a_field(field, value):
    raw = json.dumps(json.loads(LOG[2]) | {field: value}, sort_keys=True, separators=(",", ":")).encode()
    with suppress(LedgerFault):
        decode_entry(raw, strict=True)


@steady
@given(
    st.lists(st.binary(max_size=40) | st.binary(min_size=32, max_size=32)),
    st.integers(),
    st.integers(),
    st.binary(),
)
def test_proofs(proof, one, two, root):
    with suppress(LedgerFault):
        verify_inclusion(b"entry", one, two, proof, root)
    with suppress(LedgerFault):
        verify_consistency(one, two, proof, root, root)


@steady
@given(st.lists(anything, max_size=5), anything)
def test_a_report_comes_out_of_anything(entries, note):
    report = verify_log(enumerate(entries), note, VERIFIER, origin=ORIGIN)
    assert report.events == len(entries)
    assert set(report.levels) == {"V1", "V2", "V3"}
    for level in report.levels.values():
        assert level.ok == (level.first_fault is None)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 5_000, b'{"data":' + b"[" * 30_000], ids=range(3))
def test_deep_nesting(raw):
    for read in (decode_strict, decode_entry, lambda raw: decode_entry(raw, strict=True)):
        with pytest.raises(LedgerFault):
            read(raw)
