"""The tables. Instants are wire strings (`core.instants`), so both databases compare and return the same bytes.

``event`` is append-only; a trigger says so to whoever forgets. Everything else but ``leaf``, ``head``, ``checkpoint``,
``cosignature``, ``stamp``, ``text``, ``token``, ``session``, ``device``, ``answered``, ``provisioned``, ``delivery``,
``inventory_part``, ``use_line``, ``use_source``, ``use_rejected``, ``saved_filter`` and ``reach`` can be rebuilt from it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy import text as _text

metadata = MetaData()

#: SQLite gives rowids only to plain INTEGER keys
_Id = BigInteger().with_variant(Integer, "sqlite")

event = Table(
    "event",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("stream", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the leaf: RFC 8785 bytes, never serialised again
    Column("mark", LargeBinary, nullable=False),  # HMAC of body: foreign SQL cannot forge it (I11)
    UniqueConstraint("stream", "seq", name="event_stream_seq"),
    #: delegations alone, which are counted with every approval (`store.families`)
    Index(
        "event_delegation",
        "stream",
        "seq",
        sqlite_where=_text("stream >= 'delegation:' AND stream < 'delegation;'"),
        postgresql_where=_text("starts_with(stream, 'delegation:')"),
    ),
    sqlite_autoincrement=True,  # ids of a rolled-back insert are not used again
)

#: entries that the ledger has not taken up yet. Never tail by "id > last": ids commit out of order
outbox = Table(
    "outbox",
    metadata,
    Column("event_id", _Id, primary_key=True, autoincrement=False),
)

leaf = Table(
    "leaf",
    metadata,
    Column("idx", _Id, primary_key=True, autoincrement=False),
    Column("event_id", _Id, nullable=False, unique=True),
    Column("hash", LargeBinary, nullable=False),
)

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("origin", Text, nullable=False),
    Column("size", _Id, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("size", _Id, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column(
        "frontier", LargeBinary
    ),  # of the tree it names: what the next one must grow from; null before 0002
    Column("published", Text),  # when its tiles and it were out; null: signed, and to be published again
)

#: what witnesses answered to a checkpoint; one row an answer, since each says that it was the newest at that time
cosignature = Table(
    "cosignature",
    metadata,
    Column("size", _Id, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),  # 8 hex digits
    Column("time", _Id, primary_key=True, autoincrement=False),  # POSIX seconds, by the witness's clock
    Column("line", Text, nullable=False),  # the signature line as it stands in a note
)

#: RFC 3161 time-stamps of checkpoints
stamp = Table(
    "stamp",
    metadata,
    Column("size", _Id, primary_key=True, autoincrement=False),
    Column("authority", Text, primary_key=True),
    Column("at", Text, primary_key=True),  # genTime, as a wire instant
    Column("token", LargeBinary, nullable=False),  # the DER response
)

ticket = Table(
    "ticket",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("beneficiary", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("action", Text),  # what a controller must do next …
    Column("due_at", Text),  # … and when; null: only people can move it on
    Column("open_findings", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # "standard", "break_glass"
    Column("decided_after", Integer),  # seconds from the asking to the answer, where people gave it
    Column("gone_after", Integer),  # seconds from when access was to end until it was seen gone
    Column("state", LargeBinary, nullable=False),  # the folded Ticket, canonical JSON
    Index("ticket_due", "due_at", "id"),
    Index("ticket_account", "target", "account", "status"),
    Index("ticket_beneficiary", "beneficiary", "id"),
    Index("ticket_requester", "requester", "id"),
    Index("ticket_status", "status", "id"),
    Index("ticket_target", "target", "id"),
    Index("ticket_findings", "open_findings", "id"),
    #: all that charts ask of a ticket: its id has the time when it was filed
    Index("ticket_times", "id", "kind", "decided_after", "gone_after"),
)

#: who may see which ticket (`core.visibility`): lists are asked for by it, and look at nothing else (I33)
viewer = Table(
    "viewer",
    metadata,
    Column("who", Text, primary_key=True),
    Column("ticket", Text, primary_key=True),
)

#: the last recorded version of identities, targets and the policy set, to see what changed
registry = Table(
    "registry",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("head", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

#: free text beside the ledger; erasing a row's salt and value erases the personal data
text = Table(
    "text",
    metadata,
    Column("commitment", Text, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("salt", LargeBinary),
    Column("value", Text),
    Index("text_stream", "stream"),
)

credential = Table(
    "credential",
    metadata,
    Column("ticket", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("until", Text, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("key", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Text, nullable=False),
    Column("fence", _Id, nullable=False),
)

#: the highest instant this store ever acted on: a clock that steps back extends nothing (I13)
clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("mark", Text, nullable=False),
)

#: bearer tokens of the API. The secret itself is nowhere: it has 256 bits of chance, so its hash cannot be guessed from
token = Table(
    "token",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of the secret part
    Column("identity", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # separated by spaces; empty: all that the identity may
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    Column("revoked_at", Text),
    Column(
        "mark", LargeBinary
    ),  # `tokens.SqlTokens`: ours, not foreign SQL's; none on tokens older than marks
    Index("token_identity", "identity"),
)

#: who is signed in. As with tokens, the secret itself is nowhere, and a mark is over all that a row lets somebody do
session = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of the secret part
    Column("identity", Text, nullable=False),
    Column("login", Text, nullable=False),  # `core.login.Login`, as JSON
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sid", Text),  # the provider's own name for the session
    Column("without", Text, nullable=False),  # groups that do not count in it, separated by spaces
    Column("created_at", Text, nullable=False),
    Column("seen_at", Text, nullable=False),  # within a minute
    Column("expires_at", Text, nullable=False),
    Column("ended_at", Text),
    Column("mark", LargeBinary, nullable=False),
    Index("session_subject", "issuer", "subject"),
    Index("session_sid", "issuer", "sid"),
    Index("session_expires", "expires_at"),
)

#: messages from outside that count once, until they would be too old anyway (I39)
heard = Table(
    "heard",
    metadata,
    Column("sender", Text, primary_key=True),
    Column("id", Text, primary_key=True),  # the sender's own name for it
    Column("until", Text, nullable=False),
    Index("heard_until", "until"),
)

#: devices that somebody who signed in said yes or no to, until their code is over
device = Table(
    "device",
    metadata,
    Column("hash", LargeBinary, primary_key=True),  # SHA-256 of the code that the person compared
    Column("identity", Text, nullable=False),
    Column("answer", Text, nullable=False),  # "yes", "no"; "taken": the device has fetched its token
    Column("until", Text, nullable=False),
    Column("mark", LargeBinary, nullable=False),
)

#: commands that came with a key, so that a client who did not hear the answer can ask again (I30). Written in the
#: transaction of what they did; the answer is made again from the ticket's entries
answered = Table(
    "answered",
    metadata,
    Column("who", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),  # SHA-256 of route and body
    Column("ticket", Text, nullable=False),
    Column("version", Integer, nullable=False),  # of the ticket, after it
    Column("sealed", Integer, nullable=False),  # how many of its entries were in the tree then
    Column("at", Text, nullable=False),
    Index("answered_at", "at"),
)

#: people, groups and agents as somebody outside keeps them here: an identity provider over SCIM
provisioned = Table(
    "provisioned",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # "User", "Group", "Agent"
    Column("name", Text, nullable=False),  # folded: one of its kind has it at a time
    Column("revision", _Id, nullable=False),  # of all of them: what changed last has the highest
    Column("body", LargeBinary, nullable=False),  # JSON
    Column("created_at", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
    Column("removed_at", Text),  # it stays, so that nobody forgets who is gone
    Column("mark", LargeBinary, nullable=False),  # ours, not foreign SQL's (I11)
    Index("provisioned_name", "kind", "name"),
    Index("provisioned_revision", "revision"),
)
provisioned_head = Table(
    "provisioned_head",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("revision", _Id, nullable=False),
)

#: entries of the ledger that are on their way to somebody, or did not get there; what is sent is made again from the
#: entry. Rows of what arrived are deleted
delivery = Table(
    "delivery",
    metadata,
    Column("sink", Text, primary_key=True),
    Column("idx", _Id, primary_key=True, autoincrement=False),  # of the leaf
    Column("attempts", Integer, nullable=False),
    Column("due_at", Text),  # null: given up, until somebody has it sent again
    Column("error", Text, nullable=False),
    Index("delivery_due", "sink", "due_at"),
)
#: what a receiver of signals made of a stream that is configured for it
signal_stream = Table(
    "signal_stream",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),  # `store.signal_streams.StreamState`, as JSON
    Column("mark", LargeBinary, nullable=False),  # ours, not foreign SQL's (I11)
)
#: how far each sink was looked after
feed = Table(
    "feed",
    metadata,
    Column("sink", Text, primary_key=True),
    Column("next", _Id, nullable=False),  # index of the first leaf that was not
    Column("closed", Text),  # why nothing goes there any more
)

#: findings of drift as last folded (`core.drift`)
drift = Table(
    "drift",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),  # the folded Drift, canonical JSON
    Index("drift_status", "status", "stream"),
    Index("drift_target", "target", "status", "stream"),
)

#: the lines of the newest inventories, in parts; the ledger has their digests, which say whether they are whole and ours
inventory_part = Table(
    "inventory_part",
    metadata,
    Column("inventory", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("target", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # lines, deflated
    Index("inventory_part_target", "target"),
)

#: campaigns as lists show them (`projecting.campaign_row`); who is in one is in its items
campaign = Table(
    "campaign",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("due_at", Text),  # when a controller must look at it; null: never
    Column("state", LargeBinary, nullable=False),
    Index("campaign_status", "status", "stream"),
    Index("campaign_due", "due_at", "stream"),
)

#: the items of campaigns, in parts, as those of inventories; the ledger has their digest
campaign_part = Table(
    "campaign_part",
    metadata,
    Column("list", Text, primary_key=True),  # the digest
    Column("part", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # lines, deflated
)

#: what each sealed entry is about, to be searched by: written by the sequencer, behind whoever recorded it
fact = Table(
    "fact",
    metadata,
    Column("idx", _Id, primary_key=True, autoincrement=False),  # of its leaf
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("target", Text),  # of the entry, or of its ticket
    Index("fact_at", "at", "idx"),
    Index("fact_kind", "kind", "at", "idx"),
    Index("fact_actor", "actor", "at", "idx"),
    Index("fact_target", "target", "at", "idx"),
)

#: filters of lists that people keep: what stands in the address, and nothing else
saved_filter = Table(
    "saved_filter",
    metadata,
    Column("identity", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("query", Text, nullable=False),
)

#: how each process with controllers sees targets, for people to look at: nothing is decided by it
reach = Table(
    "reach",
    metadata,
    Column("node", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("at", Text, nullable=False),  # when it was written: it is kept up to date while the process lives
    Column("state", LargeBinary, nullable=False),  # `store.reach.Seen`, as JSON
)

#: what is kept of lines of targets' logs that tell of use; the ledger has their digests, batch by batch
use_line = Table(
    "use_line",
    metadata,
    Column("target", Text, primary_key=True),
    Column("line", Text, primary_key=True),  # `core.use.line_id`: read again, it is the same
    Column("at", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("privilege", Text),
    Column("batch", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # `core.use.Use`, as JSON
    Column("verdict", Text),  # null: not judged yet
    Column("ticket", Text),  # whose use it is, or in whose place it was
    Index(
        "use_line_pending",
        "target",
        "line",
        sqlite_where=_text("verdict IS NULL"),
        postgresql_where=_text("verdict IS NULL"),
    ),
    Index("use_line_ticket", "ticket", "verdict"),
    Index("use_line_batch", "batch"),
    Index("use_line_at", "target", "at"),
)
#: how far each log was read, and for which periods
use_source = Table(
    "use_source",
    metadata,
    Column("target", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),  # `store.uses.Source`, as JSON
)
#: lines of which nothing could be made, as many of each batch as somebody would look at: by place and digest alone
use_rejected = Table(
    "use_rejected",
    metadata,
    Column("batch", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("target", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("why", Text, nullable=False),
)
