"""IAM as moto emulates it, which is not AWS: no policy is enforced. What is held is read as AWS would: without what is over."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muniment.conformance.grounds.aws import KEY_ID, SECRET, TIMEOUT, CenterGround, Server
from muniment.conformance.grounds.servers import Served
from muniment.conformance.harness import Ground, Harness, Outage, really
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope

POLICIES = "arn:aws:iam::123456789012:policy/"

_numbers = itertools.count(1)


class IamHarness(Served):
    """A user, a role and two managed policies: with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.iam = server, proxy, server.client("iam")
        self.accounts = (f"user/ann+x={number}", f"role/deploy.@-{number}")
        self.iam.create_user(UserName=self.accounts[0].removeprefix("user/"))
        self.iam.create_role(
            RoleName=self.accounts[1].removeprefix("role/"), AssumeRolePolicyDocument=trusted()
        )
        self.names = (f"Readers{number}", f"ops.x+=,@-{number}")
        self.privileges = (Privilege(privilege=self.names[0]), Privilege(privilege=self.names[1]))
        for name in self.names:
            self.make_policy(name)
        self.impossible = (f"user/nobody{number}", scope(self.privileges[:1]))
        self.secrets = (SECRET,)
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "endpoint": f"http://{HOST}:{self.proxy.port}", "policies": POLICIES, "access_key_id": KEY_ID,
            "secret_access_key": "env:KEY", "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "aws-iam-policies", name="aws-test", secret=lambda _: SECRET, path=Path, catalogue=self.privileges,
            settings={key: value for key, value in (given | settings).items() if value is not None},
        )  # fmt: skip

    def make_policy(self, name: str, *statements: dict[str, Any]) -> None:
        """A managed one."""
        allowed = statements or ({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},)
        body = {"Version": "2012-10-17", "Statement": list(allowed)}
        self.iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(body))

    def inline(self, account: str) -> dict[str, Any]:
        """Policies on a user or role itself, by name."""
        kind, _, name = account.partition("/")
        who = {f"{kind.title()}Name": name}
        with suppress(self.iam.exceptions.NoSuchEntityException):
            names = getattr(self.iam, f"list_{kind}_policies")(**who)["PolicyNames"]
            get = getattr(self.iam, f"get_{kind}_policy")
            return {each: get(PolicyName=each, **who)["PolicyDocument"] for each in names}
        return {}

    def attached(self, account: str) -> list[str]:
        """Names of managed policies on a user or role."""
        kind, _, name = account.partition("/")
        with suppress(self.iam.exceptions.NoSuchEntityException):
            found = getattr(self.iam, f"list_attached_{kind}_policies")(**{f"{kind.title()}Name": name})
            return [each["PolicyName"] for each in found["AttachedPolicies"]]
        return []

    def everything(self) -> Any:
        """What is on both, who there is, and which policies there are."""
        users = sorted(each["UserName"] for each in self.iam.list_users()["Users"])
        roles = sorted(each["RoleName"] for each in self.iam.list_roles()["Roles"])
        policies = sorted(each["Arn"] for each in self.iam.list_policies(Scope="Local")["Policies"])
        given = [(account, sorted(self.attached(account)), self.inline(account)) for account in self.accounts]
        return json.dumps([users, roles, policies, given], sort_keys=True)

    def holds(self, account: str) -> Scope:
        """What is attached, and what is inline and not over."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        live = (
            body["Id"].removeprefix("muniment.").rpartition(".")[0]
            for body in self.inline(account).values()
            if all(s["Condition"]["DateLessThan"]["aws:CurrentTime"] > now for s in body["Statement"])
        )
        return scope(Privilege(privilege=name) for name in (*self.attached(account), *live))

    def hold(self, account: str, privilege: Privilege) -> None:
        """Somebody else attaches the managed policy."""
        kind, _, name = account.partition("/")
        attach = getattr(self.iam, f"attach_{kind}_policy")
        attach(PolicyArn=f"{POLICIES}{privilege.privilege}", **{f"{kind.title()}Name": name})

    def take(self, account: str, privilege: Privilege) -> None:
        """Somebody else takes it, and what is ours."""
        kind, _, name = account.partition("/")
        who = {f"{kind.title()}Name": name}
        if privilege.privilege in self.attached(account):
            getattr(self.iam, f"detach_{kind}_policy")(PolicyArn=f"{POLICIES}{privilege.privilege}", **who)
        for each, body in self.inline(account).items():
            if body["Id"].startswith(f"muniment.{privilege.privilege}."):
                getattr(self.iam, f"delete_{kind}_policy")(PolicyName=each, **who)

    def delete_account(self, account: str) -> None:
        """With all that is on it, as AWS demands before."""
        for privilege in self.privileges:
            self.take(account, privilege)
        kind, _, name = account.partition("/")
        getattr(self.iam, f"delete_{kind}")(**{f"{kind.title()}Name": name})

    def delete_privilege(self, privilege: Privilege) -> None:
        """From all who have it, as AWS demands before, and what is ours."""
        for account in self.accounts:
            self.take(account, privilege)
        self.iam.delete_policy(PolicyArn=f"{POLICIES}{privilege.privilege}")

    def outage(self, kind: Outage) -> AbstractContextManager[None]:
        """A server that would forget everything is refused instead of stopped."""
        return self.proxy.being("refuse") if kind == "stopped" else super().outage(kind)

    def pass_time(self, until: datetime) -> bool:
        """Really."""
        return really(self, until)


def trusted() -> str:
    """Nobody may take up this role."""
    return json.dumps({"Version": "2012-10-17", "Statement": []})


class IamGround(CenterGround):
    """The same emulator."""

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Users, roles and policies of its own."""
        with Proxy(self.server.port) as proxy:
            yield IamHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield IamGround(server)


GROUNDS = {"moto-iam": _ground}
