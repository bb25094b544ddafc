"""Tables that say what a policy set is to answer: ``*.test.toml`` files beside the policies.

They describe a small world and rows of questions with the answers that are wanted, so that somebody who owns a control
can read and write them. They are no part of the set: nothing of them is in force.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

import msgspec

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import Identity, IdentityId, Role, parse_identity
from muniment.core.instants import parse_duration, spoken
from muniment.core.scope import Privilege, scope
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.core.verdict import Obligations, Stage
from muniment.policy.cedar import CedarPolicy
from muniment.policy.loading import TESTS
from muniment.ports import CatalogueEntry, Subject, Target

#: a bare name in a table is this person
DOMAIN = "example.com"
_AT = "2026-01-01T00:00:00.000000Z"
T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a file holds: a key nobody knows is a slip of the pen."""


class _Person(_Part, frozen=True, kw_only=True):
    groups: tuple[str, ...] = ()
    manager: str | None = None
    roles: tuple[Role, ...] = ("member",)


class _Machine(_Part, frozen=True, kw_only=True):
    owners: tuple[str, ...]  # nearest first
    groups: tuple[str, ...] = ()


class _Privilege(_Part, frozen=True, kw_only=True):
    risk: Literal["low", "medium", "high", "critical"] = "medium"
    bounded: bool = False
    owners: tuple[str, ...] = ()


class _Target(_Part, frozen=True, kw_only=True):
    environment: str
    connector: str = "postgresql"
    owners: tuple[str, ...] = ()
    native_expiry: bool = False
    ends_sessions: bool = True
    longest: str | None = None
    privileges: dict[str, _Privilege]


class _Asked(_Part, frozen=True, kw_only=True):
    """What every row says of the request."""

    name: str
    to: str | None = None  # the beneficiary, if somebody else
    on: str | tuple[str, ...]  # target/privilege
    length: str = msgspec.field(name="for", default="1h")
    glass: bool = False
    later: bool = False  # it begins at a given time
    references: tuple[str, ...] = msgspec.field(name="with", default=())
    answer: Literal["yes", "no"]
    by: str | tuple[str, ...] = ()  # ids of all policies that decide; none is the default no


class _Request(_Asked, frozen=True, kw_only=True):
    """``[[request]]``: may this be asked for, and what does it oblige to? What is left out is not looked at."""

    who: str
    needs: tuple[str, ...] | None = None  # "2 of platform", "1 of security after platform"
    longest: str | None = None
    review: str | None = None
    demands: tuple[str, ...] | None = None


class _Approval(_Asked, frozen=True, kw_only=True):
    """``[[approval]]``: may this person decide that stage?"""

    who: str
    asked_by: str
    stage: str  # "group:NAME", or a person


class _File(_Part, frozen=True, kw_only=True):
    people: dict[str, _Person] = {}
    machines: dict[str, _Machine] = {}
    targets: dict[str, _Target] = {}
    request: tuple[_Request, ...] = ()
    approval: tuple[_Approval, ...] = ()


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One row, and how it came out."""

    file: str
    name: str
    wanted: str
    got: str
    permitted: bool
    determining: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """The answer is the one that was wanted."""
        return self.wanted == self.got


def run(policy: CedarPolicy, files: Mapping[str, str]) -> list[Case]:
    """Ask every row of every file. Raises `Misconfigured` for a table that cannot be meant, naming file and row."""
    return [case for name, text in sorted(files.items()) for case in _World(name, text).cases(policy)]


def demanded(owed: Obligations) -> tuple[str, ...]:
    """What is owed besides approvals, duration and review, in the words of the annotations."""
    flags = {
        "native_expiry": owed.native_expiry, "scope_bounded": owed.scope_bounded is True, "sessions_cut": owed.sessions_cut is True,
        "signature": owed.signed is True, "witnessed": owed.witnessed is True,
    }  # fmt: skip
    found = [word for word, on in flags.items() if on] + [f"reference {kind}" for kind in owed.references]
    found += [f"reference_open {kind}" for kind in owed.references_open or ()]
    found += [f"assurance {owed.assurance}"] if owed.assurance else []
    found += [f"notify {who}" for who in owed.notify or ()]
    found += [f"escalate_to {who}" for who in owed.escalate_to or ()]
    return tuple(sorted(found))


def stage_words(stages: Iterable[Stage]) -> tuple[str, ...]:
    """Each stage as a table writes it."""
    return tuple(
        f"{s.needed} of {s.name}" + (f" after {', '.join(s.after)}" if s.after else "") for s in stages
    )


class _World:
    """The people and targets of one file, and its rows."""

    def __init__(self, name: str, text: str) -> None:
        self._where = name
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _wrong(f"{name} is not TOML: {error}", "Mend the line it names.") from error
        self._file = _convert(raw, _File, name)
        self._people = {self._id(key): person for key, person in self._file.people.items()}
        self._machines = {self._id(key): machine for key, machine in self._file.machines.items()}
        self._targets = {key: self._target(key, target) for key, target in self._file.targets.items()}

    def cases(self, policy: CedarPolicy) -> Iterator[Case]:
        for request in self._file.request:
            yield self._requested(policy, request)
        for approval in self._file.approval:
            yield self._approved(policy, approval)

    def _requested(self, policy: CedarPolicy, row: _Request) -> Case:
        target, terms = self._terms(row, row.who)
        asker, getter = self._subject(row, terms.requester), self._subject(row, terms.beneficiary)
        verdict = policy.judge_request(terms, asker, getter, target)
        owed = verdict.obligations
        wanted, got = [_answer(row)], [_given(verdict.permitted, verdict.determining)]
        shown: list[tuple[str, Any, Any]] = [
            ("needs", row.needs, owed and stage_words(owed.stages)),
            ("longest", row.longest and self._words(row, row.longest), owed and spoken(timedelta(seconds=owed.longest))),
            (
                "review",
                row.review and self._words(row, row.review),
                owed and owed.review_within and spoken(timedelta(seconds=owed.review_within)),
            ),
            ("demands", row.demands and tuple(sorted(row.demands)), owed and demanded(owed)),
        ]  # fmt: skip
        for word, want, given in shown:
            if want is not None:
                wanted.append(f"{word} {_said(want)}")
                got.append(f"{word} {_said(given)}")
        return Case(
            file=self._where, name=row.name, wanted="; ".join(wanted), got="; ".join(got), permitted=verdict.permitted,
            determining=verdict.determining,
        )  # fmt: skip

    def _approved(self, policy: CedarPolicy, row: _Approval) -> Case:
        target, terms = self._terms(row, row.asked_by)
        approver = row.stage if row.stage.startswith("group:") else self._id(row.stage)
        stage = Stage(name=approver.removeprefix("group:"), needed=1, approvers=(approver,))
        ticket = Ticket(
            id="req_table", status="pending", version=2, filed_at=_AT, updated_at=_AT, terms=terms, digest="", accountable=(),
            permitted=True, obligations=Obligations(stages=(stage,), longest=terms.duration),
        )  # fmt: skip
        asker, getter = self._subject(row, terms.requester), self._subject(row, terms.beneficiary)
        decider = self._subject(row, self._id(row.who))
        verdict = policy.judge_approver(ticket, decider, asker, getter, target).verdict
        return Case(
            file=self._where, name=row.name, wanted=_answer(row), got=_given(verdict.permitted, verdict.determining),
            permitted=verdict.permitted, determining=verdict.determining,
        )  # fmt: skip

    def _terms(self, row: _Asked, who: str) -> tuple[Target, Terms]:
        places = (row.on,) if isinstance(row.on, str) else row.on
        split = [place.partition("/") for place in places]
        names = {name for name, _, _ in split}
        if len(names) != 1 or not names <= self._targets.keys():
            raise self._bad(
                row, f"{', '.join(places)} is not on one target of [targets]", 'on = "target/privilege"'
            )
        target = self._targets[names.pop()]
        requester = self._id(who)
        return target, Terms(
            kind="break_glass" if row.glass else "standard", requester=requester,
            beneficiary=self._id(row.to) if row.to else requester, target=target.id, account="account",
            scope=scope(Privilege(privilege=privilege) for _, _, privilege in split), justification="sha256:" + "0" * 64,
            references=dict.fromkeys(sorted(row.references), "X-1"), incident="INC-1" if row.glass else None,
            starts_at=_AT if row.later else None, duration=self._seconds(row, row.length), public_key=None,
        )  # fmt: skip

    def _subject(self, row: _Asked, who: IdentityId) -> Subject:
        if who in self._people:
            return Subject(identity=self._person(who), managers=self._above((who,)))
        if who not in self._machines:
            raise self._bad(row, f"{who} is not in [people] or [machines]", "a name from there")
        machine = self._machines[who]
        chain = tuple(dict.fromkeys(map(self._id, machine.owners)))
        people = [owner for owner in chain if owner in self._people]
        return Subject(
            identity=Identity(id=who, groups=tuple(sorted(machine.groups)), owners=chain),
            owners=tuple(self._person(owner) for owner in people),
            managers=self._above(people),
        )

    def _person(self, who: IdentityId) -> Identity:
        person = self._people[who]
        return Identity(
            id=who, groups=tuple(sorted(person.groups)), roles=person.roles,
            manager=self._id(person.manager) if person.manager else None,
        )  # fmt: skip

    def _above(self, people: Iterable[IdentityId]) -> dict[IdentityId, tuple[IdentityId, ...]]:
        found: dict[IdentityId, tuple[IdentityId, ...]] = {}
        for who in people:
            chain: list[IdentityId] = []
            manager = self._person(who).manager
            while manager is not None and manager not in chain:
                chain.append(manager)
                manager = self._person(manager).manager if manager in self._people else None
            if chain:
                found[who] = tuple(chain)
        return found

    def _target(self, name: str, target: _Target) -> Target:
        entries = (
            CatalogueEntry(
                privilege=Privilege(privilege=key), risk=p.risk, bounded=p.bounded, owners=p.owners
            )
            for key, p in target.privileges.items()
        )
        can = SimpleNamespace(native_expiry=target.native_expiry, ends_sessions=target.ends_sessions)
        return Target(
            id=name, kind=target.connector, environment=target.environment, owners=target.owners, catalogue=tuple(entries),
            connector=SimpleNamespace(capabilities=can),
            longest=parse_duration(target.longest) if target.longest else None,
        )  # fmt: skip

    def _id(self, name: str) -> IdentityId:
        try:
            return parse_identity(name if ":" in name else f"human:{name}@{DOMAIN}")
        except Invalid as error:
            raise _wrong(f"{self._where}: {error.message}", error.remedy) from error

    def _words(self, row: _Asked, text: str) -> str:
        return spoken(timedelta(seconds=self._seconds(row, text)))

    def _seconds(self, row: _Asked, text: str) -> int:
        try:
            return int(parse_duration(text).total_seconds())
        except Invalid as error:
            raise self._bad(row, error.message, "a duration like 90m, 4h or 2d") from error

    def _bad(self, row: _Asked, what: str, wanted: str) -> Misconfigured:
        return _wrong(f"{self._where}: {row.name!r:.80}: {what}", f"Write {wanted}.")


def _answer(row: _Asked) -> str:
    by = (row.by,) if isinstance(row.by, str) else row.by
    return _given(row.answer == "yes", tuple(sorted(by)))


def _given(permitted: bool, determining: Iterable[str]) -> str:
    by = ", ".join(determining) or "no policy"
    return f"{'yes' if permitted else 'no'}, by {by}"


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(value) or "nobody"
    return str(value) if value else "nothing"


def _convert(raw: Any, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _wrong(
            f"{where}: {error}", f"The how-to on testing a policy says what a *{TESTS} file holds."
        ) from error


def _wrong(message: str, remedy: str) -> Misconfigured:
    return Misconfigured(message, remedy=remedy, code="config.policy-test")
