"""`pkcs11:` URIs (RFC 7512): what picks one key, and what is refused. A PIN in one is never repeated."""

from __future__ import annotations

import pytest

from muniment.anchors.pkcs11_uri import KeyUri
from muniment.core.errors import Misconfigured

MODULE = "?module-path=/usr/lib/x.so"


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("pkcs11:token=muniment;object=ledger" + MODULE, {"token": "muniment", "object": "ledger"}),
        ("pkcs11:serial=0a%201b;id=%01%ff" + MODULE, {"serial": "0a 1b", "id": b"\x01\xff"}),
        ("pkcs11:object=a%3bb;token=M%C3%BCnster;type=private" + MODULE, {"token": "Münster", "object": "a;b"}),
        ("pkcs11:token=t;object=;id=%00;model=m;manufacturer=x" + MODULE, {"token": "t", "object": "", "id": b"\0", "model": "m", "manufacturer": "x"}),
    ],
)  # fmt: skip
def test_what_a_uri_says(uri, wanted):
    assert KeyUri.parse(uri) == KeyUri(module="/usr/lib/x.so", **wanted)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("pkcs11:token=t;object=o", "no module-path"),
        ("pkcs11:token=t;object=o?module-path=x.so", "not an absolute path"),
        ("pkcs11:token=t;object=o?module-path=/x%00.so", "not an absolute path"),
        ("pkcs11:token=t" + MODULE, "does not name a token and a key"),
        ("pkcs11:object=o" + MODULE, "does not name a token and a key"),
        ("pkcs11:" + MODULE, "does not name a token and a key"),
        ("pkcs11:token=t;object=o;pin-value=9876" + MODULE, "holds a PIN"),
        ("pkcs11:token=t;object=o" + MODULE + "&pin-value=9876", "holds a PIN"),
        ("pkcs11:token=t;object=o" + MODULE + "&pin-source=file:/9876", "holds a PIN"),
        ("pkcs11:token=t;object=o;type=public" + MODULE, "type is not private"),
        ("pkcs11:token=t;object=o;slot-id=9876" + MODULE, "'slot-id' is not known"),
        ("pkcs11:token=t;token=t;object=o" + MODULE, "there twice"),
        ("pkcs11:token=t;object" + MODULE, "not name=value"),
        ("pkcs11:token=t;object=a b" + MODULE, "not name=value"),
        ("pkcs11:token=t;object=%zz" + MODULE, "not name=value"),
        ("pkcs11:token=t;object=%ff" + MODULE, "not UTF-8"),
        ("pkcs11:" + "x" * 3000, "not a pkcs11: URI"),
        ("PKCS11:token=t;object=o" + MODULE, "not a pkcs11: URI"),
    ],
)
def test_what_is_refused(uri, why):
    with pytest.raises(Misconfigured, match=why) as found:
        KeyUri.parse(uri)
    assert found.value.code == "config.ledger-key"
    assert "9876" not in found.value.message
