"""Whose requests those are that nobody is known for: the address they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

#: what one customer of a provider is given at least: addresses within it are one peer
_TOGETHER = 64
#: proxies in a row; a longer list is somebody's own
_MOST_HOPS = 10
NOWHERE = "nowhere"


def peer_of(scope: Mapping[str, Any], proxies: tuple[Network, ...]) -> str:
    """The address that a request comes from, in one form; IPv6 by its network of 64 bits.

    What ``X-Forwarded-For`` says counts only if the connection comes from a proxy that is trusted, and of it only what
    trusted proxies added: from the right, the first address that is none of theirs.
    """
    client = scope.get("client")
    address = _address(client[0]) if client else None
    if address is None:
        return NOWHERE
    if proxies and _trusted(address, proxies):
        for said in _forwarded(scope["headers"]):
            behind = _address(said)
            if behind is None:
                break  # whoever wrote that, it names nobody: the last proxy stands for it
            address = behind
            if not _trusted(address, proxies):
                break
    return _key(address)


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Nearest first."""
    lines = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [each.strip() for each in ",".join(lines).split(",")][: -_MOST_HOPS - 1 : -1] if lines else []


@lru_cache(4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _trusted(address: IPv4Address | IPv6Address, proxies: tuple[Network, ...]) -> bool:
    return any(address in network for network in proxies)


def _key(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, _TOGETHER), strict=False))
