"""One value of every kind of event, and some with their optional fields empty. Fixed: the golden lines hold their bytes."""

from __future__ import annotations

import msgspec

from muniment.core import events as e
from muniment.core.campaign_items import Selection
from muniment.core.delegation import Delegation
from muniment.core.identity import Budget, Identity
from muniment.core.inventory import Item
from muniment.core.login import Login
from muniment.core.scope import Comparison, Privilege
from muniment.core.terms import Terms, terms_digest
from muniment.core.verdict import Evaluation, Obligations, Stage
from muniment.ledger.entry import Actor, Entry, entry_ref

ORIGIN = "ledger.example.org/golden"
AT = "2026-11-23T10:00:00.000001Z"
SHA = "sha256:" + "0123456789abcdef" * 4
RW = Privilege(privilege="orders_rw")
SUPER = Privilege(privilege="SUPERUSER", resource='role "attribute"')
ANN, CYD, ODA = "human:ann@example.com", "human:cyd@example.com", "human:oda@example.com"
BOT = "ai_agent:triage-bot"

TERMS = Terms(
    kind="break_glass", requester=ANN, beneficiary=BOT, target="pg-prod", account="triäge", scope=(SUPER, RW), justification=SHA,
    references={"change": "CHG-7", "note": 'é\u2028\x7f"\\/<\U0001f600'}, incident="INC-1", starts_at=AT, duration=7200,
    public_key="ssh-ed25519 AAAA ann",
)  # fmt: skip
BARE_TERMS = Terms(
    kind="standard", requester=ANN, beneficiary=ANN, target="pg-prod", account="ann", scope=(RW,), justification=SHA, references={},
    incident=None, starts_at=None, duration=1, public_key=None,
)  # fmt: skip
RESPONDED_TERMS = msgspec.structs.replace(
    BARE_TERMS, kind="break_glass", incident="INC-1", responders=(CYD, ODA)
)
EVALUATION = Evaluation(
    principal=f'Muniment::Person::"{ANN}"', action='Muniment::Action::"request"', resource='Muniment::Privilege::"orders_rw"',
    context={"minutes": 120, "break_glass": False, "references": ["change"], "nested": {"none": None, "big": 9007199254740991}},
    allowed=True, determining=("people.cedar#1",), errors=("none",),
)  # fmt: skip
ENTITY = {"uid": {"type": "Muniment::Person", "id": ANN}, "attrs": {"active": True}, "parents": []}
OBLIGATIONS = Obligations(
    stages=(Stage(name="dba-leads", needed=2, approvers=("group:dba-leads", CYD)),), longest=14400, lapse_after=3600, review_within=86400,
    native_expiry=True, references=("change",),
)  # fmt: skip
DELEGATION = Delegation(id="dlg_golden", by=ODA, to=CYD, starts_at=AT, ends_at="2026-11-30T10:00:00.000001Z")
LINKED_TERMS = msgspec.structs.replace(BARE_TERMS, extends="req_before", bundle=("req_golden", "req_other"))

EVERYTHING = Obligations(
    stages=(
        Stage(name="consent of human:oda@example.com", needed=1, approvers=(ODA,), consent=True),
        Stage(name="dba-leads", needed=2, approvers=("group:dba-leads",)),
        Stage(name="security", needed=1, approvers=("group:security",), after=("dba-leads",)),
    ),
    longest=14400, lapse_after=3600, review_within=86400, native_expiry=True, references=("change",), witnessed=True,
    scope_bounded=True, sessions_cut=True, signed=True, assurance=3, notify=("group:secops",), remind_after=600,
    escalate_after=1200, escalate_to=("group:managers",),
)  # fmt: skip

#: name of the golden line to its value. Add at the end; never change one
VALUES: dict[str, e.Event] = {
    "request-submitted/1": e.RequestSubmitted(terms=TERMS, digest=terms_digest("req_golden", TERMS), accountable=(ODA,)),
    "request-submitted/1 bare": e.RequestSubmitted(terms=BARE_TERMS, digest=terms_digest("req_golden", BARE_TERMS), accountable=()),
    "policy-decided/1": e.PolicyDecided(
        permitted=True, policies=SHA, determining=("people.cedar#1",), reasons=("because",), obligations=OBLIGATIONS,
        evaluations=(EVALUATION,), entities=(ENTITY,),
    ),
    "policy-decided/1 bare": e.PolicyDecided(
        permitted=False, policies=SHA, determining=(), reasons=(), obligations=None, evaluations=(), entities=()
    ),
    "policy-decided/1 defaults": e.PolicyDecided(
        permitted=True, policies=SHA, determining=(), reasons=(), obligations=Obligations(longest=1), evaluations=(), entities=()
    ),
    "approval-recorded/1": e.ApprovalRecorded(
        approver=CYD, decision="approve", stage="dba-leads", digest=SHA, policies=SHA, authority=("approvals.cedar#1",),
        evaluations=(EVALUATION,), entities=(ENTITY,), comment=SHA, signature="sig",
    ),
    "approval-recorded/1 bare": e.ApprovalRecorded(
        approver=CYD, decision="deny", stage="dba-leads", digest=SHA, policies=SHA, authority=(), evaluations=(), entities=(), comment=None,
        signature=None,
    ),
    "request-approved/1": e.RequestApproved(approvers=(CYD, ODA), scope=(SUPER, RW), duration=7200),
    "approvals-voided/1": e.ApprovalsVoided(approvers=(CYD,), reason="no longer entitled to approve"),
    "request-denied/1": e.RequestDenied(by="policy", reasons=("too long",)),
    "request-withdrawn/1": e.RequestWithdrawn(),
    "request-lapsed/1": e.RequestLapsed(reason="nobody decided in time"),
    "provisioning-started/1": e.ProvisioningStarted(
        starts_at=AT, expires_at="2026-11-23T12:00:00.000001Z", held=(RW,), policies=SHA, approvers=(CYD,), evaluations=(EVALUATION,),
        entities=(ENTITY,),
    ),
    "grant-observed/1": e.GrantObserved(
        granted=(RW,), comparison=Comparison(missing=(SUPER,), excess=(RW,)), native_expiry=AT, handle={"serial": "42"}
    ),
    "grant-observed/1 bare": e.GrantObserved(
        granted=(), comparison=Comparison(missing=(), excess=()), native_expiry=None, handle={}
    ),
    "provisioning-failed/1": e.ProvisioningFailed(code="target.rejected", message="no such role"),
    "use-observed/1": e.UseObserved(source="pgaudit", digest=SHA, events=3, first_at=AT, last_at=AT, privileges=(RW,)),
    "revocation-ordered/1": e.RevocationOrdered(cause="revoked", reason=SHA),
    "revocation-ordered/1 bare": e.RevocationOrdered(cause="expired", reason=None),
    "revocation-failed/1": e.RevocationFailed(code="target.unavailable", message="no answer"),
    "revocation-observed/1": e.RevocationObserved(
        gone=(RW,), kept=(e.Kept(privilege=SUPER, ticket="req_other"),), sessions_ended=2
    ),
    "review-opened/1": e.ReviewOpened(due_at=AT),
    "review-recorded/1": e.ReviewRecorded(reviewer=CYD, outcome="inappropriate", comment=SHA),
    "finding-raised/1": e.FindingRaised(finding="1", type="excess", severity="critical", message="more", scope=(SUPER,)),
    "finding-resolved/1": e.FindingResolved(finding="1", reason=SHA),
    "finding-resolved/1 bare": e.FindingResolved(finding="1", reason=None),
    "check-waived/1": e.CheckWaived(check="gone", reason=SHA),
    "request-closed/1": e.RequestClosed(
        outcome="closed", checks=(e.CheckResult(check="gone", holds=False, waived=CYD), e.CheckResult(check="reviewed", holds=True))
    ),
    "identity-recorded/1": e.IdentityRecorded(
        identity=Identity(
            id=BOT, name="Triage Bot", active=False, groups=("bots",), roles=("member", "operator"), owners=(ODA,), manager=ANN,
            aliases=("ai_agent:old-bot",),
        )
    ),
    "identity-recorded/1 bare": e.IdentityRecorded(identity=Identity(id=ANN)),
    "identity-deactivated/1": e.IdentityDeactivated(identity=ANN),
    "target-registered/1": e.TargetRegistered(
        target="pg-prod", connector="postgresql", environment="production", owners=("group:dba",),
        privileges=({"privilege": {"privilege": "orders_rw", "resource": None}, "description": "", "risk": "high"},),
    ),
    "target-retired/1": e.TargetRetired(target="pg-old"),
    "policy-text-recorded/1": e.PolicyTextRecorded(name="people.cedar", sha256="ab" * 32, part=0, parts=1, text="permit(\n);\t"),
    "policy-adopted/1": e.PolicyAdopted(digest=SHA, files=(e.PolicyFile(name="people.cedar", sha256="ab" * 32),)),
    "text-erased/1": e.TextErased(ticket="req_golden", seq=3, commitment=SHA, reason=SHA),
    "key-announced/1": e.KeyAnnounced(vkey="l.example/golden+01234567+AQ==", beside=("l.example/golden+89abcdef+AQ==",)),
    "key-retired/1": e.KeyRetired(vkey="l.example/golden+89abcdef+AQ==", remaining=("l.example/golden+01234567+AQ==",)),
    "request-submitted/1 linked": e.RequestSubmitted(
        terms=LINKED_TERMS, digest=terms_digest("req_golden", LINKED_TERMS), accountable=()
    ),
    "approval-recorded/1 on behalf": e.ApprovalRecorded(
        approver=CYD, decision="approve", stage="dba-leads", digest=SHA, policies=SHA, authority=("approvals.cedar#1",),
        evaluations=(EVALUATION,), entities=(ENTITY,), comment=None, signature=None, on_behalf=DELEGATION,
    ),
    "counter-offered/1": e.CounterOffered(
        approver=CYD, stage="dba-leads", digest=SHA, offer=terms_digest("req_golden", BARE_TERMS), terms=BARE_TERMS, policies=SHA,
        authority=("approvals.cedar#1",), evaluations=(EVALUATION,), entities=(ENTITY,), comment=SHA, on_behalf=DELEGATION,
    ),
    "counter-offered/1 bare": e.CounterOffered(
        approver=CYD, stage="dba-leads", digest=SHA, offer=terms_digest("req_golden", BARE_TERMS), terms=BARE_TERMS, policies=SHA,
        authority=(), evaluations=(), entities=(), comment=SHA,
    ),
    "counter-accepted/1": e.CounterAccepted(
        digest=terms_digest("req_golden", BARE_TERMS), terms=BARE_TERMS, voided=(CYD,)
    ),
    "approvers-reminded/1": e.ApproversReminded(stages=("dba-leads",), approvers=(CYD, ODA)),
    "request-escalated/1": e.RequestEscalated(stages=("dba-leads",), to=("group:managers", ODA)),
    "approvers-missing/1": e.ApproversMissing(stages=("dba-leads",), reasons=("nobody is in group:dba-leads",)),
    "approvers-missing/1 bare": e.ApproversMissing(stages=(), reasons=()),
    "delegation-given/1": e.DelegationGiven(delegation=DELEGATION, reason=SHA),
    "delegation-ended/1": e.DelegationEnded(delegation="dlg_golden"),
    "identity-recorded/1 keys": e.IdentityRecorded(
        identity=Identity(id=CYD, ssh_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",))
    ),
    "identity-recorded/1 budget": e.IdentityRecorded(
        identity=Identity(id=BOT, owners=(ODA,), budget=Budget(requests_per_hour=6, concurrent_grants=0, longest=900))
    ),
    "policy-decided/1 everything": e.PolicyDecided(
        permitted=True, policies=SHA, determining=(), reasons=(), obligations=EVERYTHING, evaluations=(), entities=()
    ),
    "policy-adopted/1 by two": e.PolicyAdopted(
        digest=SHA, files=(e.PolicyFile(name="people.cedar", sha256="ab" * 32),), change="chg_golden", proposed_by=ODA
    ),
    "change-proposed/1": e.ChangeProposed(
        change="chg_golden", base=SHA, policy=SHA, files=(e.PolicyFile(name="people.cedar", sha256="ab" * 32),),
        settings=(e.PolicyFile(name="targets.json", sha256="cd" * 32),), reason=SHA,
    ),
    "change-proposed/1 bare": e.ChangeProposed(change="chg_golden", base=None, policy=SHA, files=(), settings=(), reason=SHA),
    "change-refused/1": e.ChangeRefused(change="chg_golden", reason=SHA),
    "settings-adopted/1": e.SettingsAdopted(
        settings=(e.PolicyFile(name="targets.json", sha256="cd" * 32),), change="chg_golden", proposed_by=ODA
    ),
    "settings-adopted/1 bare": e.SettingsAdopted(settings=()),
    "account-read/1": e.AccountRead(held=(SUPER, RW)),
    "grant-observed/1 in part": e.GrantObserved(
        granted=(RW,), comparison=Comparison(missing=(), excess=()), native_expiry=None, handle={}, whole=e.Whole(count=612, digest=SHA)
    ),
    "policy-decided/1 open references": e.PolicyDecided(
        permitted=True, policies=SHA, determining=(), reasons=(), evaluations=(), entities=(),
        obligations=Obligations(longest=1, references_open=("change", "incident")),
    ),
    "request-submitted/1 responders": e.RequestSubmitted(
        terms=RESPONDED_TERMS, digest=terms_digest("req_golden", RESPONDED_TERMS), accountable=()
    ),
    "approval-recorded/1 signed in": e.ApprovalRecorded(
        approver=CYD, decision="approve", stage="dba-leads", digest=SHA, policies=SHA, authority=(), evaluations=(), entities=(), comment=None,
        signature=None, login=Login(method="oidc", issuer="https://idp.example.org", subject="248289761001", at=AT, level=2, acr="mfa"),
    ),
    "login-linked/1": e.LoginLinked(issuer="https://idp.example.org", subject="248289761001", identity=CYD),
    "login-unlinked/1": e.LoginUnlinked(issuer="https://idp.example.org", subject="248289761001", identity=CYD),
    "signal-received/1": e.SignalReceived(
        issuer="https://idp.example.com", jti="golden", type="https://schemas.openid.net/secevent/caep/event-type/risk-level-change",
        subject=ANN, claims={"current_level": "HIGH"}, digest=SHA,
    ),
    "inventory-taken/1": e.InventoryTaken(
        inventory="inv_golden", target="pg-prod", began_at=AT, complete=True, holdings=3, accounts=2, nested=1, digest=SHA
    ),
    "request-denied/1 at the last look": e.RequestDenied(
        by="policy", reasons=("not now",), policies=SHA, evaluations=(EVALUATION,), entities=(),
    ),
    "reconciliation-made/1": e.ReconciliationMade(
        target="pg-prod", inventory="inv_golden", complete=True, ticketed=1, excepted=2, baseline=3, unexplained=4, raised=5, resolved=6,
        open=7,
    ),
    "drift-raised/1": e.DriftRaised(
        finding="fnd_golden", target="pg-prod", type="excess", severity="critical",
        item=Item(account="ann", privilege="SUPERUSER", resource="role", grantor="postgres", ticket="req_golden", nested=True),
        reference="req_golden", inventory="inv_golden", message="more", due_at=AT,
    ),
    "drift-raised/1 bare": e.DriftRaised(
        finding="fnd_golden", target="pg-prod", type="duplicate-identity", severity="low", item=Item(account="ann", privilege=""),
        reference=None, inventory="inv_golden", message="two", due_at=AT,
    ),
    "drift-assigned/1": e.DriftAssigned(finding="fnd_golden", to=CYD),
    "drift-explained/1": e.DriftExplained(finding="fnd_golden", explanation=SHA),
    "drift-accepted/1": e.DriftAccepted(finding="fnd_golden", until=AT, reason=SHA),
    "drift-resolved/1": e.DriftResolved(finding="fnd_golden", outcome="covered", inventory="inv_golden"),
    "drift-removal-ordered/1": e.DriftRemovalOrdered(finding="fnd_golden", reason=SHA),
    "token-made/1": e.TokenMade(token="0f1e2d3c4b5a6978", identity=BOT, scopes=("check", "read"), expires_at=AT),
    "token-made/1 for all": e.TokenMade(token="0f1e2d3c4b5a6978", identity=ANN, scopes=(), expires_at=AT),
    "token-revoked/1": e.TokenRevoked(token="0f1e2d3c4b5a6978", identity=BOT),
    "lift-proposed/1": e.LiftProposed(identity=ANN, issuers=("https://idp.example.com",), reason=SHA),
    "lift-agreed/1": e.DisablementLifted(identity=ANN, issuers=("https://idp.example.com",), proposed_by=CYD),
    "lift-agreed/1 trial": e.DisablementLifted(identity=ANN, issuers=("https://idp.example.com",)),
    "campaign-opened/1": e.CampaignOpened(
        campaign="q4", selection=Selection(
            subjects=("entitlement", "declaration", "identity", "membership"), targets=("pg-prod",), environments=("prod",),
            privileges=("orders_rw",), classes=("baseline", "excepted", "unexplained"), identities=("human",), groups=("dba-leads",),
            due_before=AT,
        ), rules=("owner", "manager", "target-owner", CYD, "group:dba-leads"), due_at=AT, unanswered="revoke", escalate_to="role:operator",
        valid_for=86400, items=10, singly=2, digest=SHA,
        sources=(e.CampaignSource(target="pg-prod", inventory="inv_golden", digest=SHA),), left_out=("bastion",), reason=SHA,
    ),
    "campaign-items-decided/1": e.CampaignItemsDecided(campaign="q4", items="0-4,6", count=6, decision="keep", reason=SHA),
    "campaign-items-decided/1 unanswered": e.CampaignItemsDecided(campaign="q4", items="5", count=1, decision="revoke", reason=None),
    "campaign-reassigned/1": e.CampaignReassigned(campaign="q4", items="7-9", to=CYD, reason=SHA),
    "campaign-reassigned/1 unanswered": e.CampaignReassigned(campaign="q4", items="7-9", to="role:operator", reason=None),
    "campaign-reminded/1": e.CampaignReminded(campaign="q4", people=(CYD, "group:dba-leads")),
    "campaign-signed-off/1": e.CampaignSignedOff(campaign="q4", results=SHA, comment=SHA),
    "campaign-items-settled/1": e.CampaignItemsSettled(campaign="q4", items="5", outcome="gone", inventory="inv_golden", reason=None),
    "campaign-items-settled/1 explained": e.CampaignItemsSettled(campaign="q4", items="7", outcome="explained", inventory=None, reason=SHA),
    "campaign-closed/1": e.CampaignClosed(campaign="q4", kept=8, revoked=1, changed=1, valid_until=AT),
    "campaign-cancelled/1": e.CampaignCancelled(campaign="q4", reason=SHA),
    "usage-ingested/1": e.UsageIngested(
        batch="use_golden", target="pg-prod", source="postgresql-json", format="postgresql-json", lines=21, uses=1, refused=2, other=3,
        duplicates=4, unparsable=5, ahead=6, digest=SHA, covers_from=AT, covers_to=AT,
        part=e.ReadPart(file="postgresql.json", begins=7, ends=8, digest=SHA),
    ),
    "usage-ingested/1 sent": e.UsageIngested(
        batch="use_golden", target="pg-prod", source="siem", format="events", lines=0, uses=0, refused=0, other=0, duplicates=0,
        unparsable=0, ahead=0, digest=SHA, covers_from=None, covers_to=None, part=None,
    ),
    "late-use-observed/1": e.LateUseObserved(ticket="req_golden", digest=SHA, events=3, first_at=AT, last_at=AT, privileges=(RW,)),
    "drift-raised/1 of use": e.DriftRaised(
        finding="fnd_golden", target="pg-prod", type="used-outside", severity="high",
        item=Item(account="ann", privilege="orders_rw", ticket="req_golden"), reference="req_golden", inventory="use_golden",
        message="late", due_at=AT, line="0f1e2d3c4b5a69780f1e2d3c4b5a6978",
    ),
    "drift-resolved/1 past": e.DriftResolved(finding="fnd_golden", outcome="past", inventory="use_golden"),
}  # fmt: skip


def entry_of(name: str) -> bytes:
    """A whole entry around that value: the first of its stream, or the second, whose ``prev`` is a fixed one."""
    event = VALUES[name]
    first = isinstance(event, e.RequestSubmitted)
    return Entry(
        log=ORIGIN, ticket="req_golden", seq=0 if first else 1, prev=None if first else entry_ref(b"golden"), type=event.kind,
        actor=Actor(id=ANN, via="local"), at=AT, data=msgspec.Raw(e.encode_data(event)),
    ).encode()  # fmt: skip
