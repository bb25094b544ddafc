"""A real HTTP server whose answers a test gives, and that remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]  # names in small letters
    body: bytes


#: a status, the body and headers; None: the connection is closed without an answer
Said: TypeAlias = tuple[int, bytes, dict[str, str]] | None


@dataclass
class SmallServer:
    """What it answers may be changed at any time."""

    answer: Callable[[Question], Said]
    url: str = ""
    asked: list[Question] = field(default_factory=list)


@contextmanager
def serving(answer: Callable[[Question], Said]) -> Iterator[SmallServer]:
    """A server on a free port of this machine."""
    made = SmallServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            question = Question(method=self.command, path=self.path, headers=headers, body=body)
            made.asked.append(question)
            said = made.answer(question)
            if said is None:
                self.close_connection = True
                return
            status, content, more = said
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | more).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):  # whoever asked has gone
                self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _respond  # noqa: N815  as http.server names them

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
