"""The public keys of one issuer, and what they signed. When keys are read again, `published` says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from joserfc import jwk, jwt
from joserfc.errors import InvalidKeyIdError, JoseError

from muniment.core.errors import Unauthenticated
from muniment.published import Published, read_keys

#: no shared secrets, and none of the names that mean "not signed"
ALGORITHMS = tuple(f"{family}{size}" for family in ("RS", "PS", "ES") for size in (256, 384, 512))
#: how much clocks may differ
SKEW = timedelta(seconds=60)
LONGEST_TOKEN = 16 * 1024

#: what keys are for, in their own words: signatures, or not said; SPIFFE says it in its own way
_USES = (None, "sig", "jwt-svid")


class Keys:
    """What one issuer signs with. Safe for use by several threads."""

    def __init__(self, read: Callable[[datetime], bytes], issuer: str) -> None:
        """``read`` gets the JWK set at an instant, or raises a `MunimentError`; ``issuer`` names it in messages."""
        self._issuer = issuer
        self._keys = Published(lambda now: read_own(read(now), issuer), issuer)

    def verify(self, token: str, now: datetime) -> jwt.Token:
        """A token by this issuer's key. Nothing but its signature is looked at.

        Raises:
            Unauthenticated: it is no JWT, is signed in a way that is not taken, or not by a key of the issuer.
            Unavailable: the keys cannot be had.
        """
        if len(token) > LONGEST_TOKEN:
            raise _bad("the token is too long", "unauthenticated.token")
        found = self._decoded(token, self._keys.current(now))
        found = found or self._decoded(token, self._keys.current(now, soon=True))  # by a new key, perhaps
        if found is None:
            raise _bad(
                f"the token is not by a key that {self._issuer} publishes", "unauthenticated.token-key"
            )
        return found

    def _decoded(self, token: str, keys: jwk.KeySet) -> jwt.Token | None:
        """None where it names a key that is not among these."""
        try:
            return jwt.decode(token, keys, algorithms=ALGORITHMS)
        except InvalidKeyIdError:
            return None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise _bad(
                f"the token is no token of {self._issuer}: its signature or form is wrong",
                "unauthenticated.token",
            ) from error


def read_own(raw: bytes, issuer: str) -> jwk.KeySet:
    """What an issuer signs tokens with. Raises `Misconfigured`."""
    return read_keys(raw, issuer, kinds=("RSA", "EC"), uses=_USES)


def _bad(message: str, code: str) -> Unauthenticated:
    return Unauthenticated(message, remedy="Get a new one from whoever issues them.", code=code)
