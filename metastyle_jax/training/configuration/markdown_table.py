"""The table of all configuration entries for the documentation."""

from metastyle_jax.training.configuration import schema

_SIGNS = {'least': '≥', 'above': '>', 'below': '<', 'most': '≤'}


def markdown() -> str:
    """Returns a Markdown table with one row for each entry: name, type, default and meaning."""
    rows = ['| entry | type and range | default | meaning |', '|---|---|---|---|']
    for entry in schema.ENTRIES.values():
        rows.append(f'| `{entry.name}` | {_kind(entry)} | `{entry.default!r}` | {entry.meaning} |')
    return '\n'.join(rows) + '\n'


def _kind(entry: schema.ConfigEntry) -> str:
    """Describes the type and the range of an entry."""
    limits = [
        f'{_SIGNS[side]} {bound:g}'
        for side, bound in entry.bounds._asdict().items()
        if bound is not None
    ]
    return ' '.join([schema.type_in_words(entry.kind), ', '.join(limits)]).strip()
