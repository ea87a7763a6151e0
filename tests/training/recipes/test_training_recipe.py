"""Recipes: modules that say what is trained."""

import pytest

from metastyle_jax.core import errors
from metastyle_jax.training.configuration import values
from metastyle_jax.training.recipes import training_recipe

ADAIN = {'recipe': 'metastyle_jax.baselines.adain', 'inner': {'steps': 0}}


def test_options_are_python_literals_or_words():
    words = ('width=8', 'rate=1e-3', 'encoder=vgg16', 'flag=True', 'text=a=b')
    assert training_recipe.parse_options(words) == {
        'width': 8, 'rate': 1e-3, 'encoder': 'vgg16', 'flag': True, 'text': 'a=b',
    }  # fmt: skip


def test_without_a_recipe_the_initialization_is_trained():
    assert training_recipe.load(values.complete({})) is None


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ({'recipe': 'metastyle_jax.no_such_module'}, 'no_such_module'),
        ({'recipe': 'metastyle_jax.core.checks'}, 'with a function recipe'),
        ({'recipe': '.adain'}, 'config.recipe='),
        ({'recipe_options': ('depth=3',)}, "no option 'depth'; it has encoder, width"),
        ({'recipe_options': ('width',)}, 'write NAME=VALUE'),
        ({'recipe_options': ('encoder=vgg11',)}, 'encoder='),
        ({'recipe_options': ('width=0',)}, 'width=0'),
        ({'recipe_options': ('width=two',)}, "width='two': it must be like its default, 64"),
        ({'recipe_options': ('style_weight=high',)}, "style_weight='high': it must be a number"),
    ],
)
def test_what_cannot_be_used_is_named(entries, message):
    config = values.complete({**ADAIN, **entries})
    with pytest.raises(errors.UserError) as caught:
        training_recipe.load(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ({'inner': {'steps': 1}}, 'config.inner.steps=1'),
        ({'model': {'predictor': True}}, 'config.model.predictor=True'),
        ({'outer': {'norms_rate': 0.1}}, 'config.outer.norms_rate=0.1'),
        ({'recipe': '', 'recipe_options': ('width=8',)}, 'set config.recipe'),
    ],
)
def test_a_recipe_trains_nothing_else(entries, message):
    with pytest.raises(errors.UserError, match=message):
        values.complete({**ADAIN, **entries})
