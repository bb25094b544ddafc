"""What the demo's steps share: the stage, what one step leaves for the next, and what is told at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from muniment.core.ticket import Ticket
from muniment.demo.psql import Psql
from muniment.demo.stage import Stage
from muniment.demo.telling import Teller, Unmet, require
from muniment.service.documents import Document

#: seconds for what Muniment does at once
SOON = 10.0


@dataclass(kw_only=True)
class Play:
    """What one step leaves for the next, and what is told at the end."""

    stage: Stage
    teller: Teller
    auditors_key: str = ""
    sessions: list[Psql] = field(default_factory=list)
    access: Ticket | None = None
    certificate: Ticket | None = None
    tickets: list[Document] = field(default_factory=list)
    ledger: Document | None = None
    tampered: Document | None = None

    def close(self) -> None:
        """End what psql sessions there are."""
        for session in self.sessions:
            session.close()

    def log_in(self) -> Psql:
        """Another psql of Ann's."""
        self.sessions.append(self.stage.log_in())
        return self.sessions[-1]

    def reached(self, ticket: Ticket | None, *statuses: str, seconds: float = SOON) -> Ticket:
        """Wait until a ticket is there: controllers bring it, not we."""
        require(ticket, "there is a ticket to wait for")
        deadline = time.monotonic() + seconds
        while True:
            _, now = self.stage.desk.store.read(ticket.id if ticket else "")
            if now is not None and now.status in statuses:
                return now
            if time.monotonic() > deadline:
                raise Unmet(
                    f"{ticket and ticket.id} becomes {' or '.join(statuses)} in time; it is {now and now.status}"
                )
            time.sleep(0.02)
