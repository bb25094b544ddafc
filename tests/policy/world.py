"""People, targets and terms for policy tests; every builder takes what the test is about."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

from muniment.core.identity import Identity
from muniment.core.scope import Privilege, scope
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.core.verdict import Obligations, Stage
from muniment.policy.cedar import CedarPolicy
from muniment.ports import CatalogueEntry, Subject, Target

ANN, BO, CYD = "human:ann@example.com", "human:bo@example.com", "human:cyd@example.com"
EVE = "human:eve@example.com"
DEPLOY, BOT, API = "service_account:deploy", "ai_agent:triage", "workload:spiffe://example.com/api"

PERMIT = 'permit (principal, action == Action::"request", resource);'
FORBID = 'forbid (principal, action == Action::"request", resource);'


def policy(*texts: str) -> CedarPolicy:
    return CedarPolicy({f"{at}.cedar": text for at, text in enumerate(texts)})


def person(ident=ANN, groups=("engineers",), manager=None, above=None, **more) -> Subject:
    identity = Identity(id=ident, groups=tuple(groups), manager=manager, **more)
    return Subject(identity=identity, managers=above or {})


def machine(ident=DEPLOY, owner=None, groups=(), owners=None, above=None) -> Subject:
    owner = owner or person()
    chain = (owner.identity.id,) if owners is None else owners
    identity = Identity(id=ident, groups=tuple(groups), owners=chain)
    return Subject(identity=identity, owners=(owner.identity,), managers=above or {})


def role(name="orders_rw", resource=None) -> Privilege:
    return Privilege(privilege=name, resource=resource)


def target(
    *privileges,
    environment="prod",
    owners=("group:platform",),
    risk="medium",
    longest=None,
    native=False,
    ident="pg-prod",
    bounded=False,
    owners_of=None,
):
    return Target(
        id=ident,
        kind="postgresql",
        environment=environment,
        owners=tuple(owners),
        catalogue=tuple(
            CatalogueEntry(
                privilege=p, risk=risk, bounded=bounded, owners=(owners_of or {}).get(p.privilege, ())
            )
            for p in privileges or (role(),)
        ),
        connector=SimpleNamespace(capabilities=SimpleNamespace(native_expiry=native)),
        longest=longest and timedelta(seconds=longest),
    )


def terms(requester=ANN, beneficiary=None, privileges=None, duration=3600, **more) -> Terms:
    given = {
        "kind": "standard", "requester": requester, "beneficiary": beneficiary or requester, "target": "pg-prod",
        "account": "ann", "scope": scope(privileges or (role(),)), "justification": "sha256:" + "0" * 64,
        "references": {}, "incident": None, "starts_at": None, "duration": duration, "public_key": None,
    }  # fmt: skip
    return Terms(**{**given, **more})


def judge(rules: CedarPolicy, asked=None, requester=None, beneficiary=None, on=None):
    """Judge a request; requester and beneficiary are Ann unless said."""
    requester = requester or person()
    beneficiary = beneficiary or requester
    asked = asked or terms(requester.identity.id, beneficiary.identity.id)
    return rules.judge_request(asked, requester, beneficiary, on or target())


def stage(*approvers, name=None, needed=1) -> Stage:
    return Stage(name=name or approvers[0].removeprefix("group:"), needed=needed, approvers=approvers)


def ticket(asked=None, stages=None) -> Ticket:
    stages = (stage("group:platform"),) if stages is None else stages
    asked = asked or terms()
    return Ticket(
        id="req_1", status="pending", version=2, filed_at="2026-11-23T10:00:00.000000Z",
        updated_at="2026-11-23T10:00:00.000000Z", terms=asked, digest="sha256:0", accountable=(), permitted=True,
        obligations=Obligations(stages=tuple(stages), longest=3600),
    )  # fmt: skip
