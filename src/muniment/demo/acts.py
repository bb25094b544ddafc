"""The demo's steps, in order. Each does one thing, looks whether it is so, and returns what to tell.

Somebody acts (Ann, Cyd, Muniment, PostgreSQL, the ledger); the sentence that is told has them as its subject.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization as keys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from muniment.core.errors import Refused
from muniment.core.instants import parse_instant, spoken
from muniment.core.scope import Privilege
from muniment.core.ticket import Ticket
from muniment.demo import evidence, stage
from muniment.demo.play import SOON, Play
from muniment.demo.telling import Told, Unmet, require
from muniment.service import deciding, filing, ledgering, looking
from muniment.service.documents import ticket_document

#: how long Ann has the role, and the deployment account its certificate
WINDOW, CERTIFICATE = timedelta(seconds=8), timedelta(minutes=5)
_INSERT = "INSERT INTO orders (item, pieces) VALUES ('ink', 1)"
_DENIED = "ERROR:  permission denied for table orders"
_CUT = "FATAL:  terminating connection due to administrator command"


# ── Before ───────────────────────────────────────────────────────────────────


def scene(play: Play) -> Told:
    desk, play.auditors_key = play.stage.desk, ledgering.vkey(play.stage.desk)
    for target in desk.targets.values():
        report = target.connector.check()
        require(report.reachable and not report.problems, f"{target.id}: {' '.join(report.problems)}")
    ((version,),) = play.stage.ask("SELECT split_part(version(), ' ', 2)")
    require(play.stage.orders() == stage.ORDERS, "the sample orders are there")
    require(play.stage.holders() == [], f"nobody holds {stage.ROLE}")
    return Told(
        f"starts a PostgreSQL {version} for this demo. Its {stage.ORDERS:,} orders are for the role {stage.ROLE},"
        " and nobody holds it."
    )


def writes_without(play: Play) -> Told:
    said = play.log_in().run(_INSERT)
    require(said == [_DENIED] and play.stage.orders() == stage.ORDERS, f"she cannot write; psql said {said}")
    return Told("opens psql and tries to add an order.", *said, refused=True)


def asks(play: Play) -> Told:
    ask = filing.Ask(
        target=stage.TARGET, scope=(Privilege(privilege=stage.ROLE),), duration=WINDOW,
        justification="correct order 42 by hand", references={"change": "CHG-7"},
    )  # fmt: skip
    play.access = ticket = filing.file_request(play.stage.desk, play.stage.caller(stage.ANN), ask)
    (one,) = ticket.stages
    require(ticket.status == "pending" and one.needed == 2, "policy lets her ask, and wants two approvals")
    return Told(
        f"asks for {stage.ROLE} for {spoken(WINDOW)}. By policy two of the target's owners must agree: PostgreSQL does"
        " not end a role by itself.",
        f"{ticket.id}  waits for {one.needed} of {', '.join(one.approvers)}",
    )


def approves_herself(play: Play) -> Told:
    ticket = play.reached(play.access, "pending")
    try:
        deciding.approve(play.stage.desk, play.stage.caller(stage.ANN), ticket.id, digest=ticket.digest)
    except Refused as error:
        require(
            error.code == "refused.self-approval", f"she is refused for that reason, not for {error.code}"
        )
        after = play.reached(ticket, "pending")
        require(not after.decisions and play.stage.holders() == [], "nothing came of it")
        return Told("tries to approve it herself.", f"{error.message} [{error.code}]", refused=True)
    raise Unmet("she cannot approve her own request")


def approves(play: Play) -> Told:
    ticket = play.reached(play.access, "pending")
    require(play.stage.holders() == [], "nothing was given before it was approved")
    after = deciding.approve(
        play.stage.desk, play.stage.caller(stage.CYD), ticket.id, digest=ticket.digest, comment="go ahead"
    )
    require([d.approver for d in after.decisions] == [stage.CYD], "the approval is on record, with her name")
    require(after.decisions[0].digest == ticket.digest, "it is for exactly these terms")
    require(after.status == "pending" and play.stage.holders() == [], "one approval gives nothing yet")
    return Told(
        "is an owner and approves exactly what Ann asked for, by its digest.", f"{ticket.digest[:39]}..."
    )


def approves_as_second(play: Play) -> Told:
    ticket = play.reached(play.access, "pending")
    after = deciding.approve(play.stage.desk, play.stage.caller(stage.DEE), ticket.id, digest=ticket.digest)
    require([d.approver for d in after.decisions] == [stage.CYD, stage.DEE], "both approvals are on record")
    return Told("is an owner, too, and approves the same. Now it may be given.")


# ── Meanwhile ────────────────────────────────────────────────────────────────


def gives(play: Play) -> Told:
    play.access = ticket = play.reached(play.access, "active")
    wanted = (Privilege(privilege=stage.ROLE),)
    require(ticket.granted == ticket.approved == wanted, "what it sees granted is what was approved")
    require(play.stage.holders() == ["ann"], f"PostgreSQL says that Ann holds {stage.ROLE}, and nobody else")
    play.teller.count_down(_end(ticket), play.stage.desk.clock.now, "Ann's access ends in")
    return Told(
        f"gives Ann the role and asks PostgreSQL what she holds now: that, no more. Until {_clock(_end(ticket))}."
    )


def writes_with(play: Play) -> Told:
    session = play.sessions[0]
    said = [*session.run(_INSERT), *session.run(f"SET ROLE {stage.ROLE}"), *session.run(_INSERT)]
    require(said == ["INSERT 0 1", "SET", "INSERT 0 1"], f"she can write now; psql said {said}")
    require(
        session.run("SELECT pg_backend_pid()") == [session.backend], "it is the session she had open before"
    )
    require(play.stage.orders() == stage.ORDERS + 2, "two orders came to the table")
    return Told(
        "can write in the psql she has had open. She also does SET ROLE, whose rights outlive a REVOKE in an open"
        " session.",
        "  ".join(said),
    )


def asks_for_deployment(play: Play) -> Told:
    key = Ed25519PrivateKey.generate().public_key()
    line = key.public_bytes(keys.Encoding.OpenSSH, keys.PublicFormat.OpenSSH).decode()
    ask = filing.Ask(
        target=stage.AUTHORITY, scope=(Privilege(privilege=stage.PRINCIPAL),), duration=CERTIFICATE,
        beneficiary=stage.DEPLOY, public_key=line, justification="roll out 2.4.1",
    )  # fmt: skip
    play.certificate = ticket = filing.file_request(play.stage.desk, play.stage.caller(stage.ANN), ask)
    (one,) = ticket.stages
    require(
        ticket.status == "pending" and one.needed == 1, "policy lets its owner ask, and wants one approval"
    )
    require(ticket.terms.beneficiary == stage.DEPLOY, "it is for the service account")
    return Told(
        f"asks for an SSH certificate for {stage.DEPLOY}, which she answers for. {spoken(CERTIFICATE)}. It is for one"
        " narrow thing and ends by itself, so one owner is enough.",
        f"{ticket.id}  waits for {', '.join(one.approvers)}",
    )


def approves_deployment(play: Play) -> Told:
    ticket = play.reached(play.certificate, "pending")
    after = deciding.approve(play.stage.desk, play.stage.caller(stage.CYD), ticket.id, digest=ticket.digest)
    require([d.approver for d in after.decisions] == [stage.CYD], "the approval is on record")
    return Told("approves that, too.")


def signs(play: Play) -> Told:
    desk, ann = play.stage.desk, play.stage.caller(stage.ANN)
    play.certificate = ticket = play.reached(play.certificate, "active")
    body = looking.collect(desk, ann, ticket.id)
    found = keys.load_ssh_public_identity(body)
    if not isinstance(found, keys.SSHCertificate):
        raise Unmet("what was collected is an SSH certificate")
    found.verify_cert_signature()
    public, authority = (_wire(key) for key in (found.public_key(), found.signature_key()))
    ca_key = keys.load_ssh_private_key((play.stage.folder / "keys/ssh-ca").read_bytes(), None)
    require(authority == _wire(ca_key.public_key()), "our authority signed it")
    require(
        public == base64.b64decode((ticket.terms.public_key or "").split()[1]), "it is for deploy's own key"
    )
    require(found.valid_principals == [stage.PRINCIPAL.encode()], "it is for what was approved")
    require(ticket.id in found.key_id.decode(), "it names its ticket")
    until = datetime.fromtimestamp(found.valid_before, UTC)
    require(timedelta(0) <= until - _end(ticket) < timedelta(seconds=1), "it ends when the ticket does")
    try:
        looking.collect(desk, ann, ticket.id)
    except Refused as error:
        require(
            error.code == "refused.no-credential", f"it is handed out once; the second time said {error.code}"
        )
    else:
        raise Unmet("it is handed out once only")
    return Told(
        "signs it and hands it out once. It ends by itself, on every host.",
        f"Serial      {found.serial}",
        f"Key ID      {found.key_id.decode()}",
        f"Principals  {stage.PRINCIPAL}",
        f"Valid       until {_clock(until)}",
    )


# ── The end ──────────────────────────────────────────────────────────────────


def cuts(play: Play) -> Told:
    ticket = play.reached(play.access, "revoked", "closed", seconds=WINDOW.total_seconds() + SOON)
    play.teller.count_down_ended()
    said = play.sessions[0].run(_INSERT)
    require(said[0] == _CUT and play.sessions[0].ended, f"her open session is over; psql said {said}")
    end = ticket.revocation
    if end is None or end.observed_gone_at is None:
        raise Unmet("the revocation is on record")
    late = parse_instant(end.observed_gone_at) - _end(ticket)
    require(late >= timedelta(0), "it does not end early")
    require((end.cause, end.sessions_ended) == ("expired", 1), "it ended by its time, with one session")
    return Told(
        f"takes the role back and ends Ann's session. {late.total_seconds():.2f} s after the end it has seen the"
        " role gone. Her psql says:",
        said[0],
        refused=True,
    )


def writes_again(play: Play) -> Told:
    said = play.log_in().run(_INSERT)
    require(
        said == [_DENIED] and play.stage.orders() == stage.ORDERS + 2, f"she cannot write; psql said {said}"
    )
    return Told("logs in again, and is back where she began.", *said, refused=True)


def holds_nothing(play: Play) -> Told:
    rows = play.stage.ask("SELECT 1 FROM pg_auth_members WHERE member = 'ann'::regrole")
    require(rows == [] and play.stage.holders() == [], "Ann is a member of nothing")
    return Told("itself says, asked past Muniment: no row for Ann in pg_auth_members.")


def closes(play: Play) -> Told:
    ticket = play.reached(play.access, "closed")
    document = ticket_document(play.stage.desk, ticket)
    checks = document["closure"]["checks"]
    require(
        checks and all(c["holds"] and not c["waived"] for c in checks), "every check holds, none is waived"
    )
    require(document["findings"] == [], "nothing is left to look at")
    return Told(
        "closes the ticket, as every check that it must pass holds:", ", ".join(c["check"] for c in checks)
    )


#: who acts, and how
ACTS: tuple[tuple[str, Callable[[Play], Told]], ...] = (
    ("Muniment", scene),
    ("Ann", writes_without),
    ("Ann", asks),
    ("Ann", approves_herself),
    ("Cyd", approves),
    ("Dee", approves_as_second),
    ("Muniment", gives),
    ("Ann", writes_with),
    ("Ann", asks_for_deployment),
    ("Cyd", approves_deployment),
    ("Muniment", signs),
    ("Muniment", cuts),
    ("Ann", writes_again),
    ("PostgreSQL", holds_nothing),
    ("Muniment", closes),
    ("The ledger", evidence.verifies),
    ("A forger", evidence.forges),
    ("The ledger", evidence.refuses),
)


def _end(ticket: Ticket) -> datetime:
    if ticket.expiry is None:
        raise Unmet("the access has an end")
    return ticket.expiry


def _clock(instant: datetime) -> str:
    return f"{instant:%H:%M:%S} UTC"


def _wire(key: Any) -> bytes:
    return base64.b64decode(key.public_bytes(keys.Encoding.OpenSSH, keys.PublicFormat.OpenSSH).split()[1])
