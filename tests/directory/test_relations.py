"""I2 and I4 over random organisations: owners of agents of agents, aliases, nested groups, circles; names that look alike.

Each organisation is written down as the file that an operator would write, read by the directory, and put before the
gate as the service does. Beside it, a model that walks the raw picture step by step says who is who.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.lives import NOW, Life, unspent, verdict
from muniment.core import commands as c
from muniment.core.errors import Invalid, Misconfigured, Refused
from muniment.core.identity import Identity, parse_identity
from muniment.core.verdict import Authority, Stage
from muniment.directory.parsing import People, parse
from muniment.ports import Subject
from muniment.service.desk import accountable, answered_for

PEOPLE = [f"human:p{n}@example.com" for n in range(6)]
MACHINES = ["service_account:s0", "service_account:s1", "ai_agent:a0", "ai_agent:a1", "workload:w0"]
GROUPS = ["g0", "g1", "g2", "g3"]


@dataclass
class Picture:
    """An organisation as drawn: nothing in it is followed further than one step."""

    owners: dict[str, list[str]] = field(default_factory=dict)  # of machines; names may be aliases
    aliases: dict[str, str] = field(default_factory=dict)  # of people: other name to id
    members: dict[str, list[str]] = field(default_factory=dict)  # of groups: names, aliases, "group:NAME"
    inactive: frozenset[str] = frozenset()

    def toml(self) -> str:
        lines = []
        for who in (*(p for p in PEOPLE if p not in self.aliases), *self.owners):
            lines.append(f'[identities."{who}"]')
            if who in self.owners:
                lines.append(f"owners = {self.owners[who]!r}")
            if names := [alias for alias, of in self.aliases.items() if of == who]:
                lines.append(f"aliases = {names!r}")
            if who in self.inactive:
                lines.append("active = false")
        for group, members in self.members.items():
            lines += [f"[groups.{group}]", f"members = {members!r}"]
        return "\n".join(lines).replace("'", '"')

    def real(self, name: str) -> str:
        folded = name.lower() if name.startswith("human:") else name
        return self.aliases.get(folded, folded)

    def answers_for(self, who: str, seen: frozenset[str] = frozenset()) -> set[str]:
        """Everybody accountable, at any level; raises on a circle."""
        if who in seen:
            raise RecursionError(who)
        found: set[str] = set()
        for owner in map(self.real, self.owners.get(who, [])):
            found |= {owner} | self.answers_for(owner, seen | {who})
        return found

    def within(self, group: str, seen: frozenset[str] = frozenset()) -> set[str]:
        """Everybody in a group, through groups in it; raises on a circle."""
        if group in seen:
            raise RecursionError(group)
        found: set[str] = set()
        for member in self.members.get(group, []):
            inner = member.removeprefix("group:")
            found |= self.within(inner, seen | {group}) if inner != member else {self.real(member)}
        return found

    def circles(self) -> bool:
        try:
            for machine in self.owners:
                self.answers_for(machine)
            for group in self.members:
                self.within(group)
        except RecursionError:
            return True
        return False


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    aliases = {}
    for number, who in enumerate(draw(st.lists(st.sampled_from(PEOPLE), max_size=4))):
        aliases[f"human:other{number}@example.org"] = who
    names = [*PEOPLE, *aliases, *(who.replace("human:p", "human:P") for who in PEOPLE)]
    machines = draw(st.lists(st.sampled_from(MACHINES), unique=True, min_size=1))
    anyhow = draw(st.integers(0, 9)) == 0  # also in circles; else each is owned by, and in, those before it
    owners = {
        machine: draw(
            st.lists(
                st.sampled_from([*names, *(machines if anyhow else machines[:at])]), min_size=1, max_size=3, unique=True
            )
        )
        for at, machine in enumerate(machines)
    }  # fmt: skip
    members = {}
    for at, group in enumerate(GROUPS):
        inner = [f"group:{g}" for g in (GROUPS if anyhow else GROUPS[:at])]
        direct = draw(st.lists(st.sampled_from([*names, *machines]), max_size=6, unique=True))
        members[group] = direct + draw(
            st.lists(st.sampled_from(inner), max_size=2, unique=True) if inner else st.just([])
        )
    inactive = frozenset(draw(st.lists(st.sampled_from(PEOPLE), max_size=2)))
    return Picture(owners=owners, aliases=aliases, members=members, inactive=inactive)


def subject(people: People, who: str) -> Subject:
    found = people.identities[who]
    return Subject(identity=found, owners=tuple(people.identities[o] for o in found.owners))


def may_approve(life: Life, actor: Identity, owners: tuple[str, ...]) -> bool:
    """Whether the gate takes this person's approval. They are in the stage by group, and policy says yes to all of it."""
    stages = tuple(
        s.name for s in life.ticket.stages if {f"group:{g}" for g in actor.groups} & set(s.approvers)
    )
    said = Authority(approver=actor.id, stages=stages, verdict=replace(verdict(), obligations=None))
    facts = c.Facts(actor=actor, accountable=owners, authority=said)
    try:
        life.do(c.Approve(digest=life.ticket.digest), facts)
    except Refused:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(picture=pictures(), data=st.data())
def test_nobody_decides_for_himself_and_each_counts_once(picture: Picture, data: st.DataObject) -> None:
    if picture.circles():
        event("a circle")
        with pytest.raises(Misconfigured):
            parse(picture.toml(), "drawn")
        return
    people = parse(picture.toml(), "drawn")
    everybody = [*PEOPLE, *picture.owners]
    for who in everybody:  # the directory follows what is drawn to its end, and no further
        assert set(people.identities[who].owners) == picture.answers_for(who)
        assert set(people.identities[who].groups) == {g for g in GROUPS if who in picture.within(g)}
    requester, beneficiary = data.draw(st.sampled_from(everybody)), data.draw(st.sampled_from(everybody))
    group, needed = data.draw(st.sampled_from(GROUPS)), data.draw(st.integers(1, 3))
    asks, gets = subject(people, requester), subject(people, beneficiary)
    alive = answered_for(asks) and answered_for(gets)

    def answered(who: str) -> bool:
        if who in picture.inactive:
            return False
        return who in PEOPLE or any(
            o in PEOPLE and o not in picture.inactive for o in picture.answers_for(who)
        )

    assert alive == (answered(requester) and answered(beneficiary))
    assume(alive)

    owners = accountable(asks, gets)
    life = Life(requester=requester, beneficiary=beneficiary)
    life.now = NOW
    stage = Stage(name=group, needed=needed, approvers=(f"group:{group}",))
    said = replace(verdict(), obligations=replace(verdict().obligations, stages=(stage,)))
    spent = tuple(unspent(w) for w in {requester, beneficiary} if w not in PEOPLE)
    life.do(
        c.Submit(ticket="req_1", terms=life.terms),
        c.Facts(actor=asks.identity, accountable=owners, verdict=said, spent=spent),
    )
    stake = {requester, beneficiary} | picture.answers_for(requester) | picture.answers_for(beneficiary)
    voted: set[str] = set()
    for name in data.draw(st.lists(st.sampled_from([*everybody, *picture.aliases]), max_size=10)):
        person = people.identities[people.canonical[name]]
        who = picture.real(name)
        wanted = (
            life.ticket.status == "pending" and who in PEOPLE and who not in stake and who not in voted
            and who not in picture.inactive and who in picture.within(group)
        )  # fmt: skip
        assert may_approve(life, person, owners) == wanted, (name, picture)
        if wanted:
            voted.add(who)
            event("a vote")
    assert (life.ticket.status == "approved") == (len(voted) >= needed)
    assert {d.approver for d in life.ticket.decisions} == voted


@settings(max_examples=60, deadline=None)
@given(picture=pictures(), data=st.data())
def test_what_changes_between_filing_and_deciding_counts_both_ways(
    picture: Picture, data: st.DataObject
) -> None:
    """Who answered for it at filing, or answers for it now, under any name, does not decide."""
    assume(not picture.circles())
    machine = data.draw(st.sampled_from(sorted(picture.owners)))
    then = parse(picture.toml(), "then")
    new_owner = data.draw(st.sampled_from(PEOPLE))
    before = picture.answers_for(machine)
    picture.owners[machine] = [new_owner]
    now = parse(picture.toml(), "now")
    after = picture.answers_for(machine)
    life = Life(requester=PEOPLE[0], beneficiary=machine)
    owners = accountable(subject(then, PEOPLE[0]), subject(then, machine))
    said = verdict()
    life.do(
        c.Submit(ticket="req_1", terms=life.terms),
        c.Facts(
            actor=then.identities[PEOPLE[0]], accountable=owners, verdict=said, spent=(unspent(machine),)
        ),
    )
    for who in PEOPLE:
        again = Life(requester=PEOPLE[0], beneficiary=machine)
        again.ticket, again.events = life.ticket, list(life.events)
        person = replace(now.identities[who], groups=("dba-leads",), active=True)
        taken = may_approve(again, person, accountable(subject(now, PEOPLE[0]), subject(now, machine)))
        assert taken == (who not in {PEOPLE[0]} | before | after)


# ── names (F18) ──

ANN = "human:ann@example.com"
LOOK_ALIKE = {
    "Cyrillic a": "human:\u0430nn@example.com",
    "full width": "human:\uff41nn@example.com",
    "long s for s": "human:ann@example.com\u017f",
    "Kelvin sign": "human:\u212aann@example.com",
    "dotless i": "human:ann@ex\u0131mple.com",
    "a space behind": "human:ann@example.com ",
    "a space before": "human: ann@example.com",
    "no-break space": "human:ann\u00a0@example.com",
    "zero width": "human:ann\u200b@example.com",
    "right to left": "human:\u202eann@example.com",
    "a composed letter": "human:\u00e4nn@example.com",
    "the same, decomposed": unicodedata.normalize("NFD", "human:\u00e4nn@example.com"),
    "NUL": "human:ann@example.com\x00",
    "a line end": "human:ann@example.com\n",
    "another kind in capitals": "Human:ann@example.com",
    "too long": "human:" + "a" * 256,
}


@pytest.mark.parametrize("what", LOOK_ALIKE)
def test_what_looks_like_somebody_is_nobody(what: str) -> None:
    with pytest.raises(Invalid):
        parse_identity(LOOK_ALIKE[what])


@given(st.lists(st.booleans(), min_size=len(ANN), max_size=len(ANN)))
def test_letter_case_makes_no_second_person(capitals: list[bool]) -> None:
    kind, _, name = ANN.partition(":")
    spelled = "".join(ch.upper() if up else ch for ch, up in zip(name, capitals, strict=False))
    assert parse_identity(f"{kind}:{spelled}") == ANN


@given(st.text(max_size=40), st.sampled_from(["human", "service_account", "workload", "ai_agent"]))
def test_a_name_has_one_spelling_or_is_refused(text: str, kind: str) -> None:
    try:
        name = parse_identity(f"{kind}:{text}")
    except Invalid:
        return
    assert name.isascii()
    assert name.isprintable()
    assert parse_identity(name) == name
    assert unicodedata.normalize("NFKC", name) == name
