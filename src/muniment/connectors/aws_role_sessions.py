"""AWS: a session of a role, made for a ticket, which ends with it.

**Tried on moto only, which is an emulator** and enforces no policy. What is said of AWS itself here is AWS's documentation.

A privilege is a role's name, an account whom its session is for: the session's name, as CloudTrail shows it. The ticket is
the session's *source identity*, which nobody can change and which follows it into further roles, and a tag. What follows
what, for each role of an order:

1. ``confirm``: the work is still ours
2. a policy of the ticket's own on the role: who has this source identity is denied everything from the end on. It says, too,
   that the ticket has a session. A crash after it leaves a policy that denies nothing that is there
3. ``sts:AssumeRole``, with a session policy in which all that is allowed ends with the ticket: STS makes none shorter than
   fifteen minutes. What it answers is sealed to the beneficiary's key
4. to revoke before the end: the same policy then denies everything at once, and is read back. It stays until the end,
   and goes when this role is next changed. After the end it is deleted: what was issued allows nothing any more

AWS keeps no list of sessions. One is there as long as such a policy says so, and nobody has ended it in AWS's own way, by
the policy ``AWSRevokeOlderSessions``, which is read as well. If a session is made again, those made before are denied by
``aws:TokenIssueTime``.

Fencing (I19). AWS compares nothing: as in `aws_iam_policies`, whoever was held up begins no change, and ends by itself.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from muniment import delivery
from muniment.connectors.answering import fault, no, sealed, unreachable
from muniment.connectors.aws_documents import WHEN, Document, document_of, policy_name, until_end
from muniment.connectors.aws_session import Cloud, Refused, Session, reach
from muniment.connectors.kinds import Kind, Secret
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_ROLE = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_SESSION = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)  # of a session's name, and of a source identity
_ROLES = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/(?:[\w+=,.@-]+/)*", re.ASCII)
_SHORTEST = timedelta(minutes=15)
_OLDER = "AWSRevokeOlderSessions"  # as the console calls it
_BEFORE, _NOW = "aws:TokenIssueTime", "aws:CurrentTime"
_LONGEST_POLICY = 2048  # characters of a session policy
_ALL: Document = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

LEAST_PRIVILEGE = """\
{"Version": "2012-10-17", "Statement": [
 {"Effect": "Allow", "Resource": "arn:aws:iam::ACCOUNT:role/lent/*", "Action": [
  "iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"]},
 {"Effect": "Allow", "Resource": "arn:aws:iam::ACCOUNT:role/lent/*", "Action": [
  "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]}]}
# and each role below lent/ trusts Muniment, and nobody else:
{"Version": "2012-10-17", "Statement": [
 {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::ACCOUNT:user/muniment"}, "Action": [
  "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]}]}
# Whoever may put policies on a role may give it anything: set a permissions boundary on each, and keep our own account out.
# Make it a user: AWS ends what a role assumes after an hour.
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    roles: str  # Where roles are, like `arn:aws:iam::123456789012:role/lent/`.
    #: JSON file with a policy of IAM's: a session may do no more than this. Default: all that its role may.
    session_policy: Path | None = None
    region: str = "us-east-1"  # Whose services are asked; beneficiaries' programs are told it, too.
    access_key_id: str = ""  # Whom we are there. Default: whoever this machine is, by role or environment.
    secret_access_key: Secret | None = None  # Reference to the key's secret.
    endpoint: str = ""  # In place of AWS itself: an emulator; `http://` only on this machine.
    timeout: str = "50s"  # For each call in all.


class _Own(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket's policy on a role, as it was read."""

    name: str
    ticket: str
    account: str
    end: datetime
    issued: datetime  # not before this
    denied: bool  # already, and not only from the end on


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    if not _ROLES.fullmatch(settings.roles):
        raise Misconfigured(
            "roles is no path of roles", remedy="Write it like arn:aws:iam::123456789012:role/lent/."
        )
    bound = _bound(settings.session_policy)
    until_end(bound, "x" * 60, datetime.now(UTC))  # so that one with an end of its own is found at the start
    made = RoleSessions(
        reach(name, settings), settings.roles, bound, region=settings.region,
        catalogue=tuple(each.privilege for each in catalogue),
    )  # fmt: skip
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class RoleSessions:
    """See `muniment.ports.Connector`; an account is a session's name, a privilege a role's."""

    capabilities = Capabilities(
        native_expiry=True,
        ends_sessions=False,  # AWS says that it looks at each request; no test has seen it do so
        issues_credential=True,
        needs_public_key=True,
        lists_everything=False,
        usage_log=True,
        grant="token",
        separate=True,
    )

    def __init__(
        self, cloud: Cloud, roles: str, bound: Document, *, region: str, catalogue: Sequence[str] = ()
    ) -> None:
        """Connects at each call."""
        self._cloud, self._roles, self._bound, self._region = cloud, roles, bound, region
        self._catalogue = tuple(sorted(set(catalogue)))

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        clean_name(account, "the account")
        if not _SESSION.fullmatch(account):
            raise Invalid(
                "this cannot be a session's name",
                remedy="2 to 64 letters, digits and + = , . @ _ - make one.",
            )
        for item in scope:
            if not _ROLE.fullmatch(item.privilege):
                raise Invalid("IAM has no such roles", remedy="Write a role's name, without its path.")
            if item.resource is not None:
                raise Invalid("a role has no resource", remedy="Ask for the role alone.")
        if key is not None:
            delivery.recipient(key)

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        session = self._cloud.session()
        try:
            longest = {role: self._longest(session, role) for role in self._catalogue}
        except TargetUnavailable as error:
            return unreachable(error)
        except Refused as error:
            return unreachable(self._unread(error))
        return CheckReport(
            reachable=True,
            details=(
                "IAM answers. A session has its end in it, which AWS looks at at each request.",
                *(f"A session of {role} lasts {most} at most." for role, most in longest.items() if most),
                "Whoever may put policies on a role may give it anything, and so may our account.",
                "This connector was tried on an emulator of AWS, and not on AWS.",
            ),
            problems=tuple(
                f"There is no role {role}, which is in the catalogue." for role, most in longest.items() if not most
            ),
            least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`: sessions of roles in the catalogue that we made, and that nobody has ended."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        session, now, found = self._cloud.session(), datetime.now(UTC), []
        try:
            for role in self._catalogue:
                own, older = self._policies(session, role)
                found += [
                    Holding(account=each.account, privilege=role, ticket=each.ticket)
                    for each in own
                    if not each.denied and now < each.end and not (older and each.issued < older)
                    if accounts is None or each.account in accounts
                ]
        except Refused as error:
            raise self._unread(error) from error
        return Observation(holdings=tuple(found))

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`. What was made for the ticket before, and perhaps never delivered, is denied."""
        if not orders:
            return []
        session = self._cloud.session()
        try:
            roles = {item.privilege for order in orders if not self._bad(order) for item in order.scope}
            longest = {role: self._longest(session, role) for role in sorted(roles)}
        except Refused as error:
            raise self._unread(error) from error
        session.confirmed(confirm)
        return [self._give(session, order, longest) for order in orders]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`."""
        if not orders:
            return []
        session = self._cloud.session()
        session.confirmed(confirm)
        return [self._take(session, order) for order in orders]

    # ── giving ──

    def _give(self, session: Session, order: Order, longest: dict[str, timedelta | None]) -> Outcome:
        if why := self._bad(order):
            return no(order, "bad-name", why)
        left = order.expires_at - datetime.now(UTC)
        if left <= timedelta(0):
            return no(order, "too-late", "the access is over already")
        for item in order.scope:
            if (most := longest[item.privilege]) is None:
                return no(order, "no-such-privilege", f"{self._cloud.name} has no role {item.privilege}")
            if left > most:
                return no(
                    order, "rejected", f"a session of {item.privilege} lasts no longer than {most}: ask for less"
                )  # fmt: skip
        given = []
        for item in order.scope:
            try:
                given.append((item.privilege, self._session_of(session, order, item.privilege)))
            except Refused as error:
                return self._refusal(order, item.privilege, error)
        return Outcome(
            ticket=order.ticket, result="done", native_expiry=order.expires_at,
            credential=self._credential(order, given),
        )  # fmt: skip

    def _session_of(self, session: Session, order: Order, role: str) -> dict[str, str]:
        """Its credentials. Whoever has older ones of the same ticket is denied everything by the time that this is done."""
        own, older = self._policies(session, role)
        self._sweep(session, role, own, order)
        now = datetime.now(UTC).replace(microsecond=0)
        if any(each.ticket == order.ticket for each in own) or (older and older > now):
            now += timedelta(
                seconds=1
            )  # IAM compares whole seconds: what is made now is not to be of the same one
            time.sleep(max(0.0, (now - datetime.now(UTC)) / timedelta(seconds=1)))
        self._put(session, order, role, issued=now)
        session.in_time()
        seconds = math.ceil((order.expires_at - datetime.now(UTC)) / timedelta(seconds=1))
        bound = until_end(self._bound, order.ticket, order.expires_at)
        made = session.ask(
            "sts", "assume_role", RoleArn=f"{self._roles}{role}", RoleSessionName=order.account,
            SourceIdentity=order.ticket, Policy=_plain(bound),
            DurationSeconds=max(seconds, int(_SHORTEST.total_seconds())),
            Tags=[
                {"Key": "muniment-ticket", "Value": order.ticket}, {"Key": "muniment-account", "Value": order.account},
            ],
        )  # fmt: skip
        found: dict[str, str] = made["Credentials"]
        return found

    def _credential(self, order: Order, given: Sequence[tuple[str, dict[str, str]]]) -> bytes:
        """One session in the variables that all programs read; of several, a profile for each, called like its role."""
        env = {"AWS_REGION": self._region, "AWS_DEFAULT_REGION": self._region}
        if len(given) == 1:
            [(_, found)] = given
            env |= {
                "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
                "AWS_SESSION_TOKEN": found["SessionToken"],
            }
            return sealed(order, "token", env)
        profiles = "\n".join(
            f"[{role}]\naws_access_key_id={found['AccessKeyId']}\naws_secret_access_key={found['SecretAccessKey']}\n"
            f"aws_session_token={found['SessionToken']}"
            for role, found in given
        )
        files = {"AWS_SHARED_CREDENTIALS_FILE": f"{profiles}\n"}
        return sealed(order, "token", env | {"AWS_PROFILE": given[0][0]}, files=files)

    # ── taking ──

    def _take(self, session: Session, order: Order) -> Outcome:
        done = Outcome(ticket=order.ticket, result="done")
        if self._bad(order):
            return done
        for item in order.scope:
            try:
                own, _ = self._policies(session, item.privilege)
                self._sweep(session, item.privilege, own, order)
                for each in own:
                    if (each.ticket, each.account) == (order.ticket, order.account):
                        self._end(session, order, item.privilege, each)
            except Refused as error:
                return self._refusal(order, item.privilege, error)
        return done

    def _end(self, session: Session, order: Order, role: str, own: _Own) -> None:
        if own.end <= datetime.now(UTC):
            self._delete(session, role, own.name)
        elif not own.denied:
            self._put(session, order, role, issued=None, end=own.end)
            left, _ = self._policies(session, role)
            if any(each.name == own.name and not each.denied for each in left):
                raise TargetUnavailable(
                    f"{self._cloud.name} does not show what we put on {role}", remedy="It is tried again."
                )

    def _sweep(self, session: Session, role: str, own: Sequence[_Own], order: Order) -> None:
        """Policies that deny what is over anyhow. Those of tickets whose end nobody asked for are theirs."""
        now = datetime.now(UTC)
        for each in own:
            if each.denied and each.end <= now and each.ticket != order.ticket:
                self._delete(session, role, each.name)

    # ── policies on a role ──

    def _put(
        self,
        session: Session,
        order: Order,
        role: str,
        *,
        issued: datetime | None,
        end: datetime | None = None,
    ) -> None:
        """The ticket's policy: from the end on everything is denied; without ``issued`` at once."""
        session.in_time()
        over = end or order.expires_at
        over += timedelta(microseconds=999_999)  # a second that has begun is given whole
        mine = {"StringEquals": {"aws:SourceIdentity": order.ticket}}
        everything = {"Effect": "Deny", "Action": "*", "Resource": "*"}
        denies: list[Document] = [everything | {"Condition": mine}]
        if issued is not None:
            denies = [
                everything | {"Condition": mine | {"DateGreaterThanEquals": {_NOW: over.strftime(WHEN)}}},
                everything | {"Condition": mine | {"DateLessThan": {_BEFORE: issued.strftime(WHEN)}}},
            ]
        document = {
            "Version": "2012-10-17",
            "Id": f"{over.strftime(WHEN)} {order.account}",
            "Statement": denies,
        }
        session.ask(
            "iam", "put_role_policy", RoleName=role, PolicyName=policy_name(order.ticket, order.account, role),
            PolicyDocument=_plain(document),
        )  # fmt: skip

    def _delete(self, session: Session, role: str, name: str) -> None:
        session.in_time()
        session.maybe("iam", "delete_role_policy", RoleName=role, PolicyName=name)

    def _policies(self, session: Session, role: str) -> tuple[list[_Own], datetime | None]:
        """Our own on a role, and before when somebody has ended all its sessions."""
        own, older = [], None
        try:
            names = list(
                session.every("iam", "list_role_policies", "PolicyNames", by="Marker", RoleName=role)
            )
        except Refused as error:
            if error.code != "NoSuchEntity":
                raise
            return [], None
        for name in names:
            if name != _OLDER and not name.startswith("muniment."):
                continue
            found = session.maybe("iam", "get_role_policy", RoleName=role, PolicyName=name)
            if found is None:
                continue
            document = document_of(found["PolicyDocument"])
            if name == _OLDER:
                older = _instant(document, "DateLessThan", _BEFORE)
            elif (mine := _own(role, name, document)) is not None:
                own.append(mine)
        return own, older

    def _longest(self, session: Session, role: str) -> timedelta | None:
        """How long its sessions may last; None if there is no such role."""
        found = session.maybe("iam", "get_role", RoleName=role)
        if found is None or found["Role"]["Arn"] != f"{self._roles}{role}":
            return None
        return timedelta(seconds=found["Role"].get("MaxSessionDuration", 3600))

    # ── refusing ──

    def _bad(self, order: Order) -> str | None:
        if why := fault(self, order.account, order.scope, order.public_key or ""):
            return why
        return None if _SESSION.fullmatch(order.ticket) else "the ticket's id cannot be a source identity"

    def _refusal(self, order: Order, role: str, error: Refused) -> Outcome:
        if error.is_right:
            return no(order, "not-allowed", f"our account may not lend {role}, or the role does not trust it")
        if error.code == "NoSuchEntity":
            return no(order, "no-such-privilege", f"{self._cloud.name} has no role {role}")
        if error.code == "LimitExceeded":
            return no(order, "rejected", f"{role} has no room for another ticket beside its other policies")
        return no(order, "rejected", f"AWS answered {error.word} for {role}")

    def _unread(self, error: Refused) -> TargetUnavailable:
        return self._cloud.unread(error, "aws-role-sessions")


def _own(role: str, name: str, document: Document) -> _Own | None:
    """What a policy of ours says; None of one that we did not put there, or not like this."""
    when, _, account = str(document.get("Id", "")).partition(" ")
    ticket = name.removeprefix("muniment.").rpartition(".")[0]
    if not account or name != policy_name(ticket, account, role):
        return None
    try:
        end = datetime.strptime(when, WHEN).replace(tzinfo=UTC)
    except ValueError:
        return None
    issued = _instant(document, "DateLessThan", _BEFORE)
    late = _instant(document, "DateGreaterThanEquals", _NOW)
    return _Own(
        name=name, ticket=ticket, account=account, end=end, issued=issued or end,
        denied=issued is None or late is None,
    )  # fmt: skip


def _instant(document: Document, operator: str, key: str) -> datetime | None:
    """What the first condition of this kind says. AWS's own console writes fractions of a second."""
    stated: Any = document.get("Statement", [])
    for each in [stated] if isinstance(stated, dict) else stated:
        text = each.get("Condition", {}).get(operator, {}).get(key)
        if isinstance(text, str):
            try:
                return datetime.fromisoformat(text).astimezone(UTC)
            except ValueError:
                return None
    return None


def _bound(path: Path | None) -> Document:
    if path is None:
        return _ALL
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"session_policy: {path} holds no JSON that can be read", remedy="Write a policy there."
        ) from error
    if not isinstance(found, dict) or not found.get("Statement"):
        raise Misconfigured(
            f"session_policy: {path} is no policy", remedy="It has a Statement, as any policy of IAM's."
        )
    if len(_plain(until_end(found, "x" * 60, datetime.now(UTC)))) > _LONGEST_POLICY:
        raise Misconfigured(
            f"session_policy: {path} has more than AWS takes for a session",
            remedy=f"All of it may have {_LONGEST_POLICY} characters, with an end in each statement that allows something.",
        )
    return found


def _plain(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))


KIND = Kind(
    summary="a privilege is a role, and a session of the ticket's own is in it",
    settings=Settings,
    build=build,
    capabilities=RoleSessions.capabilities,
    least_privilege=LEAST_PRIVILEGE,
    emulated=True,
)
