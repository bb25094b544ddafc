"""Where somebody wrote a secret itself, though it belongs behind a reference (I31).

What stands in the configuration is read by whoever reviews it; what stands in ``[targets.…]`` is adopted by two people,
and is in the ledger from then on, which forgets nothing. So both are looked through first. This sees a secret by where
it stands: in a URL, in a connection string, under a name that says so. A word like any other is not told from a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from muniment.core.errors import Misconfigured

#: last words of a name whose value is a secret
_WORDS = frozenset({
    "apikey", "auth", "authorization", "credential", "credentials", "key", "passphrase", "passwd", "password", "passwords",
    "pin", "pwd", "secret", "secrets", "sslpassword", "token", "tokens",
})  # fmt: skip
#: before `key`: what everybody may know
_OPEN = frozenset({"foreign", "primary", "public", "sort"})

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])", re.ASCII)
_REFERENCE = re.compile(r"(env|file):\S", re.ASCII)
_PATH = re.compile(r"(/|\./|\.\./|~/)\S", re.ASCII)
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#]*)@")
#: what is asked with a name and password never has them in its URL here
_NO_NAME = frozenset({"http", "https", "ldap", "ldaps"})
#: of connection strings, queries of URLs, arguments of programs
_ASSIGNED = re.compile(r"(?<![A-Za-z0-9_.-])([A-Za-z0-9_.-]+)\s*=\s*(\S+)", re.ASCII)
#: `NAME:PASSWORD@HOST`, without a scheme
_BARE = re.compile(r"[^\s@:/]+:[^\s@/]+@\S+")
_FLAG = re.compile(r"--?([A-Za-z][A-Za-z0-9_.-]*)", re.ASCII)


def says_secret(name: str) -> bool:
    """Whether what has this name is a secret: ``password``, ``api_key``, ``clientSecret``; not ``token_ttl``."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] not in _WORDS:
        return False
    return not (words[-1] == "key" and len(words) > 1 and words[-2] in _OPEN)


def url_with_password(text: str) -> bool:
    """Whether somebody's password, or name where none belongs, is in a URL."""
    return any(
        ":" in found[2] or found[1].lower().rpartition("+")[2] in _NO_NAME
        for found in _USERINFO.finditer(text)
    )


def require_no_userinfo(value: Any, where: str) -> None:
    """Look through a section of the configuration.

    Raises:
        Misconfigured: a password is in a URL. It is not repeated.
    """
    for place, text in _texts(value, where):
        if url_with_password(text):
            raise _wrong(f"{place} has a name or password in its URL")


def require_no_plaintext(settings: Mapping[str, Any], where: str) -> None:
    """Look through what stands in ``[targets.ID]`` for its connector.

    Of its own settings, the types say which are secrets; a name counts where a connector passes on what it is given.

    Raises:
        Misconfigured: a secret stands there. It is not repeated.
    """
    require_no_userinfo(settings, where)
    for name, value in settings.items():
        for place, text in _texts(value, f"{where} {name}"):
            assigned = any(_is_secret(*found.groups()) for found in _ASSIGNED.finditer(text))
            if assigned or (_BARE.fullmatch(text) and not _REFERENCE.match(text)):
                raise _wrong(f"{place} has a secret in its text")
        _require_references(value, f"{where} {name}")


def _require_references(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, str) and inner and _is_secret(str(name), inner):
                raise _wrong(f"{where} has a secret as {str(name)!r:.60}")
            _require_references(inner, f"{where}.{name!s:.60}")
    elif isinstance(value, list | tuple):
        for flag, following in pairwise(value):
            named = _FLAG.fullmatch(flag) if isinstance(flag, str) else None
            if (
                named
                and isinstance(following, str)
                and not following.startswith("-")
                and _is_secret(named[1], following)
            ):
                raise _wrong(f"{where} has a secret after {flag!r:.60}")
        for inner in value:
            _require_references(inner, where)


def _is_secret(name: str, value: str) -> bool:
    """A file that holds a key is named as programs name files; where anything else is, references say."""
    if not says_secret(name) or _REFERENCE.match(value):
        return False
    return not (name.lower().endswith("key") and _PATH.match(value))


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{where}.{name!s:.60}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, where)


def _wrong(what: str) -> Misconfigured:
    return Misconfigured(
        what,
        remedy="Take it out, and write a reference (env:NAME, file:PATH) in the setting for secrets; then change the "
        "secret, which others have read.",
        code="config.plaintext",
    )
