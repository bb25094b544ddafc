"""Keys at a URL, on a real server: they change, are away, and are something else."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from joserfc import jwk, jws

from muniment.core.errors import Misconfigured, MunimentError, Unavailable
from muniment.outbound import Http
from muniment.published import Published, fetch
from muniment.signals.tokens import BadToken, Issuer, read
from muniment.signals.transmitters import RemoteKeys
from small_server import Question, Said, serving

ISSUER, AUDIENCE = "https://idp.example.com", "https://muniment.example.com"
NOW = datetime(2026, 11, 26, 10, tzinfo=UTC)
ONE, TWO = (jwk.RSAKey.generate_key(2048, {"kid": name}) for name in ("one", "two"))


def key_set(*keys: Any) -> bytes:
    return json.dumps(
        {"keys": [k if isinstance(k, dict) else k.as_dict(private=False) for k in keys]}
    ).encode()


def found(body: bytes) -> Said:
    return 200, body, {}


class Transmitter:
    """A URL with keys, and how a token by one of them fares at a time."""

    def __init__(self, *keys: Any, timeout: float = 10.0) -> None:
        self.said: Said = found(key_set(*keys))
        self._timeout = timeout

    def __enter__(self) -> Self:
        self._serving = serving(lambda _: self.said)
        self.server = self._serving.__enter__()
        self.keys = RemoteKeys(Http(timeout=self._timeout), f"{self.server.url}/jwks", ISSUER)
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)

    @property
    def asked(self) -> int:
        return len(self.server.asked)

    def fares(self, key: Any, after: float, **header: Any) -> str:
        """Seconds after the beginning; "taken", or why not."""
        now = NOW + timedelta(seconds=after)
        said = {
            "iss": ISSUER, "aud": AUDIENCE, "iat": int(now.timestamp()), "jti": "1", "sub_id": {"format": "opaque"},
            "events": {"https://events.example.com/x": {}},
        }  # fmt: skip
        head = {"alg": "RS256", "typ": "secevent+jwt", "kid": key.kid} | header
        token = jws.serialize_compact(head, json.dumps(said), key, algorithms=["RS256"]).encode()
        issuer = Issuer(issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",), keys=self.keys)
        try:
            read(token, {ISSUER: issuer}, now)
        except BadToken as error:
            return error.err
        except MunimentError as error:
            return error.code
        return "taken"


def test_keys_are_read_once_and_again_when_they_are_old_or_one_is_new() -> None:
    with Transmitter(ONE) as at:
        assert [at.fares(ONE, t) for t in (0, 1, 599)] == ["taken"] * 3
        assert at.asked == 1
        assert at.fares(ONE, 600) == "taken"
        assert at.asked == 2
        at.said = found(key_set(TWO, ONE))  # both, while the transmitter changes over …
        assert at.fares(TWO, 605) == "invalid_key"  # not more often than every ten seconds
        assert at.asked == 2
        assert at.fares(TWO, 610) == "taken"
        assert at.asked == 3
        at.said = found(key_set(TWO))  # … and then the new one alone
        assert at.fares(ONE, 615) == "taken"
        assert at.fares(ONE, 1211) == "invalid_key"  # what was withdrawn is not believed for longer
        assert at.fares(TWO, 1212) == "taken"


def test_keys_are_asked_for_seldom_whatever_tokens_name() -> None:
    with Transmitter(ONE) as at:
        at.fares(ONE, 0)
        for second in range(60):
            assert at.fares(TWO, second, kid=f"unheard of {second}") == "invalid_key"
        assert at.asked <= 1 + 60 / 10
        assert at.fares(ONE, 60) == "taken"


def test_while_nobody_answers_what_is_known_is_believed_for_a_day() -> None:
    with Transmitter(ONE) as at:
        at.said = None
        assert at.fares(ONE, 0) == "unavailable"
        assert at.fares(ONE, 5) == "unavailable.issuer"
        assert at.asked == 1  # not for each token
        at.said = found(key_set(ONE))
        assert at.fares(ONE, 10) == "taken"
        at.said = 503, b"", {}
        assert at.fares(ONE, 3600) == "taken"
        assert at.fares(TWO, 7200) == "invalid_key"
        assert at.fares(ONE, 10 + 86399) == "taken"
        assert at.fares(ONE, 10 + 86400) == "unavailable.issuer"
        at.said = found(key_set(ONE))
        assert at.fares(ONE, 20 + 86400) == "taken"


#: 1024 bits
WEAK = {"kty": "RSA", "kid": "one", "e": "AQAB", "n": "w" * 170 + "E"}
WRONG: dict[str, Said] = {
    "nothing": found(b""),
    "no JSON": found(b"<html>"),
    "no text": found(b"\xff\xfe"),
    "deep": found(b"[" * 100_000),
    "deep inside": found(b'{"keys":[' + b'{"a":' * 100_000),
    "a list": found(b"[]"),
    "no keys": found(b'{"keys":[]}'),
    "keys are no objects": found(b'{"keys":[1,null,"x",[]]}'),
    "a shared secret": found(key_set({"kty": "oct", "k": "c2VjcmV0", "kid": "one"})),
    "for another use": found(key_set({**ONE.as_dict(private=False), "use": "enc"})),
    "too short": found(key_set(WEAK)),
    "not there": (404, b"", {}),
    "broken": (500, key_set(ONE), {}),
    "made, not found": (201, key_set(ONE), {}),
    "endless": found(b'{"keys":[' + b" " * 300_000),
    "cut": None,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_set_of_keys_signs_nothing_and_replaces_nothing(what: str) -> None:
    with Transmitter(ONE) as at:
        good, at.said = at.said, WRONG[what]
        assert at.fares(ONE, 0).startswith(("unavailable", "config.jwks"))
        at.said = good
        assert at.fares(ONE, 10) == "taken"
        at.said = WRONG[what]
        assert at.fares(ONE, 700) == "taken"
        assert at.asked == 3


def test_a_key_that_cannot_be_used_leaves_the_others() -> None:
    odd = [
        {"kty": "EC", "crv": "P-0", "x": "x", "y": "y", "kid": "odd"},
        {"kty": "RSA"},
        {"kty": "new"},
        WEAK,
    ]
    with Transmitter(*odd, TWO) as at:
        assert at.fares(TWO, 0) == "taken"


def test_a_private_key_that_somebody_publishes_is_used_as_its_public_half() -> None:
    with Transmitter(ONE.as_dict(private=True)) as at:
        assert at.fares(ONE, 0) == "taken"


def test_a_redirect_leads_nowhere() -> None:
    with Transmitter(ONE) as other, Transmitter(ONE) as at:
        for status in (301, 302, 303, 307, 308):
            at.said = status, b"", {"Location": f"{other.server.url}/jwks"}
            assert at.fares(ONE, status) == ("unavailable" if status == 301 else "unavailable.issuer")
        assert other.asked == 0


def test_a_server_that_hangs_is_not_waited_for() -> None:
    go_on = threading.Event()
    with Transmitter(ONE, timeout=0.2) as at:
        at.server.answer = lambda _: at.said if go_on.wait(30) else None
        assert at.fares(ONE, 0) == "unavailable"
        go_on.set()
        assert at.fares(ONE, 10) == "taken"


def test_while_one_asks_the_others_go_on_with_what_is_known() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slowly(_: Question) -> Said:
        asked.set()
        assert go_on.wait(30)
        return found(b"2")

    with serving(lambda _: found(b"1")) as server:
        value = Published(lambda _: int(fetch(Http(), server.url)), "somebody")
        assert value.current(NOW) == 1
        server.answer, later, got = slowly, NOW + timedelta(hours=1), list[int]()
        asks = threading.Thread(target=lambda: got.append(value.current(later)))
        asks.start()
        assert asked.wait(30)
        assert value.current(later) == 1  # and not waiting: only this thread lets the server go on
        go_on.set()
        asks.join()
        assert got == [2]
        assert value.current(later) == 2
        assert len(server.asked) == 2


def test_of_many_who_have_nothing_one_asks() -> None:
    together, got = threading.Barrier(8), list[int]()
    with serving(lambda _: found(b"1")) as server:
        value = Published(lambda _: int(fetch(Http(), server.url)), "somebody")

        def need() -> None:
            together.wait()
            got.append(value.current(NOW))

        threads = [threading.Thread(target=need) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert got == [1] * 8
        assert len(server.asked) == 1


def test_what_cannot_be_read_at_first_is_said() -> None:
    def refuse(_: datetime) -> int:
        raise Misconfigured("not what it should be")

    value = Published(refuse, "somebody")
    with pytest.raises(Misconfigured):
        value.current(NOW)
    with pytest.raises(Unavailable):
        value.current(NOW)
