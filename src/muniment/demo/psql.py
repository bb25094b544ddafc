"""A session in the real ``psql``, kept open: what somebody types, and what PostgreSQL says to it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from muniment.core.errors import Unavailable
from muniment.demo.postgres import spawn

#: seconds for one statement
_LIMIT = 10.0
#: psql prints this after each statement; SQL never does, as it is not a whole line of any answer here
_DONE = "-- done --"


class Psql:
    """One session. The server knows it by its process, which stays the same as long as it is open."""

    def __init__(self, program: Path, dsn: str, *, passfile: Path) -> None:
        """Open it. The password is in ``passfile``, so that no list of processes shows it."""
        environment = {"LC_ALL": "C", "PATH": os.defpath, "PGPASSFILE": str(passfile)}
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command = (program, "--no-psqlrc", "--no-align", "--tuples-only", "--no-password", dsn)
        self._process = spawn(*command, death=signal.SIGKILL, env=environment, cwd=passfile.parent, **options)
        self.backend = self.run("SELECT pg_backend_pid()")[-1]

    def run(self, statement: str) -> list[str]:
        """What psql prints for one statement, line by line. A session that was ended says so, and then nothing."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise AssertionError("unreachable: both are pipes")
        with suppress(BrokenPipeError):  # what it said before it ended can still be read
            process.stdin.write(f"{statement};\n\\echo {_DONE}\n".encode())
            process.stdin.flush()
        said, deadline = b"", time.monotonic() + _LIMIT
        while not said.endswith(f"{_DONE}\n".encode()):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Unavailable(f"psql did not answer within {_LIMIT:.0f} s")
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                break
            said += part
        lines = said.decode(errors="backslashreplace").splitlines()
        return [line.strip() for line in lines if line.strip() not in {"", _DONE}] or [""]

    @property
    def ended(self) -> bool:
        """Whether psql itself has given up, as it does when it lost its session."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LIMIT)
        return self._process.returncode is not None

    def close(self) -> None:
        """End it. Repeatable."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
