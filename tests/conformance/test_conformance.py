"""Every connector that is registered, on every real target that it names: each check of `muniment.conformance`."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

import servers
from muniment.conformance import CHECKS, NotApplicable, NotInstalled
from muniment.conformance.running import grounds
from muniment.connectors.kinds import registered
from muniment.core.errors import MunimentError

#: starting one takes long
SLOW = {"active-directory"}

CASES = [(kind, ground) for kind in registered() for ground in grounds(kind)]


@pytest.fixture(scope="module")
def running():
    """The ground in use; one at a time, as cases come in order."""
    with ExitStack() as stack:
        made = {}

        def start(kind, name):
            if (kind, name) not in made:
                stack.pop_all().close()
                made.clear()
                try:
                    made[kind, name] = stack.enter_context(grounds(kind)[name]())
                except NotInstalled as how:
                    made[kind, name] = how
                except MunimentError as trouble:  # said by each check, and not tried again for each
                    made[kind, name] = trouble
            return made[kind, name]

        yield start


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(
            *case, marks=[pytest.mark.xdist_group(case[1]), *([pytest.mark.slow] if case[1] in SLOW else [])]
        )
        for case in CASES
    ],
    ids=[name for _, name in CASES],
)
def test_conformance(check, kind, name, running):
    ground = running(kind, name)
    if isinstance(ground, MunimentError):
        pytest.fail(ground.message)
    if isinstance(ground, NotInstalled):
        servers.lacking(name, ground)
    with ground.harness() as harness:
        try:
            check(harness)
        except NotApplicable as reason:
            pytest.skip(str(reason))
