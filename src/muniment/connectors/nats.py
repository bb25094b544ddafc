"""NATS: a user of the ticket's own, as a token that ends by itself, and that the account revokes when the ticket ends.

A privilege is ``publish SUBJECT`` or ``subscribe SUBJECT``. NATS keeps no list of users: whoever holds the account's key
makes them. So the account itself is our register, in its tags. What follows what:

1. connect, which is the lock (`nats_session`), and read the account that the operator signed
2. ``confirm``: the work is still ours
3. make users and their tokens, and write them into the account's tags; push it, and see that it is taken. Only then
   tokens are sealed and handed out. A crash before that leaves an entry for a token that nobody has
4. to revoke: the users become revocations, which is pushed likewise. NATS ends their connections; see that none is left

A revocation stays until the token would have ended. Whoever pushes an older copy of the account takes it back, and the
register with it: so the order names the user as well, and is revoked again by that.
"""

from __future__ import annotations

import math
import re
import time
from base64 import b32decode, b32encode
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from muniment import delivery
from muniment.connectors import nats_jwt as j
from muniment.connectors.answering import fault, no, sealed, unknown, unreachable
from muniment.connectors.kinds import Kind, Secret
from muniment.connectors.nats_session import Nats, Session
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.outbound import trusting
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_TOKEN = r"(?:\*|[!-)+-\-/-=?-~]+)"  # noqa: S105  of a subject: a wildcard, or printable without . * >
_PRIVILEGE = re.compile(rf"(publish|subscribe) (?:>|{_TOKEN}(?:\.{_TOKEN})*(?:\.>)?)", re.ASCII)
_MAX_ACCOUNT = 200  # bytes
_TAG = "muniment:"
_LOOK = 0.02  # seconds between two looks at connections that end
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_WIDE = re.compile(r"(?:publish|subscribe) (?:>|\$SYS(?:\..*)?|\$JS(?:\..*)?|\*(?:\..*)?)")

LEAST_PRIVILEGE = """\
# an account for Muniment, which may have one connection at a time, and one key for each account
nsc add account MUNIMENT
nsc edit account MUNIMENT --conns 1 --sk generate
nsc edit account APP --sk generate
nsc edit operator --sk generate
# three services of the system account: with APP's public key in place of A…
for subject in '$SYS.REQ.CLAIMS.UPDATE' '$SYS.REQ.ACCOUNT.A….CLAIMS.LOOKUP' '$SYS.REQ.ACCOUNT.A….CONNZ'; do
  nsc add export --account SYS --service --name "$subject" --subject "$subject"
  nsc add import --account MUNIMENT --src-account SYS --service --remote-subject "$subject" --local-subject "$subject"
done
nsc push --all
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    url: str  # `tls://HOST:4222` of one server; `nats://` only on this machine. Beneficiaries are told it, too.
    account: str  # Public key of the account that users are made in (A…).
    account_key: Secret  # Reference to the seed of a signing key of that account (SA…).
    own_account: str  # Public key of our own account (A…).
    own_key: Secret  # Reference to the seed of a signing key of our own account (SA…).
    operator_key: Secret  # Reference to the seed of a signing key of the operator (SO…).
    operators: tuple[
        str, ...
    ] = ()  # Other public keys of the operator that may have signed the account (O…).
    ca: Path | None = None  # PEM file of the authority that its certificate leads to. Default: the system's.
    timeout: str = "10s"  # For each call in all.


class _Entry(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "ticket": "t",
        "account": "a",
        "user": "u",
        "issued": "i",
        "ends": "e",
        "privileges": "p",
        "over": "o",
    },
    omit_defaults=True,
):
    """Of one token, in the account's tags."""

    ticket: str
    account: str
    user: str  # public key
    issued: int  # POSIX seconds
    ends: int
    privileges: tuple[str, ...]
    over: bool = False  # it is revoked, and stays here until it would have ended


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is reached. Raises `Invalid` or `Misconfigured`."""
    try:
        parts = urlsplit(settings.url)
        host, port = parts.hostname or "", parts.port or 4222
    except ValueError:
        host, port = "", 0
    if not host or parts.scheme not in {"tls", "nats"} or parts.path or parts.username is not None:
        raise Misconfigured("url is no address of NATS", remedy="Write it like tls://nats.example.com:4222.")
    if parts.scheme == "nats" and host not in _LOCAL:
        raise Misconfigured(
            "what is said to NATS would cross the network in clear", remedy="Write url with tls://."
        )
    for what, key in (("account", settings.account), ("own_account", settings.own_account)):
        if not j.is_public(key, "account"):
            raise Misconfigured(
                f"{what} is no public key of an account",
                remedy="It begins with A; `nsc describe account` shows it.",
            )
    if not all(j.is_public(key, "operator") for key in settings.operators):
        raise Misconfigured("operators has what is no public key of an operator", remedy="They begin with O.")
    operator = _key(settings.operator_key, "operator")
    nats = Nats(
        name=name, host=host, port=port, tls=trusting(settings.ca) if parts.scheme == "tls" else None,
        timeout=parse_duration(settings.timeout) / timedelta(seconds=1), own=_key(settings.own_key, "account"),
        own_account=settings.own_account, operator=operator, trusted=frozenset({operator.public, *settings.operators}),
        account=settings.account,
    )  # fmt: skip
    made = NatsUsers(nats, settings.url, _key(settings.account_key, "account"), catalogue=catalogue)
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class NatsUsers:
    """See `muniment.ports.Connector`; an account is whom a user is for, a privilege what it may publish or subscribe."""

    capabilities = Capabilities(
        native_expiry=True,
        ends_sessions=True,
        issues_credential=True,
        needs_public_key=True,
        lists_everything=False,
        grant="token",
        separate=True,
    )

    def __init__(self, nats: Nats, url: str, key: j.Key, *, catalogue: Sequence[Privilege] = ()) -> None:
        """Connects at each call. ``key`` signs users."""
        self._nats, self._url, self._key, self._catalogue = nats, url, key, tuple(catalogue)

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`."""
        clean_name(account, "the account", limit=_MAX_ACCOUNT)
        for item in scope:
            clean_name(item.privilege, "the privilege")
            if not _PRIVILEGE.fullmatch(item.privilege):
                raise Invalid(
                    f"{item.privilege} is nothing that NATS lets one do",
                    remedy="Write publish or subscribe, and a subject: subscribe orders.*.new.",
                )
            if item.resource is not None:
                raise Invalid("a subject has no resource", remedy="Ask for it alone.")
        if key is not None:
            delivery.recipient(key)

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        problems: list[str] = []
        try:
            with self._nats.session() as s:
                claims = s.account()
                s.users()
                if not s.alone():
                    problems.append(
                        "Our own account may have more than one connection, so our workers get into each other's way: "
                        "nsc edit account MUNIMENT --conns 1."
                    )
        except TargetUnavailable as error:
            return unreachable(error)
        signers = claims["nats"].get("signing_keys") or ()
        if self._key.public == self._nats.account:
            problems.append(
                "account_key is the account's own key, which nobody can replace: use a signing key."
            )
        elif any(isinstance(each, dict) and each.get("key") == self._key.public for each in signers):
            problems.append("account_key is a scoped key, whose users cannot have permissions of their own.")
        elif self._key.public not in signers:
            problems.append("account_key is no key of the account: its users would be refused.")
        return CheckReport(
            reachable=True,
            details=(
                f"NATS answers, and shows the account {claims.get('name', '')}.",
                "A token ends by itself; revoking it ends its connections.",
                "Whoever has our keys may make any user of the account, and any account: guard them like the operator's.",
                *(f"{each} reaches nearly everything." for each in self._catalogue if _WIDE.fullmatch(each.privilege)),
            ),
            problems=tuple(problems), least_privilege=LEAST_PRIVILEGE,
        )  # fmt: skip

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`. A user is there until its token ends, or the account revokes it, by whomever."""
        if accounts is not None and not accounts:
            return Observation(holdings=())
        with self._nats.session() as s:
            claims = s.account()
        now = time.time()
        return Observation(
            holdings=tuple(
                Holding(account=each.account, privilege=privilege, ticket=each.ticket)
                for each in _entries(claims)
                if _lives(each, claims, now) and (accounts is None or each.account in accounts)
                for privilege in each.privileges
            )
        )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`. A user that was made for the ticket before is revoked."""
        if not orders:
            return []
        answers: dict[int, Outcome] = {}
        with self._nats.session() as s:
            claims = s.account()
            s.confirmed(confirm)
            now = int(time.time())
            made: list[_Entry] = []
            for at, order in enumerate(orders):
                ends = math.ceil(order.expires_at.timestamp())
                if (why := fault(self, order.account, order.scope, order.public_key or "")) is not None:
                    answers[at] = no(order, "bad-name", why)
                elif ends <= now:
                    answers[at] = no(order, "too-late", "the access is over already")
                else:
                    entry, answers[at] = self._made(order, now, ends)
                    made.append(entry)
            if made:
                tickets, entries = {(each.ticket, each.account) for each in made}, _entries(claims)
                gone = {each.user: each.ends for each in entries if (each.ticket, each.account) in tickets}
                s.push(_changed(claims, entries, made, gone, now))
        return [answers[at] for at in range(len(orders))]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. The whole user goes, also if the order names only some of its privileges."""
        if not orders:
            return []
        with self._nats.session() as s:
            claims = s.account()
            before, entries = Counter(s.users()), _entries(claims)
            mine = {
                at: {e.user for e in entries if (e.ticket, e.account) == (o.ticket, o.account)}
                | ({o.handle["user"]} if j.is_public(o.handle.get("user", ""), "user") else set())
                for at, o in enumerate(orders)
            }
            named = {
                user: math.ceil(orders[at].expires_at.timestamp())
                for at, users in mine.items()
                for user in users
            }
            s.confirmed(confirm)
            wanted = _changed(claims, entries, [], named, int(time.time()))
            if wanted["nats"] != claims["nats"]:
                s.push(wanted)
            alive = self._ended(s, named)
        return [
            self._outcome(
                order, sum(before[user] for user in mine[at]), sum(alive[user] for user in mine[at])
            )
            for at, order in enumerate(orders)
        ]

    def _made(self, order: Order, now: int, ends: int) -> tuple[_Entry, Outcome]:
        """A user, as it will stand in the register and as it is handed out."""
        user = j.new_key("user")
        allowed = {
            verb: [
                item.privilege.partition(" ")[2] for item in order.scope if item.privilege.startswith(verb)
            ]
            for verb in ("publish", "subscribe")
        }
        claims = {
            "sub": user.public, "name": f"muniment.{order.ticket}", "exp": ends, "iat": now,
            "nats": {
                "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "issuer_account": self._nats.account,
                # to allow nothing is to allow everything: it must be denied
                "pub": {"allow": allowed["publish"]} if allowed["publish"] else {"deny": [">"]},
                "sub": {"allow": allowed["subscribe"]} if allowed["subscribe"] else {"deny": [">"]},
            },
        }  # fmt: skip
        text = j.token(self._key, claims)
        env = {
            "NATS_URL": self._url, "NATS_JWT": text, "NATS_SEED": user.seed, "NATS_CREDENTIALS": j.credentials(text, user),
        }  # fmt: skip
        end = datetime.fromtimestamp(ends, UTC)
        entry = _Entry(
            ticket=order.ticket, account=order.account, user=user.public, issued=now, ends=ends,
            privileges=tuple(item.privilege for item in order.scope),
        )  # fmt: skip
        return entry, Outcome(
            ticket=order.ticket, result="done", handle={"user": user.public}, native_expiry=end,
            credential=sealed(order, "token", env, end),
        )  # fmt: skip

    def _ended(self, s: Session, users: Collection[str]) -> Counter[str]:
        """How many connections of each are left when there is no more time for them to end."""
        while (alive := Counter(user for user in s.users() if user in users)) and s.left() > 1:
            time.sleep(_LOOK)
        return alive

    def _outcome(self, order: Order, before: int, alive: int) -> Outcome:
        if not alive:
            return Outcome(ticket=order.ticket, result="done", sessions_ended=before)
        sentence = f"{alive} sessions of {order.account} did not end in time"
        return unknown(order, "session-survives", sentence, ended=max(0, before - alive))


def _key(secret: Secret, kind: j.Kind) -> j.Key:
    try:
        return j.key_of(secret.reveal(), kind)
    except Invalid as error:
        raise Misconfigured(f"{secret.reference}: {error.message}", remedy=error.remedy) from None


def _entries(claims: Mapping[str, Any]) -> list[_Entry]:
    """Of the account's tags; others' are left out."""
    found = []
    for tag in claims["nats"].get("tags") or ():
        if isinstance(tag, str) and tag.startswith(_TAG):
            try:
                text = b32decode(tag.removeprefix(_TAG).upper())
                found.append(msgspec.json.decode(text, type=_Entry))
            except (ValueError, msgspec.MsgspecError):
                continue
    return found


def _tag(entry: _Entry) -> str:
    """In small letters, as NATS's own tools keep tags."""
    return _TAG + b32encode(msgspec.json.encode(entry)).decode().lower()


def _lives(entry: _Entry, claims: Mapping[str, Any], now: float) -> bool:
    revoked = claims["nats"].get("revocations") or {}
    return now < entry.ends and entry.issued > max(int(revoked.get(who, -1)) for who in (entry.user, "*"))


def _changed(
    claims: Mapping[str, Any],
    entries: Sequence[_Entry],
    new: Sequence[_Entry],
    gone: Mapping[str, int],
    now: int,
) -> dict[str, Any]:
    """The account with its entries and new ones; users that go are revoked.

    They go with or without an entry, and would have ended then. What would have ended by now is forgotten.
    """
    nats = dict(claims["nats"])
    revoked = dict(nats.get("revocations") or {})
    old = {each.user: each for each in entries}
    for user, ends in gone.items():
        old.setdefault(
            user, _Entry(ticket="", account="", user=user, issued=now, ends=ends, privileges=(), over=False)
        )
    kept: list[_Entry] = []
    for user, each in old.items():
        if each.ends <= now:
            revoked.pop(user, None)
            continue
        over = each.over or user in gone
        if over and int(revoked.get(user, -1)) < each.issued:
            revoked[user] = now
        kept.append(msgspec.structs.replace(each, over=over))
    others = [tag for tag in nats.get("tags") or () if not str(tag).startswith(_TAG)]
    nats |= {"tags": [*others, *map(_tag, [*kept, *new])], "revocations": revoked}
    for name in ("tags", "revocations"):
        if not nats[name]:
            del nats[name]
    return {**claims, "nats": nats}


KIND = Kind(
    summary="a privilege is a subject to publish or subscribe, and a token of the ticket's own allows it",
    settings=Settings,
    build=build,
    capabilities=NatsUsers.capabilities,
    least_privilege=LEAST_PRIVILEGE,
)
