"""PostgreSQL: ``csvlog`` and ``jsonlog``, with ``log_statement``, ``log_connections`` or pgaudit.

PostgreSQL writes a statement down before it tries it. One that failed is followed by its error, as the next line of the
session: that line takes the statement back. pgaudit's lines name the object, plain statements only themselves.

``application_name`` is the client's own word, as is that a person was at it.

Sources: postgresql.org/docs/current/runtime-config-logging.html (columns, keys), pgaudit's README (AUDIT lines).
"""

from __future__ import annotations

import csv
import re
from datetime import datetime
from typing import NamedTuple

from muniment.core.use import Said
from muniment.usage.reading import Format, Hints, Other, Unparsable, decoded, document, inside, instant, text

#: programs that people sit in front of
_CLIENTS = ("psql", "pgadmin", "dbeaver", "datagrip", "pgcli", "navicat", "heidisql", "tableplus")
_STATEMENT = re.compile(
    r"(?:duration: [0-9.]+ ms  )?(?:statement|execute [^\n:]{1,100}): (.*)", re.ASCII | re.DOTALL
)
_AUDIT = re.compile(r"AUDIT: (?:SESSION|OBJECT),(.*)", re.DOTALL)
_ROLE = re.compile(
    r'\s*SET\s+(?:(?:LOCAL|SESSION)\s+)?ROLE\s+(?:"((?:[^"]|"")+)"|([A-Za-z_][A-Za-z0-9_$]*))',
    re.IGNORECASE | re.ASCII,
)
#: columns of csvlog: 23 since PostgreSQL 9.0, 24 since 13, 26 since 14
_COLUMNS = range(23, 41)
_FAILED = frozenset({"ERROR", "FATAL", "PANIC"})


class _Line(NamedTuple):
    at: datetime
    user: str
    session: str
    number: int
    severity: str
    message: str
    application: str


def _json(raw: bytes, hints: Hints) -> Said | Other:
    found = document(raw)
    number = inside(found, "line_num")
    return _told(
        _Line(
            at=instant(inside(found, "timestamp"), hints), user=text(found, "user"),
            session=text(found, "session_id"), number=number if isinstance(number, int) else 0,
            severity=text(found, "error_severity"), message=text(found, "message"),
            application=text(found, "application_name"),
        )
    )  # fmt: skip


def _csv(raw: bytes, hints: Hints) -> Said | Other:
    try:
        rows = list(csv.reader([decoded(raw)], strict=True))
    except (csv.Error, RecursionError) as error:
        raise Unparsable("it is not CSV") from error
    if len(rows) != 1 or len(rows[0]) not in _COLUMNS:
        raise Unparsable("it has not the columns of csvlog")
    row = rows[0]
    return _told(
        _Line(
            at=instant(row[0], hints), user=row[1], session=row[5], number=int(row[6]) if row[6].isdecimal() and len(row[6]) < 19 else 0,
            severity=row[11], message=row[13], application=row[22],
        )
    )  # fmt: skip


def _told(line: _Line) -> Said | Other:
    if not line.user or not line.session or line.number < 1 or line.severity not in {"LOG", *_FAILED}:
        return Other(line.at)  # of the server itself, or a word beside
    own = f"{line.session}/{line.number}"
    if line.severity in _FAILED:
        return Said(at=line.at, account=line.user, own=f"{line.session}/{line.number - 1}", refused=True)
    client = line.application.casefold()
    person = (
        f"application_name {line.application}, which is the client's word"
        if any(client.startswith(name) for name in _CLIENTS)
        else None
    )
    if line.message.startswith("connection authorized: "):
        return Said(at=line.at, account=line.user, person=person, action="connect", shown="connect", own=own)
    if match := _AUDIT.fullmatch(line.message):
        return _audited(line, match[1], person, own)
    if match := _STATEMENT.fullmatch(line.message):
        return _stated(line, match[1], person, own)
    return Other(line.at)


def _stated(line: _Line, statement: str, person: str | None, own: str) -> Said:
    role = _ROLE.match(statement)
    name = (role[1].replace('""', '"') if role[1] else role[2].lower()) if role else "none"
    if name not in {"none", "default"}:
        return Said(
            at=line.at, account=line.user, privileges=(name,), person=person, action=statement, shown=f"SET ROLE {name}", own=own,
        )  # fmt: skip
    verb = statement.split(None, 1)[0].upper()[:30] if statement.strip() else ""
    return Said(
        at=line.at, account=line.user, person=person, action=statement, shown=verb if verb.isalpha() else "", own=own,
    )  # fmt: skip


def _audited(line: _Line, rest: str, person: str | None, own: str) -> Said:
    """AUDIT_TYPE,STATEMENT_ID,SUBSTATEMENT_ID,CLASS,COMMAND,OBJECT_TYPE,OBJECT_NAME,STATEMENT,PARAMETER."""
    try:
        fields = next(csv.reader([rest], strict=True), [])
    except csv.Error as error:
        raise Unparsable("its AUDIT is not CSV") from error
    if len(fields) < 6:
        raise Unparsable("its AUDIT has not the fields of pgaudit")
    command, name = fields[3][:60], fields[5]
    return Said(
        at=line.at, account=line.user, person=person, action=command, object=name, own=own, shown=f"{command} {name}".strip(),
    )  # fmt: skip


JSON = Format(
    name="postgresql-json", summary="PostgreSQL's jsonlog, from 15 on; pgaudit's lines in it", read=_json
)
CSV = Format(
    name="postgresql-csv", summary="PostgreSQL's csvlog; pgaudit's lines in it", read=_csv, framing="csv"
)
