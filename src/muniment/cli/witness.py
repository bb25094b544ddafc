# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""``muniment witness``: cosign somebody else's ledger. Needs no configuration, store or ledger of one's own."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muniment.cli.commands import command, group
from muniment.cli.session import Usage, of
from muniment.core.errors import Misconfigured
from muniment.core.instants import wire

if TYPE_CHECKING:
    from muniment.ledger.cosignature import Cosigner
    from muniment.ledger.note import Verifier
    from muniment.witness.record import Record

app = group(
    "witness", section="Run", summary="Cosign somebody else's ledger, on a machine that they do not run."
)
groups = [app]

_Db = Annotated[
    Path, typer.Option("--db", metavar="FILE", help="What it has seen: never copy, restore or remove it.")
]
_Key = Annotated[Path, typer.Option("--key", metavar="FILE", help="Its Ed25519 key.")]
_MlDsa = Annotated[
    Path | None,
    typer.Option("--ml-dsa-key", metavar="FILE", help="A second key, of ML-DSA-44: it signs as well."),
]
_Vkey = Annotated[
    str, typer.Argument(metavar="VKEY", help="Of the ledger: `muniment ledger checkpoint --json`.")
]


@command(app, "init", example="muniment witness init w1.audit.example.com --db w1.db --key w1.key")
def init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As it will sign, like w1.audit.example.com.")],
    db: _Db,
    key: _Key,
    ml_dsa: _MlDsa = None,
) -> None:
    """Make a witness's keys and its file. Overwrites nothing."""
    from muniment.cli.collecting import store
    from muniment.ledger.errors import LedgerFault
    from muniment.ledger.keys import SEED, cosigner_from_seed, signer_to_pem
    from muniment.witness.record import create

    session = of(context)
    try:
        made = [(key, cosigner_from_seed(name, os.urandom(SEED)))]
        if ml_dsa is not None:
            made.append((ml_dsa, cosigner_from_seed(name, os.urandom(SEED), ml_dsa=True)))
    except LedgerFault as fault:
        raise Misconfigured(
            f"{name!r:.80} cannot be a witness's name: {fault.message}",
            remedy="Write it like a host name and a path, without spaces and plus signs.",
            code=fault.code,
        ) from fault
    for path, cosigner in made:
        store(path.expanduser(), lambda cosigner=cosigner: signer_to_pem(cosigner))  # type: ignore[misc]
    try:
        create(db.expanduser(), [cosigner.verifier for _, cosigner in made])
    except BaseException:
        for path, _ in made:  # keys without a file are of no use, and in the way of the next try
            path.expanduser().unlink(missing_ok=True)
        raise
    vkeys = [cosigner.vkey for _, cosigner in made]
    session.emit(
        {"name": name, "vkeys": vkeys, "db": str(db)},
        lambda: "\n".join(vkeys),
    )


@command(app, "add-log", example="muniment witness add-log ledger.example.com/muniment+1f3d…+AQ… --db w1.db")
def add_log(context: typer.Context, vkey: _Vkey, db: _Db) -> None:
    """Cosign this ledger from now on. Give each of its keys while one replaces another."""
    session = of(context)
    key = _log_key(vkey)
    new = _record(db).add_log(key)
    session.emit(
        {"origin": key.name, "vkey": vkey, "added": new},
        lambda: f"{key.name} is {'known from now on' if new else 'known already'}.",
    )


@command(
    app, "remove-log", example="muniment witness remove-log ledger.example.com/muniment+1f3d…+AQ… --db w1.db"
)
def remove_log(context: typer.Context, vkey: _Vkey, db: _Db) -> None:
    """No longer believe this key. What was seen of the ledger stays on record."""
    session = of(context)
    key = _log_key(vkey)
    known = _record(db).remove_log_key(key)
    session.emit(
        {"origin": key.name, "vkey": vkey, "removed": known},
        lambda: f"{key.name}: this key {'is not believed any more' if known else 'was not known'}.",
    )


@command(app, "show", example="muniment witness show --db w1.db")
def show(context: typer.Context, db: _Db) -> None:
    """The witness's own keys, the ledgers that it knows, and what it has seen of each."""
    session = of(context)
    record = _record(db)
    logs = [_log(record, origin, keys) for origin, keys in record.logs().items()]
    vkeys = [each.vkey for each in record.cosigners()]
    session.emit({"vkeys": vkeys, "logs": logs}, lambda: "\n".join([*vkeys, *map(_said, logs)]))


@command(app, "serve", example="muniment witness serve --db w1.db --key w1.key --listen 0.0.0.0:8643")
def serve(
    context: typer.Context,
    db: _Db,
    key: _Key,
    ml_dsa: _MlDsa = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where; TLS is for a proxy in front of it.")
    ] = "127.0.0.1:8643",
) -> None:
    """Cosign what only grew, until SIGTERM or Ctrl-C (C2SP tlog-witness)."""
    from muniment.cli.serving import log_to_stderr
    from muniment.witness.serving import Witness
    from muniment.witness.serving import serve as run

    session = of(context)
    host, port = _address(listen)
    record = _record(db)
    cosigners = _cosigners(record, [key, *([ml_dsa] if ml_dsa else [])])
    log_to_stderr()
    name = cosigners[0].name
    run(
        Witness(record, cosigners), host, port,
        lambda: session.note(f"The witness {name} listens at http://{host}:{port}. SIGTERM or Ctrl-C ends it."),
    )  # fmt: skip
    session.emit({"stopped": True}, lambda: "Stopped.")


def _record(db: Path) -> Record:
    from muniment.witness.record import Record

    return Record(db.expanduser())


def _cosigners(record: Record, paths: list[Path]) -> list[Cosigner]:
    """The keys of this witness and no others: under another one it would vouch for what it has not seen."""
    from muniment.config import read_secret_file
    from muniment.ledger.errors import LedgerFault
    from muniment.ledger.keys import cosigner_from_pem

    known = record.cosigners()
    found = []
    for path in paths:
        try:
            found.append(cosigner_from_pem(known[0].name, read_secret_file(path.expanduser()).encode()))
        except LedgerFault as fault:
            raise Misconfigured(
                f"{path} is not a witness's key: {fault.message}",
                remedy="Name the file that `witness init` made.",
            ) from fault
    if [each.verifier for each in found] != known:
        raise Misconfigured(
            "these keys are not the ones that the witness's file was made with",
            remedy="`muniment witness show` lists them: name the file of each, with --key and --ml-dsa-key.",
            code="witness.other-key",
        )
    return found


def _log_key(vkey: str) -> Verifier:
    from muniment.ledger.errors import BadKey
    from muniment.ledger.note import Verifier
    from muniment.ledger.signatures import ED25519, ML_DSA_44

    try:
        key = Verifier.from_vkey(vkey)
    except BadKey as fault:
        raise Usage(
            fault.message, remedy="Take it from `muniment ledger checkpoint --json` there.", code=fault.code
        ) from fault
    if key.kind not in {ED25519, ML_DSA_44}:
        raise Usage(
            f"{key.name!r:.80} is the key of a witness, not of a ledger", remedy="Give the ledger's own vkey."
        )
    return key


def _log(record: Record, origin: str, keys: list[Verifier]) -> dict[str, Any]:
    seen = record.seen(origin)
    return {
        "origin": origin, "vkeys": [each.vkey for each in keys],
        "size": seen.size if seen else None,
        "root": f"sha256:{seen.root.hex()}" if seen else None,
        "cosigned_at": wire(datetime.fromtimestamp(seen.time, UTC)) if seen else None,
    }  # fmt: skip


def _said(log: dict[str, Any]) -> str:
    if log["size"] is None:
        return f"{log['origin']}: nothing seen yet"
    return f"{log['origin']}: {log['size']} entries, cosigned at {log['cosigned_at']}"


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Usage(f"{listen!r:.60} is not an address to listen on", remedy="Write it like 127.0.0.1:8643.")
    return host.strip("[]"), int(port)
