"""Targets as they were adopted: described once for all who ask, and anew once something else was adopted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from muniment.core.scope import Privilege
from muniment.ports import CatalogueEntry, Target
from muniment.service import in_force
from muniment.service.in_force import AdoptedTargets, settings_of

WRITTEN = {
    name: Target(
        id=name, kind="openssh", environment="prod", owners=("group:platform",), connector=object(), settings={"krl": name},
        catalogue=(CatalogueEntry(privilege=Privilege(privilege="root")),),
    )
    for name in ("a", "b")
}  # fmt: skip
NOBODY = SimpleNamespace(members=lambda _: (), everybody=lambda: ())


class Adopting:
    """`standing.Adopted`, as far as targets ask it."""

    settings: dict[str, str] | None = None

    def now(self) -> Adopting:
        return self

    def adopt(self, targets: dict[str, Target]) -> None:
        self.settings = settings_of(targets, NOBODY, ())  # type: ignore[arg-type]


@pytest.fixture
def adopted() -> Adopting:
    return Adopting()


@pytest.fixture
def targets(adopted: Adopting) -> AdoptedTargets:
    return AdoptedTargets(adopted, WRITTEN, lambda target, settings: (target.id, dict(settings)))  # type: ignore[arg-type, return-value]


def test_before_anything_was_adopted_what_is_written_holds(targets: AdoptedTargets) -> None:
    assert dict(targets) == WRITTEN


def test_what_was_adopted_holds_until_something_else_is(targets: AdoptedTargets, adopted: Adopting) -> None:
    adopted.adopt({"a": replace(WRITTEN["a"], owners=("group:others",))})
    assert list(targets) == ["a"]
    assert targets["a"].owners == ("group:others",)
    with pytest.raises(KeyError):
        targets["b"]
    adopted.adopt(WRITTEN | {"a": replace(WRITTEN["a"], settings={"krl": "elsewhere"})})
    assert list(targets) == ["a", "b"]
    assert targets["a"].connector == ("a", {"krl": "elsewhere"})
    assert targets["b"] == WRITTEN["b"]
    adopted.adopt({"b": replace(WRITTEN["b"], kind="ldap")})
    assert list(targets) == []


def test_they_are_described_once_for_all_who_ask(
    targets: AdoptedTargets, adopted: Adopting, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[Any] = []
    describe = in_force._described
    monkeypatch.setattr(
        in_force, "_described", lambda target: described.append(target.id) or describe(target)
    )
    for times in (1, 2):
        adopted.adopt(WRITTEN | {"a": replace(WRITTEN["a"], owners=())})
        described.clear()
        for _ in range(3):
            assert [target.owners for target in targets.values()] == [(), ("group:platform",)]
            assert len(targets) == 2
        assert described == ["a", "b"], times
