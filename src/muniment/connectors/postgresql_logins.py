"""PostgreSQL logins that live as long as a ticket: CREATE ROLE, and gone with it. Versions 15 to 18.

Each ticket has a login role of its own, ``muniment_<ticket>``, a member of what was approved; so the server's log names
the ticket at each line. Its comment says whose it is. The password is sealed to the beneficiary's key before it leaves
this file, and PostgreSQL is only told its SCRAM verifier: neither is in any log (I31).

1. lock the tickets to us, read their roles; ``confirm``: the work is still ours
2. CREATE ROLE, COMMENT, GRANT, in one transaction. A crash before the commit leaves nothing. One after it leaves a
   role whose password nobody knows: the same order finds it, and sets another
3. to revoke: NOLOGIN, commit, end its sessions, give away what it owns in each database, DROP ROLE. A crash in between
   leaves a role that nobody can log in with, and the order is still due

VALID UNTIL refuses new logins from the ticket's end on, even while Muniment is away. It ends no session, so that
counts as no expiry of the target's own.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

import msgspec
from msgspec.structs import replace
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from muniment import delivery
from muniment.connectors import postgresql_changes as c
from muniment.connectors import postgresql_login_roles as r
from muniment.connectors import postgresql_queries as q
from muniment.connectors.answering import fault, no, sealed, unknown
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.postgresql import brought
from muniment.connectors.postgresql_check import report
from muniment.connectors.postgresql_ending import Ended, end_sessions
from muniment.connectors.postgresql_session import Busy, Query, Row, Session, Sessions, StatementRefused
from muniment.connectors.postgresql_turn import confirmed, turn
from muniment.core.errors import Invalid
from muniment.core.instants import parse_duration, wire
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

MAX_ACCOUNT = 200  # characters; it is the beneficiary's name here, and no role's


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    dsn: Secret  # Reference to a libpq connection string or URL.
    timeout: str = "10s"  # For each call in all.
    #: Role that inherits what a login owned when it ends; our own role must be a member. None: such a login is
    #: locked, stays, and is overdue.
    reassign_to: str = ""
    host: str = ""  # What beneficiaries connect to, if it is another than in `dsn`.
    port: int = 0  # Likewise.
    database: str = ""  # Likewise.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    for privilege in catalogue:
        _check_names("any", (privilege,))
    return PostgreSQLLogins(
        settings.dsn.reveal(),
        name=name,
        reference=settings.dsn.reference,
        timeout=parse_duration(settings.timeout),
        reassign_to=settings.reassign_to,
        address={
            "PGHOST": settings.host,
            "PGPORT": str(settings.port or ""),
            "PGDATABASE": settings.database,
        },
        catalogue=[privilege.privilege for privilege in catalogue],
    )


class PostgreSQLLogins:
    """See `muniment.ports.Connector`; an account is whom a login is for, a privilege a role that it is a member of."""

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=True,
        issues_credential=True,
        needs_public_key=True,
        lists_everything=True,
        effective_scope=True,
        usage_log=True,
        grant="login",
        separate=True,
    )

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        reference: str = "its dsn",
        timeout: timedelta = timedelta(seconds=10),
        pause: timedelta = timedelta(seconds=5),
        reassign_to: str = "",
        address: Mapping[str, str] | None = None,
        catalogue: Sequence[str] = (),
        password: Callable[[], str] = lambda: secrets.token_urlsafe(24),
    ) -> None:
        """As `PostgreSQL`; ``address`` is what beneficiaries are told, by libpq's variables, before what ``dsn`` says."""
        self._dsn, self._name, self._reference = dsn, name, reference
        self._timeout, self._pause, self._heir = timeout, pause, reassign_to
        self._catalogue, self._password = tuple(catalogue), password
        self._sessions = Sessions(dsn, name=name, reference=reference, timeout=timeout)
        given = conninfo_to_dict(dsn)
        known = {"PGHOST": given.get("host"), "PGPORT": given.get("port"), "PGDATABASE": given.get("dbname")}
        told = {key: value for key, value in (address or {}).items() if value}
        self._address = {key: str(value) for key, value in known.items() if value} | told
        self.close = weakref.finalize(self, self._sessions.close)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        _check_names(account, scope)
        if key is not None:
            delivery.recipient(key)

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        found = report(self._sessions, self._sessions.deadline(), self._catalogue, set_role=True)
        return replace(
            found,
            details=(*found.details, "A login's password is sealed to the key in the request."),
            least_privilege=LEAST_PRIVILEGE,
        )

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. A login that is locked and could not be dropped still holds what it holds."""
        with self._sessions.begin(self._sessions.deadline(), lambda session: session.ask(r.MEMBERSHIPS)) as (
            _,
            (rows,),
        ):
            found = [
                Holding(account=login.account, privilege=role, grantor=grantor, ticket=login.ticket)
                for name, comment, role, grantor in rows
                if (login := r.marked(name, comment)) and (accounts is None or login.account in accounts)
            ]
        return Observation(holdings=tuple(found))

    def brings(self, wanted: Scope) -> Scope:
        """See `Bringing`."""
        return brought(self._sessions, wanted)

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        names = sorted(
            {item.privilege for order in orders for item in order.scope if c.possible(item.privilege)}
        )
        with self._turn(orders, r.known(r.logins(orders)), r.existing(names)) as (session, (rows, existing)):
            known, roles = r.by_role(rows), {name for (name,) in existing}
            plans = [self._refusal(order, known, roles) for order in orders]
            confirmed(session, confirm)
            outcomes = [
                no or self._create(session, order, known) for order, no in zip(orders, plans, strict=True)
            ]
            session.run(sql.SQL("COMMIT"))
        return outcomes

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. The whole login goes, also if the order names only some of its privileges."""
        if not orders:
            return []
        with self._turn(orders, r.known(r.logins(orders))) as (session, (rows,)):
            known = r.by_role(rows)
            confirmed(session, confirm)
            mine = {
                order.ticket: login
                for order in orders
                if (name := r.login_of(order.ticket))
                and (login := known.get(name))
                and login.ticket == order.ticket
            }
            roles = sorted(login.role for login in mine.values())
            locked = [sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)) for role in roles]
            [[(committed,)]] = session.run(*locked, sql.SQL("COMMIT"), then=(q.NOW,))
            ended = end_sessions(session, roles, committed)
            return [
                self._drop(
                    session, order, mine[order.ticket].role, ended.get(mine[order.ticket].role, Ended())
                )
                if order.ticket in mine
                else Outcome(ticket=order.ticket, result="done")
                for order in orders
            ]

    def _turn(
        self, orders: Sequence[Order], *queries: Query
    ) -> AbstractContextManager[tuple[Session, list[list[Row]]]]:
        tickets = {order.ticket for order in orders}
        return turn(self._sessions, tickets, queries, timeout=self._timeout, pause=self._pause)

    def _refusal(
        self, order: Order, known: Mapping[str, r.Login | None], roles: Collection[str]
    ) -> Outcome | None:
        """Why an order cannot be carried out, as far as can be seen beforehand."""
        login = r.login_of(order.ticket)
        if (why := fault(self, order.account, order.scope, order.public_key or "")) is not None:
            return no(order, "bad-name", why)
        if login is None:
            return no(order, "bad-name", "the ticket's id cannot stand in the name of a role")
        if login in known and known[login] != r.Login(role=login, ticket=order.ticket, account=order.account):
            return no(order, "name-taken", f"{self._name} has a role {login} that is not this ticket's")
        for item in order.scope:
            if item.privilege not in roles:
                return no(order, "no-such-privilege", f"{self._name} has no role {item.privilege}")
        return None

    def _create(self, session: Session, order: Order, known: Mapping[str, r.Login | None]) -> Outcome:
        """Make the login, or give the one that is there another password."""
        role = r.name_of(order.ticket)
        password = self._password()
        credential = sealed(order, "login", {**self._address, "PGUSER": role, "PGPASSWORD": password})
        name = sql.Identifier(role)
        comment = r.comment(order.ticket, order.account)
        verb = sql.SQL("ALTER" if role in known else "CREATE")
        statements = [
            sql.SQL("{} ROLE {} LOGIN INHERIT PASSWORD {} VALID UNTIL {}").format(
                verb, name, sql.Literal(session.verifier(role, password)), sql.Literal(wire(order.expires_at))
            ),
            sql.SQL("COMMENT ON ROLE {} IS {}").format(name, sql.Literal(comment)),
            *(sql.SQL("GRANT {} TO {}").format(sql.Identifier(p.privilege), name) for p in order.scope),
        ]
        try:
            session.run(sql.SQL("SAVEPOINT one"), *statements, sql.SQL("RELEASE one"))
        except StatementRefused as error:
            session.run(sql.SQL("ROLLBACK TO one"))
            return no(order, "not-allowed" if error.sqlstate == c.NOT_ALLOWED else "rejected", error.message)
        except Busy as error:
            session.run(sql.SQL("ROLLBACK TO one"))
            return Outcome(ticket=order.ticket, result="unknown", code=error.code, message=error.message)
        return Outcome(ticket=order.ticket, result="done", handle={"role": role}, credential=credential)

    def _drop(self, session: Session, order: Order, role: str, ended: Ended) -> Outcome:
        """Remove a login that is locked and has no session; what it owns goes to the heir."""
        outcome = self._dropped(session, order, role, ended)
        return replace(outcome, sessions_ended=ended.gone)

    def _dropped(self, session: Session, order: Order, role: str, ended: Ended) -> Outcome:
        if ended.forbidden:
            sentence = f"we may not end the sessions of {role}; our role needs pg_signal_backend"
            return no(order, "session-survives", sentence)
        if ended.alive:
            sentence = f"{ended.alive} sessions of {role} did not end in time"
            return unknown(order, "session-survives", sentence)
        try:
            [owning] = session.ask(r.owning(role))
            for database, owns in owning:
                if owns and not self._heir:
                    sentence = (
                        f"{role} is locked, and owns objects in {database or 'the whole server'}; "
                        "set reassign_to, or give them to somebody by hand"
                    )
                    return no(order, "owns-objects", sentence)
                self._clear(session, role, database)
            session.run(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        except StatementRefused as error:
            return no(order, "owns-objects", f"{role} is locked, and cannot be dropped: {error.message}")
        except Busy as error:
            return Outcome(ticket=order.ticket, result="unknown", code=error.code, message=error.message)
        return Outcome(ticket=order.ticket, result="done")

    def _clear(self, session: Session, role: str, database: str | None) -> None:
        """Give away what the role owns in a database, and take what it was granted there. We must be it for that."""
        options = " WITH INHERIT TRUE, SET TRUE" if session.version >= q.FIRST_WITH_OPTIONS else ""
        name = sql.Identifier(role)
        session.run(sql.SQL("GRANT {} TO CURRENT_USER" + options).format(name))
        give = (
            [sql.SQL("REASSIGN OWNED BY {} TO {}").format(name, sql.Identifier(self._heir))]
            if self._heir
            else []
        )
        statements = [*give, sql.SQL("DROP OWNED BY {}").format(name)]
        if database is None:
            session.run(*statements)
            return
        there = Sessions(
            make_conninfo(self._dsn, dbname=database),
            name=self._name,
            reference=self._reference,
            timeout=self._timeout,
        )
        try:
            with there.begin(session.until, lambda _: None) as (elsewhere, _):
                elsewhere.run(*statements)
        finally:
            there.close()


def _check_names(account: str, scope: Scope) -> None:
    """Raise `Invalid` unless every name would reach PostgreSQL as it is."""
    clean_name(account, "the account", limit=MAX_ACCOUNT)
    for item in scope:
        clean_name(item.privilege, "the privilege", limit=c.MAX_NAME)
        if item.resource is not None:
            raise Invalid(
                f"a role has no resource, and {item.privilege} was asked for with one",
                remedy="Ask for the role alone.",
            )
        if item.privilege.startswith(("pg_", r.PREFIX)):
            raise Invalid(f"{item.privilege} is no role to be given", remedy="Ask for a role of your own.")


LEAST_PRIVILEGE = """\
CREATE ROLE muniment LOGIN CREATEROLE PASSWORD '…';
GRANT pg_signal_backend, pg_read_all_stats TO muniment;
-- for each role in the catalogue, on 16 and later (up to 15, CREATEROLE may give nearly any role to anybody):
GRANT orders_rw TO muniment WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;
-- for reassign_to, which must be able to own what logins make, in each database:
GRANT app_owner TO muniment;
GRANT CREATE ON DATABASE app TO app_owner;
"""

KIND = Kind(
    summary="a privilege is a role, and a login of the ticket's own becomes a member of it",
    settings=Settings,
    build=build,
    capabilities=PostgreSQLLogins.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
