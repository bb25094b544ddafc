"""What tokens of service accounts do on a real API server; the conformance suite asks the rest."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pyrage
import pytest

import servers
from muniment import delivery
from muniment.conformance.grounds.kubernetes import RBAC, Server, until
from muniment.conformance.grounds.kubernetes_tokens import KubeTokenHarness
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.connectors.kubernetes_session import Session
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

#: seconds for which an API server believes a token that it has seen, and some
BELIEVED = 20


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "kubernetes") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield KubeTokenHarness(server, proxy)


def order(
    world, *items: Privilege, number: int = 0, ticket: str = "T-1", lasts: timedelta = timedelta(hours=1)
) -> Order:
    return Order(
        ticket=ticket, account=world.accounts[number], scope=scope(items or world.privileges[:1]),
        public_key=world.public_key(""), expires_at=datetime.now(UTC).replace(microsecond=0) + lasts,
    )  # fmt: skip


def give(world, *orders: Order):
    outcomes = world.connector.provision(orders, yes)
    assert [o.result for o in outcomes] == ["done"] * len(orders), outcomes
    return outcomes


def claims(token: str) -> dict:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def ended(session) -> bool:
    deadline = time.monotonic() + BELIEVED
    while session.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_the_token_is_of_the_service_account_until_the_end_and_bound_to_the_tickets_own_object(world):
    given = order(world)
    give(world, given)
    found = claims(world.env(world.accounts[0])["KUBERNETES_TOKEN"])
    assert found["sub"] == f"system:serviceaccount:{world.namespace}:{world.lent[0]}"
    assert abs(found["exp"] - given.expires_at.timestamp()) <= 2
    [kept] = world.objects()
    assert found["kubernetes.io"]["secret"] == {
        "name": kept["metadata"]["name"],
        "uid": kept["metadata"]["uid"],
    }
    assert kept["metadata"]["labels"]["muniment.org/ticket"] == "T-1"
    assert "data" not in kept


def test_a_token_that_was_used_ends_some_seconds_after_the_ticket(world):
    given = order(world)
    give(world, given)
    session = world.open_session(world.accounts[0], world.privileges[0])
    assert session.alive()
    assert world.connector.revoke([given], yes)[0].result == "done"
    assert ended(session)


def test_a_short_ticket_has_a_token_that_would_last_ten_minutes_and_is_said_to_last_as_long_as_the_ticket(
    world,
):
    given = order(world, lasts=timedelta(minutes=2))
    [outcome] = give(world, given)
    inside = delivery.unseal(outcome.credential, str(world.key).encode(), lambda: b"")
    assert inside.expires_at.startswith(given.expires_at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert claims(inside.env["KUBERNETES_TOKEN"])["exp"] - time.time() > 500
    assert outcome.native_expiry is None


def test_no_token_is_anywhere_but_with_who_has_the_key(world):
    [outcome] = give(world, order(world))
    token = world.env(world.accounts[0])["KUBERNETES_TOKEN"]
    assert token.encode() not in outcome.credential
    assert token not in json.dumps(world.objects())
    assert token not in (world.server.folder / "audit.log").read_text()
    with pytest.raises(Misconfigured):
        delivery.unseal(outcome.credential, str(pyrage.x25519.Identity.generate()).encode(), lambda: b"")


def test_what_was_made_before_and_perhaps_never_delivered_is_of_no_use_any_more(world):
    given = order(world)
    give(world, given)
    first = world.open_session(world.accounts[0], world.privileges[0])
    give(world, given)
    assert len(world.objects()) == 1
    assert world.open_session(world.accounts[0], world.privileges[0]).alive()
    assert ended(first)


def test_a_worker_that_was_paused_gets_no_token_after_somebody_else_revoked(world):
    """The API server itself refuses it: the object is gone (I19)."""
    given = order(world)

    def meanwhile() -> None:
        assert world.make(timeout="20s").revoke([given], yes)[0].result == "done"

    with pytest.raises(TargetUnavailable, match="changed meanwhile"):
        world.connector.provision([given], meanwhile)
    assert world.objects() == []
    assert world.real.collected == {}


def test_an_object_that_is_gone_gets_no_token_even_after_it_was_put_in_force(world, server):
    """So the token, and not only the note about it, is fenced."""
    path = f"api/v1/namespaces/{world.namespace}"
    bound = {"apiVersion": "v1", "kind": "Secret", "name": "gone", "uid": "0"}
    with pytest.raises(Exception, match=r"404|409"):
        server.call(
            "POST", f"{path}/serviceaccounts/{world.lent[0]}/token",
            {"spec": {"expirationSeconds": 600, "boundObjectRef": bound}},
        )  # fmt: skip


def test_several_service_accounts_are_several_tokens(world):
    given = order(world, *world.privileges)
    give(world, given)
    env = world.env(world.accounts[0])
    assert set(env) == {"KUBERNETES_SERVER", "KUBERNETES_TOKEN_1", "KUBERNETES_TOKEN_2"}
    assert world.connector.revoke([given], yes)[0].result == "done"
    assert world.objects() == []


def test_a_ticket_of_one_person_ends_nothing_of_anothers(world):
    give(world, order(world))
    for call in (world.connector.revoke, world.connector.provision):
        [outcome] = call([order(world, number=1)], yes)
        assert (outcome.result, outcome.code) == ("rejected", "target.name-taken")
    assert len(world.objects()) == 1


def test_a_right_that_is_missing_is_a_rejection_and_leaves_nothing(world):
    world.server.call(
        "PATCH", f"{RBAC}/namespaces/{world.namespace}/roles/muniment",
        [{"op": "remove", "path": "/rules/2"}], kind="application/json-patch+json",
    )  # fmt: skip
    assert until(lambda: any("may not make tokens" in p for p in world.connector.check().problems))
    [outcome] = world.connector.provision([order(world)], yes)
    assert (outcome.result, outcome.code) == ("rejected", "target.not-allowed")
    assert world.objects() == []


def test_what_our_account_may_too_much_is_said(world):
    assert world.connector.check().problems == ()
    assert world.namespace in world.connector.check().least_privilege
    secret = {"metadata": {"name": "somebodys"}, "stringData": {"password": "hunter2"}}
    path = f"api/v1/namespaces/{world.namespace}/secrets"
    world.server.call("POST", path, secret)
    [problem] = world.connector.check().problems
    assert "other secrets" in problem
    assert "hunter2" not in repr(world.connector.check())
    world.server.call("DELETE", f"{path}/somebodys")
    body = {
        "metadata": {"name": f"too-much-{world.namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": world.us, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    world.server.call("POST", f"{RBAC}/clusterrolebindings", body)
    assert until(lambda: any("read secrets everywhere" in p for p in world.connector.check().problems))


def test_others_secrets_are_never_shown_to_us(world):
    """Not even where our account could read them: only what is on an object is asked for."""
    seen = []
    real = Session._convert

    def spy(self, raw, kind, status):
        seen.append(bytes(raw))
        return real(self, raw, kind, status)

    path = f"api/v1/namespaces/{world.namespace}/secrets"
    world.server.call(
        "POST", path, {"metadata": {"name": "somebodys"}, "stringData": {"password": "hunter2"}}
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Session, "_convert", spy)
        world.connector.observe(list(world.accounts))
    assert any(b"somebodys" in each for each in seen)
    assert not any(base64.b64encode(b"hunter2") in each for each in seen)
    world.server.call("DELETE", f"{path}/somebodys")


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("deployer", "lending"),
        ("serviceaccount/Up", "x"),
        ("serviceaccount/x", None),
        ("serviceaccount/x", "../y"),
    ],
)
def test_names_that_it_could_not_hold(world, name, resource):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (Privilege(privilege=name, resource=resource),))


def test_other_namespaces_than_those_of_the_catalogue_are_not_looked_into(world):
    with pytest.raises(Invalid, match="catalogue"):
        world.connector.validate(
            "ann", (Privilege(privilege="serviceaccount/default", resource="kube-system"),)
        )
