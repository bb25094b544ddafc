"""The bytes of every event kind ever released: written the same today, and read as the same values.

To add a kind: a value at the end of `values.py`, then the command in `missing.py`. Never change a line.
"""

from __future__ import annotations

import hashlib
import json

import pytest
import rfc8785

from golden import missing
from golden.values import VALUES, entry_of
from muniment.core.events import KINDS, decode_data, encode_data
from muniment.ledger.entry import decode_entry

LINES = {each["name"]: each for each in missing.lines()}

#: over the first lines of the file, as they were when they were released: a change of code and line together shows too
RELEASED = (38, "9aeeb796acb3270d47fd08722fee6b9629cbdb6ba402aa829b987b5749cfc5d6")


def test_every_kind_has_a_line() -> None:
    assert {name.partition(" ")[0] for name in LINES} == set(KINDS), missing.__doc__


def test_every_value_has_its_line_and_every_line_its_value() -> None:
    assert list(LINES) == list(VALUES), missing.__doc__
    assert len(missing.lines()) == len(LINES)


@pytest.mark.parametrize("name", LINES)
def test_today_writes_the_same_bytes(name: str) -> None:
    assert encode_data(VALUES[name]).decode() == LINES[name]["data"]
    assert entry_of(name).decode() == LINES[name]["entry"]


@pytest.mark.parametrize("name", LINES)
def test_today_reads_the_same_values(name: str) -> None:
    kind = name.partition(" ")[0]
    assert decode_data(kind, LINES[name]["data"].encode()) == VALUES[name]
    entry = decode_entry(LINES[name]["entry"].encode(), strict=True)
    assert entry.type == kind
    assert decode_data(entry.type, entry.data) == VALUES[name]


@pytest.mark.parametrize("name", LINES)
def test_the_bytes_are_rfc_8785_by_another_implementation(name: str) -> None:
    for part in ("data", "entry"):
        raw = LINES[name][part]
        assert rfc8785.dumps(json.loads(raw)).decode() == raw


@pytest.mark.parametrize("name", LINES)
def test_a_field_of_a_later_version_is_ignored(name: str) -> None:
    raw = LINES[name]["data"]
    grown = '{"a_later_field":1' + (raw[1:] if raw == "{}" else "," + raw[1:])
    assert decode_data(name.partition(" ")[0], grown.encode()) == VALUES[name]


def test_released_lines_were_not_touched() -> None:
    count, digest = RELEASED
    raw = missing.LINES.read_bytes().splitlines(keepends=True)[:count]
    assert hashlib.sha256(b"".join(raw)).hexdigest() == digest
