"""Every status × every command × every relation of the actor to the ticket: who may do what, as a control owner reads it.

The table below is the expectation, written from the architecture and not from the code. Each of its cells is tried;
so is every cell that is not in it, which must be refused and leave nothing behind (I2, I6, I35).
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from core.lives import (
    BENEFICIARY,
    LEAD,
    LEAD2,
    OWNER,
    REQUESTER,
    RW,
    WORDS,
    authority,
    in_status,
    person,
    verdict,
)
from muniment.core import commands as c
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity
from muniment.core.lifecycle import WHEN
from muniment.core.ticket import STATUSES, Ticket

#: who somebody is to the ticket: the facts that the service layer would find
RELATIONS = {
    "requester": lambda f: replace(f, actor=person(REQUESTER)),
    "requester who is also an approver": lambda f: replace(
        f, actor=person(REQUESTER, groups=("dba-leads",)), authority=authority(REQUESTER)
    ),
    "requester who is also an operator": lambda f: replace(
        f, actor=person(REQUESTER, roles=("operator",)), steward=True
    ),
    "beneficiary": lambda f: replace(f, actor=Identity(id=BENEFICIARY, owners=(OWNER,))),
    "owner": lambda f: replace(f, actor=person(OWNER)),
    "owner who is also an approver": lambda f: replace(
        f, actor=person(OWNER, groups=("dba-leads",)), authority=authority(OWNER)
    ),
    "owner under an alias, also an approver": lambda f: replace(
        f,
        actor=person("human:oda.alias@example.com", aliases=(OWNER,)),
        authority=authority("human:oda.alias@example.com"),
    ),
    "approver who decided": lambda f: replace(f, actor=person(LEAD), authority=authority(LEAD)),
    "another approver": lambda f: replace(f, actor=person(LEAD2), authority=authority(LEAD2)),
    "deactivated approver": lambda f: replace(
        f, actor=person(LEAD2, active=False), authority=authority(LEAD2)
    ),
    "approver whom policy forbids": lambda f: replace(
        f, actor=person(LEAD2), authority=authority(LEAD2, permitted=False)
    ),
    "agent in the approvers' group": lambda f: replace(
        f,
        actor=Identity(id="ai_agent:bot", owners=(LEAD,)),
        authority=authority("ai_agent:bot"),
        steward=True,
    ),
    "operator": lambda f: replace(
        f, actor=person("human:opa@example.com", roles=("operator",)), steward=True
    ),
    "owner of the target": lambda f: replace(f, actor=person("human:tom@example.com"), steward=True),
    "auditor": lambda f: replace(f, actor=person("human:aud@example.com", roles=("auditor",)), auditor=True),
    "stranger": lambda f: replace(f, actor=person("human:eve@example.com")),
    "controller": lambda f: f,
}

COMMANDS = {
    "approve": lambda t: c.Approve(digest=t.digest),
    "deny": lambda t: c.Deny(comment=WORDS),
    "counter": lambda t: c.Counter(digest=t.digest, duration=60, comment=WORDS),
    "accept": lambda t: c.Accept(offer="sha256:00"),  # nobody made an offer here; `test_countering` has one
    "withdraw": lambda t: c.Withdraw(),
    "return": lambda t: c.Return(),
    "revoke": lambda t: c.Revoke(reason=WORDS),
    "review": lambda t: c.Review(outcome="appropriate", comment=WORDS),
    "waive": lambda t: c.Waive(check="gone" if t.status == "revoking" else "reviewed", reason=WORDS),
    "resolve": lambda t: c.Resolve(finding="1", reason=WORDS),
    "lapse": lambda t: c.Lapse(),
    "remind": lambda t: c.Remind(approvers=(LEAD,)),
    "escalate": lambda t: c.Escalate(),
    "note missing": lambda t: c.NoteMissing(stages=("dba-leads",), reasons=("nobody",)),
    "start provisioning": lambda t: c.StartProvisioning(held=(), ticketed=()),
    "record grant": lambda t: c.RecordGrant(granted=(RW,)),
    "fail provisioning": lambda t: c.FailProvisioning(code="target.rejected", message="no"),
    "end": lambda t: c.End(cause="offboarded"),
    "offboard": lambda t: c.Offboard(gone=(LEAD,)),
    "record revocation": lambda t: c.RecordRevocation(),
    "fail revocation": lambda t: c.FailRevocation(code="target.unavailable", message="no answer"),
    "note a late review": lambda t: c.NoteLateReview(),
    "record use": lambda t: c.RecordUse(
        source="log", digest="d", events=1, first_at="", last_at="", privileges=()
    ),
}

OWN = {"requester", "requester who is also an approver", "requester who is also an operator", "beneficiary", "owner",
       "owner who is also an approver", "owner under an alias, also an approver"}  # fmt: skip
ANSWERABLE = {"operator", "owner of the target", "requester who is also an operator", "owner", "owner under an alias, also an approver",
              "owner who is also an approver", "approver who decided", "agent in the approvers' group"}  # fmt: skip
#: people without a stake, with a responsibility for the target or the process. One whom policy does not let approve is
#: still in a stage, and may look back on how access was used
INDEPENDENT = {"approver who decided", "another approver", "approver whom policy forbids", "operator",
               "owner of the target", "auditor"}  # fmt: skip

#: (command, status) to the relations that may
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("approve", "pending"): {"approver who decided", "another approver"},
    ("deny", "pending"): {"approver who decided", "another approver"},
    ("counter", "pending"): {"approver who decided", "another approver"},
    ("withdraw", "pending"): OWN,
    ("withdraw", "approved"): OWN,
    ("return", "provisioning"): OWN,
    ("return", "active"): OWN,
    ("revoke", "approved"): ANSWERABLE,
    ("revoke", "provisioning"): ANSWERABLE,
    ("revoke", "active"): ANSWERABLE,
    ("review", "revoked"): INDEPENDENT,  # the only status here in which a review is owed
    ("waive", "revoking"): INDEPENDENT,
    ("waive", "revoked"): INDEPENDENT,
    ("lapse", "pending"): {"controller"},
    ("remind", "pending"): {"controller"},
    ("escalate", "pending"): {"controller"},
    ("note missing", "pending"): {"controller"},
    ("lapse", "approved"): {"controller"},
    ("start provisioning", "approved"): {"controller"},
    ("record grant", "provisioning"): {"controller"},
    ("record grant", "revoking"): {"controller"},  # for what nobody could read before it was to end
    ("fail provisioning", "approved"): {"controller"},
    ("fail provisioning", "provisioning"): {"controller"},
    ("end", "provisioning"): {"controller"},
    ("end", "active"): {"controller"},
    ("offboard", "pending"): {"controller"},
    ("offboard", "approved"): {"controller"},
    ("offboard", "provisioning"): {"controller"},
    ("offboard", "active"): {"controller"},
    ("record revocation", "revoking"): {"controller"},
    ("fail revocation", "revoking"): {"controller"},
    ("note a late review", "revoked"): {"controller"},
    ("record use", "active"): {"controller"},
    ("record use", "revoking"): {"controller"},
    ("record use", "revoked"): {"controller"},
}


def attempt(status: str, command: str, relation: str) -> tuple[Ticket, Ticket]:
    life = in_status(status)
    before = life.ticket
    facts = life.system(verdict=verdict(), standing_approvers=tuple(d.approver for d in before.decisions))
    facts = RELATIONS[relation](facts)
    owners = {OWNER}
    if facts.actor and OWNER in facts.actor.aliases:
        owners.add(facts.actor.id)
    life.do(COMMANDS[command](before), replace(facts, accountable=tuple(sorted(owners))))
    return before, life.ticket


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("command", COMMANDS)
def test_who_may_do_what(status: str, command: str) -> None:
    allowed = ALLOWED.get((command, status), set())
    for relation in RELATIONS:
        try:
            attempt(status, command, relation)
        except (Refused, Invalid) as error:
            assert relation not in allowed, f"{relation} may {command} a {status} ticket, yet: {error}"
            assert error.code.startswith(("refused", "not-found", "invalid"))
            assert error.message
        else:
            assert relation in allowed, f"{relation} must not {command} a {status} ticket"


def test_the_table_speaks_of_every_command() -> None:
    """A command added without a row here would go untested."""
    assert {type(make(in_status("pending").ticket)) for make in COMMANDS.values()} == set(WHEN)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_reached(status: str) -> None:
    assert in_status(status).ticket.status == status


def test_resolving_needs_an_open_finding_and_independence() -> None:
    """`resolve` has no row above because the ordinary lives have no finding: here is one that has."""
    for relation in RELATIONS:
        life = in_status("provisioning")
        life.grant(RW, replace(RW, privilege="SUPERUSER"))
        facts = RELATIONS[relation](life.system())
        try:
            life.do(
                c.Resolve(finding="1", reason=WORDS),
                replace(facts, accountable=(OWNER, "human:oda.alias@example.com")),
            )
        except Refused:
            assert relation not in INDEPENDENT
        else:
            assert relation in INDEPENDENT
