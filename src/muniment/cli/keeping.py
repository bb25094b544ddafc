"""Tokens of servers that somebody signed in at, in a file that only they can read."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from muniment.config import read_secret_file
from muniment.core.errors import Misconfigured


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    expires_at: str


@dataclass(frozen=True)
class Kept:
    """The file. It is replaced whole, so a crash leaves the old one or the new one."""

    path: Path

    @classmethod
    def here(cls) -> Kept:
        """Where programs of this user keep such things."""
        base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return cls(Path(base).expanduser() / "muniment/tokens.json")

    def token(self, url: str) -> str | None:
        """The token of a server, if there is one. Whether it is still good, the server says."""
        found = self._read().get(url.rstrip("/"))
        return found.token if found else None

    def keep(self, url: str, token: str, expires_at: str) -> None:
        """Keep a token, in place of an older one."""
        self._write(self._read() | {url.rstrip("/"): _Token(token=token, expires_at=expires_at)})

    def forget(self, url: str) -> bool:
        """Forget a token; return whether there was one."""
        known = self._read()
        there = known.pop(url.rstrip("/"), None) is not None
        if there:
            self._write(known)
        return there

    def _read(self) -> dict[str, _Token]:
        if not self.path.exists():
            return {}
        try:
            return msgspec.json.decode(read_secret_file(self.path), type=dict[str, _Token])
        except msgspec.MsgspecError as error:
            raise Misconfigured(
                f"{self.path} is not what `muniment login` writes", remedy="Remove it, and sign in again."
            ) from error

    def _write(self, tokens: dict[str, _Token]) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes it 0600
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".tokens-")
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(tokens))
            Path(name).replace(self.path)
        except OSError as error:
            raise Misconfigured(
                f"{self.path} cannot be written: {error.strerror}",
                remedy="Check its folder, or set MUNIMENT_TOKEN.",
            ) from error
