"""Each ticket's certificate is its own: one ticket's end takes its own certificate, and no other's (I17, I21)."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from acceptance.conftest import ANN, CYD, Muniment
from muniment.connectors import krl
from muniment.connectors.openssh_certificates import serial_of
from muniment.connectors.openssh_keys import wire_form


def _active(muniment: Muniment) -> str:
    ticket = muniment.filed()
    assert muniment.json("approve", ticket, who=CYD).document["status"] == "active"
    return ticket


def _revoked(muniment: Muniment, ticket: str) -> bool:
    data = (muniment.folder / "var/bastion.krl").read_bytes()
    authority = wire_form(load_ssh_public_key((muniment.folder / "keys/ssh-ca.pub").read_bytes()))
    return krl.parse(data).revokes(authority, serial_of(ticket))


def test_one_given_back_is_revoked_while_another_for_the_same_principal_lives_on(muniment: Muniment) -> None:
    first, second = _active(muniment), _active(muniment)
    given_back = muniment.json("return", first, who=ANN)
    assert given_back.document["status"] == "closed", given_back.err
    assert (_revoked(muniment, first), _revoked(muniment, second)) == (True, False)
    assert muniment.json("show", second, who=ANN).document["status"] == "active"
    rows = muniment.json("holdings", "bastion", who=CYD).document["items"]
    assert [(row["account"], row["privilege"], row["class"], row["ticket"]) for row in rows] == [
        ("ann", "web-admin", "ticketed", second)
    ]
    assert muniment.json("return", second, who=ANN).document["status"] == "closed"
    assert (_revoked(muniment, first), _revoked(muniment, second)) == (True, True)
