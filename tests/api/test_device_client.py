"""``muniment login`` against servers that answer as RFC 8628 allows, and as nothing allows: real ones, on a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest

from muniment.cli.device_grant import Begun, begin, wait
from muniment.cli.remote import RemoteBackend
from muniment.core.errors import MunimentError
from muniment.service.devices import CLIENT, GRANT
from small_server import Question, Said, serving

BEGUN = {
    "device_code": "d", "user_code": "BCDFG-HJKLM", "verification_uri": "https://m.example/auth/device",
    "expires_in": 600, "interval": 5,
}  # fmt: skip
MADE = {
    "access_token": "mnt_x", "token_type": "bearer", "expires_in": 60, "identity": "human:ann@example.com",
    "expires_at": "2026-11-26T12:00:00Z",
}  # fmt: skip
AWAY = 0  # the connection is closed without an answer


class Scripted:
    """A server that gives these answers, one after another, and the last one for ever."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, list[str]]]] = []

    def respond(self, question: Question) -> Said:
        assert question.headers["content-type"] == "application/x-www-form-urlencoded"
        self.asked.append((question.path, parse_qs(question.body.decode())))
        status, said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == AWAY:
            return None
        return status, said if isinstance(said, bytes) else json.dumps(said).encode(), {}


@contextmanager
def served(script: Scripted) -> Iterator[RemoteBackend]:
    with serving(script.respond) as server:
        backend = RemoteBackend(server.url, "")
        try:
            yield backend
        finally:
            backend.close()


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds

    def clock(self) -> float:
        return self.at


def no(name: str) -> tuple[int, Any]:
    return 400, {"error": name, "error_description": "x"}


def waited(script: Scripted, **begun: Any) -> tuple[Any, list[float]]:
    """What came of it, as a token or an error's code; and the pauses."""
    time = Time()
    asked = Begun(
        **{"device_code": "d", "user_code": "c", "verification_uri": "u", "expires_in": 600} | begun
    )
    with served(script) as backend:
        try:
            return wait(backend, asked, time.sleep, time.clock).access_token, time.slept
        except MunimentError as error:
            return error.code, time.slept


PENDING, SLOW = no("authorization_pending"), no("slow_down")


def test_what_is_sent_is_what_rfc_8628_has() -> None:
    script = Scripted((200, BEGUN), (200, MADE))
    with served(script) as backend:
        time = Time()
        assert wait(backend, begin(backend), time.sleep, time.clock).identity == MADE["identity"]
    assert script.asked == [
        ("/auth/device", {"client_id": [CLIENT]}),
        ("/auth/device/token", {"grant_type": [GRANT], "device_code": ["d"], "client_id": [CLIENT]}),
    ]


@pytest.mark.parametrize(
    ("answers", "begun", "slept"),
    [
        ([(200, MADE)], {}, [5]),  # the usual pause, where the server says nothing
        ([PENDING, PENDING, (200, MADE)], {"interval": 7}, [7, 7, 7]),
        ([PENDING, SLOW, PENDING, SLOW, (200, MADE)], {"interval": 2}, [2, 2, 7, 7, 12]),
        ([(AWAY, b""), (503, b"x"), (429, {}), (200, MADE)], {"interval": 1}, [1, 2, 4, 8]),
        ([PENDING, (200, MADE)], {"interval": 0}, [1, 1]),
        ([PENDING, (200, MADE)], {"interval": -7}, [1, 1]),
    ],
)
def test_it_asks_as_often_as_the_server_says(
    answers: list[Any], begun: dict[str, Any], slept: list[float]
) -> None:
    assert waited(Scripted(*answers), **begun) == ("mnt_x", slept)


@pytest.mark.parametrize(
    ("answers", "begun", "code", "most"),
    [
        ([no("access_denied")], {}, "refused.device-denied", 1),
        ([no("expired_token")], {}, "unavailable.no-yes", 1),
        ([no("invalid_grant")], {}, "refused.login", 1),
        ([no("invalid_client")], {}, "config", 1),
        ([no("what nobody knows\x1b[2J")], {}, "refused.login", 1),
        ([PENDING], {"expires_in": 30}, "unavailable.no-yes", 6),
        ([SLOW], {"expires_in": 60}, "unavailable.no-yes", 4),
        ([PENDING], {"expires_in": 0}, "unavailable.no-yes", 0),
        ([PENDING], {"expires_in": -1}, "unavailable.no-yes", 0),
        ([PENDING], {"expires_in": 10**9, "interval": 100}, "unavailable.no-yes", 18),
        ([PENDING], {"interval": 10**9}, "unavailable.no-yes", 0),
        ([(AWAY, b"")], {}, "unavailable.no-yes", 6),
        ([(400, b"not json")], {}, "unavailable.not-a-server", 1),
        ([(400, {"code": "x"})], {}, "unavailable.not-a-server", 1),
        ([(302, b"")], {}, "unavailable.not-a-server", 1),
        ([(200, b"[" * 100_000)], {}, "unavailable.not-a-server", 1),
        ([(200, {})], {}, "unavailable.not-a-server", 1),
        ([(200, MADE | {"access_token": 1})], {}, "unavailable.not-a-server", 1),
        ([(200, MADE | {"access_token": "x\r\ny: z"})], {}, "unavailable.not-a-server", 1),
        ([(200, MADE | {"access_token": ""})], {}, "unavailable.not-a-server", 1),
        ([(200, MADE | {"token_type": "mac"})], {}, "unavailable.not-a-server", 1),
    ],
)
def test_it_ends_whatever_a_server_says(
    answers: list[Any], begun: dict[str, Any], code: str, most: int
) -> None:
    found, slept = waited(Scripted(*answers), **begun)
    assert found == code
    assert len(slept) == most


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            (404, {"error": "invalid_request", "error_description": "nobody can sign in here"}),
            "refused.login",
        ),
        ((400, {"error": "invalid_client"}), "config"),
        ((200, b"\xff"), "unavailable.not-a-server"),
        ((200, BEGUN | {"expires_in": "soon"}), "unavailable.not-a-server"),
        ((200, {}), "unavailable.not-a-server"),
        ((500, b"<html>"), "unavailable.not-a-server"),
        ((AWAY, b""), "unavailable.server"),
    ],
)
def test_a_beginning_that_is_none(answer: tuple[int, Any], code: str) -> None:
    with served(Scripted(answer)) as backend, pytest.raises(MunimentError) as refused:
        begin(backend)
    assert refused.value.code == code
