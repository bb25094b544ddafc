"""The witness over HTTP: three paths, so no framework; granian reads HTTP, in Rust, and in this process.

    POST /add-checkpoint                              from logs
    GET  /<hex of SHA-256 of the origin>/checkpoint   for monitors
    GET  /                                            who this is, for people

Bounds: headers by granian's own limits; a body of `MAX_REQUEST` bytes within `PATIENCE` seconds; so many decided at
once, and the others wait. TLS, and a path before these, are for a proxy: what counts here is signed.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from muniment.core.errors import MunimentError, Unavailable
from muniment.ledger.cosignature import Cosigner
from muniment.native import foreign_threads, wait_for_others
from muniment.witness.deciding import MAX_REQUEST, Reply, add_checkpoint
from muniment.witness.record import Record

#: seconds for a client to send its headers, and again for its body
PATIENCE = 10.0
#: requests decided at once; each is a few milliseconds, and the record has one writer
AT_ONCE = 8

_POST_ONLY = Reply(status=405, body="add-checkpoint is a POST\n")
_READ_ONLY = Reply(status=405, body="this can only be read\n")

log = structlog.get_logger("muniment.witness")

_Scope = Mapping[str, Any]
_Receive = Callable[[], Awaitable[Mapping[str, Any]]]
_Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Witness:
    """An ASGI application."""

    def __init__(
        self, record: Record, cosigners: Sequence[Cosigner], *, now: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        """``now``: POSIX seconds, which cosignatures claim."""
        self._record, self._cosigners, self._now, self._patience = record, tuple(cosigners), now, patience
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            reply = await self._answer(scope, receive)
        except MunimentError as error:
            log.error("the witness cannot answer", error=error.message, code=error.code)  # noqa: TRY400  ours: the sentence says it all
            reply = Reply(status=503, body="the witness cannot use its record; try again later\n")
        body = reply.body.encode()
        headers = [
            (b"content-type", reply.content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if reply.status in {408, 413}:
            headers.append((b"connection", b"close"))  # what it still sends is not read
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: _Scope, receive: _Receive) -> Reply:
        method, path = scope["method"], scope["path"]
        if path == "/add-checkpoint":
            return await self._submitted(receive) if method == "POST" else _POST_ONLY
        if method not in {"GET", "HEAD"}:
            return _READ_ONLY
        if path == "/":
            return Reply(status=200, body="".join(f"witness {each.vkey}\n" for each in self._cosigners))
        first, _, rest = path.removeprefix("/").partition("/")
        if rest == "checkpoint" and len(first) == 64:
            async with self._turn:
                return await asyncio.to_thread(self._latest, first)
        return Reply(status=404, body="there is nothing here\n")

    async def _submitted(self, receive: _Receive) -> Reply:
        body = await self._body(receive)
        if isinstance(body, Reply):
            return body
        async with self._turn:
            now = int(self._now())
            reply = await asyncio.to_thread(add_checkpoint, self._record, self._cosigners, body, now)
        log.info("a checkpoint was submitted", status=reply.status)
        return reply

    async def _body(self, receive: _Receive) -> bytes | Reply:
        """The whole body; a refusal if it is too large or does not come in time."""
        content = bytearray()
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return Reply(status=400, body="the request was cut off\n")
                    content += message.get("body", b"")
                    if len(content) > MAX_REQUEST:
                        return Reply(status=413, body=f"a request has {MAX_REQUEST} bytes at most\n")
                    if not message.get("more_body"):
                        return bytes(content)
        except TimeoutError:
            return Reply(status=408, body=f"the request did not come within {self._patience:g} seconds\n")

    def _latest(self, wanted: str) -> Reply:
        for origin in self._record.logs():
            if hashlib.sha256(origin.encode()).hexdigest() == wanted:
                seen = self._record.seen(origin)
                if seen is not None:
                    return Reply(status=200, body=seen.note)
        return Reply(status=404, body="no checkpoint of such a log was cosigned here\n")


def serve(witness: Witness, host: str, port: int, started: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; requests under way end first.

    Raises:
        Unavailable: the address cannot be listened on.
    """
    from granian.constants import HTTPModes, Interfaces  # noqa: PLC0415  heavy, and needed here alone
    from granian.http import HTTP1Settings  # noqa: PLC0415
    from granian.server.embed import Server  # noqa: PLC0415

    _require_free(host, port)
    before = foreign_threads()
    server = Server(
        witness, address=host, port=port, interface=Interfaces.ASGINL, http=HTTPModes.http1, websockets=False,
        log_enabled=False, http1_settings=HTTP1Settings(header_read_timeout=int(PATIENCE * 1000), max_buffer_size=16384),
    )  # fmt: skip

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        server.on_startup(started)
        await server.serve()

    try:
        asyncio.run(run())
    except (OSError, RuntimeError) as error:
        raise _cannot_listen(host, port, str(error).partition("\n")[0]) from error
    wait_for_others(before)


def _require_free(host: str, port: int) -> None:
    """Granian shares a port with whoever shares it, too; two witnesses on one would each get half of the requests."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise _cannot_listen(host, port, error.strerror or str(error)) from error


def _cannot_listen(host: str, port: int, why: str) -> Unavailable:
    return Unavailable(
        f"{host}:{port} cannot be listened on: {why}",
        remedy="Give --listen an address of this machine and a free port.",
    )
