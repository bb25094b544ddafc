"""What explains an entitlement, and what is said of one that nothing explains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muniment.core import reconciling as r
from muniment.core.inventory import Item
from muniment.core.scope import Privilege

ANN, GONE = (
    r.Holder(id="human:ann@example.com", active=True),
    r.Holder(id="human:gone@example.com", active=False),
)


def world(**more) -> r.World:
    said = {
        "target": "pg", "risks": {Privilege(privilege="root"): "critical", Privilege(privilege="ro"): "low"},
        "holders": {"ann": (ANN,), "gone": (GONE,)}, "over": {}, "ended": lambda ticket: ticket == "req_over",
    }  # fmt: skip
    return r.World(**(said | more))


def expected(
    account="ann", privilege="ro", klass="ticketed", *, must=True, reference="req_1", note=None
) -> r.Expected:
    key = (account, privilege, None, False, None)
    return r.Expected(key=key, klass=klass, reference=reference, must=must, note=note)


def test_each_kind_of_trouble_has_its_name() -> None:
    key = ("ann", "ro", None, False, None)
    table = [
        (Item(account="ann", privilege="ro"), {}, "excess", "low"),
        (Item(account="ann", privilege="root"), {}, "excess", "critical"),
        (Item(account="ann", privilege="other"), {}, "excess", "medium"),
        (Item(account="who", privilege="ro"), {}, "orphan", "high"),
        (Item(account="who", privilege="root"), {}, "orphan", "critical"),
        (Item(account="gone", privilege="ro"), {}, "owner-gone", "high"),
        (Item(account="ann", privilege="ro"), {"over": {key: "exception: x"}}, "overdue", "high"),
        (Item(account="ann", privilege="ro", ticket="req_over"), {}, "overdue", "high"),
        (Item(account="ann", privilege="ro", ticket="req_live"), {}, "excess", "low"),
        (Item(account="ops", privilege="root", nested=True), {}, "excess", "critical"),
    ]
    for item, more, kind, severity in table:
        seen = r.unexplained(item, world(**more), 3)
        assert (seen.type, seen.severity, seen.item) == (kind, severity, item), item


def test_what_is_missing_is_called_by_what_should_give_it() -> None:
    assert (r.missing(expected(), world()).severity, r.missing(expected(), world()).reference) == (
        "high",
        "req_1",
    )
    assert r.missing(expected(klass="baseline"), world()).severity == "low"


def test_the_best_explanation_counts() -> None:
    baseline, excepted = expected(klass="baseline"), expected(klass="excepted")
    loose, firm = expected(must=False, reference="req_a"), expected(reference="req_b")
    for order in ([baseline, excepted, loose, firm], [firm, loose, excepted, baseline]):
        [found] = r.first_of(order).values()
        assert found == firm
    [found] = r.first_of([baseline], [excepted]).values()
    assert found == excepted


def test_an_account_of_several_people_is_found_once_and_only_if_it_holds_something() -> None:
    several = world(holders={"ann": (ANN, r.Holder(id="human:bo", active=True)), "gone": (ANN, GONE)})
    items = [Item(account=a, privilege=p) for a in ("ann", "gone") for p in ("x", "y")]
    [found] = r.shared(items, several)
    assert (found.type, found.item.account) == ("duplicate-identity", "ann")
    assert list(r.shared([], several)) == []


CHAIN = [
    Item(account="ann", privilege="a"), Item(account="bo", privilege="b"),
    Item(account="a", privilege="b", nested=True), Item(account="b", privilege="c", nested=True),
]  # fmt: skip


def test_whoever_holds_an_inner_privilege_gains_the_outer_ones() -> None:
    assert r.gains(CHAIN) == {"a": 1, "b": 2, "c": 2}
    loop = [*CHAIN, Item(account="c", privilege="a", nested=True)]
    assert r.gains(loop) == {"a": 2, "b": 2, "c": 2}


def test_what_is_inherited_is_as_bad_as_the_worst_step() -> None:
    everything = r.inherited(CHAIN, lambda _: "baseline")
    assert everything == {"ticketed": 0, "excepted": 0, "baseline": 3, "unexplained": 0}
    planted = r.inherited(CHAIN, lambda item: None if item.account == "b" else "ticketed")
    assert (planted["ticketed"], planted["unexplained"]) == (1, 2)
    assert sum(r.inherited(CHAIN[:2], lambda _: None).values()) == 0


NAMES = st.sampled_from("abcdef")
ITEMS = st.lists(st.builds(Item, account=NAMES, privilege=NAMES, nested=st.booleans()), max_size=20)


@given(ITEMS, st.randoms())
def test_neither_order_nor_loops_change_what_is_inherited(items, chance) -> None:
    first = r.inherited(items, lambda item: "baseline" if item.privilege < "d" else None), r.gains(items)
    chance.shuffle(items)
    assert first == (
        r.inherited(items, lambda item: "baseline" if item.privilege < "d" else None),
        r.gains(items),
    )
