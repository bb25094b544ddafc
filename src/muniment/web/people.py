"""People and machines: who there is, who answers for what, what each holds, and what became of them."""

from __future__ import annotations

import msgspec

from muniment.api.routes import Call, Plain, Routes
from muniment.core.identity import Identity
from muniment.service import people
from muniment.web import words
from muniment.web.narrowing import Field, Narrowing, kept, narrowed
from muniment.web.pages import show
from muniment.web.taking import Row, every, file

routes = Routes("pages")

#: rows of a page, and of one step towards a file
SHOWN, PAGE = 50, 1000


class Wanted(Narrowing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom."""

    q: Field = ""
    kind: Field = ""
    group: Field = ""
    gone: bool = False
    unowned: bool = False

    def wanted(self, limit: int, after: str) -> people.Wanted:
        """As the service has it."""
        return people.Wanted(
            words=self.q, kind=self.kind, group=self.group, gone=self.gone, unowned=self.unowned, after=after, limit=limit
        )  # fmt: skip


narrowed("/people", Wanted)


class One(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody's id. It has characters of every kind, and so is no part of the path."""

    id: Field


@routes.get("/people", query=Wanted, answer="text/html", browser=True)
def show_people(call: Call) -> Plain:
    """List the people and machines that whoever looks may see."""
    wanted: Wanted = call.query
    found, after = people.listed(call.desk, call.caller, wanted.wanted(SHOWN, wanted.cursor))
    return show(
        call, "people.html", wanted=wanted, found=found, next=after, kinds_of=words.KIND,
        groups=people.groups(call.desk, call.caller), kept=kept(call),
    )  # fmt: skip


@routes.get("/people.csv", query=Wanted, answer="text/csv", browser=True, work=True, heavy=True)
def take_people(call: Call) -> Plain:
    """Take the list along."""
    wanted: Wanted = call.query

    def page(after: str | None) -> tuple[list[Row], str | None]:
        found, more = people.listed(call.desk, call.caller, wanted.wanted(PAGE, after or ""))
        return [_row(each) for each in found], more

    return file("people", _COLUMNS, every(page))


@routes.get("/person", query=One, answer="text/html", browser=True)
def show_person(call: Call) -> Plain:
    """Show somebody: what they answer for, hold and asked for, and what the ledger says of them."""
    wanted: One = call.query
    found = people.shown(call.desk, call.caller, wanted.id)
    own = found.identity.id == call.caller.identity.id
    return show(call, "person.html", p=found, who=found.identity, me_there=own)


_COLUMNS = (
    "id",
    "kind",
    "name",
    "active",
    "groups",
    "roles",
    "owners",
    "manager",
    "aliases",
    "passkeys and keys",
)


def _row(each: Identity) -> Row:
    return (
        each.id, each.kind, each.name, each.active, "; ".join(each.groups), "; ".join(each.roles), "; ".join(each.owners),
        each.manager or "", "; ".join(each.aliases), len(each.signing_keys),
    )  # fmt: skip
