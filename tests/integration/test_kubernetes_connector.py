"""What Kubernetes in particular does, on a real API server; the conformance suite asks the rest."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest

import servers
from front import Front
from muniment.conformance.grounds.kubernetes import GROUP, RBAC, KubeHarness, Server, until
from muniment.conformance.harness import yes
from muniment.conformance.proxy import Proxy
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order


@pytest.fixture(scope="module")
def server():
    with servers.running(Server, "kubernetes") as made:
        yield made


@pytest.fixture
def world(server):
    with Proxy(server.port) as proxy:
        yield KubeHarness(server, proxy)


def order(world, *items: Privilege, number: int = 0, ticket: str = "T-1") -> Order:
    return Order(
        ticket=ticket, account=world.accounts[number], scope=scope(items or world.privileges[:1]),
        expires_at=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    )  # fmt: skip


def give(connector, *orders: Order) -> None:
    outcomes = connector.provision(orders, yes)
    assert [o.result for o in outcomes] == ["done"] * len(orders), outcomes


def ours(world) -> list:
    return [b for b in world.bindings() if b["metadata"]["name"].startswith("muniment-t-")]


def test_the_binding_says_for_which_ticket_and_until_when(world):
    give(world.connector, order(world, *world.privileges))
    for binding in ours(world):
        meta = binding["metadata"]
        assert meta["labels"] == {"app.kubernetes.io/managed-by": "muniment", "muniment.org/ticket": "T-1"}
        assert meta["annotations"] == {
            "muniment.org/expires-at": "2030-01-02T03:04:05.000000Z", "muniment.org/account": world.accounts[0],
        }  # fmt: skip
    assert len(ours(world)) == 2


def test_the_clusters_own_audit_log_names_the_ticket_at_each_use(world):
    give(world.connector, order(world))
    assert world.open_session(world.accounts[0], world.privileges[0]).alive()
    [name] = [binding["metadata"]["name"] for binding in ours(world)]
    assert name.startswith("muniment-t-1-")
    lines = [json.loads(line) for line in (world.server.folder / "audit.log").read_text().splitlines()]
    reasons = [
        line["annotations"]["authorization.k8s.io/reason"]
        for line in lines
        if line.get("impersonatedUser", {}).get("username") == world.accounts[0]
        and line["responseStatus"]["code"] == 200
    ]
    assert reasons
    assert all(f'RoleBinding "{name}/{world.namespace}"' in reason for reason in reasons)


def test_a_role_of_the_namespace_and_a_cluster_role_everywhere(world):
    world.server.call(
        "POST", f"{RBAC}/namespaces/{world.namespace}/roles",
        {"metadata": {"name": "deployer"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    )  # fmt: skip
    role = world.in_here("role/deployer")
    everywhere = Privilege(privilege=f"clusterrole/{world.roles[0]}")
    catalogue = (role, everywhere)
    world.enrol("other", catalogue)
    connector = world.make(catalogue=catalogue, timeout="20s")
    assert connector.check().problems == ()
    given = order(world, *catalogue)
    give(connector, given)
    assert world.holds(given.account) == given.scope
    assert world.open_session(given.account, everywhere).alive()
    assert connector.revoke([given], yes)[0].result == "done"
    assert world.holds(given.account) == ()


def test_what_we_may_not_give_is_said_and_harms_no_other(world):
    """RBAC's own rule: nobody gives more than they have, unless they have the verb bind on it."""
    world.make_role(f"mighty-{world.namespace}", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})
    mighty = world.in_here(f"clusterrole/mighty-{world.namespace}")
    before = len(world.bindings())
    outcomes = world.connector.provision(
        [order(world, mighty, *world.privileges), order(world, number=1, ticket="T-2")], yes
    )
    assert [(o.result, o.code) for o in outcomes] == [("rejected", "target.not-allowed"), ("done", "")]
    assert "verb bind" in outcomes[0].message
    assert len(world.bindings()) == before + 1  # what was prepared for the first is gone
    assert any("verb bind" in p for p in world.make(catalogue=(mighty,), timeout="20s").check().problems)


def test_elsewhere_our_account_makes_no_bindings(world):
    elsewhere = Privilege(privilege=world.privileges[0].privilege, resource="default")
    everywhere = Privilege(privilege=world.privileges[0].privilege)
    for item, words in ((elsewhere, "in default"), (everywhere, "everywhere")):
        [outcome] = world.connector.provision([order(world, item)], yes)
        assert (outcome.result, outcome.code) == ("rejected", "target.not-allowed")
        assert words in outcome.message
    nowhere = Privilege(privilege=world.privileges[0].privilege, resource=f"no-{world.namespace}")
    assert world.connector.provision([order(world, nowhere)], yes)[0].result == "rejected"


def test_a_worker_that_was_paused_gives_nothing_after_somebody_else_revoked(world):
    """The API server itself refuses it: its binding is gone (I19)."""
    given = order(world)

    def meanwhile() -> None:
        assert world.make(timeout="20s").revoke([given], yes)[0].result == "done"

    with pytest.raises(TargetUnavailable, match="changed meanwhile"):
        world.connector.provision([given], meanwhile)
    assert ours(world) == []


def test_a_binding_that_somebody_changed_meanwhile_is_not_overtaken(world):
    given = order(world)

    def meanwhile() -> None:
        [prepared] = ours(world)
        assert not prepared.get("subjects")
        path = f"{RBAC}/namespaces/{world.namespace}/rolebindings/{prepared['metadata']['name']}"
        world.server.call(
            "PATCH", path, {"metadata": {"labels": {"x": "y"}}}, kind="application/merge-patch+json"
        )

    with pytest.raises(TargetUnavailable, match="changed meanwhile"):
        world.connector.provision([given], meanwhile)
    assert world.holds(given.account) == ()
    give(world.connector, given)
    assert len(ours(world)) == 1


def test_a_binding_deleted_by_hand_and_made_again_is_not_ours_to_delete_late(world):
    given = order(world)
    give(world.connector, given)
    [binding] = ours(world)
    path = f"{RBAC}/namespaces/{world.namespace}/rolebindings"

    def meanwhile() -> None:
        world.server.call("DELETE", f"{path}/{binding['metadata']['name']}")
        meta = {"name": binding["metadata"]["name"]}
        world.server.call("POST", path, {"metadata": meta, "roleRef": binding["roleRef"], "subjects": []})

    [outcome] = world.connector.revoke([given], meanwhile)
    assert (outcome.result, outcome.code) == ("rejected", "target.rejected")
    assert len(ours(world)) == 1


def test_labels_make_no_binding_a_tickets_and_taking_them_off_hides_none(world):
    give(world.connector, order(world))
    [binding] = ours(world)
    path = f"{RBAC}/namespaces/{world.namespace}/rolebindings"
    labels = {"labels": {"app.kubernetes.io/managed-by": "muniment", "muniment.org/ticket": "T-9"}}
    world.server.call(
        "POST", path,
        {"metadata": {"name": "forged", **labels}, "roleRef": binding["roleRef"], "subjects": binding["subjects"]},
    )  # fmt: skip
    held = world.connector.observe([world.accounts[0]]).holdings
    assert {each.ticket for each in held} == {None, "T-1"}
    bare = {"metadata": {"labels": None}}
    world.server.call(
        "PATCH", f"{path}/{binding['metadata']['name']}", bare, kind="application/merge-patch+json"
    )
    assert {each.ticket for each in world.connector.observe([world.accounts[0]]).holdings} == {None}
    assert world.connector.revoke([order(world)], yes)[0].result == "done"
    assert [b["metadata"]["name"] for b in world.bindings() if b["metadata"]["name"] == "forged"] == [
        "forged"
    ]
    assert ours(world) == []


def test_service_accounts_and_groups_are_shown_and_a_group_is_nobodys_account(world):
    subjects = [
        {"kind": "ServiceAccount", "name": "ci", "namespace": world.namespace},
        {"kind": "Group", "name": "devs", "apiGroup": GROUP},
    ]
    ref = {"apiGroup": GROUP, "kind": "ClusterRole", "name": world.roles[0]}
    body = {"metadata": {"name": "standing"}, "roleRef": ref, "subjects": subjects}
    world.server.call("POST", f"{RBAC}/namespaces/{world.namespace}/rolebindings", body)
    seen = world.connector.observe(None)
    for account in (f"system:serviceaccount:{world.namespace}:ci", "Group/devs"):
        assert world.privileges[0] in seen.of(account)
    assert world.connector.observe([f"system:serviceaccount:{world.namespace}:ci"]).holdings
    with pytest.raises(Invalid, match="group"):
        world.connector.validate("Group/devs", world.privileges)


def test_what_our_account_may_too_much_is_said(world):
    assert world.connector.check().problems == ()
    assert world.namespace in world.connector.check().least_privilege
    world.bind(
        RBAC, f"too-much-{world.namespace}", {"kind": "ClusterRole", "name": "cluster-admin"}, world.us
    )
    assert until(lambda: world.server.may(world.us, "escalate", "clusterroles"))
    said = " ".join(world.connector.check().problems)
    for words in ("give any role", "act as anybody", "read secrets", "run programs", "give roles everywhere"):
        assert words in said
    world.delete_privilege(world.privileges[1])
    assert any("There is no clusterrole/ops:x" in problem for problem in world.connector.check().problems)


def test_our_token_is_in_no_message_and_a_wrong_one_is_said_to_be_so(world):
    world.token = "not-a-token"
    with pytest.raises(TargetUnavailable, match="refused our token") as caught:
        world.make(timeout="20s").observe(None)
    assert world.token not in f"{caught.value.message} {caught.value.remedy}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {}, b"<html>not here</html>"), "does not speak like Kubernetes"),
        ((200, {}, b'{"metadata": {}, "items": [{}]}'), "does not speak like Kubernetes"),
        ((403, {}, b"{}"), "lets our account not read this"), ((500, {}, b""), "answered 500"),
        ((429, {"Retry-After": "900"}, b""), "again in 900 seconds"),
        ((410, {}, b'{"kind": "Status", "reason": "Expired"}'), "forgets lists"),
    ],
)  # fmt: skip
def test_a_bad_answer_is_no_sign_that_something_is_gone(world, answer, words):
    with Front(0).running() as front:
        front.rule = lambda method, path, body: answer
        lost = world.make(url=f"http://127.0.0.1:{front.port}", timeout="20s")
        for call in (lambda: lost.observe(None), lambda: lost.revoke([order(world)], yes)):
            with pytest.raises(TargetUnavailable, match=words):
                call()
        assert not lost.check().reachable


def test_a_long_list_is_read_in_pages_and_a_busy_server_is_asked_again(world):
    """As the API server gives it: a token for the next page, and 429 with a time while it is busy."""
    busy = [(429, {"Retry-After": "0"}, b"")]
    meta, ref = {"name": "b", "namespace": "x"}, {"kind": "ClusterRole", "name": "r"}
    items = [{"metadata": meta, "roleRef": ref, "subjects": [{"kind": "User", "name": "ann"}]}]

    def rule(method, path, body):
        if busy:
            return busy.pop()
        more = "rolebindings" in path and "cluster" not in path and "continue=" not in path
        page = {
            "metadata": {"continue": "next one"} if more else {},
            "items": items if "rolebindings" in path else [],
        }
        return 200, {}, json.dumps(page).encode()

    with Front(0).running() as front:
        front.rule = rule
        seen = world.make(url=f"http://127.0.0.1:{front.port}", timeout="20s").observe(["ann"])
        assert seen.of("ann") == (Privilege(privilege="clusterrole/r", resource="x"),)
        assert [path.partition("?")[2] for path, *_ in front.of("GET", "/rolebindings")][
            -1
        ] == "limit=500&continue=next+one"


@pytest.mark.parametrize(
    "name",
    ["readers", "clusterrole/", "clusterrole/..", "clusterrole/a/b", "clusterrole/a%2Fb", "pod/x", "role/x"],
)
def test_names_that_it_could_not_hold(world, name):
    with pytest.raises(Invalid):
        world.connector.validate("ann", (Privilege(privilege=name),))
    with suppress(Invalid):
        world.connector.validate("ann", (Privilege(privilege=name, resource="Not/a namespace"),))
        pytest.fail("a namespace that cannot be")


@pytest.mark.parametrize(
    "settings", [{"url": "http://kube.example.com"}, {"timeout": "soon"}, {"user": "me"}]
)
def test_settings_that_cannot_be_meant(world, settings):
    with pytest.raises(Misconfigured):
        world.make(**settings)
