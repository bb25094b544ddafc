"""The real program, run as people and scripts run it: a process, its output, its exit status."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ANN, BO, CYD, DEE, OPS, AUD = (
    f"human:{name}@example.com" for name in ("ann", "bo", "cyd", "dee", "ops", "aud")
)
PROGRAM = (sys.executable, "-m", "muniment")
SECONDS = 60


def environment(**extra: str) -> dict[str, str]:
    """This process's own, without what would speak to the program."""
    spoken = ("MUNIMENT_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(spoken)} | extra


@dataclass(frozen=True)
class Answer:
    """How one run ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error on stderr, as --json gives it."""
        assert "Traceback" not in self.err
        (row,) = self.err.splitlines()
        error: dict[str, str] = json.loads(row)["error"]
        assert error.keys() == {"code", "message", "remedy"}
        return error


@dataclass(frozen=True)
class Muniment:
    """A folder made by ``muniment init``, and the program run on it."""

    folder: Path

    here: bool = (
        False  # run inside the test's process: for long tables, where starting a program is most of the time
    )

    @property
    def config(self) -> Path:
        return self.folder / "muniment.toml"

    @property
    def key(self) -> Path:
        """An example beneficiary's SSH key."""
        return self.folder / "id.pub"

    def __call__(self, *words: object, who: str | None = None, **options: Any) -> Answer:
        extra = [] if who is None else ["--as", who]
        start = run_here if self.here else run
        return start("--config", self.config, *extra, *words, **options)

    def json(self, *words: object, who: str | None = None, **options: Any) -> Answer:
        return self(*words, "--json", who=who, **options)

    def request(self, *words: object, who: str = ANN, **options: Any) -> Answer:
        """A sound request; later words win."""
        sound = (
            "request",
            "bastion",
            "web-admin",
            "--for",
            "1h",
            "--reason",
            "to look",
            "--public-key",
            self.key,
        )
        return self.json(*sound, *words, who=who, **options)

    def filed(self, *words: object, who: str = ANN) -> str:
        """The id of a new, pending ticket."""
        answer = self.request(*words, who=who)
        assert answer.status == 0, answer.err
        ticket: str = answer.document["id"]
        return ticket

    def tickets(self) -> list[str]:
        """What the store itself holds, without the program."""
        path = self.folder / "var" / "muniment.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as store:
            if not store.execute("SELECT 1 FROM sqlite_master WHERE name = 'event'").fetchone():
                return []
            found = store.execute("SELECT DISTINCT stream FROM event WHERE substr(stream, 1, 4) = 'req_'")
            return [stream for (stream,) in found]


def run(*words: object, **options: Any) -> Answer:
    """Run the program."""
    options.setdefault("env", environment())
    done = subprocess.run(
        [*PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=SECONDS, check=False,
        stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


def run_here(*words: object, env: dict[str, str] | None = None) -> Answer:
    """Run the program in this process: the same from its entry on."""
    from muniment.main import run as entry  # noqa: PLC0415  the program itself; what it costs is for these tables

    with pytest.MonkeyPatch.context() as patch:
        wanted = environment() if env is None else env
        for name in set(os.environ) - set(wanted):
            patch.delenv(name)
        for name in set(wanted) - set(os.environ):
            patch.setenv(name, wanted[name])
        patch.setattr(sys, "argv", ["muniment", *map(str, words)])
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "oe")
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            entry()
    status = ended.value.code
    assert isinstance(status, int)
    return Answer(status, *(stream.buffer.getvalue().decode() for stream in (out, err)))


@contextmanager
def running(*words: object) -> Iterator[subprocess.Popen[str]]:
    """The program, while it runs; gone afterwards, whatever the test found."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def public_key() -> str:
    """An SSH key whose other half nobody keeps."""
    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " ann@laptop\n"


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory, public_key: str) -> Path:
    """What ``muniment init`` writes; copied, never used."""
    folder = tmp_path_factory.mktemp("fresh") / "access"
    answer = run("init", folder)
    assert answer.status == 0, answer.err
    (folder / "id.pub").write_text(public_key)
    return folder


@pytest.fixture
def muniment(fresh: Path, tmp_path: Path) -> Muniment:
    """A folder of its own for one test."""
    return Muniment(shutil.copytree(fresh, tmp_path / "access"))


@pytest.fixture
def here(muniment: Muniment) -> Muniment:
    """A folder of its own for one test, for the program in this process."""
    return Muniment(muniment.folder, here=True)


@pytest.fixture(scope="module")
def shared(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Muniment:
    """A folder for all tests of a file, which leave nothing in it or do not mind what they find."""
    return Muniment(shutil.copytree(fresh, tmp_path_factory.mktemp("shared") / "access"))
