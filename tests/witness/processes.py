"""Witnesses as other teams run them: the program, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from muniment.demo.postgres import free_port, spawn
from muniment.ledger.keys import cosigner_from_seed, signer_to_pem
from muniment.ledger.note import Verifier
from muniment.witness.record import Record, create

START_LIMIT = 60.0  # seconds


@dataclass
class WitnessProcess:
    """One witness: its files, its port, and at most one process that serves them."""

    folder: Path
    name: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        cosigner = cosigner_from_seed(self.name, os.urandom(32))
        key = self.folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(signer_to_pem(cosigner))
        create(self.folder / "db", [cosigner.verifier])
        self.verifier = cosigner.verifier

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def line(self) -> str:
        """As ``[ledger] witnesses`` names it."""
        return f"{self.verifier.vkey} {self.url}"

    @property
    def record(self) -> Record:
        return Record(self.folder / "db")

    def knows(self, key: Verifier) -> WitnessProcess:
        self.record.add_log(key)
        return self

    def start(self) -> WitnessProcess:
        with (self.folder / "log").open("ab") as log:
            self.process = spawn(
                sys.executable, "-m", "muniment", "witness", "serve", "--db", self.folder / "db",
                "--key", self.folder / "key", "--listen", f"127.0.0.1:{self.port}",
                death=signal.SIGKILL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url, timeout=5):
                    return self
            except OSError:
                time.sleep(0.02)
        pytest.fail(f"the witness did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self, number: int = signal.SIGKILL) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status

    def post(self, body: bytes) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"{self.url}/add-checkpoint", data=body, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@contextmanager
def witness(folder: Path, name: str, *, start: bool = True) -> Iterator[WitnessProcess]:
    made = WitnessProcess(folder, name)
    try:
        yield made.start() if start else made
    finally:
        made.kill()
