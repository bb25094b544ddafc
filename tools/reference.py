"""Which pages of docs/reference are generated, and from what.

A generator takes nothing and returns the whole page. `make docs` writes them; `make check` fails when a page
is not what its generator returns, so it must be the same on every machine and at every hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Generator: TypeAlias = Callable[[], str]

#: page, relative to the repository's root, to its generator
PAGES: dict[str, Generator] = {}
