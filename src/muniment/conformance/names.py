"""Names: foreign text is data, on the way in and on the way out (I37)."""

from __future__ import annotations

from msgspec.structs import replace

from muniment.conformance.harness import Check, Harness, matching, order_for, require, same, yes
from muniment.core.errors import Invalid
from muniment.core.scope import Privilege, scope

CHECKS: list[Check] = []

#: names that two people read differently, or nobody can read: refused before they reach a target
MISLEADING = ("", "nul\0x", "line\nx", "\u202etxt", "zero\u200bwidth", "esc\x1b[2J", "x" * 10_000)
#: names that mean something to some language: held exactly as written, or refused, and nothing else
HOSTILE = (
    'x"; DROP ROLE y; --', "x'; SELECT 1; --", "a" * 64, "*)(uid=*", "$(id)", "`id`", "../x", "x,y", "%s", "{0}",
    "public", "-x", "\u0430dmin", "x\\", "cn=x,dc=y", "*",
)  # fmt: skip


@CHECKS.append
def hostile_names_are_refused_or_kept_as_they_are(h: Harness) -> None:
    for name in (*MISLEADING, *HOSTILE):
        plain = order_for(h, 0)
        strange = scope([Privilege(privilege=name)])
        for order in (replace(plain, account=name), replace(order_for(h, 0), scope=strange)):
            before, refused = h.everything(), False
            try:
                h.connector.validate(order.account, order.scope)
            except Invalid:
                refused = True
            require(refused or name not in MISLEADING, f"validate lets {name[:20]!r} pass")
            # what validate refuses must do no harm either, should it come by another way
            [outcome] = matching((order,), h.connector.provision([order], yes))
            require(
                not (refused and outcome.result == "done"), f"{name[:20]!r} was refused, then provisioned"
            )
            if outcome.result == "done":
                same(h.connector.observe([order.account]).of(order.account), order.scope, f"{name[:20]!r}")
            else:
                same(h.everything(), before, f"the target, after {name[:20]!r} was not provisioned")
            matching((order,), h.connector.revoke([replace(order, handle=outcome.handle)], yes))
            same(h.everything(), before, f"the target, after {name[:20]!r} was revoked")
