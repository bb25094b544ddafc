"""The stream goes on while the store is away, whatever a client says where it was; it ends with its token."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from litestar.response import ServerSentEventMessage

from api.conftest import ANN, OPS, Api
from muniment.api import office
from muniment.core.errors import StoreUnavailable
from muniment.service import tokens


@contextlib.contextmanager
def following(api: Api, token: str, last: bytes | None = None) -> Iterator[Iterator[dict[str, Any]]]:
    headers = {b"Authorization": f"Bearer {token}".encode()} | ({b"Last-Event-ID": last} if last else {})
    with api.http.stream("GET", "/v1/stream", headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        yield (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {"))


def test_it_goes_on_where_the_client_was(api: Api) -> None:
    api.filed()
    ticket = api.filed()["id"]
    api("GET", "/v1/ledger/checkpoint", who="human:aud@example.com")
    with following(api, api.token(OPS), b"0") as seen:
        assert any(each["stream"] == ticket for each in seen)


@pytest.mark.parametrize("last", [b"\xb2", b"1\xb3", b"-1", b"x", b"9" * 40])
def test_what_is_no_place_is_none(api: Api, last: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Superscripts are digits to Python, and no numbers."""
    begun: list[int | None] = []

    async def events(_desk: Any, _caller: Any, start: int | None, *_: Any) -> AsyncIterator[Any]:
        begun.append(start)
        yield ServerSentEventMessage(data="{}", id="1")

    monkeypatch.setattr(office, "events", events)
    with following(api, api.token(OPS), last) as seen:
        assert list(seen) == [{}]
    assert begun == [None]


def test_a_store_that_is_away_ends_no_stream_and_a_revocation_does(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tokens.create(api.desk, None, ANN, lasts=tokens.LONGEST)["token"]
    known, asked = api.office.known, 0

    def away(credential: str, **ways: Any) -> Any:
        nonlocal asked
        if credential != token:
            return known(credential, **ways)
        asked += 1
        if asked in {2, 3}:
            raise StoreUnavailable("the store did not answer: disk full")
        return known(credential, **ways)

    api.filed()
    api("GET", "/v1/ledger/checkpoint", who="human:aud@example.com")
    monkeypatch.setattr(api.office, "known", away)
    with following(api, token, b"0") as seen:
        while asked < 4:
            next(seen, None)
        ticket = api.filed()["id"]
        api("GET", "/v1/ledger/checkpoint", who="human:aud@example.com")
        assert any(each["stream"] == ticket for each in seen)
        tokens.revoke(api.desk, None, token)
        list(seen)  # ends
