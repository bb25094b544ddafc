"""What we ask PostgreSQL. Every name travels as a parameter; catalogues are named with their schema.

The casts to ``name[]`` let the catalogues' indexes be used. They would cut a long name, so only names that
`postgresql_changes.possible` lets through are sent, and what comes back is compared as a whole.
"""

# ruff: noqa: S608 - put together from this module's own constants only
from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from psycopg import sql

from muniment.connectors.postgresql_changes import ADMIN_OPTION, ATTRIBUTES, ROLE_ATTRIBUTE, possible
from muniment.connectors.postgresql_session import Kept, Query
from muniment.ports import Order

FIRST_WITH_OPTIONS = 16  # of GRANT: SET, INHERIT; and one membership for each grantor

BEGIN: Query = (sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"), ())
NOW: Query = (sql.SQL("SELECT clock_timestamp()"), ())
NO_OPTIONS = sql.SQL("")

_COLUMNS = ", ".join(ATTRIBUTES.values())
_MEMBERSHIPS = """
    FROM pg_catalog.pg_auth_members a
    JOIN pg_catalog.pg_roles m ON m.oid = a.member
    JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
    LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor"""  # 15 keeps grants of roles that are gone

#: whether we may end a session, by the rules of pg_terminate_backend itself, which would fail the whole query
_MAY_END = """
    (SELECT me.rolsuper OR NOT them.rolsuper AND
        (pg_has_role(them.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))
     FROM pg_catalog.pg_roles me, pg_catalog.pg_roles them
     WHERE me.rolname = current_user AND them.oid = s.usesysid)"""


def grant_options(version: int, *, set_role: bool) -> sql.SQL:
    """What stands behind GRANT … TO …. Without SET a membership is of use only if it is inherited."""
    return (
        NO_OPTIONS if set_role or version < FIRST_WITH_OPTIONS else sql.SQL(" WITH INHERIT TRUE, SET FALSE")
    )


def holdings(accounts: Collection[str] | None) -> Query:
    """Rows (account, privilege, resource, grantor) of these accounts, or of all, from one snapshot."""
    attributes = ", ".join(f"('{name}', m.{column})" for name, column in ATTRIBUTES.items())
    return _of(f"""
        SELECT m.rolname, r.rolname, more.resource, g.rolname {_MEMBERSHIPS}
        CROSS JOIN LATERAL (VALUES (NULL, true), ('{ADMIN_OPTION}', a.admin_option)) more (resource, held)
        WHERE more.held AND (%(names)s::name[] IS NULL OR m.rolname = ANY (%(names)s::name[]))
        UNION ALL
        SELECT m.rolname, more.name, '{ROLE_ATTRIBUTE}', NULL FROM pg_catalog.pg_roles m
        CROSS JOIN LATERAL (VALUES {attributes}) more (name, held)
        WHERE more.held AND (%(names)s::name[] IS NULL OR m.rolname = ANY (%(names)s::name[]))
        ORDER BY 1, 2, 3 NULLS FIRST, 4""", names=None if accounts is None else list(accounts))  # fmt: skip


def nested() -> Query:
    """Rows (inner, outer, resource, grantor) of roles that cannot log in, and so only bring others, from one snapshot.

    An attribute is not inherited, only taken up with SET ROLE; it is all the same what a member can come by.
    """
    attributes = ", ".join(f"('{name}', m.{column})" for name, column in ATTRIBUTES.items())
    return _of(f"""
        SELECT m.rolname, r.rolname, more.resource, g.rolname {_MEMBERSHIPS}
        CROSS JOIN LATERAL (VALUES (NULL, true), ('{ADMIN_OPTION}', a.admin_option)) more (resource, held)
        WHERE more.held AND NOT m.rolcanlogin
        UNION ALL
        SELECT m.rolname, more.name, '{ROLE_ATTRIBUTE}', NULL FROM pg_catalog.pg_roles m
        CROSS JOIN LATERAL (VALUES {attributes}) more (name, held)
        WHERE more.held AND NOT m.rolcanlogin
        ORDER BY 1, 2, 3 NULLS FIRST, 4""")


def brought(names: Collection[str]) -> Query:
    """Rows (privilege, resource) of what a member of these roles can come by: roles that they are in, and attributes."""
    attributes = ", ".join(f"('{name}', r.{column})" for name, column in ATTRIBUTES.items())
    return _of(f"""
        WITH RECURSIVE reached (oid) AS (
            SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ANY (%(names)s::name[])
            UNION
            SELECT a.roleid FROM reached JOIN pg_catalog.pg_auth_members a ON a.member = reached.oid)
        SELECT r.rolname, NULL FROM reached JOIN pg_catalog.pg_roles r ON r.oid = reached.oid
        UNION
        SELECT more.name, '{ROLE_ATTRIBUTE}' FROM reached JOIN pg_catalog.pg_roles r ON r.oid = reached.oid
        CROSS JOIN LATERAL (VALUES {attributes}) more (name, held) WHERE more.held""",
        names=sorted(filter(possible, names)))  # fmt: skip


def facts(orders: Sequence[Order]) -> tuple[Query, Query]:
    """For `postgresql_changes.facts`. By index, without joins: planning and hashing every role took five times as long."""
    accounts = sorted(filter(possible, {o.account for o in orders}))
    privileges = sorted(filter(possible, {item.privilege for o in orders for item in o.scope}))
    roles = f"SELECT rolname, {_COLUMNS} FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::name[])"
    memberships = """
        SELECT pg_get_userbyid(a.member), pg_get_userbyid(a.roleid),
               (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = a.grantor),
               a.grantor = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user), a.admin_option
        FROM pg_catalog.pg_auth_members a
        WHERE a.member = ANY (ARRAY(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::name[])))
        AND a.roleid = ANY (ARRAY(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ANY ($2::name[])))"""
    return Kept(roles, ([*accounts, *privileges],)), Kept(memberships, (accounts, privileges))


def limits(pause: timedelta, patience: timedelta) -> Query:
    """Time-outs of this transaction. A commit is durable before we call it done, whatever the server's default."""
    return _of("""
        SELECT set_config('idle_in_transaction_session_timeout', %(pause)s, true),
               set_config('lock_timeout', %(patience)s, true),
               set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), true)""",
        pause=_milliseconds(pause), patience=_milliseconds(patience))  # fmt: skip


def lock(namespace: int, shards: Sequence[int]) -> Query:
    """Take advisory locks in the order given, until the end of the transaction."""
    return _of(
        "SELECT pg_advisory_xact_lock(%(space)s::int, shard) FROM unnest(%(shards)s::int[]) AS shard",
        space=namespace,
        shards=list(shards),
    )


def end_squatters(namespace: int) -> Query:
    """End sessions of other roles that hold, or wait for, advisory locks of ours."""
    return _of(f"""
        SELECT pg_terminate_backend(s.pid) FROM pg_catalog.pg_stat_activity s
        WHERE s.usename <> current_user AND {_MAY_END} AND s.pid IN (
            SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND classid = %(space)s AND objsubid = 2
            AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))""",
        space=namespace)  # fmt: skip


def end_sessions(version: int, accounts: Sequence[str], since: datetime, pids: Sequence[int] | None) -> Query:
    """End the accounts' sessions that began before ``since``: rows (account, pid, whether we may).

    Also those of roles that may SET ROLE to an account, and through it to what it held. Superusers among them need
    no such way. Without pg_read_all_stats we are not told when a session began: then ``pids`` are meant, or all.
    """
    # not by way of the view pg_stat_activity, whose joins take as long to plan as all the rest
    may_set = "AND a.set_option" if version >= FIRST_WITH_OPTIONS else ""
    text = f"""
        WITH RECURSIVE holder (account, oid) AS (
            SELECT rolname, oid FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::name[])
            UNION
            SELECT h.account, a.member FROM holder h JOIN pg_catalog.pg_auth_members a ON a.roleid = h.oid {may_set}
            JOIN pg_catalog.pg_roles m ON m.oid = a.member AND NOT m.rolsuper)
        SELECT found.account, found.pid, found.may, CASE WHEN found.may THEN pg_terminate_backend(found.pid) END
        FROM (
            SELECT DISTINCT h.account, s.pid, {_MAY_END} AS may
            FROM holder h JOIN pg_catalog.pg_stat_get_activity(NULL) s ON s.usesysid = h.oid
            WHERE s.usesysid <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
                AND (s.backend_start <= $2::timestamptz OR s.backend_start IS NULL
                    AND ($3::int[] IS NULL OR s.pid = ANY ($3::int[])))
        ) found"""
    return Kept(text, (list(accounts), since, None if pids is None else list(pids)))


WHO: Query = (
    sql.SQL("""
        SELECT rolname, rolsuper, rolcreaterole, pg_has_role('pg_signal_backend', 'USAGE'),
               pg_has_role('pg_read_all_stats', 'USAGE')
        FROM pg_catalog.pg_roles WHERE rolname = current_user"""),
    (),
)


def roles(names: Sequence[str]) -> Query:
    """Rows (role, is a superuser, predefined, whether we have its admin option)."""
    return _of("""
        SELECT rolname, rolsuper, rolname LIKE 'pg\\_%%', pg_has_role(oid, 'USAGE WITH ADMIN OPTION')
        FROM pg_catalog.pg_roles WHERE rolname = ANY (%(names)s::name[])""",
        names=sorted(filter(possible, names)))  # fmt: skip


def _of(text: str, **given: object) -> Query:
    return sql.SQL(text), given


def _milliseconds(duration: timedelta) -> str:
    return str(round(duration.total_seconds() * 1000))
