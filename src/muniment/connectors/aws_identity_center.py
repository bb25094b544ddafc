"""AWS IAM Identity Center: a permission set, assigned to a user in one AWS account.

**Tried on moto only, which is an emulator.** What is said of AWS itself here is AWS's documentation.

What follows what, for a batch of orders:

1. look up users and permission sets by name, and what these users are assigned already
2. ``confirm``: the work is still ours
3. order by order: begin what is missing (or is to go), some at a time; then ask until AWS says that it is done. A crash
   leaves AWS at work, and the caller reads back

AWS takes its time: what it has not said by the end of the call is ``unknown``, and is read back later. What is assigned
already is not assigned again. To take away is repeated until AWS lists it no more, as an emulator keeps duplicates.

Fencing (I19). AWS compares nothing. A worker that was paused for more than ``PAUSE`` after 2 finds out and begins nothing
more; one that is paused between that look and the call can still make that one change, and reconciliation finds it.

Who assigned something AWS does not say: what somebody else assigned as well goes with ours. What somebody has by a group is
the group's, and is shown as ``Group/NAME`` among all holdings.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from muniment.connectors.answering import fault, no, unknown, unreachable
from muniment.connectors.aws_session import Cloud, Refused, Session, reach
from muniment.connectors.kinds import Kind, Secret
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name, visible
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_TOGETHER = 10  # changes that are under way at a time; AWS allows fifteen
_TIMES = 5  # that one assignment is taken away, where there are several
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_SET = re.compile(r"[\w+=,.@-]{1,32}", re.ASCII)
_INSTANCE = re.compile(r"arn:aws[a-z-]*:sso:::instance/(?:sso)?ins-[a-zA-Z0-9-]{16}", re.ASCII)
_STORE = re.compile(r"d-[0-9a-f]{10}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_GROUPS = "Group/"  # before a group's name, where it is shown as an account
_LONGEST_NAME = 128

LEAST_PRIVILEGE = """\
{"Version": "2012-10-17", "Statement": [
 {"Effect": "Allow", "Resource": "*", "Action": [
  "sso:ListPermissionSets", "sso:DescribePermissionSet", "sso:ListAccountAssignmentsForPrincipal",
  "sso:DescribeAccountAssignmentCreationStatus", "sso:DescribeAccountAssignmentDeletionStatus",
  "identitystore:GetUserId", "identitystore:DescribeUser", "identitystore:ListUsers", "identitystore:ListGroups"]},
 {"Effect": "Allow", "Action": ["sso:CreateAccountAssignment", "sso:DeleteAccountAssignment"],
  "Resource": ["INSTANCE", "arn:aws:sso:::account/ACCOUNT", "PERMISSION-SET"]}]}
# In place of the last line: the instance, each account and each permission set in the catalogue. Make the role in the
# account that administers Identity Center, and not in the management account: there it needs rights in IAM as well.
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    instance: str  # ARN of the instance of Identity Center.
    identity_store: str  # Id of its identity store, like `d-1234567890`.
    region: str  # Where it is.
    access_key_id: str = ""  # Whom we are there. Default: whoever this machine is, by role or environment.
    secret_access_key: Secret | None = None  # Reference to the key's secret.
    endpoint: str = ""  # In place of AWS itself: an emulator; `http://` only on this machine.
    timeout: str = "50s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    for what, value, pattern in (
        ("instance", settings.instance, _INSTANCE),
        ("identity_store", settings.identity_store, _STORE),
    ):
        if not pattern.fullmatch(value):
            raise Misconfigured(
                f"{what} is nothing that AWS gives", remedy="The settings page of Identity Center shows it."
            )
    made = IdentityCenter(reach(name, settings), settings, catalogue=tuple(catalogue))
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class _Change(msgspec.Struct, kw_only=True):
    """One assignment that is to come or to go."""

    order: int
    item: Privilege
    parameters: dict[str, str]
    request: str = ""


class IdentityCenter:
    """See `muniment.ports.Connector`; an account is a user's name in the identity store.

    A privilege is a permission set's name, its resource the AWS account.
    """

    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=False,
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
    )

    def __init__(self, cloud: Cloud, settings: Settings, *, catalogue: Sequence[Privilege] = ()) -> None:
        """Connects at each call."""
        self._cloud, self._settings, self._catalogue = cloud, settings, tuple(catalogue)
        #: names of permission sets by ARN, which never change: looked up once each
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. A group is nobody's account."""
        del key
        clean_name(account, "the account", limit=_LONGEST_NAME)
        if account.startswith(_GROUPS) or " " in account:
            raise Invalid("Identity Center has no such user names", remedy="Write it as it shows it.")
        for item in scope:
            if not _SET.fullmatch(item.privilege):
                raise Invalid(
                    "Identity Center has no such permission sets",
                    remedy="Write its name, of 32 characters at most.",
                )
            if item.resource is None or not _ACCOUNT.fullmatch(item.resource):
                raise Invalid(
                    "a permission set is for an AWS account", remedy="Name its 12 digits as the resource."
                )

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            session = self._cloud.session()
            sets = self._sets(session)
            problems = [
                f"There is no permission set {name}, which is in the catalogue."
                for name in sorted({item.privilege for item in self._catalogue} - sets.keys())
            ]
            problems += self._about_us(session)
            known = sorted({sets[i.privilege] for i in self._catalogue if i.privilege in sets})
            lengths = {self._describe(session, arn).get("SessionDuration", "") for arn in known}
            spoken = visible(", ".join(sorted(filter(None, lengths))) or "an hour")
        except TargetUnavailable as error:
            return unreachable(error)
        except Refused as error:
            return unreachable(TargetUnavailable(f"AWS lets us not look ({error.word})"))
        return CheckReport(
            reachable=True,
            details=(
                f"Identity Center answers, and has {len(sets)} permission sets.",
                f"Sessions live on after we take a permission set away, for as long as it says: {spoken}.",
                "AWS compares nothing: a worker that is held up at the wrong moment may come late.",
                "This connector was tried on an emulator of AWS, and not on AWS.",
            ),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE.replace("INSTANCE", self._settings.instance),
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. What somebody has by a group is shown as the group's."""
        wanted = None if accounts is None else sorted({a for a in accounts if fault(self, a, ()) is None})
        if wanted is not None and not wanted:
            return Observation(holdings=())
        session = self._cloud.session()
        try:
            names = {arn: name for name, arn in self._sets(session).items()}
            found = {
                (account, names[each["PermissionSetArn"]], each["AccountId"])
                for account, kind, number in self._principals(session, wanted)
                for each in self._assigned(session, kind, number)
                if each["PermissionSetArn"] in names
            }
        except Refused as error:
            raise self._cloud.unread(error, "aws-identity-center") from error
        return Observation(
            holdings=tuple(
                Holding(account=account, privilege=name, resource=number)
                for account, name, number in sorted(found)
            )
        )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        return self._work(orders, confirm, give=True)

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. What is not there any more is nobody's."""
        return self._work(orders, confirm, give=False)

    def _work(self, orders: Sequence[Order], confirm: Callable[[], None], *, give: bool) -> list[Outcome]:
        if not orders:
            return []
        session = self._cloud.session()
        answers: dict[int, Outcome] = {}
        changes: list[_Change] = []
        try:
            sets = self._sets(session)
            users: dict[str, str | None] = {}
            for at, order in enumerate(orders):
                if order.account not in users:
                    sound = fault(self, order.account, ()) is None
                    users[order.account] = self._user(session, order.account) if sound else None
                user = users[order.account]
                if give and (refused := self._impossible(order, user, sets)):
                    answers[at] = refused
                elif user is not None and fault(self, order.account, order.scope) is None:
                    held = {
                        (a["PermissionSetArn"], a["AccountId"]) for a in self._assigned(session, "USER", user)
                    }
                    changes += [
                        _Change(
                            order=at, item=item, parameters=self._parameters(user, sets[item.privilege], item)
                        )
                        for item in order.scope
                        if item.privilege in sets
                        and ((sets[item.privilege], item.resource) in held) is not give
                    ]
        except Refused as error:
            raise self._cloud.unread(error, "aws-identity-center") from error
        session.confirmed(confirm)
        for start in range(0, len(changes), _TOGETHER):
            for change, outcome in self._together(
                session, changes[start : start + _TOGETHER], orders, give=give
            ):
                if outcome is not None:
                    answers[change.order] = outcome
        return [answers.get(at) or Outcome(ticket=o.ticket, result="done") for at, o in enumerate(orders)]

    def _together(
        self,
        session: Session,
        changes: Sequence[_Change],
        orders: Sequence[Order],
        *,
        give: bool,
    ) -> Iterator[tuple[_Change, Outcome | None]]:
        """Begin some changes, then see each to its end; an outcome for each that did not go well."""
        begun = []
        for change in changes:
            try:
                if self._begin(session, change, give=give):
                    begun.append(change)
            except Refused as error:
                yield change, self._refusal(orders[change.order], change.item, error)
        for change in begun:
            try:
                outcome = self._finished(session, orders[change.order], change, give=give)
            except Refused as error:
                outcome = self._refusal(orders[change.order], change.item, error)
            yield change, outcome

    def _finished(self, session: Session, order: Order, change: _Change, *, give: bool) -> Outcome | None:
        """How it went: None if well. What is taken away and is still there is taken away again."""
        for _ in range(1 if give else _TIMES):
            outcome = self._ended(session, order, change, give=give)
            if give or outcome is not None or not self._is_there(session, change):
                break
            self._begin(session, change, give=give)
        return outcome

    def _begin(self, session: Session, change: _Change, *, give: bool) -> bool:
        """Whether there is something under way now."""
        session.in_time()
        word = "Creation" if give else "Deletion"
        operation = "create_account_assignment" if give else "delete_account_assignment"
        answer = session.maybe("sso-admin", operation, **change.parameters)
        if answer is None:
            if give:
                raise Refused("ResourceNotFoundException")
            return False
        change.request = answer[f"AccountAssignment{word}Status"].get("RequestId", "")
        return True

    def _ended(self, session: Session, order: Order, change: _Change, *, give: bool) -> Outcome | None:
        """How it went: None if well. AWS works on for a while, and says nothing by itself."""
        word = "Creation" if give else "Deletion"
        asked = {f"AccountAssignment{word}RequestId": change.request, "InstanceArn": self._settings.instance}
        for _ in session.waiting():
            answer = session.ask("sso-admin", f"describe_account_assignment_{word.lower()}_status", **asked)
            status = answer[f"AccountAssignment{word}Status"]["Status"]
            if status == "SUCCEEDED":
                return None
            if status != "IN_PROGRESS":
                return no(
                    order, "rejected", f"AWS began with {change.item.privilege}, and says that it failed"
                )
        return unknown(order, "unavailable", f"AWS is still at work on {change.item.privilege}")

    def _is_there(self, session: Session, change: _Change) -> bool:
        mine = change.parameters
        try:
            held = self._assigned(session, "USER", mine["PrincipalId"])
        except Refused as error:
            raise self._cloud.unread(error, "aws-identity-center") from error
        return any(
            (each["PermissionSetArn"], each["AccountId"]) == (mine["PermissionSetArn"], mine["TargetId"])
            for each in held
        )

    def _impossible(self, order: Order, user: str | None, sets: Mapping[str, str]) -> Outcome | None:
        if why := fault(self, order.account, order.scope):
            return no(order, "bad-name", why)
        if user is None:
            return no(order, "no-such-account", f"{self._cloud.name} has no user {order.account}")
        for item in order.scope:
            if item.privilege not in sets:
                return no(
                    order, "no-such-privilege", f"{self._cloud.name} has no permission set {item.privilege}"
                )
        return None

    def _refusal(self, order: Order, item: Privilege, error: Refused) -> Outcome:
        if error.is_right:
            return no(order, "not-allowed", f"our account may not assign {item.privilege} in {item.resource}")
        if error.code == "ResourceNotFoundException":
            return no(
                order, "no-such-privilege", f"there is no {item.privilege} or no account {item.resource}"
            )
        return no(order, "rejected", f"AWS answered {error.word} for {item.privilege} in {item.resource}")

    def _parameters(self, user: str, arn: str, item: Privilege) -> dict[str, str]:
        return {
            "InstanceArn": self._settings.instance, "TargetId": item.resource or "", "TargetType": "AWS_ACCOUNT",
            "PermissionSetArn": arn, "PrincipalType": "USER", "PrincipalId": user,
        }  # fmt: skip

    def _user(self, session: Session, name: str) -> str | None:
        """The id of who is called exactly so; AWS itself does not tell letters by case."""
        store = self._settings.identity_store
        unique = {"UniqueAttribute": {"AttributePath": "userName", "AttributeValue": name}}
        found = session.maybe(
            "identitystore", "get_user_id", IdentityStoreId=store, AlternateIdentifier=unique
        )
        if found is None:
            return None
        user = session.maybe("identitystore", "describe_user", IdentityStoreId=store, UserId=found["UserId"])
        return found["UserId"] if user is not None and user.get("UserName") == name else None

    def _principals(
        self, session: Session, wanted: Sequence[str] | None
    ) -> Iterator[tuple[str, Literal["USER", "GROUP"], str]]:
        """Who may have assignments: name, kind and id."""
        store = self._settings.identity_store
        if wanted is not None:
            found = ((name, self._user(session, name)) for name in wanted)
            yield from ((name, "USER", number) for name, number in found if number)
            return
        for user in session.every("identitystore", "list_users", "Users", IdentityStoreId=store):
            yield user.get("UserName") or user["UserId"], "USER", user["UserId"]
        for group in session.every("identitystore", "list_groups", "Groups", IdentityStoreId=store):
            yield f"{_GROUPS}{group.get('DisplayName') or group['GroupId']}", "GROUP", group["GroupId"]

    def _assigned(self, session: Session, kind: Literal["USER", "GROUP"], number: str) -> list[Any]:
        """What this user or group is assigned itself; AWS lists for a user what its groups have, too."""
        listed = session.every(
            "sso-admin", "list_account_assignments_for_principal", "AccountAssignments",
            InstanceArn=self._settings.instance, PrincipalId=number, PrincipalType=kind,
        )  # fmt: skip
        return [each for each in listed if (each["PrincipalType"], each["PrincipalId"]) == (kind, number)]

    def _sets(self, session: Session) -> dict[str, str]:
        """ARNs of all permission sets by name."""
        instance = self._settings.instance
        listed = list(
            session.every("sso-admin", "list_permission_sets", "PermissionSets", InstanceArn=instance)
        )
        for arn in listed:
            if arn not in self._names:
                name = self._describe(session, arn).get("Name", "")
                with self._lock:
                    self._names[arn] = name
        return {self._names[arn]: arn for arn in listed if self._names[arn]}

    def _describe(self, session: Session, arn: str) -> dict[str, Any]:
        asked = {"InstanceArn": self._settings.instance, "PermissionSetArn": arn}
        answer = session.maybe("sso-admin", "describe_permission_set", **asked)
        found: dict[str, Any] = answer["PermissionSet"] if answer else {}
        return found

    def _about_us(self, session: Session) -> Iterator[str]:
        """By a call that changes nothing: it names a set that cannot be there, and nothing to change of it."""
        nothing = f"{self._settings.instance.replace('instance', 'permissionSet')}/ps-0000000000000000"
        try:
            session.ask(
                "sso-admin",
                "update_permission_set",
                InstanceArn=self._settings.instance,
                PermissionSetArn=nothing,
            )
        except Refused as error:
            if error.is_right:
                return
        yield "Our account may change permission sets, which is more than it needs."


KIND = Kind(
    summary="a privilege is a permission set that the user is assigned in an AWS account",
    settings=Settings,
    build=build,
    capabilities=IdentityCenter.capabilities,
    least_privilege=LEAST_PRIVILEGE,
    emulated=True,
)
