"""One connection to NATS for one call; and that it is the only one is our lock.

Our own account may have one connection at a time, so while we have it nobody else of us does. The token that we connect
with lives for `PAUSE`: then the server cuts us off, and a worker that was held up changes nothing any more (I19).

The client library is asynchronous throughout, and reconnects by itself. What is asked here is two lines of a text
protocol. Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec

from muniment.connectors import nats_jwt as j
from muniment.connectors.answering import last_look
from muniment.core.errors import TargetUnavailable

PAUSE = 5  # seconds, whole
_AGAIN = 0.02  # seconds between two looks at a lock that is another's, or at what was just changed
_UNANSWERED = (
    1.0  # seconds for which nobody may answer us: while an account is taken up anew, its imports lead nowhere
)
_LARGEST = 16 * 1024 * 1024  # bytes of one message
_TAKEN = "maximum account active connections exceeded"


class Nats(msgspec.Struct, frozen=True, kw_only=True):
    """Where NATS is and who we are there; nothing is kept between calls."""

    name: str  # of the target
    host: str
    port: int
    tls: ssl.SSLContext | None
    timeout: float  # seconds for a whole call
    own: j.Key  # of our own account
    own_account: str
    operator: j.Key
    trusted: frozenset[str]  # public keys that may have signed the account
    account: str

    @contextmanager
    def session(self) -> Iterator[Session]:
        """The only one, for one call. Raises `TargetUnavailable`."""
        until = time.monotonic() + self.timeout
        while True:
            made = Session(self, until)
            with closing(made):
                if made.connect():
                    yield made
                    return
            if made.left() < 0.5:
                raise TargetUnavailable(
                    f"another worker changes {self.name}", remedy="It is tried again.", code="target.busy"
                )
            time.sleep(_AGAIN)


class Session:
    """Raises `TargetUnavailable`, from everything, with no word of the server's (I31)."""

    def __init__(self, nats: Nats, until: float) -> None:
        self._nats, self._until = nats, until
        self._socket: socket.socket | None = None
        self._buffer = bytearray()

    def close(self) -> None:
        """And let others."""
        if self._socket is not None:
            self._socket.close()

    def connect(self) -> bool:
        """Whether we have the lock now."""
        nats = self._nats
        try:
            self._socket = socket.create_connection((nats.host, nats.port), timeout=self.left())
        except OSError as error:
            raise self._silent(type(error).__name__) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        info = self._json(self._expect(b"INFO"))
        if nats.tls is not None:
            try:
                self._socket.settimeout(self.left())
                self._socket = nats.tls.wrap_socket(self._socket, server_hostname=nats.host)
            except OSError as error:
                raise TargetUnavailable(
                    f"{nats.name} does not answer: TLS failed", remedy="Check url and ca."
                ) from RuntimeError(type(error).__name__)
        user = j.new_key("user")
        claims = {
            "sub": user.public, "name": "muniment", "exp": int(time.time()) + PAUSE,
            "nats": {
                "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "issuer_account": nats.own_account,
                "pub": {}, "sub": {},
            },
        }  # fmt: skip
        hello = {
            "jwt": j.token(nats.own, claims), "sig": user.sign(str(info.get("nonce", "")).encode()), "verbose": False,
            "pedantic": False, "protocol": 0, "headers": True, "no_responders": True, "lang": "python", "version": "1",
        }  # fmt: skip
        self._send(b"CONNECT " + msgspec.json.encode(hello) + b"\r\nPING\r\n")
        try:
            self._expect(b"PONG")
        except _Refused as no:
            if no.said == _TAKEN:
                return False
            raise TargetUnavailable(
                f"{nats.name} refused our token", remedy="Check own_account, and what own_key holds."
            ) from None
        return True

    def account(self) -> dict[str, Any]:
        """The claims of the account, as the operator signed them.

        What somebody else signed is not believed, since what we make of it is signed with the operator's key.
        """
        text = self._ask(f"$SYS.REQ.ACCOUNT.{self._nats.account}.CLAIMS.LOOKUP")
        try:
            return j.claims_of(text.decode(), self._nats.account, self._nats.trusted)
        except ValueError as error:
            raise TargetUnavailable(
                f"{self._nats.name} shows no account {self._nats.account} that the operator signed",
                remedy="Check account, and name the operator's other keys: operators.",
            ) from RuntimeError(str(error))

    def push(self, claims: dict[str, Any]) -> None:
        """Have the account be so, and see that it is."""
        text = j.token(self._nats.operator, claims | {"iat": int(time.time())})
        expected = j.claims_of(text, self._nats.account, [self._nats.operator.public])
        self._publish("$SYS.REQ.CLAIMS.UPDATE", "", text.encode())
        while self.account() != expected:
            if self.left() < 0.5:
                raise TargetUnavailable(
                    f"{self._nats.name} does not take the account that we signed",
                    remedy="Check that operator_key is one of the operator's keys; NATS's log says why.",
                )
            time.sleep(_AGAIN)

    def users(self) -> list[str]:
        """Public keys of the users of the account's connections."""
        said = self._json(
            self._ask(f"$SYS.REQ.ACCOUNT.{self._nats.account}.CONNZ", b'{"auth":true,"limit":1000000}')
        )
        try:
            data = msgspec.convert(said["data"], _Connections)
        except (KeyError, msgspec.ValidationError):
            raise self._strange() from None
        return [each.authorized_user for each in data.connections]

    def alone(self) -> bool:
        """Whether nobody else could be connected as we are."""
        second = Session(self._nats, self._until)
        with closing(second):
            return not second.connect()

    def confirmed(self, confirm: Callable[[], None]) -> None:
        """The last moment to find out that the work is another's. The time it takes is not the target's."""
        self._until += last_look(confirm)

    def left(self) -> float:
        """Seconds."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TargetUnavailable(f"{self._nats.name} did not answer in time", remedy="It is tried again.")
        return left

    def _ask(self, subject: str, body: bytes = b"") -> bytes:
        """Ask what changes nothing, again if there was nobody to answer."""
        until = time.monotonic() + min(_UNANSWERED, self.left() / 2)
        while (answer := self._asked(subject, body)) is None:
            if time.monotonic() >= until:
                raise TargetUnavailable(
                    f"{self._nats.name}: nobody answers {subject.partition('.CLAIMS')[0]}",
                    remedy="Our own account needs the imports that `muniment connector show nats` prints.",
                )
            time.sleep(_AGAIN)
        return answer

    def _asked(self, subject: str, body: bytes) -> bytes | None:
        inbox = f"_INBOX.{secrets.token_hex(12)}"
        self._send(f"SUB {inbox} 1\r\n".encode())
        self._publish(subject, inbox, body)
        try:
            kind, *words = self._expect(b"MSG", b"HMSG").split()
            whole = self._take(int(words[-1]) + 2)[:-2]
            headers = int(words[-2]) if kind == b"HMSG" else 0
        except (_Refused, ValueError, IndexError):
            raise self._strange() from None
        self._send(b"UNSUB 1\r\n")
        return None if headers and whole.startswith(b"NATS/1.0 503") else whole[headers:]

    def _publish(self, subject: str, reply: str, body: bytes) -> None:
        self._send(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def _expect(self, *kinds: bytes) -> bytes:
        """The next line of this kind. Raises `_Refused`."""
        while True:
            line = self._line()
            kind = line.partition(b" ")[0].upper()
            if kind in kinds:
                return line
            if kind == b"PING":
                self._send(b"PONG\r\n")
            elif kind == b"-ERR":
                raise _Refused(line.partition(b" ")[2].decode(errors="replace").strip("' ").lower())
            elif kind not in {b"INFO", b"+OK", b"PONG"}:
                raise self._strange()

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer = bytearray(rest)
        return line

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        taken, self._buffer = bytes(self._buffer[:count]), self._buffer[count:]
        return taken

    def _receive(self) -> None:
        connection = self._connected()
        try:
            connection.settimeout(self.left())
            data = connection.recv(65536)
        except OSError as error:
            raise self._silent(type(error).__name__) from None
        self._buffer += data
        if not data or len(self._buffer) > _LARGEST:
            raise self._silent("it ended")

    def _send(self, data: bytes) -> None:
        connection = self._connected()
        try:
            connection.settimeout(self.left())
            connection.sendall(data)
        except OSError as error:
            raise self._silent(type(error).__name__) from None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise AssertionError("unreachable: it is connected first")
        return self._socket

    def _json(self, text: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(text.removeprefix(b"INFO "), type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            raise self._strange() from None

    def _silent(self, why: str) -> TargetUnavailable:
        error = TargetUnavailable(f"{self._nats.name} does not answer", remedy="It is tried again.")
        error.__cause__ = RuntimeError(why)
        return error

    def _strange(self) -> TargetUnavailable:
        return TargetUnavailable(
            f"{self._nats.name} does not speak like NATS, or cut us off", remedy="It is tried again."
        )


class _Refused(Exception):
    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said


class _Connection(msgspec.Struct, frozen=True, kw_only=True):
    authorized_user: str = ""


class _Connections(msgspec.Struct, frozen=True, kw_only=True):
    connections: tuple[_Connection, ...] = ()
