"""What `muniment check` says of a PostgreSQL target: what our role may do there, and what it may not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from muniment.connectors import postgresql_queries as q
from muniment.connectors.answering import unreachable
from muniment.connectors.postgresql_session import Row, Sessions
from muniment.core.errors import TargetUnavailable
from muniment.ports import CheckReport

_OLDEST = 15  # major version; older ones are not tested


class _Us(msgspec.Struct, frozen=True):
    """Our role on the target."""

    name: str
    superuser: bool
    createrole: bool
    signals: bool
    sees_sessions: bool


def report(sessions: Sessions, until: float, catalogue: Sequence[str], *, set_role: bool) -> CheckReport:
    """Reach the target and say what works. Raises nothing that the target causes."""
    try:
        with sessions.begin(until, lambda session: session.ask(q.WHO, q.roles(catalogue))) as (
            session,
            found,
        ):
            version, ((me,), roles) = session.version, found
    except TargetUnavailable as error:
        return unreachable(error)
    us = _Us(*me)
    return CheckReport(
        reachable=True,
        details=(
            f"PostgreSQL {version} answers to the role {us.name}.",
            f"{len(roles)} of {len(catalogue)} roles in the catalogue exist.",
            "Revoking ends all sessions of the account, since SET ROLE outlives REVOKE.",
        ),
        problems=(*_about_us(us, version, set_role=set_role), *_about_roles(us, version, catalogue, roles)),
    )


def _about_us(us: _Us, version: int, *, set_role: bool) -> Iterator[str]:
    with_options = version >= q.FIRST_WITH_OPTIONS
    if version < _OLDEST:
        yield f"PostgreSQL {version} is not supported; {_OLDEST} is the oldest that is tested."
    if not set_role and not with_options:
        yield f"set_role = false needs PostgreSQL {q.FIRST_WITH_OPTIONS}; every grant will be refused."
    if us.superuser:
        yield (
            f"{us.name} is a superuser, which is more than it needs"
            + (
                "; since 16 its grants cannot be told from those of other superusers."
                if with_options
                else "."
            )
            + f" Use a role with the admin option of the roles it gives, and: GRANT pg_signal_backend TO {us.name}."
        )
        return
    if us.createrole and not with_options:
        yield (
            f"{us.name} has CREATEROLE, which before 16 may give nearly any role to anybody, also "
            "pg_execute_server_program, a shell on the server. Upgrade, or give it admin options instead."
        )
    if not us.signals:
        yield f"Sessions cannot be ended, so no revocation will be complete: GRANT pg_signal_backend TO {us.name}."
    if not us.sees_sessions:
        yield (
            "When sessions began is hidden, so a retry may end one that began after the revocation: "
            f"GRANT pg_read_all_stats TO {us.name}."
        )


def _about_roles(us: _Us, version: int, catalogue: Sequence[str], roles: Sequence[Row]) -> Iterator[str]:
    found = {row[0]: row[1:] for row in roles}
    for name in sorted(set(catalogue)):
        if name not in found:
            yield f"There is no role {name}, which is in the catalogue."
            continue
        superuser, predefined, admin = found[name]
        if superuser:
            yield f"{name} is a superuser: who is a member of it can become one by SET ROLE."
        if predefined:
            yield f"{name} is predefined by PostgreSQL: make sure of what it lets people do."
        by_createrole = us.createrole and version < q.FIRST_WITH_OPTIONS and not superuser
        if not (us.superuser or admin or by_createrole):
            yield f"{us.name} cannot give {name}: GRANT {name} TO {us.name} WITH ADMIN OPTION" + (
                ", INHERIT FALSE, SET FALSE." if version >= q.FIRST_WITH_OPTIONS else "."
            )
