"""Sessions of roles as moto emulates them, which is not AWS: nothing is denied. Here policies are read as AWS would."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pyrage

from muniment import delivery
from muniment.conformance.grounds.aws import KEY_ID, SECRET, TIMEOUT, CenterGround, Server
from muniment.conformance.grounds.collecting import Collecting
from muniment.conformance.grounds.servers import Served
from muniment.conformance.harness import Ground, Harness, Outage
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope
from muniment.ports import Connector

ROLES = "arn:aws:iam::123456789012:role/lent/"
OLDER = "AWSRevokeOlderSessions"

_numbers = itertools.count(1)


class RoleHarness(Served):
    """Two people and two roles, with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.iam = server, proxy, server.client("iam")
        self.accounts = (f"ann+x={number}", f"bob.@-{number}")
        self.names = (f"Readers{number}", f"ops.x+=,@-{number}")
        self.privileges = (Privilege(privilege=self.names[0]), Privilege(privilege=self.names[1]))
        self.impossible = (self.accounts[0], scope([Privilege(privilege=f"none{number}")]))
        self.key, self.dead = pyrage.x25519.Identity.generate(), set[str]()
        for name in self.names:
            self.make_role(name)
        self.secrets = (SECRET,)
        self.real = Collecting(self.make(timeout="20s"))  # a machine that is busy is no outage
        self.connector: Connector = self.real

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "endpoint": f"http://{HOST}:{self.proxy.port}", "roles": ROLES, "access_key_id": KEY_ID,
            "secret_access_key": "env:KEY", "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "aws-role-sessions", name="aws-test", secret=lambda _: SECRET, path=Path, catalogue=self.privileges,
            settings={key: value for key, value in (given | settings).items() if value is not None},
        )  # fmt: skip

    def make_role(self, name: str, seconds: int = 12 * 3600) -> None:
        """One that our account may take up."""
        trust = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        self.iam.create_role(
            RoleName=name, Path="/lent/", AssumeRolePolicyDocument=document, MaxSessionDuration=seconds
        )

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def issued(self, account: str) -> delivery.Issued:
        """What the beneficiary unseals."""
        return delivery.unseal(self.real.collected[account], str(self.key).encode(), lambda: b"")

    def policies(self, role: str) -> dict[str, Any]:
        """On a role, by name."""
        with suppress(self.iam.exceptions.NoSuchEntityException):
            names = self.iam.list_role_policies(RoleName=role)["PolicyNames"]
            return {
                each: self.iam.get_role_policy(RoleName=role, PolicyName=each)["PolicyDocument"]
                for each in names
            }
        return {}

    def sessions(self) -> Iterator[tuple[str, str, dict[str, Any], str]]:
        """Account, role, session policy and key of each that the emulator made, as it says itself."""
        url = f"http://{HOST}:{self.server.port}/moto-api/data.json"
        with urllib.request.urlopen(url, timeout=20) as answer:
            found = json.loads(answer.read())
        for each in found.get("sts", {}).get("AssumedRole", ()):
            role = each["role_arn"].removeprefix(ROLES)
            if role in self.names:
                yield each["session_name"], role, json.loads(each["policy"]), each["access_key_id"]

    def roles(self) -> list[str]:
        """That are there."""
        found = self.iam.get_paginator("list_roles").paginate(PathPrefix="/lent/")
        return sorted(role["RoleName"] for page in found for role in page["Roles"])

    def everything(self) -> Any:
        """Who has a session that is allowed anything; what is on the roles; which roles there are.

        What denies a session that was ended early is no part of it: it stays until the session would have ended.
        """
        on = [
            (role, name)
            for role in self.names
            for name, body in self.policies(role).items()
            if name != OLDER and not (name.startswith("muniment.") and _at_once(body))
        ]
        return [self.holds(account) for account in self.accounts], sorted(on), self.roles()

    def holds(self, account: str) -> Scope:
        """Roles whose session is this account's, and which neither its own policy nor the role's has ended."""
        now, there = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), self.roles()
        on = {role: self.policies(role) for role in self.names}
        return scope(
            Privilege(privilege=role)
            for who, role, policy, key in self.sessions()
            if who == account and role in there and key not in self.dead
            if all(each["Condition"]["DateLessThan"]["aws:CurrentTime"] > now for each in policy["Statement"])
            and not any(
                _denies(body, policy["Id"].split(".")[1], now)
                for name, body in on[role].items()
                if name != OLDER
            )
        )  # fmt: skip

    def take(self, account: str, privilege: Privilege) -> None:
        """Somebody ends all sessions of the role, as the console does."""
        del account
        cut = self.now().replace(microsecond=0) + timedelta(seconds=1)
        sleep((cut - self.now()) / timedelta(seconds=1))
        self.dead |= {key for _, role, _, key in self.sessions() if role == privilege.privilege}
        ended = {
            "Effect": "Deny", "Action": "*", "Resource": "*",
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": cut.strftime("%Y-%m-%dT%H:%M:%S.000Z")}},
        }  # fmt: skip
        document = json.dumps({"Version": "2012-10-17", "Statement": [ended]})
        self.iam.put_role_policy(RoleName=privilege.privilege, PolicyName=OLDER, PolicyDocument=document)

    def delete_privilege(self, privilege: Privilege) -> None:
        """With all that is on it, as AWS demands before."""
        for name in self.policies(privilege.privilege):
            self.iam.delete_role_policy(RoleName=privilege.privilege, PolicyName=name)
        self.iam.delete_role(RoleName=privilege.privilege)

    def outage(self, kind: Outage) -> AbstractContextManager[None]:
        """A server that would forget everything is refused instead of stopped."""
        return self.proxy.being("refuse") if kind == "stopped" else super().outage(kind)

    def pass_time(self, until: datetime) -> bool:
        """Really."""
        sleep(max(0.0, (until - self.now()) / timedelta(seconds=1)))
        return True


def _denies(body: dict[str, Any], ticket: str, now: str) -> bool:
    """Whether a policy of a ticket's denies its sessions everything now. Of those made again only the newest counts here."""
    for each in body["Statement"]:
        condition = each["Condition"]
        late = condition.get("DateGreaterThanEquals", {}).get("aws:CurrentTime", "")
        if (
            condition["StringEquals"]["aws:SourceIdentity"] == ticket
            and "DateLessThan" not in condition
            and late <= now
        ):
            return True
    return False


def _at_once(body: dict[str, Any]) -> bool:
    return all(set(each["Condition"]) == {"StringEquals"} for each in body["Statement"])


class RoleGround(CenterGround):
    """The same emulator."""

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Roles of its own."""
        with Proxy(self.server.port) as proxy:
            yield RoleHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield RoleGround(server)


GROUNDS = {"moto-roles": _ground}
