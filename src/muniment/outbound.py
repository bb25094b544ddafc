"""One question to a server, one answer, within bounds: how witnesses, clocks and key servers are reached.

The standard library, and a new connection for each question: what is asked once a second or less needs no pool, and
only who owns the socket can end it at a deadline. Bounds, so that no peer can hold or fill us:

- the whole exchange has a deadline, also against a server that sends a byte now and then. (Looking up the name is
  bounded by the resolver's own settings.);
- the body has a largest size, and is never unpacked; headers are limited by `http.client`;
- a redirect is not followed: it could lead a token elsewhere. Proxies of the environment are not used.

Every answer that came whole is returned, whatever its status: what it means is for the caller.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from muniment.core.errors import Misconfigured, Unavailable

#: seconds that one question may take
TIMEOUT = 10.0
#: bytes of an answer at most; a checkpoint has under a thousand, a time-stamp a few thousand
LARGEST = 256 * 1024

_URL = re.compile(r"[\x21-\x7e]{1,2000}", re.ASCII)
_CHUNK = 16 * 1024
_SHORTEST, _DAY = 0.1, 86400.0  # seconds


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said."""

    status: int
    headers: Mapping[str, str]  # names in small letters; of several with one name, the last
    body: bytes

    @property
    def content_type(self) -> str:
        """Such as ``text/plain``, in small letters and without parameters; empty if none is given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def wait(self) -> float:
        """Seconds until the server wants to be asked again: a number, or a date (RFC 9110, section 10.2.3); one, if it says none."""
        text = self.headers.get("retry-after", "")
        if text.isascii() and text.isdigit():
            return max(_SHORTEST, float(min(int(text[:9]), _DAY)))
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return 1.0
        return max(_SHORTEST, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def trusting(ca: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later to whom the system's authorities vouch for, or only those in the PEM file ``ca``.

    Raises:
        Misconfigured: ``ca`` holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"{ca} is not a file of certificates: {error}",
            remedy="Name a PEM file with the authority's certificate.",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Http:
    """A client for one kind of server. Threads may share it; it holds no connection.

    Raises, from `get`, `post`, `send` and `delete`: `Unavailable` when no whole answer came, and `Misconfigured` for a URL
    that cannot be asked.
    """

    def __init__(
        self,
        *,
        ca: Path | None = None,
        timeout: float = TIMEOUT,
        largest: int = LARGEST,
        connect: Callable[[tuple[str, int], float], socket.socket] = socket.create_connection,
    ) -> None:
        """Trust the system's authorities, or only those in the PEM file ``ca``. ``connect`` may refuse addresses.

        Raises:
            Misconfigured: ``ca`` holds no certificate.
        """
        self._timeout, self._largest, self._connect = timeout, largest, connect
        self._tls = trusting(ca)

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Answer:
        """Ask for what is at ``url``; within ``timeout`` seconds, if that is less than the client's own."""
        return self._exchange("GET", url, None, dict(headers or {}), timeout)

    def post(
        self,
        url: str,
        body: bytes,
        *,
        content_type: str,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send ``body`` to ``url``. After `Unavailable` it may or may not have had its effect."""
        return self.send("POST", url, body, content_type=content_type, headers=headers, timeout=timeout)

    def send(
        self,
        method: str,
        url: str,
        body: bytes,
        *,
        content_type: str,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send ``body`` by any other method: PATCH, PUT, DELETE. After `Unavailable` it may or may not have had its effect."""
        return self._exchange(method, url, body, {**(headers or {}), "Content-Type": content_type}, timeout)

    def delete(
        self, url: str, headers: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Answer:
        """Have what is at ``url`` removed. After `Unavailable` it may or may not be gone."""
        return self._exchange("DELETE", url, None, dict(headers or {}), timeout)

    def _exchange(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], timeout: float | None
    ) -> Answer:
        parts = split_url(url)
        where = f"{parts.scheme}://{parts.netloc}"
        late = threading.Event()
        limit = self._timeout if timeout is None else min(timeout, self._timeout)
        connection = self._connection(parts, limit)
        try:
            with self._deadline(connection, late, limit):
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request(method, target, body, {"Accept-Encoding": "identity", **headers})
                with connection.getresponse() as response:
                    content = self._body(response, where)
        except (OSError, HTTPException) as error:
            raise _no_answer(where, late, limit, _reason(error)) from error
        except ValueError as error:  # not repeated: the header may be a token
            raise Misconfigured(
                f"what is sent to {where} has a character that no header may have",
                remedy="Check the secret: it is one line of ASCII.",
            ) from error
        if late.is_set():  # a body without a length ends where it was cut
            raise _no_answer(where, late, limit)
        if 300 <= response.status < 400:
            raise Unavailable(
                f"{where} answered {response.status}, a redirect, which is not followed",
                remedy="Configure the URL that it leads to.",
            )
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=found, body=content)

    def _connection(self, parts: SplitResult, limit: float) -> HTTPConnection:
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return HTTPSConnection(host, port, timeout=limit, context=self._tls)
        return HTTPConnection(host, port, timeout=limit)

    @contextmanager
    def _deadline(self, connection: HTTPConnection, late: threading.Event, limit: float) -> Iterator[None]:
        """Connect, and cut the connection when the time is over: TLS sets up under the same deadline."""
        address = (connection.host, connection.port)
        raw = self._connect(address, limit)
        with raw.dup() as handle:
            cut = threading.Timer(limit, _cut, (handle, late))
            cut.daemon = True
            cut.start()
            try:
                tls = isinstance(connection, HTTPSConnection)
                connection.sock = self._tls.wrap_socket(raw, server_hostname=connection.host) if tls else raw
                yield
            finally:
                cut.cancel()
                connection.close()
                raw.close()

    def _body(self, response: HTTPResponse, where: str) -> bytes:
        content = bytearray()
        while chunk := response.read(_CHUNK):
            content += chunk
            if len(content) > self._largest:
                raise Unavailable(
                    f"{where} answered with more than {self._largest} bytes",
                    remedy="Check that the URL is that of the right server.",
                )
        if response.length:  # read() of a part does not complain by itself
            raise HTTPException("the answer ended too early")
        return bytes(content)


def split_url(url: str) -> SplitResult:
    """Take a URL apart.

    Raises:
        Misconfigured: it is not http or https, has no host, or has a name and password in it.
    """
    try:
        parts = urlsplit(url)
        usable = (
            bool(_URL.fullmatch(url)) and parts.scheme in {"http", "https"} and bool(parts.hostname)
            and parts.username is None and parts.password is None and not parts.fragment
            and (parts.port is None or parts.port > 0)
        )  # fmt: skip
    except ValueError:
        usable = False
    if not usable:
        raise Misconfigured(
            f"this is not a URL that can be asked: {url.rpartition('@')[2]!r:.80}",
            remedy="Write it like https://host.example.com/path, without a name or password in it.",
        )
    return parts


def private_base(address: str, whose: str, *, setting: str) -> str:
    """The address of a server that secrets are sent to, without a final slash: TLS, but for one on this machine.

    Raises:
        Misconfigured: it is not such an address.
    """
    remedy = f"Write {setting} like https://bao.example.com:8200."
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise Misconfigured(f"{whose} address is not a URL", remedy=remedy) from error
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise Misconfigured(f"{whose} address is not an http(s) URL of a host", remedy=remedy)
    if parts.query or parts.fragment or not address.isprintable() or " " in address:
        raise Misconfigured(f"{whose} address has more than a host, a port and a path", remedy=remedy)
    if parts.scheme == "http" and not _is_here(host):
        raise Misconfigured(f"{whose} token would go over the network in clear text", remedy=remedy)
    return address.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_answer(where: str, late: threading.Event, limit: float, why: str = "") -> Unavailable:
    if late.is_set():
        why = f"no whole answer within {limit:g} seconds"
    return Unavailable(
        f"{where} did not answer: {why}",
        remedy="Check that it runs, and that it can be reached from here.",
    )


def _cut(handle: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
