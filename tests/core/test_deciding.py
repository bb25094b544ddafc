"""What holds for any commands in any order, with any facts: the gate never wavers, and what it says can be applied."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.lives import (
    BENEFICIARY,
    HOUR,
    LEAD,
    LEAD2,
    NOW,
    OWNER,
    REQUESTER,
    RW,
    SUPER,
    WORDS,
    Life,
    authority,
    in_status,
    terms,
    verdict,
)
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.closure import CHECKS
from muniment.core.due import due
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.glass import review_late_at
from muniment.core.identity import Identity, Kind
from muniment.core.instants import parse_instant, wire
from muniment.core.lifecycle import WHEN, decide
from muniment.core.scope import covers
from muniment.core.terms import terms_digest
from muniment.core.ticket import ENDS, LIVE, STATUSES, Recorded, Ticket, evolve, replay
from muniment.core.verdict import Stage

steady = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

PEOPLE = [REQUESTER, BENEFICIARY, OWNER, LEAD, LEAD2, "human:eve@example.com", "ai_agent:bot"]
TERMINAL = (e.RequestDenied, e.RequestWithdrawn, e.RequestLapsed, e.RequestClosed)
scopes = st.sampled_from([(), (RW,), (RW, SUPER), (SUPER,), (replace(RW, resource="x"),)])
words = st.sampled_from([WORDS, "", "\x00", "x" * 2000])

commands = st.one_of(
    st.builds(c.Submit, ticket=st.just("req_1"), terms=st.just(terms())),
    st.builds(c.Approve, digest=st.sampled_from([terms_digest("req_1", terms()), "sha256:00", ""])),
    st.builds(c.Approve, digest=st.just(terms_digest("req_1", terms()))),
    st.builds(c.Deny, comment=words),
    st.builds(c.Withdraw),
    st.builds(c.Return),
    st.builds(c.Revoke, reason=words),
    st.builds(c.Review, outcome=st.sampled_from(["appropriate", "inappropriate"]), comment=words),
    st.builds(c.Waive, check=st.sampled_from([*CHECKS, ""]), reason=words),
    st.builds(c.Resolve, finding=st.sampled_from(["1", "2", "", "-1"]), reason=words),
    st.builds(c.Lapse),
    st.builds(c.StartProvisioning, held=scopes, ticketed=scopes),
    st.builds(c.StartProvisioning, held=st.just(()), ticketed=st.just(())),
    st.builds(c.RecordGrant, granted=scopes),
    st.builds(c.RecordGrant, granted=st.just((RW,))),
    st.builds(c.FailProvisioning, code=words, message=words),
    st.builds(c.End, cause=st.sampled_from(["expired", "offboarded", "signal"])),
    st.builds(c.RecordRevocation, kept=st.sampled_from([(), (e.Kept(privilege=RW, ticket="req_2"),)])),
    st.builds(c.FailRevocation, code=words, message=words),
    st.builds(
        c.RecordUse, source=words, digest=words, events=st.integers(0, 5), first_at=st.just(wire(NOW)), last_at=st.just(wire(NOW)),
        privileges=scopes,
    ),
)  # fmt: skip

verdicts = st.builds(
    verdict, needed=st.integers(0, 2), permitted=st.booleans(), review_within=st.none() | st.integers(1, 9000)
)
actors = st.builds(
    Identity,
    id=st.sampled_from(PEOPLE),
    active=st.sampled_from([True, True, True, False]),
    aliases=st.sampled_from([(), (), (), (REQUESTER,), (LEAD,), (OWNER,)]),
)


@st.composite
def facts_for(draw: st.DrawFn, command: c.Command) -> c.Facts:
    """Any facts at all, more often than not such that the command could work."""
    peoples = isinstance(command, c.PeoplesCommand)
    actor = draw(actors) if draw(st.integers(0, 19)) < (19 if peoples else 1) else None
    may = None
    if actor and draw(st.booleans()):
        may = authority(
            draw(st.sampled_from([actor.id, LEAD])),
            permitted=draw(st.sampled_from([True, True, True, False])),
            stages=draw(st.sampled_from([("dba-leads",), ("dba-leads",), (), ("other",)])),
        )
    return c.Facts(
        actor=actor,
        accountable=draw(st.sampled_from([(OWNER,), (OWNER,), (), (OWNER, LEAD)])),
        steward=draw(st.booleans()),
        auditor=draw(st.booleans()),
        verdict=draw(st.none() | verdicts | verdicts),
        authority=may,
        standing_approvers=draw(st.sampled_from([(LEAD, LEAD2), (LEAD, LEAD2), (LEAD,), ()])),
        active=draw(st.sampled_from([True, True, True, True, False])),
        native_expiry=draw(st.booleans()),
    )


@given(st.data())
@settings(steady, max_examples=180)
def test_any_walk(data: st.DataObject) -> None:
    life = Life()
    first = data.draw(verdicts)
    now = NOW
    for step in range(data.draw(st.integers(1, 14))):
        command = data.draw(commands) if step else c.Submit(ticket="req_1", terms=terms())
        facts = data.draw(facts_for(command)) if step else life.by(REQUESTER, verdict=first)
        now += (
            data.draw(
                st.sampled_from([timedelta(0), timedelta(seconds=61), HOUR, 3 * HOUR, timedelta(days=1)])
            )
            if step
            else timedelta(0)
        )
        life.now = now
        before = life.ticket
        try:
            events = life.do(command, facts)
        except MunimentError as error:
            assert isinstance(error, Refused | Invalid), error
            assert error.message
            assert life.ticket == before
        else:
            sound(before, events, life)


def sound(before: Ticket | None, events: tuple[e.Event, ...], life: Life) -> None:
    """What must hold after every step."""
    after = life.ticket
    assert after is not None
    # the events were all applied, and say the same when they come back from their bytes (I24)
    assert after.version == len(life.events)
    read_back = [replace(r, event=e.decode_data(r.event.kind, e.encode_data(r.event))) for r in life.events]
    assert replay("req_1", read_back) == after
    # one terminal event, and nothing after it (I29)
    kinds = [isinstance(r.event, TERMINAL) for r in life.events]
    assert sum(kinds) == after.ended
    assert not any(kinds[:-1])
    assert after.ended == (after.status in ENDS) == (after.ended_at is not None)
    assert before is None or not before.ended or events == ()
    # an approval carries nothing of what is granted (I5); the terms never change (I3)
    if before is not None:
        assert (after.terms, after.digest) == (before.terms, before.digest)
    for recorded in life.events:
        if isinstance(recorded.event, e.RequestApproved):
            assert recorded.event.scope == life.terms.scope
            assert recorded.event.duration == life.terms.duration
    # nobody for himself, nobody twice, only people (I2, I4, I6)
    approvers = [d.approver for d in after.decisions]
    assert len(set(approvers)) == len(approvers)
    assert not {REQUESTER, BENEFICIARY, OWNER} & set(approvers)
    assert all(a.startswith("human:") for a in approvers)
    # nothing live without its approvals, without an end, or with more than was approved (I1, I12, I16)
    if after.status in LIVE and before and before.status not in LIVE:
        assert not after.open_stages()
    if after.status in LIVE:
        assert after.starts_at
        assert after.expires_at
        length = parse_instant(after.expires_at) - parse_instant(after.starts_at)
        assert length <= timedelta(seconds=life.terms.duration)
        assert after.obligations
        assert length <= timedelta(seconds=after.obligations.longest)
    if after.status == "active":
        assert after.granted == after.approved == life.terms.scope
    if after.status == "closed":
        assert all(x.holds or x.waived for x in after.checks)
        assert len(after.checks) == len(CHECKS)
        assert covers(after.approved, after.granted or ())
    due_is_consistent(after)


def due_is_consistent(ticket: Ticket) -> None:
    """Whatever is due is a controller's command that means something in this status; people wait for nobody else."""
    what = due(ticket)
    expected = {
        "pending": "lapse", "approved": "provision", "provisioning": "provision", "active": "expire", "revoking": "revoke",
    }  # fmt: skip
    if ticket.status == "revoked" and review_late_at(ticket):
        expected["revoked"] = "review"
    assert (what[0] if what else None) == expected.get(ticket.status)
    if what:
        assert what[1].tzinfo is not None
        wire(what[1])


@pytest.mark.parametrize("status", STATUSES)
def test_due_by_status(status: str) -> None:
    life = in_status(status)
    ticket = life.ticket
    assert ticket
    due_is_consistent(ticket)
    what = due(ticket)
    match status:
        case "pending":
            assert what == ("lapse", NOW + timedelta(days=1))
        case "approved" | "provisioning":
            assert what == ("provision", NOW)
        case "active":
            assert what == ("expire", NOW + 2 * HOUR)
        case "revoking":
            assert what == ("revoke", NOW + 2 * HOUR)
        case "revoked":
            assert what == ("review", NOW + 3 * HOUR)
        case _:
            assert what is None


@pytest.mark.parametrize("lapse_after", [60, 86_400])
def test_what_is_due_when_it_is_due_moves_on(lapse_after: int) -> None:
    """A controller that acts at the instant that `due` names always gets something done: no ticket spins or is stuck."""
    start = wire(NOW + HOUR)
    for window in ({}, {"starts_at": start, "duration": 600}):
        life = Life(**window).submit(verdict(lapse_after=lapse_after))
        at = due(life.ticket)[1]
        life.now = at - timedelta(microseconds=1)
        assert life.do(c.Lapse(), life.system()) == ()
        life.now = at
        assert life.do(c.Lapse(), life.system())
        assert life.ticket.status == "lapsed"
        life = Life(**window).submit().approve()
        life.now = due(life.ticket)[1]
        life.start()
        assert life.ticket.status == "provisioning"
        life.grant()
        life.now = due(life.ticket)[1]
        assert life.do(c.End(cause="expired"), life.system())
        assert life.ticket.status == "revoking"


def test_a_lapsed_request_is_not_approved_at_the_instant_it_lapses() -> None:
    life = Life().submit(verdict(lapse_after=60))
    life.now = NOW + timedelta(seconds=60)
    with pytest.raises(Refused) as caught:
        life.approve()
    assert caught.value.code == "refused.lapsed"
    life.now -= timedelta(microseconds=1)
    life.approve()


# ── I5: an approval carries no scope ──


def test_an_approval_has_no_field_for_scope() -> None:
    assert set(c.Approve.__struct_fields__) == {"digest", "comment", "signature"}
    fields = set(e.ApprovalRecorded.__struct_fields__)
    assert not fields & {
        "scope",
        "terms",
        "duration",
        "beneficiary",
        "account",
        "target",
        "expires_at",
        "starts_at",
        "privileges",
    }
    with pytest.raises(TypeError):
        c.Approve(digest="x", scope=())  # type: ignore[call-arg]


def test_what_was_approved_is_what_was_asked_however_it_was_approved() -> None:
    life = Life(scope=(SUPER, RW), duration=60).submit(verdict(needed=2)).approve(LEAD).approve(LEAD2)
    assert life.ticket
    assert life.ticket.approved == (SUPER, RW)
    (approved,) = [r.event for r in life.events if isinstance(r.event, e.RequestApproved)]
    assert approved.approvers == (LEAD, LEAD2)
    assert approved.duration == 60


# ── I12: the end is bounded by the request and by policy ──


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 20_000))
@steady
def test_no_window_is_longer_than_policy_allows_then_and_now(
    duration: int, at_filing: int, at_start: int
) -> None:
    def allows(longest: int):
        said = verdict()
        return replace(said, obligations=replace(said.obligations, longest=longest))

    life = Life(duration=duration)
    try:
        life.submit(allows(at_filing))
    except Refused as error:
        assert error.code == "refused.too-long"
        assert duration > at_filing
        return
    assert duration <= at_filing
    life.approve()
    life.do(
        c.StartProvisioning(held=(), ticketed=()),
        life.system(verdict=allows(at_start), standing_approvers=(LEAD,)),
    )
    assert life.ticket
    assert life.ticket.status == ("provisioning" if duration <= at_start else "denied")


def test_a_denial_or_a_fallen_approver_at_the_last_moment_gives_nothing() -> None:
    """I7: the gate in the last transaction sees everything again; whatever is missing is a no."""
    cases = [
        ({"verdict": None}, "denied"),
        ({"verdict": verdict(permitted=False)}, "denied"),
        ({"active": False}, "denied"),
        ({"standing_approvers": ()}, "pending"),
        ({"verdict": verdict(needed=2)}, "denied"),
        ({"verdict": replace(verdict(), obligations=None)}, "denied"),
        ({"verdict": verdict(native_expiry=True)}, "denied"),
        ({"verdict": verdict(native_expiry=True), "native_expiry": True}, "provisioning"),
        ({"verdict": verdict(sessions_cut=True)}, "denied"),
        ({"verdict": verdict(sessions_cut=True), "ends_sessions": True}, "provisioning"),
        ({"verdict": verdict(scope_bounded=True)}, "denied"),
        ({"verdict": verdict(scope_bounded=True), "scope_bounded": True}, "provisioning"),
        ({"verdict": verdict(references=("change",))}, "denied"),
        ({"verdict": verdict(references_open=("change",))}, "denied"),
        ({"verdict": verdict(references_open=("change",)), "open_references": ("change",)}, "provisioning"),
        ({}, "provisioning"),
    ]
    for changes, status in cases:
        life = in_status("approved")
        facts = replace(life.system(verdict=verdict(), standing_approvers=(LEAD,)), **changes)
        life.do(c.StartProvisioning(held=(), ticketed=()), facts)
        assert life.ticket
        assert life.ticket.status == status, changes


@pytest.mark.parametrize(
    ("demand", "met_by", "code"),
    [
        ({"native_expiry": True}, {"native_expiry": True}, "refused.native-expiry"),
        ({"sessions_cut": True}, {"ends_sessions": True}, "refused.sessions-cut"),
        ({"scope_bounded": True}, {"scope_bounded": True}, "refused.scope-bounded"),
        ({"references_open": ("change",)}, {"open_references": ("change",)}, "refused.reference-not-open"),
    ],
)
def test_what_the_target_cannot_do_is_refused_when_filing(demand, met_by, code) -> None:
    """Nobody's approval makes up for it, so nobody is asked for one."""
    life = Life()
    with pytest.raises(Refused) as caught:
        life.submit(verdict(**demand))
    assert caught.value.code == code
    assert caught.value.remedy
    assert life.ticket is None
    facts = replace(life.by(REQUESTER, verdict=verdict(**demand)), **met_by)
    life.do(c.Submit(ticket="req_1", terms=life.terms), facts)
    assert life.ticket.status == "pending"


def test_a_voided_approval_is_gone_and_its_giver_no_longer_counts() -> None:
    life = in_status("approved")
    life.do(c.StartProvisioning(held=(), ticketed=()), life.system(verdict=verdict(), standing_approvers=()))
    assert life.ticket
    assert life.ticket.decisions == ()
    assert life.ticket.approved == ()
    with pytest.raises(Refused):
        life.start()
    life.approve(LEAD2).start()
    assert life.ticket.status == "provisioning"
    assert [d.approver for d in life.ticket.decisions] == [LEAD2]


# ── separation, over graphs of who answers for whom (I2, I4, I6) ──

ids = st.sampled_from([f"human:p{n}@example.com" for n in range(5)])


@given(
    ids,
    st.sampled_from(["human", "ai_agent", "service_account"]),
    ids,
    st.sets(ids, max_size=3),
    ids,
    st.sets(ids, max_size=2),
    st.sets(ids),
)
@settings(steady, max_examples=300)
def test_nobody_decides_for_himself_over_any_relation(
    requester: str,
    kind: Kind,
    beneficiary: str,
    owners: set[str],
    actor: str,
    aliases: set[str],
    owners_now: set[str],
) -> None:
    if kind != "human":
        beneficiary = f"{kind}:bot"
        owners = owners | {"human:p0@example.com"}
    life = Life(requester=requester, beneficiary=beneficiary)
    life.owners = tuple(sorted(owners))
    life.submit()
    who = Identity(id=actor, aliases=tuple(sorted(aliases)))
    facts = c.Facts(
        actor=who,
        accountable=tuple(sorted(owners_now)),
        authority=authority(actor),
        steward=True,
        auditor=True,
    )
    mine = {actor, *aliases}
    stake = bool(mine & {requester, beneficiary, *owners, *owners_now})
    assert life.ticket
    for command in (c.Approve(digest=life.ticket.digest), c.Deny(comment=WORDS)):
        try:
            decide(life.ticket, command, facts, NOW)
        except Refused as error:
            assert stake
            assert error.code == "refused.self-approval"
        else:
            assert not stake


@given(st.lists(st.tuples(ids, ids), max_size=6), st.integers(1, 3), st.integers(0, 2))
@settings(steady, max_examples=300)
def test_a_quorum_is_that_many_different_people(
    tries: list[tuple[str, str]], leads: int, security: int
) -> None:
    """Two stages; people come under their own name or another, once or again, for either stage."""
    said = verdict()
    stages = tuple(
        Stage(name=name, needed=needed, approvers=(f"group:{name}",))
        for name, needed in (("dba-leads", leads), ("security", security))
    )
    said = replace(said, obligations=replace(said.obligations, stages=stages))
    life = Life(requester="human:zoe@example.com").submit(said)
    voted: dict[str, str] = {}
    counts = {"dba-leads": 0, "security": 0}
    for person, alias in tries:
        if life.ticket is None or life.ticket.status != "pending":
            break
        who = Identity(id=person, aliases=(alias,) if alias != person else ())
        try:
            life.do(
                c.Approve(digest=life.ticket.digest),
                life.system(actor=who, authority=authority(person, stages=("dba-leads", "security"))),
            )
        except Refused as error:
            assert {person, alias} & set(voted)
            assert error.code == "refused.already-decided"
        else:
            assert not {person, alias} & set(voted)
            stage = life.ticket.decisions[-1].stage
            voted[person] = stage
            counts[stage] += 1
    assert life.ticket
    enough = counts["dba-leads"] >= leads and counts["security"] >= security
    assert (life.ticket.status == "approved") == enough
    assert counts["dba-leads"] <= leads
    assert counts["security"] <= security


# ── evolve is total ──

some_events = st.sampled_from([r.event for status in STATUSES for r in in_status(status).events])


@given(st.lists(some_events, max_size=12))
@steady
def test_events_on_file_are_never_refused(events: list[e.Event]) -> None:
    """Even in an order that `decide` would never make: what has happened has happened."""
    ticket = in_status("pending").ticket
    assert ticket
    for event in [*events, e.Event()]:
        ticket = evolve(
            ticket, Recorded(seq=ticket.version, at=wire(NOW), actor="human:x", via="t", event=event), "req_1"
        )
        due(ticket)
        assert msgspec.json.decode(msgspec.json.encode(ticket), type=Ticket) == ticket


def test_every_command_has_its_statuses() -> None:
    assert {*c.PeoplesCommand.__args__, *c.ControllersCommand.__args__} - {c.Submit} == set(WHEN)
    assert not any(statuses & ENDS for statuses in WHEN.values())


def test_there_is_no_ticket_to_command() -> None:
    life = in_status("pending")
    with pytest.raises(Refused) as caught:
        decide(None, c.Withdraw(), life.by(REQUESTER), NOW)
    assert caught.value.code == "not-found"
    with pytest.raises(Refused):
        decide(
            life.ticket, c.Submit(ticket="req_1", terms=terms()), life.by(REQUESTER, verdict=verdict()), NOW
        )


def test_instants_of_the_lives_are_utc() -> None:
    assert isinstance(NOW, datetime)
    assert NOW.utcoffset() == timedelta(0)
