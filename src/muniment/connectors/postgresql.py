"""PostgreSQL role membership: GRANT role TO member, and back. Versions 15 to 18.

What follows what, for a batch of orders in one transaction:

1. lock the accounts to us (advisory locks, in sorted order), then read what they hold;
2. ``confirm``: the work is still ours;
3. GRANT or REVOKE, and COMMIT, in one message. A crash before the commit leaves nothing, one after it leaves all;
4. after a REVOKE: end the sessions that began before the commit, because SET ROLE outlives REVOKE. A crash here
   leaves sessions; the caller does not yet believe the order done and asks again.

What keeps a worker that was paused from doing harm is in `postgresql_turn`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from muniment.connectors import postgresql_changes as c
from muniment.connectors import postgresql_queries as q
from muniment.connectors.answering import fault, no
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.postgresql_check import report
from muniment.connectors.postgresql_ending import Ended, end_sessions
from muniment.connectors.postgresql_session import Session, Sessions
from muniment.connectors.postgresql_turn import confirmed, turn
from muniment.core.errors import Invalid
from muniment.core.instants import parse_duration
from muniment.core.inventory import Nested
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

NEVER = datetime.min.replace(tzinfo=UTC)  # no session began before


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    dsn: Secret  # Reference to a libpq connection string or URL.
    timeout: str = "10s"  # For each call in all.
    #: `false`: memberships WITH SET FALSE, which give rights without SET ROLE; PostgreSQL 16 and later.
    set_role: bool = True
    #: Whether `pg_…` roles may be given. `pg_execute_server_program` means a shell.
    allow_predefined: bool = False


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    for privilege in catalogue:
        _check_names("any", (privilege,), predefined=settings.allow_predefined)
    return PostgreSQL(
        settings.dsn.reveal(),
        name=name,
        reference=settings.dsn.reference,
        timeout=parse_duration(settings.timeout),
        set_role=settings.set_role,
        allow_predefined=settings.allow_predefined,
        catalogue=[privilege.privilege for privilege in catalogue],
    )


class PostgreSQL:
    """See `muniment.ports.Connector`; an account is a role, a privilege a role that it is made a member of.

    `observe` also shows what goes beyond a membership: one WITH ADMIN OPTION, and the attributes that make a role
    powerful by itself. `revoke` takes those too when an order names them. Memberships that another grantor gave
    stay (I17): such an order is answered "target.still-held".
    """

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=True,
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
        effective_scope=True,
    )

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        reference: str = "its dsn",
        timeout: timedelta = timedelta(seconds=10),
        pause: timedelta = timedelta(seconds=5),
        set_role: bool = True,
        allow_predefined: bool = False,
        catalogue: Sequence[str] = (),
    ) -> None:
        """Connects at the first call only. Raises `Misconfigured`.

        Args:
            dsn: a libpq connection string or URL; never shown.
            name: of the target, in messages.
            reference: what messages call the DSN, such as "env:PG_PROD_DSN".
            timeout: for each call in all; connecting takes 2 s at least, for each address of the host.
            pause: how long ``confirm`` and we together may take between lock and change; below any lease.
            set_role: False gives memberships WITH SET FALSE: rights without SET ROLE (16 and later).
            allow_predefined: whether pg_… roles may be given; pg_execute_server_program means a shell.
            catalogue: roles that `check` tries.
        """
        self._name, self._timeout, self._pause = name, timeout, pause
        self._set_role, self._predefined = set_role, allow_predefined
        self._catalogue = tuple(catalogue)
        self._sessions = Sessions(dsn, name=name, reference=reference, timeout=timeout)
        self.close = weakref.finalize(self, self._sessions.close)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. A role membership has no use for a key."""
        del key
        _check_names(account, scope, predefined=self._predefined)

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        return report(self._sessions, self._sessions.deadline(), self._catalogue, set_role=self._set_role)

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. A membership that several gave is held several times."""
        names = None if accounts is None else sorted(filter(c.possible, accounts))
        if names is not None and not names:
            return Observation(holdings=())
        query = q.holdings(names)
        with self._sessions.begin(self._sessions.deadline(), lambda session: session.ask(query)) as (
            _,
            (rows,),
        ):
            found = (Holding(account=a, privilege=p, resource=r, grantor=g) for a, p, r, g in rows)
            return Observation(holdings=tuple(found))

    def brings(self, wanted: Scope) -> Scope:
        """See `Bringing`: roles that these are in, inherited or taken up with SET ROLE, and what makes one of them powerful."""
        return brought(self._sessions, wanted)

    def nested(self) -> tuple[Nested, ...]:
        """See `Nesting`. Roles that cannot log in are what others hold; of accounts that are held as roles, `observe` tells."""
        query = q.nested()
        with self._sessions.begin(self._sessions.deadline(), lambda session: session.ask(query)) as (
            _,
            (rows,),
        ):
            return tuple(
                Nested(inner=inner, outer=Privilege(privilege=outer, resource=resource), grantor=grantor)
                for inner, outer, resource, grantor in rows
            )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        with self._begin(orders) as (session, known):
            answers = {at: no for at, order in enumerate(orders) if (no := self._refusal(order, known))}
            wanted = {
                at: (order, [c.Change("grant", item.privilege, order.account) for item in order.scope])
                for at, order in enumerate(orders)
                if at not in answers
            }
            confirmed(session, confirm)
            failed, _ = c.apply(session, wanted, q.grant_options(session.version, set_role=self._set_role))
        answers |= failed
        return [answers.get(at) or Outcome(ticket=o.ticket, result="done") for at, o in enumerate(orders)]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. Ends every session of the accounts, since none says what it still uses."""
        if not orders:
            return []
        with self._begin(orders) as (session, known):
            wanted = {at: (order, c.to_revoke(order, known)) for at, order in enumerate(orders)}
            confirmed(session, confirm)
            failed, answers = c.apply(session, wanted, q.NO_OPTIONS, (q.NOW, *q.facts(orders)))
            ((committed,),), *rows = answers
            after = c.facts(session.version, *rows)
            left = [c.still_held(order, after) for order in orders]
            # who still holds all of it gains nothing by an old session; and asking again would end it again
            lost = {
                o.account
                for o, held in zip(orders, left, strict=True)
                if len({h.what for h in held}) < len(o.scope)
            }
            ended = end_sessions(session, sorted(filter(c.possible, lost)), committed)
        return [
            failed.get(at) or self._revoked(order, left[at], ended.get(order.account, Ended()))
            for at, order in enumerate(orders)
        ]

    def warm(self, calls: int) -> None:
        """See `Warming`: connections that have planned what a call asks."""

        def opening(session: Session) -> None:
            session.ask(*q.facts(()), q.end_sessions(session.version, (), NEVER, None))

        self._sessions.warm(calls, self._sessions.deadline(), opening)

    @contextmanager
    def _begin(self, orders: Sequence[Order]) -> Iterator[tuple[Session, c.Facts]]:
        """A transaction in which the orders' accounts are locked to us, and what they hold."""
        accounts, asked = {order.account for order in orders}, q.facts(orders)
        with turn(self._sessions, accounts, asked, timeout=self._timeout, pause=self._pause) as (
            session,
            answers,
        ):
            yield session, c.facts(session.version, *answers)

    def _refusal(self, order: Order, known: c.Facts) -> Outcome | None:
        """Why an order cannot be carried out, as far as can be seen beforehand."""
        if (why := fault(self, order.account, order.scope)) is not None:
            return no(order, "bad-name", why)
        if order.account not in known.roles:
            return no(order, "no-such-account", f"{self._name} has no role {order.account}")
        for item in order.scope:
            if item.privilege not in known.roles:
                return no(order, "no-such-privilege", f"{self._name} has no role {item.privilege}")
        if known.version < q.FIRST_WITH_OPTIONS and not self._set_role:
            return no(order, "rejected", f"{self._name} is too old for set_role = false")
        return None

    def _revoked(self, order: Order, remaining: Sequence[Holding], ended: Ended) -> Outcome:
        answer = Outcome(ticket=order.ticket, result="done", sessions_ended=ended.gone)
        if remaining:
            what = ", ".join(sorted({str(h.what) for h in remaining}))
            givers = sorted({h.grantor for h in remaining if h.grantor is not None})
            by = f", given by {', '.join(givers)}" if givers else ""
            answer = no(order, "still-held", f"{order.account} still holds {what}{by}; we end what we gave")
        elif ended.forbidden:
            sentence = f"we may not end the sessions of {order.account}; our role needs pg_signal_backend"
            answer = no(order, "session-survives", sentence)
        elif ended.alive:
            sentence = f"{ended.alive} sessions of {order.account} did not end in time"
            answer = replace(answer, result="unknown", code="target.session-survives", message=sentence)
        return replace(answer, sessions_ended=ended.gone)


def brought(sessions: Sessions, wanted: Scope) -> Scope:
    """What else a member of these roles can come by, as the server is now."""
    query = q.brought({item.privilege for item in wanted})
    with sessions.begin(sessions.deadline(), lambda session: session.ask(query)) as (_, (rows,)):
        found = {Privilege(privilege=name, resource=resource) for name, resource in rows}
    return scope(found - set(wanted))


def _check_names(account: str, scope: Scope, *, predefined: bool) -> None:
    """Raise `Invalid` unless every name would reach PostgreSQL as it is."""
    clean_name(account, "the account", limit=c.MAX_NAME)
    for item in scope:
        clean_name(item.privilege, "the privilege", limit=c.MAX_NAME)
        if item.resource is not None:
            raise Invalid(
                f"a role has no resource, and {item.privilege} was asked for with one",
                remedy="Ask for the role alone.",
            )
    for name in (account, *(item.privilege for item in scope)):
        if name.startswith("pg_") and not predefined:
            raise Invalid(
                f"{name} is a role that PostgreSQL predefines; some of them mean a shell on the server",
                remedy="Ask for a role of your own; or the administrator sets allow_predefined = true.",
            )


KIND = Kind(
    summary="a privilege is a role that the account is made a member of",
    settings=Settings,
    build=build,
    capabilities=PostgreSQL.capabilities,
    least_privilege="""\
CREATE ROLE muniment LOGIN PASSWORD '…';
GRANT pg_signal_backend, pg_read_all_stats TO muniment;
-- for each role in the catalogue, on 16 and later:
GRANT orders_rw TO muniment WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;
-- and up to 15:
GRANT orders_rw TO muniment WITH ADMIN OPTION;
""",
)
