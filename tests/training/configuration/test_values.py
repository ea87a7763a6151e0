"""Settings are completed with the paper's values, and wrong ones are refused by name."""

import dataclasses
import json

import numpy as np
import pytest
from ml_collections import config_dict

from metastyle_jax.core import errors
from metastyle_jax.training.configuration import schema, values


def test_missing_entries_take_the_defaults():
    config = values.complete({'inner': {'steps': 2}})
    assert config == dataclasses.replace(
        schema.TrainConfig(), inner=dataclasses.replace(schema.InnerConfig(), steps=2)
    )


def test_a_config_dict_nested_dicts_and_a_whole_configuration_give_the_same():
    settings = {'inner': {'steps': 2, 'remat': True}, 'data': {'style_exclude': ['a']}}
    config = values.complete(settings)
    assert values.complete(config_dict.ConfigDict(settings)) == config
    inner = config_dict.ConfigDict(settings['inner'])
    assert values.complete({**settings, 'inner': inner}) == config
    assert values.complete(config) == config
    assert config.data.style_exclude == ('a',)


def test_overrides_replace_settings():
    config = values.complete({'inner': {'steps': 2}}, {'inner.steps': 3, 'outer.rate': 1})
    assert config.inner.steps == 3
    assert isinstance(config.outer.rate, float)


def test_numbers_of_numpy_become_numbers_of_python():
    config = values.complete({'steps': np.int32(3), 'inner': {'rate': np.float64(0.5)}})
    assert (type(config.steps), type(config.inner.rate)) == (int, float)


def test_the_record_of_a_configuration_gives_it_back():
    config = values.complete({'data': {'content_exclude': ('a', 'b')}, 'inner': {'remat': False}})
    recorded = json.loads(json.dumps(values.as_dict(config)))
    assert values.complete(recorded) == config


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'steps': '10'}, "config.steps='10': it must be a whole number of at least 1"),
        ({'steps': 10.5}, 'it must be a whole number'),
        ({'steps': True}, 'at least 1'),
        ({'seed': ()}, 'at least 0'),
        ({'model': {'blocks': 10**9}}, 'at most 1000'),
        pytest.param(
            {'outer': {'rate': 10**400}}, 'config.outer.rate=1000', id='larger than every float'
        ),
        ({'outer': {'rate': float('nan')}}, 'config.outer.rate=nan: it must be a number above 0'),
        ({'data': {'content': 5}}, 'config.data.content=5: it must be text'),
        ({'outer': {'schedule': 5}}, 'it must be one of inverse, cosine'),
        ({'outer': {'optimizer': 'lion'}}, "config.outer.optimizer='lion'"),
        ({'inner': {'optimizer': 'lion'}}, "config.inner.optimizer='lion'"),
        ({'inner': {'mode': 'forward'}}, 'it must be one of mixed, reverse'),
        ({'inner': {'order': 'second'}}, 'it must be one of exact, first, reptile'),
        ({'data': {'content_exclude': 'word'}}, 'it must be a list of words'),
        ({'data': {'content_exclude': (1,)}}, 'it must be a list of words'),
        ({'data': {'val_fraction': None}}, 'it must be a number above 0 and below 1'),
        ({'data': {'hold_out': 1}}, 'it must be True or False'),
        ({'inner': {'remat': 'yes'}}, 'it must be True or False, or None'),
        ({'inner': 5}, 'config.inner=5: it must be a section'),
        ({'inner': {'stepps': 2}}, 'no entry inner.stepps; is inner.steps meant?'),
        ({'iner': {'steps': 2}}, 'no entry iner; is inner meant?'),
        ({5: 2}, 'no entry 5'),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(errors.UserError) as raised:
        values.complete(settings)
    assert message in str(raised.value)
