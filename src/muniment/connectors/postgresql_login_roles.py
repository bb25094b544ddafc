"""The roles that tickets' logins are: their names, the comments that say whose they are, and what we ask about them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from psycopg import sql

from muniment.connectors import postgresql_changes as c
from muniment.connectors.postgresql_session import Query, Row
from muniment.ports import Order

PREFIX = "muniment_"
_TICKET = re.compile(rf"[A-Za-z0-9_-]{{1,{c.MAX_NAME - len(PREFIX)}}}", re.ASCII)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A role that a ticket made, by its comment."""

    role: str
    ticket: str
    account: str


class _Comment(msgspec.Struct, frozen=True, kw_only=True):
    muniment: int  # version of this form
    ticket: str
    account: str


_COMMENT = "shobj_description(r.oid, 'pg_authid')"
_PATTERN = PREFIX.replace("_", "\\_") + "%%"
MEMBERSHIPS: Query = (
    sql.SQL(
        f"SELECT r.rolname, {_COMMENT}, pg_get_userbyid(a.roleid), g.rolname"  # noqa: S608  our own constants
        " FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_auth_members a ON a.member = r.oid"
        f" LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor WHERE r.rolname LIKE '{_PATTERN}' ORDER BY 1, 3, 4"
    ),
    {},
)


def known(roles: Sequence[str]) -> Query:
    """Rows (role, comment) of those that exist."""
    text = (
        f"SELECT r.rolname, {_COMMENT} FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%(names)s::name[])"  # noqa: S608
    )
    return sql.SQL(text), {"names": list(roles)}


def existing(roles: Sequence[str]) -> Query:
    """Rows (role,) of those that exist."""
    return sql.SQL("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%(names)s::name[])"), {
        "names": list(roles)
    }


def owning(role: str) -> Query:
    """Rows (database or None for the server itself, whether it owns anything there)."""
    return sql.SQL("""
        SELECT d.datname, bool_or(s.deptype = 'o') FROM pg_catalog.pg_shdepend s
        LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
        WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.classid <> 'pg_catalog.pg_auth_members'::regclass
        AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %(role)s)
        GROUP BY 1 ORDER BY 1"""), {"role": role}  # fmt: skip


def name_of(ticket: str) -> str:
    """Of a ticket's login. Ids differ in more than case."""
    return f"{PREFIX}{ticket.lower()}"


def login_of(ticket: str) -> str | None:
    """As `name_of`; None for an id that cannot stand in the name of a role."""
    return name_of(ticket) if _TICKET.fullmatch(ticket) else None


def logins(orders: Sequence[Order]) -> list[str]:
    """The roles of their tickets."""
    return sorted({login for order in orders if (login := login_of(order.ticket))})


def by_role(rows: Sequence[Row]) -> dict[str, Login | None]:
    """From the rows of `known`: whose each is, None if it is none of ours."""
    return {name: marked(name, text) for name, text in rows}


def marked(role: str, text: str | None) -> Login | None:
    """Whose login this is; None for a role that we did not make."""
    try:
        said = msgspec.json.decode(text or "", type=_Comment)
    except msgspec.DecodeError:
        return None
    found = Login(role=role, ticket=said.ticket, account=said.account)
    return found if said.muniment == 1 and login_of(said.ticket) == role else None


def comment(ticket: str, account: str) -> str:
    """What stands in the role's comment."""
    return msgspec.json.encode(_Comment(muniment=1, ticket=ticket, account=account)).decode()
