"""A server between us and a real service, or in its place: it sees what is asked, and a test says what is answered."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class Front:
    """``rule`` is given method, path and JSON body; it returns an answer, another path to ask for, or None."""

    def __init__(self, port: int) -> None:
        self.asked: list[tuple[str, str, dict[str, str], dict[str, object] | None]] = []
        self.rule: Callable[[str, str, Any], Any] = lambda _method, _path, _body: None
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(content) if content.startswith((b"{", b"[")) else None
                front.asked.append((self.command, unquote(self.path), dict(self.headers), body))
                said = front.rule(self.command, unquote(self.path), body)
                path = said if isinstance(said, str) else self.path
                status, headers, answer = said if isinstance(said, tuple) else self.upstream(path, content)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def upstream(self, path: str, content: bytes) -> tuple[int, dict[str, str], bytes]:
                wanted = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}{path}", content or None, wanted, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=20) as answer:
                        return answer.status, {}, answer.read()
                except urllib.error.HTTPError as error:
                    return error.code, {}, error.read()

            do_PATCH = do_POST = do_DELETE = do_GET  # noqa: N815  the library's names

            def log_message(self, *_: object) -> None:
                """Quietly."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port

    def of(self, method: str, part: str = "") -> list[tuple[str, dict[str, str], dict[str, object] | None]]:
        """Path, headers and body of what was asked by this method."""
        return [each[1:] for each in self.asked if each[0] == method and part in each[1]]

    @contextmanager
    def running(self) -> Iterator[Front]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()
