"""Where we connect to on somebody's word (I39): the address is looked up, checked, and then connected to, once.

A name that leads to this machine or its networks, where metadata services and databases are, is refused unless the
configuration allows that network. What was checked is what is connected to, so a name that leads elsewhere a moment
later (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from muniment.core.errors import Misconfigured, Unavailable

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

#: IPv6 addresses that carry an IPv4 address to which a gateway leads: NAT64 (RFC 6052, RFC 8215)
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


class Guard:
    """Connects to what may be connected to. Use it as `outbound.Http`'s ``connect``."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """``allowed``: networks that are reached although they are not public, like 10.1.0.0/16."""
        try:
            self._allowed = tuple(ip_network(each) for each in allowed)
        except ValueError as error:
            raise Misconfigured(
                f"allow is not a list of networks: {error}", remedy='Write it like ["10.1.0.0/16"].'
            ) from error

    def __call__(self, address: tuple[str, int], timeout: float) -> socket.socket:
        """A connection.

        Raises:
            Refused…: see `Blocked`.
            OSError: nobody answers.
        """
        host, port = address
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        blocked: Address | None = None
        trouble: OSError | None = None
        for family, kind, protocol, _, where in found:
            number = ip_address(str(where[0]).partition("%")[0])
            if not self.allows(number):
                blocked = number
                continue
            made = socket.socket(family, kind, protocol)
            made.settimeout(timeout)
            try:
                made.connect(where)
            except OSError as error:
                made.close()
                trouble = error
            else:
                return made
        if trouble is not None:
            raise trouble
        raise Blocked(host, blocked)

    def allows(self, number: Address) -> bool:
        """Whether an address may be connected to."""
        if any(number.version == network.version and number in network for network in self._allowed):
            return True
        return all(
            each.is_global and not (each.is_multicast or each.is_reserved or each.is_unspecified)
            for each in _meant(number)
        )


class Blocked(Unavailable):
    """The name leads into a network that nobody allowed."""

    code = "unavailable.blocked-address"

    def __init__(self, host: str, number: Address | None) -> None:
        super().__init__(
            f"{host:.200} leads to {number}, which is no public address",
            remedy="If it is meant, add its network to allow.",
        )


def _meant(number: Address) -> list[Address]:
    """The address, and every one that it carries."""
    found: list[Address] = [number]
    if isinstance(number, IPv6Address):
        if number.ipv4_mapped is not None:  # another spelling of it, and nothing else
            return [number.ipv4_mapped]
        carried = [number.sixtofour, *(number.teredo or ())]
        if any(number in network for network in _NAT64):
            carried.append(IPv4Address(int(number) & 0xFFFFFFFF))
        if int(number) >> 32 == 0:  # ::a.b.c.d, long deprecated, and still routed by some
            carried.append(IPv4Address(int(number)))
        found += [each for each in carried if each is not None]
    return found
