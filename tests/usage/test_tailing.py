"""A log is read on from where one was: over rotations, never half a line, and a gap is said."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.core.errors import Misconfigured, Unavailable
from muniment.usage import tailing
from muniment.usage.tailing import Position, parts


def read(path: Path, position: Position | None = None, framing="lines", *, whole=False):
    """Lines, the position after them, and whether nothing is missing before each part."""
    lines, continues = [], []
    for part in parts(path, position, framing, whole=whole):
        lines += [None if r.raw is None else r.raw.decode() for r in part.records]
        continues.append(part.continues)
        position = part.position
    return lines, position, continues


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\nth")
    lines, at, _ = read(log)
    assert lines == ["one\n", "two\n"]  # what has no end yet is not a line
    with log.open("a") as file:
        file.write("ree\n")
    lines, at, continues = read(log, at)
    assert (lines, continues) == (["three\n"], [True])
    assert read(log, at)[0] == []


def test_a_last_line_without_an_end_counts_where_nobody_writes_any_more(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo")
    assert read(log, whole=True)[0] == ["one\n", "two"]


def test_it_follows_a_file_that_was_renamed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")
    _, at, _ = read(log)
    with log.open("a") as file:
        file.write("two\n")
    log.rename(tmp_path / "log.1")
    log.write_text("three\n")
    os.utime(tmp_path / "log.1", (1, 1))
    lines, at, continues = read(log, at)
    assert (lines, continues) == (["two\n", "three\n"], [True, True])
    assert read(log, at)[0] == []


def test_it_follows_over_several_rotations(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")
    _, at, _ = read(log)
    for number in (2, 1):
        log.rename(tmp_path / f"log.{number}")
        os.utime(tmp_path / f"log.{number}", (10 - number, 10 - number))
        log.write_text(f"then {number}\n")
    assert read(log, at)[0] == ["then 2\n", "then 1\n"]


def test_a_copy_that_was_truncated(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    _, at, _ = read(log)
    with log.open("a") as file:
        file.write("three\n")
    (tmp_path / "log.1").write_text(log.read_text())
    os.utime(tmp_path / "log.1", (1, 1))
    log.write_text("four\n")
    lines, _, continues = read(log, at)
    assert (lines, continues) == (["three\n", "four\n"], [True, True])


def test_what_is_gone_is_a_gap(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    _, at, _ = read(log)
    log.write_text("a wholly other file, and longer than the first\n")
    lines, _, continues = read(log, at)
    assert (len(lines), continues) == (1, [False])


def test_what_is_compressed_is_not_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")
    (tmp_path / "log.1.gz").write_bytes(b"\x1f\x8b\n")
    assert read(log)[0] == ["one\n"]


def test_names_with_a_star_are_read_in_the_order_of_their_time(tmp_path: Path) -> None:
    for number, name in enumerate(("pg-b.json", "pg-a.json")):
        (tmp_path / name).write_text(f"{number}\n")
        os.utime(tmp_path / name, (number, number))
    lines, at, _ = read(tmp_path / "pg-*.json")
    assert lines == ["0\n", "1\n"]
    assert read(tmp_path / "pg-*.json", at)[0] == []


def test_a_record_of_csv_may_have_lines_in_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('a,"b\nc",d\ne,"f""\n')
    lines, at, _ = read(log, framing="csv")
    assert lines == ['a,"b\nc",d\n']
    with log.open("a") as file:
        file.write('g",h\n')
    assert read(log, at, "csv")[0] == ['e,"f""\ng",h\n']


@pytest.mark.parametrize("framing", ["lines", "csv"])
def test_nothing_in_a_line_too_long_is_taken_for_a_line(tmp_path: Path, monkeypatch, framing: str) -> None:
    monkeypatch.setattr(tailing, "CHUNK", 64)
    log = tmp_path / "log"
    evil = '"' + "x" * 200 + '\nforged\n"' if framing == "csv" else "x" * 300
    log.write_text(f"one\n{evil}\ntwo\n")
    lines, at, _ = read(log, framing=framing)
    assert lines == ["one\n", None, "two\n"]
    assert at is not None
    assert at.offset == log.stat().st_size


def test_a_long_line_without_its_end_waits(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tailing, "CHUNK", 64)
    log = tmp_path / "log"
    log.write_text("x" * 300)
    lines, at, _ = read(log)
    assert lines == []
    with log.open("a") as file:
        file.write("\ntwo\n")
    assert read(log, at)[0] == [None, "two\n"]


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    [part] = parts(log, None, "lines")
    assert (part.begins, part.digest) == (0, hashlib.sha256(b"one\ntwo\n").hexdigest())


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no log at"):
        read(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((Unavailable, Misconfigured)):
        read(tmp_path / "pipe")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet='ab"\n', max_size=8), max_size=8), st.sampled_from(["lines", "csv"]))
def test_in_whatever_pieces_it_is_written_it_is_read_the_same(tmp_path_factory, pieces, framing) -> None:
    folder = tmp_path_factory.mktemp("log")
    log, whole = folder / "log", folder / "other"
    log.write_text("")
    found, at = [], None
    for piece in pieces:
        with log.open("a") as file:
            file.write(piece)
        lines, at, _ = read(log, at, framing)
        found += lines
    whole.write_text("".join(pieces))
    assert found == read(whole, framing=framing)[0]
