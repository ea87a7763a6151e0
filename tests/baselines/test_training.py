"""Training of the systems with the package's own loop, and use of what it trained."""

import baselines_helpers
import helpers
import jax
import numpy as np
import pytest
import training_helpers

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import system_files
from metastyle_jax.training import train

SMALL = {
    'data__content': 'sample:', 'data__style': 'sample:', 'data__size': 16, 'data__style_size': 16,
    'recipe_options': ('width=4',),
}  # fmt: skip


def run(name, folder, steps, vgg, **changes):
    changes = {**SMALL, **changes, 'steps': steps}
    config = training_helpers.file_config(f'baselines.py:{name}-tiny', **changes)
    assert train.train(config, folder, vgg_file=str(vgg)) == 0
    return system_files.load(name, folder, vgg=vgg)


def test_a_resumed_training_continues_with_the_same_numbers(tmp_path):
    vgg = tmp_path / 'vgg.npz'
    baselines_helpers.write_encoder(vgg, cut='relu4_1', width=4)
    first = run('adain', tmp_path / 'a', 1, vgg)
    resumed = run('adain', tmp_path / 'a', 2, vgg)
    straight = run('adain', tmp_path / 'b', 2, vgg)
    helpers.assert_identical(resumed.params, straight.params)
    assert resumed.options == {'encoder': 'vgg16', 'width': 4}
    moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), first.params, resumed.params)
    assert not any(jax.tree.leaves(moved['encoder']))
    assert any(jax.tree.leaves(moved['decoder']))

    contents = np.random.default_rng(0).uniform(size=(1, 16, 16, 3)).astype(np.float32)
    pictures = systems.stylize(straight.system, straight.params, contents[0], contents)
    assert np.isfinite(pictures).all()


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('avatar-net', {'width': 2}),
        ('style-swap', {'width': 2}),
        ('meta-networks', {'vgg_width': 2, 'width': 2, 'hidden': 2, 'blocks': 1}),
    ],
)
def test_what_was_trained_is_loaded_with_its_options_and_paints(name, options, tmp_path):
    vgg = tmp_path / 'vgg.npz'
    baselines_helpers.write_encoder(vgg)
    words = tuple(f'{option}={value}' for option, value in options.items())
    trained = run(name, tmp_path / 'run', 1, vgg, recipe_options=words)
    assert {option: trained.options[option] for option in options} == options
    contents = np.random.default_rng(0).uniform(size=(1, 16, 16, 3)).astype(np.float32)
    pictures = systems.stylize(trained.system, trained.params, contents[0], contents)
    assert np.isfinite(pictures).all()


@pytest.mark.parametrize('name', system_files.NAMES)
def test_the_settings_of_the_shipped_weights_are_those_of_the_configuration(name):
    config = training_helpers.file_config(f'baselines.py:{name}-cpu')
    trained = system_files.load(name).settings
    assert trained['steps'] == config.steps
    assert trained['recipe'] == config.recipe
    assert trained['data']['hold_out']
    assert config.data.hold_out
    for entry in ('styles', 'contents', 'rate', 'schedule', 'warmup'):
        assert trained['outer'][entry] == getattr(config.outer, entry), entry
