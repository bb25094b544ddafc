"""What to change in PostgreSQL for a batch of orders, as data first and as statements last.

A batch is one statement for each privilege, however many accounts it names. Statements are sorted by privilege:
since version 16 GRANT locks the granted role, and two workers that lock in one order cannot block each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Literal, TypeAlias

import msgspec
from psycopg import sql

from muniment.connectors.answering import no
from muniment.connectors.postgresql_session import Busy, Query, Row, Session, StatementRefused
from muniment.core.scope import Holding
from muniment.ports import Order, Outcome

MAX_NAME = 63  # bytes; PostgreSQL cuts longer names and goes on with what is left (F18)
ADMIN_OPTION = "admin option"  # resource of the holding "may give this role to others"
ROLE_ATTRIBUTE = "role attribute"  # resource of the holding "this role is a SUPERUSER", and so on

#: column of pg_roles by attribute
ATTRIBUTES = {
    "SUPERUSER": "rolsuper",
    "CREATEROLE": "rolcreaterole",
    "CREATEDB": "rolcreatedb",
    "REPLICATION": "rolreplication",
    "BYPASSRLS": "rolbypassrls",
}

NOT_ALLOWED = "42501"
_FIRST_LOCK = sql.SQL("SET LOCAL lock_timeout = '1s'")
_NEXT_LOCK = sql.SQL("SET LOCAL lock_timeout = '20ms'")

Verb: TypeAlias = Literal["grant", "revoke", "revoke admin", "alter"]


class Change(msgspec.Struct, frozen=True, order=True):
    """One thing to do to one account."""

    verb: Verb
    privilege: str  # a role; for "alter" an attribute
    account: str


class Facts(msgspec.Struct, frozen=True):
    """What the target holds of the roles that the orders name, read while their accounts are locked to us."""

    version: int  # major
    roles: frozenset[str]
    attributes: frozenset[tuple[str, str]]  # account, attribute
    held: Mapping[tuple[str, str], list[Membership]]  # by account, privilege


class Membership(msgspec.Struct, frozen=True):
    """A row of pg_auth_members. Since 16 there is one a grantor, before that one in all."""

    grantor: str | None  # None: that role is gone (15 only)
    ours: bool  # 15: our role is the grantor. Later the server sees to it by itself
    admin: bool


def possible(name: str) -> bool:
    """Whether PostgreSQL could hold this name at all. Others are never sent."""
    try:
        return 0 < len(name.encode()) <= MAX_NAME and "\0" not in name
    except UnicodeEncodeError:
        return False


def facts(version: int, roles: Iterable[Row], memberships: Iterable[Row]) -> Facts:
    """From rows: (role, attribute…), and (account, privilege, grantor, ours, admin)."""
    rows, held = list(roles), dict[tuple[str, str], list[Membership]]()
    for account, privilege, grantor, ours, admin in memberships:
        held.setdefault((account, privilege), []).append(Membership(grantor, ours, admin))
    return Facts(
        version,
        frozenset(row[0] for row in rows),
        frozenset((row[0], name) for row in rows for name, is_set in zip(ATTRIBUTES, row[1:], strict=True) if is_set),
        held,
    )  # fmt: skip


def to_revoke(order: Order, known: Facts) -> list[Change]:
    """What the order still has to remove. Memberships that others gave are not ours to remove (I17)."""
    changes = []
    for item in order.scope:
        rows = known.held.get((order.account, item.privilege), [])
        # since 16 REVOKE takes our grantor's row only; before, it takes the one row, whoever gave it
        rows = rows if known.version >= 16 else [row for row in rows if row.ours]
        if item.resource is None and rows:
            changes.append(Change("revoke", item.privilege, order.account))
        elif item.resource == ADMIN_OPTION and any(row.admin for row in rows):
            changes.append(Change("revoke admin", item.privilege, order.account))
        elif item.resource == ROLE_ATTRIBUTE and (order.account, item.privilege) in known.attributes:
            changes.append(Change("alter", item.privilege, order.account))
    return changes


def still_held(order: Order, known: Facts) -> list[Holding]:
    """What is there after all, and who gave it."""
    found = []
    for item in order.scope:
        givers: list[str | None] = []
        if item.resource == ROLE_ATTRIBUTE:
            givers = [None] if (order.account, item.privilege) in known.attributes else []
        else:
            rows = known.held.get((order.account, item.privilege), [])
            givers = [row.grantor for row in rows if row.admin or item.resource is None]
        found += [
            Holding(account=order.account, privilege=item.privilege, resource=item.resource, grantor=giver)
            for giver in givers
        ]
    return found


def statements(changes: Iterable[Change], grant_options: sql.SQL) -> list[sql.Composable]:
    """Every change, in as few statements as there are kinds of it. Names are quoted identifiers (I37)."""
    result: list[sql.Composable] = []
    for (verb, privilege), group in groupby(sorted(set(changes)), key=lambda c: (c.verb, c.privilege)):
        accounts = [sql.Identifier(change.account) for change in group]
        role, members = sql.Identifier(privilege), sql.SQL(", ").join(accounts)
        if verb == "grant":
            result.append(sql.SQL("GRANT {} TO {}{}").format(role, members, grant_options))
        elif verb == "revoke":
            result.append(sql.SQL("REVOKE {} FROM {}").format(role, members))
        elif verb == "revoke admin":
            result.append(sql.SQL("REVOKE ADMIN OPTION FOR {} FROM {}").format(role, members))
        elif privilege in ATTRIBUTES:
            plain = sql.SQL(f"ALTER ROLE {{}} NO{privilege}")  # one of five words
            result += [plain.format(account) for account in accounts]
    return result


def apply(
    session: Session,
    wanted: Mapping[int, tuple[Order, list[Change]]],
    grant_options: sql.SQL,
    then: Sequence[Query] = (),
) -> tuple[dict[int, Outcome], list[list[Row]]]:
    """Make the changes and commit: all in one message; if one of them is refused, order by order.

    Returns the outcomes of orders that failed, by the orders' keys, and the rows of ``then``, asked right after the
    commit. A crash, or an error that passes through here, leaves everything or nothing.
    """
    every = statements((change for _, changes in wanted.values() for change in changes), grant_options)
    failed: dict[int, Outcome] = {}
    try:
        return failed, session.run(
            _FIRST_LOCK, sql.SQL("SAVEPOINT batch"), *every, sql.SQL("COMMIT"), then=then
        )
    except (StatementRefused, Busy):
        session.run(sql.SQL("ROLLBACK TO batch"))
    # sorted, so that two workers doing this take the roles' locks in nearly one order
    for key, (order, changes) in sorted(wanted.items(), key=lambda item: sorted(item[1][1])):
        each = statements(changes, grant_options)
        try:
            session.run(sql.SQL("SAVEPOINT one"), *each, sql.SQL("RELEASE one"))
        except StatementRefused as error:
            session.run(sql.SQL("ROLLBACK TO one"))
            kind = "not-allowed" if error.sqlstate == NOT_ALLOWED else "rejected"
            failed[key] = no(order, kind, error.message)
        except Busy as error:
            # it did not happen and may go later; who has waited once for such a lock does not wait for each
            session.run(sql.SQL("ROLLBACK TO one"), _NEXT_LOCK)
            failed[key] = Outcome(
                ticket=order.ticket, result="unknown", code=error.code, message=error.message
            )
    return failed, session.run(sql.SQL("COMMIT"), then=then)
