"""Signals that are fetched (RFC 8936): from our own transmitter on a socket, and from servers that do it wrong."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws

from api.conftest import ANN, OPS, Api, initialised
from api.test_signals import AUDIENCE, CAEP, ISSUER, claims, recorded, signed
from api.test_signals import KEYS as SIGNING
from muniment.config import load
from muniment.controllers import feeds
from muniment.controllers.feeds import Fetching, fetch
from muniment.core.errors import Misconfigured, MunimentError, Unavailable
from muniment.main import open_polled, open_signals
from muniment.notify.guard import Blocked
from muniment.outbound import Http
from muniment.service.pursuing import pursue
from muniment.service.sealing import seal
from muniment.service.sending import look
from muniment.service.signals import Signals, Transmitter
from muniment.signals.tokens import BadToken, Issuer
from muniment.signals.transmitters import MOST, Polled, RemoteKeys
from muniment.store.delivering import SqlDeliveries
from small_server import Question, Said, serving


@pytest.fixture(autouse=True)
def keys(api: Api) -> None:
    SIGNING["idp"] = api.idp


def receiver(api: Api) -> Signals:
    found = api.office.outward.signals
    assert found is not None
    return found


class Source:
    """A transmitter that answers what it is told to, and remembers what it was told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[dict[str, Any]] = []
        self.bearers: list[str | None] = []

    def answer(self, question: Question) -> Said:
        assert (question.method, question.headers["content-type"]) == ("POST", "application/json")
        self.told.append(json.loads(question.body))
        self.bearers.append(question.headers.get("authorization"))
        said = self.answers.pop(0) if self.answers else {"sets": {}}
        if said is None or isinstance(said, tuple):
            return said
        return 200, said if isinstance(said, bytes) else json.dumps(said).encode(), {}


def sets(*tokens: bytes, more: bool = False) -> dict[str, Any]:
    return {"sets": {f"j{n}": token.decode() for n, token in enumerate(tokens)}, "moreAvailable": more}


def new(**changes: Any) -> bytes:
    return signed(claims({f"{CAEP}session-revoked": {}}, **changes))


def test_what_was_put_on_record_is_acknowledged_and_what_does_not_hold_is_refused(api: Api) -> None:
    jti, before = uuid.uuid4().hex, len(recorded(api))
    source = Source(sets(new(jti=jti), b"x", new(aud="https://other.example.com"), more=True))
    done: list[str] = []
    refused: dict[str, BadToken] = {}
    with serving(source.answer) as server:
        polled = Polled(Http(), server.url, lambda: "t-1")
        assert fetch(receiver(api), polled, done, refused)
        assert [each.jti for each in recorded(api)].count(jti) == 1
        assert not fetch(receiver(api), polled, done, refused)
        assert not fetch(receiver(api), polled, done, refused)
    assert len(recorded(api)) == before + 1
    first, second, third = source.told
    assert (first["maxEvents"], first["returnImmediately"], first["ack"], first["setErrs"]) == (
        MOST,
        True,
        [],
        {},
    )
    assert second["ack"] == ["j0"]
    assert {name: each["err"] for name, each in second["setErrs"].items()} == {
        "j1": "invalid_request",
        "j2": "invalid_audience",
    }
    assert all(each["description"] for each in second["setErrs"].values())
    assert (third["ack"], third["setErrs"]) == ([], {})  # said once
    assert source.bearers == ["Bearer t-1"] * 3


def test_an_acknowledgement_that_got_lost_is_sent_again(api: Api) -> None:
    source = Source(sets(new()), None, (503, b"", {}), sets())
    done: list[str] = []
    refused: dict[str, BadToken] = {}
    with serving(source.answer) as server:
        polled = Polled(Http(), server.url, lambda: None)
        fetch(receiver(api), polled, done, refused)
        for _ in range(2):
            with pytest.raises(Unavailable):
                fetch(receiver(api), polled, done, refused)
        fetch(receiver(api), polled, done, refused)
    assert [each["ack"] for each in source.told] == [[], ["j0"], ["j0"], ["j0"]]
    assert source.bearers == [None] * 4


def test_what_comes_again_is_on_record_once_and_acknowledged_again(api: Api) -> None:
    """As after a crash between putting on record and acknowledging."""
    token, before = new(), len(recorded(api))
    source = Source(sets(token), sets(token))
    with serving(source.answer) as server:
        polled = Polled(Http(), server.url, lambda: None)
        for _ in range(2):
            done: list[str] = []
            fetch(receiver(api), polled, done, {})
            assert done == ["j0"]
    assert len(recorded(api)) == before + 1


def test_where_the_store_fails_nothing_more_is_acknowledged(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, tokens = Source(sets(new(), new(), new())), list[bytes]()
    take = Signals.receive

    def receive(self: Signals, raw: bytes, via: str) -> None:
        tokens.append(raw)
        if len(tokens) == 2:
            raise Unavailable("the store is away")
        take(self, raw, via)

    monkeypatch.setattr(Signals, "receive", receive)
    done: list[str] = []
    with serving(source.answer) as server:
        polled = Polled(Http(), server.url, lambda: None)
        with pytest.raises(Unavailable):
            fetch(receiver(api), polled, done, {})
        assert done == ["j0"]
        fetch(receiver(api), polled, done, {})
    assert source.told[1]["ack"] == ["j0"]


WRONG: dict[str, Any] = {
    "no JSON": b"<html>",
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "deep inside": b'{"sets":{"a":' + b"[" * 100_000,
    "tokens are no texts": {"sets": {"a": 1}},
    "sets is a list": {"sets": []},
    "cut": None,
    "busy": (429, b"{}", {}),
    "not let in": (401, b"{}", {}),
    "a redirect": (307, b"", {"Location": "http://169.254.169.254/latest/meta-data/"}),
    "endless": b" " * 7_000_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_answer_is_tried_again_later(api: Api, what: str) -> None:
    before, source = len(recorded(api)), Source(WRONG[what])
    done = ["kept"]
    with serving(source.answer) as server, pytest.raises(MunimentError) as error:
        fetch(receiver(api), Polled(Http(largest=1 << 20), server.url, lambda: "secret"), done, {})
    assert isinstance(error.value, Unavailable)
    assert "secret" not in error.value.message
    assert done == ["kept"]
    assert len(recorded(api)) == before


def test_a_server_that_hangs_is_not_waited_for(api: Api) -> None:
    go_on = threading.Event()

    def hang(_: Question) -> Said:
        go_on.wait(30)
        return None

    with serving(hang) as server:
        with pytest.raises(Unavailable):
            fetch(receiver(api), Polled(Http(timeout=0.2), server.url, lambda: None), [], {})
        go_on.set()


def test_as_many_of_the_longest_tokens_as_are_asked_for_fit(api: Api) -> None:
    """Else a transmitter with much to say would never be heard."""
    long = b"x" * (64 * 1024)
    polled = open_polled(
        load(with_transmitter(api.folder.parent / "long", "http://127.0.0.1:9/", allow=True))
    )
    refused: dict[str, BadToken] = {}
    with serving(Source(sets(*[long] * MOST)).answer) as server:
        polled[ISSUER]._url = server.url
        fetch(receiver(api), polled[ISSUER], [], refused)
    assert len(refused) == MOST


def test_the_controllers_thread_fetches_and_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "FETCH", 0.01)
    monkeypatch.setattr(feeds, "AWAY", 0.01)
    jti, heard = uuid.uuid4().hex, threading.Event()
    source = Source(None, b"<html>", sets(new(jti=jti)), {"sets": {}})

    def answer(question: Question) -> Said:
        said = source.answer(question)
        if source.told[-1]["ack"]:
            heard.set()
        return said

    with serving(answer) as server:
        polled = {ISSUER: Polled(Http(), server.url, lambda: None)}
        loops = [Fetching(receiver(api), polled, api.desk, f"node-{n}") for n in range(2)]
        for each in loops:
            each.start()
        assert heard.wait(60)
        for each in loops:
            assert each.stop()
    assert [each.jti for each in recorded(api)].count(jti) == 1


# ── our own transmitter, on its socket ──


def ours(api: Api) -> tuple[Signals, Polled]:
    """As another Muniment would be configured: its keys by URL, its stream by its client's token."""
    url, named = api.office.url, api.office.outward.transmitting.url  # type: ignore[union-attr]
    keys = RemoteKeys(Http(), f"{url}/ssf/jwks.json", named)
    issuer = Issuer(issuer=named, audience="https://idp.example.com/caep", algorithms=("RS256",), keys=keys)
    other = Transmitter(issuer=issuer, subjects=("email",))
    signals = Signals(desk=api.desk, transmitters={named: other}, rows=receiver(api).rows)
    return signals, Polled(Http(), f"{url}/ssf/poll/idp", lambda: api.token(OPS, "signals"))


def test_one_muniment_hears_another(api: Api) -> None:
    stream = next(each for each in api.office.outward.sinks if each.name == "signals:idp")
    deliveries = SqlDeliveries(api.desk.store.engine)
    look(api.desk, deliveries, stream)
    ticket = api.active()
    api("POST", f"/v1/requests/{ticket['id']}/revoke", {"reason": "x"}, who=OPS)
    pursue(api.desk, ticket["id"])
    seal(api.desk)
    while look(api.desk, deliveries, stream):
        pass
    signals, polled = ours(api)
    done: list[str] = []
    refused: dict[str, BadToken] = {}
    while fetch(signals, polled, done, refused):
        assert refused == {}
    found = [each for each in recorded(api) if each.issuer in signals.transmitters]
    assert [(each.type, each.subject) for each in found] == [(f"{CAEP}session-revoked", ANN)]
    progress = deliveries.progress(stream.name)
    assert progress is not None
    assert (progress.waiting, progress.lost) == (0, 0)  # acknowledged


# ── I39: where one may be sent ──


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(0.2)
        yield made


def with_transmitter(folder: Path, url: str, *, allow: bool = False) -> Path:
    config = initialised(folder)
    allowed = 'allow = ["127.0.0.0/8"]\n' if allow else ""
    config.write_text(
        f'{config.read_text()}\n[[signals.transmitters]]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\n'
        f'jwks = "{url}jwks"\npoll = "{url}poll"\n{allowed}'
    )
    return config


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_nobody_inside_is_asked_unless_it_is_allowed(
    api: Api, tmp_path: Path, listener: socket.socket, host: str
) -> None:
    port = listener.getsockname()[1]
    config = load(with_transmitter(tmp_path / "access", f"https://{host}:{port}/"))
    with pytest.raises(Blocked):
        open_polled(config)[ISSUER].fetch([], {})
    signals = open_signals(config, api.desk)
    assert signals is not None
    with pytest.raises(Blocked):
        signals.receive(new(), "push")
    with pytest.raises(TimeoutError):
        listener.accept()


def test_plain_http_is_for_networks_that_are_allowed(api: Api, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        load(with_transmitter(tmp_path / "refused", "http://127.0.0.1:9/"))

    def answer(question: Question) -> Said:
        if question.path == "/jwks":
            return 200, json.dumps({"keys": [api.idp.as_dict(private=False)]}).encode(), {}
        return 200, json.dumps(sets(new(jti=jti))).encode(), {}

    jti = uuid.uuid4().hex
    with serving(answer) as server:
        config = load(with_transmitter(tmp_path / "allowed", f"{server.url}/", allow=True))
        signals = open_signals(config, api.desk)
        assert signals is not None
        done: list[str] = []
        fetch(signals, open_polled(config)[ISSUER], done, {})
        assert done == ["j0"]
        assert [each.path for each in server.asked] == ["/poll", "/jwks"]
    assert [each.jti for each in recorded(api)].count(jti) == 1


def test_a_token_of_another_transmitter_counts_by_that_ones_keys(api: Api) -> None:
    """Whoever is fetched from cannot speak for somebody else."""
    said = claims({f"{CAEP}session-revoked": {}}, iss="https://other.example.com")
    forged = jws.serialize_compact(
        {"alg": "RS256", "typ": "secevent+jwt", "kid": "one"}, json.dumps(said), api.idp, algorithms=["RS256"]
    )
    refused: dict[str, BadToken] = {}
    with serving(Source(sets(forged.encode())).answer) as server:
        fetch(receiver(api), Polled(Http(), server.url, lambda: None), [], refused)
    assert refused["j0"].err == "invalid_issuer"
