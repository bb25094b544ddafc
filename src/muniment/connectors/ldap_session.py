"""One bound connection to a directory, with an end to every wait, and answers as codes.

The library's own errors never leave here: they can quote what was sent. A connection serves one call.
"""

from __future__ import annotations

import ipaddress
import math
import ssl
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from muniment.connectors.kinds import Secret
from muniment.core.errors import Invalid, TargetUnavailable

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # ldap3 asks pyasn1 for names that it renamed
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.utils.conv import escape_filter_chars

#: result codes of RFC 4511, and what they mean to us
OK, NO_SUCH_ATTRIBUTE, ALREADY, NO_SUCH_OBJECT, CLASS_VIOLATION, EXISTS = 0, 16, 20, 32, 65, 68
NOT_ALLOWED, UNWILLING, TOO_LONG_A_LIST = 50, 53, 4
_AWAY = {51: "it is busy", 52: "it is not available", 3: "its time limit was reached"}
PERMISSIVE_MODIFY = "1.2.840.113556.1.4.1413"  # adding what is there, and deleting what is not, succeed
_PAGE = 500  # entries


class Entry(msgspec.Struct, frozen=True):
    """An entry as found; names of attributes in lower case."""

    dn: str
    attributes: Mapping[str, tuple[str, ...]]

    def values(self, name: str) -> tuple[str, ...]:
        """All values of one attribute."""
        return self.attributes.get(name.lower(), ())


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is, and who we are there."""

    name: str  # of the target, for messages
    url: str
    starttls: bool
    ca: Path | None
    bind_dn: str
    password: Secret
    timeout: float  # seconds, for each call in all

    def require_secrecy(self) -> None:
        """Raise `Invalid` if the password would cross a network in clear."""
        url = urlsplit(self.url)
        if url.scheme not in {"ldap", "ldaps"} or not url.hostname or url.path.strip("/"):
            raise Invalid("url is not that of a directory", remedy='Write "ldaps://ldap.example.com".')
        if url.scheme == "ldaps" or self.starttls or url.hostname == "localhost":
            return
        with suppress(ValueError):
            if ipaddress.ip_address(url.hostname).is_loopback:
                return
        raise Invalid(
            "the password would cross the network in clear",
            remedy="Use an ldaps:// URL, or add starttls = true.",
        )

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A bound connection for one call. Raises `TargetUnavailable` for whatever stands in the way."""
        until = time.monotonic() + self.timeout
        url = urlsplit(self.url)
        tls = ldap3.Tls(
            validate=ssl.CERT_REQUIRED,
            ca_certs_file=str(self.ca) if self.ca else None,
        )
        server = ldap3.Server(
            url.hostname, port=url.port or (636 if url.scheme == "ldaps" else 389), use_ssl=url.scheme == "ldaps",
            tls=tls, get_info=ldap3.NONE, connect_timeout=self.timeout,
        )  # fmt: skip
        connection = ldap3.Connection(
            server, user=self.bind_dn, password=self.password.reveal(), client_strategy=ldap3.SAFE_SYNC,
            receive_timeout=max(1, math.floor(self.timeout)), auto_referrals=False, check_names=False,
        )  # fmt: skip
        session = Session(connection, self.name, until)
        try:
            session.run(connection.open, read_server_info=False)
            if self.starttls:
                session.run(connection.start_tls, read_server_info=False)
            code = session.run(connection.bind)
            if code != OK:
                raise TargetUnavailable(
                    f"{self.name} refused our name or password (result {code})",
                    remedy=f"Check bind_dn, and what {self.password.reference} holds.",
                )
            yield session
        finally:
            left = connection.socket
            with suppress(LDAPException, OSError):
                connection.unbind()
            if left is not None:
                left.close()  # the library forgets one that never connected


class Session:
    """What can be asked."""

    def __init__(self, connection: Any, name: str, until: float) -> None:
        self._connection, self.name, self.until = connection, name, until

    def search(
        self, base: str, query: str, attributes: Sequence[str], *, scope: str = ldap3.SUBTREE
    ) -> list[Entry]:
        """All entries, page by page; none where the base does not exist."""
        found: list[Entry] = []
        cookie: bytes | str | None = None
        while True:
            code, result, entries = self._ask(
                self._connection.search, base, query, search_scope=scope, attributes=list(attributes),
                paged_size=None if scope == ldap3.BASE else _PAGE, paged_cookie=cookie,
            )  # fmt: skip
            if code == NO_SUCH_OBJECT:
                return found
            if code == TOO_LONG_A_LIST:
                raise TargetUnavailable(
                    f"{self.name} does not show our account all entries below {base}",
                    remedy="Raise its limit there; in OpenLDAP that is olcLimits.",
                )
            if code != OK:
                raise TargetUnavailable(
                    f"{self.name} does not let us search below {base} (result {code})",
                    remedy="Give our account the right to read there.",
                )
            found += [_entry(each) for each in entries if each["type"] == "searchResEntry"]
            control = (result.get("controls") or {}).get("1.2.840.113556.1.4.319")
            cookie = control["value"]["cookie"] if control else None
            if not cookie:
                return found

    def controlled(
        self, base: str, query: str, attributes: Sequence[str], control: Any
    ) -> tuple[int, Mapping[str, Any], list[Entry]]:
        """One answer under a control: the result code, the result with the controls of the answer, entries."""
        code, result, entries = self._ask(
            self._connection.search, base, query, attributes=list(attributes), controls=[control]
        )
        return code, result, [_entry(each) for each in entries if each["type"] == "searchResEntry"]

    def modify(self, dn: str, changes: Mapping[str, Any], *, permissive: bool = False) -> int:
        """Change an entry; the result code."""
        controls = [(PERMISSIVE_MODIFY, True, None)] if permissive else None
        return self._ask(self._connection.modify, dn, dict(changes), controls=controls)[0]

    def try_modify(self, dn: str, changes: Mapping[str, Any], control: tuple[str, bool, None]) -> int:
        """What would come of a change, where a control keeps it from happening; the result code."""
        return self._ask(self._connection.modify, dn, dict(changes), controls=[control])[0]

    def add(self, dn: str, attributes: Mapping[str, Any]) -> int:
        """Make an entry; the result code."""
        return self._ask(self._connection.add, dn, attributes=dict(attributes))[0]

    def delete(self, dn: str) -> int:
        """Delete an entry; the result code."""
        return self._ask(self._connection.delete, dn)[0]

    def refresh(self, dn: str, seconds: int) -> int:
        """Let a dynamic entry live this long from now (RFC 2589); the result code."""
        body = _ber(0x80, dn.encode()) + _ber(0x81, _integer(seconds))
        return self._ask(
            self._connection.extended, "1.3.6.1.4.1.1466.101.119.1", _ber(0x30, body), no_encode=True
        )[0]

    def run(self, call: Any, *arguments: Any, **options: Any) -> int:
        """Something of the connection's that has no entries; the result code."""
        return self._ask(call, *arguments, **options)[0]

    def _ask(
        self, call: Any, *arguments: Any, **options: Any
    ) -> tuple[int, Mapping[str, Any], Sequence[Any]]:
        left = self.until - time.monotonic()
        if left <= 0:
            raise self._away("there was no answer in time")
        try:
            if self._connection.socket is not None and not self._connection.closed:
                self._connection.socket.settimeout(left)
            answer = call(*arguments, **options)
        except KeyError as error:  # the library's decoder, of a result code that no standard knows
            if error.args and isinstance(error.args[0], int):
                return error.args[0], {}, ()
            raise self._away("its answer cannot be read") from RuntimeError("KeyError")
        except (LDAPException, OSError, ssl.SSLError) as error:
            raise self._away(_reason(error)) from RuntimeError(type(error).__name__)
        if not isinstance(answer, tuple):  # opening and TLS have no result
            return OK, {}, ()
        result, entries = answer[1], answer[2]
        if result["result"] in _AWAY:
            raise self._away(_AWAY[result["result"]])
        return result["result"], result, entries or ()

    def _away(self, why: str) -> TargetUnavailable:
        return TargetUnavailable(f"{self.name} does not answer: {why}", remedy="It is tried again.")


def filtered(value: str) -> str:
    """A value as it may stand in a filter."""
    return str(escape_filter_chars(value))


def _entry(found: Mapping[str, Any]) -> Entry:
    attributes = {
        name.lower(): tuple(value.decode(errors="backslashreplace") for value in values or ())
        for name, values in found["raw_attributes"].items()
    }
    return Entry(found["dn"], attributes)


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if "certificate" in text or "hostname" in text:
        return "its TLS certificate is not one that we believe"
    if "refused" in text:
        return "it refuses connections"
    if "timed out" in text or "timeout" in text or "temporarily unavailable" in text:
        return "there was no answer in time"
    if "name or service" in text or "getaddrinfo" in text or "invalid server address" in text:
        return "the name of its host is unknown"
    return "the connection broke"


def _ber(tag: int, value: bytes) -> bytes:
    """One element in BER: short lengths, then the long form."""
    size = len(value)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + value


def _integer(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 8) // 8), "big")
