"""``[targets.ID.limits]``: what would keep access from being taken away in time cannot be configured."""

from __future__ import annotations

from datetime import timedelta

import pytest

from muniment import config
from muniment.core.errors import Misconfigured
from muniment.settings.limits import LimitSettings

TARGET = {"connector": "openssh", "environment": "prod", "owners": ["group:dba"], "ca_key": "env:KEY"}


def test_they_are_the_targets_and_not_the_connectors() -> None:
    plain = config._target("bastion", TARGET)
    assert plain.limits == LimitSettings()
    limited = config._target(
        "bastion", TARGET | {"limits": {"at_once": 2, "per_second": 5, "longest_pause": "10s"}}
    )
    assert (limited.limits.at_once, limited.limits.per_second) == (2, 5)
    assert limited.limits.pause == timedelta(seconds=10)
    assert limited.settings == plain.settings  # what two people adopt is the same


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_once": 0}, {"per_second": 0}, {"per_second": -1}, {"batch": 0}, {"batch": 100_000}, {"failures": 0},
        {"longest_pause": "61s"}, {"longest_pause": "1d"}, {"longest_pause": "soon"}, {"longest_pause": "-5s"},
        {"longest_pause": 60}, {"at_once": "many"}, {"at_once": 1.5}, {"unknown": 1}, [], "none",
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(wrong: object) -> None:
    with pytest.raises(Misconfigured) as refused:
        config._target("bastion", TARGET | {"limits": wrong})
    assert "bastion" in refused.value.message
