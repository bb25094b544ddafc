"""What the last run of the conformance suite said of each of our connectors, kept for the docs.

    python tools/tested.py [NAME...]

runs ``muniment connector test`` for each kind (or these) and writes ``tools/tested/NAME.json``. Nothing is written of
a run in which a check failed. The records hold no times, so that the same result makes the same file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

FOLDER = Path(__file__).resolve().parent / "tested"


class Ground(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One real target."""

    ground: str
    version: str
    passed: tuple[str, ...]
    not_applicable: dict[str, str]  # check to reason


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of connector."""

    connector: str
    grounds: tuple[Ground, ...]


def record(name: str) -> Record:
    """What is kept of one kind."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        raise SystemExit(
            f"tools/tested.py: the connector {name} was not tested yet: make tested CONNECTORS={name}"
        )
    return msgspec.json.decode(path.read_bytes(), type=Record)


def main(names: list[str]) -> int:
    """Run the suite; return how many kinds failed."""
    from muniment.connectors.kinds import registered  # noqa: PLC0415  the docs read records without it

    failed = 0
    FOLDER.mkdir(exist_ok=True)
    for name in names or registered():
        program = (sys.executable, "-m", "muniment", "connector", "test", name, "--json")
        done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(done.stdout)
            failed += 1
            continue
        document = json.loads(done.stdout)
        grounds = tuple(
            Ground(
                ground=each["ground"],
                version=each["version"],
                passed=tuple(c["check"] for c in each["checks"] if c["verdict"] == "passed"),
                not_applicable={
                    c["check"]: c["message"] for c in each["checks"] if c["verdict"] == "not applicable"
                },
            )
            for each in document["grounds"]
        )
        kept = msgspec.json.encode(Record(connector=name, grounds=grounds))
        (FOLDER / f"{name}.json").write_bytes(msgspec.json.format(kept, indent=1) + b"\n")
        print(f"{name}: {', '.join(f'{g.version}: {len(g.passed)} passed' for g in grounds)}")
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
