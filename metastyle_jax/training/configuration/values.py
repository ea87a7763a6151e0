"""Completes settings of a configuration with the defaults of the schema and checks them."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, Protocol

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.training.configuration import combinations, schema


class NestedSettings(Protocol):
    """An object that converts itself to nested dicts, such as `ml_collections.ConfigDict`."""

    def to_dict(self) -> dict[str, Any]:
        """Returns nested dicts."""


_SECTIONS = {name.rpartition('.')[0] for name in schema.ENTRIES} - {''}
ConfigLike = schema.TrainConfig | NestedSettings | Mapping[str, Any]


def complete(
    settings: ConfigLike, overrides: Mapping[str, Any] | None = None
) -> schema.TrainConfig:
    """Builds a whole configuration: the settings, and the defaults for all other entries.

    Args:
        settings: a `TrainConfig`, a `ConfigDict` or nested dicts, such as
            ``{'inner': {'steps': 2}}``. Entries may be missing.
        overrides: entries by dotted name, such as ``{'inner.steps': 2}``. They replace settings.

    Returns:
        The configuration; each entry has the type that the schema says.

    Raises:
        UserError: an entry is unknown, of a wrong type or out of range, or two entries contradict
            each other.
    """
    if isinstance(settings, schema.TrainConfig):
        settings = dataclasses.asdict(settings)
    elif not isinstance(settings, Mapping):
        settings = settings.to_dict()
    given = _flatten(settings)
    for name, value in (overrides or {}).items():
        if name not in schema.ENTRIES:
            raise unknown(name)
        given[name] = value
    config = _build(schema.TrainConfig, given)
    combinations.check(config)
    return config


def as_dict(config: schema.TrainConfig) -> dict[str, Any]:
    """Returns nested dicts, as a run's ``config.json`` records them."""
    return dataclasses.asdict(config)


def unknown(name: str) -> UserError:
    """Returns the error for a name that is no entry; it suggests the closest entry."""
    known = difflib.get_close_matches(name, [*_SECTIONS, *schema.ENTRIES], n=1)
    suggestion = f'; is {known[0]} meant?' if known else ''
    return UserError(f'the configuration has no entry {name}{suggestion}')


def _flatten(settings: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Returns the entries by dotted name; raises UserError for unknown names."""
    entries: dict[str, Any] = {}
    for key, value in settings.items():
        name = f'{prefix}{key}'
        if hasattr(value, 'to_dict'):
            value = value.to_dict()
        if name in _SECTIONS:
            if not isinstance(value, Mapping):
                raise UserError(f'config.{name}={value!r}: it must be a section, a dict of entries')
            entries |= _flatten(value, f'{name}.')
        elif name in schema.ENTRIES:
            entries[name] = value
        else:
            raise unknown(name)
    return entries


def _build(section: type, given: Mapping[str, Any], prefix: str = '') -> Any:
    """Builds a section of the configuration from entries by dotted name."""
    kinds = typing.get_type_hints(section)
    values = {}
    for field in dataclasses.fields(section):
        name = prefix + field.name
        if name in given:
            values[field.name] = _checked(schema.ENTRIES[name], given[name])
        elif name not in schema.ENTRIES:
            values[field.name] = _build(kinds[field.name], given, f'{name}.')
    return section(**values)


def _checked(entry: schema.ConfigEntry, value: Any) -> Any:
    """Returns the value in the type of its entry; raises UserError if that is not possible."""
    name, kind = f'config.{entry.name}', entry.kind
    bounds = {side: bound for side, bound in entry.bounds._asdict().items() if bound is not None}
    if kind is int:
        checks.whole_number(name, value, **bounds)
        return int(value)
    if kind is float:
        checks.real_number(name, value, **bounds)
        return float(value)
    if entry.choices:
        checks.one_of(name, value, entry.choices)
        return value
    if kind == tuple[str, ...]:
        if not isinstance(value, tuple | list) or not all(isinstance(x, str) for x in value):
            raise UserError(f'{name}={value!r}: it must be a tuple of texts')
        return tuple(value)
    if not isinstance(value, kind):
        raise UserError(f'{name}={value!r}: it must be {schema.type_in_words(kind)}')
    return value
