"""Policy: the text in force and who agreed to it, changes that wait, and what would be otherwise."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from muniment.api import problems
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import Invalid, MunimentError, NotFound
from muniment.core.visibility import SEES_ALL
from muniment.policy.cedar import CedarPolicy
from muniment.policy.loading import SCHEMA, read_folder
from muniment.service import auditing, changing, filing
from muniment.service.standing import current, without_schema
from muniment.store.searching import Sought
from muniment.web.asking import LENGTHS, USUAL, Asking, ask_of
from muniment.web.audit import line
from muniment.web.narrowing import Field, one_of
from muniment.web.pages import away, names, show
from muniment.web.tickets import Form
from muniment.web.when import short, typed

routes = Routes("pages")

#: entries of who changed what, and tickets of a backtest, that are shown
SHOWN, TICKETS = 30, 200
#: how far back a backtest may go
PERIODS = (("30d", "30 days"), ("90d", "90 days"), ("365d", "a year"))
IN_FORCE, FOLDER = "", "folder"
_CHANGES = ("policy-adopted/1", "settings-adopted/1", "change-proposed/1", "change-refused/1")


class Supposing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that nobody files."""

    who: Field = ""
    target: Field = ""
    privilege: tuple[Annotated[str, Meta(max_length=600)], ...] = ()
    duration: Annotated[str, Meta(max_length=40)] = USUAL
    break_glass: bool = False
    by: Field = IN_FORCE  # which policies


class Trying(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policies are tried on the past, and on how much of it."""

    by: Field = FOLDER
    since: Annotated[str, Meta(max_length=10)] = "90d"


@routes.get("/policy", answer="text/html", browser=True, roles=SEES_ALL)
def show_policy(call: Call) -> Plain:
    """Show the policies in force, and who changed them."""
    desk, name_of = call.desk, names(call)
    sought = Sought(stream="policy", kinds=_CHANGES, limit=SHOWN)
    return show(
        call, "policy.html", digest=desk.policy.digest, files=without_schema(desk.policy.files()),
        schema=desk.policy.files().get(SCHEMA), trial=desk.governed is None,
        open=[c for c in changing.listed(desk, call.caller) if c["status"] == "proposed"],
        lines=[line(each, name_of) for each in auditing.entries(desk, call.caller, sought)],
    )  # fmt: skip


@routes.get("/policy/changes/{change}", answer="text/html", browser=True)
def show_change(call: Call) -> Plain:
    """Show a change, with what differs, to whoever may see it."""
    return _change(call)


@routes.post("/policy/changes/{change}/adopt", body=Form, form=True, answer="text/html", browser=True)
def adopt_change_here(call: Call) -> Plain:
    """Agree to a change that somebody else proposed."""
    return _decide(call, lambda: changing.adopt(call.desk, call.caller, call.names["change"]))


@routes.post("/policy/changes/{change}/refuse", body=Form, form=True, answer="text/html", browser=True)
def refuse_change_here(call: Call) -> Plain:
    """Say no to a change, or take one's own back."""
    said: Form = call.body
    return _decide(
        call, lambda: changing.refuse(call.desk, call.caller, call.names["change"], said.comment), said
    )


@routes.get("/policy/what-if", query=Supposing, answer="text/html", browser=True, roles=SEES_ALL)
def show_what_if(call: Call) -> Plain:
    """Say what policy would say to a request that nobody files."""
    said: Supposing = call.query
    target = call.desk.targets.get(said.target)
    trouble, found, asked = None, None, ()
    if said.who and said.privilege:
        try:
            found, asked = _supposed(call, said)
        except MunimentError as error:
            trouble = error
    return show(
        call, "what_if.html", said=said, target=target, targets=sorted(call.desk.targets), preview=found, asked=asked,
        trouble=trouble, lengths=[(each, short(typed(each))) for each in LENGTHS],
        policies=_policies(call, folder=False),
    )  # fmt: skip


@routes.get("/policy/backtest", answer="text/html", browser=True, roles=SEES_ALL)
def show_backtests(call: Call) -> Plain:
    """Show the backtests of this server, and begin another."""
    return _backtests(call)


@routes.post("/policy/backtest", body=Trying, form=True, answer="text/html", scope="read", browser=True, work=True, heavy=True, roles=SEES_ALL)  # fmt: skip
def start_backtest(call: Call) -> Plain:
    """Ask other policies about the tickets of the past. Records nothing."""
    said: Trying = call.body
    try:
        if said.since not in dict(PERIODS):
            raise Invalid("a backtest goes back 30 days, 90 days or a year", remedy="Choose one of them.")
        files, what = _files(call, said.by)
        since = call.desk.clock.now() - typed(said.since)
        run = call.office.backtests.start(call.caller, files, what, since)
    except MunimentError as error:
        return _backtests(call, error)
    return away(f"/policy/backtest/{run.id}")


@routes.get("/policy/backtest/{backtest}", answer="text/html", browser=True, roles=SEES_ALL)
def show_backtest(call: Call) -> Plain:
    """Show how far a backtest is, or what came of it."""
    run = call.office.backtests.get(call.caller, call.names["backtest"])
    ways: list[tuple[str, int]] = []
    if run.result:
        counted = Counter(how for each in run.result["otherwise"] for how in each["how"])
        ways = counted.most_common(20)
    part = call.header(b"hx-request") == "true"
    return show(call, "_backtest.html" if part else "backtest.html", run=run, ways=ways, shown=TICKETS)


def _change(call: Call, error: MunimentError | None = None, said: Form | None = None) -> Plain:
    change = changing.shown(call.desk, call.caller, call.names["change"])
    own = change["proposed_by"] == call.caller.identity.id
    return show(call, "change.html", change=change, own=own, error=error, said=said, status=_status(error))


def _decide(call: Call, act: Any, said: Form | None = None) -> Plain:
    changing.shown(call.desk, call.caller, call.names["change"])
    try:
        act()
    except NotFound:
        raise
    except MunimentError as error:
        return _change(call, error, said)
    return away(f"/policy/changes/{call.names['change']}")


def _status(error: MunimentError | None) -> int | None:
    return problems.status_of(error).value if error else None


def _supposed(call: Call, said: Supposing) -> tuple[filing.Preview, Any]:
    """What would come of it, as if whoever is supposed had asked."""
    target = call.desk.targets.get(said.target)
    if target is None:
        raise NotFound(f"there is no target {said.target!r:.60}", remedy="Choose one of the list.")
    caller = call.desk.caller(one_of(said.who) or "", "api")
    desk = call.desk
    if said.by != IN_FORCE:
        desk = dataclasses.replace(desk, policy=CedarPolicy(_files(call, said.by)[0]))
    form = Asking(privilege=said.privilege, duration=said.duration, break_glass=said.break_glass)
    ask = ask_of(form, target, preview=True)
    return filing.preview(desk, caller, ask), ask.scope


def _files(call: Call, by: str) -> tuple[Mapping[str, str], str]:
    """Policies to try: of a change, or those that lie in the folder; and what they are called."""
    if by == FOLDER:
        if call.office.policies is None:
            raise NotFound("this server has no policy folder", remedy="Choose a proposed change.")
        return read_folder(call.office.policies), "what lies in the policy folder"
    changing.shown(call.desk, call.caller, by)  # raises for one that is not there, or whoever may not see it
    change = current(call.desk.store).changes[by]
    return without_schema(change.files), by


def _policies(call: Call, *, folder: bool) -> list[tuple[str, str]]:
    """What can be tried: the newest changes, and the folder."""
    changes = changing.listed(call.desk, call.caller)[:10]
    found = [
        (c["change"], f"{c['status']} by {c['proposed_by'].partition(':')[2]}: {c['change']}")
        for c in changes
    ]
    return [(FOLDER, "what lies in the policy folder"), *found] if folder else found


def _backtests(call: Call, error: MunimentError | None = None) -> Plain:
    return show(
        call, "backtests.html", runs=call.office.backtests.all(call.caller), periods=PERIODS,
        policies=_policies(call, folder=call.office.policies is not None), error=error,
        status=_status(error),
    )  # fmt: skip
