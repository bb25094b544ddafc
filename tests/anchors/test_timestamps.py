"""Time-stamps by a real authority: asked for, verified, and refused when they are something else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from muniment.anchors.timestamps import HttpAuthority, read_roots, stamp_check
from muniment.core.errors import Misconfigured, StampRefused, StampUnavailable
from muniment.ledger.errors import BadStamp
from muniment.outbound import Http
from timestamping import make_authority, replied, serving, stamped

TEXT = "ledger.example.org/muniment\n1\nK/t79Vg9iBO5PEhX1UDog2x1Np7GM1/F5bYeRSdKk+g=\n"
REPLY = "application/timestamp-reply"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("other"))


def roots(authority: Path) -> bytes:
    return (authority / "ca.pem").read_bytes()


def test_a_stamp_is_verified_and_says_when_and_by_whom(authority: Path):
    with serving(authority) as url:
        made = HttpAuthority(url=url, roots=roots(authority), http=Http(timeout=30)).stamp(TEXT)
    assert made.authority == "CN=tsa"
    assert abs(made.time - datetime.now(UTC).timestamp()) < 120
    assert stamp_check(roots(authority))(made.token, TEXT.encode()) == (made.time, "CN=tsa")


def test_a_stamp_that_openssl_made_alone_is_read(authority: Path):
    time, name = stamp_check(roots(authority))(stamped(authority, TEXT), TEXT.encode())
    assert name == "CN=tsa"
    assert abs(time - datetime.now(UTC).timestamp()) < 120


def test_what_is_no_stamp_of_this_text_by_whom_one_believes_is_refused(authority: Path, other: Path):
    token, text = stamped(authority, TEXT), TEXT.encode()
    check = stamp_check(roots(authority))
    with pytest.raises(BadStamp, match="Mismatch"):
        check(token, text + b"\n")
    with pytest.raises(BadStamp, match="does not verify"):
        stamp_check(roots(other))(token, text)
    for wrong in (b"", b"hello", token[:-1], token[: len(token) // 2], b"\x30\x80" + token, b"\0" * 100_000):
        with pytest.raises(BadStamp):
            check(wrong, text)


def test_no_flipped_bit_gives_another_time(authority: Path):
    """Each byte in turn: refused, or (outside what is signed) the same time by the same authority."""
    token, text = stamped(authority, TEXT), TEXT.encode()
    check = stamp_check(roots(authority))
    honest = check(token, text)
    refused = 0
    for at in range(0, len(token), 3):
        flipped = bytearray(token)
        flipped[at] ^= 0x04
        try:
            assert check(bytes(flipped), text) == honest, at
        except BadStamp:
            refused += 1
    assert refused > len(token) // 3 * 0.8


@pytest.mark.parametrize(
    ("what", "answer", "error", "says"),
    [
        ("is down", (503, "text/plain", b"no"), StampUnavailable, "answered 503"),
        ("has another path", (404, "text/html", b"no"), StampRefused, "answered 404"),
        ("serves a page", (200, "text/html", b"<html>"), StampRefused, "no time-stamp"),
        ("answers nothing", (200, REPLY, b""), StampRefused, "does not verify"),
        ("answers text", (200, REPLY, b"hello"), StampRefused, "does not verify"),
        ("answers without end", (200, REPLY, b"x" * 300_000), StampUnavailable, "more than"),
        ("rejects", (200, REPLY, bytes.fromhex("30053003020102")), StampRefused, ""),
    ],
)
def test_an_authority_that_gives_no_stamp_is_named(authority: Path, what: str, answer, error, says: str):
    with serving(authority, lambda _: answer) as url:
        asked = HttpAuthority(url=url, roots=roots(authority), http=Http(timeout=30))
        with pytest.raises(error) as caught:
            asked.stamp(TEXT)
    assert says in caught.value.message, what
    assert caught.value.remedy


def test_an_old_answer_is_not_taken_for_a_new_one(authority: Path):
    """Replayed: genuine, of this text, and not the answer to this question."""
    seen: list[bytes] = []

    def replay(query: bytes) -> tuple[int, str, bytes]:
        seen.append(replied(authority, query))
        return 200, REPLY, seen[0]

    with serving(authority, replay) as url:
        asked = HttpAuthority(url=url, roots=roots(authority), http=Http(timeout=30))
        asked.stamp(TEXT)
        with pytest.raises(StampRefused, match="Nonce"):
            asked.stamp(TEXT)


def test_an_authority_that_one_does_not_believe_is_refused(authority: Path, other: Path):
    with serving(other) as url:
        asked = HttpAuthority(url=url, roots=roots(authority), http=Http(timeout=30))
        with pytest.raises(StampRefused, match="no time-stamp of this checkpoint"):
            asked.stamp(TEXT)


@pytest.mark.parametrize(
    "pem", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates_is_refused(pem: bytes):
    with pytest.raises(Misconfigured):
        read_roots(pem)
