"""No secret in the configuration, nor in what two people adopt: not in a URL, a connection string, an option (I31)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from muniment import config
from muniment.connectors import kinds
from muniment.connectors.kinds import Secret, load, registered
from muniment.core.errors import Misconfigured
from muniment.service.in_force import settings_of
from muniment.settings.plaintext import require_no_plaintext, require_no_userinfo, says_secret

#: stands in every case, and must stand in no error
HUNTER = "hunter2"

SECRETS: list[dict[str, Any]] = [
    {"url": "ldaps://muniment:hunter2@ldap.example.com"},
    {"url": "ldap://hunter2@ldap.example.com"},
    {"url": "https://muniment:hunter2@bao.example.com:8200"},
    {"url": "HTTPS://hunter2@bao.example.com:8200"},
    {"url": "https://:hunter2@bao.example.com"},
    {"dsn": "postgresql://muniment:hunter2@db.example.com/postgres"},
    {"dsn": "postgres://db.example.com/postgres?password=hunter2"},
    {"dsn": "postgresql+psycopg://m:hunter2@db.example.com/postgres"},
    {"dsn": "host=db.example.com user=muniment password = hunter2"},
    {"dsn": "host=db.example.com sslpassword='hunter2'"},
    {"host": "muniment:hunter2@db.example.com"},
    {"options": {"password": HUNTER}},
    {"options": {"apiKey": HUNTER}},
    {"options": {"API_TOKEN": HUNTER}},
    {"options": {"dsn": "host=db password=hunter2"}},
    {"options": {"endpoint": "https://m:hunter2@doors.example.com/v1"}},
    {"secrets": {"password": HUNTER}},
    {"deep": [{"deeper": {"client_secret": HUNTER}}]},
    {"command": ["/usr/bin/doors", "--password=hunter2"]},
    {"command": ["/usr/bin/doors", "--api-key", HUNTER]},
    {"command": ["/usr/bin/env", "DOORS_PASSWORD=hunter2", "/usr/bin/doors"]},
    {"command": ["/usr/bin/doors", "https://m:hunter2@doors.example.com"]},
    {"force_command": "/usr/bin/restic --password hunter2 --token=hunter2"},
]

NO_SECRETS: list[dict[str, Any]] = [
    {"url": "ldaps://ldap.example.com:636"},
    {"url": "https://bao.example.com:8200/v1?x=a@b"},
    {"dsn": "postgresql://muniment@db.example.com/postgres?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem"},
    {"dsn": "env:PG_PROD_DSN"},
    {"password": "file:keys/ldap"},
    {"secrets": {"password": "file:keys/doors", "token": "env:DOORS"}},
    {"options": {"file": "/var/lib/doors.json", "token_ttl": "1h", "key_file": "/etc/key", "public_key": "ssh-ed25519 A"}},
    {"options": {"key": "/etc/doors.pem", "sort_key": "name", "password": ""}},
    {"command": ["/usr/bin/doors", "--token-file", "/run/token", "--key=/etc/doors.pem", "--password", "--quiet"]},
    {"command": ["/usr/bin/doors", "--password=file:keys/doors", "--secret", "env:DOORS"]},
    {"people": "ou=people,dc=example,dc=org", "bind_dn": "cn=muniment,ou=secret,dc=example,dc=org"},
    {"bind_dn": "muniment@corp.example.com", "account_host": "%"},
    {"key": "keys/ssh", "known_hosts": "keys/known_hosts", "port": 22, "starttls": True, "timeout": "5s"},
]  # fmt: skip


@pytest.mark.parametrize("settings", SECRETS, ids=json.dumps)
def test_a_secret_is_found_and_not_repeated(settings: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as caught:
        require_no_plaintext(settings, "[targets.x]")
    assert caught.value.code == "config.plaintext"
    assert "[targets.x]" in caught.value.message
    assert HUNTER not in f"{caught.value.message} {caught.value.remedy}"


@pytest.mark.parametrize("settings", NO_SECRETS, ids=json.dumps)
def test_what_is_none_is_left_alone(settings: dict[str, Any]) -> None:
    require_no_plaintext(settings, "[targets.x]")


@pytest.mark.parametrize("settings", [*SECRETS, *NO_SECRETS], ids=json.dumps)
def test_a_configuration_with_one_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    """Of any connector: the file is refused before somebody knows which it is."""
    file = tmp_path / "muniment.toml"
    file.write_text(FILE + "".join(f"{name} = {_toml(value)}\n" for name, value in settings.items()))
    if settings in NO_SECRETS:
        assert config.load(file).targets[0].settings == settings
        return
    with pytest.raises(Misconfigured) as caught:
        config.load(file)
    assert caught.value.code == "config.plaintext"
    assert HUNTER not in f"{caught.value.message} {caught.value.remedy}"


@pytest.mark.parametrize(
    "section",
    [
        '[[webhooks]]\nname = "x"\nsecret = "env:X"\nurl = "https://m:hunter2@hooks.example.com"',
        '[[ocsf]]\nname = "x"\nurl = "https://hunter2@logs.example.com"',
        '[tracing]\nendpoint = "http://m:hunter2@127.0.0.1:4318/v1/traces"',
        '[signals]\ntransmitters = [{issuer = "https://idp.example.com", jwks = "https://m:hunter2@idp.example.com/k"}]',
        '[signals]\nkey = "env:X"\nstreams = [{name = "x", audience = "y", push = "https://m:hunter2@idp.example.com"}]',
        '[signin]\nissuer = "https://m:hunter2@idp.example.com"\nclient_id = "m"',
        '[workloads.x]\naudience = "m"\nissuer = "https://x.example.com"\njwks = "https://m:hunter2@x.example.com/k"',
    ],
)
def test_every_url_of_the_configuration_is_looked_at(section: str, tmp_path: Path) -> None:
    file = tmp_path / "muniment.toml"
    file.write_text(f"{FILE}{section}\n")
    with pytest.raises(Misconfigured) as caught:
        config.load(file)
    assert caught.value.code == "config.plaintext"
    assert HUNTER not in f"{caught.value.message} {caught.value.remedy}"


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ('key = "file:k"', 'key = "file:k"\nopenbao_address = "https://m:hunter2@bao.example.com"'),
        ('key = "file:k"', 'key = "file:k"\nwitnesses = ["w+1+x https://m:hunter2@w.example.com"]'),
        (
            'key = "file:k"',
            'key = "file:k"\ntimestamps = {url = "https://m:hunter2@tsa.example.com", roots = "r"}',
        ),
    ],
)
def test_so_is_what_the_ledger_reaches(was: str, becomes: str, tmp_path: Path) -> None:
    file = tmp_path / "muniment.toml"
    assert was in FILE
    file.write_text(FILE.replace(was, becomes))
    with pytest.raises(Misconfigured) as caught:
        config.load(file)
    assert caught.value.code == "config.plaintext"
    assert HUNTER not in f"{caught.value.message} {caught.value.remedy}"


@pytest.mark.parametrize("who", ["muniment", "muniment:hunter2"])
def test_the_stores_url_is_nobodys_to_adopt(who: str, tmp_path: Path) -> None:
    """It is in no ledger. `muniment check` warns of a password in it."""
    file = tmp_path / "muniment.toml"
    url = f"postgresql://{who}@db.example.com/muniment?sslmode=verify-full&sslkey=/etc/ssl/key"
    file.write_text(FILE.replace("sqlite:///m.db", url))
    assert config.load(file).store_url == url


@pytest.mark.parametrize("settings", SECRETS, ids=json.dumps)
def test_no_secret_is_put_before_two_people(settings: dict[str, Any]) -> None:
    """Whatever made the target: what is adopted is in the ledger for ever."""
    target = SimpleNamespace(settings=settings, owners=(), catalogue=())
    with pytest.raises(Misconfigured) as caught:
        settings_of({"x": target}, SimpleNamespace(), ())  # type: ignore[dict-item, arg-type]
    assert caught.value.code == "config.plaintext"
    assert HUNTER not in f"{caught.value.message} {caught.value.remedy}"


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
    )
)
def test_anything_can_be_looked_through(value: Any) -> None:
    """Or is refused with the error of ours."""
    for look in (lambda: require_no_userinfo(value, "x"), lambda: require_no_plaintext({"x": value}, "x")):
        try:
            look()
        except Misconfigured as error:
            assert error.code == "config.plaintext"


@pytest.mark.parametrize("kind", registered())
def test_what_a_connector_takes_as_secret_is_a_reference(kind: str) -> None:
    """Each setting that is called a secret has the type `Secret`, or names a file; so no other can be written there."""
    fields = {field.name: field.type for field in inspect.type_info(load(kind).settings).fields}  # type: ignore[attr-defined]
    for name, found in fields.items():
        parts = list(kinds._parts(found))
        if any(isinstance(part, inspect.CustomType) and part.cls is Secret for part in parts):
            assert says_secret(name) or name in {"dsn", "secret_id"}, "what is secret is called so"
        elif says_secret(name):
            assert not any(isinstance(part, kinds._TEXT) for part in parts)


@pytest.mark.parametrize("kind", registered())
def test_a_plaintext_secret_is_no_setting(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word itself, where a reference belongs: refused, by whatever setting it was meant, and not repeated."""
    (tmp_path / "muniment.toml").write_text(FILE)
    resolve = config.load(tmp_path / "muniment.toml").secret
    monkeypatch.setenv("MUNIMENT_SOME", "x")
    found = load(kind).settings
    for field in inspect.type_info(found).fields:  # type: ignore[attr-defined]
        parts = [part for part in kinds._parts(field.type) if isinstance(part, inspect.CustomType)]
        if not any(part.cls is Secret for part in parts):
            continue
        table = any(isinstance(part, inspect.DictType) for part in kinds._parts(field.type))
        value = {"x": HUNTER} if table else HUNTER
        with pytest.raises(Misconfigured) as caught:
            kinds.build_connector(
                kind, name="x", settings=_least(found) | {field.name: value}, secret=resolve,
                path=Path, catalogue=(),
            )  # fmt: skip
        assert "not a reference" in caught.value.message
        assert HUNTER not in f"{caught.value.message} {caught.value.remedy}"


class Texts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    api_token: str


class Tables(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    passwords: dict[str, str | None]


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    logins: tuple[Texts, ...]


class Sound(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    token: Secret | None = None
    key: Path | None = None
    public_key: str = ""
    token_ttl: str = ""
    secrets: dict[str, Secret] = {}


@pytest.mark.parametrize(
    ("settings", "named"), [(Texts, "api_token"), (Tables, "passwords"), (Inner, "api_token"), (Sound, None)]
)
def test_a_foreign_connector_that_takes_secrets_as_text_is_not_loaded(
    settings: type, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = kinds.Kind(
        summary="x", settings=settings, build=lambda *_: None, capabilities=load("exec").capabilities
    )  # type: ignore[arg-type, return-value]
    point = SimpleNamespace(load=lambda: kind, value="x:KIND", extras=(), dist=None)
    found = kinds.Found(name="x", package="somebodys", version="1", point=point)
    monkeypatch.setattr(kinds, "registered", lambda: {"x": [found]})
    if named is None:
        assert load("x") is kind
        return
    with pytest.raises(Misconfigured) as caught:
        load("x")
    assert caught.value.code == "config.connector"
    assert named in caught.value.message


FILE = """\
[store]
url = "sqlite:///m.db"
[ledger]
origin = "ledger.example.com/x"
key = "file:k"
[identities]
file = "i.toml"
[policy]
dir = "p"
[targets.x]
connector = "any"
environment = "prod"
owners = ["group:o"]
"""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _least(settings: type) -> dict[str, Any]:
    """What must be given, so that the setting in question is what is looked at."""
    given: dict[str, Any] = {}
    for field in inspect.type_info(settings).fields:  # type: ignore[attr-defined]
        if field.required:
            custom = isinstance(field.type, inspect.CustomType) and field.type.cls is Secret
            table = isinstance(field.type, inspect.VarTupleType)
            given[field.name] = "env:MUNIMENT_SOME" if custom else ["/bin/true"] if table else "x"
    return given
