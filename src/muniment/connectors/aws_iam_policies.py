"""AWS IAM: what a managed policy allows, as an inline policy of the ticket's own on a user or a role, with an end in it.

**Tried on moto only, which is an emulator** and enforces no policy. What is said of AWS itself here is AWS's documentation.

An account is ``user/NAME`` or ``role/NAME``, a privilege a managed policy's name. What follows what, for a batch of orders:

1. read the managed policies, and write each order's own: every statement that allows something does so only before the end
   (``DateLessThan`` on ``aws:CurrentTime``); statements that deny stay as they are
2. ``confirm``: the work is still ours
3. policy by policy: put it on the user or role, or delete it. A crash between leaves some orders done and others not, and
   the caller reads back

AWS says that it looks at policies at each request, so sessions that are there should gain and lose it within seconds, and
lose it at the end by themselves. The name of a policy follows from the ticket and what is given, so that repeating makes no second.

Fencing (I19). AWS compares nothing. A worker that was paused for more than ``PAUSE`` after 2 finds out and changes nothing
more; one that is paused between that look and the change can still make that one, which ends by itself all the same.

The policy is given as it is when the ticket is provisioned. If somebody changes the managed policy later, what was given
stays as it was approved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec

from muniment.connectors.answering import fault, no, unreachable
from muniment.connectors.aws_documents import (
    MARK,
    WHEN,
    Document,
    document_of,
    policy_name,
    until_end,
)
from muniment.connectors.aws_session import Cloud, Refused, Session, reach
from muniment.connectors.kinds import Kind, Secret
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_ACCOUNT = re.compile(r"(?:user|role)/[\w+=,.@-]{1,64}", re.ASCII)
_POLICY = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_PATH = re.compile(r"arn:aws[a-z-]*:iam::(?:[0-9]{12}|aws):policy/(?:[\w+=,.@-]+/)*", re.ASCII)
_TICKET = re.compile(r"[\w+=,.@-]{1,60}", re.ASCII)
Holder: TypeAlias = Literal["user", "role"]

LEAST_PRIVILEGE = """\
{"Version": "2012-10-17", "Statement": [
 {"Effect": "Allow", "Resource": "*", "Action": [
  "iam:GetAccountAuthorizationDetails", "iam:GetPolicy", "iam:GetPolicyVersion",
  "iam:ListUserPolicies", "iam:GetUserPolicy", "iam:ListAttachedUserPolicies",
  "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"]},
 {"Effect": "Allow", "Resource": ["arn:aws:iam::ACCOUNT:user/people/*", "arn:aws:iam::ACCOUNT:role/people/*"], "Action": [
  "iam:PutUserPolicy", "iam:DeleteUserPolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"]}]}
# Whoever may put policies on somebody may give them anything, and itself, if it is among them: keep our own role out of the
# second statement's resources, and set a permissions boundary on theirs. IAM cannot say which policies may be put.
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    policies: str  # Where managed policies are, like `arn:aws:iam::123456789012:policy/`.
    region: str = "us-east-1"  # IAM has one for all of AWS, and another one in China and GovCloud.
    access_key_id: str = ""  # Whom we are there. Default: whoever this machine is, by role or environment.
    secret_access_key: Secret | None = None  # Reference to the key's secret.
    endpoint: str = ""  # In place of AWS itself: an emulator; `http://` only on this machine.
    timeout: str = "50s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    if not _PATH.fullmatch(settings.policies):
        raise Misconfigured(
            "policies is no path of policies", remedy="Write it like arn:aws:iam::123456789012:policy/."
        )
    made = IamPolicies(
        reach(name, settings), settings.policies, catalogue=[each.privilege for each in catalogue]
    )
    for privilege in catalogue:
        made.validate("user/any", (privilege,))
    return made


class IamPolicies:
    """See `muniment.ports.Connector`; an account is ``user/NAME`` or ``role/NAME``, a privilege a managed policy's name."""

    capabilities = Capabilities(
        native_expiry=True,
        ends_sessions=False,  # AWS says that it looks at each request; no test has seen it do so
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
        separate=True,
    )

    def __init__(self, cloud: Cloud, policies: str, *, catalogue: Sequence[str] = ()) -> None:
        """Connects at each call."""
        self._cloud, self._policies, self._catalogue = cloud, policies, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        del key
        clean_name(account, "the account")
        if not _ACCOUNT.fullmatch(account):
            raise Invalid(
                "this is neither a user nor a role of IAM's", remedy="Write user/NAME or role/NAME."
            )
        for item in scope:
            if not _POLICY.fullmatch(item.privilege):
                raise Invalid("IAM has no such policies", remedy="Write a managed policy's name.")
            if item.resource is not None:
                raise Invalid("a policy has no resource", remedy="Ask for the policy alone.")

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            session = self._cloud.session()
            missing = [name for name in sorted(set(self._catalogue)) if self._document(session, name) is None]
        except TargetUnavailable as error:
            return unreachable(error)
        except Refused as error:
            return unreachable(TargetUnavailable(f"AWS lets us not look ({error.word})"))
        return CheckReport(
            reachable=True,
            details=(
                "IAM answers. What is given has its end in it, which AWS looks at at each request.",
                "Whoever may put policies on somebody may give them anything, and so may our account.",
                "IAM has no narrower right: bound it by the users and roles that it may put them on.",
                "This connector was tried on an emulator of AWS, and not on AWS.",
            ),
            problems=tuple(f"There is no policy {name}, which is in the catalogue." for name in missing),
            least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`: managed policies that are attached, and ours that are in force."""
        session = self._cloud.session()
        found = set()
        try:
            if accounts is None:
                found = set(self._of_everybody(session))
            else:
                for account in sorted({a for a in accounts if fault(self, a, ()) is None}):
                    found |= set(self._of(session, account))
        except Refused as error:
            raise self._cloud.unread(error, "aws-iam-policies") from error
        ordered = sorted(found, key=lambda each: (each[0], each[1], each[2] or ""))
        return Observation(holdings=tuple(Holding(account=a, privilege=p, ticket=t) for a, p, t in ordered))

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        if not orders:
            return []
        session = self._cloud.session()
        documents: dict[str, Document | None] = {}
        answers: dict[int, Outcome] = {}
        try:
            for at, order in enumerate(orders):
                if why := self._bad(order):
                    answers[at] = no(order, "bad-name", why)
                    continue
                for item in order.scope:
                    if item.privilege not in documents:
                        documents[item.privilege] = self._document(session, item.privilege)
                    if documents[item.privilege] is None:
                        answers[at] = no(
                            order, "no-such-privilege", f"{self._cloud.name} has no policy {item.privilege}"
                        )
        except Refused as error:
            raise self._cloud.unread(error, "aws-iam-policies") from error
        session.confirmed(confirm)
        for at, order in enumerate(orders):
            if at not in answers:
                answers[at] = self._give(session, order, documents)
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. What is not there any more is nobody's."""
        if not orders:
            return []
        session = self._cloud.session()
        session.confirmed(confirm)
        return [self._take(session, order) for order in orders]

    def _give(self, session: Session, order: Order, documents: Mapping[str, Document | None]) -> Outcome:
        kind, name = _split(order.account)
        for item in order.scope:
            session.in_time()
            try:
                body = json.dumps(
                    until_end(documents[item.privilege] or {}, item.privilege, order.expires_at)
                )
                session.ask(
                    "iam", f"put_{kind}_policy", PolicyName=policy_name(order.ticket, order.account, item.privilege),
                    PolicyDocument=body, **{f"{kind.title()}Name": name},
                )  # fmt: skip
            except Invalid as error:
                return no(order, "rejected", f"{item.privilege}: {error.message}")
            except Refused as error:
                return self._refusal(order, item, error)
        return Outcome(ticket=order.ticket, result="done", native_expiry=order.expires_at)

    def _take(self, session: Session, order: Order) -> Outcome:
        if self._bad(order):
            return Outcome(ticket=order.ticket, result="done")
        kind, name = _split(order.account)
        for item in order.scope:
            session.in_time()
            try:
                session.maybe(
                    "iam", f"delete_{kind}_policy", PolicyName=policy_name(order.ticket, order.account, item.privilege),
                    **{f"{kind.title()}Name": name},
                )  # fmt: skip
            except Refused as error:
                return self._refusal(order, item, error)
        return Outcome(ticket=order.ticket, result="done")

    def _refusal(self, order: Order, item: Privilege, error: Refused) -> Outcome:
        if error.is_right:
            return no(order, "not-allowed", f"our account may not change policies of {order.account}")
        if error.code == "NoSuchEntity":
            return no(order, "no-such-account", f"{self._cloud.name} has no {order.account}")
        if error.code == "LimitExceeded":
            return no(
                order,
                "rejected",
                f"{order.account} has no room for {item.privilege} beside its other policies",
            )
        return no(order, "rejected", f"AWS answered {error.word} for {item.privilege}")

    def _document(self, session: Session, name: str) -> Document | None:
        """What a managed policy says by now; None if there is none."""
        arn = f"{self._policies}{name}"
        policy = session.maybe("iam", "get_policy", PolicyArn=arn)
        if policy is None:
            return None
        asked = {"PolicyArn": arn, "VersionId": policy["Policy"]["DefaultVersionId"]}
        version = session.maybe("iam", "get_policy_version", **asked)
        return None if version is None else document_of(version["PolicyVersion"]["Document"])

    def _of(self, session: Session, account: str) -> Iterator[tuple[str, str, str | None]]:
        """What one user or role holds: account, policy, ticket."""
        kind, name = _split(account)
        who = {f"{kind.title()}Name": name}
        try:
            for each in session.every(
                "iam", f"list_attached_{kind}_policies", "AttachedPolicies", by="Marker", **who
            ):
                yield account, each["PolicyName"], None
            for inline in session.every("iam", f"list_{kind}_policies", "PolicyNames", by="Marker", **who):
                found = None
                if inline.startswith(MARK):
                    found = session.maybe("iam", f"get_{kind}_policy", PolicyName=inline, **who)
                if found and (held := _held(account, inline, found["PolicyDocument"])):
                    yield held
        except Refused as error:
            if error.code != "NoSuchEntity":  # who is not there holds nothing
                raise

    def _of_everybody(self, session: Session) -> Iterator[tuple[str, str, str | None]]:
        for kind, part in (("user", "UserDetailList"), ("role", "RoleDetailList")):
            asked = {"Filter": [kind.title()]}
            listed = session.every("iam", "get_account_authorization_details", part, by="Marker", **asked)
            for each in listed:
                account = f"{kind}/{each[f'{kind.title()}Name']}"
                yield from ((account, a["PolicyName"], None) for a in each.get("AttachedManagedPolicies", ()))
                for inline in each.get(f"{kind.title()}PolicyList", ()):
                    if held := _held(account, inline["PolicyName"], inline["PolicyDocument"]):
                        yield held

    def _bad(self, order: Order) -> str | None:
        if why := fault(self, order.account, order.scope):
            return why
        return (
            None
            if _TICKET.fullmatch(order.ticket)
            else "the ticket's id cannot stand in the name of a policy"
        )


def _split(account: str) -> tuple[Holder, str]:
    kind, _, name = account.partition("/")
    return ("user" if kind == "user" else "role"), name


def _held(account: str, name: str, document: Any) -> tuple[str, str, str | None] | None:
    """What a policy of ours gives, and for which ticket; None of others', and of one whose end is past."""
    identity = str(document_of(document).get("Id", ""))
    privilege, _, when = identity.removeprefix(MARK).rpartition(".")
    ticket, _, _ = name.removeprefix(MARK).rpartition(".")
    if not privilege or name != policy_name(ticket, account, privilege):
        return None
    try:
        over = datetime.strptime(when, WHEN).replace(tzinfo=UTC) <= datetime.now(UTC)
    except ValueError:
        return account, privilege, ticket
    return None if over else (account, privilege, ticket)


KIND = Kind(
    summary="a privilege is a managed policy, given to a user or role as a policy of the ticket's own with an end in it",
    settings=Settings,
    build=build,
    capabilities=IamPolicies.capabilities,
    least_privilege=LEAST_PRIVILEGE,
    emulated=True,
)
