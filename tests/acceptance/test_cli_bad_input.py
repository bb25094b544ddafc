"""What cannot be meant is refused in one sentence, with a stable code, and nothing is recorded."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from acceptance.conftest import ANN, CYD, Muniment, run

INJECTION = 'x"; DROP ROLE y; --'
LONG = "a" * 64
BIDI = "web-\u202eadmin"
HOMOGLYPH = "web-\u0430dmin"  # a Cyrillic a
DECOMPOSED = unicodedata.normalize("NFD", "caf\u00e9")

#: words that spoil a sound request: what comes last wins. Then the code and the exit status
SPOILED: dict[str, tuple[list[str], str, int]] = {
    "duration-zero": (["--for", "0h"], "invalid", 2),
    "duration-negative": (["--for", "-1h"], "invalid", 2),
    "duration-overflow": (["--for", "999999999d"], "invalid", 2),
    "duration-endless": (["--for", "9" * 40 + "d"], "invalid", 2),
    "duration-half-typed": (["--for", "1h-"], "invalid", 2),
    "duration-other-digits": (["--for", "\u0661h"], "invalid", 2),
    "duration-empty": (["--for", ""], "invalid", 2),
    "duration-month": (["--for", "P1M"], "invalid", 2),
    "duration-beyond-policy": (["--for", "5h"], "refused.too-long", 1),
    "start-past": (["--start", "2020-01-01T00:00:00Z"], "invalid", 2),
    "start-far": (["--start", "9999-12-31T23:59:59Z"], "invalid", 2),
    "start-whose-clock": (["--start", "2030-01-01T00:00:00"], "invalid", 2),
    "start-no-such-day": (["--start", "2030-02-30T00:00:00Z"], "invalid", 2),
    "start-words": (["--start", "tomorrow"], "invalid", 2),
    "reason-empty": (["--reason", ""], "invalid", 2),
    "reason-blank": (["--reason", " \n\t "], "invalid", 2),
    "reason-escape": (["--reason", "look \x1b[2J here"], "invalid", 2),
    "reason-bidi": (["--reason", "look \u202e here"], "invalid", 2),
    "reason-long": (["--reason", "x" * 4001], "invalid", 2),
    "beneficiary-unknown": (["--beneficiary", "human:nobody@example.com"], "invalid.unknown-identity", 2),
    "beneficiary-injection": (["--beneficiary", INJECTION], "invalid", 2),
    "beneficiary-homoglyph": (["--beneficiary", "human:\u0430nn@example.com"], "invalid", 2),
    "reference-without-value": (["--reference", "change"], "invalid", 2),
    "reference-kind": (["--reference", "Change!=1"], "invalid", 2),
    "reference-newline": (["--reference", "change=a\nb"], "invalid", 2),
    "incident-alone": (["--incident", "INC-1"], "invalid", 2),
    "break-glass-alone": (["--break-glass", "--for", "30m"], "invalid", 2),
    "key-missing": (["--public-key", "/no/such/key.pub"], "invalid.public-key", 2),
    "key-not-one": (["--public-key", "/etc/passwd"], "invalid.public-key", 2),
    "option-unknown": (["--forever"], "usage", 2),
}


@pytest.fixture(scope="module")
def table(shared: Muniment) -> Muniment:
    """For the long tables; the program itself is started by the tests that take ``shared``."""
    return Muniment(shared.folder, here=True)


def refused(answer, code: str, status: int) -> None:
    error = answer.error
    assert (error["code"], answer.status) == (code, status), error
    assert answer.out == ""
    assert error["message"]
    assert error["remedy"]
    assert "Error" not in error["message"]


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_request(table: Muniment, case: str) -> None:
    words, code, status = SPOILED[case]
    refused(table.request(*words), code, status)
    assert table.tickets() == []


TARGETS = [
    ("pg-prod", "invalid.unknown-target"), (INJECTION, "invalid.unknown-target"), (LONG, "invalid.unknown-target"),
    (BIDI, "invalid.unknown-target"), ("b\u0430stion", "invalid.unknown-target"), ("bastion\n", "invalid.unknown-target"),
    ("", "invalid.unknown-target"), ("\udcff", "invalid.unknown-target"),
]  # fmt: skip
PRIVILEGES = [
    ("nothing", "invalid.unknown-privilege"), (INJECTION, "invalid.unknown-privilege"),
    (LONG, "invalid.unknown-privilege"), (HOMOGLYPH, "invalid.unknown-privilege"), (BIDI, "invalid"),
    ("x" * 256, "invalid"), ("web-admin ", "invalid"), ("web-admin\x1b[0m", "invalid"), (DECOMPOSED, "invalid"),
    ("", "invalid"), ("web-admin (prod)", "invalid.unknown-privilege"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code"), TARGETS, ids=ascii)
def test_a_target_that_is_not_there(table: Muniment, name: str, code: str) -> None:
    words = ("request", name, "web-admin", "--for", "1h", "--reason", "to look", "--public-key", table.key)
    refused(table.json(*words, who=ANN), code, 2)
    assert table.tickets() == []


@pytest.mark.parametrize(("name", "code"), PRIVILEGES, ids=ascii)
def test_a_privilege_that_is_not_there(table: Muniment, name: str, code: str) -> None:
    words = ("request", "bastion", name, "--for", "1h", "--reason", "to look", "--public-key", table.key)
    refused(table.json(*words, who=ANN), code, 2)
    assert table.tickets() == []


@pytest.mark.parametrize(
    ("who", "code", "status"),
    [
        ("ann", "invalid", 2),
        ("human:", "invalid", 2),
        (INJECTION, "invalid", 2),
        ("human:\u0430nn@example.com", "invalid", 2),
        ("system:muniment", "invalid", 2),
        ("human:nobody@example.com", "refused.unknown-identity", 1),
        ("", "usage", 2),
    ],
)
def test_somebody_who_is_not_there(table: Muniment, who: str, code: str, status: int) -> None:
    refused(table.json("list", who=who), code, status)


def test_a_key_file_with_nul_bytes_or_a_private_key(shared: Muniment, tmp_path: Path) -> None:
    for content in (
        b"ssh-ed25519 AAAA\0AAAA",
        b"\0" * 20000,
        b"\xff\xfe",
        (shared.folder / "keys/ssh-ca").read_bytes(),
    ):
        path = tmp_path / "key.pub"
        path.write_bytes(content)
        answer = shared.request("--public-key", path)
        assert (answer.status, answer.out) == (2, "")
        assert answer.error["code"].startswith("invalid")
        assert "\0" not in answer.err
    assert shared.tickets() == []


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["show", "req_nothing"], "not-found", 1),
        (["show", INJECTION], "not-found", 1),
        (["approve", BIDI], "not-found", 1),
        (["credential", "req_nothing", "--out", "never-made"], "not-found", 1),
        (["list", "--status", "open"], "invalid", 2),
        (["list", "--limit", "0"], "usage", 2),
        (["list", "--beneficiary", "ann"], "invalid", 2),
        (["holdings", "nowhere"], "not-found", 1),
        (["finding", "resolve", "req_nothing", "--reason", "x"], "invalid", 2),
        (["review", "req_nothing", "--outcome", "fine", "--comment", "x"], "usage", 2),
        (["deny", "req_nothing"], "usage", 2),
        (["ledger", "prove", "req_nothing"], "not-found", 1),
        (["serve", "--only", "\x1b[2J"], "usage", 2),
        (["aprove", "req_nothing"], "usage", 2),
        (["policy"], "usage", 2),
    ],
    ids=lambda value: (
        " ".join(value)[:40].encode("ascii", "replace").decode() if isinstance(value, list) else None
    ),
)
def test_other_commands(table: Muniment, words: list[str], code: str, status: int) -> None:
    refused(table.json(*words, who=CYD), code, status)
    assert not Path("never-made").exists()


def test_people_read_the_same_without_anything_that_acts_on_the_terminal(shared: Muniment) -> None:
    answer = shared("request", "\x1b[2J" + BIDI, "web-admin", "--for", "1h", "--reason", "x", "--public-key", shared.key,
                    who=ANN)  # fmt: skip
    assert answer.status == 2
    assert "[invalid.unknown-target]" in answer.err
    assert "bastion" in answer.err, "what there is instead"
    assert not any(unicodedata.category(c) in {"Cc", "Cf"} for c in answer.err.replace("\n", ""))


def test_help_needs_nothing_and_an_empty_line_is_wrong_usage() -> None:
    assert run("--help").status == 0
    assert run().status == 2
    for command in ("request", "show", "ledger"):
        answer = run(command, "--help")
        assert answer.status == 0
        assert "--as" in answer.out
    assert "Example" in run("request", "--help").out


@pytest.mark.parametrize(
    "case", ["duration-zero", "start-past", "reason-bidi", "key-missing", "option-unknown"]
)
def test_a_spoiled_request_to_the_program_itself(shared: Muniment, case: str) -> None:
    words, code, status = SPOILED[case]
    refused(shared.request(*words), code, status)
    assert shared.tickets() == []
