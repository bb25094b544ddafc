"""What readers make of lines: as a table. Lines of real servers are in tests/integration."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.scope import Privilege
from muniment.core.use import LONGEST_NAME, Rule, Said, World, line_id, matches, use_of
from muniment.usage.formats import FORMATS, format_named
from muniment.usage.generic import mapped, parse_mapping
from muniment.usage.reading import Hints, Other, Unparsable

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HINTS = Hints(now=NOW)
REQ = "req_01JDC0000000000000000000AB"
LOW = REQ.removeprefix("req_").lower()


def told(format_: str, line, hints=HINTS):
    raw = line if isinstance(line, bytes) else (json.dumps(line) if isinstance(line, dict) else line).encode()
    return FORMATS[format_].read(raw, hints)


def pg(message: str, **more) -> dict:
    return {
        "timestamp": "2026-11-26 11:00:00.123 UTC", "user": "ann", "session_id": "6.1", "line_num": 3, "error_severity": "LOG",
        "message": message, **more,
    }  # fmt: skip


def audit(**more) -> dict:
    return {
        "kind": "Event", "auditID": "a1", "stage": "ResponseComplete", "verb": "get", "user": {"username": "ann"},
        "objectRef": {"resource": "pods", "namespace": "pay", "name": "p"}, "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-11-26T11:00:00.000001Z",
        "annotations": {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": f'RBAC: allowed by RoleBinding "muniment-req-{LOW}-0a1b/pay" of Role "viewer" to User "ann"',
        },
    } | more  # fmt: skip


def bao(**more) -> dict:
    return {
        "time": "2026-11-26T11:00:00.5Z", "type": "response", "request": {"id": "r1", "operation": "read", "path": "secret/a"},
        "auth": {
            "display_name": "token", "metadata": {"account": "ann", "ticket": REQ},
            "policy_results": {"allowed": True, "granting_policies": [{"name": "default"}, {"name": "orders"}]},
        },
    } | more  # fmt: skip


def trail(**more) -> dict:
    return {
        "eventTime": "2026-11-26T11:00:00Z", "eventID": "e1", "eventSource": "s3.amazonaws.com", "eventName": "GetObject",
        "recipientAccountId": "111122223333",
        "userIdentity": {
            "type": "AssumedRole", "principalId": "AROA:ann@example.com",
            "sessionContext": {"sessionIssuer": {"userName": "AWSReservedSSO_Orders_0123456789abcdef"}},
        },
    } | more  # fmt: skip


ACCEPTED = f"Accepted publickey for web from 10.0.0.1 port 2222 ssh2: ED25519-CERT SHA256:abc ID muniment:{REQ}:ann (serial 42) CA ED25519 SHA256:def"

USES = [
    ("postgresql-json", pg("statement: SELECT 1"), {"account": "ann", "shown": "SELECT", "own": "6.1/3"}),
    ("postgresql-json", pg('statement: set role "Orders""x"'), {"privileges": ('Orders"x',)}),
    ("postgresql-json", pg("execute <unnamed>: SET LOCAL ROLE orders_RW"), {"privileges": ("orders_rw",)}),
    ("postgresql-json", pg("statement: RESET ROLE"), {"privileges": ()}),
    ("postgresql-json", pg("duration: 0.1 ms  statement: DELETE FROM t"), {"shown": "DELETE"}),
    ("postgresql-json", pg("connection authorized: user=ann database=d"), {"shown": "connect"}),
    ("postgresql-json", pg("AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.orders,select 1,<none>"), {"object": "public.orders", "action": "SELECT"}),
    ("postgresql-json", pg("statement: SELECT 1", application_name="psql"), {"person": "application_name psql, which is the client's word"}),
    ("postgresql-json", pg("permission denied", error_severity="ERROR"), {"own": "6.1/2", "refused": True}),
    ("sshd", f"2026-11-26T11:00:00.5+00:00 h sshd[7]: {ACCEPTED}", {"account": "ann", "ticket": REQ, "privileges": ("web", "login:web")}),
    ("sshd", f"Nov 26 11:00:00 h sshd-session[7]: {ACCEPTED}", {"ticket": REQ}),
    ("sshd", "Nov 26 11:00:00 h sshd[7]: Accepted password for root from 10.0.0.1 port 1 ssh2", {"account": "root", "person": "the login was by password"}),
    ("sudo", "Nov 26 11:00:00 h sudo[7]:      ann : TTY=pts/0 ; PWD=/home/ann ; USER=billing ; COMMAND=/usr/bin/psql -c secret", {"account": "ann", "becomes": "billing", "person": "a terminal, pts/0", "shown": "sudo as billing: /usr/bin/psql"}),
    ("openbao", bao(), {"account": "ann", "ticket": REQ, "privileges": ("default", "orders"), "own": "r1"}),
    ("kubernetes", audit(), {"account": "ann", "ticket": REQ, "privileges": ("role/viewer",), "resource": "pay"}),
    ("kubernetes", audit(impersonatedUser={"username": "ci"}), {"account": "ci", "by": "ann"}),
    ("cloudtrail", trail(), {"account": "ann@example.com", "privileges": ("Orders", "AWSReservedSSO_Orders_0123456789abcdef"), "resource": "111122223333"}),
    ("cloudtrail", trail(userIdentity={"type": "IAMUser", "userName": "ann"}, eventName="ConsoleLogin"), {"account": "ann", "person": "a session of the console"}),
    ("ocsf", {"time": 1795690800000, "class_uid": 6003, "status_id": 1, "actor": {"user": {"name": "ann"}, "authorizations": [{"policy": {"name": "orders"}}]}, "api": {"operation": "Get"}, "resources": [{"name": "db"}], "metadata": {"uid": "u1", "correlation_uid": REQ}}, {"account": "ann", "privileges": ("orders",), "ticket": REQ, "resource": "db"}),
    ("events", {"at": "2026-11-26T11:00:00Z", "account": "ann", "privilege": "orders", "id": "1"}, {"account": "ann", "privileges": ("orders",), "own": "1"}),
]  # fmt: skip

OTHERS = [
    ("postgresql-json", pg("checkpoint starting", user="", session_id="6.0")),
    ("postgresql-json", pg("duration: 0.1 ms")),
    ("postgresql-json", pg("x", error_severity="WARNING")),
    ("sshd", "Nov 26 11:00:00 h sshd[7]: Failed password for root from 10.0.0.1 port 1 ssh2"),
    ("sshd", f"Nov 26 11:00:00 h sshd[7]: Invalid user {ACCEPTED} from 1.2.3.4 port 2"),
    ("sshd", f"Nov 26 11:00:00 h logger: {ACCEPTED}"),
    (
        "sudo",
        "Nov 26 11:00:00 h sudo:  ann : command not allowed ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/id",
    ),
    ("sudo", "Nov 26 11:00:00 h sudo: pam_unix(sudo:session): session opened for user root"),
    ("openbao", bao(type="request")),
    ("openbao", bao(error="permission denied")),
    ("openbao", bao(auth={})),
    ("kubernetes", audit(stage="RequestReceived")),
    ("kubernetes", audit(responseStatus={"code": 403})),
    ("cloudtrail", trail(errorCode="AccessDenied")),
    ("ocsf", {"time": 1795690800000, "status_id": 2, "actor": {"user": {"name": "ann"}}}),
]

BROKEN = [
    ("postgresql-json", "{"), ("postgresql-json", "[1]"), ("postgresql-json", pg("x", timestamp="today")),
    ("postgresql-json", pg("x", timestamp="2026-13-26 11:00:00 UTC")), ("postgresql-json", pg("x", timestamp="2026-11-26 11:00:00 CET")),
    ("postgresql-json", pg("AUDIT: SESSION,1")), ("postgresql-csv", "a,b"), ("postgresql-csv", 'a,"b'),
    ("sshd", "hello"), ("sshd", "Foo 26 11:00:00 h sshd[7]: x"), ("sshd", "Nov 31 11:00:00 h sshd[7]: x"), ("sudo", b"\xff\xfe"),
    ("openbao", "null"), ("kubernetes", audit(user={})), ("cloudtrail", trail(eventTime=7)), ("ocsf", {"time": "x"}), ("ocsf", {"time": True}),
    ("ocsf", {"time": 1 << 70}), ("events", {"account": "ann"}), ("events", "[" * 100_000),
]  # fmt: skip


@pytest.mark.parametrize(("format_", "line", "expected"), USES, ids=lambda v: v if isinstance(v, str) else "")
def test_lines_that_tell_of_use(format_: str, line, expected: dict) -> None:
    said = told(format_, line)
    assert isinstance(said, Said)
    assert {name: getattr(said, name) for name in expected} == expected
    assert abs(said.at - datetime(2026, 11, 26, 11, tzinfo=UTC)) < timedelta(hours=1, seconds=1)


@pytest.mark.parametrize(("format_", "line"), OTHERS)
def test_sound_lines_that_do_not(format_: str, line) -> None:
    assert isinstance(told(format_, line), Other)


@pytest.mark.parametrize(("format_", "line"), BROKEN)
def test_lines_that_are_not_of_the_format(format_: str, line) -> None:
    with pytest.raises(Unparsable):
        told(format_, line)


@pytest.mark.parametrize("format_", FORMATS)
@given(raw=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_no_line_breaks_a_reader(format_: str, raw: bytes) -> None:
    try:
        told(format_, raw)
    except Unparsable as error:
        assert len(str(error)) < 100


@pytest.mark.parametrize("format_", FORMATS)
@given(
    found=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=30),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(
                ["time", "at", "timestamp", "user", "auth", "metadata", "request", "annotations", "userIdentity", "actor", "account", "type",
                 "message", "session_id", "line_num", "error_severity", "resources", "authorizations", "status_id", "policy_results",
                 "granting_policies", "responseStatus", "code", "stage", "impersonatedUser", "sessionContext", "eventTime", "eventName"]
            ), inner, max_size=8,
        ),
    )
)  # fmt: skip
def test_no_document_breaks_a_reader(format_: str, found) -> None:
    good = {
        "time": "2026-11-26T11:00:00Z", "at": "2026-11-26T11:00:00Z", "timestamp": "2026-11-26 11:00:00 UTC",
        "eventTime": "2026-11-26T11:00:00Z", "requestReceivedTimestamp": "2026-11-26T11:00:00Z",
    }  # fmt: skip
    with contextlib.suppress(Unparsable):
        told(format_, json.dumps(good | found if isinstance(found, dict) else found).encode())


@pytest.mark.parametrize(
    ("stamp", "zone", "expected"),
    [
        ("Nov 26 11:00:00", UTC, "2026-11-26T11:00:00+00:00"),
        ("Nov 26 11:00:00", timezone(timedelta(hours=2)), "2026-11-26T09:00:00+00:00"),
        ("Dec 31 23:59:59", UTC, "2025-12-31T23:59:59+00:00"),
        ("Feb 29 01:00:00", UTC, None),
    ],
)
def test_a_time_without_a_year_is_not_in_the_future(stamp: str, zone, expected: str | None) -> None:
    line = f"{stamp} h sshd[7]: {ACCEPTED}"
    if expected is None:
        with pytest.raises(Unparsable):
            told("sshd", line, Hints(now=NOW, zone=zone))
    else:
        assert told("sshd", line, Hints(now=NOW, zone=zone)).at.isoformat() == expected


def test_a_leap_day_is_last_years() -> None:
    said = told("sshd", f"Feb 29 01:00:00 h sshd[7]: {ACCEPTED}", Hints(now=datetime(2025, 1, 1, tzinfo=UTC)))
    assert said.at.year == 2024


WORLD = World(
    target="pg", format="postgresql-json", catalogue=frozenset({Privilege(privilege="orders_rw"), Privilege(privilege="v", resource="pay")}),
    rules=[Rule(privilege="orders_ro", object="public.orders*", action="SELECT")], accounts={"ann@corp": "ann"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"privileges": ("x", "orders_rw")}, Privilege(privilege="orders_rw")),
        ({"privileges": ("orders_rw",), "resource": "pay"}, Privilege(privilege="orders_rw")),
        ({"privileges": ("v",), "resource": "pay"}, Privilege(privilege="v", resource="pay")),
        ({"privileges": ("v",), "resource": "other"}, None),
        ({"object": "public.orders_2", "action": "select"}, Privilege(privilege="orders_ro")),
        ({"object": "public.orders", "action": "DELETE"}, None),
        ({}, None),
    ],
)
def test_only_what_is_asked_for_by_ticket_is_a_privilege(said: dict, expected) -> None:
    assert use_of(Said(at=NOW, account="ann", **said), b"x", WORLD).what == expected


@pytest.mark.parametrize(
    ("account", "ticket", "named"),
    [
        ("ann@corp", None, "ann"),
        (f"muniment_req_{LOW}", REQ, f"muniment_req_{LOW}"),
        (f"muniment.{REQ}.a%40b", REQ, "a@b"),
        (f"muniment:{REQ}:ann", REQ, "ann"),
        ("muniment_req_short", None, "muniment_req_short"),
        ("x" * 5000, None, "x" * LONGEST_NAME),
    ],
)
def test_names_of_ours_name_their_ticket(account: str, ticket: str | None, named: str) -> None:
    use = use_of(Said(at=NOW, account=account), b"x", WORLD)
    assert (use.ticket, use.account) == (ticket, named)


def test_a_line_is_the_same_wherever_it_is_read_and_another_elsewhere() -> None:
    assert line_id("pg", "sshd", "", b"x") == line_id("pg", "sshd", "", b"x")
    names = {
        line_id("pg", "sshd", "", b"x"),
        line_id("pg2", "sshd", "", b"x"),
        line_id("pg", "sudo", "", b"x"),
        line_id("pg", "sshd", "x", b"x"),
    }
    assert len(names) == 4


def test_nothing_that_acts_on_a_reader_is_kept() -> None:
    use = use_of(Said(at=NOW, account="a\x1b[2J\u202eb\0", shown="\x07x"), b"x", WORLD, "log\n1")
    assert not any(
        ord(c) < 32 or c == "\u202e" for text in (use.account, use.action, use.place) for c in text
    )


def test_what_people_type_is_not_kept() -> None:
    secret = "hunter2"
    for format_, line in (
        ("postgresql-json", pg(f"statement: ALTER ROLE x PASSWORD '{secret}'")),
        ("sudo", f"Nov 26 11:00:00 h sudo: ann : TTY=x ; PWD=/ ; USER=root ; COMMAND=/bin/mysql -p{secret}"),
        ("postgresql-json", pg(f"statement: '{secret}'")),
    ):
        raw = line.encode() if isinstance(line, str) else json.dumps(line).encode()
        assert secret not in str(use_of(FORMATS[format_].read(raw, HINTS), raw, WORLD))


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True), ("*", "x", True), ("a*", "ABC", True), ("*c", "abc", True), ("a*c*e", "abcde", True), ("a*c", "ab", False),
        ("a", "ab", False), ("ab*b", "ab", False), ("*a*", "bab", True),
    ],
)  # fmt: skip
def test_patterns(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_a_mapping() -> None:
    format_ = format_named(
        "generic",
        parse_mapping('[fields]\ntime = "t"\naccount = "u.n"\nprivilege = "p"\n[only]\nok = "true"\n'),
    )
    said = format_.read(b'{"t": 1795690800, "u": {"n": "ann"}, "p": "rw", "ok": true}', HINTS)
    assert isinstance(said, Said)
    assert (said.account, said.privileges, said.at.isoformat()) == (
        "ann",
        ("rw",),
        "2026-11-26T11:00:00+00:00",
    )
    assert isinstance(format_.read(b'{"t": 1795690800, "u": {"n": "ann"}, "ok": false}', HINTS), Other)
    by_pattern = mapped(
        {"kind": "regex", "pattern": r"(?P<t>\S+) (?P<u>\S+)", "fields": {"time": "t", "account": "u"}}
    )
    said = format_named("generic", by_pattern).read(b"2026-11-26T11:00:00Z ann", HINTS)
    assert isinstance(said, Said)
    assert said.account == "ann"


@pytest.mark.parametrize(
    "text",
    [
        "x", '[fields]\ntime = "t"', '[fields]\ntime = "t"\naccount = "a"\nwho = "b"', 'kind = "regex"\n[fields]\ntime = "t"\naccount = "a"',
        'kind = "regex"\npattern = "("\n[fields]\ntime = "t"\naccount = "a"', 'kind = "regex"\npattern = "x"\n[fields]\ntime = "t"\naccount = "a"',
    ],
)  # fmt: skip
def test_mappings_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(Misconfigured, match="mapping"):
        parse_mapping(text)


def test_a_format_must_be_there_and_generic_needs_its_mapping() -> None:
    for name, mapping in (
        ("nothing", None),
        ("generic", None),
        ("sshd", mapped({"fields": {"time": "t", "account": "a"}})),
    ):
        with pytest.raises(Invalid):
            format_named(name, mapping)
