"""Makes the table of all configuration entries for the documentation."""

import dataclasses
from typing import Any

from metastyle_jax.core import checks
from metastyle_jax.training.configuration import schema

_SIGNS = {'least': '≥', 'above': '>', 'below': '<', 'most': '≤'}
_TYPES: dict[Any, str] = {
    int: 'whole number',
    float: 'number',
    bool: '`True` or `False`',
    str: 'text',
    tuple[str, ...]: 'list of words',
}


def markdown() -> str:
    """Returns a Markdown table with one row for each entry: name, type, default and meaning."""
    rows = ['| entry | type and range | default | meaning |', '|---|---|---|---|']
    for name, entry in schema.ENTRIES.items():
        kind = _type_and_range(entry.field)
        rows.append(f'| `{name}` | {kind} | `{entry.field.default!r}` | {entry.meaning} |')
    return '\n'.join(rows) + '\n'


def _type_and_range(field: dataclasses.Field) -> str:
    """Describes the allowed values of an entry."""
    kind, optional = checks.setting_type(field)
    words = [f'`{word}`' for word in checks.words_of(kind)]
    described = ', '.join(words) if words else _TYPES[kind]
    bounds = [
        f'{sign} {field.metadata[side]:g}'
        for side, sign in _SIGNS.items()
        if field.metadata[side] is not None
    ]
    return f'{described} {", ".join(bounds)}'.strip() + (' or `None`' if optional else '')
