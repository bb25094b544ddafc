"""I39: what is connected to is what was checked, and nothing inside unless somebody allowed it."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from muniment.core.errors import Misconfigured, Unavailable
from muniment.notify.guard import Blocked, Guard
from muniment.outbound import Http

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1",
    "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::",
    "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2001:0:7f00:1::80ff:fffe",
]  # fmt: skip


@pytest.mark.parametrize("number", INSIDE)
def test_addresses_inside_are_refused(number: str) -> None:
    assert not Guard().allows(ip_address(number))


@pytest.mark.parametrize(
    "number", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_reached(number: str) -> None:
    assert Guard().allows(ip_address(number))


def test_allowed_networks_are_reached_and_no_others() -> None:
    guard = Guard(["10.1.0.0/16", "fd00::/64"])
    assert guard.allows(ip_address("10.1.2.3"))
    assert guard.allows(ip_address("fd00::1"))
    assert not guard.allows(ip_address("10.2.0.1"))
    with pytest.raises(Misconfigured):
        Guard(["10.1.0.0/33"])


@pytest.fixture
def listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.settimeout(0.3)
    yield made
    made.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"]
)
def test_nothing_connects_inside_however_it_is_written(listener: socket.socket, host: str) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(Unavailable):
        Http(connect=Guard(), timeout=2).get(f"http://{host}:{port}/")
    with pytest.raises(TimeoutError):
        listener.accept()


def test_what_was_checked_is_connected_to(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a name that is public when it is looked up, and inside a moment later, is looked up once."""
    port, asked = listener.getsockname()[1], []
    public = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    def lookup(host: str, *_: object, **__: object) -> list:
        asked.append(host)
        return public if len(asked) == 1 else inside

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    guard = Guard(["192.0.2.0/24"])
    with pytest.raises(OSError):  # 192.0.2.1 is nobody's
        guard(("rebinding.example.com", port), 0.2)
    assert asked == ["rebinding.example.com"]
    with pytest.raises(Blocked):
        guard(("rebinding.example.com", port), 0.2)
    with pytest.raises(TimeoutError):
        listener.accept()


def test_one_bad_address_among_good_ones_is_not_tried(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = listener.getsockname()[1]
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with Guard(["127.0.0.1/32"])(("x.example.com", port), 2) as made:
        assert made.getpeername()[0] == "127.0.0.1"
