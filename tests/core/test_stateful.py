"""The whole life of tickets as a state machine, over the real store, against a small model that knows none of the code.

People, an agent and its owner, groups that change, a clock that is stepped, restarts, writers that come too late. The
model is a handful of dicts: it says who may do what and what comes of it; the real thing must agree after every step.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from core.lives import unspent
from muniment.core import commands as c
from muniment.core.errors import Conflict, MunimentError, Refused
from muniment.core.events import ApprovalRecorded, ProvisioningStarted, RequestWithdrawn
from muniment.core.identity import Identity
from muniment.core.instants import parse_instant, wire
from muniment.core.lifecycle import decide
from muniment.core.scope import Privilege
from muniment.core.terms import Terms
from muniment.core.verdict import Authority, Obligations, Stage, Verdict
from muniment.ledger.verify import verify_log
from muniment.ports import Actor, Append, Stream
from muniment.store import tables as t
from muniment.store.clock import StoreClock
from muniment.store.events import SqlStore
from muniment.store.opening import open_store
from muniment.store.projecting import ticket_row
from muniment.store.rebuild import differences
from muniment.store.sequencer import SqlLedger
from store.stores import KEY, ORIGIN, SIGNER, Shelf, folded, ledger_of, nothing, seal, shelf

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
WORDS = "sha256:" + "ab" * 32
RW, RO = Privilege(privilege="orders_rw"), Privilege(privilege="orders_ro")

ANN, BEN, CYD, DEE, EVE, ODA = (
    f"human:{name}@example.com" for name in ("ann", "ben", "cyd", "dee", "eve", "oda")
)
ALIAS = "human:oda.old@example.com"  # Oda's other name, under which she may come
BOT = "ai_agent:bot"
PEOPLE = [ANN, BEN, CYD, DEE, EVE, ODA, ALIAS, BOT]
OWNER_OF = {BOT: ODA}
STEWARDS, AUDITORS = {EVE}, {BEN}
ENDS = {"closed", "failed", "denied", "withdrawn", "lapsed"}

asks = st.fixed_dictionaries(
    {
        "requester": st.sampled_from([ANN, BEN, BOT]), "beneficiary": st.sampled_from([ANN, BEN, BOT]),
        "stages": st.sampled_from([{"leads": 1}, {"leads": 1}, {"leads": 2}, {"leads": 1, "security": 1}, {}]),
        "start": st.sampled_from([None, None, 0, 3600]), "duration": st.sampled_from([3600, 7200, 60, 7201]),
        "review": st.sampled_from([None, 600]), "lapse": st.sampled_from([86_400, 600]),
    }
)  # fmt: skip
twists = st.sampled_from(
    ["", "", "leaves", "leaves", "excess", "missing", "not gone", "attest", "attest", "inappropriate", "held"]
)
some = st.integers(0, 3)  # which ticket, counted from the newest
people = st.sampled_from(PEOPLE)


def really(person: str) -> str:
    return ODA if person == ALIAS else person


class Life(RuleBasedStateMachine):
    """``shelf`` is set by the test: what kind of database."""

    shelf: Shelf

    @initialize(under_way=st.lists(st.tuples(asks, st.integers(0, 6), twists), min_size=1, max_size=3))
    def begin(self, under_way: list[tuple[dict[str, Any], int, str]]) -> None:
        self.wall, self.ticks = START, 0.0  # the machine's two clocks
        self.url = self.shelf.url()
        self.store = self._open()
        self.least, self.least_tick = (
            START,
            0.0,
        )  # the model's clock: never less than this, plus what passed since
        self.groups = {"leads": {CYD, DEE, ANN, ODA, BOT}, "security": {DEE, EVE}}
        self.permits = True
        self.tickets: list[dict[str, Any]] = []
        self.seen: dict[str, int] = {}
        self.late: list[tuple[Stream, dict[str, Any]]] = []
        self.highest = START
        self.mark = ""
        for ask, steps, twist in under_way:  # every walk begins in the middle of things
            self.file(ask=ask)
            for _ in range(steps):
                self.a_step(twist)

    def _open(self) -> SqlStore:
        """As a process does when it starts: with nothing in memory but the persisted mark."""
        clock = StoreClock(lambda: self.wall, monotonic=lambda: self.ticks)
        store = open_store(self.url, ORIGIN, KEY, clock)
        with store.engine.connect() as connection:
            mark = connection.execute(select(t.clock.c.mark)).scalar_one()
        if mark:
            clock.advance_to(parse_instant(mark))
        return store

    # ── time ──

    def now(self) -> datetime:
        """The model's time; the store's must be the same."""
        self.least = max(self.least + timedelta(seconds=self.ticks - self.least_tick), self.wall)
        self.least_tick = self.ticks
        return self.least

    @rule(
        what=st.sampled_from(["time", "clock", "restart", "group", "group", "policy", "seal"]), draw=st.data()
    )
    def the_world_turns(self, what: str, draw: st.DataObject) -> None:
        """One rule for all that nobody decides, so that most steps are somebody's."""
        match what:
            case "time":
                self.time_passes(draw.draw(st.sampled_from([61, 1, 60, 600, 3600, 90_000])))
            case "clock":
                self.somebody_sets_the_clock(draw.draw(st.sampled_from([-5, -1440, 5, 1440])))
            case "restart":
                self.restart()
            case "group":
                self.joins_or_leaves(draw.draw(people), draw.draw(st.sampled_from(["leads", "security"])))
            case "policy":
                self.permits = draw.draw(st.sampled_from([True, True, True, False]))
            case "seal":
                self.seal_some()

    def time_passes(self, seconds: int) -> None:
        self.wall += timedelta(seconds=seconds)
        self.ticks += seconds

    def somebody_sets_the_clock(self, minutes: int) -> None:
        self.now()
        self.wall += timedelta(minutes=minutes)

    def restart(self) -> None:
        self.store.engine.dispose()
        self.store = self._open()
        self.least = parse_instant(self.mark) if self.mark else datetime.min.replace(tzinfo=UTC)
        self.least_tick = self.ticks
        self.late.clear()

    # ── who is who ──

    def joins_or_leaves(self, person: str, group: str) -> None:
        self.groups[group] ^= {really(person)}

    def facts(self, m: dict[str, Any], person: str | None, **more: Any) -> c.Facts:
        owners = tuple(
            sorted(
                {n for p in (m["requester"], m["beneficiary"]) if p in OWNER_OF for n in (OWNER_OF[p], ALIAS)}
            )
        )
        if person is None:
            return c.Facts(accountable=owners, **more)
        stages = tuple(s for s in m["stages"] if really(person) in self.groups[s])
        said = Verdict(
            permitted=True, policies="sha256:p", determining=("a",), reasons=(), evaluations=(), entities=()
        )
        identity = Identity(
            id=person, aliases=(ODA,) if person == ALIAS else (ALIAS,) if person == ODA else ()
        )
        return c.Facts(
            actor=identity, spent=tuple(map(unspent, {m["requester"], m["beneficiary"]})), accountable=owners, steward=person in STEWARDS, auditor=person in AUDITORS,
            authority=Authority(approver=person, stages=stages, verdict=said), **more,
        )  # fmt: skip

    def verdict(self, m: dict[str, Any], *, permitted: bool = True) -> Verdict:
        stages = tuple(Stage(name=s, needed=n, approvers=(f"group:{s}",)) for s, n in m["stages"].items())
        owed = Obligations(
            stages=stages, longest=7200, lapse_after=m["lapse"], review_within=m["review_within"]
        )
        return Verdict(
            permitted=permitted, policies="sha256:p", determining=("p",), reasons=() if permitted else ("no",), evaluations=(), entities=(),
            obligations=owed if permitted else None,
        )  # fmt: skip

    # ── the model ──

    def own(self, m: dict[str, Any]) -> set[str]:
        return {really(p) for p in (m["requester"], m["beneficiary"])} | {
            OWNER_OF[p] for p in (m["requester"], m["beneficiary"]) if p in OWNER_OF
        }

    def independent(self, m: dict[str, Any], person: str) -> bool:
        return person.startswith("human:") and really(person) not in self.own(m)

    def looks_back(self, m: dict[str, Any], person: str) -> bool:
        """May review, waive and resolve."""
        in_a_stage = any(really(person) in self.groups[s] for s in m["stages"])
        return self.independent(m, person) and (person in STEWARDS or person in AUDITORS or in_a_stage)

    def may(self, m: dict[str, Any], what: str, person: str) -> bool:
        """Who may do what, now: the whole table of what people do."""
        status, who = m["status"], really(person)
        in_a_stage = any(who in self.groups[s] for s in m["stages"])
        voted = who in map(really, m["votes"])
        answers_for = any(OWNER_OF.get(p) == who for p in (m["requester"], m["beneficiary"]))
        match what:
            case "approve":
                open_to = self.stage_for(m, person) is not None and not voted and self.now() < self.lapses(m)
                return status == "pending" and self.independent(m, person) and open_to
            case "deny":
                return status == "pending" and self.independent(m, person) and in_a_stage
            case "withdraw":
                return status in {"pending", "approved"} and who in self.own(m)
            case "return":
                return status in {"provisioning", "active"} and who in self.own(m)
            case "revoke":
                return status in {"approved", "provisioning", "active"} and (
                    person in STEWARDS or voted or answers_for
                )
            case "review":
                live = status in {"provisioning", "active", "revoking", "revoked"}
                return live and m["review"] == "open" and self.looks_back(m, person)
            case "waive gone":
                fails = status in {"revoking", "revoked"} and not m["gone"]
            case "waive reviewed":
                fails = status == "revoked" and m["review"] == "open"
            case "waive findings_resolved":
                fails = status == "revoked" and bool(m["findings"])
            case _:
                fails = False
        return fails and what.removeprefix("waive ") not in m["waived"] and self.looks_back(m, person)

    def expires(self, m: dict[str, Any]) -> datetime | None:
        if m["expires"]:
            return m["expires"]
        return m["start"] + timedelta(seconds=m["duration"]) if m["start"] else None

    def lapses(self, m: dict[str, Any]) -> datetime:
        by = m["filed"] + timedelta(seconds=m["lapse"])
        end = self.expires(m)
        return min(by, end) if end else by

    def settle(self, m: dict[str, Any]) -> None:
        """The last step takes itself."""
        if m["status"] == "revoked" and (m["gone"] or "gone" in m["waived"]):
            reviewed = m["review"] != "open" or "reviewed" in m["waived"]
            if reviewed and (not m["findings"] or "findings_resolved" in m["waived"]):
                within = not m["excess"] or m["failed"]
                assert within
                m["status"] = "failed" if m["failed"] else "closed"

    # ── the one write path ──

    def attempt(self, m: dict[str, Any], command: c.Command, facts: c.Facts, *, allowed: bool) -> bool:
        """Do it, and compare with what the model says of it. True if it was done."""
        store, now = self.store, self.store.clock.now()
        assert now == self.now()
        fresh = isinstance(command, c.Submit)
        stream, ticket = (nothing(m["id"]), None) if fresh else store.read(m["id"])
        try:
            events = decide(ticket, command, facts, now)
        except MunimentError as error:
            assert not allowed, f"{type(command).__name__} on {m['status']}: {error}"
            assert isinstance(error, Refused)
            return False
        assert allowed or not events, f"{type(command).__name__} was done on {m['status']} by {facts.actor}"
        actor = Actor(id=facts.actor.id if facts.actor else "system:muniment", via="test")
        after = folded(m["id"], ticket, events, now, actor)
        store.append(Append(stream=stream, actor=actor, events=events, at=now, ticket=after))
        for event in events:  # entitled when approving, and when provisioned
            if isinstance(event, ApprovalRecorded):
                assert really(event.approver) in self.groups[event.stage]
            if isinstance(event, ProvisioningStarted):
                assert set(event.approvers) == set(m["votes"])
                assert all(really(p) in self.groups[s] for p, s in m["votes"].items())
        if events:
            self.mark = max(self.mark, wire(now))
            self.late = [*self.late[-3:], (stream, m)]
        elif not fresh:
            self.mark = max(self.mark, wire(now))
        return bool(events)

    def pick(self, some: int) -> dict[str, Any]:
        """Mostly one that has not ended."""
        lives = [m for m in self.tickets if m["status"] not in ENDS] if some else []
        return (lives or self.tickets)[-1 - some % len(lives or self.tickets)]

    @precondition(lambda self: any(m["status"] not in ENDS for m in self.tickets))
    @rule(times=st.integers(1, 2), twist=twists)
    def the_ordinary_way(self, times: int, twist: str) -> None:
        """The next steps as they should go, or with a twist. Without it few walks would get far."""
        for _ in range(times):
            self.a_step(twist)
            self.statuses_are_the_models()

    def a_step(self, twist: str = "") -> None:
        m = next((m for m in reversed(self.tickets) if m["status"] not in ENDS), None)
        if m is None:
            return
        now = self.now()
        match m["status"]:
            case "pending":
                able = [p for p in (CYD, DEE, EVE) if p not in m["votes"] and self.stage_for(m, p)]
                if able and now < self.lapses(m):
                    self.step_approve(m, able[0], m["digest"])
            case "approved":
                if m["start"] and now < m["start"]:
                    self.time_passes(int((m["start"] - now).total_seconds()) + 1)
                if twist == "leaves" and m["votes"]:
                    self.joins_or_leaves(*next(iter(m["votes"].items())))
                self.step_start(m, (RW,) if twist == "held" else ())
            case "provisioning":
                self.step_observe(m, {"excess": (RO, RW), "missing": ()}.get(twist, (RW,)))
            case "active":
                self.time_passes(max(0, int((m["expires"] - now).total_seconds())) + 1)
                self.step_end(m, "expired")
            case "revoking" if twist == "attest":
                self.step_waive(m, EVE, "gone")
            case "revoking":
                if twist == "not gone":
                    self.step_not_gone(m, "no answer")
                    self.time_passes(61)
                    self.step_not_gone(m, "still held")
                self.step_gone(m)
            case "revoked" if m["review"] == "open":
                if twist == "attest":
                    self.step_waive(m, BEN, "reviewed")
                self.step_review(m, EVE, "inappropriate" if twist == "inappropriate" else "appropriate")
            case "revoked" if m["findings"]:
                self.step_resolve(m, EVE, min(m["findings"]))

    # ── what people do ──

    @precondition(lambda self: len(self.tickets) < 4)
    @rule(ask=asks)
    def file(self, ask: dict[str, Any]) -> None:
        now = self.now()
        requester, beneficiary, stages, duration = (
            ask["requester"],
            ask["beneficiary"],
            ask["stages"],
            ask["duration"],
        )
        review, lapse = ask["review"], ask["lapse"]
        begins = None if ask["start"] is None else now + timedelta(seconds=ask["start"])
        m: dict[str, Any] = {
            "id": f"req_{len(self.tickets):026d}", "requester": requester, "beneficiary": beneficiary, "stages": dict(stages), "start": begins,
            "duration": duration, "review_within": review, "lapse": lapse, "filed": now, "status": "pending", "votes": {}, "expires": None,
            "failed": False, "excess": False, "review": "none", "findings": set(), "numbers": 0, "waived": set(), "gone": False,
            "ordered": None, "trouble": None,
        }  # fmt: skip
        terms = Terms(
            kind="standard", requester=requester, beneficiary=beneficiary, target="pg", account=m["id"], scope=(RW,), justification=WORDS,
            references={}, incident=None, starts_at=wire(begins) if begins else None, duration=duration, public_key=None,
        )  # fmt: skip
        m["digest"] = (
            "sha256:"
            + hashlib.sha256(
                rfc8785.dumps({"ticket": m["id"], "terms": msgspec.to_builtins(terms)})
            ).hexdigest()
        )
        facts = self.facts(m, requester, verdict=self.verdict(m, permitted=self.permits))
        if self.attempt(
            m, c.Submit(ticket=m["id"], terms=terms), facts, allowed=not self.permits or duration <= 7200
        ):
            m["status"] = "denied" if not self.permits else "pending" if stages else "approved"
            self.tickets.append(m)

    def stage_for(self, m: dict[str, Any], person: str) -> str | None:
        """The first of the ticket's stages that still needs somebody and has this person."""
        for stage, needed in m["stages"].items():
            if list(m["votes"].values()).count(stage) < needed and really(person) in self.groups[stage]:
                return stage
        return None

    @precondition(lambda self: self.tickets)
    @rule(which=some, person=people, other=some, shown=st.sampled_from(["this", "this", "this", "another"]))
    def approve(self, which: int, person: str, other: int, shown: str) -> None:
        m = self.pick(which)
        self.step_approve(m, person, m["digest"] if shown == "this" else self.pick(other)["digest"])

    def step_approve(self, m: dict[str, Any], person: str, digest: str) -> None:
        stage = self.stage_for(m, person)
        allowed = self.may(m, "approve", person) and digest == m["digest"]
        if self.attempt(m, c.Approve(digest=digest), self.facts(m, person), allowed=allowed):
            m["votes"][person] = stage
            if all(list(m["votes"].values()).count(s) >= n for s, n in m["stages"].items()):
                m["status"] = "approved"

    @precondition(lambda self: self.tickets)
    @rule(which=some, person=people)
    def deny(self, which: int, person: str) -> None:
        m = self.pick(which)
        allowed = self.may(m, "deny", person)
        if self.attempt(m, c.Deny(comment=WORDS), self.facts(m, person), allowed=allowed):
            m["status"] = "denied"

    @precondition(lambda self: self.tickets)
    @rule(which=some, person=people)
    def withdraw(self, which: int, person: str) -> None:
        m = self.pick(which)
        allowed = self.may(m, "withdraw", person)
        if self.attempt(m, c.Withdraw(), self.facts(m, person), allowed=allowed):
            m["status"] = "withdrawn"

    @precondition(lambda self: self.tickets)
    @rule(which=some, person=people)
    def give_back(self, which: int, person: str) -> None:
        m = self.pick(which)
        allowed = self.may(m, "return", person)
        if self.attempt(m, c.Return(), self.facts(m, person), allowed=allowed):
            m["status"], m["ordered"] = "revoking", self.now()

    @precondition(lambda self: self.tickets)
    @rule(which=some, person=people)
    def revoke(self, which: int, person: str) -> None:
        m = self.pick(which)
        allowed = self.may(m, "revoke", person)
        if self.attempt(m, c.Revoke(reason=WORDS), self.facts(m, person), allowed=allowed):
            m["ordered"] = self.now()
            m["status"] = "withdrawn" if m["status"] == "approved" else "revoking"

    @precondition(lambda self: self.tickets)
    @rule(which=some, person=people, outcome=st.sampled_from(["appropriate", "inappropriate"]))
    def review(self, which: int, person: str, outcome: Any) -> None:
        self.step_review(self.pick(which), person, outcome)

    def step_review(self, m: dict[str, Any], person: str, outcome: Any) -> None:
        allowed = self.may(m, "review", person)
        if self.attempt(m, c.Review(outcome=outcome, comment=WORDS), self.facts(m, person), allowed=allowed):
            m["review"] = "done"
            if outcome == "inappropriate":
                self.find(m)
            self.settle(m)

    @precondition(lambda self: self.tickets)
    @rule(
        which=some,
        person=people,
        check=st.sampled_from(["gone", "reviewed", "findings_resolved", "time_bound", "nobody_alone"]),
    )
    def waive(self, which: int, person: str, check: str) -> None:
        self.step_waive(self.pick(which), person, check)

    def step_waive(self, m: dict[str, Any], person: str, check: str) -> None:
        allowed = self.may(m, f"waive {check}", person)
        if self.attempt(m, c.Waive(check=check, reason=WORDS), self.facts(m, person), allowed=allowed):
            m["waived"].add(check)
            if check == "gone" and m["status"] == "revoking":
                m["status"] = "revoked"
                self.owe_review(m)
            self.settle(m)

    @precondition(lambda self: any(m["findings"] for m in self.tickets))
    @rule(person=people, number=st.sampled_from(["1", "2", "3"]))
    def resolve(self, person: str, number: str) -> None:
        m = next(m for m in self.tickets if m["findings"])
        self.step_resolve(m, person, number)

    def step_resolve(self, m: dict[str, Any], person: str, number: str) -> None:
        live = m["status"] in {"provisioning", "active", "revoking", "revoked"}
        allowed = live and number in m["findings"] and self.looks_back(m, person)
        if self.attempt(m, c.Resolve(finding=number, reason=WORDS), self.facts(m, person), allowed=allowed):
            m["findings"].discard(number)
            self.settle(m)

    def find(self, m: dict[str, Any], kind: str = "") -> None:
        m["numbers"] += 1
        m["findings"].add(str(m["numbers"]))
        if kind == "overdue":
            m["overdue"] = str(m["numbers"])

    def owe_review(self, m: dict[str, Any]) -> None:
        if m["review_within"] is not None and m["review"] == "none" and not m["failed"]:
            m["review"] = "open"

    # ── what controllers do ──

    @precondition(lambda self: self.tickets)
    @rule(which=some)
    def lapse(self, which: int) -> None:
        m, now = self.pick(which), self.now()
        end = self.expires(m)
        over = end is not None and now >= end
        due = (m["status"] == "pending" and now >= self.lapses(m)) or (
            m["status"] in {"pending", "approved"} and over
        )
        if self.attempt(m, c.Lapse(), self.facts(m, None), allowed=due):
            m["status"] = "lapsed"

    @precondition(lambda self: any(m["status"] == "approved" for m in self.tickets))
    @rule(which=some, held=st.sampled_from([(), (), (RO,), (RW,)]))
    def start(self, which: int, held: tuple[Privilege, ...]) -> None:
        ready = [m for m in self.tickets if m["status"] == "approved"]
        self.step_start(ready[which % len(ready)], held)

    def step_start(self, m: dict[str, Any], held: tuple[Privilege, ...]) -> None:
        now = self.now()
        end = self.expires(m) or now + timedelta(seconds=m["duration"])
        early = m["start"] is not None and now < m["start"]
        standing = tuple(p for p, s in m["votes"].items() if really(p) in self.groups[s])
        facts = self.facts(
            m, None, verdict=self.verdict(m, permitted=self.permits), standing_approvers=standing
        )
        if not self.attempt(m, c.StartProvisioning(held=held, ticketed=()), facts, allowed=not early):
            return
        if now >= end:
            m["status"] = "lapsed"
        elif not self.permits:
            m["status"] = "denied"
        elif len(standing) < len(m["votes"]):
            m["status"], m["votes"] = "pending", {p: s for p, s in m["votes"].items() if p in standing}
        elif RW in held:
            m["status"] = "failed"
        else:
            m["status"], m["expires"] = "provisioning", end

    @precondition(lambda self: any(m["status"] == "provisioning" for m in self.tickets))
    @rule(which=some, granted=st.sampled_from([(RW,), (RW,), (RW,), (), (RO, RW), (RO,)]))
    def observe(self, which: int, granted: tuple[Privilege, ...]) -> None:
        ready = [m for m in self.tickets if m["status"] == "provisioning"]
        m = ready[which % len(ready)]
        self.step_observe(m, granted)

    def step_observe(self, m: dict[str, Any], granted: tuple[Privilege, ...]) -> None:
        assert self.attempt(m, c.RecordGrant(granted=granted), self.facts(m, None), allowed=True)
        if granted == (RW,):
            m["status"] = "active"
            return
        m["status"], m["failed"], m["excess"], m["ordered"] = "revoking", True, RO in granted, self.now()
        if RO in granted:
            self.find(m)

    @precondition(lambda self: self.tickets)
    @rule(which=some)
    def give_up(self, which: int) -> None:
        m = self.pick(which)
        allowed = m["status"] in {"approved", "provisioning"}
        if self.attempt(
            m, c.FailProvisioning(code="target.rejected", message="no"), self.facts(m, None), allowed=allowed
        ):
            m["failed"], m["ordered"] = True, self.now()
            m["status"] = "failed" if m["status"] == "approved" else "revoking"

    @precondition(lambda self: any(m["status"] in {"provisioning", "active"} for m in self.tickets))
    @rule(which=some, cause=st.sampled_from(["expired", "expired", "offboarded"]))
    def end(self, which: int, cause: Any) -> None:
        ready = [m for m in self.tickets if m["status"] in {"provisioning", "active"}]
        self.step_end(ready[which % len(ready)], cause)

    def step_end(self, m: dict[str, Any], cause: Any) -> None:
        now = self.now()
        if self.attempt(
            m, c.End(cause=cause), self.facts(m, None), allowed=cause != "expired" or now >= m["expires"]
        ):
            m["failed"] = m["failed"] or m["status"] == "provisioning"
            m["status"], m["ordered"] = "revoking", now

    @precondition(lambda self: any(m["status"] == "revoking" for m in self.tickets))
    @rule(which=some)
    def gone(self, which: int) -> None:
        ready = [m for m in self.tickets if m["status"] == "revoking"]
        m = ready[which % len(ready)]
        self.step_gone(m)

    def step_gone(self, m: dict[str, Any]) -> None:
        assert self.attempt(m, c.RecordRevocation(), self.facts(m, None), allowed=True)
        m["status"], m["gone"] = "revoked", True
        m["findings"].discard(m.get("overdue"))
        self.owe_review(m)
        self.settle(m)

    @precondition(lambda self: any(m["status"] == "revoking" for m in self.tickets))
    @rule(which=some, message=st.sampled_from(["no answer", "still held"]))
    def not_gone(self, which: int, message: str) -> None:
        ready = [m for m in self.tickets if m["status"] == "revoking"]
        m = ready[which % len(ready)]
        self.step_not_gone(m, message)

    def step_not_gone(self, m: dict[str, Any], message: str) -> None:
        late = self.now() >= m["ordered"] + timedelta(seconds=60) and m.get("overdue") not in m["findings"]
        new = m["trouble"] != message
        assert self.attempt(
            m, c.FailRevocation(code="x", message=message), self.facts(m, None), allowed=late or new
        ) == (late or new)
        m["trouble"] = message
        if late:
            self.find(m, "overdue")

    # ── what should never work ──

    @precondition(lambda self: self.late)
    @rule()
    def somebody_comes_too_late(self) -> None:
        """A writer that read before the last change writes now: refused, and nothing of it stays."""
        stream, m = self.late[-1]
        now = self.store.clock.now()
        self.now()
        _, ticket = self.store.read(m["id"])
        assert ticket
        events = (RequestWithdrawn(),)
        after = folded(m["id"], ticket, events, now)
        with pytest.raises(Conflict):
            self.store.append(
                Append(stream=stream, actor=Actor(id=ANN, via="t"), events=events, at=now, ticket=after)
            )

    def seal_some(self) -> None:
        SqlLedger(self.store.engine, ORIGIN, self.store.marker, self.store.clock).integrate()

    # ── what always holds ──

    @invariant()
    def statuses_are_the_models(self) -> None:
        if not hasattr(self, "tickets"):
            return
        now = self.store.clock.now()
        assert now == self.now()
        assert now >= self.highest or self.mark < wire(self.highest)
        self.highest = now
        for m in self.tickets:
            _, ticket = self.store.read(m["id"])
            assert ticket
            assert ticket.status == m["status"], m
            assert {d.approver: d.stage for d in ticket.decisions if d.decision == "approve"} == m[
                "votes"
            ] or m["status"] == "denied"
            assert {f.id for f in ticket.findings if not f.resolved_at} == m["findings"]
            assert (ticket.review is not None and ticket.review.outcome is None) == (m["review"] == "open")
            if m["expires"]:
                assert ticket.expiry == m["expires"]

    @invariant()
    def the_record_is_sound(self) -> None:
        """I2, I3, I4, I29 over the recorded events themselves; I24 over the rows."""
        if not hasattr(self, "tickets"):
            return
        changed = [m for m in self.tickets if self.store.read(m["id"])[0].version != self.seen.get(m["id"])]
        for m in changed:
            recorded = self.store.entries(m["id"])
            assert [r.seq for r in recorded] == list(range(len(recorded)))
            standing: dict[str, str] = {}
            kinds = [r.event.kind for r in recorded]
            for number, r in enumerate(recorded):
                event: Any = r.event
                match event.kind:
                    case "request-submitted/1":
                        assert event.digest == m["digest"]
                        assert number == 0
                    case "approval-recorded/1":
                        assert event.approver.startswith("human:")
                        assert really(event.approver) not in self.own(m)
                        assert really(event.approver) not in map(really, standing) or event.decision == "deny"
                        assert event.digest == m["digest"]
                        if event.decision == "approve":
                            standing[event.approver] = event.stage
                    case "approvals-voided/1":
                        for name in event.approvers:
                            del standing[name]
                    case "provisioning-started/1":
                        for stage, needed in m["stages"].items():
                            entitled = [p for p, stage_of in standing.items() if stage_of == stage]
                            assert len(set(map(really, entitled))) >= needed
                        assert parse_instant(event.expires_at) <= (
                            m["start"] or parse_instant(r.at)
                        ) + timedelta(seconds=m["duration"])
            self.seen[m["id"]] = len(recorded)
            terminal = [
                k
                for k in kinds
                if k in {"request-denied/1", "request-withdrawn/1", "request-lapsed/1", "request-closed/1"}
            ]
            assert len(terminal) == (m["status"] in ENDS)
            assert not terminal or kinds[-1] == terminal[0]
            if "grant-observed/1" in kinds:
                assert kinds.index("provisioning-started/1") < kinds.index("grant-observed/1")
        if changed:
            fresh = SqlStore(self.store.engine, ORIGIN, self.store.marker, self.store.clock)
            assert list(differences(fresh)) == []

    @invariant()
    def exactly_those_may_who_may(self) -> None:
        """Everybody tries everything, on the newest two tickets, in whatever state they are; nothing is recorded."""
        if not hasattr(self, "tickets"):
            return
        now = self.store.clock.now()
        self.now()
        for m in self.tickets[-2:]:
            ticket = self.store.read(m["id"])[1]
            tries: dict[str, c.Command] = {
                "approve": c.Approve(digest=m["digest"]), "deny": c.Deny(comment=WORDS), "withdraw": c.Withdraw(), "return": c.Return(),
                "revoke": c.Revoke(reason=WORDS), "review": c.Review(outcome="appropriate", comment=WORDS),
                "waive gone": c.Waive(check="gone", reason=WORDS), "waive reviewed": c.Waive(check="reviewed", reason=WORDS),
                "waive nobody_alone": c.Waive(check="nobody_alone", reason=WORDS),
            }  # fmt: skip
            for person in PEOPLE:
                facts = self.facts(m, person)
                for what, command in tries.items():
                    try:
                        decide(ticket, command, facts, now)
                    except Refused as error:
                        assert not self.may(m, what, person), f"{person} may {what} {m}, yet {error}"
                    else:
                        assert self.may(m, what, person), f"{person} must not {what} {m}"
                with pytest.raises(Refused):
                    decide(ticket, c.Approve(digest="sha256:" + "0" * 64), facts, now)

    @invariant()
    def what_is_due_is_due(self) -> None:
        if not hasattr(self, "tickets"):
            return
        due = {d.ticket: (d.action, d.at) for d in self.store.due(datetime(9999, 1, 1, tzinfo=UTC), 100)}
        for m in self.tickets:
            expected = {
                "pending": ("lapse", self.lapses(m)), "active": ("expire", m["expires"]), "revoking": ("revoke", m["ordered"]),
            }.get(m["status"])  # fmt: skip
            if m["status"] in {"approved", "provisioning"}:
                assert due[m["id"]][0] == "provision"
            elif m["status"] == "revoked" and m["review"] == "open":
                assert due[m["id"]][0] == "review"
            else:
                assert due.get(m["id"]) == expected

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        note = seal(self.store)
        entries = list(ledger_of(self.store).entries())
        report = verify_log(entries, note, SIGNER.verifier, origin=ORIGIN)
        assert report.ok, report
        fresh = SqlStore(self.store.engine, ORIGIN, self.store.marker, self.store.clock)
        with self.store.engine.connect() as connection:
            rows = connection.execute(select(t.ticket)).all()
        for row in rows:
            _, ticket = fresh.read(row.id)
            assert ticket
            assert tuple(row) == tuple(ticket_row(ticket).values())
        assert report.events == sum(len(self.store.entries(m["id"])) for m in self.tickets)
        self.store.engine.dispose()
        self.shelf.discard(self.url)


def walk(kind: Shelf, examples: int, steps: int) -> None:
    machine = type("Walk", (Life,), {"shelf": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
            phases=[
                Phase.generate
            ],  # to make a failing walk smaller takes minutes; its steps are printed as they are
        ),
    )


def test_on_sqlite() -> None:
    with shelf(None) as kind:
        walk(kind, 60, 15)


@pytest.mark.server("postgres18")
@pytest.mark.xdist_group("store-postgres18")
def test_on_postgresql_18(postgres18) -> None:
    with shelf(postgres18) as kind:
        walk(kind, 20, 15)


@pytest.mark.server("postgres15")
@pytest.mark.xdist_group("store-postgres15")
def test_on_postgresql_15(postgres15) -> None:
    with shelf(postgres15) as kind:
        walk(kind, 5, 15)
