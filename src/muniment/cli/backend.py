"""What commands ask for, wherever it is done: at a desk in this process, or by a server over HTTP.

Everything that comes back is a document of the public contract, so a command cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from muniment.core.errors import MunimentError
from muniment.core.scope import Scope

if TYPE_CHECKING:
    from pathlib import Path

    from muniment.core.campaign import Decision
    from muniment.service.certifying import Opening, Where
    from muniment.service.filing import Ask
    from muniment.service.reviews import Wanted as Reviews
    from muniment.settings.usage import LogSettings

Document = dict[str, Any]

#: statuses that a ticket does not stay in by itself
MOVING = frozenset({"provisioning", "revoking"})


class Wanted(NamedTuple):
    """Which tickets to list."""

    statuses: Sequence[str] = ()
    beneficiary: str | None = None
    target: str | None = None
    awaiting_me: bool = False
    limit: int = 100
    cursor: str | None = None


class Looked(NamedTuple):
    """Which findings to list."""

    target: str | None = None
    types: Sequence[str] = ()
    severities: Sequence[str] = ()
    statuses: Sequence[str] = ()
    account: str | None = None
    assigned_to: str | None = None
    past_due: bool = False
    resolved: bool = False


class Extension(NamedTuple):
    """How access is to go on; what is left out is as it was."""

    duration: timedelta
    reason: str
    scope: Scope = ()
    references: dict[str, str] | None = None
    public_key: str | None = None


class Backend(Protocol):
    """One way to Muniment. Every method raises what the use case raises."""

    def now(self) -> datetime:
        """The instant, for words like "in 5 min"."""

    def whoami(self) -> Document:
        """Who acts."""

    # ── tickets ──

    def file(self, ask: Ask) -> Document:
        """File a ticket."""

    def file_bundle(self, asks: Sequence[Ask]) -> list[Document]:
        """File several tickets together."""

    def preview(self, ask: Ask) -> Document:
        """Say what would come of it."""

    def tickets(self, wanted: Wanted) -> Document:
        """A page of tickets."""

    def ticket(self, ticket: str) -> Document:
        """One ticket."""

    def events(self, ticket: str) -> list[Document]:
        """Everything that happened to it."""

    def statement(self, ticket: str) -> bytes:
        """What the one who acts signs to approve it."""

    def approve(
        self, ticket: str, *, digest: str | None, comment: str | None, signature: str | None
    ) -> Document:
        """Say yes; without a digest, to the terms as they stand."""

    def deny(self, ticket: str, *, comment: str) -> Document:
        """Say no."""

    def counter(
        self,
        ticket: str,
        *,
        digest: str | None,
        duration: timedelta | None,
        scope: Scope | None,
        comment: str,
    ) -> Document:
        """Offer to agree to less."""

    def accept(self, ticket: str, *, offer: str | None) -> Document:
        """Take an offer; without a digest, the one that stands."""

    def extend(self, ticket: str, how: Extension) -> Document:
        """File the ticket that carries another one on."""

    def withdraw(self, ticket: str) -> Document:
        """Take it back."""

    def give_back(self, ticket: str) -> Document:
        """Give access back."""

    def revoke(self, ticket: str, *, reason: str) -> Document:
        """End access."""

    def review(
        self, ticket: str, *, outcome: Literal["appropriate", "inappropriate"], comment: str
    ) -> Document:
        """Say how access was used."""

    def waive(self, ticket: str, *, check: str, reason: str) -> Document:
        """Answer for a closure check."""

    def resolve(self, ticket: str, finding: str, *, reason: str) -> Document:
        """Say that a finding was dealt with."""

    def settle(self, ticket: Document) -> tuple[Document, MunimentError | None]:
        """The ticket once it moved on as far as it goes now, and is sealed; and what was in the way of that."""

    def sealed(self, ticket: Document) -> tuple[Document, MunimentError | None]:
        """The ticket once it is sealed; and what was in the way of that."""

    def credential(self, ticket: str) -> bytes:
        """What was issued, once."""

    def evidence(self, ticket: str, *, since: str | None) -> tuple[bytes, Document]:
        """One file that proves it, and what it comes to."""

    # ── the world ──

    def grants(self, *, target: str | None, beneficiary: str | None) -> list[Document]:
        """What tickets make targets hold."""

    def targets(self) -> list[Document]:
        """What can be asked for."""

    def holdings(self, target: str) -> list[Document]:
        """What a target holds."""

    def take_inventory(self, target: str) -> Document:
        """Ask a target for everything that it holds, and record it."""

    def inventories(self, target: str) -> list[Document]:
        """Those of a target."""

    def inventory(
        self, target: str, inventory: str | None, *, account: str | None, privilege: str | None
    ) -> Document:
        """One of them, or the newest, with all items that were asked for."""

    def reconcile(self, target: str) -> Document:
        """Compare what a target holds with what it should."""

    def ingest_usage(self, target: str, path: Path, log: LogSettings, *, whole: bool) -> Document:
        """Read a log of a target to its end, from where it was read to before, and judge what it tells."""

    def usage_report(
        self, *, target: str | None, beneficiary: str | None, judgements: Sequence[str]
    ) -> Document:
        """What logs cover, how tickets were used, and what would have served."""

    def check_usage(self, target: str) -> Document:
        """Whether what is kept of lines is what the ledger has the digests of."""

    def findings(self, wanted: Looked) -> list[Document]:
        """What a person must look at."""

    def finding(self, finding: str) -> Document:
        """One of them."""

    def assign_finding(self, finding: str, to: str) -> Document:
        """Have somebody see to it."""

    def explain_finding(self, finding: str, explanation: str) -> Document:
        """Say how it came to be."""

    def remove_finding(self, finding: str, reason: str) -> Document:
        """Have what it is about taken away."""

    def accept_finding(self, finding: str, until: datetime, reason: str) -> Document:
        """Let it be until then."""

    def reviews(self, wanted: Reviews) -> list[Document]:
        """Looks back that are owed, overdue or done."""

    # ── campaigns ──

    def open_campaign(self, asked: Opening, *, preview: bool) -> Document:
        """Open one; or say what it would be about."""

    def campaigns(self, statuses: Sequence[str]) -> list[Document]:
        """Those that may be seen."""

    def campaign(self, name: str) -> Document:
        """One of them."""

    def campaign_items(self, name: str, where: Where, *, mine: bool) -> list[Document]:
        """Its items."""

    def decide_campaign(self, name: str, where: Where, decision: Decision, reason: str) -> Document:
        """Say what is to become of items."""

    def reassign_campaign(self, name: str, where: Where, to: str, reason: str) -> Document:
        """Have others asked."""

    def explain_campaign(self, name: str, items: str, reason: str) -> Document:
        """Say what became of items."""

    def close_campaign(self, name: str, comment: str, progress: Callable[[int, int], None]) -> Document:
        """Sign it off, and wait for what follows; ``progress`` is told how much was seen done, of how much."""

    def cancel_campaign(self, name: str, reason: str) -> Document:
        """Give it up."""

    def export_campaign(self, name: str) -> bytes:
        """One file that proves it."""

    def checkpoint(self) -> Document:
        """The signed checkpoint over everything."""

    # ── who decides, and what is in force ──

    def delegate(
        self,
        to: str,
        *,
        until: datetime | None,
        length: timedelta | None,
        starts: datetime | None,
        reason: str,
    ) -> Document:
        """Let somebody decide on one's behalf."""

    def delegations(self) -> list[Document]:
        """Those one gave or has."""

    def end_delegation(self, delegation: str) -> Document:
        """End one."""

    def disablements(self) -> list[Document]:
        """Whom signals disabled."""

    def lift(self, identity: str, *, reason: str) -> Document:
        """Propose that a disablement is lifted, or agree to it."""

    def explain(self, ticket: str) -> Document:
        """Why policy decided as it did."""

    def propose(self, reason: str) -> Document:
        """Propose what lies in the policy folder and the configuration, where Muniment runs."""

    def adopt(self, change: str) -> Document:
        """Agree to a change."""

    def refuse(self, change: str, *, reason: str) -> Document:
        """Say no to a change."""

    def changes(self, change: str | None) -> Document:
        """All of them, or one in full."""

    # ── whoever runs it ──

    def deliveries(self) -> Document:
        """How far each sink is."""

    def replay(self, sink: str, *, since: datetime | None, until: datetime | None) -> Document:
        """Send again."""
