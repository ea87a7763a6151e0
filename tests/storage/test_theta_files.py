"""θ is read from runs, checkpoints and files."""

import logging

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from checkpoint_helpers import make_state, save_steps, truncate
from orbax import checkpoint as ocp

from metastyle_jax.storage import checkpoints, run_folder, style_files, tensor_files, theta_files


@pytest.fixture
def trained_run(tmp_path):
    """A training run of which step 2 is the best and step 3 the latest."""
    run_folder.write_config(tmp_path / 'run', {'inner': {'steps': 3}})
    with checkpoints.Manager(tmp_path / 'run' / 'checkpoints') as manager:
        for step, metric in ((1, 3.0), (2, 1.0), (3, 2.0)):
            manager.save(step, make_state(step), data_state={}, metric=metric)
    return tmp_path / 'run'


@pytest.mark.parametrize(
    ('where', 'step'), [('', 2), ('checkpoints', 2), ('checkpoints/1', 1), ('checkpoints/3', 3)]
)
def test_theta_of_a_run_is_the_best_unless_a_step_is_named(trained_run, caplog, where, step):
    before = sorted(trained_run.rglob('*'))
    with caplog.at_level(logging.INFO, 'metastyle_jax.storage.theta_files'):
        theta = theta_files.load_theta(trained_run / where)
    picked = not where.endswith(str(step))
    assert (f'θ: step {step} of {trained_run} (best of 3)' in caplog.text) == picked
    helpers.assert_identical(theta.params, make_state(step).params)
    assert theta.fingerprint == tensor_files.fingerprint(make_state(step).params)
    assert theta.settings == {'inner': {'steps': 3}}
    assert sorted(trained_run.rglob('*')) == before  # reading leaves a running run alone


def test_theta_of_a_run_without_metrics_is_the_latest(tmp_path):
    save_steps(tmp_path / '2024' / 'checkpoints', 1, 2)
    theta = theta_files.load_theta(tmp_path / '2024')
    helpers.assert_identical(theta.params, make_state(2).params)
    assert theta.settings == {}


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_a_saved_theta_reads_back_as_rounded_to_its_type(tmp_path, dtype):
    params = helpers.make_params()
    theta_files.save_theta(tmp_path / 'a.safetensors', params, settings={'x': [1]}, dtype=dtype)
    theta = theta_files.load_theta(tmp_path / 'a.safetensors')
    expected = jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params)
    helpers.assert_identical(theta.params, expected)
    assert theta.fingerprint == tensor_files.fingerprint(expected)
    assert theta.settings == {'x': [1]}
    assert (theta.fingerprint == tensor_files.fingerprint(params)) == (dtype == 'float32')


def test_theta_is_the_same_from_checkpoint_and_file(trained_run, tmp_path):
    theta = theta_files.load_theta(trained_run)
    theta_files.save_theta(tmp_path / 'a.safetensors', theta.params, settings=theta.settings)
    again = theta_files.load_theta(tmp_path / 'a.safetensors')
    assert (again.fingerprint, again.settings) == (theta.fingerprint, theta.settings)


def test_what_is_no_theta_is_refused_with_a_remedy(tmp_path, trained_run):
    (tmp_path / 'folder' / 'checkpoints').mkdir(parents=True)
    (tmp_path / 'other').mkdir()
    style = style_files.Style(
        params={'x': np.ones(1)},
        adapted='all',
        style_name='x.jpg',
        style_sha256='',
        theta_sha256='',
        settings={},
        losses={},
    )
    style_files.save_style(tmp_path / 'style.safetensors', style)
    safetensors.numpy.save_file({'x': np.ones(1)}, tmp_path / 'plain.safetensors')
    truncate(trained_run / 'checkpoints' / '3')
    for name, message in {
        'none': 'There is no θ at .*none',
        'folder': 'no checkpoint yet in .*folder',
        'folder/checkpoints': 'no checkpoint yet',
        'other': 'other is no training run',
        'run/checkpoints/3': r'3 is damaged .* another step of \[1, 2, 3\]',
        'style.safetensors': 'metastyle_jax.style.*: give it to `metastyle stylize`',
        'plain.safetensors': 'its format is None: check the name',
    }.items():
        with pytest.raises(tensor_files.CheckpointError, match=message):
            theta_files.load_theta(tmp_path / name)


def test_a_checkpoint_without_params_is_no_theta(tmp_path):
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, {'weights': jnp.ones(2)}, data_state={})
    with pytest.raises(tensor_files.CheckpointError, match='holds no params'):
        theta_files.load_theta(tmp_path)


def test_checkpoints_that_cannot_be_opened_are_named(trained_run, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(ocp, 'CheckpointManager', fail)
    with pytest.raises(
        tensor_files.CheckpointError, match=r'run/checkpoints cannot be read .*denied'
    ):
        theta_files.load_theta(trained_run)


def test_theta_must_be_finite(tmp_path):
    for value, dtype in ((np.nan, 'float32'), (1e6, 'float16')):
        with pytest.raises(
            tensor_files.CheckpointError, match='x in .*b.safetensors is not finite'
        ):
            theta_files.save_theta(
                tmp_path / 'b.safetensors', {'x': jnp.array([value])}, settings={}, dtype=dtype
            )
    with pytest.raises(tensor_files.CheckpointError, match="dtype='int8'"):
        theta_files.save_theta(tmp_path / 'b.safetensors', {}, settings={}, dtype='int8')
    save_steps_of_nan = {'params': {'x': jnp.array([np.nan])}}
    with checkpoints.Manager(tmp_path / 'run' / 'checkpoints') as manager:
        manager.save(1, save_steps_of_nan, data_state={})
    with pytest.raises(tensor_files.CheckpointError, match='x in .*1 is not finite'):
        theta_files.load_theta(tmp_path / 'run')


def test_learned_rates_are_kept_with_theta(tmp_path):
    params = {'conv': {'kernel': jnp.ones((2, 2))}, 'norm': {'scale': jnp.ones(2)}}
    rates = {'conv/kernel': np.float32(3e-4), 'norm/scale': np.float32(1e-6)}
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, params, settings={}, rates=rates, dtype='float16')
    found = theta_files.load_theta(path)
    assert found.rates == rates  # float32, where float16 would round them
    assert found.fingerprint == tensor_files.fingerprint(params)
    with checkpoints.Manager(tmp_path / 'run' / 'checkpoints') as manager:
        state = {'params': params, 'log_rates': {name: jnp.log(r) for name, r in rates.items()}}
        manager.save(1, state, data_state={})
    found = theta_files.load_theta(tmp_path / 'run')
    assert found.rates == pytest.approx(rates)
    assert found.fingerprint == tensor_files.fingerprint(params)


@pytest.mark.parametrize('shape', [(), (2,), (3, 1), (3, 2)])
def test_rates_of_tensors_elements_and_steps_are_read_back(tmp_path, shape):
    path = tmp_path / 'theta.safetensors'
    rates = {'x': np.full(shape, 0.1, np.float32)}
    theta_files.save_theta(path, {'x': jnp.ones(2)}, settings={}, rates=rates)
    np.testing.assert_array_equal(theta_files.load_theta(path).rates['x'], rates['x'])


@pytest.mark.parametrize(
    'rates',
    [
        {'other': np.float32(1)},
        {'x': np.float32(0)},
        {'x': np.array([0.1, -0.1], np.float32)},
        {'x': np.ones(3, np.float32)},
        {'x': np.ones((3, 3), np.float32)},
        {'x': np.ones((3, 2, 1), np.float32)},
    ],
)
def test_rates_of_another_tensor_or_shape_or_below_zero_are_refused(tmp_path, rates):
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, {'x': jnp.ones(2)}, settings={}, rates=rates)
    with pytest.raises(tensor_files.CheckpointError, match='learned rate of'):
        theta_files.load_theta(path)


def test_rates_for_different_numbers_of_steps_are_refused(tmp_path):
    path = tmp_path / 'theta.safetensors'
    rates = {'x': np.ones((3, 1), np.float32), 'y': np.ones((2, 1), np.float32)}
    theta_files.save_theta(path, {'x': jnp.ones(2), 'y': jnp.ones(2)}, settings={}, rates=rates)
    with pytest.raises(tensor_files.CheckpointError, match='different numbers of steps'):
        theta_files.load_theta(path)
