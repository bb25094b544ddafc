"""The client that everything outside is reached by: what it accepts, and what it does not let a peer do to us."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muniment.core.errors import Misconfigured, Unavailable
from muniment.outbound import Http

Talk = Callable[[socket.socket], None]


@contextmanager
def server(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A peer that answers each connection by ``talk``, after the whole request came."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(peer: socket.socket) -> None:
        try:
            with tls.wrap_socket(peer, server_side=True) if tls else peer as wrapped:
                request = b""
                while b"\r\n\r\n" not in request:
                    part = wrapped.recv(65536)
                    if not part:
                        return
                    request += part
                talk(wrapped)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(peer,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def says(raw: bytes) -> Talk:
    return lambda peer: peer.sendall(raw)


def certificate(folder: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for ``host`` that signs itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / f"{host}.pem", folder / f"{host}.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return pem, context


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: Text/X.Tlog.Size; a=b\r\n\r\nabc",
            200,
            b"abc",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, b"abc"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 409 Conflict\r\nContent-Length: 3\r\n\r\n17\n", 409, b"17\n"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, b""),
    ],
)
def test_every_whole_answer_is_returned_whatever_its_status(raw: bytes, status: int, body: bytes):
    with server(says(raw)) as url:
        answer = Http(timeout=20).get(url + "/x")
    assert (answer.status, answer.body) == (status, body)


def test_content_types_are_compared_without_case_and_parameters():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: Text/X.Tlog.Size; a=b\r\n\r\n"
    with server(says(raw)) as url:
        assert Http(timeout=20).get(url).content_type == "text/x.tlog.size"


def test_a_body_and_headers_arrive_as_they_were_given():
    seen = []

    def talk(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            got = b""
            while not got.endswith(b"\x00end"):
                got += peer.recv(65536)
            seen.append(got)
            talk(peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/tsa?x=1"
    Http(timeout=20).post(url, b"\x00end", content_type="application/timestamp-query", headers={"X-A": "b"})
    thread.join(20)
    listener.close()
    head = seen[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0] == "POST /tsa?x=1 HTTP/1.1"
    assert {"Content-Type: application/timestamp-query", "X-A: b", "Content-Length: 4"} <= set(head)


@pytest.mark.parametrize(
    ("what", "talk", "sentence"),
    [
        ("nothing", says(b""), "did not answer"),
        ("not HTTP", says(b"SSH-2.0-OpenSSH\r\n"), "did not answer"),
        ("cut short", says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "ended too early"),
        (
            "cut in a chunk",
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"),
            "did not answer",
        ),
        (
            "too much",
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000),
            "more than 1000 bytes",
        ),
        ("too much, no length", says(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000), "more than 1000 bytes"),
        ("headers for ever", says(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000), "did not answer"),
        ("a line for ever", says(b"HTTP/1.1 200 " + b"x" * 200_000), "did not answer"),
        (
            "elsewhere",
            says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
            "a redirect, which is not followed",
        ),
    ],
)
def test_what_is_no_whole_answer_is_unavailable_and_says_why(what: str, talk: Talk, sentence: str):
    with server(talk) as url, pytest.raises(Unavailable) as caught:
        Http(timeout=20, largest=1000).get(url)
    assert sentence in caught.value.message, what
    assert caught.value.remedy
    assert "302" in caught.value.message or "redirect" not in caught.value.message


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_peer_that_sends_a_byte_now_and_then_is_cut_off(start: bytes):
    stop = threading.Event()

    def drip(peer: socket.socket) -> None:
        peer.sendall(start)
        while not stop.wait(0.05):
            peer.sendall(b"x")  # never a silence as long as the time-out: only the deadline ends it

    with server(drip) as url, pytest.raises(Unavailable, match=r"no whole answer within 0\.5 seconds"):
        Http(timeout=0.5).get(url)
    stop.set()


def test_a_silent_handshake_is_cut_off_too():
    listener = socket.create_server(("127.0.0.1", 0))  # accepts, says nothing
    with pytest.raises(Unavailable, match="did not answer"):
        Http(timeout=0.3).get(f"https://127.0.0.1:{listener.getsockname()[1]}")
    listener.close()


def test_nobody_listening_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="refused"):
        Http(timeout=20).get(f"http://127.0.0.1:{port}")


def test_an_own_authority_is_trusted_and_only_for_its_host(tmp_path: Path):
    ok = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    pem, context = certificate(tmp_path, "127.0.0.1")
    with server(ok, context) as url:
        assert Http(ca=pem, timeout=20).get(url).body == b"hi"
        with pytest.raises(Unavailable, match="certificate is not trusted"):
            Http(timeout=20).get(url)
    other, context = certificate(tmp_path, "elsewhere.example.com")
    with server(ok, context) as url, pytest.raises(Unavailable, match="certificate is not trusted"):
        Http(ca=other, timeout=20).get(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "ftp://example.com/", "http://", "https:///x", "http://a:b@example.com/", "http://h:99999/",
        "http://h:0/", "http://h/#x", "http://h/\r\nX: y", "http://h/a b", "http://h/é", "http://[::1/", "file:///etc",
    ],
)  # fmt: skip
def test_what_is_not_such_a_url_is_refused_and_no_password_is_repeated(url: str):
    with pytest.raises(Misconfigured) as caught:
        Http().get(url)
    assert "a:b" not in caught.value.message


@pytest.mark.parametrize("token", ["abc\r\nX: y", "abc\n", "abc\u2014"])
def test_a_token_that_no_header_may_hold_is_refused_and_not_repeated(token: str):
    ok = says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with server(ok) as url, pytest.raises(Misconfigured) as caught:
        Http(timeout=20).get(url, headers={"X-Vault-Token": token})
    assert "abc" not in caught.value.message


def test_a_file_without_certificates_is_refused(tmp_path: Path):
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    with pytest.raises(Misconfigured, match="not a file of certificates"):
        Http(ca=empty)
    with pytest.raises(Misconfigured, match="not a file of certificates"):
        Http(ca=tmp_path / "missing.pem")


def test_no_thread_or_socket_is_left(recwarn: pytest.WarningsRecorder):
    with server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as url:
        before = threading.active_count()
        client = Http(timeout=20)
        for _ in range(20):
            client.get(url)
        for _ in range(200):
            if threading.active_count() <= before + 1:
                break
            time.sleep(0.01)
        assert threading.active_count() <= before + 1
