"""Kinds of connectors: who brings them, what they can do, and how a target of a kind is made.

A kind is an entry point of the group ``muniment.connectors`` whose object is a `Kind`, ours as well as anybody's. Its
module is imported when a target of that kind is configured, or somebody asks about the kind, and not before.

A connector runs inside Muniment, with all that Muniment may do: install only packages that you would trust with that.
The connector ``exec`` runs a program of its own instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as i

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.scope import Privilege
from muniment.ports import Capabilities, Connector
from muniment.settings.plaintext import says_secret

GROUP = "muniment.connectors"

_STRUCTS = (i.StructType, i.DataclassType, i.TypedDictType, i.NamedTupleType)
_TEXT = (i.StrType, i.BytesType, i.AnyType, i.LiteralType)


class Secret:
    """Where a secret is, as ``env:NAME`` or ``file:PATH``. Printing it prints that, and never what is there (I31)."""

    def __init__(self, reference: str, read: Callable[[str], str]) -> None:
        """Reads it once, so that what is not there is found at the start. Raises `Misconfigured`."""
        self._read = read
        read(reference)  # before the reference is kept: whoever wrote the secret itself here is not quoted
        self.reference = reference

    def reveal(self) -> str:
        """Read it now, without space at its ends; so one that was replaced is found. Raises `Misconfigured`."""
        return self._read(self.reference).strip()

    def __repr__(self) -> str:
        """The reference."""
        return f"Secret({self.reference!r})"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of connector, as its module declares it."""

    summary: str  # what a grant is, in a few words: "membership of a role"
    #: a frozen Struct with ``forbid_unknown_fields``: what may stand in ``[targets.ID]`` beside what every target has.
    #: A field of type `Secret` is written as a reference, one of type `Path` relative to the configuration
    settings: type[Any]
    #: name of the target, its settings, its catalogue. Reaches nothing. Raises `Invalid` or `Misconfigured`
    build: Callable[[str, Any, Sequence[Privilege]], Connector]
    capabilities: Capabilities  # of a target with ordinary settings
    by_setting: tuple[str, ...] = ()  # names of capabilities that a setting adds
    least_privilege: str = ""  # commands that make an account for us that may do no more than it needs
    emulated: bool = False  # tried against an emulator only, never the real system


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A kind that some package brings. It may still not load."""

    name: str
    package: str
    version: str
    point: Any  # an EntryPoint


def registered() -> dict[str, list[Found]]:
    """Every kind by name, with all who claim it. Nothing is imported."""
    kinds: dict[str, list[Found]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        package, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "")
        found = Found(name=point.name, package=package, version=version, point=point)
        kinds.setdefault(point.name, []).append(found)
    return kinds


def load(name: str) -> Kind:
    """Import a kind.

    Raises:
        Misconfigured: nobody brings it, several do, or it cannot be imported.
    """
    known = registered()
    if name not in known:
        raise Misconfigured(
            f"there is no connector {name!r:.80}",
            remedy=f"Known are {', '.join(known)}; another package may bring more.",
            code="config.connector",
        )
    if len(known[name]) > 1:
        packages = " and ".join(sorted(found.package for found in known[name]))
        raise Misconfigured(
            f"the connector {name} is brought by {packages}",
            remedy="Uninstall one of them: which of the two ran would be chance.",
            code="config.connector",
        )
    [found] = known[name]
    kind = imported(found.point, f"the connector {name} of {found.package}")
    if not isinstance(kind, Kind):
        raise Misconfigured(
            f"the connector {name} of {found.package} is no `Kind`",
            remedy=f"The entry point {found.point.value} must name one.",
            code="config.connector",
        )
    if plain := _secrets_as_text(i.type_info(kind.settings)):
        raise Misconfigured(
            f"the connector {name} of {found.package} takes {plain} as text",
            remedy="Settings are reviewed and recorded: what is secret has the type `Secret`, and is written as a "
            "reference.",
            code="config.connector",
        )
    return kind


def _secrets_as_text(settings: Any) -> str | None:
    """The first setting that by its name is a secret, and by its type is not."""
    for field in settings.fields if isinstance(settings, _STRUCTS) else ():
        types = list(_parts(field.type))
        if says_secret(field.name) and any(isinstance(each, _TEXT) for each in types):
            return str(field.name)
        if inner := next(filter(None, map(_secrets_as_text, types)), None):
            return inner
    return None


def _parts(kind: Any) -> Iterator[Any]:
    """A type, and those that it is made of: of a union each, of a list its items, of a table its values."""
    yield kind
    inner = (getattr(kind, name, None) for name in ("types", "item_type", "item_types", "value_type"))
    for each in inner:
        for part in each if isinstance(each, tuple) else (each,):
            if isinstance(part, i.Type):
                yield from _parts(part)


def imported(point: EntryPoint, what: str) -> Any:
    """The object of an entry point. Whatever importing it raises is said to be the package's trouble."""
    try:
        return point.load()
    except Exception as error:
        extras = ",".join(point.extras)
        package = point.dist.name if point.dist else "its package"
        missing = isinstance(error, ModuleNotFoundError) and extras
        raise Misconfigured(
            f"{what} cannot be loaded: {type(error).__name__}: {error}",
            remedy=f"Install what it needs: pip install '{package}[{extras}]'."
            if missing
            else f"Mend or update {package}.",
            code="config.connector",
        ) from error


def build_connector(
    kind: str,
    *,
    name: str,
    settings: Mapping[str, object],
    secret: Callable[[str], str],
    path: Callable[[str], Path],
    catalogue: Sequence[Privilege],
) -> Connector:
    """Make the connector of the target ``name``. Reaches nothing.

    Raises:
        Misconfigured: no such kind, or settings that it cannot use.
    """
    loaded = load(kind)

    def special(wanted: type, value: object) -> object:
        if not isinstance(value, str):
            raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
        if wanted is Secret:
            return Secret(value, secret)
        if wanted is Path:
            return path(value)
        raise TypeError(f"{wanted.__name__} is no type of a setting")

    try:
        chosen = msgspec.convert(dict(settings), loaded.settings, dec_hook=special)
        return loaded.build(name, chosen, catalogue)
    except Misconfigured as error:
        raise Misconfigured(
            f"target {name}: {error.message}", remedy=error.remedy, code=error.code
        ) from error
    except (msgspec.ValidationError, Invalid) as error:
        fields = ", ".join(loaded.settings.__struct_fields__)
        raise Misconfigured(
            f"target {name}: {error}", remedy=f"A target of the kind {kind} takes {fields}: {loaded.summary}."
        ) from error
