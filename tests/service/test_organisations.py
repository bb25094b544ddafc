"""I2 and I4 from the request to the access, over random organisations that change in between.

What `tests/directory/test_relations.py` asks of the core is asked here of the whole: tickets are filed, approved and
given through the service, with a store, the directory's file and Cedar. Between the approvals and the access the
organisation is another one: owners, groups in groups and other names changed, people left, two turn out to be one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from directory.test_relations import GROUPS, PEOPLE, Picture, pictures
from evidence.office import Office
from muniment.core.errors import MunimentError
from muniment.core.identity import SYSTEM
from muniment.policy.cedar import CedarPolicy
from muniment.ports import Actor
from muniment.service.desk import Desk
from muniment.service.registry import record_registry
from service.changes import sound

#: whoever is in the stage decides: what nobody may do is not written here
POLICY = "\n".join(
    [
        '@id("decide") permit (principal, action == Action::"approve", resource) when { context.stages.contains(context.stage) };',
        *(
            f'@id("{group}-{needed}") @approvers("{needed} of group:{group}") permit (principal, action == Action::"request", '
            f'resource) when {{ context.references.contains("{group}_{needed}") }};'
            for group in GROUPS
            for needed in (1, 2, 3)
        ),
    ]
)
#: machines have a budget, which is not what this is about
BUDGET = "budget = { requests_per_hour = 10000, concurrent_grants = 10000 }"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("organisations") / "access")
    made.desk = dataclasses.replace(made.desk, policy=CedarPolicy({"all.cedar": POLICY}))
    yield made
    sound(made)
    made.close()


def become(office: Office, picture: Picture) -> None:
    """The organisation is this one from now on."""
    text = picture.toml()
    for machine in picture.owners:
        text = text.replace(f'[identities."{machine}"]', f'[identities."{machine}"]\n{BUDGET}')
    (office.folder / "identities.toml").write_text(text)
    office.desk.directory.reload_if_changed()
    record_registry(office.desk, Actor(id=SYSTEM, via="test"))


def alive(picture: Picture, who: str) -> bool:
    """They are active, or a person who answers for them is."""
    if (who := picture.real(who)) in PEOPLE:
        return who not in picture.inactive
    return any(o in PEOPLE and o not in picture.inactive for o in picture.answers_for(who))


@st.composite
def changed(draw: st.DrawFn, then: Picture, asks: str, gets: str, voted: list[str]) -> Picture:
    """Another organisation with the same machines, in which a voter may answer for one, and two people may be one."""
    now = draw(pictures())
    one, other = (now.owners, then.owners) if draw(st.booleans()) else (then.owners, now.owners)
    now.owners = {**one, **other}
    now.members = now.members if draw(st.booleans()) else then.members
    if gets in now.owners and draw(st.booleans()):
        now.owners[gets] = [draw(st.sampled_from(voted))]
    now.inactive = now.inactive if draw(st.booleans()) else then.inactive
    now.aliases = {**then.aliases, **now.aliases}
    if draw(st.booleans()):
        pair = draw(st.sampled_from([[*voted, asks], PEOPLE, *([voted] if len(voted) > 1 else [])]))
        same, known = draw(st.lists(st.sampled_from(pair), min_size=2, max_size=2, unique=True))
        now.aliases = {alias: same if of == known else of for alias, of in now.aliases.items()} | {
            known: same
        }
    return now


def approve(desk: Desk, office: Office, ticket: str, name: str) -> bool:
    try:
        office.approve(ticket, name)
    except MunimentError:
        return False
    return True


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(then=pictures(), data=st.data())
def test_nobody_alone_when_it_is_approved_and_when_it_is_given(
    office: Office, then: Picture, data: st.DataObject
) -> None:
    assume(not then.circles())
    asks = data.draw(st.sampled_from(PEOPLE))
    gets = data.draw(st.sampled_from([*PEOPLE, *then.owners]))
    assume(alive(then, asks) and alive(then, gets))
    group, needed = data.draw(st.sampled_from(GROUPS)), data.draw(st.integers(1, 3))
    office.later(7200)
    become(office, then)
    ticket = office.ask(who=local(asks), beneficiary=gets, references={f"{group}_{needed}": "X-1"})
    stake = {asks, gets} | then.answers_for(gets)
    voted: list[str] = []
    for name in data.draw(st.permutations(PEOPLE)) + data.draw(st.lists(st.sampled_from(PEOPLE), max_size=3)):
        wanted = (
            len(voted) < needed and name not in stake and name not in voted and name not in then.inactive
            and name in then.within(group)
        )  # fmt: skip
        assert approve(office.desk, office, ticket, local(name)) == wanted
        voted += [name] if wanted else []
    assert office.status(ticket) == ("approved" if len(voted) == needed else "pending")
    if len(voted) < needed:
        event("too few")
        return
    now = data.draw(changed(then, asks, gets, voted))
    assume(not now.circles())
    become(office, now)
    office.give(ticket)
    stake_now = {now.real(who) for who in stake} | now.answers_for(gets)
    stands = [
        real not in now.inactive and real not in stake_now and real in now.within(group) for real in map(now.real, voted)
    ]  # fmt: skip
    distinct = len({*map(now.real, voted)}) == len(voted)
    renamed = now.real(asks) != asks or now.real(gets) != gets
    given_ = alive(now, asks) and alive(now, gets) and all(stands) and distinct and not renamed
    why = {
        "gone": alive(now, asks) and alive(now, gets),
        "fallen": all(stands),
        "one": distinct,
        "renamed": not renamed,
    }
    event(", ".join(what for what, fine in why.items() if not fine) or "given")
    assert (office.status(ticket) == "active") == given_, (voted, stands, distinct, renamed)


def local(who: str) -> str:
    return who.partition(":")[2].partition("@")[0]
