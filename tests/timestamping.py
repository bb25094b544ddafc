"""A time-stamping authority made of openssl: real certificates, real stamps, and HTTP around them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIG = """\
[req]
distinguished_name=dn
[dn]
[tsa]
default_tsa=t
[t]
serial=serial
signer_cert=tsa.pem
certs=ca.pem
signer_key=tsa.key
default_policy=1.2.3.4
digests=sha256
signer_digest=sha256
accuracy=secs:1
[ext]
extendedKeyUsage=critical,timeStamping
keyUsage=critical,digitalSignature
"""


def openssl(*words: object, folder: Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)


def make_authority(folder: Path) -> Path:
    """A root, and an authority under it: ``ca.pem`` is what auditors keep."""
    (folder / "tsa.cnf").write_text(_CONFIG)
    (folder / "serial").write_text("01\n")
    new = ("req", "-config", "tsa.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    root = ("-x509", "-days", "9999", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, *root, folder=folder)
    openssl(*new, "-subj", "/CN=tsa", "-keyout", "tsa.key", "-out", "tsa.csr", folder=folder)
    signed = (
        "x509",
        "-req",
        "-in",
        "tsa.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "9999",
    )
    openssl(*signed, "-extfile", "tsa.cnf", "-extensions", "ext", "-out", "tsa.pem", folder=folder)
    return folder


def replied(authority: Path, query: bytes) -> bytes:
    """What the authority answers to a query."""
    (authority / "query").write_bytes(query)
    openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply", folder=authority)
    return (authority / "reply").read_bytes()


def stamped(authority: Path, text: str) -> bytes:
    """A stamp of a text, with nothing of ours between."""
    (authority / "text").write_text(text)
    openssl("ts", "-query", "-data", "text", "-sha256", "-cert", "-out", "asked", folder=authority)
    return replied(authority, (authority / "asked").read_bytes())


@contextmanager
def serving(
    authority: Path, answer: Callable[[bytes], tuple[int, str, bytes]] | None = None
) -> Iterator[str]:
    """Serve the authority, or something that answers worse; yields its URL."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            with lock:
                whole = (
                    (200, "application/timestamp-reply", replied(authority, query))
                    if answer is None
                    else answer(query)
                )
            self.send_response(whole[0])
            self.send_header("Content-Type", whole[1])
            self.send_header("Content-Length", str(len(whole[2])))
            self.end_headers()
            self.wfile.write(whole[2])

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tsa"
    finally:
        server.shutdown()
        server.server_close()
