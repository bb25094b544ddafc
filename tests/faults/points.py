"""Processes that are killed, or stopped, at the n-th point of a pass: ``python points.py ARGUMENTS`` (`Plan`).

Points lie before and after each durable commit, each call of a connector and each ``confirm``, and between the two
steps of taking back. For n = 1, 2, … a process works until it gets there, and others carry on, until one gets through.
The program is loaded once and forks for each, while it has one thread.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
from alembic import command, config  # noqa: F401  loaded before the fork
from sqlalchemy import Engine, event

from faults.world import HOUR, LEASE_OVER, Ground, World, lay, starter_policy
from muniment.ports import Observation, Order, Outcome
from muniment.service import taking
from muniment.service.looking import collect
from store.stores import Shelf

Point = Callable[[str], None]
#: so that the server soon ends the transaction of a worker that stopped in it
PAUSE = timedelta(seconds=1)


#: where a stopped worker keeps a lock that only its end sets free: the store's, or the revocation list's
UNSTOPPABLE = {"pg": {"before commit"}, "ssh": {"before commit", "before confirm", "after confirm"}}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do to whom."""

    admin: str
    folder: str
    act: Literal["give", "expire", "return"]
    on: Literal["pg", "ssh"]
    how: Literal["kill", "stop"]
    late: bool = False  # the one who carries on comes only after the access was to end
    on_postgresql: bool = False
    password: str = ""
    port: int = 0


class Marked:
    """A connector with a point before and after each call, and before and after the confirmation in it."""

    def __init__(self, real: Any, point: Point) -> None:
        self.real, self.point, self.capabilities = real, point, real.capabilities
        self.validate, self.check = real.validate, real.check

    def observe(self, accounts: Collection[str] | None) -> Observation:
        self.point("before observe")
        seen: Observation = self.real.observe(accounts)
        self.point("after observe")
        return seen

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        return self._change("provision", self.real.provision, orders, confirm)

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        return self._change("revoke", self.real.revoke, orders, confirm)

    def _change(self, name: str, call: Any, orders: Any, confirm: Callable[[], None]) -> list[Outcome]:
        def confirmed() -> None:
            self.point("before confirm")
            confirm()
            self.point("after confirm")

        self.point(f"before {name}")
        outcomes: list[Outcome] = call(orders, confirmed)
        self.point(f"after {name}")
        return outcomes


def mark_commits(engine: Engine, point: Point) -> None:
    """A point before and after each commit of a transaction that writes."""
    writes = threading.local()
    real = engine.dialect.do_commit

    @event.listens_for(engine, "commit")
    def look(connection: Any) -> None:
        writes.now = connection.get_execution_options().get("writes", False)

    def commit(connection: Any) -> None:
        if not getattr(writes, "now", False):
            real(connection)
            return
        point("before commit")
        real(connection)
        point("after commit")

    engine.dialect.do_commit = commit  # type: ignore[method-assign]


def fork(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run ``work(write)`` in a child; return its pid and the pipe that ``write`` writes lines to."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    status = 1
    try:
        work(lambda line: void(os.write(writer, f"{line}\n".encode())))
        status = 0
    except BaseException:
        os.write(writer, f"!{traceback.format_exc()}".encode())
    finally:
        os._exit(status)


def void(_: object) -> None:
    """Forget a value."""


def drain(reader: int) -> str:
    with os.fdopen(reader) as lines:
        return lines.read()


def work_until(plan: Plan, ground: Ground, n: int, write: Callable[[str], None]) -> None:
    """Make tickets, and then do what the plan says up to the n-th point."""
    count, armed = 0, False

    def point(name: str) -> None:
        nonlocal count
        if not armed or (plan.how == "stop" and name in UNSTOPPABLE[plan.on]):
            return
        count += 1
        if count == n:
            write(f"at {name}")
            os.kill(os.getpid(), signal.SIGKILL if plan.how == "kill" else signal.SIGSTOP)

    end = taking.end_access

    def ended(*given: Any) -> Any:
        result = end(*given)
        point("between end_access and record_end")
        return result

    taking.end_access = ended
    with World(ground, wrap=lambda real: Marked(real, point), pause=PAUSE) as world:
        first = ("web", "db") if plan.on == "ssh" else ("ro", "rw")
        tickets = [world.approved(*first, on=plan.on), world.approved(first[0], who="bea", on=plan.on)]
        if plan.act != "give":
            world.settle()
        if plan.act == "return":
            for ticket, who in zip(tickets, ("ann", "bea"), strict=True):
                world.give_back(ticket, who)
        if plan.act == "expire":
            world.clock.pass_by(HOUR)
        mark_commits(world.desk.store.engine, point)
        write(f"tickets {' '.join(tickets)}")
        armed = True
        world.settle()
    write("through")


def carry_on(plan: Plan, ground: Ground, before: Any, tickets: list[str]) -> None:
    """What everybody else does: ordinary passes, at once and when the leases are over."""
    with World(ground) as world:
        world.settle()  # at once: whatever is still leased stays as it is
        world.sound(at_rest=False)
        world.clock.pass_by(2 * HOUR if plan.late else LEASE_OVER)
        world.settle()
        world.sound()
        for ticket, who in zip(tickets, ("ann", "bea"), strict=True):
            if plan.act == "give" and not plan.late:
                world.must(ticket, "active")
                exact = [k for k in world.kinds(ticket) if k == "grant-observed/1"]
                assert exact == ["grant-observed/1"]
                if plan.on == "ssh" and plan.how == "kill":
                    assert b"cert" in collect(world.desk, world.caller(who), ticket)
            else:
                world.must(ticket, "closed", "failed", "lapsed")
        assert len(ground.certificates()) <= 2
        if plan.how == "kill":
            world.later(2 * HOUR)
            world.sound()
            assert not {t.status for t in world.tickets()} - {"closed", "failed", "lapsed"}
            assert ground.everything() == before


def facts(ground: Ground, tickets: list[str]) -> Any:
    return (
        ground.everything(),
        ground.certificates(),
        (ground.path / "krl").read_bytes(),
        [ground.kinds(t) for t in tickets],
    )


def one(plan: Plan, shelf: Shelf, n: int) -> str | None:
    """Try one point; return its name, or None if there is no such point any more."""
    ground = lay(plan.admin, shelf.url(), Path(plan.folder) / str(n))
    before = ground.everything()
    pid, reader = fork(lambda write: work_until(plan, ground, n, write))
    _, status = os.waitpid(pid, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    said = os.read(reader, 1 << 20).decode() if stopped else drain(reader)
    lines = said.split("\n")
    if not stopped and not os.WIFSIGNALED(status) and "through" not in lines:
        raise AssertionError(f"at point {n}: {said}")
    tickets = lines[0].split()[1:]
    name = lines[1].removeprefix("at ") if lines[1].startswith("at ") else None
    other, answer = fork(lambda _write: carry_on(plan, ground, before, tickets))
    error = drain(answer)
    failed = os.waitpid(other, 0)[1]
    known = facts(ground, tickets)
    if stopped:
        os.kill(pid, signal.SIGCONT)
        rest = drain(reader)
        status = os.waitpid(pid, 0)[1]
        if status or "through" not in rest:
            raise AssertionError(f"the late worker, at point {n}, {name}: {rest}")
        assert failed or facts(ground, tickets) == known, (
            f"the late worker did something, at point {n}, {name}"
        )
    if failed:
        raise AssertionError(f"after point {n}, {name}: {error}")
    return name


def main(given: str) -> None:
    plan = msgspec.json.decode(given, type=Plan)
    starter_policy()
    shelf = Shelf(Server(plan) if plan.on_postgresql else None, Path(plan.folder))  # type: ignore[arg-type]
    names: list[str | None] = []
    while not names or names[-1]:
        names.append(one(plan, shelf, len(names) + 1))
    print(msgspec.json.encode(names[:-1]).decode())


class Server:
    """As much of `TemporaryPostgres` as a shelf needs."""

    def __init__(self, plan: Plan) -> None:
        self.password, self.port, self._admin = plan.password, plan.port, plan.admin

    def dsn(self) -> str:
        return self._admin


if __name__ == "__main__":
    main(sys.argv[1])
