"""Whoever is not signed in is counted by the address they come from, and says it themselves to no avail."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network
from pathlib import Path

import pytest

from api.conftest import ANN, Api
from muniment.api.load import CALLERS, STRANGERS, Load
from muniment.api.peers import NOWHERE, peer_of
from muniment.api.routes import Route
from muniment.config import load
from muniment.core.errors import Busy, Misconfigured

ORDINARY = Route(method="GET", path="/x", run=len, answer=None, scope=None)
URGENT = dataclasses.replace(ORDINARY, urgent=True)
PROXY = ("10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("client", "forwarded", "peer"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # says so itself
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("2001:db8:1:2:aaaa::1", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", [], "2001:db8:1:3::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9"], "203.0.113.9"),  # the client made the first one up
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("fd00::1", ["2001:db8::5"], "2001:db8::/64"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9,"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, " + "10.0.0.2, " * 20 + "10.0.0.4"], "10.0.0.2"),
        ("10.0.0.1", ["\x00\xff' OR 1"], "10.0.0.1"),
        ("not an address", ["203.0.113.9"], NOWHERE),
    ],
)
def test_where_a_request_comes_from(client: str, forwarded: list[str], peer: str) -> None:
    headers = [(b"x-forwarded-for", each.encode("latin-1")) for each in forwarded]
    scope = {"client": (client, 1), "headers": [(b"host", b"x"), *headers]}
    assert peer_of(scope, tuple(map(ip_network, PROXY))) == peer


def test_without_a_proxy_nobody_says_where_others_come_from() -> None:
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"203.0.113.9")]}
    assert peer_of(scope, ()) == "10.0.0.1"
    assert peer_of({"client": None, "headers": []}, ()) == NOWHERE


def test_one_address_takes_nothing_from_another() -> None:
    loaded = Load(rate=5, at_once=64)
    for _ in range(10):
        loaded.count_stranger("192.0.2.1", ORDINARY)
    for _ in range(1000):  # what it is refused is taken from nobody
        with pytest.raises(Busy, match="your address"):
            loaded.count_stranger("192.0.2.1", ORDINARY)
    loaded.count_stranger("192.0.2.2", ORDINARY)
    loaded.count(ANN, ORDINARY)
    for _ in range(100):
        loaded.count_stranger("192.0.2.1", URGENT)


def test_all_of_them_together_have_an_end_and_no_memory() -> None:
    loaded = Load(rate=5, at_once=64)
    refused = 0
    for n in range(CALLERS * 2):
        try:
            loaded.count_stranger(f"peer {n}", ORDINARY)
        except Busy:
            refused += 1
    assert refused > CALLERS * 2 - 5 * STRANGERS * 2 - 1000  # some come back while we count
    assert len(loaded._peers._left) == CALLERS
    loaded.count(ANN, ORDINARY)  # who is known is counted apart


def test_strangers_of_a_server_are_counted_by_address(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.office, "proxies", (ip_network("127.0.0.0/8"),))
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(
        api.office.load, "count_stranger", lambda peer, route: seen.append((peer, route.name))
    )
    api("GET", "/ssf/jwks.json", who=None)
    api("GET", "/ssf/jwks.json", who=None, headers={"X-Forwarded-For": "2001:db8::7"})
    api("GET", "/v1/whoami", headers={"X-Forwarded-For": "2001:db8::7"})
    assert seen == [("127.0.0.1", "signal_keys"), ("2001:db8::/64", "signal_keys")]


@pytest.mark.parametrize("proxies", ['["proxy.example.com"]', '["10.0.0.1/8"]', '["0.0.0.0/0"]', '["::/0"]'])
def test_what_is_no_proxy_is_refused(api: Api, tmp_path: Path, proxies: str) -> None:
    text = (api.folder / "muniment.toml").read_text()
    path = api.folder / "proxies.toml"
    path.write_text(text.replace("[server]\n", f"[server]\nproxies = {proxies}\n"))
    with pytest.raises(Misconfigured, match="proxies"):
        load(path)
