"""RFC 3161 time-stamps: somebody whose business is the time says that a checkpoint was there then.

What is stamped is the SHA-256 of a checkpoint's text, the same text that log and witnesses sign. A stamp is kept as the
authority answered it, so that ``openssl ts -verify`` reads it, too. Certificates need to be valid at the time of the
stamp, not later: evidence outlives them.

`rfc3161-client` parses and verifies; here are the exchange, and one sentence for whatever it finds wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

import msgspec
from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from muniment.core.errors import Misconfigured, StampRefused, StampUnavailable, Unavailable
from muniment.ledger.errors import BadStamp
from muniment.outbound import Http
from muniment.ports import TimeStamp

#: bytes of a stamp at most; with certificates of RSA they have about 6,000
MAX_STAMP = 64 * 1024

_GRANTED = 0


class HttpAuthority(msgspec.Struct, frozen=True, kw_only=True):
    """`ports.TimestampAuthority` at a URL."""

    url: str
    roots: bytes  # PEM of the certificates that its own must lead to
    http: Http

    def stamp(self, text: str) -> TimeStamp:
        """See `ports.TimestampAuthority`."""
        message = text.encode()
        query = (
            TimestampRequestBuilder()
            .data(message)
            .hash_algorithm(HashAlgorithm.SHA256)
            .cert_request(cert_request=True)
        )
        request = query.build()
        try:
            answer = self.http.post(self.url, request.as_bytes(), content_type="application/timestamp-query")
        except Unavailable as error:
            raise StampUnavailable(
                f"the time-stamping authority did not answer: {error.message}", remedy=error.remedy
            ) from error
        if answer.status in {408, 429} or answer.status >= 500:
            raise StampUnavailable(
                f"the time-stamping authority {self.url} answered {answer.status}",
                remedy="It is asked again by itself.",
            )
        if answer.status != 200 or answer.content_type != "application/timestamp-reply":
            raise StampRefused(
                f"the time-stamping authority {self.url} answered {answer.status} and no time-stamp",
                remedy="Check [ledger.timestamps] url.",
            )
        try:
            seconds, name = _verified(answer.body, message, self.roots, request.nonce)
        except BadStamp as fault:
            raise StampRefused(
                f"what {self.url} answered is no time-stamp of this checkpoint: {fault.message}",
                remedy="Check that [ledger.timestamps] roots are those of the authority at that url.",
            ) from fault
        return TimeStamp(authority=name, time=seconds, token=answer.body)


def stamp_check(roots: bytes) -> Callable[[bytes, bytes], tuple[int, str]]:
    """A function from a stamp and a text to the stamp's time, in POSIX seconds, and who made it.

    It raises `BadStamp` unless the stamp is of that text, by an authority that the certificates vouch for.

    Args:
        roots: PEM of the certificates that one believes.

    Raises:
        Misconfigured: there is no certificate in them.
    """
    read_roots(roots)
    return lambda token, text: _verified(token, text, roots, None)


def read_roots(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file.

    Raises:
        Misconfigured: there is none, or it is no such file.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Misconfigured(
            f"the authority's certificates cannot be read: {error}",
            remedy="Name a PEM file with the root certificate of the time-stamping authority.",
        ) from error
    return found


def _verified(token: bytes, text: bytes, roots: bytes, nonce: int | None) -> tuple[int, str]:
    if len(token) > MAX_STAMP:
        raise BadStamp(f"a time-stamp has {MAX_STAMP} bytes at most")
    builder = VerifierBuilder(nonce=nonce)
    for certificate in read_roots(roots):
        builder = (
            builder.add_root_certificate(certificate)
            if certificate.issuer == certificate.subject
            else builder.add_intermediate_certificate(certificate)
        )
    try:
        response = decode_timestamp_response(_ordered(token))
        if response.status != _GRANTED:
            raise BadStamp(
                f"the authority did not grant it: status {response.status} {response.status_string!r:.80}"
            )
        builder.build().verify_message(response, text)
        time = response.tst_info.gen_time
        name = _name(response)
    except (
        VerificationError,
        ValueError,
        TypeError,
        OverflowError,
    ) as error:  # ValueError: it is no such DER
        raise BadStamp(f"the time-stamp does not verify: {error!s:.160}") from error
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()), name


def _name(response: TimeStampResponse) -> str:
    """The subject of the certificate that signed."""
    (signer,) = response.signed_data.signer_infos
    for der in response.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(der)
        if (certificate.issuer, certificate.serial_number) == (signer.issuer, signer.serial_number):
            return certificate.subject.rfc4514_string()
    raise BadStamp("the time-stamp does not hold the certificate that signed it")


def _ordered(token: bytes) -> bytes:
    """The stamp with its certificates in DER's order.

    They are a SET, which DER sorts. OpenSSL, and so many authorities, writes them in the order of the chain, and the
    parser refuses that. No signature covers them, and sorting changes no length.
    """
    try:
        content = _inside(token, 0x30)  # TimeStampResp
        token_at = _after(token, content)  # past the status
        signed = _inside(token, 0xA0, _after(token, _inside(token, 0x30, token_at)))  # past the content type
        at = _inside(token, 0x30, signed)  # SignedData
        for _ in range(3):  # version, digest algorithms, what was signed
            at = _after(token, at)
        first, end = _inside(token, 0xA0, at), _after(token, at)
        parts = []
        while first < end:
            parts.append(token[first : _after(token, first)])
            first = _after(token, first)
    except (IndexError, ValueError):
        return token  # not of this shape, which the parser says better
    return token[: end - sum(map(len, parts))] + b"".join(sorted(parts)) + token[end:]


def _inside(der: bytes, tag: int, at: int = 0) -> int:
    """Where the content of the element at ``at`` begins, if it has this tag."""
    if der[at] != tag:
        raise ValueError(tag)
    return at + 2 + (der[at + 1] & 0x7F if der[at + 1] & 0x80 else 0)


def _after(der: bytes, at: int) -> int:
    """Where the element at ``at`` ends. Lengths are definite in DER."""
    short = der[at + 1]
    if short < 0x80:
        end = at + 2 + short
    else:
        many = short & 0x7F
        end = at + 2 + many + int.from_bytes(der[at + 2 : at + 2 + many], "big")
    if short == 0x80 or end > len(der):
        raise ValueError(end)
    return end
