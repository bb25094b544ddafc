"""A receiver has its stream pushed to an endpoint of its own (SSF 1.0, section 8.1.1; RFC 8935), and we go nowhere else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import select, update

from api.conftest import Api
from api.test_signal_streams import ask, code, ended, fresh, polled  # noqa: F401  fresh is used by itself
from muniment.notify.guard import Guard
from muniment.outbound import Http
from muniment.service.pushing import Endpoints
from muniment.service.sending import send
from muniment.service.transmitting import POLL, PUSH, SignalStream
from muniment.signals.tokens import CAEP, SSF
from muniment.store import tables as t
from muniment.store.delivering import SqlDeliveries
from muniment.store.engine import reading, writing
from small_server import SmallServer, serving

SECRET = "Bearer zuR9-canary-of-the-receiver"


@pytest.fixture
def receiver() -> Iterator[SmallServer]:
    with serving(lambda _: (202, b"", {})) as server:
        yield server


def stream_of(api: Api) -> SignalStream:
    found: SignalStream = next(each for each in api.office.outward.sinks if each.name == "signals:idp")
    return found


@pytest.fixture
def reaching(api: Api) -> Iterator[None]:
    """The stream may reach this machine, as `allow` has it."""
    stream = stream_of(api)
    before = stream.endpoints
    made = Endpoints(http=Http(connect=Guard(("127.0.0.0/8",))), plain=True, marker=api.desk.store.marker)
    object.__setattr__(stream, "endpoints", made)
    yield
    object.__setattr__(stream, "endpoints", before)


def delivered(url: str, **more: Any) -> dict[str, Any]:
    return {"stream_id": "idp", "delivery": {"method": PUSH, "endpoint_url": url} | more}


def sent(api: Api) -> int:
    return send(api.desk, SqlDeliveries(api.desk.store.engine), stream_of(api), "test")


def until(holds: Callable[[], Any]) -> None:
    for _ in range(400):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come")


def claims_of(api: Api, server: SmallServer, at: int = -1) -> dict[str, Any]:
    keys = KeySet.import_key_set(api("GET", "/ssf/jwks.json", who=None).json())
    return dict(jwt.decode(server.asked[at].body.decode(), keys).claims)


@pytest.mark.usefixtures("reaching")
def test_a_stream_is_pushed_where_its_receiver_says(api: Api, receiver: SmallServer) -> None:
    url = receiver.url + "/events"
    before = ask(api, "GET", "streams", params={"stream_id": "idp"}).json()
    changed = ask(api, "PATCH", "streams", delivered(url, authorization_header=SECRET))
    assert changed.json() == before | {
        "delivery": {"method": PUSH, "endpoint_url": url}
    }  # the header is not shown
    assert ask(api, "GET", "streams").json() == [changed.json()]
    ended(api)
    assert sent(api) == 1
    (got,) = receiver.asked
    assert (got.method, got.path, got.headers["authorization"]) == ("POST", "/events", SECRET)
    assert got.headers["content-type"] == "application/secevent+jwt"
    claims = claims_of(api, receiver)
    assert (claims["aud"], list(claims["events"])) == (before["aud"], [f"{CAEP}session-revoked"])
    assert code(ask(api, "POST", "poll/idp", {})) == (400, "invalid.stream")
    ended(api)
    whole = ask(api, "PUT", "streams", {"stream_id": "idp"})  # nothing said of it: it is fetched again
    assert whole.json()["delivery"] == before["delivery"]
    assert (sent(api), polled(api)) == (0, 1)


@pytest.mark.usefixtures("reaching")
def test_it_is_created_verified_paused_and_deleted(api: Api, receiver: SmallServer) -> None:
    ask(api, "DELETE", "streams", params={"stream_id": "idp"})
    made = ask(api, "POST", "streams", {"delivery": delivered(receiver.url)["delivery"]})
    assert (made.status_code, made.json()["delivery"]["method"]) == (201, PUSH)
    assert ask(api, "POST", "verify", {"stream_id": "idp", "state": "s 1"}).status_code == 204
    until(lambda: receiver.asked)
    assert claims_of(api, receiver)["events"] == {f"{SSF}verification": {"state": "s 1"}}
    assert "authorization" not in receiver.asked[0].headers
    ask(api, "POST", "status", {"stream_id": "idp", "status": "paused"})
    ask(api, "POST", "verify", {"stream_id": "idp", "state": "s 2"})
    ended(api)
    assert (sent(api), len(receiver.asked)) == (0, 1)
    ask(api, "POST", "status", {"stream_id": "idp", "status": "enabled"})
    until(lambda: len(receiver.asked) == 2)
    assert sent(api) == 1
    ended(api)
    assert ask(api, "DELETE", "streams", params={"stream_id": "idp"}).status_code == 204
    assert sent(api) == 0
    ask(api, "POST", "streams", {})
    assert ask(api, "GET", "streams").json()[0]["delivery"]["method"] == POLL


@pytest.mark.usefixtures("reaching")
def test_a_receiver_that_does_not_take_it_gets_it_again(api: Api, receiver: SmallServer) -> None:
    ask(api, "PATCH", "streams", delivered(receiver.url))
    receiver.answer = lambda _: (302, b"", {"Location": receiver.url + "/elsewhere"})
    ended(api)
    assert (sent(api), [each.path for each in receiver.asked]) == (0, ["/"])  # no redirect is followed (I39)
    receiver.answer = lambda _: (202, b"", {})
    progress = SqlDeliveries(api.desk.store.engine).progress("signals:idp")
    assert progress is not None
    assert progress.waiting == 1
    ask(api, "POST", "verify", {"stream_id": "idp"})
    until(lambda: len(receiver.asked) == 2)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://user:pw@example.com/", "https://", "", "//x", "https://a b/",
        "https://example.com/#f", "https://example.com:0/", "file:///etc/passwd", "https://example.com/\r\nX: 1", None,
    ],
)  # fmt: skip
def test_what_is_no_endpoint(api: Api, url: str | None) -> None:
    for method in ("PATCH", "PUT"):
        assert code(ask(api, method, "streams", delivered(url))) == (400, "invalid.stream")  # type: ignore[arg-type]
    assert ask(api, "GET", "streams").json()[0]["delivery"]["method"] == POLL


@pytest.mark.parametrize("header", ["", " ", "Bearer x\r\nHost: evil", "x\x00", "é", "\u202e", "x\t"])
def test_what_is_no_header(api: Api, header: str) -> None:
    answer = ask(api, "PATCH", "streams", delivered("https://example.com/", authorization_header=header))
    assert answer.status_code in {400, 422}
    assert ask(api, "GET", "streams").json()[0]["delivery"]["method"] == POLL


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "169.254.169.254", "[::ffff:127.0.0.1]", "10.0.0.1", "[::1]"]
)
def test_networks_that_nobody_allowed_are_not_reached(api: Api, receiver: SmallServer, host: str) -> None:
    """I39: as configured, without `allow`. The address is what counts, whatever the name."""
    port = receiver.url.rpartition(":")[2]
    url = f"https://{host}:{port}/"
    assert ask(api, "PATCH", "streams", delivered(url)).status_code == 200
    ended(api)
    assert sent(api) == 0
    ask(api, "POST", "verify", {"stream_id": "idp"})
    time.sleep(0.2)
    assert receiver.asked == []
    with reading(api.desk.store.engine) as connection:
        errors = connection.execute(select(t.delivery.c.error)).scalars().all()
    assert any("no public address" in (each or "") for each in errors), errors


@pytest.mark.usefixtures("reaching")
def test_the_header_is_nowhere_in_the_store_and_goes_nowhere_else(api: Api, receiver: SmallServer) -> None:
    """I31; and who can write to the database sends it neither elsewhere nor to another stream."""
    ask(api, "PATCH", "streams", delivered(receiver.url, authorization_header=SECRET))
    with reading(api.desk.store.engine) as connection:
        state = bytes(connection.execute(select(t.signal_stream.c.state)).scalar_one())
    assert b"canary" not in state
    moved = json.loads(state)
    moved["endpoint"]["url"] = "https://evil.example/"
    with writing(api.desk.store.engine) as connection:
        connection.execute(update(t.signal_stream).values(state=json.dumps(moved).encode()))
    assert ask(api, "GET", "streams").json()[0]["delivery"]["method"] == POLL  # foreign: as configured
    # even with a mark, the header opens for its own endpoint alone
    endpoints, stream = stream_of(api).endpoints, stream_of(api)
    assert endpoints is not None
    sealed = endpoints.named(
        "idp", delivered(receiver.url, authorization_header=SECRET)["delivery"], bytes(12)
    )
    assert endpoints.opened("idp", sealed).authorization() == SECRET
    for other, where in (
        ("other", sealed),
        ("idp", type(sealed)(url="https://evil.example/", authorization=sealed.authorization)),
    ):
        with pytest.raises(Exception, match="cannot be opened"):
            endpoints.opened(other, where).authorization()
    assert stream.stream_id == "idp"
