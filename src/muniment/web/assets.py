"""What pages are made of beside their text: style, scripts and the icon, named by their own digest.

A name never stands for other bytes, so browsers keep them for a year and ask nobody. Read and compressed once, when
first asked for; pages themselves are not compressed, since they hold a secret beside what others wrote (BREACH).
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import NotFound

routes = Routes("pages")

_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file as it is sent."""

    name: str  # muniment.0123456789abcdef.css
    media_type: str
    raw: bytes
    packed: bytes


@cache
def assets() -> dict[str, Asset]:
    """All of them, by the name they are asked for."""
    found: dict[str, Asset] = {}
    for file in (resources.files("muniment.web") / "static").iterdir():
        stem, _, ending = file.name.rpartition(".")
        if ending in _TYPES:
            raw = file.read_bytes()
            name = f"{stem}.{hashlib.sha256(raw).hexdigest()[:16]}.{ending}"
            found[name] = Asset(
                name=name, media_type=_TYPES[ending], raw=raw, packed=gzip.compress(raw, mtime=0)
            )
    return found


@cache
def asset(file: str) -> str:
    """Where a file is found. Raises `KeyError` for one that is not there."""
    stem, _, ending = file.rpartition(".")
    for name in assets():
        if (
            name.startswith(f"{stem}.")
            and name.endswith(f".{ending}")
            and name.count(".") == file.count(".") + 1
        ):
            return f"/static/{name}"
    raise KeyError(file)


@routes.get("/static/{asset}", answer="application/octet-stream", scope=None, quick=True)
def get_asset(call: Call) -> Plain:
    """Get a part of the pages. What it is called says what it is, for ever."""
    found = assets().get(call.names["asset"])
    if found is None:
        raise NotFound("there is no such part of the pages", remedy="Load the page again.")
    packs = "gzip" in (call.header(b"accept-encoding") or "")
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"} | (
        {"Content-Encoding": "gzip"} if packs else {}
    )
    return Plain(body=found.packed if packs else found.raw, media_type=found.media_type, headers=headers)
