"""Completes settings of a configuration with the defaults of the schema and checks them."""

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
            raise _unknown_entry(name)
        given[name] = value
    config = _build(schema.TrainConfig, given)
    combinations.check(config)
    return config


def as_dict(config: schema.TrainConfig) -> dict[str, Any]:
    """Returns nested dicts, as a run's ``config.json`` records them."""
    return dataclasses.asdict(config)


def _unknown_entry(name: str) -> UserError:
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
            raise _unknown_entry(name)
    return entries


def _build(section: Any, given: Mapping[str, Any], prefix: str = '') -> Any:
    """Builds a section of the configuration from entries by dotted name."""
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
