"""LDAP groups: OpenLDAP and its like, and Active Directory. A grant is a value of ``member`` in a group.

What follows what, for a batch of orders:

1. look the accounts and groups up by name, exactly as they are written; never build a DN from a name that is there
2. ``confirm``: the work is still ours
3. one change a group, with all its members. A crash between two groups leaves some orders done and others not, and the
   caller reads back

Fencing (I19). A directory has no locks and no transactions over entries. A worker that was paused between 2 and 3 for
more than ``_PAUSE`` finds out and changes nothing. One that is paused between that look and the change can still change
it afterwards, once; the lease of whoever came after is as long as twelve such pauses, and reconciliation finds the rest.

With ``grants`` (the overlay `dds` of OpenLDAP) a grant is an entry of its own: a dynamic group that the server deletes
by itself at the end, named like the privilege and with the ticket in its description. Programs that look for groups by
member find it; those that look into one group by its DN do not.

Who gave a membership no directory says: what somebody else gave as well goes with ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from muniment.connectors import ldap_session as d
from muniment.connectors.answering import last_look, no, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.ldap_changes import DIRSYNC, accesslog, dirsync
from muniment.connectors.ldap_check import LEAST_PRIVILEGE, report
from muniment.connectors.ldap_names import Names, equal, member_names, rdn, require_names
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.inventory import Nested
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.ports import Capabilities, Changes, CheckReport, Connector, Observation, Order, Outcome

_PAUSE = 5.0  # seconds between ``confirm`` and the last change
_MEMBERS = 500  # values in one change
_MARK = "muniment:"  # before the ticket, in the description of a grant's own entry
_DONE = {
    "MODIFY_ADD": {d.OK, d.ALREADY, d.EXISTS},
    "MODIFY_DELETE": {d.OK, d.NO_SUCH_ATTRIBUTE, d.NO_SUCH_OBJECT},
}
_WHY = {
    d.NOT_ALLOWED: ("not-allowed", "our account may not change this group"),
    d.NO_SUCH_OBJECT: ("no-such-privilege", "the group or the account is not there any more"),
    d.UNWILLING: ("rejected", "the directory is unwilling to change this group"),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # `ldaps://HOST`; `ldap://HOST` with `starttls`, or on this machine.
    bind_dn: str  # Whom we are there; for Active Directory `user@domain` will do.
    password: Secret  # Reference to its password.
    people: str  # DN that accounts are below.
    groups: str  # DN that groups are below. A privilege is the `cn` of one.
    profile: Literal["openldap", "active_directory"] = "openldap"  # How the directory is made.
    account_attribute: str = ""  # What an account is called by. Default: `uid`, or `sAMAccountName`.
    #: DN that stays in a group whose last member goes, since a `groupOfNames` must have one. Default: the empty name.
    placeholder: str = ""
    #: DN below which grants are entries of their own that the server ends by itself. It needs the overlay `dds`.
    grants: str = ""
    #: Where the directory keeps what was changed, so that drift is found soon: the DN of an accesslog of OpenLDAP's, or
    #: `dirsync` of Active Directory.
    changes: str = ""
    starttls: bool = False  # Begin TLS on an `ldap://` connection.
    ca: Path | None = None  # PEM file of the authority that its certificate leads to. Default: the system's.
    timeout: str = "10s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    directory = d.Directory(
        name=name, url=settings.url, starttls=settings.starttls, ca=settings.ca, bind_dn=settings.bind_dn,
        password=settings.password, timeout=parse_duration(settings.timeout) / timedelta(seconds=1),
    )  # fmt: skip
    directory.require_secrecy()
    if settings.grants and settings.profile != "openldap":
        raise Invalid("grants needs the overlay dds, which OpenLDAP has", remedy="Leave grants out.")
    if settings.changes and (settings.changes == DIRSYNC) is (settings.profile == "openldap"):
        raise Invalid(
            "changes does not fit the profile",
            remedy='Write "dirsync" for Active Directory, and for OpenLDAP the DN of its accesslog.',
        )
    require_names("any", tuple(catalogue))
    return Ldap(directory, settings, catalogue=[each.privilege for each in catalogue])


class Ldap:
    """See `muniment.ports.Connector`; an account is a person's name in the directory, a privilege a group's.

    `observe` shows what a group lists itself. `brings` says which groups a group is in, and who is in it is in, too.
    """

    def __init__(self, directory: d.Directory, settings: Settings, *, catalogue: Sequence[str] = ()) -> None:
        """Connects at each call."""
        self._directory, self._settings, self._catalogue = directory, settings, tuple(catalogue)
        self._names = Names(
            people=settings.people, groups=settings.groups, ad=settings.profile == "active_directory",
            account=settings.account_attribute,
        )  # fmt: skip
        self.capabilities = Capabilities(
            native_expiry=bool(settings.grants),
            ends_sessions=False,
            issues_credential=False,
            needs_public_key=False,
            lists_everything=True,
            effective_scope=True,
            separate=bool(settings.grants),
            change_feed=bool(settings.changes),
        )

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. A group has no use for a key."""
        del key
        require_names(account, scope)

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            with self._directory.session() as session:
                return report(session, self._names, self._settings, self._catalogue)
        except TargetUnavailable as error:
            return unreachable(error)

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. A member that is nobody below ``people`` is shown by its DN."""
        wanted = None if accounts is None else {a for a in accounts if _possible(a)}
        if wanted is not None and not wanted:
            return Observation(holdings=())
        with self._directory.session() as session:
            known = self._names.people_by_dn(session, wanted)
            bases = (self._settings.groups, *filter(None, [self._settings.grants]))
            entries = [e for base in bases for e in self._names.groups_of(session, base, known, wanted)]
        called, inner = {equal(dn): name for dn, name in known.items()}, {equal(e.dn) for e in entries}
        found = set()
        for entry in entries:
            ticket = _ticket(entry) if self._settings.grants else None
            for member in entry.values("member"):
                account = called.get(equal(member))
                if account is None and wanted is None and equal(member) not in inner:
                    account = self._names.account_in(member)
                if account and not self._is_placeholder(member):
                    found |= {(account, name, ticket) for name in member_names(entry)}
        return Observation(
            holdings=tuple(
                Holding(account=account, privilege=name, ticket=ticket)
                for account, name, ticket in sorted(found, key=lambda each: (*each[:2], each[2] or ""))
            )
        )

    def nested(self) -> tuple[Nested, ...]:
        """See `Nesting`: groups that are members of groups."""
        with self._directory.session() as session:
            bases = (self._settings.groups, *filter(None, [self._settings.grants]))
            entries = [e for base in bases for e in self._names.groups_of(session, base, {}, None)]
        called = {equal(entry.dn): member_names(entry) for entry in entries}
        return tuple(
            Nested(inner=inner, outer=Privilege(privilege=outer))
            for entry in entries
            for member in entry.values("member")
            for inner in called.get(equal(member), ())
            for outer in member_names(entry)
        )

    def changes(self, since: str | None) -> Changes:
        """See `Watching`. In OpenLDAP what we wrote ourselves is told from what others did; in Active Directory it is not."""
        s = self._settings
        with self._directory.session() as session:
            if s.changes == DIRSYNC:
                return dirsync(session, s.groups, since)
            return accesslog(session, s.changes, [s.groups, *filter(None, [s.grants])], s.bind_dn, since)

    def brings(self, wanted: Scope) -> Scope:
        """What else who is in these groups is in: the groups that they are in themselves, as the directory is now."""
        with self._directory.session() as session:
            names = self._names.containing(session, [item.privilege for item in wanted])
        return scope(Privilege(privilege=name) for name in names - {item.privilege for item in wanted})

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        with self._directory.session() as session:
            known = self._lookup(session, orders)
            answers = {at: no for at, order in enumerate(orders) if (no := self._refusal(order, known))}
            wanted = {at: order for at, order in enumerate(orders) if at not in answers}
            until = _confirmed(session, confirm)
            if self._settings.grants:
                answers |= {
                    at: self._give_entry(session, order, known, until) for at, order in wanted.items()
                }
            else:
                answers |= self._members(session, "MODIFY_ADD", wanted, known, until)
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. What nobody could be given is not there to be taken."""
        if not orders:
            return []
        with self._directory.session() as session:
            known = self._lookup(session, orders)
            possible = {at: order for at, order in enumerate(orders) if _possible(order.account, order.scope)}
            until = _confirmed(session, confirm)
            if self._settings.grants:
                answers = {at: self._take_entry(session, order, until) for at, order in possible.items()}
            else:
                answers = self._members(session, "MODIFY_DELETE", possible, known, until)
        return [answers.get(at) or Outcome(ticket=o.ticket, result="done") for at, o in enumerate(orders)]

    def _lookup(self, session: d.Session, orders: Sequence[Order]) -> _Known:
        sound = [order for order in orders if _possible(order.account, order.scope)]
        return _Known(
            people=self._names.people_named(session, {order.account for order in sound}),
            groups=self._names.groups_named(session, {i.privilege for order in sound for i in order.scope}),
        )

    def _refusal(self, order: Order, known: _Known) -> Outcome | None:
        """Why an order cannot be carried out, as far as can be seen beforehand."""
        try:
            require_names(order.account, order.scope)
        except Invalid as error:
            return no(order, "bad-name", error.message)
        name = self._directory.name
        if len(known.people.get(order.account, ())) != 1:
            return no(order, "no-such-account", f"{name} has no account {order.account}, or several")
        for item in order.scope:
            if len(known.groups.get(item.privilege, ())) != 1:
                return no(order, "no-such-privilege", f"{name} has no group {item.privilege}, or several")
        return None

    def _members(
        self, session: d.Session, operation: str, orders: Mapping[int, Order], known: _Known, until: float
    ) -> dict[int, Outcome]:
        """Change ``member`` group by group: all of a group at once, and one by one where the directory says no."""
        changes: dict[str, dict[str, list[int]]] = {}
        for at, order in orders.items():
            # who is gone may still be listed, where nothing cleans up
            people = known.people.get(order.account) or [self._names.person_dn(order.account)]
            for item in order.scope:
                for group in known.groups.get(item.privilege, ()):
                    for person in people:
                        changes.setdefault(group, {}).setdefault(person, []).append(at)
        answers = {at: Outcome(ticket=order.ticket, result="done") for at, order in orders.items()}
        for group, members in sorted(changes.items()):
            names = list(members)
            for start in range(0, len(names), _MEMBERS):
                for person, code in self._change(
                    session, operation, group, names[start : start + _MEMBERS], until
                ):
                    if code not in _DONE[operation]:
                        word, sentence = _WHY.get(code, ("rejected", f"the directory answered {code}"))
                        for at in members[person]:
                            answers[at] = no(orders[at], word, f"{sentence}: {group}")
        return answers

    def _change(
        self, session: d.Session, operation: str, group: str, people: Sequence[str], until: float
    ) -> Iterable[tuple[str, int]]:
        _in_time(until)
        if session.modify(group, {"member": [(operation, list(people))]}, permissive=True) == d.OK:
            return [(person, d.OK) for person in people]
        codes = []
        for person in people:
            _in_time(until)
            code = session.modify(group, {"member": [(operation, [person])]})
            if code == d.CLASS_VIOLATION and operation == "MODIFY_DELETE":  # it was the last member
                both = [("MODIFY_ADD", [self._settings.placeholder]), (operation, [person])]
                code = session.modify(group, {"member": both})
            if code in {d.UNWILLING, d.CLASS_VIOLATION} and operation == "MODIFY_DELETE":
                listed = session.search(group, f"(member={d.filtered(person)})", ["cn"], scope="BASE")
                code = code if listed else d.OK
            codes.append((person, code))
        return codes

    def _give_entry(self, session: d.Session, order: Order, known: _Known, until: float) -> Outcome:
        """An entry for each privilege. A crash before the refresh leaves one that the server ends within a day."""
        [person] = known.people[order.account]
        for item in order.scope:
            _in_time(until)
            seconds = math.ceil((order.expires_at - datetime.now(UTC)) / timedelta(seconds=1))
            if seconds < 1:
                return no(order, "too-late", "the access is over already")
            dn = self._grant_dn(order, item)
            attributes = {"objectClass": ["groupOfNames", "dynamicObject"], "member": person}
            code = session.add(dn, attributes)
            if code in {d.OK, d.EXISTS}:
                code = session.refresh(dn, seconds)
            if code != d.OK:
                word, sentence = _WHY.get(code, ("rejected", f"the directory answered {code}"))
                return no(order, word, f"{sentence}: {dn}")
        return Outcome(ticket=order.ticket, result="done", native_expiry=order.expires_at)

    def _take_entry(self, session: d.Session, order: Order, until: float) -> Outcome:
        for item in order.scope:
            _in_time(until)
            code = session.delete(self._grant_dn(order, item))
            if code not in {d.OK, d.NO_SUCH_OBJECT}:
                word, sentence = _WHY.get(code, ("rejected", f"the directory answered {code}"))
                return no(order, word, sentence)
        return Outcome(ticket=order.ticket, result="done")

    def _grant_dn(self, order: Order, item: Privilege) -> str:
        own = f"{rdn('cn', item.privilege)}+{rdn('description', _MARK + order.ticket)}"
        return f"{own},{self._settings.grants}"

    def _is_placeholder(self, member: str) -> bool:
        return not member or equal(member) == equal(self._settings.placeholder)


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """DNs by name. A name that several entries have is nobody's."""

    people: Mapping[str, list[str]]
    groups: Mapping[str, list[str]]


def _confirmed(session: d.Session, confirm: Callable[[], None]) -> float:
    """The last moment to find out that the work is another's; until when it is believed. Its time is not the target's."""
    session.until += last_look(confirm)
    return time.monotonic() + _PAUSE


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise TargetUnavailable("we were held up before the change, and somebody else may have the work now")


def _possible(account: str, wanted: Scope = ()) -> bool:
    try:
        require_names(account, wanted)
    except Invalid:
        return False
    return True


def _ticket(entry: d.Entry) -> str | None:
    marks = [value for value in entry.values("description") if value.startswith(_MARK)]
    return marks[0].removeprefix(_MARK) if marks else None


KIND = Kind(
    summary="a privilege is a group in a directory that the account is a member of",
    settings=Settings,
    build=build,
    capabilities=Capabilities(
        native_expiry=False,
        ends_sessions=False,
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
        effective_scope=True,
    ),
    by_setting=("native_expiry", "change_feed"),
    least_privilege=LEAST_PRIVILEGE,
)
