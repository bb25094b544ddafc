"""What a browser returns when a passkey is made, by py_webauthn. Asked for: a key on P-256 that knows who is present."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muniment.core.errors import Misconfigured, Refused
from muniment.ledger.errors import LedgerFault
from muniment.ledger.sshsig import passkey_line

#: ECDSA on P-256 with SHA-256, which every passkey can
ALGORITHM = -7


def registered(answer: Mapping[str, Any], *, challenge: bytes, site: str, origin: str) -> str:
    """The public key of a new passkey, in OpenSSH's one-line form.

    Raises:
        Refused: it was made for another site, by another page, to another challenge, or without knowing who was there.
        Misconfigured: py_webauthn is not installed.
    """
    try:
        from webauthn import verify_registration_response  # noqa: PLC0415  an extra, and only for this
        from webauthn.helpers import decode_credential_public_key  # noqa: PLC0415
        from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415
    except ImportError as error:
        raise Misconfigured(
            "passkeys need py_webauthn, which is not installed",
            remedy="Install muniment[passkeys] where the server runs.",
            code="config.passkeys",
        ) from error
    try:
        made = verify_registration_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=site,
            expected_origin=origin,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier.ECDSA_SHA_256],
        )
        key: Any = decode_credential_public_key(made.credential_public_key)
        return passkey_line(b"\x04" + key.x + key.y, site)
    except (LedgerFault, Exception) as error:
        raise Refused(
            f"this is no passkey that was made here: {type(error).__name__}",
            remedy="Make it again, on the page of this server, and let it check who you are.",
            code="refused.passkey",
        ) from error
