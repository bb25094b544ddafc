"""MariaDB role membership: GRANT role TO user, and back.

What follows what, for a batch of orders on one connection:

1. a lock of ours (GET_LOCK), then read what the accounts hold;
2. ``confirm``: the work is still ours;
3. GRANT or REVOKE, one statement an entitlement: each is durable by itself, and a crash between two leaves some done and
   others not. The caller reads back;
4. after a REVOKE: no default role is left that is not held, and the sessions that began before it end, because a session
   keeps the role that it took up. A crash here leaves sessions; the caller asks again.

Fencing (I19). A worker paused between 2 and 3 sits idle, and the server ends its session after ``_PAUSE``: the lock goes,
and nothing that the worker sends later is ever executed.

Who gave a role MariaDB does not say: what somebody else gave as well goes with ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pymysql

from muniment.connectors.answering import fault, last_look, no, unknown, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.inventory import Nested
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_LOCK = "muniment"
_PAUSE = 5  # seconds that a session of ours may be idle between ``confirm`` and the change
_MAX_NAME = 80  # characters, of a user or a role
_GRACE = 3.0  # seconds for a session to end
#: error numbers by which the server means: no, and asking again cannot help
_NO = {1044, 1045, 1133, 1141, 1142, 1227, 1305, 1396, 1698, 1959, 1961, 1975}
_NOT_HELD = {1141, 1269, 1959, 1962, 1975}  # of a REVOKE: there is nothing to take

LEAST_PRIVILEGE = """\
CREATE USER muniment IDENTIFIED BY '…' REQUIRE SSL;
GRANT SELECT ON mysql.roles_mapping TO muniment;
GRANT SELECT (User, Host, is_role, default_role) ON mysql.user TO muniment;
GRANT PROCESS, CONNECTION ADMIN ON *.* TO muniment;
-- for each role in the catalogue
GRANT orders_rw TO muniment WITH ADMIN OPTION;
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    host: str  # Its name or address.
    port: int = 3306  # Its port.
    user: str = "muniment"  # Our own account.
    password: Secret  # Reference to its password.
    account_host: str = "%"  # The host in an account's full name, NAME@HOST.
    #: PEM file of the authority that its certificate leads to; without it there is no TLS.
    ca: Path | None = None
    timeout: str = "10s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    if settings.ca is None and settings.host not in {"localhost", "127.0.0.1", "::1"}:
        raise Invalid(
            "the password would cross the network in clear", remedy="Name the server's authority: ca."
        )
    timeout = parse_duration(settings.timeout) / timedelta(seconds=1)
    made = MariaDB(name, settings, timeout=timeout, catalogue=[each.privilege for each in catalogue])
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class MariaDB:
    """See `muniment.ports.Connector`; an account is a user at ``account_host``, a privilege a role."""

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=True,
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
        effective_scope=True,
    )

    def __init__(
        self, name: str, settings: Settings, *, timeout: float, catalogue: Sequence[str] = ()
    ) -> None:
        """Connects at each call. ``timeout`` is in seconds."""
        self._name, self._settings, self._timeout, self._catalogue = name, settings, timeout, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. Names that are longer would be refused; a quote or backslash is only text."""
        del key
        for what, name in (("the account", account), *(("the role", item.privilege) for item in scope)):
            clean_name(name, what)
            if len(name) > _MAX_NAME or max(map(ord, name)) > 0xFFFF:
                raise Invalid(
                    f"{what} is more than MariaDB can hold", remedy=f"Use {_MAX_NAME} characters at most."
                )
        for item in scope:
            if item.resource is not None:
                raise Invalid("a role has no resource", remedy="Ask for the role alone.")
            if item.privilege.upper() in {"NONE", "PUBLIC", "CURRENT_ROLE", "CURRENT_USER"}:
                raise Invalid(f"{item.privilege} is a word of SQL, and no role", remedy="Ask for a role.")

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            with self._session() as s:
                [(version, me)] = s.ask("SELECT VERSION(), CURRENT_USER()")
                roles = {name for (name,) in s.ask("SELECT User FROM mysql.user WHERE is_role = 'Y'")}
                grants = " ".join(row[0] for row in s.ask("SHOW GRANTS"))
                admin = {
                    role for role, yes in s.ask("SELECT Role, Admin_option FROM mysql.roles_mapping WHERE User = %s", self._settings.user)
                    if yes == "Y"
                }  # fmt: skip
        except TargetUnavailable as error:
            return unreachable(error)
        problems = []
        for name in sorted(set(self._catalogue)):
            if name not in roles:
                problems.append(f"There is no role {name}, which is in the catalogue.")
            elif name not in admin:
                problems.append(f"{me} cannot give {name}: GRANT {name} TO {me} WITH ADMIN OPTION.")
        if "ALL PRIVILEGES ON *.*" in grants or " SUPER" in grants:
            problems.append(f"{me} may do everything, which is more than it needs.")
        elif "CONNECTION ADMIN" not in grants:
            problems.append(f"Sessions cannot be ended: GRANT PROCESS, CONNECTION ADMIN ON *.* TO {me}.")
        return CheckReport(
            reachable=True,
            details=(f"MariaDB {version} answers to {me}.", "Revoking ends all sessions of the account, which would keep the role."),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. Roles that are in roles are what `brings` says: who is in one is in the others."""
        names = None if accounts is None else sorted({a for a in accounts if fault(self, a, ()) is None})
        if names is not None and not names:
            return Observation(holdings=())
        with self._session() as s:
            held = s.held(self._settings.account_host, names)
        return Observation(holdings=tuple(Holding(account=a, privilege=r) for a, r in sorted(held)))

    def brings(self, wanted: Scope) -> Scope:
        """See `Bringing`: roles that these are in, over any number of them."""
        outer: dict[str, list[str]] = {}
        for each in self.nested():
            outer.setdefault(each.inner, []).append(each.outer.privilege)
        asked = {item.privilege for item in wanted}
        reached, left = set(asked), list(asked)
        while left:
            more = [name for name in outer.get(left.pop(), ()) if name not in reached]
            reached |= set(more)
            left += more
        return scope(Privilege(privilege=name) for name in reached - asked)

    def nested(self) -> tuple[Nested, ...]:
        """See `Nesting`. A role is in the table like a user, at no host."""
        with self._session() as s:
            rows = s.ask("SELECT User, Role FROM mysql.roles_mapping WHERE Host = ''")
        return tuple(Nested(inner=inner, outer=Privilege(privilege=outer)) for inner, outer in rows)

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        answers: dict[int, Outcome] = {}
        with self._session() as s:
            s.lock(_LOCK)
            users, roles = s.names(self._settings.account_host)
            for at, order in enumerate(orders):
                if why := fault(self, order.account, order.scope):
                    answers[at] = no(order, "bad-name", why)
                elif order.account not in users:
                    answers[at] = no(order, "no-such-account", f"{self._name} has no user {order.account}")
                elif missing := [i.privilege for i in order.scope if i.privilege not in roles]:
                    answers[at] = no(order, "no-such-privilege", f"{self._name} has no role {missing[0]}")
            s.confirm(confirm, _PAUSE)
            for at, order in enumerate(orders):
                if at not in answers:
                    answers[at] = self._each(s, order, "GRANT {role} TO {user}", set())
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. Ends every session of the accounts, since none says what it still uses."""
        if not orders:
            return []
        possible = {at: o for at, o in enumerate(orders) if fault(self, o.account, o.scope) is None}
        answers = {at: Outcome(ticket=o.ticket, result="done") for at, o in enumerate(orders)}
        with self._session() as s:
            s.lock(_LOCK)
            host = self._settings.account_host
            before = s.held(host, sorted({o.account for o in possible.values()})) if possible else set()
            s.confirm(confirm, _PAUSE)
            lost: set[str] = set()
            for at, order in possible.items():
                held = [i for i in order.scope if (order.account, i.privilege) in before]
                answers[at] = self._each(s, order, "REVOKE {role} FROM {user}", _NOT_HELD)
                if answers[at].result == "done" and held:
                    lost.add(order.account)
            for account in sorted(lost):
                s.clear_default(account, host)
            ended, alive = s.end_sessions(sorted(lost))
            for at, order in possible.items():
                if order.account in lost:
                    answers[at] = self._ended(order, ended.get(order.account, 0), alive.get(order.account, 0))
        return [answers[at] for at in range(len(orders))]

    def _each(self, s: _Session, order: Order, statement: str, nothing: set[int]) -> Outcome:
        user = f"{_quoted(order.account)}@{_text(self._settings.account_host)}"
        for item in order.scope:
            code = s.change(statement.format(role=_quoted(item.privilege), user=user))
            if code and code not in nothing:
                return no(
                    order,
                    "not-allowed" if code in {1044, 1142, 1227, 1698} else "rejected",
                    f"the server answered {code}",
                )
        return Outcome(ticket=order.ticket, result="done")

    def _ended(self, order: Order, ended: int, alive: int) -> Outcome:
        if not alive:
            return Outcome(ticket=order.ticket, result="done", sessions_ended=ended)
        sentence = f"{alive} sessions of {order.account} did not end in time"
        return unknown(order, "session-survives", sentence, ended=ended)

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        until = time.monotonic() + self._timeout
        try:
            connection = pymysql.connect(
                host=self._settings.host, port=self._settings.port, user=self._settings.user,
                password=self._settings.password.reveal(), charset="utf8mb4", autocommit=True,
                ssl={"ca": str(self._settings.ca)} if self._settings.ca else None,
                connect_timeout=self._timeout, read_timeout=self._timeout, write_timeout=self._timeout,
            )  # fmt: skip
        except (pymysql.MySQLError, OSError) as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            why = "it refused our name or password" if code in {1045, 1698} else "there was no answer"
            raise TargetUnavailable(
                f"{self._name} does not answer: {why}", remedy=f"Check what {self._settings.password.reference} holds."
                if code in {1045, 1698} else "It is tried again.",
            ) from RuntimeError(type(error).__name__)  # fmt: skip
        try:
            session = _Session(connection, self._name, until)
            session.ask("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")
            yield session
        finally:
            with suppress(Exception):
                connection.close()


class _Session:
    """One connection, for one call."""

    def __init__(self, connection: Any, name: str, until: float) -> None:
        self._connection, self._name, self.until = connection, name, until

    def ask(self, statement: str, *values: object) -> Sequence[Any]:
        """Rows. Raises `TargetUnavailable`."""
        try:
            return self._run(statement, values)
        except pymysql.MySQLError as error:
            code = error.args[0] if error.args else 0
            raise TargetUnavailable(
                f"{self._name} does not answer: error {code}",
                remedy="Run `muniment check`; it is tried again.",
            ) from RuntimeError(type(error).__name__)

    def change(self, statement: str) -> int:
        """0, or the number of the server's no. Raises `TargetUnavailable` when nobody knows."""
        try:
            self._run(statement, ())
        except pymysql.MySQLError as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            if isinstance(
                error, pymysql.OperationalError | pymysql.InternalError | pymysql.ProgrammingError
            ) and (code in _NO or code in _NOT_HELD):
                return int(code)
            raise TargetUnavailable(
                f"{self._name} does not answer: error {code}", remedy="It is tried again."
            ) from RuntimeError(type(error).__name__)
        return 0

    def lock(self, name: str) -> None:
        """Nobody else of us changes anything meanwhile."""
        seconds = max(0.0, self.until - time.monotonic() - 0.5)
        if self.ask("SELECT GET_LOCK(%s, %s)", name, seconds) != ((1,),):
            raise TargetUnavailable(
                f"another worker changes {self._name}", remedy="It is tried again.", code="target.busy"
            )

    def confirm(self, confirm: Callable[[], None], pause: int) -> None:
        """The last moment to find out that the work is another's. The time it takes is not the target's."""
        self.ask("SET SESSION wait_timeout = %s", pause)
        self.until += last_look(confirm)

    def names(self, host: str) -> tuple[set[str], set[str]]:
        """Users at this host, and roles."""
        rows = self.ask("SELECT User, Host, is_role FROM mysql.user")
        return {u for u, h, r in rows if r != "Y" and h == host}, {u for u, _, r in rows if r == "Y"}

    def held(self, host: str, names: Sequence[str] | None) -> set[tuple[str, str]]:
        """Accounts and roles; of everybody without names."""
        rows = self.ask("SELECT User, Role FROM mysql.roles_mapping WHERE Host = %s", host)
        return {(user, role) for user, role in rows if names is None or user in names}

    def clear_default(self, account: str, host: str) -> None:
        """A default role that is not held any more would come into force at once with the next grant.

        Only who may write the system tables can clear it, and nobody should need to: without that right it stays, and does
        nothing meanwhile.
        """
        rows = self.ask("SELECT default_role FROM mysql.user WHERE User = %s AND Host = %s", account, host)
        held = {role for _, role in self.held(host, [account])}
        if rows and rows[0][0] and rows[0][0] not in held:
            self.change_quietly(f"SET DEFAULT ROLE NONE FOR {_quoted(account)}@{_text(host)}")

    def end_sessions(self, accounts: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
        """End all sessions of these accounts; how many went, and how many are left after a while."""
        if not accounts:
            return {}, {}
        marks = ", ".join(["%s"] * len(accounts))
        query = f"SELECT ID, USER FROM information_schema.PROCESSLIST WHERE USER IN ({marks})"  # noqa: S608  marks only
        seen: dict[int, str] = {}
        until = min(time.monotonic() + _GRACE, self.until - 0.5)
        while True:
            alive = {number: user for number, user in self.ask(query, *accounts) if user in accounts}
            for number in alive.keys() - seen.keys():
                self.change_quietly(f"KILL CONNECTION {int(number)}")
            seen |= alive
            if not alive or time.monotonic() > until:
                break
            time.sleep(0.01)
        gone, left = _count(seen, seen.keys() - alive.keys()), _count(alive, alive.keys())
        return gone, left

    def change_quietly(self, statement: str) -> None:
        """One that may have become needless."""
        with suppress(pymysql.MySQLError):
            self._run(statement, ())

    def _run(self, statement: str, values: Sequence[object]) -> Sequence[Any]:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TargetUnavailable(f"{self._name} did not answer in time", remedy="It is tried again.")
        self._connection._read_timeout = left  # noqa: SLF001  there is no other way to bound the rest of a call
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            rows: Sequence[Any] = cursor.fetchall()
            return rows


def _count(sessions: Mapping[int, str], which: Collection[int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for number in which:
        counts[sessions[number]] = counts.get(sessions[number], 0) + 1
    return counts


def _quoted(name: str) -> str:
    """An identifier."""
    return "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    """A string, in NO_BACKSLASH_ESCAPES."""
    return "'" + value.replace("'", "''") + "'"


KIND = Kind(
    summary="a privilege is a role that the user is granted",
    settings=Settings,
    build=build,
    capabilities=MariaDB.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
