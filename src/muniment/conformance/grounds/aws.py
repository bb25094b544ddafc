"""AWS as moto emulates it, which is not AWS: rights are not enforced, changes are done at once, and duplicates are kept."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from muniment.conformance.grounds.servers import Served, TemporaryServer
from muniment.conformance.harness import Ground, Harness, NotInstalled, Outage
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope

TIMEOUT = timedelta(seconds=1)
REGION = "eu-central-1"
STORE = "d-1234567890"
KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "an/example+of/a+secret/access/key/EXAMPLE"

_numbers = itertools.count(1)


class Server(TemporaryServer):
    """One emulator, which keeps everything in memory."""

    def __init__(self) -> None:
        if not find_spec("moto") or not find_spec("flask") or not find_spec("botocore"):
            raise NotInstalled("pip install moto flask flask-cors")
        self._lock, self._clients = threading.Lock(), dict[str, Any]()
        super().__init__(
            "moto",
            lambda _, port: (sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)),
            self._answers,
        )

    def client(self, service: str) -> Any:
        """Of botocore's, past us."""
        import botocore.session  # noqa: PLC0415  an extra, and large

        with self._lock:
            if service not in self._clients:
                self._clients[service] = botocore.session.Session().create_client(
                    service, region_name=REGION, endpoint_url=f"http://{HOST}:{self.port}",
                    aws_access_key_id="other", aws_secret_access_key="other",  # noqa: S106  nobody looks at it
                )  # fmt: skip
            return self._clients[service]

    def _answers(self, port: int) -> bool:
        with urllib.request.urlopen(f"http://{HOST}:{port}/moto-api/data.json", timeout=20) as answer:
            return isinstance(json.loads(answer.read()), dict)


class CenterHarness(Served):
    """Two users, two permission sets, an account: with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy = server, proxy
        self.sso, self.store = server.client("sso-admin"), server.client("identitystore")
        self.instance = self.sso.list_instances()["Instances"][0]["InstanceArn"]
        self.account_id = f"{number:012}"
        self.accounts = (f"ann{number}@example.com", f"bob+x'{number}@example.com")
        self.sets = (f"Readers{number}", f"ops.x+=,@-{number}")
        self.privileges = (self.in_here(self.sets[0]), self.in_here(self.sets[1]))
        self.impossible = (f"nobody{number}", scope(self.privileges[:1]))
        self.people = {name: self.make_user(name) for name in self.accounts}
        self.numbers = {name: self.make_set(name) for name in self.sets}
        self.secrets = (SECRET,)
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def in_here(self, name: str) -> Privilege:
        """A permission set in the account."""
        return Privilege(privilege=name, resource=self.account_id)

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "endpoint": f"http://{HOST}:{self.proxy.port}", "instance": self.instance, "identity_store": STORE,
            "region": REGION, "access_key_id": KEY_ID, "secret_access_key": "env:KEY", "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "aws-identity-center", name="aws-test", secret=lambda _: SECRET, path=Path, catalogue=self.privileges,
            settings={key: value for key, value in (given | settings).items() if value is not None},
        )  # fmt: skip

    def make_user(self, name: str) -> str:
        """Their id."""
        made: str = self.store.create_user(
            IdentityStoreId=STORE, UserName=name, DisplayName=name, Name={"GivenName": "A", "FamilyName": "B"}
        )["UserId"]
        return made

    def make_group(self, name: str) -> str:
        """Its id."""
        made: str = self.store.create_group(IdentityStoreId=STORE, DisplayName=name)["GroupId"]
        return made

    def make_set(self, name: str) -> str:
        """Its ARN."""
        made = self.sso.create_permission_set(InstanceArn=self.instance, Name=name, SessionDuration="PT2H")
        arn: str = made["PermissionSet"]["PermissionSetArn"]
        return arn

    def assignments(self, arn: str) -> list[Any]:
        """Of a permission set in the account, with duplicates."""
        asked = {"InstanceArn": self.instance, "AccountId": self.account_id, "PermissionSetArn": arn}
        found: list[Any] = self.sso.list_account_assignments(**asked)["AccountAssignments"]
        return found

    def everything(self) -> Any:
        """All assignments of these permission sets, which sets there are, and who."""
        sets = self.sso.list_permission_sets(InstanceArn=self.instance, MaxResults=100)["PermissionSets"]
        users = self.store.list_users(IdentityStoreId=STORE, MaxResults=100)["Users"]
        given = [each for arn in self.numbers.values() for each in self.assignments(arn)]
        return (
            sorted(json.dumps(each, sort_keys=True) for each in given), sorted(sets),
            sorted((user["UserName"], user["UserId"]) for user in users),
        )  # fmt: skip

    def holds(self, account: str) -> Scope:
        """The sets that are assigned to the user in the account."""
        mine = self.people.get(account)
        return scope(
            self.in_here(name)
            for name, arn in self.numbers.items()
            if mine in [each["PrincipalId"] for each in self.assignments(arn)]
        )

    def assigned(self, account: str, privilege: Privilege) -> dict[str, str]:
        """An assignment, as AWS is told of it."""
        return {
            "InstanceArn": self.instance, "TargetId": privilege.resource or "", "TargetType": "AWS_ACCOUNT",
            "PermissionSetArn": self.numbers[privilege.privilege], "PrincipalType": "USER",
            "PrincipalId": self.people[account],
        }  # fmt: skip

    def hold(self, account: str, privilege: Privilege) -> None:
        """Somebody else assigns it, which moto keeps as a second assignment where there is one."""
        self.sso.create_account_assignment(**self.assigned(account, privilege))

    def take(self, account: str, privilege: Privilege) -> None:
        """Somebody else takes it away, all of it."""
        while privilege in self.holds(account):
            self.sso.delete_account_assignment(**self.assigned(account, privilege))

    def delete_account(self, account: str) -> None:
        """With all that is assigned."""
        for privilege in self.privileges:
            self.take(account, privilege)
        self.store.delete_user(IdentityStoreId=STORE, UserId=self.people[account])

    def delete_privilege(self, privilege: Privilege) -> None:
        """From all who have it, as AWS demands before."""
        for account in self.accounts:
            self.take(account, privilege)
        self.sso.delete_permission_set(
            InstanceArn=self.instance, PermissionSetArn=self.numbers[privilege.privilege]
        )

    def outage(self, kind: Outage) -> AbstractContextManager[None]:
        """A server that would forget everything is refused instead of stopped."""
        return self.proxy.being("refuse") if kind == "stopped" else super().outage(kind)

    def clear(self) -> None:
        """Leave nothing that the next would have to look through."""
        for account, number in self.people.items():
            for privilege in self.privileges:
                self.take(account, privilege)
            self.store.delete_user(IdentityStoreId=STORE, UserId=number)
        present = self.sso.list_permission_sets(InstanceArn=self.instance, MaxResults=100)["PermissionSets"]
        for arn in self.numbers.values():
            if arn in present:
                self.sso.delete_permission_set(InstanceArn=self.instance, PermissionSetArn=arn)


class CenterGround:
    """One emulator."""

    def __init__(self, server: Server) -> None:
        self.server, self.version = server, f"moto {version('moto')} (emulated)"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Users and sets of its own."""
        with Proxy(self.server.port) as proxy:
            made = CenterHarness(self.server, proxy)
            yield made
            made.clear()


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield CenterGround(server)


GROUNDS = {"moto": _ground}
