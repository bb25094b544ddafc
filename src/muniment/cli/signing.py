"""Sign an approval with the approver's own SSH key: `ssh-keygen` does it, so a key may be in a file, an agent or a token."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from muniment.core.errors import Invalid, Misconfigured, Refused
from muniment.core.statement import NAMESPACE
from muniment.core.text import visible
from muniment.ledger.sshsig import MAX_ARMOUR

#: as long as somebody may take to find their token and touch it
_PATIENCE = 120


def sign(statement: bytes, key: Path) -> str:
    """The armoured signature. Asks for a passphrase or a touch where the key needs one.

    Raises:
        Misconfigured: there is no `ssh-keygen` here.
        Refused: it did not sign, and why.
    """
    command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key.expanduser())]
    try:
        done = subprocess.run(command, input=statement, capture_output=True, check=False, timeout=_PATIENCE)
    except FileNotFoundError as error:
        raise Misconfigured(
            "there is no ssh-keygen on this machine",
            remedy="Install the OpenSSH client, or use --signature FILE.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Refused(
            f"ssh-keygen did not sign within {_PATIENCE} s",
            remedy="Try again; nothing was recorded.",
            code="refused.unsigned",
        ) from error
    if done.returncode or not done.stdout:
        said = visible(" ".join(done.stderr.decode(errors="replace").split()))[:300]
        raise Refused(
            f"ssh-keygen did not sign with {key}: {said}",
            remedy="Name a private key file, or the .pub file of a key that `ssh-add -l` lists.",
            code="refused.unsigned",
        )
    return done.stdout.decode("ascii", "replace")


def read_signature(path: Path) -> str:
    """A signature that was made elsewhere. Raises `Invalid`."""
    try:
        with path.expanduser().open("rb") as file:
            return file.read(MAX_ARMOUR + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Invalid(
            f"the signature {path} cannot be read: {why}",
            remedy=f"Make it with `ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE`.",
            code="invalid.signature",
        ) from error


def hand_out(statement: bytes) -> None:
    """Exactly these bytes on stdout, without a line end: what is signed is what is printed."""
    sys.stdout.buffer.write(statement)
    sys.stdout.buffer.flush()
