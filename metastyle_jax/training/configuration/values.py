"""Completes a configuration with the defaults of the schema, and checks it."""

import dataclasses
import difflib
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
# The forms in which a caller can give a configuration.
ConfigLike = schema.TrainConfig | NestedSettings | Mapping[str, Any]


def complete(
    settings: ConfigLike, overrides: Mapping[str, Any] | None = None
) -> schema.TrainConfig:
    """Builds a complete configuration: the given settings, and defaults for all other entries.

    Args:
        settings: a `TrainConfig`, a `ConfigDict` or nested dicts, such as
            ``{'inner': {'steps': 2}}``. Entries may be missing.
        overrides: dotted name -> value, such as ``{'inner.steps': 2}``. They replace entries of
            `settings`.

    Returns:
        The configuration; each entry has the type of the schema.

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
            raise _unknown_entry(name)
        given[name] = value
    config = _build(schema.TrainConfig, given)
    combinations.check(config)
    return config


def as_dict(config: schema.TrainConfig) -> dict[str, Any]:
    """Converts a configuration to nested dicts, as in the file ``config.json`` of a run."""
    return dataclasses.asdict(config)


def _unknown_entry(name: str) -> UserError:
    """Makes the error for an unknown entry; it suggests the entry with the closest name."""
    known = difflib.get_close_matches(name, [*_SECTIONS, *schema.ENTRIES], n=1)
    suggestion = f'; is {known[0]} meant?' if known else ''
    return UserError(f'the configuration has no entry {name}{suggestion}')


def _flatten(settings: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Returns dotted name -> value of nested dicts; raises UserError for unknown names."""
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
            raise _unknown_entry(name)
    return entries


def _build(section: Any, given: Mapping[str, Any], prefix: str = '') -> Any:
    """Builds a section of the configuration from dotted name -> value."""
    values = {}
    for field in dataclasses.fields(section):
        name = prefix + field.name
        if name in given:
            checks.check_setting(f'config.{name}', field, given[name])
            values[field.name] = _converted(field.type, given[name])
        elif name not in schema.ENTRIES:
            values[field.name] = _build(field.type, given, f'{name}.')
    return section(**values)


def _converted(kind: Any, value: Any) -> Any:
    """Converts a valid value to the type of its entry: numbers of NumPy, whole numbers, lists."""
    if kind in (int, float):
        return kind(value)
    return tuple(value) if isinstance(value, list) else value
