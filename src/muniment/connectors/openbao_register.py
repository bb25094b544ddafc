"""What OpenBao does not tell by itself: which tokens were made for which ticket. A folder in a KV engine of version 2.

An entry says only where to look. Accessors and ids of leases open nothing; whether one is there, and whose a token is,
OpenBao says each time. Whoever writes there can have us overlook what is ours, and end nothing of others'.
"""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from muniment.connectors.openbao_session import Session, is_not_there
from muniment.core.errors import Misconfigured, TargetUnavailable

TICKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)+", re.ASCII)
#: of our own policy: what looking after tokens needs
ACCESSOR_POLICY = """\
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
"""
E = TypeVar("E", bound=msgspec.Struct)


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    data: dict[str, Any] | None = None


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[str, ...]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """As OpenBao shows it to whoever has its accessor."""

    meta: dict[str, str] | None = None
    role: str = ""


class _Role(msgspec.Struct, frozen=True, kw_only=True):
    orphan: bool = False
    token_type: str = ""


class Register(Generic[E]):
    """Entries of one kind, by ticket. Raises `TargetUnavailable`."""

    def __init__(self, name: str, path: str, kind: type[E], *, connector: str) -> None:
        """``name`` is the target's, ``path`` engine and folder, ``connector`` whose policy we tell of. Raises `Misconfigured`."""
        if not _PATH.fullmatch(path):
            raise Misconfigured(
                "register names no folder", remedy="Write it like muniment/tokens: engine, then path."
            )
        self._name, self._kind, self._connector = name, kind, connector
        self._engine, _, self._folder = path.partition("/")

    def tickets(self, session: Session) -> list[str]:
        """All that have an entry."""
        answer = session.ask(f"{self._engine}/metadata/{self._folder}/?list=true")
        if is_not_there(answer, "data"):
            return []
        return [key for key in session.read(answer, _Keys).keys if TICKET.fullmatch(key)]

    def entry(self, session: Session, ticket: str) -> E | None:
        """What is kept of a ticket. Something else than an entry of ours is no answer."""
        answer = session.ask(self._at("data", ticket))
        if is_not_there(answer, "data"):
            return None
        data = session.read(answer, _Stored).data
        try:
            return None if data is None else msgspec.convert(data, self._kind)
        except msgspec.ValidationError as error:
            raise TargetUnavailable(
                f"{self._name}: {self._engine}/{self._folder} holds something that is not ours",
                remedy="Give each target a register of its own.",
            ) from RuntimeError(type(error).__name__)

    def keep(self, session: Session, fence: str, ticket: str, entry: E) -> None:
        """Write an entry, in place of an older one."""
        body = {"data": msgspec.to_builtins(entry)}
        if session.ask(self._at("data", ticket), body, token=fence).status != 200:
            raise self._withheld(session, fence)

    def drop(self, session: Session, fence: str, ticket: str) -> None:
        """Delete an entry."""
        gone = session.ask(self._at("metadata", ticket), token=fence, delete=True)
        if gone.status not in {200, 204}:
            raise self._withheld(session, fence)

    def _at(self, what: str, ticket: str) -> str:
        return f"{self._engine}/{what}/{self._folder}/{quote(ticket, safe='')}"

    def _withheld(self, session: Session, fence: str) -> TargetUnavailable:
        """The register is, from us; or another error is raised, if our turn was over when OpenBao said no."""
        session.require(fence)
        return TargetUnavailable(
            f"{self._name} keeps {self._engine}/{self._folder} from us",
            remedy=f"`muniment connector show {self._connector}` prints the policy that we need.",
        )


# ── tokens that were made for a ticket ──


def unfit(session: Session, name: str, role: str) -> tuple[str, str] | None:
    """Why no token of this role can be made, or taken back: a code, and a sentence without its full stop."""
    answer = session.ask(f"auth/token/roles/{quote(role)}")
    if is_not_there(answer, "data"):
        return "no-such-privilege", f"{name} has no role {role} of tokens"
    if answer.status == 403:
        session.require(session.token)
        return "not-allowed", f"our token may not use the role {role}"
    found = session.read(answer, _Role)
    if not found.orphan:
        return "not-allowed", f"tokens of {role} would end with our own: set orphan=true"
    if found.token_type not in {"service", "default-service"}:
        return "not-allowed", f"tokens of {role} cannot be revoked: set token_type=service"
    return None


def described(ticket: str, account: str, seconds: int) -> dict[str, object]:
    """How a ticket's token is asked for. Its metadata stand in OpenBao's own log at each use."""
    return {
        "meta": {"ticket": ticket, "account": account}, "display_name": ticket,
        "explicit_max_ttl": f"{seconds}s", "ttl": f"{seconds}s", "renewable": False,
    }  # fmt: skip


def token_of(session: Session, ticket: str, accessor: str) -> Token | None:
    """The token, if it is there and is this ticket's."""
    answer = session.ask("auth/token/lookup-accessor", {"accessor": accessor})
    if answer.status == 400 and b"invalid accessor" in answer.body:  # another no proves nothing
        return None
    token = session.read(answer, Token)
    return token if (token.meta or {}).get("ticket") == ticket else None


def end_token(session: Session, name: str, ticket: str, accessor: str) -> bool:
    """Whether it was there; when this returns, OpenBao says that it is not."""
    if token_of(session, ticket, accessor) is None:
        return False
    session.ask("auth/token/revoke-accessor", {"accessor": accessor})
    if token_of(session, ticket, accessor) is not None:
        raise TargetUnavailable(f"{name} keeps a token that we revoked", remedy="It is tried again.")
    return True
