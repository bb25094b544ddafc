"""``muniment demo --serve``: the pages over what the story left, and a link for each of its people."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from muniment.config import Config
from muniment.demo.postgres import HOST
from muniment.demo.stage import ANN, CYD, Stage
from muniment.service import login_links
from muniment.service.desk import Desk
from muniment.service.tokens import LINK_LONGEST


class Server(Protocol):
    """`api.serving.ApiServer`."""

    @property
    def url(self) -> str:
        """As browsers reach it."""

    def start(self) -> None:
        """Listen."""

    def stop(self, timeout: float) -> bool:
        """End; whether that was in time."""


OpenApi: TypeAlias = Callable[[Config, Desk], Server]

#: who can be looked over the shoulder of, and what for
PEOPLE = (
    (ANN, "asks for access, holds it and gives it back:"),
    (CYD, "decides on what others ask for:"),
    ("human:ops@example.com", "runs Muniment, and approves nothing by that:"),
    ("human:aud@example.com", "sees everything and changes nothing:"),
)
#: seconds for requests under way
GRACE = 5.0


@dataclass(frozen=True, kw_only=True)
class Showing:
    """Pages that are open."""

    url: str
    links: list[tuple[str, str, str]]  # name, what they do, where they come in

    @property
    def document(self) -> dict[str, Any]:
        """For scripts."""
        return {"url": self.url, "links": {name: link for name, _, link in self.links}}


@contextmanager
def show(stage: Stage, open_api: OpenApi) -> Iterator[Showing]:
    """Serve the pages, in this process beside the controllers, until the block ends."""
    server = open_api(stage.config, stage.desk)
    server.start()
    try:
        links = []
        for who, does in PEOPLE:
            made = login_links.make(stage.desk, None, who, server.url, LINK_LONGEST)
            links.append((stage.caller(who).identity.name, does, str(made["link"])))
        yield Showing(url=server.url, links=links)
    finally:
        server.stop(GRACE)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
