# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""How what was unsealed reaches a command: by its environment, and by files that lie in memory alone (I31).

What a program reads from a file is in an anonymous one, which is on no disk and has no name but that of our own open
descriptor: it is there as long as we wait for the command, for programs of the same user. A token that OpenBao wrapped is
unwrapped here, where it is used: if somebody did so before, it is known now.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from muniment.core.errors import Misconfigured, Refused, Unavailable

if TYPE_CHECKING:
    from muniment.delivery import Issued


class _Auth(msgspec.Struct, frozen=True, kw_only=True):
    client_token: str


class _Unwrapped(msgspec.Struct, frozen=True, kw_only=True):
    auth: _Auth


@contextmanager
def environment(issued: Issued) -> Iterator[dict[str, str]]:
    """The variables of a command that uses this, while the block lasts.

    Raises:
        Refused: a token was unwrapped before.
        Unavailable: OpenBao does not answer.
        Misconfigured: this system has no files in memory.
    """
    env = issued.env | _unwrapped(issued)
    # as programs older than OpenBao call it
    env |= {f"VAULT_{name[4:]}": value for name, value in env.items() if name.startswith("BAO_")}
    with _in_memory(issued.files) as paths:
        yield env | paths


@contextmanager
def _in_memory(files: Mapping[str, str]) -> Iterator[dict[str, str]]:
    if files and not hasattr(os, "memfd_create"):
        raise Misconfigured(
            f"{', '.join(files)} would have to be in a file on the disk on this system",
            remedy="Run it on Linux, which has files in memory.",
        )
    opened: dict[str, int] = {}
    try:
        for name, text in files.items():
            opened[name] = os.memfd_create(name)
            os.fchmod(opened[name], 0o600)  # programs look at that
            with os.fdopen(os.dup(opened[name]), "wb") as file:
                file.write(text.encode())
        # by our own number: the command's own programs do not inherit descriptors, but may look
        yield {name: f"/proc/{os.getpid()}/fd/{number}" for name, number in opened.items()}
    finally:
        for number in opened.values():
            os.close(number)


def _unwrapped(issued: Issued) -> dict[str, str]:
    """Each wrapping token by what it wraps."""
    from muniment.outbound import Http, private_base

    if not issued.wrapped:
        return {}
    ca = os.environ.get("BAO_CACERT") or os.environ.get("VAULT_CACERT")
    http = Http(ca=Path(ca) if ca else None)
    base = private_base(issued.env.get("BAO_ADDR", ""), "the credential's", setting="BAO_ADDR")
    found = {}
    for name in issued.wrapped:
        headers = {"X-Vault-Request": "true", "X-Vault-Token": issued.env[name]}
        if namespace := issued.env.get("BAO_NAMESPACE"):
            headers["X-Vault-Namespace"] = namespace
        url = f"{base}/v1/sys/wrapping/unwrap"
        answer = http.post(url, b"{}", content_type="application/json", headers=headers)
        if answer.status in {400, 403, 404}:
            raise Refused(
                f"{name} cannot be unwrapped: somebody did so before, or it is over",
                remedy="If it was not you, give the access back now and tell whoever looks after OpenBao.",
                code="refused.unwrapped",
            )
        try:
            found[name] = msgspec.json.decode(answer.body, type=_Unwrapped).auth.client_token
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unavailable(
                f"OpenBao answered {answer.status} and no token", remedy="Try again."
            ) from RuntimeError(type(error).__name__)
    return found
