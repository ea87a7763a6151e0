"""The schema of the training configuration."""

import pytest

from metastyle_jax import meta
from metastyle_jax.core import checks
from metastyle_jax.meta import inner_optimizers
from metastyle_jax.training.configuration import markdown_table, schema, values


def test_the_defaults_are_valid():
    assert values.complete({}) == schema.TrainConfig()


def test_the_defaults_are_the_values_of_the_paper():
    config = schema.TrainConfig()
    assert (config.outer.styles, config.outer.contents, config.inner.steps) == (4, 4, 1)
    assert (config.inner.optimizer, config.outer.optimizer) == ('sgd', 'adam')
    assert (config.loss.content_weight, config.loss.style_weight) == (1, 1e5)
    assert (config.data.size, config.outer.decay) == (256, 2.5e-5)


def test_choices_are_those_that_the_library_knows():
    words = {name: {*checks.words_of(entry.field.type)} for name, entry in schema.ENTRIES.items()}
    assert words['inner.order'] == {*meta.ORDERS, 'reptile'}
    assert words['inner.mode'] == {*meta.MODES}
    assert words['inner.optimizer'] == {*inner_optimizers.NAMES}


@pytest.mark.parametrize('entry', schema.ENTRIES.values(), ids=lambda entry: entry.name)
def test_every_entry_says_what_it_means(entry):
    assert entry.meaning.endswith('.')
    assert len(entry.meaning) > 15
    bounds = [entry.field.metadata[side] for side in ('least', 'most', 'above', 'below')]
    if any(bound is not None for bound in bounds):
        assert entry.field.type in (int, float)


def test_the_table_has_a_row_for_every_entry():
    rows = markdown_table.markdown().splitlines()
    assert len(rows) == 2 + len(schema.ENTRIES)
    assert all(row.count(' | ') == 3 for row in rows[2:])
    row = next(row for row in rows if '`inner.steps`' in row)
    assert row.startswith('| `inner.steps` | whole number ≥ 0 | `1` | Number T of inner steps')
